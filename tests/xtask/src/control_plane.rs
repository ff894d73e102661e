//! One real Kubernetes and Tekton for a whole command, as a child process that ends with it.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::{cache, tools};

/// Cold, the Go programs are built first: seven minutes on two cores.
const PATIENCE: Duration = Duration::from_secs(30 * 60);

/// A control plane that runs; it ends when this is dropped.
#[derive(Debug)]
pub struct ControlPlane {
    child: Child,
    ready: Ready,
    _folder: tempfile::TempDir,
}

#[derive(Debug, Deserialize)]
struct Ready {
    kubeconfig: PathBuf,
}

impl ControlPlane {
    /// Starts the program `control-plane` with these arguments; it builds Kubernetes and Tekton where they are missing. The program itself must have been built.
    ///
    /// # Errors
    /// Go is missing, something does not build, or the cluster does not become ready.
    pub fn start(arguments: &[&str]) -> Result<Self> {
        if std::env::var_os("KUBEBUILDER_ASSETS").is_none() {
            tools::must_have(
                "go",
                "Kubernetes and Tekton are built from their Go modules",
            )?;
        }
        let folder = tempfile::tempdir().context("can't make a temporary folder")?;
        let file = folder.path().join("ready.json");
        let mut child = Command::new(cache::target()?.join("debug/control-plane"))
            .arg("--ready-file")
            .arg(&file)
            .args(arguments)
            // It ends when this is closed: also when we are killed.
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .context("the control plane does not start")?;
        let begun = Instant::now();
        let ready = loop {
            if let Ok(text) = fs::read_to_string(&file) {
                break serde_json::from_str(&text)
                    .context("the control plane's ready file is not what was expected")?;
            }
            if let Some(status) = child.try_wait()? {
                bail!(
                    "the control plane ended before it was ready ({status}); its messages are above"
                );
            }
            if begun.elapsed() > PATIENCE {
                child.kill()?;
                child.wait()?;
                bail!("the control plane was not ready after {PATIENCE:?}");
            }
            std::thread::sleep(Duration::from_millis(100));
        };
        Ok(Self {
            child,
            ready,
            _folder: folder,
        })
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> &std::path::Path {
        &self.ready.kubeconfig
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        // It stops its own children first; what does not end by itself is ended with it.
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(20) {
            if let Ok(Some(_)) = self.child.try_wait() {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
