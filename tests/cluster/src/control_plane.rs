//! One control plane: its folder, its processes, and the thread that looks after them.
//!
//! The thread matters twice. The kernel ends a child when the thread that started it ends, and the
//! kubelet's tasks end with their runtime; a test's own thread and runtime live too short for both.

use std::{
    path::{Path, PathBuf},
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context as _, Result};
use kube::Client;
use tempfile::TempDir;
use tokio::sync::{mpsc, oneshot};

use crate::{access::Access, build, kubelet::Kubelet, kubernetes::Kubernetes, tekton::Tekton};

const FOLDER_PREFIX: &str = "penstock-control-plane-";

/// What to start and how.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Tekton's CRDs and its controller.
    pub tekton: bool,
    /// Tekton's admission webhooks: defaults and refusals as in production. Needs `tekton`.
    pub tekton_webhook: bool,
    /// A stand-in for the kubelet, which lets pods run to their end.
    pub kubelet: bool,
    /// Keeps the child processes on this core. The kubelet runs in the calling process.
    pub pin_to_core: Option<usize>,
    /// Keeps an audit log of writes to runs, pods and tokens.
    pub audit: bool,
    /// Requests a second that Tekton's controller may send; `None` is its own default (20).
    pub tekton_qps: Option<u32>,
}

impl Default for Options {
    /// Everything, nothing pinned, Tekton unhurried.
    fn default() -> Self {
        Self {
            tekton: true,
            tekton_webhook: true,
            kubelet: true,
            pin_to_core: None,
            audit: false,
            tekton_qps: None,
        }
    }
}

/// A running control plane. Dropped, it kills its processes, waits for them and removes its folder.
#[derive(Debug)]
pub struct ControlPlane {
    access: Access,
    orders: mpsc::UnboundedSender<Order>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
enum Order {
    RestartApiServer(oneshot::Sender<Result<()>>),
    Stop,
}

impl ControlPlane {
    /// Builds what is not built, starts everything and waits until it is ready.
    ///
    /// # Errors
    /// If a binary can't be built, or a process does not start; the end of its log is quoted.
    pub async fn start(options: Options) -> Result<Self> {
        let (orders, inbox) = mpsc::unbounded_channel();
        let (ready, started) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("control-plane".into())
            .spawn(move || look_after(options, ready, inbox))
            .context("can't start the control plane's thread")?;
        let access = started
            .await
            .context("the control plane's thread ended")??;
        Ok(Self {
            access,
            orders,
            thread: Some(thread),
        })
    }

    /// How to reach it.
    #[must_use]
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// The administrator's kubeconfig as text: a secret.
    #[must_use]
    pub fn kubeconfig(&self) -> String {
        self.access.kubeconfig()
    }

    /// Where the administrator's kubeconfig lies; the processes' logs lie beside it.
    #[must_use]
    pub fn kubeconfig_path(&self) -> &Path {
        self.access.kubeconfig_path()
    }

    /// `https://127.0.0.1:PORT`.
    #[must_use]
    pub fn server_url(&self) -> &str {
        self.access.server_url()
    }

    /// The cluster's authority, as PEM.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        self.access.ca_pem()
    }

    /// A client with the administrator's rights, for the calling runtime.
    ///
    /// # Errors
    /// If the client can't be built.
    pub async fn client(&self) -> Result<Client> {
        self.access.client().await
    }

    /// The audit log, if [`Options::audit`] asked for one.
    #[must_use]
    pub fn audit_log(&self) -> Option<PathBuf> {
        self.access.audit_log()
    }

    /// Kills the API server and starts it again on the same port and data; answers when it is ready.
    ///
    /// # Errors
    /// If it does not start again.
    pub async fn restart_api_server(&self) -> Result<()> {
        let (answer, answered) = oneshot::channel();
        self.orders
            .send(Order::RestartApiServer(answer))
            .ok()
            .context("the control plane has ended")?;
        answered.await.context("the control plane has ended")?
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        // If the thread has ended by itself, its processes are gone already.
        let _ = self.orders.send(Order::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The thread's whole life.
fn look_after(
    options: Options,
    ready: oneshot::Sender<Result<Access>>,
    mut orders: mpsc::UnboundedReceiver<Order>,
) {
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = ready.send(Err(error).context("can't start the control plane's runtime"));
            return;
        }
    };
    runtime.block_on(async {
        let mut running = match Running::start(&options).await {
            Ok(running) => running,
            Err(error) => {
                let _ = ready.send(Err(error));
                return;
            }
        };
        if ready.send(Ok(running.kubernetes.access().clone())).is_err() {
            return; // Nobody waits for it any more.
        }
        while let Some(order) = orders.recv().await {
            match order {
                Order::RestartApiServer(answer) => {
                    let _ = answer.send(running.kubernetes.restart_api_server().await);
                }
                Order::Stop => break,
            }
        }
    });
    // A request that hangs must not hold up the end.
    runtime.shutdown_timeout(Duration::from_secs(1));
}

/// Everything that runs. Dropped in the order of the fields.
struct Running {
    _kubelet: Option<Kubelet>,
    _tekton: Option<Tekton>,
    kubernetes: Kubernetes,
    _folder: TempDir,
}

impl Running {
    async fn start(options: &Options) -> Result<Self> {
        let binaries = build::binaries()?;
        let folder = folder()?;
        let mut kubernetes = Kubernetes::start(&binaries, options, folder.path()).await?;
        let client = kubernetes.access().client().await?;
        let kubelet = match options.kubelet {
            true => Some(Kubelet::start(client.clone()).await?),
            false => None,
        };
        let tekton = match options.tekton {
            true => {
                Some(Tekton::start(&binaries, options, folder.path(), &kubernetes, &client).await?)
            }
            false => None,
        };
        kubernetes.check()?;
        Ok(Self {
            _kubelet: kubelet,
            _tekton: tekton,
            kubernetes,
            _folder: folder,
        })
    }
}

/// A folder of our own, named after this process, after those of dead processes are removed: a test
/// process that ends never drops what is shared in it.
fn folder() -> Result<TempDir> {
    let base = std::env::temp_dir();
    for entry in std::fs::read_dir(&base)
        .context("can't read the folder for temporary files")?
        .flatten()
    {
        let name = entry.file_name();
        let owner = name
            .to_str()
            .and_then(|name| name.strip_prefix(FOLDER_PREFIX))
            .and_then(|rest| rest.split('-').next());
        if owner.is_some_and(|pid| !pid.is_empty() && !Path::new("/proc").join(pid).exists()) {
            // Another process may be removing it too.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
    tempfile::Builder::new()
        .prefix(&format!("{FOLDER_PREFIX}{}-", std::process::id()))
        .tempdir_in(base)
        .context("can't create a folder for the control plane")
}
