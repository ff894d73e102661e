//! The engines that guests run in, their threads, and loading.
//!
//! Guests have a runtime of their own with low priority: nothing that receives, stores or acts shares a thread with them. A plugin whose component does not fit
//! the pool runs in a second engine that allocates on demand.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use penstock_model::grant::Grants;
use penstock_model::id::{Digest, PluginName};
use penstock_model::limits::Limits;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::Semaphore;

use crate::cache::{Cache, CacheError, CacheSettings};
use crate::compile::{CompileError, Compiler};
use crate::compiled::{Compiled, Side, setup};
use crate::config;
use crate::inspect::{self, LoadError};
use crate::plugin::Plugin;

/// How memories are allocated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Allocation {
    /// From a pool if there is the address space for it, else on demand.
    #[default]
    Auto,
    /// For each call: slower, and small.
    OnDemand,
}

/// Settings of an [`Engine`].
#[derive(Clone, Debug)]
pub struct EngineSettings {
    /// Threads that guests run on; 0: one less than there are cores, and at least one.
    pub threads: usize,
    /// Calls at the same time, of all plugins. No plugin gets more than half.
    pub slots: u32,
    /// Bytes of each linear memory in the pool. A plugin whose limit is higher runs on demand.
    pub memory: u64,
    /// How often guests that compute are asked to let others go first.
    pub tick: Duration,
    /// How memories are allocated.
    pub allocation: Allocation,
    /// Where compiled code is kept; none: it is compiled at every start.
    pub cache: Option<CacheSettings>,
    /// Where components are compiled.
    pub compiler: Compiler,
}

impl Default for EngineSettings {
    fn default() -> Self {
        Self {
            threads: 0,
            slots: 16,
            memory: 128 << 20,
            tick: Duration::from_millis(5),
            allocation: Allocation::Auto,
            cache: None,
            compiler: Compiler::InProcess,
        }
    }
}

/// Why there is no engine.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Wasmtime can't be set up.
    #[error("the WebAssembly engine can't be set up: {message}")]
    Setup {
        /// What wasmtime says.
        message: String,
    },
    /// No threads.
    #[error("the threads of the plugins can't be started")]
    Threads(#[source] std::io::Error),
    /// No cache.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// A setting makes no sense.
    #[error("`{setting}` of the plugin engine must be more than zero")]
    Zero {
        /// Its name.
        setting: &'static str,
    },
}

/// Loads plugins and runs them. Cheap to clone.
#[derive(Clone)]
pub struct Engine(pub(crate) Arc<Inner>);

/// What the clones of an engine and its plugins share.
pub(crate) struct Inner {
    settings: EngineSettings,
    first: Side,
    /// For what does not fit the pool; made when it is first needed.
    second: Mutex<Option<Side>>,
    cache: Option<Cache>,
    /// None only while the engine is dropped.
    runtime: Option<Runtime>,
    pub(crate) threads: Handle,
    pub(crate) slots: Arc<Semaphore>,
    /// By digest, and by the engine: a plugin with much memory runs elsewhere than one with little.
    compiled: Mutex<HashMap<(Digest, bool), Weak<Compiled>>>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("settings", &self.0.settings)
            .field("pooled", &self.0.first.pooled)
            .finish_non_exhaustive()
    }
}

impl Engine {
    /// Sets up engines and threads.
    ///
    /// # Errors
    /// [`EngineError`].
    pub fn new(settings: EngineSettings) -> Result<Self, EngineError> {
        for (setting, zero) in [
            ("slots", settings.slots == 0),
            ("memory", settings.memory == 0),
            ("tick", settings.tick.is_zero()),
        ] {
            if zero {
                return Err(EngineError::Zero { setting });
            }
        }
        let may_pool = settings.allocation == Allocation::Auto;
        let found = config::probe(settings.slots, settings.memory, may_pool)
            .map_err(|error| setup(&error))?;
        let first = Side::new(found, settings.tick)?;
        let runtime = runtime(settings.threads)?;
        let slots = usize::try_from(settings.slots).unwrap_or(Semaphore::MAX_PERMITS);
        Ok(Self(Arc::new(Inner {
            first,
            second: Mutex::new(None),
            cache: settings.cache.clone().map(Cache::open).transpose()?,
            threads: runtime.handle().clone(),
            runtime: Some(runtime),
            slots: Arc::new(Semaphore::new(slots)),
            compiled: Mutex::default(),
            settings,
        })))
    }

    /// Loads a component: checks it against its limits and grants, and compiles it if that was not done before.
    ///
    /// Blocks: compiling takes from milliseconds to seconds.
    ///
    /// # Errors
    /// [`LoadError`]: what is wrong with the component and what to do.
    pub fn load(
        &self,
        name: PluginName,
        wasm: &[u8],
        limits: Limits,
        grants: Grants,
    ) -> Result<Plugin, LoadError> {
        inspect::header(wasm, &limits)?;
        let digest = Digest::of(wasm);
        let compiled = self.0.compiled(digest, wasm, &limits)?;
        inspect::granted(&compiled.imports, compiled.kind, &grants)?;
        if compiled.memory > limits.memory {
            return Err(LoadError::Memory {
                needs: compiled.memory,
                limit: limits.memory,
            });
        }
        Ok(Plugin::new(
            self.clone(),
            name,
            digest,
            limits,
            grants,
            compiled,
        ))
    }

    /// Memories come from a pool.
    pub fn is_pooling(&self) -> bool {
        self.0.first.pooled
    }

    /// The runtime of the guests: a caller that is on it already saves two changes of thread.
    pub fn threads(&self) -> &Handle {
        &self.0.threads
    }

    pub(crate) fn tick(&self) -> Duration {
        self.0.settings.tick
    }

    /// Calls of one plugin at the same time: what its limits say, and never more than half of all.
    pub(crate) fn share(&self, limits: &Limits) -> usize {
        let most = (self.0.settings.slots / 2).max(1);
        usize::try_from(limits.concurrency.clamp(1, most)).unwrap_or(1)
    }
}

impl Inner {
    pub(crate) fn compiled(
        &self,
        digest: Digest,
        wasm: &[u8],
        limits: &Limits,
    ) -> Result<Arc<Compiled>, LoadError> {
        let small = limits.memory <= self.settings.memory;
        let key = (digest, small);
        let known = lock(&self.compiled).get(&key).and_then(Weak::upgrade);
        if let Some(compiled) = known {
            return Ok(compiled);
        }
        inspect::size(wasm)?;
        let compiled = if self.first.pooled && small {
            match self.make(&self.first, digest, wasm) {
                Ok(compiled) => compiled,
                // What is wrong with it, or that it is just too large for the pool: the second engine knows.
                Err(
                    LoadError::Compile(CompileError::Invalid { .. }) | LoadError::Contract { .. },
                ) => self.make(&self.second()?, digest, wasm)?,
                Err(error) => return Err(error),
            }
        } else if self.first.pooled {
            self.make(&self.second()?, digest, wasm)?
        } else {
            self.make(&self.first, digest, wasm)?
        };
        let compiled = Arc::new(compiled);
        let mut all = lock(&self.compiled);
        all.retain(|_, compiled| compiled.strong_count() > 0);
        all.insert(key, Arc::downgrade(&compiled));
        Ok(compiled)
    }

    fn make(&self, side: &Side, digest: Digest, wasm: &[u8]) -> Result<Compiled, LoadError> {
        let kept = self
            .cache
            .as_ref()
            .and_then(|cache| cache.read(digest, side.compatibility));
        if let Some(code) = kept {
            match side.revive(&code) {
                Ok(component) => return Compiled::new(side, &component),
                Err(error) => {
                    tracing::warn!(%error, "compiled code can't be used: compiling again");
                }
            }
        }
        let code = self
            .settings
            .compiler
            .compile(&side.engine, side.reservation, wasm)?;
        let component = side.revive(&code)?;
        let compiled = Compiled::new(side, &component)?;
        if let Some(cache) = &self.cache {
            cache.write(digest, side.compatibility, &code);
        }
        Ok(compiled)
    }

    fn second(&self) -> Result<Side, LoadError> {
        let mut second = lock(&self.second);
        if let Some(side) = second.as_ref() {
            return Ok(side.clone());
        }
        let side = config::probe(self.settings.slots, self.settings.memory, false)
            .map_err(|error| setup(&error))
            .and_then(|found| Side::new(found, self.settings.tick))
            .map_err(|error| LoadError::Contract {
                message: error.to_string(),
            })?;
        Ok(second.insert(side).clone())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // The last plugin may be dropped on any thread, and a runtime must not be waited for on one of another runtime.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn runtime(threads: usize) -> Result<Runtime, EngineError> {
    let threads = match threads {
        0 => std::thread::available_parallelism().map_or(1, |cores| (cores.get() - 1).max(1)),
        threads => threads,
    };
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_name("plugin")
        .enable_time()
        .on_thread_start(|| {
            if let Err(error) = rustix::process::nice(5) {
                tracing::warn!(%error, "plugins run with the priority of the host");
            }
        })
        .build()
        .map_err(EngineError::Threads)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // What is behind these locks is whole between any two statements.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
