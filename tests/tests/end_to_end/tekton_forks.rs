//! Merge requests from forks of a project with a `.tekton` folder: nothing runs before it is allowed, and what is allowed is one commit.

use penstock_doubles::gitlab::{Proposal, Push};
use penstock_tests::scene::{FORK, PROJECT, annotation};
use penstock_tests::{Scene, until};
use serde_json::json;

use crate::tekton::{BUILT, comment, comments, for_forks, pipeline, plugin, route};

#[tokio::test]
async fn an_allowance_is_for_the_commit_at_which_it_was_written_and_for_no_later_one() {
    let scene = Scene::builder("tekton-allowed")
        .plugin_by(
            for_forks(plugin(json!({ "on-no-match": "success" }))),
            route(),
        )
        .place_for_forks()
        .start()
        .await;
    let forks = scene.fork_place.as_ref().unwrap();
    let change = |text: &str| {
        Push::new(FORK, "mend", "mallory")
            .write(
                ".tekton/test.yaml",
                pipeline("test", "pull_request", "main", BUILT, ""),
            )
            .write("a.txt", text.to_owned())
    };
    drop(scene.gitlab.push(change("one")));
    let proposed = scene
        .gitlab
        .propose(Proposal::new(PROJECT, "mend", "mallory").from_fork(FORK));
    let iid = proposed.number;
    scene.send_one(&proposed).await;
    let short = |commit: &str| commit.chars().take(12).collect::<String>();
    comment(&scene, iid, "what it waits for", |body| {
        body.contains("/ok-to-test") && body.contains(&short(&proposed.commit))
    })
    .await;

    // Written at the first commit, and it comes when there is a second: it is for the first.
    let late = scene.gitlab.comment(PROJECT, iid, "alice", "/ok-to-test");
    let newer = scene.gitlab.push(change("two"));
    scene.send(&newer).await;
    comment(&scene, iid, "the newer commit", |body| {
        body.contains("/ok-to-test") && body.contains(&short(&newer.commit))
    })
    .await;
    let delivery = scene.send_one(&late).await;
    scene.outcome(&delivery, "decided").await;
    scene.settled().await;
    let of_newer = async || {
        let mut runs = scene.runs_in(forks).await;
        runs.retain(|run| annotation(run, "penstock.dev/commit") == newer.commit);
        runs
    };
    assert!(of_newer().await.is_empty(), "nobody allowed this commit");
    // A developer's other commands don't stand for it, nor does another commit's name.
    for text in [
        "/test",
        "/test test",
        &format!("/ok-to-test {}", proposed.commit),
    ] {
        let asked = scene.gitlab.comment(PROJECT, iid, "alice", text);
        let delivery = scene.send_one(&asked).await;
        scene.outcome(&delivery, "decided").await;
    }
    scene.settled().await;
    assert!(of_newer().await.is_empty());
    let text = format!("/ok-to-test {}", short(&newer.commit));
    let asked = scene.gitlab.comment(PROJECT, iid, "alice", &text);
    scene.send_one(&asked).await;
    let run = until("the newer commit's run", async || of_newer().await.pop()).await;
    assert_eq!(annotation(&run, "penstock.dev/trust"), "untrusted");
    assert!(
        scene.runs().await.is_empty(),
        "none in the place for members"
    );
    comment(&scene, iid, "the run's end", |body| {
        body.contains("✅ succeeded") && !body.contains("/ok-to-test")
    })
    .await;
    assert_eq!(comments(&scene, iid).len(), 1);
}

#[tokio::test]
async fn without_a_place_for_forks_nothing_starts_and_the_merge_request_says_why() {
    let scene = Scene::builder("tekton-no-place")
        .plugin_by(for_forks(plugin(json!({}))), route())
        .start()
        .await;
    drop(scene.gitlab.push(Push::new(FORK, "mend", "mallory").write(
        ".tekton/test.yaml",
        pipeline("test", "pull_request", "main", BUILT, ""),
    )));
    let proposed = scene
        .gitlab
        .propose(Proposal::new(PROJECT, "mend", "mallory").from_fork(FORK));
    let iid = proposed.number;
    scene.send_one(&proposed).await;
    let allowed = scene.gitlab.comment(PROJECT, iid, "alice", "/ok-to-test");
    scene.send_one(&allowed).await;
    comment(&scene, iid, "the reason", |body| {
        body.contains("no place of this tenant takes runs of forks")
    })
    .await;
    scene.settled().await;
    assert!(scene.runs().await.is_empty());
}
