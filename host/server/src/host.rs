//! What the loops share: the store, the engine, the metrics and the configuration in force.

use std::sync::Arc;

use anyhow::{Context, Result};
use arc_swap::ArcSwap;
use penstock_sandbox::{CacheSettings, ChildSettings, Compiler, Engine, EngineSettings};
use penstock_store::{Store, Target};
use tokio::sync::Notify;

use crate::budget::ByteBudget;
use crate::code_key;
use crate::config::{Config, StoreConfig};
use crate::creations::Creations;
use crate::dispatch::Turns;
use crate::live::Live;
use crate::looks::Looks;
use crate::metrics::Metrics;
use crate::reconcile::FoundLately;

/// The hidden subcommand under which this program compiles one plugin and ends.
pub const COMPILE_COMMAND: &str = "compile-plugin";

/// Shared by all loops of a process.
pub struct Host {
    /// The deliveries and all that follows from them.
    pub store: Store,
    /// Runs plugins.
    pub engine: Engine,
    /// The bytes that bodies of deliveries that are being decided may take together.
    pub bodies: ByteBudget,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What was last seen of the store by those who ask from outside.
    pub looks: Looks,
    /// Whether the host found anything by itself lately.
    pub found: FoundLately,
    /// Turns of calls that share a plugin's state.
    pub turns: Turns,
    /// How many runs of a tenant are created at once.
    pub creations: Creations,
    /// This process among others, for claims.
    pub worker: String,
    live: ArcSwap<Live>,
    changed: Notify,
}

impl Host {
    /// Opens the store and prepares everything; nothing outside this machine is called but the store.
    ///
    /// # Errors
    /// The store, the engine or the configuration can't be used.
    pub async fn open(config: Config) -> Result<Arc<Self>> {
        std::fs::create_dir_all(&config.data)
            .with_context(|| format!("can't make the folder {}", config.data.display()))?;
        let store = Store::open(target(&config))
            .await
            .context("the store can't be opened")?;
        let engine = engine(&config)?;
        store.limit_flow(config.flow.clone());
        let metrics = Arc::new(Metrics::new());
        let bodies = ByteBudget::new(config.body_budget);
        let live = Live::new(Arc::new(config), None, &metrics).await?;
        Ok(Arc::new(Self {
            store,
            engine,
            bodies,
            metrics,
            looks: Looks::default(),
            found: FoundLately::default(),
            turns: Turns::default(),
            creations: Creations::default(),
            worker: format!("{}-{}", std::process::id(), uuid::Uuid::new_v4().simple()),
            live: ArcSwap::from_pointee(live),
            changed: Notify::new(),
        }))
    }

    /// The configuration in force.
    pub fn live(&self) -> Arc<Live> {
        self.live.load_full()
    }

    /// Puts another configuration in force.
    ///
    /// # Errors
    /// It can't be used; the old one stays.
    pub async fn reload(&self, config: Arc<Config>) -> Result<()> {
        let live = Live::new(config, Some(&self.live()), &self.metrics).await?;
        self.store.limit_flow(live.config.flow.clone());
        self.live.store(Arc::new(live));
        self.changed.notify_waiters();
        Ok(())
    }

    /// Resolves when another configuration was put in force after this call.
    pub fn changed(&self) -> tokio::sync::futures::Notified<'_> {
        self.changed.notified()
    }
}

/// Where the store is.
pub fn target(config: &Config) -> Target {
    match &config.store {
        StoreConfig::Sqlite(path) => Target::Sqlite { path: path.clone() },
        StoreConfig::Postgres(url) => Target::Postgres { url: url.clone() },
    }
}

/// The engine, with its cache of compiled plugins; plugins are compiled in a child process of this program.
///
/// # Errors
/// The cache folder or its key can't be made, or the engine does not start.
pub fn engine(config: &Config) -> Result<Engine> {
    engine_on(config, EngineSettings::default().threads)
}

/// The same for a command that does nothing beside running plugins: on all cores.
///
/// # Errors
/// As [`engine`].
pub fn engine_on_all_cores(config: &Config) -> Result<Engine> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    engine_on(config, cores)
}

fn engine_on(config: &Config, threads: usize) -> Result<Engine> {
    let dir = config.data.join("compiled");
    let key = code_key::read(&config.data)?;
    let program = std::env::current_exe().context("this program does not know where it lies")?;
    let settings = EngineSettings {
        threads,
        cache: Some(CacheSettings { dir, key }),
        compiler: Compiler::Child(ChildSettings::new(program, vec![COMPILE_COMMAND.into()])),
        ..EngineSettings::default()
    };
    Engine::new(settings).context("the engine for plugins does not start")
}
