//! What a demo asks of the GitLab stand-in over HTTP.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

use penstock_doubles::gitlab::{GitLab, World};
use serde_json::{Value, json};

async fn post(gitlab: &GitLab, path: &str, body: Value) -> (u16, Value) {
    let url = format!("{}/_double/{path}", gitlab.url());
    let response = reqwest::Client::new()
        .post(url)
        .json(&body)
        .send()
        .await
        .unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

#[tokio::test]
async fn a_demo_seeds_acts_breaks_and_reads_the_journal_over_http() {
    let gitlab = GitLab::start(World::new()).await;
    let seed = json!({
        "users": ["alice"],
        "bots": ["penstock"],
        "groups": ["acme"],
        "projects": [{ "path": "acme/api", "files": { ".tekton/ci.yaml": "a: 1" } }],
        "members": [{ "path": "acme", "user": "alice", "access": "developer" }],
        "tokens": [{ "secret": "of alice", "user": "alice", "scopes": ["read_api"] }],
        "hooks": [{ "group": "acme", "url": "http://127.0.0.1:9/", "token": "secret" }],
    });
    let (status, planted) = post(&gitlab, "seed", seed).await;
    assert_eq!(status, 200, "{planted}");
    let push = json!({ "action": "push", "project": "acme/api", "branch": "f", "by": "alice", "files": { "a": "1" } });
    let (_, pushed) = post(&gitlab, "do", push).await;
    assert_eq!(pushed["sent"][0]["hook"], planted["hooks"][0]);
    assert_eq!(
        pushed["sent"][0]["status"],
        Value::Null,
        "nobody listens there"
    );
    let propose =
        json!({ "action": "propose", "project": "acme/api", "branch": "f", "by": "alice" });
    assert_eq!(post(&gitlab, "do", propose).await.1["number"], 1);
    let nobody = json!({ "action": "merge", "project": "acme/api", "iid": 2, "by": "alice" });
    assert_eq!(
        post(&gitlab, "do", nobody).await,
        (400, json!({ "error": "there is no merge request !2" }))
    );

    post(
        &gitlab,
        "faults",
        json!({ "path": "/version", "how": { "status": 503 }, "times": 1 }),
    )
    .await;
    let version = format!("{}/api/v4/version", gitlab.url());
    let ask = async || {
        reqwest::Client::new()
            .get(&version)
            .bearer_auth("of alice")
            .send()
            .await
            .unwrap()
            .status()
    };
    assert_eq!((ask().await.as_u16(), ask().await.as_u16()), (503, 200));
    let journal: Value = reqwest::get(format!("{}/_double/journal", gitlab.url()))
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(journal[0]["status"], 503);
    assert_eq!(journal[1]["user"], "alice");
    assert_eq!(
        journal.as_array().unwrap().len(),
        2,
        "the stand-in's own paths are not in it"
    );
}
