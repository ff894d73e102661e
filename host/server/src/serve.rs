//! `penstock serve`: starts the loops, and stops them in order.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::ValueEnum;
use penstock_model::id::Timestamp;
use penstock_store::{Caps, Queue};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, watch};
use crate::host::Host;
use crate::lanes::{self, Lanes};
use crate::{
    act, backoff, dispatch, flow, http, listen, reconcile, report, retention, waiting, workers,
};

/// After the signal to stop, what is in hand may go on for so long.
const PATIENCE: Duration = Duration::from_secs(20);

/// The loops of the data path. They know of each other only through the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Loop {
    /// Takes webhooks in.
    Receive,
    /// Asks plugins.
    Dispatch,
    /// Acts in clusters and GitLab.
    Act,
    /// Watches runs.
    Report,
    /// Makes up for what GitLab did not tell.
    Reconcile,
}

impl Loop {
    /// All of them.
    pub fn all() -> BTreeSet<Self> {
        Self::value_variants().iter().copied().collect()
    }
}

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// It can't start: the store, the address or the configuration can't be used.
pub async fn serve(path: PathBuf, loops: BTreeSet<Loop>) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("can't listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("can't listen for SIGINT")?;
    // Watched before it is read: a change in between is seen.
    let changes = watch::watch(path.clone()).context("the configuration can't be watched")?;
    let config = Config::load(&path).map_err(|problems| anyhow::anyhow!("{problems}"))?;
    let address = config.listen;
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("can't listen on {address}; set `listen` to a free address"))?;
    let host = Host::open(config).await?;
    let stop = CancellationToken::new();
    let threads = workers::start().context("the loops' threads can't be started")?;
    let tasks = start(&host, changes, listener, &loops, threads.handle(), &stop);
    tracing::info!(%address, loops = ?loops, "serving");
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping: takes no more, and finishes or gives back what is in hand");
    stop.cancel();
    join(tasks).await;
    threads.shutdown_background();
    if let Some(host) = Arc::into_inner(host) {
        host.store.close().await;
    }
    tracing::info!("stopped");
    Ok(())
}

/// Starts the loops; they end after `stop`. What decides, acts and reports runs on `threads`, the receiver where this is called.
pub fn start(
    host: &Arc<Host>,
    changes: watch::Changes,
    listener: TcpListener,
    loops: &BTreeSet<Loop>,
    threads: &Handle,
    stop: &CancellationToken,
) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let router = http::router(Arc::clone(host), loops.contains(&Loop::Receive));
    tasks.spawn(listen::serve(listener, router, stop.clone()));
    tasks.spawn_on(reload(Arc::clone(host), changes, stop.clone()), threads);
    if loops.contains(&Loop::Dispatch) {
        tasks.spawn_on(load_plugins(Arc::clone(host), stop.clone()), threads);
        tasks.spawn_on(work(host, Queue::Dispatch, stop.clone()), threads);
    }
    if loops.contains(&Loop::Act) {
        tasks.spawn_on(work(host, Queue::Act, stop.clone()), threads);
        tasks.spawn_on(flow::run(host.store.clone(), stop.clone()), threads);
    }
    if loops.contains(&Loop::Act) {
        tasks.spawn_on(waiting::run(Arc::clone(host), stop.clone()), threads);
        tasks.spawn_on(retention::run(Arc::clone(host), stop.clone()), threads);
        tasks.spawn_on(crate::clone::sweep(Arc::clone(host), stop.clone()), threads);
    }
    if loops.contains(&Loop::Report) {
        tasks.spawn_on(report::run(Arc::clone(host), stop.clone()), threads);
    }
    if loops.contains(&Loop::Reconcile) {
        tasks.spawn_on(reconcile::run(Arc::clone(host), stop.clone()), threads);
    }
    tasks
}

async fn join(mut tasks: JoinSet<()>) {
    let all = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(PATIENCE + Duration::from_secs(5), all)
        .await
        .is_err()
    {
        tracing::warn!("some work did not end in time; it is given up and will be taken up again");
        tasks.shutdown().await;
    }
}

fn work(
    host: &Arc<Host>,
    queue: Queue,
    stop: CancellationToken,
) -> impl Future<Output = ()> + Send + use<> {
    let host = Arc::clone(host);
    let lanes = Lanes {
        queue,
        worker: host.worker.clone(),
        at_once: 64,
        per_tenant: match queue {
            // To decide takes a processor, and calls to GitLab of which there are 1,600 a minute: more at once are no quicker, and others wait
            // behind each.
            Queue::Dispatch => 12,
            // To create is mostly to wait for the API server.
            Queue::Act => 48,
        },
        ttl: Duration::from_secs(30),
        poll: Duration::from_millis(250),
        gather: Duration::from_millis(5),
        patience: PATIENCE,
        cut: match queue {
            // A decision is committed whole or not at all.
            Queue::Dispatch => lanes::After::GiveBack,
            // A create may have gone out whose answer nobody read.
            Queue::Act => lanes::After::Lapse,
        },
    };
    async move {
        let store = host.store.clone();
        let ended = stop.clone();
        let caps = Caps {
            per_tenant: lanes.per_tenant,
        };
        let (worker, ttl) = (lanes.worker.clone(), lanes.ttl);
        match queue {
            Queue::Dispatch => {
                let draw = |most| {
                    host.store
                        .draw_deliveries(&worker, ttl, caps, most, Timestamp::now())
                };
                lanes::run(store, lanes, stop, draw, |claim, first| {
                    dispatch::lane(Arc::clone(&host), claim, first, ended.clone())
                })
                .await;
            }
            Queue::Act => {
                let draw = |most| {
                    host.store
                        .draw_effects(&worker, ttl, caps, most, Timestamp::now())
                };
                lanes::run(store, lanes, stop, draw, |claim, first| {
                    act::lane(Arc::clone(&host), claim, first, ended.clone())
                })
                .await;
            }
        }
    }
}

/// Loads what is not loaded, at the start and after each reload; what does not load is tried again.
async fn load_plugins(host: Arc<Host>, stop: CancellationToken) {
    let mut tries = 0;
    while !stop.is_cancelled() {
        let changed = host.changed();
        let live = host.live();
        let mut broken = false;
        for slot in live.plugins() {
            let name = &slot.config().name;
            if slot.ready().is_ok() && slot.is_kept() {
                continue;
            }
            match load_one(&host, slot).await {
                Ok(()) => tracing::info!(plugin.name = %name, "loaded a plugin"),
                Err(error) => {
                    broken = true;
                    tracing::error!(plugin.name = %name, error = format!("{error:#}"), "a plugin does not load; its deliveries wait");
                }
            }
        }
        host.store.wake(Queue::Dispatch).notify_one();
        tries = if broken { tries + 1 } else { 0 };
        let again = if broken {
            backoff::wait(tries, None, rand::random())
        } else {
            Duration::MAX
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = changed => tries = 0,
            () = tokio::time::sleep(again) => {}
        }
    }
}

async fn load_one(host: &Host, slot: &crate::plugins::PluginSlot) -> Result<()> {
    slot.load(&host.engine).await?;
    let loaded = slot.ready()?;
    // A decision can be run again only as long as the plugin's bytes are there.
    host.store
        .keep_plugin(loaded.bytes.to_vec(), Timestamp::now())
        .await?;
    slot.set_kept();
    Ok(())
}

/// Puts each valid change of the configuration in force.
async fn reload(host: Arc<Host>, mut changes: watch::Changes, stop: CancellationToken) {
    loop {
        let change = tokio::select! {
            () = stop.cancelled() => return,
            change = changes.next() => change,
        };
        match change {
            None => return,
            Some(Err(problems)) => {
                tracing::error!(problems = %problems, "a changed configuration is not valid; the old one stays");
            }
            Some(Ok(config)) => match host.reload(Arc::new(config)).await {
                Ok(()) => tracing::info!("a changed configuration is in force"),
                Err(error) => {
                    tracing::error!(
                        error = format!("{error:#}"),
                        "a changed configuration can't be used; the old one stays"
                    );
                }
            },
        }
    }
}
