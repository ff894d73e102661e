//! The end of a failed step's log is shown where the place says so and GitLab says that few enough people see the project.

use penstock_doubles::gitlab::{Push, Visibility};
use penstock_tests::manifest::running;
use penstock_tests::scene::PROJECT;
use penstock_tests::{Builder, Plugin, Route, Scene, until};
use serde_json::{Value, json};

fn push() -> Push {
    Push::new(PROJECT, "topic", "alice").write("a.txt", format!("{}", rand::random::<u64>()))
}

/// A scene with pages of runs, whose place shows logs of projects that are seen by no more people than this.
fn scene(name: &str, excerpts: Option<&'static str>, rules: Value) -> Builder {
    Scene::builder(name)
        .plugin_by(
            Plugin::trigger_map("pipelines", rules),
            Route::to("pipelines").on(&["push", "run_finished"]),
        )
        .sealed()
        .edit(move |config| {
            let listen = config["listen"].as_str().unwrap().to_owned();
            config["public-url"] = format!("http://{listen}").into();
            config["clusters"][0]["links"] = "penstock".into();
            if let Some(excerpts) = excerpts {
                config["tenants"][0]["places"]["ci"]["policy"] =
                    json!({ "log-excerpts": excerpts });
            }
        })
}

fn failing(script: &str) -> Value {
    json!([
        { "name": "build", "on": ["push"], "template": running(script) },
        {
            "name": "told",
            "on": ["run_finished"],
            "when": "event.run.log_excerpt.contains('<b>boom</b>') && !event.run.log_excerpt.contains('glpat')",
            "template": running("true"),
        },
    ])
}

async fn page(scene: &Scene, commit: &str) -> String {
    let status = scene.status(commit, "build", "failed").await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = http.get(status["target_url"].as_str().unwrap()).send();
    answer.await.unwrap().text().await.unwrap()
}

/// What was kept of the first run's log.
async fn kept(scene: &Scene, delivery: &str) -> Value {
    scene.explain(delivery).await["runs"][0]["log_excerpt"].clone()
}

/// How many logs were asked for.
async fn reads(scene: &Scene) -> usize {
    let metrics = scene.penstock.metrics().await;
    let lines = metrics.lines();
    lines
        .filter(|line| line.contains("call=\"read-log\""))
        .count()
}

#[tokio::test]
async fn the_end_of_a_failed_step_s_log_is_shown_and_given_to_the_plugin_without_secrets() {
    // The host's own token, as a careless step would print it: split by an escape sequence, too.
    let token = format!("glpat-{}", uuid::Uuid::new_v4().simple());
    let (one, other) = token.split_at(12);
    let script = format!(
        "echo '\u{1b}[31m<b>boom</b>\u{1b}[0m'; echo token {token}; echo {one}\u{1b}[0m{other}; exit 3"
    );
    let written = token.clone();
    let scene = scene("log", Some("private"), failing(&script))
        .seed(move |world| {
            world.token(penstock_doubles::gitlab::Token::new(&written, "penstock"));
        })
        .edit(move |config| {
            let api = config["api-token"]["file"].as_str().unwrap();
            let file = api.replace("api-token", "another-gitlab-token");
            std::fs::write(&file, format!("{token}\n")).unwrap();
            config["gitlab"][0]["token"] = json!({ "file": file });
        })
        .start()
        .await;
    let change = scene.gitlab.push(push());
    let delivery = scene.send_one(&change).await;
    let page_of_run = page(&scene, &change.commit).await;
    assert!(
        page_of_run.contains("<pre>&lt;b&gt;boom&lt;/b&gt;\ntoken [redacted]\n[redacted]</pre>"),
        "{page_of_run}"
    );
    assert_eq!(
        kept(&scene, &delivery).await,
        "<b>boom</b>\ntoken [redacted]\n[redacted]"
    );
    // The rule reads it in the event of the run's end.
    scene.status(&change.commit, "told", "success").await;
    // Seen by more people from now on: the page that is open to them shows it no more.
    let mut scene = scene;
    scene
        .gitlab
        .edit(|world| _ = world.visibility(PROJECT, Visibility::Internal));
    scene.penstock.kill9();
    scene.penstock.restart().await;
    let now = page(&scene, &change.commit).await;
    assert!(
        now.contains("<h1>build: failed</h1>") && !now.contains("<pre>"),
        "{now}"
    );
}

#[tokio::test]
async fn no_log_is_read_where_nobody_asked_or_too_many_see_the_project() {
    let cases: [(&str, Option<&str>, Visibility); 3] = [
        ("log-unasked", None, Visibility::Private),
        ("log-public", Some("private"), Visibility::Public),
        ("log-internal", Some("private"), Visibility::Internal),
    ];
    for (name, asked, seen_by) in cases {
        let scene = scene(name, asked, failing("echo '<b>boom</b>'; exit 3"))
            .seed(move |world| _ = world.visibility(PROJECT, seen_by))
            .start()
            .await;
        let change = scene.gitlab.push(push());
        let delivery = scene.send_one(&change).await;
        let page = page(&scene, &change.commit).await;
        assert!(!page.contains("boom"), "{name}: {page}");
        assert_eq!(kept(&scene, &delivery).await, Value::Null, "{name}");
        assert_eq!(reads(&scene).await, 0, "{name}: no log was asked for");
    }
}

#[tokio::test]
async fn a_log_is_read_when_its_task_fails_though_the_run_goes_on() {
    let mut manifest = running("echo '<b>boom</b>'; exit 3");
    let task = |name: &str, script: &str| json!({ "name": name, "taskSpec": { "steps": [{ "name": "work", "image": "example.com/builder", "script": script }] } });
    manifest["spec"]["pipelineSpec"]["finally"] = json!([task("tidy", "sleep infinity")]);
    let rules = json!([{ "name": "build", "on": ["push"], "template": manifest }]);
    let scene = scene("log-early", Some("public"), rules)
        .seed(|world| _ = world.visibility(PROJECT, Visibility::Public))
        .start()
        .await;
    let change = scene.gitlab.push(push());
    let delivery = scene.send_one(&change).await;
    let told = until("the log of a run that goes on", async || {
        let told = scene.explain(&delivery).await;
        told["runs"][0]["log_excerpt"].is_string().then_some(told)
    })
    .await;
    assert_eq!(told["runs"][0]["state"], "running", "{told:#}");
    assert_eq!(told["runs"][0]["log_excerpt"], "<b>boom</b>");
}
