//! The cluster: in a process of its own, kept on one core.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use penstock_control_plane::Access;
use tempfile::TempDir;

/// Cold, the Go programs are built first.
const PATIENCE: Duration = Duration::from_secs(30 * 60);
/// The cluster's core; for `load` and `answer`, everything else is on [`OURS`], for `fair` what is measured.
pub(super) const CLUSTER: usize = 0;
/// The core of everything else.
pub(super) const OURS: usize = 1;

/// Tekton's admission webhooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Webhooks {
    /// As in production.
    InPlace,
    /// The API server alone.
    Absent,
}

/// A control plane that ends with this.
pub(super) struct Plane {
    child: Child,
    access: Access,
    _folder: TempDir,
}

impl Plane {
    /// Starts the program `control-plane` beside this one, without a kubelet: creation is measured, not what pods do. Tekton's controller keeps
    /// its own limit of requests, so that its share of the core is the same in both halves.
    pub(super) async fn start(webhooks: Webhooks) -> Self {
        let program: PathBuf = std::env::current_exe()
            .expect("this program knows where it lies")
            .with_file_name("control-plane");
        let folder = tempfile::tempdir().expect("a folder");
        let ready = folder.path().join("ready.json");
        let mut command = Command::new(program);
        command.arg("--ready-file").arg(&ready).args([
            "--pin-to-core",
            &CLUSTER.to_string(),
            "--without-kubelet",
            "--tekton-qps",
            "20",
        ]);
        if webhooks == Webhooks::Absent {
            command.arg("--without-tekton-webhook");
        }
        // Its standard input is ours: it ends when we do, also when we are killed.
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("control-plane lies beside this program");
        let begun = Instant::now();
        let text = loop {
            if let Ok(text) = std::fs::read_to_string(&ready) {
                break text;
            }
            assert!(
                child.try_wait().expect("a child").is_none(),
                "the control plane ended before it was ready"
            );
            assert!(
                begun.elapsed() < PATIENCE,
                "the control plane did not get ready"
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        let ready: serde_json::Value = serde_json::from_str(&text).expect("a ready file");
        let kubeconfig = PathBuf::from(ready["kubeconfig"].as_str().expect("a kubeconfig"));
        let access = Access::from_kubeconfig(&kubeconfig).expect("a kubeconfig");
        Self {
            child,
            access,
            _folder: folder,
        }
    }

    pub(super) fn access(&self) -> &Access {
        &self.access
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        // With its standard input closed it takes its children along, which a kill would leave behind.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}
