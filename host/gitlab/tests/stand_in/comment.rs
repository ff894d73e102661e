//! One living comment, whatever is lost, doubled or forged.

use penstock_doubles::gitlab::{Access, Break, Fault, Proposal, Token};
use penstock_gitlab::{ActError, CommentOutcome, comment};
use penstock_model::admit::CommentOrder;
use penstock_model::effect::CommentTarget;

use crate::scene::{API, Scene, commit};

fn order(scene: &Scene, target: CommentTarget, body: Option<&str>) -> CommentOrder {
    CommentOrder {
        of: scene.of(),
        plugin: "pipelines".into(),
        key: "summary".into(),
        target,
        body: body.map(str::to_owned),
    }
}

async fn opened() -> (Scene, u64) {
    let scene = Scene::new().await;
    let _ = scene.push(API, "feature", "alice");
    let iid = scene
        .gitlab
        .propose(Proposal::new(API, "feature", "alice"))
        .number;
    (scene, iid)
}

#[tokio::test]
async fn a_comment_is_written_once_edited_and_taken_away() {
    let (scene, iid) = opened().await;
    let write = |body: Option<&str>| order(&scene, CommentTarget::MergeRequest(iid), body);
    let first = comment(&scene.client, &write(Some("one")), &scene.own)
        .await
        .unwrap();
    let CommentOutcome::Created(id) = first else {
        panic!("{first:?}")
    };
    for (body, wanted) in [
        (Some("one"), CommentOutcome::Unchanged(id)),
        (Some("two"), CommentOutcome::Edited(id)),
        (None, CommentOutcome::Removed),
        (None, CommentOutcome::Absent),
    ] {
        // Another process has nothing in memory.
        let client = scene.client_of("glpat-ours");
        assert_eq!(comment(&client, &write(body), &scene.own).await, Ok(wanted));
    }
    assert!(scene.gitlab.notes(API, iid).is_empty());
}

#[tokio::test]
async fn a_lost_answer_does_not_double_it() {
    let (scene, iid) = opened().await;
    scene
        .gitlab
        .order(Fault::new("POST", "/notes", Break::LoseAnswer).times(1));
    let order = order(&scene, CommentTarget::MergeRequest(iid), Some("one"));
    let lost = comment(&scene.client, &order, &scene.own).await;
    assert!(matches!(lost, Err(ActError::Retry { .. })), "{lost:?}");
    let again = comment(&scene.client, &order, &scene.own).await.unwrap();
    assert!(matches!(again, CommentOutcome::Unchanged(_)), "{again:?}");
    assert_eq!(scene.gitlab.notes(API, iid).len(), 1);
}

#[tokio::test]
async fn two_at_once_are_one() {
    let (scene, iid) = opened().await;
    let (one, two) = (
        order(&scene, CommentTarget::MergeRequest(iid), Some("one")),
        order(&scene, CommentTarget::MergeRequest(iid), Some("two")),
    );
    let (left, right) = tokio::join!(
        comment(&scene.client, &one, &scene.own),
        comment(&scene.client, &two, &scene.own)
    );
    assert!(left.is_ok() && right.is_ok(), "{left:?} {right:?}");
    assert_eq!(scene.gitlab.notes(API, iid).len(), 1);
}

#[tokio::test]
async fn a_marker_that_somebody_else_wrote_is_no_comment_of_ours() {
    let (scene, iid) = opened().await;
    let target = || CommentTarget::MergeRequest(iid);
    comment(
        &scene.client,
        &order(&scene, target(), Some("ours")),
        &scene.own,
    )
    .await
    .unwrap();
    let ours = scene.gitlab.notes(API, iid)[0]["body"]
        .as_str()
        .unwrap()
        .to_owned();
    comment(&scene.client, &order(&scene, target(), None), &scene.own)
        .await
        .unwrap();
    let _ = scene.gitlab.comment(API, iid, "mallory", &ours);
    // A plugin's text may hold another plugin's marker, but never in the first line.
    let forged = CommentOrder {
        plugin: "evil".into(),
        ..order(&scene, target(), Some(&ours))
    };
    comment(&scene.client, &forged, &scene.own).await.unwrap();
    let found = comment(
        &scene.client,
        &order(&scene, target(), Some("new")),
        &scene.own,
    )
    .await
    .unwrap();
    assert!(matches!(found, CommentOutcome::Created(_)), "{found:?}");
    assert_eq!(scene.gitlab.notes(API, iid).len(), 3);
}

#[tokio::test]
async fn a_comment_behind_more_than_a_hundred_others_is_found() {
    let (scene, iid) = opened().await;
    for number in 0..120 {
        let _ = scene
            .gitlab
            .comment(API, iid, "alice", &format!("{number}"));
    }
    let order = order(&scene, CommentTarget::MergeRequest(iid), Some("ours"));
    let first = comment(&scene.client, &order, &scene.own).await.unwrap();
    let CommentOutcome::Created(id) = first else {
        panic!("{first:?}")
    };
    let client = scene.client_of("glpat-ours");
    assert_eq!(
        comment(&client, &order, &scene.own).await,
        Ok(CommentOutcome::Unchanged(id))
    );
}

#[tokio::test]
async fn other_keys_and_plugins_have_comments_of_their_own() {
    let (scene, iid) = opened().await;
    let base = order(&scene, CommentTarget::MergeRequest(iid), Some("x"));
    let other_key = CommentOrder {
        key: "other".into(),
        ..base.clone()
    };
    let other_plugin = CommentOrder {
        plugin: "other".into(),
        ..base.clone()
    };
    for order in [&base, &other_key, &other_plugin] {
        assert!(matches!(
            comment(&scene.client, order, &scene.own).await,
            Ok(CommentOutcome::Created(_))
        ));
    }
}

#[tokio::test]
async fn an_earlier_bots_comment_is_edited_where_we_may_and_else_written_anew() {
    for (access, edited) in [(Access::Maintainer, true), (Access::Reporter, false)] {
        let (scene, iid) = opened().await;
        let order = order(&scene, CommentTarget::MergeRequest(iid), Some("one"));
        comment(&scene.client, &order, &scene.own).await.unwrap();
        scene.gitlab.edit(|world| {
            world
                .bot("newer")
                .member("acme", "newer", access)
                .token(Token::new("glpat-newer", "newer"));
        });
        let order = CommentOrder {
            body: Some("two".into()),
            ..order
        };
        let found = comment(&scene.client_of("glpat-newer"), &order, &scene.own)
            .await
            .unwrap();
        assert_eq!(
            matches!(found, CommentOutcome::Edited(_)),
            edited,
            "{found:?}"
        );
    }
}

#[tokio::test]
async fn quick_actions_of_a_plugin_reach_gitlab_without_power() {
    let (scene, iid) = opened().await;
    comment(
        &scene.client,
        &order(
            &scene,
            CommentTarget::MergeRequest(iid),
            Some("/merge\n/approve"),
        ),
        &scene.own,
    )
    .await
    .unwrap();
    let notes = scene.gitlab.notes(API, iid);
    let body = notes[0]["body"].as_str().unwrap();
    assert!(
        body.lines().all(|line| !line.trim_start().starts_with('/')),
        "{body:?}"
    );
}

#[tokio::test]
async fn a_commits_comment_lives_like_a_merge_requests() {
    let scene = Scene::new().await;
    let sha = scene.push(API, "feature", "alice").commit;
    let write = |body: Option<&str>| order(&scene, CommentTarget::Commit(commit(&sha)), body);
    let first = comment(&scene.client, &write(Some("one")), &scene.own)
        .await
        .unwrap();
    let CommentOutcome::Created(id) = first else {
        panic!("{first:?}")
    };
    let client = scene.client_of("glpat-ours");
    assert_eq!(
        comment(&client, &write(Some("two")), &scene.own).await,
        Ok(CommentOutcome::Edited(id))
    );
    assert_eq!(
        comment(&scene.client, &write(Some("two")), &scene.own).await,
        Ok(CommentOutcome::Unchanged(id))
    );
    assert_eq!(scene.gitlab.commit_notes(API, &sha).len(), 1);
    assert_eq!(
        comment(&client, &write(None), &scene.own).await,
        Ok(CommentOutcome::Removed)
    );
    assert!(scene.gitlab.commit_notes(API, &sha).is_empty());
}

#[tokio::test]
async fn too_many_notes_a_minute_are_tried_again_and_a_missing_merge_request_is_not() {
    let (scene, iid) = opened().await;
    scene.gitlab.edit(|world| world.limits.notes_a_minute = 0);
    let limited = comment(
        &scene.client,
        &order(&scene, CommentTarget::MergeRequest(iid), Some("x")),
        &scene.own,
    )
    .await;
    assert!(
        matches!(limited, Err(ActError::Retry { after: Some(_), .. })),
        "{limited:?}"
    );
    assert!(
        scene.client.own_user().await.is_ok(),
        "one endpoint's limit stopped the whole token"
    );
    let gone = comment(
        &scene.client,
        &order(&scene, CommentTarget::MergeRequest(99), Some("x")),
        &scene.own,
    )
    .await;
    assert!(matches!(gone, Err(ActError::Permanent(_))), "{gone:?}");
}
