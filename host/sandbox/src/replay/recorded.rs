//! A component whose recorded calls are made again, each under its own record's limits.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use penstock_model::grant::Grants;
use penstock_model::id::Digest;
use penstock_model::limits::Limits;
use penstock_model::record::DecisionRecord;

use super::{ReplayError, Verdict, replay};
use crate::engine::Engine;
use crate::inspect::{self, LoadError};
use crate::plugin::Plugin;

/// A call that did not run out of time may take so many times as long when it is made again: the machine may be a slower one.
const PATIENCE: u32 = 20;
/// Time that such a call has at least.
const LEAST: Duration = Duration::from_secs(10);
/// Sets of limits of one component that are kept ready.
const KEPT: usize = 16;

/// A component and its calls of before. Whether it would be granted anything today does not matter: what it asks is answered from the record alone.
#[derive(Debug)]
pub struct Recorded {
    engine: Engine,
    digest: Digest,
    wasm: Arc<[u8]>,
    ready: Mutex<Vec<Plugin>>,
}

impl Engine {
    /// A component whose calls are to be made again.
    pub fn recorded(&self, wasm: Arc<[u8]>) -> Recorded {
        Recorded {
            engine: self.clone(),
            digest: Digest::of(&wasm),
            wasm,
            ready: Mutex::default(),
        }
    }
}

impl Recorded {
    /// Digest of its bytes.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Makes a recorded call again under the limits of its record. Only a call that ran out of time gets no more of it than it had.
    ///
    /// # Errors
    /// [`ReplayError`].
    pub async fn replay(&self, record: &DecisionRecord) -> Result<Verdict, ReplayError> {
        let plugin = self.plugin(limits(record)).await?;
        replay(&plugin, record).await
    }

    async fn plugin(&self, limits: Limits) -> Result<Plugin, ReplayError> {
        let ready = |plugins: &[Plugin]| {
            plugins
                .iter()
                .find(|plugin| *plugin.limits() == limits)
                .cloned()
        };
        if let Some(plugin) = ready(&self.lock()) {
            return Ok(plugin);
        }
        let (engine, wasm, digest) = (self.engine.clone(), Arc::clone(&self.wasm), self.digest);
        let under = limits.clone();
        // Compiling blocks.
        let loaded = tokio::task::spawn_blocking(move || load(engine, digest, &wasm, under))
            .await
            .map_err(|_| {
                ReplayError::Host(penstock_model::lookup::HostFault {
                    what: "loading was interrupted".to_owned(),
                    retry_after: None,
                })
            })?
            .map_err(|error| ReplayError::Load(Box::new(error)))?;
        let mut plugins = self.lock();
        if let Some(plugin) = ready(&plugins) {
            return Ok(plugin);
        }
        plugins.truncate(KEPT - 1);
        plugins.insert(0, loaded.clone());
        Ok(loaded)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Plugin>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn load(engine: Engine, digest: Digest, wasm: &[u8], limits: Limits) -> Result<Plugin, LoadError> {
    inspect::header(wasm, &limits)?;
    let compiled = engine.0.compiled(digest, wasm, &limits)?;
    let grants = Grants::default();
    Ok(Plugin::new(
        engine,
        "replay".into(),
        digest,
        limits,
        grants,
        compiled,
    ))
}

fn limits(record: &DecisionRecord) -> Limits {
    let then = record.limits.clone();
    let (cpu, deadline) = if record.cut {
        (then.cpu, then.deadline)
    } else {
        let longer = |time: Duration| time.saturating_mul(PATIENCE).max(LEAST);
        (longer(then.cpu), longer(then.deadline))
    };
    Limits {
        cpu,
        deadline,
        // As many at once as the engine lets one plugin have.
        concurrency: u32::MAX,
        ..then
    }
}
