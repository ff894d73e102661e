//! Every error over HTTP names its request, and the log has a line under that name.

use std::collections::BTreeSet;

use penstock_doubles::gitlab::Push;
use penstock_tests::manifest::short_lived;
use penstock_tests::scene::PROJECT;
use penstock_tests::{Plugin, Scene, until};
use reqwest::{Client, Method, Response};
use serde_json::Value;

const BROUGHT: &str = "chosen-by-the-network";

async fn ask(http: &Client, scene: &Scene, method: Method, path: &str) -> Response {
    http.request(method, format!("{}{path}", scene.url()))
        .header("x-request-id", BROUGHT)
        .body("{}")
        .send()
        .await
        .unwrap()
}

fn header(answer: &Response) -> String {
    answer.headers()["x-request-id"]
        .to_str()
        .unwrap()
        .to_owned()
}

#[tokio::test]
async fn every_error_names_its_request_and_so_does_the_log() {
    let scene = Scene::builder("request-id")
        .plugin(Plugin::starts("pipelines", &short_lived()))
        .start()
        .await;
    let http = Client::builder().no_proxy().build().unwrap();
    let mut ids = BTreeSet::new();
    for (method, path, status, says) in [
        (Method::GET, "/nowhere", 404, "Not Found"),
        (
            Method::GET,
            "/hooks/gitlab/main/acme",
            405,
            "Method Not Allowed",
        ),
        (Method::POST, "/hooks/gitlab/main/acme", 401, ""),
        (
            Method::POST,
            "/hooks/gitlab/main/nobody",
            404,
            "no such hook",
        ),
        (Method::POST, "/incoming", 400, "repository"),
        (Method::GET, "/api/v1/deliveries", 401, "Bearer"),
        (Method::GET, "/api/v1/deliveries?limit=x", 400, "limit"),
    ] {
        let answer = ask(&http, &scene, method, path).await;
        assert_eq!(answer.status().as_u16(), status, "{path}");
        let id = header(&answer);
        let body: Value = answer.json().await.unwrap();
        assert_eq!(body["request"], id, "{path}: {body}");
        let said = body["error"].as_str().unwrap();
        assert!(!said.is_empty() && said.contains(says), "{path}: {body}");
        scene.penstock.logged(&id).await;
        assert!(ids.insert(id), "{path}: an id is used once");
    }
    let page = ask(&http, &scene, Method::GET, "/runs/nothing").await;
    assert_eq!(page.status(), 403);
    let id = header(&page);
    assert!(page.text().await.unwrap().contains(&id));
    scene.penstock.logged(&id).await;

    // What goes well is found by it too.
    let change = scene
        .gitlab
        .push(Push::new(PROJECT, "topic", "alice").write("a.txt", "a"));
    let delivery = scene.send_one(&change).await;
    // The log is written by a thread of its own, a moment later; and whoever decides it may be quicker to name it.
    let line = until("the line of its receipt", async || {
        let logs = scene.penstock.logs();
        let is_it = |line: &&str| line.contains("received a delivery") && line.contains(&delivery);
        logs.lines().find(is_it).map(str::to_owned)
    })
    .await;
    let line: Value = serde_json::from_str(&line).unwrap();
    assert!(line["span"]["request.id"].is_string(), "{line}");
    assert!(!scene.penstock.logs().contains(BROUGHT));
}
