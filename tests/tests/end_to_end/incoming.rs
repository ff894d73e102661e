//! `/incoming` of Pipelines-as-Code: whoever holds the secret asks for a run of a branch, with parameters.

use penstock_doubles::gitlab::Push;
use penstock_tests::manifest::short_lived;
use penstock_tests::scene::{PROJECT, annotation};
use penstock_tests::{Plugin, Route, Scene};
use serde_json::{Value, json};

const SECRET: &str = "incoming-secret-of-the-api";

async fn scene(name: &str) -> Scene {
    let mut manifest = short_lived();
    manifest["spec"]["params"] = json!([{ "name": "version", "value": "$(tt.params.version)" }]);
    let rules = json!([{
        "name": "nightly",
        "on": ["request"],
        "params": { "version": { "cel": "event.request.parameters.version", "default": "none" } },
        "template": manifest,
    }]);
    let mut scene = Scene::builder(name)
        .plugin_by(
            Plugin::trigger_map("pipelines", rules),
            Route::to("pipelines").on(&["request"]),
        )
        .prepare()
        .await;
    let secret = scene.folder().join("secrets/incoming");
    std::fs::write(&secret, SECRET).unwrap();
    let id = scene.gitlab.edit(|world| world.project_id(PROJECT));
    scene.reconfigure(|config| {
        config["gitlab"][0]["incoming"] = json!([{
            "name": "api",
            "project": PROJECT,
            "project-id": id,
            "secret": { "file": secret },
            "targets": ["main", "release/*"],
            "params": ["version"],
        }]);
    });
    scene.penstock.restart().await;
    scene
}

#[tokio::test]
async fn whoever_holds_the_secret_starts_a_run_of_the_branch_s_head() {
    let mut scene = scene("incoming").await;
    let head = scene
        .gitlab
        .push(Push::new(PROJECT, "main", "maria").write("a.txt", "a"))
        .commit;
    let body = json!({
        "repository": "api", "branch": "main", "pipelinerun": "nightly", "secret": SECRET,
        "namespace": "ignored", "params": { "version": 7 },
    });
    let (status, told) = scene.incoming(&body).await;
    assert_eq!(
        (status, &told["status"]),
        (202, &json!("accepted")),
        "{told:#}"
    );
    // What was answered with a 2xx outlives the process.
    scene.penstock.kill9();
    scene.penstock.restart().await;
    let delivery = told["delivery"].as_str().unwrap();
    let run = scene.run_of(delivery).await;
    assert_eq!(annotation(&run, "penstock.dev/commit"), head);
    assert_eq!(annotation(&run, "penstock.dev/ref"), "refs/heads/main");
    assert_eq!(annotation(&run, "penstock.dev/trust"), "member");
    assert_eq!(run.data["spec"]["params"][0]["value"], "7");
    let told = scene.outcome(delivery, "decided").await;
    assert_eq!(told["delivery"]["kind"], "incoming");

    let store = std::fs::read(scene.store_path()).unwrap();
    let there = store
        .windows(SECRET.len())
        .any(|part| part == SECRET.as_bytes());
    assert!(!there && !scene.penstock.logs().contains(SECRET));
}

#[tokio::test]
async fn a_request_without_the_right_is_turned_away_and_leaves_nothing() {
    let scene = scene("incoming-refused").await;
    let with = |change: Value| {
        let mut body = json!({ "repository": "api", "branch": "main", "secret": SECRET });
        for (name, value) in change.as_object().unwrap() {
            body[name] = value.clone();
        }
        body
    };
    for (change, expect) in [
        (json!({ "secret": "wrong" }), 401),
        (json!({ "secret": "" }), 400),
        (json!({ "repository": "web" }), 401),
        (json!({ "branch": "topic" }), 403),
        (json!({ "branch": null }), 400),
        (json!({ "params": { "image": "evil" } }), 403),
        (json!({ "params": "version" }), 400),
    ] {
        let (status, told) = scene.incoming(&with(change.clone())).await;
        assert_eq!(status, expect, "{change} {told}");
    }
    let kept = scene.penstock.command(&["deliveries", "list"]).await.json();
    assert_eq!(kept, json!([]));

    // A webhook's body that calls itself so is no such request.
    let project = scene.gitlab.edit(|world| world.project_id(PROJECT));
    let forged = json!({
        "object_kind": "incoming", "ref": "refs/heads/main", "pipelinerun": "nightly", "params": [],
        "project": { "id": project, "path_with_namespace": PROJECT },
    });
    let push = scene
        .gitlab
        .push(Push::new(PROJECT, "topic", "alice").write("a.txt", "a"));
    let delivery = push.delivery(scene.hook);
    let body = forged.to_string();
    let signed = |body: &str| {
        let key = &scene
            .secrets
            .iter()
            .find(|(what, _)| *what == "the signing token")
            .unwrap()
            .1;
        let header = |name: &str| delivery.headers[name].to_str().unwrap();
        penstock_doubles::gitlab::sign(
            &format!("whsec_{key}"),
            header("webhook-id"),
            header("webhook-timestamp"),
            body.as_bytes(),
        )
    };
    let mut headers = delivery.headers.clone();
    headers.insert("webhook-signature", signed(&body).parse().unwrap());
    let answer = scene
        .poster()
        .post_to(&scene.hook_url("acme"), headers, body)
        .await
        .unwrap();
    let told = scene.outcome(&answer.delivery(), "unrouted").await;
    assert_eq!(told["runs"], json!([]), "{told:#}");
}
