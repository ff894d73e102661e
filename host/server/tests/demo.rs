//! `penstock demo --kubeconfig F` on a real API server with Tekton: `cargo xtask test` runs this with the feature `demo`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use std::process::Stdio;
use std::time::Duration;

use penstock_control_plane::{TestPlace, shared};

/// The demo gives up a step after a minute.
const LIMIT: Duration = Duration::from_secs(180);

#[tokio::test]
async fn the_demo_runs_on_a_real_cluster_with_the_host_s_own_rights() {
    let place = TestPlace::create(shared().await.unwrap(), "demo")
        .await
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = folder.path().join("kubeconfig");
    std::fs::write(&kubeconfig, place.host_kubeconfig()).unwrap();
    let guests =
        std::env::var_os("PENSTOCK_GUESTS").expect("`cargo xtask test` sets PENSTOCK_GUESTS");
    let mut demo = tokio::process::Command::new(env!("CARGO_BIN_EXE_penstock"));
    demo.args([
        "demo",
        "--once",
        "--namespace",
        place.namespace(),
        "--plugins",
    ])
    .arg(guests)
    .arg("--kubeconfig")
    .arg(&kubeconfig)
    .stdin(Stdio::null())
    .kill_on_drop(true);
    let ended = tokio::time::timeout(LIMIT, demo.output())
        .await
        .expect("the demo ends")
        .unwrap();
    let (said, err) = (
        String::from_utf8_lossy(&ended.stdout),
        String::from_utf8_lossy(&ended.stderr),
    );
    assert!(ended.status.success(), "{said}{err}");
    for line in [
        "(a real one)",
        "answered 202",
        "is succeeded",
        "created by the account `creator`, its pods run as `run-as`",
        "status  build        success",
        "comment ",
    ] {
        assert!(said.contains(line), "`{line}` is missing in:\n{said}{err}");
    }
    let client = shared().await.unwrap().client().await.unwrap();
    let runs = place
        .pipeline_runs(client)
        .list(&Default::default())
        .await
        .unwrap();
    assert_eq!(runs.items.len(), 1, "the run is in the cluster");
}
