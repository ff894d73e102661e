//! Merge requests, those of forks among them, and comments.

use penstock_doubles::gitlab::{Access, Allowed, Proposal, Protected};
use penstock_model::event::EventKind;
use penstock_model::scope::Trust;

use super::{MEMBER, PROTECTED, UNCONFIRMED, UNTRUSTED, trust};
use crate::scene::{API, FORK, Scene, commit};

#[tokio::test]
async fn a_members_merge_request_is_a_members_and_a_strangers_comment_on_it_is_not() {
    let scene = Scene::new().await;
    let head = scene.push(API, "feature", "alice").commit;
    let change = scene.gitlab.propose(Proposal::new(API, "feature", "alice"));
    let found = scene.confirm(&change).await;
    assert_eq!(trust(&found), MEMBER);
    assert_eq!(
        (&found.commit, &found.head),
        (&Some(commit(&head)), &Some(commit(&head)))
    );
    assert_eq!(found.ref_name, Some("refs/heads/feature".into()));
    for (by, wanted) in [
        ("alice", MEMBER),
        ("maya", MEMBER),
        ("rita", UNTRUSTED),
        ("stranger", UNTRUSTED),
    ] {
        let note = scene.gitlab.comment(API, change.number, by, "/test");
        assert_eq!(trust(&scene.confirm(&note).await), wanted, "{by}");
    }
}

#[tokio::test]
async fn a_merge_request_from_a_fork_is_never_trusted_whoever_comments() {
    let scene = Scene::new().await;
    let head = scene.push(FORK, "feature", "mallory").commit;
    let change = scene
        .gitlab
        .propose(Proposal::new(API, "feature", "mallory").from_fork(FORK));
    let found = scene.confirm(&change).await;
    assert_eq!(trust(&found), UNTRUSTED);
    assert_eq!(found.commit, Some(commit(&head)));
    assert_eq!(
        found.provenance.source_project.unwrap().id,
        scene.project(FORK)
    );
    let note = scene
        .gitlab
        .comment(API, change.number, "maya", "/ok-to-test");
    assert_eq!(trust(&scene.confirm(&note).await), UNTRUSTED);
}

#[tokio::test]
async fn a_payload_that_hides_the_fork_is_found_out() {
    let scene = Scene::new().await;
    let _ = scene.push(FORK, "feature", "mallory");
    let own = scene.project(API).0;
    let change = scene
        .gitlab
        .propose(Proposal::new(API, "feature", "mallory").from_fork(FORK))
        .bend(|body| {
            body["object_attributes"]["source_project_id"] = own.into();
            body["object_attributes"]["author_id"] = 1.into();
        });
    let found = scene.confirm(&change).await;
    assert_eq!(trust(&found), UNTRUSTED);
    let EventKind::MergeRequest(event) = found.kind else {
        panic!()
    };
    assert_eq!(
        event.merge_request.source_project,
        Some(scene.project(FORK))
    );
    assert_eq!(event.merge_request.author, scene.user("mallory"));
}

#[tokio::test]
async fn a_comment_about_a_protected_branch_is_protected_only_for_whom_its_rules_let() {
    let scene = Scene::with(|world| {
        world.protect(
            API,
            Protected::new("release/*")
                .push(&[Allowed::Nobody])
                .merge(&[Allowed::From(Access::Maintainer)]),
        );
    })
    .await;
    let _ = scene.push(API, "release/1", "maya");
    let change = scene
        .gitlab
        .propose(Proposal::new(API, "release/1", "maya"));
    for (by, wanted) in [
        ("maya", PROTECTED),
        ("alice", (Trust::Member, true, true)),
        ("rita", (Trust::Untrusted, true, true)),
    ] {
        let note = scene.gitlab.comment(API, change.number, by, "/deploy");
        assert_eq!(trust(&scene.confirm(&note).await), wanted, "{by}");
    }
}

#[tokio::test]
async fn a_merge_request_whose_branch_is_gone_still_has_its_commit() {
    let scene = Scene::new().await;
    let _ = scene.push(API, "feature", "alice");
    let change = scene.gitlab.propose(Proposal::new(API, "feature", "alice"));
    let _ = scene.gitlab.close(API, change.number, "alice");
    let _ = scene.gitlab.delete_branch(API, "feature", "alice");
    assert_eq!(trust(&scene.confirm(&change).await), MEMBER);
}

#[tokio::test]
async fn a_commit_of_a_fork_is_not_ours_because_it_can_be_read() {
    let scene = Scene::new().await;
    let foreign = scene.push(FORK, "feature", "mallory").commit;
    let _ = scene
        .gitlab
        .propose(Proposal::new(API, "feature", "mallory").from_fork(FORK));
    let note = scene
        .gitlab
        .comment_on_commit(API, &foreign, "maya", "/test");
    assert_eq!(trust(&scene.confirm(&note).await), UNCONFIRMED);
    let ours = scene.push(API, "feature", "alice").commit;
    let note = scene.gitlab.comment_on_commit(API, &ours, "maya", "/test");
    let found = scene.confirm(&note).await;
    assert_eq!(trust(&found), MEMBER);
    assert_eq!((found.ref_name, found.commit), (None, Some(commit(&ours))));
}
