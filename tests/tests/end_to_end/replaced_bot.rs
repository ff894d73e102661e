//! Penstock's token is replaced by that of another user, in the middle of a run.

use penstock_doubles::gitlab::{Access, Proposal, Push, Token};
use penstock_tests::manifest::running;
use penstock_tests::scene::PROJECT;
use penstock_tests::{Plugin, Route, Scene, until};
use serde_json::{Value, json};

const NEW: &str = "penstock-two";

/// Comments that either of the two users wrote.
fn own(scene: &Scene, iid: u64) -> Vec<Value> {
    let mut notes = scene.gitlab.notes(PROJECT, iid);
    let by_us = |note: &Value| {
        let author = note["author"]["username"].as_str();
        author.is_some_and(|it| it == "penstock" || it == NEW)
    };
    notes.retain(by_us);
    notes
}

#[tokio::test]
async fn what_the_earlier_user_began_is_gone_on_with_and_its_deeds_start_nothing() {
    let rules = json!([
        { "name": "build", "on": ["merge_request"], "template": running("echo built") },
        { "name": "greet", "on": ["merge_request"], "comment": "The head is $(event.commit)." },
    ]);
    let scene = Scene::builder("replaced")
        .plugin_by(
            Plugin::trigger_map("pipelines", rules),
            Route::to("pipelines").on(&["merge_request", "push"]),
        )
        .start()
        .await;
    scene.place.hold_pods().await.unwrap();
    let push = |by: &str, content: &str| {
        scene
            .gitlab
            .push(Push::new(PROJECT, "topic", by).write("a.txt", content.to_owned()))
    };
    drop(push("alice", "one"));
    let proposed = scene
        .gitlab
        .propose(Proposal::new(PROJECT, "topic", "alice"));
    scene.send_one(&proposed).await;
    scene.status(&proposed.commit, "build", "running").await;
    let first = until("the comment", async || own(&scene, proposed.number).pop()).await;

    let token = format!("glpat-{}", uuid::Uuid::new_v4().simple());
    let old = secret(&scene, "GitLab's token");
    scene.gitlab.edit(|world| {
        world.bot(NEW).member("acme", NEW, Access::Maintainer);
        world.token(Token::new(&token, NEW)).revoke(&old);
    });
    let file = scene.folder().join("secrets").join("gitlab-token");
    scene.replace(&file, &format!("{token}\n"));
    scene
        .penstock
        .logged("a changed configuration is in force")
        .await;

    // GitLab finds a running status again for its own user alone: the new one gets a row of its own, and that is the one that counts.
    scene.place.let_pods_finish().await.unwrap();
    let ended = scene.status(&proposed.commit, "build", "success").await;
    assert_eq!(ended["author"]["username"], NEW);
    let counted = format!(
        "{}/api/v4/projects/{}/repository/commits/{}/statuses",
        scene.gitlab.url(),
        scene.gitlab.edit(|world| world.project_id(PROJECT)),
        proposed.commit
    );
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let asked = http.get(counted).header("PRIVATE-TOKEN", &token).send();
    let counted: Vec<Value> = asked.await.unwrap().json().await.unwrap();
    assert_eq!(counted.len(), 1, "nothing runs for ever: {counted:#?}");
    assert_eq!(counted[0]["status"], "success");

    // One comment still, and it is brought up to date.
    let moved = push("alice", "two");
    scene.send(&moved).await;
    let notes = until("the comment about the new head", async || {
        let notes = own(&scene, proposed.number);
        let newest = |note: &Value| note["body"].as_str().unwrap().contains(&moved.commit);
        notes.iter().any(newest).then_some(notes)
    })
    .await;
    assert_eq!(notes.len(), 1, "{notes:#?}");
    assert_eq!(notes[0]["id"], first["id"]);

    // What the earlier user still does is Penstock's own.
    let sent = scene.send(&push("penstock", "by the earlier user")).await;
    for delivery in sent {
        let told = scene.outcome(&delivery, "unrouted").await;
        let why = told["delivery"]["why"].as_str().unwrap();
        assert!(why.contains("own user"), "{told:#}");
    }
}

fn secret(scene: &Scene, what: &str) -> String {
    let found = scene.secrets.iter().find(|(name, _)| *name == what);
    found.unwrap().1.clone()
}
