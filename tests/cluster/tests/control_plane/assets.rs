//! `KUBEBUILDER_ASSETS`: an etcd and an API server of the user's own.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use penstock_control_plane::build::{ASSETS_VARIABLE, binaries};
use penstock_control_plane::wait;
use tokio::process::Command;

const LIMIT: Duration = Duration::from_secs(120);

fn control_plane(assets: &Path, ready: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_control-plane"));
    command
        .arg("--ready-file")
        .arg(ready)
        .args(["--without-tekton", "--without-kubelet", "--without-audit"])
        .env(ASSETS_VARIABLE, assets)
        .stdin(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// Programs that run from this folder.
fn running_from(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let first = line.split(|byte| *byte == 0).next().unwrap_or_default();
        let program = Path::new(std::str::from_utf8(first).unwrap_or_default());
        if program.parent() == Some(folder) {
            found.push(program.file_name().unwrap().to_string_lossy().into_owned());
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn binaries_of_the_user_s_own_are_run_in_the_place_of_ours() {
    let built = tokio::task::spawn_blocking(binaries)
        .await
        .unwrap()
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let assets = folder.path().canonicalize().unwrap();
    for program in [&built.etcd, &built.kube_apiserver] {
        let link = assets.join(program.file_name().unwrap());
        std::os::unix::fs::symlink(program, link).unwrap();
    }
    let ready = assets.join("ready.json");
    let mut plane = control_plane(&assets, &ready).spawn().unwrap();
    wait::until("the control plane to be ready", LIMIT, async || {
        anyhow::ensure!(plane.try_wait()?.is_none(), "it ended");
        Ok(ready.exists().then_some(()))
    })
    .await
    .unwrap();
    assert_eq!(running_from(&assets), ["etcd", "kube-apiserver"]);
    // It ends when its input does, and takes them along.
    drop(plane.stdin.take());
    assert!(plane.wait().await.unwrap().success());
    assert_eq!(running_from(&assets), [""; 0]);
}

#[tokio::test]
async fn a_folder_without_them_is_refused_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let mut plane = control_plane(folder.path(), &folder.path().join("ready.json"))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Closed, it would end well before it has looked.
    let input = plane.stdin.take();
    let ended = plane.wait_with_output().await.unwrap();
    drop(input);
    assert!(!ended.status.success());
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(
        said.contains("has no `etcd`; correct or unset KUBEBUILDER_ASSETS"),
        "{said}"
    );
}
