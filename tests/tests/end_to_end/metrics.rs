//! What is counted, for whom.

use std::io::Write as _;
use std::process::{Command, Stdio};

use penstock_doubles::gitlab::Push;
use penstock_guests::Behaviour;
use penstock_tests::manifest::running;
use penstock_tests::scene::PROJECT;
use penstock_tests::{Plugin, Scene, until};

const FAMILIES: [&str; 20] = [
    "penstock_received",
    "penstock_decisions",
    "penstock_decision_seconds",
    "penstock_plugin_failures",
    "penstock_plugin_peak",
    "penstock_plugin_limit",
    "penstock_plugin_limit_share",
    "penstock_effects",
    "penstock_gitlab_request_seconds",
    "penstock_kubernetes_request_seconds",
    "penstock_oldest_undecided_delivery_seconds",
    "penstock_oldest_effect_seconds",
    "penstock_runs",
    "penstock_deliveries",
    "penstock_dead_effects",
    "penstock_dead_routes",
    "penstock_lane_age_seconds",
    "penstock_gitlab_budget_calls",
    "penstock_gitlab_budget_left",
    "penstock_gitlab_budget_waiting",
];

#[tokio::test]
async fn the_metrics_hold_every_family_and_no_project_person_or_branch() {
    let scene = Scene::builder("metrics")
        .plugin(Plugin::starts("pipelines", &running("true")))
        .plugin(Plugin::misbehave("bad", Behaviour::Trap))
        .start()
        .await;
    let change = scene
        .gitlab
        .push(Push::new(PROJECT, "a-branch", "alice").write("a.txt", "a"));
    let delivery = scene.send_one(&change).await;
    scene.status(&change.commit, "build", "success").await;
    scene.settled().await;
    let text = scene.penstock.metrics().await;
    for family in FAMILIES {
        assert!(
            text.contains(&format!("# TYPE {family} ")),
            "{family} is not in\n{text}"
        );
    }
    for line in [
        r#"penstock_received_total{instance="main",hook="acme",result="accepted"} 1"#,
        r#"penstock_deliveries{state="failed"} 1"#,
        r#"penstock_plugin_failures_total{plugin="bad",kind="trap"} 1"#,
        r#"penstock_plugin_limit{plugin="bad",limit="cpu"} 5.0"#,
        r#"penstock_plugin_peak{plugin="pipelines",limit="effects"} 1.0"#,
        r#"penstock_plugin_limit_share_count{plugin="pipelines",limit="memory"} 1"#,
        r#"penstock_runs{state="succeeded"} 1"#,
        r#"penstock_effects_total{kind="start-run",outcome="done"} 1"#,
        r#"penstock_lane_age_seconds{queue="dispatch"} 0.0"#,
        r#"penstock_lane_age_seconds{queue="act"} 0.0"#,
        r#"penstock_gitlab_budget_calls{instance="main"} 1600"#,
        r#"penstock_gitlab_budget_waiting{instance="main"} 0"#,
        "penstock_dead_routes 0",
    ] {
        scene.penstock.counted(line).await;
    }
    let text = scene.penstock.metrics().await;
    let left = text
        .lines()
        .find_map(|line| line.strip_prefix(r#"penstock_gitlab_budget_left{instance="main"} "#))
        .unwrap();
    let left: u32 = left.parse().unwrap();
    assert!((1_000..1_600).contains(&left), "calls were made: {left}");
    checked_by_promtool(&text);
    for private in [
        PROJECT,
        "a-branch",
        "alice",
        change.commit.as_str(),
        delivery.as_str(),
        scene.place.namespace(),
    ] {
        assert!(!text.contains(private), "{private} is in the metrics");
    }
}

/// Prometheus' own reader finds nothing to say.
fn checked_by_promtool(text: &str) {
    let program = std::env::var_os("PENSTOCK_PROMTOOL").expect(
        "PENSTOCK_PROMTOOL names promtool: run `cargo xtask test`, or set it to `promtool`",
    );
    let started = Command::new(program)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut promtool = started.expect("promtool starts");
    let mut input = promtool.stdin.take().unwrap();
    input.write_all(text.as_bytes()).unwrap();
    drop(input);
    let said = promtool.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(
        said.status.success() || said.status.code() == Some(3),
        "{told}"
    );
    // It warns of counters since it reads the older format, where their type has the name with `_total`.
    let other = told.lines().find(|line| !line.contains("_total"));
    assert_eq!(other, None, "{told}");
}

#[tokio::test]
async fn a_log_line_of_every_loop_names_the_delivery() {
    let scene = Scene::builder("logs")
        .plugin(Plugin::starts("pipelines", &running("true")))
        .start()
        .await;
    let change = scene
        .gitlab
        .push(Push::new(PROJECT, "topic", "alice").write("a.txt", "a"));
    let delivery = scene.send_one(&change).await;
    scene.status(&change.commit, "build", "success").await;
    for message in ["received a delivery", "decided", "acted", "a run moved on"] {
        until(&format!("a line `{message}` that names it"), async || {
            let logs = scene.penstock.logs();
            let named = |line: &str| line.contains(message) && line.contains(&delivery);
            logs.lines().any(named).then_some(())
        })
        .await;
    }
    for line in scene.penstock.logs().lines() {
        let read: Result<serde_json::Value, _> = serde_json::from_str(line);
        assert!(read.is_ok(), "not JSON: {line}");
    }
}

/// A disk on which nothing can be written any more: the kernel refuses each write of the process to a file.
#[tokio::test]
async fn a_host_whose_disk_takes_nothing_is_not_ready_and_comes_back_by_itself() {
    let scene = Scene::builder("full")
        .plugin(Plugin::starts("pipelines", &running("true")))
        // The kernel's signal for it would end the process; a full disk has none.
        .prefix(&["sh", "-c", r#"trap "" XFSZ; exec "$@" 2>/dev/null"#, "sh"])
        .start()
        .await;
    let limit = |bytes: &str| {
        let pid = scene.penstock.pid().to_string();
        let done = Command::new("prlimit")
            .args(["--pid", &pid, &format!("--fsize={bytes}:unlimited")])
            .status();
        assert!(done.unwrap().success());
    };
    limit("0");
    until("a host that is not ready", async || {
        (scene.penstock.get("/readyz").await?.0 == 503).then_some(())
    })
    .await;
    let made = scene
        .gitlab
        .push(Push::new(PROJECT, "topic", "alice").write("a.txt", "a"))
        .delivery(scene.hook);
    assert_eq!(scene.post(&made).await.status, 503);
    limit("unlimited");
    until("a host that is ready", async || {
        (scene.penstock.get("/readyz").await?.0 == 200).then_some(())
    })
    .await;
    assert_eq!(scene.post(&made).await.status, 202);
    scene.run_of(&penstock_tests::burst::id(&made)).await;
}
