//! Plugins and whether they are ready.
//!
//! A plugin that won't load makes its deliveries wait; it never keeps the host from receiving, and it is tried again.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use penstock_model::effect::Problem;
use penstock_model::id::Digest;
use penstock_sandbox::{Engine, Kind, LoadError, Plugin, SettingsError, Slot};

use crate::config::PluginConfig;

/// A plugin of the configuration and what became of loading it.
pub struct PluginSlot {
    config: PluginConfig,
    state: RwLock<State>,
    put_off: AtomicU32,
    kept: AtomicBool,
}

/// How long a delivery waits for a slot of its plugin, with a lane in hand that others could use.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long a route is put off whose plugin is busy, for each eight that were put off before it.
const PAUSE: Duration = Duration::from_millis(250);
/// And at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

enum State {
    Loading,
    Ready(Loaded),
    Broken(Arc<str>),
}

/// A plugin that is ready.
#[derive(Clone)]
pub struct Loaded {
    /// The plugin.
    pub plugin: Plugin,
    /// Its component's bytes, which are kept as long as its records.
    pub bytes: Arc<[u8]>,
}

/// Why a plugin can't be called now.
#[derive(Clone, Debug, thiserror::Error)]
pub enum NotReady {
    /// It is being compiled.
    #[error("plugin `{0}` is being loaded")]
    Loading(penstock_model::id::PluginName),
    /// It does not load.
    #[error("plugin `{0}` does not load: {1}")]
    Broken(penstock_model::id::PluginName, Arc<str>),
}

impl PluginSlot {
    /// A plugin that is yet to be loaded.
    pub fn new(config: PluginConfig) -> Self {
        Self {
            config,
            state: RwLock::new(State::Loading),
            put_off: AtomicU32::new(0),
            kept: AtomicBool::new(false),
        }
    }

    /// What the operator wrote.
    pub fn config(&self) -> &PluginConfig {
        &self.config
    }

    /// The right to make a call; none: it has enough to do.
    pub async fn turn(&self, loaded: &Loaded) -> Option<Slot> {
        let slot = loaded.plugin.slot_within(PATIENCE).await?;
        self.put_off
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
                count.checked_sub(1)
            })
            .ok();
        Some(slot)
    }

    /// How long to put a route off that got no slot: the longer, the more were put off.
    pub fn pause(&self) -> Duration {
        let before = self.put_off.fetch_add(1, Ordering::Relaxed);
        PAUSE.saturating_mul(1 + before / 8).min(LONGEST_PAUSE)
    }

    /// Its bytes are in the store: a decision can be run again only as long as they are.
    pub fn is_kept(&self) -> bool {
        self.kept.load(Ordering::Acquire)
    }

    /// Its bytes were stored.
    pub fn set_kept(&self) {
        self.kept.store(true, Ordering::Release);
    }

    /// The plugin, if it is ready.
    ///
    /// # Errors
    /// It is being loaded, or does not load.
    pub fn ready(&self) -> Result<Loaded, NotReady> {
        let state = self
            .state
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        match &*state {
            State::Ready(loaded) => Ok(loaded.clone()),
            State::Loading => Err(NotReady::Loading(self.config.name.clone())),
            State::Broken(why) => Err(NotReady::Broken(self.config.name.clone(), Arc::clone(why))),
        }
    }

    /// The plugin, if it may decide: a record whose plugin is nowhere could never be run again, so its bytes are stored before its first call.
    ///
    /// # Errors
    /// It is being loaded, or stored, or does not load.
    pub fn may_decide(&self) -> Result<Loaded, NotReady> {
        let loaded = self.ready()?;
        if self.is_kept() {
            Ok(loaded)
        } else {
            Err(NotReady::Loading(self.config.name.clone()))
        }
    }

    /// Loads it, unless it is ready. What is wrong is kept and said.
    ///
    /// # Errors
    /// It does not load.
    pub async fn load(&self, engine: &Engine) -> Result<()> {
        if self.ready().is_ok() {
            return Ok(());
        }
        let outcome = load(&self.config, engine).await;
        let (state, answer) = match outcome {
            Ok(loaded) => (State::Ready(loaded), Ok(())),
            Err(error) => (State::Broken(format!("{error:#}").into()), Err(error)),
        };
        *self
            .state
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = state;
        answer
    }
}

/// Loads a plugin: the digest first, then the component against its grants, then its settings. The command line and the server do it by this function alone.
///
/// # Errors
/// Says what is wrong and what to do.
pub async fn load(config: &PluginConfig, engine: &Engine) -> Result<Loaded> {
    let file = config.file.clone();
    let engine = engine.clone();
    let (name, limits, grants) = (
        config.name.clone(),
        config.limits.clone(),
        config.grants.clone(),
    );
    let pinned = config.digest;
    let most = config.limits.component;
    // Reading and compiling block.
    let loaded = tokio::task::spawn_blocking(move || {
        let bytes: Arc<[u8]> = read(&file, most)?.into();
        let found = Digest::of(&bytes);
        ensure!(
            found == pinned,
            "{} has the digest {found}, and {pinned} is pinned: if the change is meant, pin the new one",
            file.display()
        );
        let plugin = engine.load(name, &bytes, limits, grants)?;
        anyhow::Ok(Loaded { plugin, bytes })
    })
    .await
    .context("loading was interrupted")??;
    ensure!(
        loaded.plugin.kind() == Kind::Trigger,
        "it is no trigger plugin: approvals and rotations are not built yet in this release"
    );
    let problems = match loaded.plugin.validate(&config.settings).await {
        Ok(problems) => problems,
        Err(SettingsError::Failure(failure)) => {
            anyhow::bail!("its settings could not be checked: {failure}")
        }
        Err(SettingsError::Host(fault)) => {
            anyhow::bail!("its settings could not be checked: {fault}")
        }
    };
    ensure!(
        problems.is_empty(),
        "its settings can't be used: {}",
        list(&problems)
    );
    Ok(loaded)
}

/// A component's bytes; of one that is too large none is read.
fn read(file: &Path, most: u64) -> Result<Vec<u8>> {
    let unread = || format!("can't read {}", file.display());
    let open = File::open(file).with_context(unread)?;
    let size = open.metadata().with_context(unread)?.len();
    ensure!(size <= most, LoadError::TooLarge { size, limit: most });
    let mut bytes = Vec::new();
    // It may grow meanwhile.
    open.take(most.saturating_add(1))
        .read_to_end(&mut bytes)
        .with_context(unread)?;
    Ok(bytes)
}

/// Problems in one line.
pub fn list(problems: &[Problem]) -> String {
    let one = |problem: &Problem| {
        let mut place = problem.path.clone();
        for part in [problem.line, problem.column].into_iter().flatten() {
            place.push_str(&format!(":{part}"));
        }
        if place.is_empty() {
            problem.message.clone()
        } else {
            format!("{place}: {}", problem.message)
        }
    };
    problems.iter().map(one).collect::<Vec<_>>().join("; ")
}
