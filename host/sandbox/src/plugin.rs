//! A loaded plugin and its calls.
//!
//! A call waits for one of the plugin's own slots, then for one of all plugins', and then runs on the guests' threads. Its clock starts when it has both.
//! Whoever holds something that others need meanwhile takes a [`Slot`] first, and says how long it would wait for one.

mod decide;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use penstock_model::effect::Problem;
use penstock_model::event::Event;
use penstock_model::grant::{Grant, Grants};
use penstock_model::id::{Digest, PluginName, Timestamp};
use penstock_model::limits::Limits;
use penstock_model::lookup::HostFault;
use penstock_model::record::{DecisionRecord, Failure};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::ask::Allowed;
use crate::call::{self, Question, Told};
use crate::compiled::Compiled;
use crate::engine::Engine;
use crate::inspect::Kind;
use crate::slot::Slot;
use crate::turn::Turns;
use crate::weigh::Weigh;
use crate::world::World;

/// What a trigger plugin is asked, and all that its answer may depend on besides what it looks up.
#[derive(Clone, Debug)]
pub struct CallInput {
    /// The event.
    pub event: Event,
    /// The settings as JSON.
    pub settings: String,
    /// Seed of every random number that the guest draws.
    pub seed: [u8; 32],
    /// The time that the guest sees.
    pub time: Timestamp,
    /// What it may look up: the grant at the event's trust.
    pub grant: Arc<Grant>,
}

/// Why the settings were not checked.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The plugin failed.
    #[error("the plugin failed while its settings were checked: {0}")]
    Failure(Failure),
    /// The host failed.
    #[error("the host failed while the settings were checked: {0}")]
    Host(HostFault),
}

/// A plugin, loaded. Cheap to clone.
#[derive(Clone)]
pub struct Plugin(Arc<Loaded>);

struct Loaded {
    engine: Engine,
    name: PluginName,
    digest: Digest,
    limits: Arc<Limits>,
    grants: Grants,
    compiled: Arc<Compiled>,
    slots: Arc<Semaphore>,
    turns: Turns,
    /// The right to wait for a slot in [`Plugin::slot_within`].
    waiting: Semaphore,
}

/// So many wait for a slot of one plugin beside the calls that run: more would only hold up whoever asks.
const WAITING: usize = 32;

impl std::fmt::Debug for Plugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plugin")
            .field("name", &self.0.name)
            .field("digest", &self.0.digest)
            .finish_non_exhaustive()
    }
}

impl Plugin {
    pub(crate) fn new(
        engine: Engine,
        name: PluginName,
        digest: Digest,
        limits: Limits,
        grants: Grants,
        compiled: Arc<Compiled>,
    ) -> Self {
        let slots = Arc::new(Semaphore::new(engine.share(&limits)));
        let turns = Turns::new(engine.threads().metrics().num_workers());
        Self(Arc::new(Loaded {
            engine,
            name,
            digest,
            limits: Arc::new(limits),
            grants,
            compiled,
            slots,
            turns,
            waiting: Semaphore::new(WAITING),
        }))
    }

    /// Its name in the configuration.
    pub fn name(&self) -> &PluginName {
        &self.0.name
    }

    /// Digest of the component's bytes.
    pub fn digest(&self) -> Digest {
        self.0.digest
    }

    /// What it is for.
    pub fn kind(&self) -> Kind {
        self.0.compiled.kind
    }

    /// What each of its calls may use.
    pub fn limits(&self) -> &Limits {
        &self.0.limits
    }

    /// What it was granted.
    pub fn grants(&self) -> &Grants {
        &self.0.grants
    }

    /// Full names of its imports, such as `penstock:plugin/delivery@0.1.0`.
    pub fn imports(&self) -> &[String] {
        &self.0.compiled.imports
    }

    /// Its memories come from a pool.
    pub fn is_pooled(&self) -> bool {
        self.0.compiled.pooled
    }

    /// Asks a trigger plugin what an event means. Dropping the future ends the call.
    ///
    /// # Errors
    /// [`HostFault`] when the host could not answer a lookup, or itself failed: the call is to be made again. Whatever the plugin does is an
    /// [`penstock_model::record::Outcome`] of the record.
    pub async fn decide(
        &self,
        input: CallInput,
        world: Arc<dyn World>,
    ) -> Result<DecisionRecord, HostFault> {
        self.decide_in(self.wait().await?, input, world).await
    }

    /// A slot for one call, if one is free now: it never waits. None: the plugin has as many calls as it may, or all plugins together have.
    pub fn slot(&self) -> Option<Slot> {
        Slot::free(&self.0.slots, &self.0.engine.0.slots)
    }

    /// A slot for one call, waited for no longer than `patience`. None: it took longer, or so many wait for this plugin already that it would.
    pub async fn slot_within(&self, patience: Duration) -> Option<Slot> {
        if let Some(slot) = self.slot() {
            return Some(slot);
        }
        let _waiting = self.0.waiting.try_acquire().ok()?;
        tokio::time::timeout(patience, self.wait()).await.ok()?.ok()
    }

    /// [`Plugin::decide`] without waiting: in a slot that [`Plugin::slot`] of this plugin gave. The slot is given back when the call has ended, or this
    /// future is dropped.
    ///
    /// # Errors
    /// As `decide`; and a slot of another plugin, or of this one before it was loaded again, is a [`HostFault`].
    pub async fn decide_in(
        &self,
        slot: Slot,
        input: CallInput,
        world: Arc<dyn World>,
    ) -> Result<DecisionRecord, HostFault> {
        let allowed = Allowed::Granted(Arc::clone(&input.grant));
        self.decide_with(slot, input, allowed, world).await
    }

    /// Waits for a slot.
    pub(crate) async fn wait(&self) -> Result<Slot, HostFault> {
        Slot::when_free(&self.0.slots, &self.0.engine.0.slots).await
    }

    pub(crate) async fn decide_with(
        &self,
        slot: Slot,
        input: CallInput,
        allowed: Allowed,
        world: Arc<dyn World>,
    ) -> Result<DecisionRecord, HostFault> {
        if self.0.compiled.exports.decide.is_none() {
            return Err(fault(format!(
                "plugin `{}` is of kind {} and can't decide events",
                self.0.name,
                self.kind().as_str()
            )));
        }
        let plugin = Arc::clone(&self.0);
        self.run(slot, move |outside| async move {
            plugin.decide(input, allowed, world, outside).await
        })
        .await?
    }

    /// JSON Schema of the settings, as the plugin gives it.
    ///
    /// # Errors
    /// [`SettingsError`].
    pub async fn schema(&self) -> Result<String, SettingsError> {
        let plugin = Arc::clone(&self.0);
        let slot = self.wait().await.map_err(SettingsError::Host)?;
        let told = self
            .run(slot, move |outside| async move {
                plugin.about_settings(Question::Schema, outside).await
            })
            .await
            .map_err(SettingsError::Host)??;
        match told {
            Told::Schema(schema) if schema.weigh() > self.0.limits.output => {
                Err(SettingsError::Failure(Failure::OutputExceeded {
                    limit: self.0.limits.output,
                }))
            }
            Told::Schema(schema) => Ok(schema),
            Told::Decided(_) | Told::Problems(_) => Err(SettingsError::Host(unasked())),
        }
    }

    /// Every problem of these settings at once; none: they can be used. Only `log` may be called by the plugin.
    ///
    /// # Errors
    /// [`SettingsError`].
    pub async fn validate(&self, settings: &str) -> Result<Vec<Problem>, SettingsError> {
        let plugin = Arc::clone(&self.0);
        let settings = settings.to_owned();
        let slot = self.wait().await.map_err(SettingsError::Host)?;
        let told = self
            .run(slot, move |outside| async move {
                plugin
                    .about_settings(Question::Validate(&settings), outside)
                    .await
            })
            .await
            .map_err(SettingsError::Host)??;
        match told {
            Told::Problems(problems) => {
                call::judge_problems(problems, &self.0.limits).map_err(SettingsError::Failure)
            }
            Told::Decided(_) | Told::Schema(_) => Err(SettingsError::Host(unasked())),
        }
    }

    /// Runs on a guest's thread: on this one, if it is one.
    async fn run<T, F>(&self, slot: Slot, job: impl FnOnce(Handle) -> F) -> Result<T, HostFault>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let outside =
            Handle::try_current().map_err(|_| fault("a plugin is called outside of a runtime"))?;
        if !slot.is_of(&self.0.slots) {
            return Err(fault(format!(
                "a slot of another plugin was given for a call of `{}`",
                self.0.name
            )));
        }
        let threads = &self.0.engine.0.threads;
        let here = outside.id() == threads.id();
        let job = job(outside);
        // The slot is given back when the store is gone, whoever waits for the answer.
        let job = async move {
            let answer = job.await;
            drop(slot);
            answer
        };
        if here {
            return Ok(job.await);
        }
        Task(threads.spawn(job)).await.map_err(|error| {
            fault(if error.is_panic() {
                "the host panicked in a plugin call"
            } else {
                "the plugins' threads are stopped"
            })
        })
    }
}

/// A task that ends with whoever waits for it.
struct Task<T>(JoinHandle<T>);

impl<T> Future for Task<T> {
    type Output = Result<T, tokio::task::JoinError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context)
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn fault(what: impl Into<String>) -> HostFault {
    HostFault {
        what: what.into(),
        retry_after: None,
    }
}

fn unasked() -> HostFault {
    fault("a plugin answered what it was not asked")
}
