//! Runs a control plane for other processes, until standard input closes or SIGTERM comes.

use std::{io::Read as _, path::PathBuf};

use anyhow::{Context as _, Result};
use clap::Parser;
use penstock_control_plane::{ControlPlane, Options, shared::shared_options};
use tokio::signal::unix::{SignalKind, signal};

/// Starts etcd, the Kubernetes API server and Tekton on loopback for tests.
#[derive(Debug, Parser)]
struct Arguments {
    /// Written when all is ready: JSON with `kubeconfig`, `server` and `audit_log`.
    #[arg(long)]
    ready_file: PathBuf,
    /// Keeps everything, this process too, on one core.
    #[arg(long)]
    pin_to_core: Option<usize>,
    /// The Kubernetes API alone.
    #[arg(long)]
    without_tekton: bool,
    /// Tekton without its admission webhooks.
    #[arg(long)]
    without_tekton_webhook: bool,
    /// Leaves pods where they are.
    #[arg(long)]
    without_kubelet: bool,
    /// Keeps no audit log.
    #[arg(long)]
    without_audit: bool,
    /// Requests a second that Tekton's controller may send.
    #[arg(long)]
    tekton_qps: Option<u32>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let Some(core) = arguments.pin_to_core {
        pin(core)?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("can't start a runtime")?;
    runtime.block_on(run(arguments))
}

async fn run(arguments: Arguments) -> Result<()> {
    let mut end = signal(SignalKind::terminate()).context("can't listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("can't listen for SIGINT")?;
    // A thread of its own: a read of standard input can't be given up.
    let (closed, mut input) = tokio::sync::mpsc::channel::<()>(1);
    std::thread::spawn(move || {
        let _ = std::io::stdin().lock().read_to_end(&mut Vec::new());
        drop(closed);
    });

    let defaults = shared_options();
    let options = Options {
        tekton: !arguments.without_tekton,
        tekton_webhook: !arguments.without_tekton && !arguments.without_tekton_webhook,
        kubelet: !arguments.without_kubelet,
        pin_to_core: arguments.pin_to_core,
        audit: !arguments.without_audit,
        tekton_qps: arguments.tekton_qps.or(defaults.tekton_qps),
    };
    let plane = tokio::select! {
        started = ControlPlane::start(options) => started?,
        _ = end.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
        _ = input.recv() => return Ok(()),
    };
    let ready = serde_json::json!({
        "kubeconfig": plane.kubeconfig_path(),
        "server": plane.server_url(),
        "audit_log": plane.audit_log(),
    });
    // Written beside and renamed, so a reader never sees half of it.
    let half = arguments.ready_file.with_extension("part");
    std::fs::write(&half, format!("{ready:#}\n"))
        .with_context(|| format!("can't write {}", half.display()))?;
    std::fs::rename(&half, &arguments.ready_file).context("can't write the ready file")?;

    tokio::select! {
        _ = end.recv() => {}
        _ = interrupt.recv() => {}
        _ = input.recv() => {}
    }
    drop(plane);
    Ok(())
}

/// Keeps this process, and so its children, on `core`.
fn pin(core: usize) -> Result<()> {
    let mut cores = rustix::thread::CpuSet::new();
    cores.set(core);
    rustix::thread::sched_setaffinity(None, &cores)
        .with_context(|| format!("can't stay on core {core}"))
}
