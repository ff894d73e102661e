//! `penstock demo`, with its stand-ins and on a real API server with Tekton: `cargo xtask test` runs this with the feature `demo`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use std::process::Stdio;
use std::time::Duration;

use penstock_control_plane::{TestPlace, shared};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::sync::Mutex;

/// The demo gives up a step after a minute.
const LIMIT: Duration = Duration::from_secs(180);
/// One after the other: each compiles its plugins, and gives them that minute.
static TURN: Mutex<()> = Mutex::const_new(());

fn demo() -> tokio::process::Command {
    let guests =
        std::env::var_os("PENSTOCK_GUESTS").expect("`cargo xtask test` sets PENSTOCK_GUESTS");
    let mut demo = tokio::process::Command::new(env!("CARGO_BIN_EXE_penstock"));
    demo.arg("demo")
        .arg("--plugins")
        .arg(guests)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    demo
}

/// The first command of the README, and the request that it prints for more.
#[tokio::test]
async fn the_demo_runs_on_its_own_and_the_request_that_it_prints_is_taken() {
    let _turn = TURN.lock().await;
    let mut child = demo().stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (mut said, mut request) = (String::new(), String::new());
    let read = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            said.push_str(&line);
            said.push('\n');
            let part = line.trim();
            if part.starts_with("curl -i") || request.ends_with('\\') {
                request = request.trim_end_matches('\\').to_owned() + part;
            }
            if part.ends_with("/metrics") {
                break;
            }
        }
    };
    tokio::time::timeout(LIMIT, read)
        .await
        .expect("the demo comes to its last step");
    for line in [
        "answered 202",
        "is succeeded",
        "created by the account `creator`, its pods run as `run-as`",
        "status  build        success",
        "comment ",
    ] {
        assert!(said.contains(line), "`{line}` is missing in:\n{said}");
    }
    assert_eq!(said.matches("(a stand-in)").count(), 2, "{said}");
    let sent = tokio::process::Command::new("sh")
        .args(["-c", &request])
        .env("NO_PROXY", "127.0.0.1")
        .output()
        .await
        .unwrap();
    let answer = String::from_utf8_lossy(&sent.stdout);
    assert!(
        answer.starts_with("HTTP/1.1 202") && answer.contains("accepted"),
        "{request}\n{answer}{}",
        String::from_utf8_lossy(&sent.stderr)
    );
    child.kill().await.unwrap();
}

#[tokio::test]
async fn the_demo_runs_on_a_real_cluster_with_the_host_s_own_rights() {
    let _turn = TURN.lock().await;
    let place = TestPlace::create(shared().await.unwrap(), "demo")
        .await
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = folder.path().join("kubeconfig");
    std::fs::write(&kubeconfig, place.host_kubeconfig()).unwrap();
    let mut demo = demo();
    demo.args(["--once", "--namespace", place.namespace()])
        .arg("--kubeconfig")
        .arg(&kubeconfig);
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
