//! From a webhook to a run and back to a status.

use penstock_doubles::gitlab::{Proposal, Push};
use penstock_tests::manifest::{running, short_lived};
use penstock_tests::scene::{PROJECT, annotation};
use penstock_tests::{Plugin, Route, Scene, until};
use serde_json::json;

fn push(branch: &str) -> Push {
    Push::new(PROJECT, branch, "alice").write("a.txt", format!("{}", rand::random::<u64>()))
}

#[tokio::test]
async fn a_push_starts_a_run_under_the_place_s_accounts_and_its_success_comes_back_as_a_status() {
    let rules = json!([{
        "name": "build",
        "on": ["push"],
        "params": { "revision": "$(event.commit)" },
        "template": {
            "apiVersion": "tekton.dev/v1",
            "kind": "PipelineRun",
            "spec": {
                "params": [{ "name": "revision", "value": "$(tt.params.revision)" }],
                "pipelineSpec": {
                    "params": [{ "name": "revision" }],
                    "tasks": [{ "name": "build", "taskSpec": { "steps": [
                        { "name": "compile", "image": "example.com/builder", "script": "echo built" },
                    ] } }],
                },
            },
        },
    }]);
    let scene = Scene::builder("success")
        .plugin(Plugin::trigger_map("pipelines", rules))
        .start()
        .await;
    // It does not end before it was told of.
    scene.place.hold_pods().await.unwrap();
    let change = scene.gitlab.push(push("topic"));
    let delivery = scene.send_one(&change).await;

    let run = scene.run_of(&delivery).await;
    let name = run.metadata.name.clone().unwrap();
    assert_eq!(run.data["spec"]["params"][0]["value"], change.commit);
    assert_eq!(
        run.data["spec"]["taskRunTemplate"]["serviceAccountName"],
        "run-as"
    );
    let creator = format!("system:serviceaccount:{}:creator", scene.place.namespace());
    let by = until("the creation in the audit log", async || {
        scene.creations().remove(&name)
    })
    .await;
    assert_eq!(by, [creator], "created once, with the creator's own token");

    scene.status(&change.commit, "build", "running").await;
    scene.place.let_pods_finish().await.unwrap();
    let status = scene.status(&change.commit, "build", "success").await;
    assert_eq!(status["ref"], "topic");
    let link = format!(
        "https://tekton.example.com/{}/{name}",
        scene.place.namespace()
    );
    assert_eq!(status["target_url"], link);
    let posted = scene.posted(&change.commit, "build");
    assert_eq!(
        posted.last().map(String::as_str),
        Some("success"),
        "{posted:?}"
    );
    assert!(
        posted.iter().any(|state| state == "running"),
        "it was told while it ran: {posted:?}"
    );
    assert_eq!(
        scene.gitlab.statuses(PROJECT, &change.commit).len(),
        1,
        "one status that moved on"
    );
}

#[tokio::test]
async fn a_run_leads_back_to_the_delivery_the_commit_and_the_plugin() {
    let plugin = Plugin::starts("pipelines", &short_lived());
    let digest = penstock_tests::plugin::digest(&plugin.file);
    let scene = Scene::builder("labels").plugin(plugin).start().await;
    let change = scene.gitlab.push(push("topic"));
    let delivery = scene.send_one(&change).await;

    let run = scene.run_of(&delivery).await;
    let labels = run.metadata.labels.clone().unwrap();
    assert_eq!(labels["app.kubernetes.io/managed-by"], "penstock");
    assert_eq!(labels["penstock.dev/commit"], change.commit[..40]);
    assert_eq!(labels["penstock.dev/pipeline"], "build");
    assert_eq!(
        labels["penstock.dev/project-id"],
        scene
            .gitlab
            .edit(|world| world.project_id(PROJECT))
            .to_string()
    );
    for (name, expect) in [
        ("penstock.dev/delivery", delivery.as_str()),
        ("penstock.dev/project", PROJECT),
        ("penstock.dev/ref", "refs/heads/topic"),
        ("penstock.dev/plugin", "pipelines"),
        ("penstock.dev/plugin-digest", digest.as_str()),
        ("penstock.dev/trust", "member"),
    ] {
        assert_eq!(annotation(&run, name), expect, "{name}");
    }
    assert!(annotation(&run, "penstock.dev/delivery-url").ends_with(&delivery));
    let id = annotation(&run, "penstock.dev/effect-id");
    let explained = scene
        .penstock
        .command(&["explain", run.metadata.name.as_deref().unwrap()])
        .await
        .json();
    assert_eq!(explained["delivery"]["delivery"], delivery);
    assert_eq!(explained["runs"][0]["id"], id);
}

#[tokio::test]
async fn a_run_that_fails_becomes_a_failed_status_that_names_the_task_and_the_step() {
    let scene = Scene::builder("failure")
        .plugin(Plugin::starts("pipelines", &running("echo no; exit 3")))
        .start()
        .await;
    let change = scene.gitlab.push(push("topic"));
    scene.send_one(&change).await;
    let status = scene.status(&change.commit, "build", "failed").await;
    let said = status["description"].as_str().unwrap();
    assert!(
        said.contains("`build`") && said.contains("`compile`") && said.contains('3'),
        "{said}"
    );
}

#[tokio::test]
async fn a_merge_request_starts_a_run_whose_status_stands_on_its_head() {
    let scene = Scene::builder("merge").plugin_by(
        Plugin::starts("pipelines", &running("echo built")),
        Route::to("pipelines").on(&["merge_request"]),
    );
    let scene = scene.start().await;
    drop(scene.gitlab.push(push("topic")));
    let proposed = scene
        .gitlab
        .propose(Proposal::new(PROJECT, "topic", "alice"));
    let delivery = scene.send_one(&proposed).await;
    let run = scene.run_of(&delivery).await;
    assert_eq!(
        run.metadata.labels.as_ref().unwrap()["penstock.dev/merge-request"],
        proposed.number.to_string()
    );
    scene.status(&proposed.commit, "build", "success").await;
}

#[tokio::test]
async fn a_comment_is_one_comment_that_is_edited_when_something_new_is_said() {
    let rules = json!([{ "name": "greet", "on": ["merge_request"], "comment": "The head is $(event.commit)." }]);
    let scene = Scene::builder("comment")
        .plugin(Plugin::trigger_map("greeter", rules))
        .start()
        .await;
    drop(scene.gitlab.push(push("topic")));
    let proposed = scene
        .gitlab
        .propose(Proposal::new(PROJECT, "topic", "alice"));
    scene.send_one(&proposed).await;
    let says = async |commit: &str| {
        until("the comment", async || {
            let notes = scene.gitlab.notes(PROJECT, proposed.number);
            notes.into_iter().find(|note| {
                note["body"]
                    .as_str()
                    .is_some_and(|body| body.contains(commit))
            })
        })
        .await
    };
    let first = says(&proposed.commit).await;
    assert_eq!(first["author"]["username"], "penstock");

    let moved = scene.gitlab.push(push("topic"));
    scene.send(&moved).await;
    let second = says(&moved.commit).await;
    assert_eq!(second["id"], first["id"], "the same comment");
    scene.settled().await;
    let own = scene.gitlab.notes(PROJECT, proposed.number);
    let own = own
        .iter()
        .filter(|note| note["author"]["username"] == "penstock")
        .count();
    assert_eq!(own, 1, "and no other");
}

#[tokio::test]
async fn observe_decides_and_records_and_does_nothing() {
    let scene = Scene::builder("observe").plugin_by(
        Plugin::starts("pipelines", &short_lived()),
        Route::to("pipelines").observe(),
    );
    let scene = scene.start().await;
    let change = scene.gitlab.push(push("topic"));
    let delivery = scene.send_one(&change).await;
    let told = scene.outcome(&delivery, "decided").await;
    assert_eq!(told["routes"][0]["mode"], "observe");
    assert_eq!(
        told["routes"][0]["admitted"][0]["kind"], "start-run",
        "{told:#}"
    );
    scene.settled().await;
    assert!(scene.runs().await.is_empty());
    assert!(scene.gitlab.statuses(PROJECT, &change.commit).is_empty());
}

#[tokio::test]
async fn what_penstock_s_own_user_does_starts_nothing() {
    let scene = Scene::builder("own")
        .plugin(Plugin::starts("pipelines", &short_lived()))
        .start()
        .await;
    let change = scene
        .gitlab
        .push(Push::new(PROJECT, "topic", "penstock").write("a.txt", "by the bot"));
    let delivery = scene.send_one(&change).await;
    let told = scene.outcome(&delivery, "unrouted").await;
    assert!(
        told["delivery"]["why"]
            .as_str()
            .unwrap()
            .contains("own user"),
        "{told:#}"
    );
    assert!(scene.runs().await.is_empty());
}

#[tokio::test]
async fn a_run_that_is_deleted_before_its_outcome_was_read_becomes_canceled() {
    let scene = Scene::builder("deleted")
        .plugin(Plugin::starts("pipelines", &running("sleep infinity")))
        .start()
        .await;
    let change = scene.gitlab.push(push("topic"));
    let delivery = scene.send_one(&change).await;
    let run = scene.run_of(&delivery).await;
    scene.status(&change.commit, "build", "running").await;
    scene
        .runs_api()
        .await
        .delete(run.metadata.name.as_deref().unwrap(), &Default::default())
        .await
        .unwrap();
    let status = scene.status(&change.commit, "build", "canceled").await;
    let said = status["description"].as_str().unwrap();
    assert!(
        said.contains("deleted before its outcome was read"),
        "{said}"
    );
    scene.settled().await;
    assert!(
        scene.runs_by_delivery().await.is_empty(),
        "what was done once is not done again because its object is gone"
    );
}
