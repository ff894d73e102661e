//! Each row of the table: what an event says, and what GitLab lets it be trusted as.

mod merge_request;

use penstock_doubles::gitlab::{
    Access, Break, Fault, Proposal, Protected, Push, Visibility as Shown,
};
use penstock_gitlab::{ApiError, ConfirmError, Confirmed, HookScope, ScopeClaim, confirm};
use penstock_model::event::EventKind;
use penstock_model::id::{ProjectId, Timestamp};
use penstock_model::scope::{Scope, Trust};
use penstock_model::tenant::Visibility;

use crate::scene::{API, FORK, Scene, commit};

fn trust(found: &Confirmed) -> (Trust, bool, bool) {
    let provenance = &found.provenance;
    (
        provenance.trust,
        provenance.confirmed,
        provenance.ref_protected,
    )
}

const PROTECTED: (Trust, bool, bool) = (Trust::Protected, true, true);
const MEMBER: (Trust, bool, bool) = (Trust::Member, true, false);
const UNTRUSTED: (Trust, bool, bool) = (Trust::Untrusted, true, false);
const UNCONFIRMED: (Trust, bool, bool) = (Trust::Untrusted, false, false);

#[tokio::test]
async fn a_push_to_a_protected_branch_is_protected() {
    let scene = Scene::new().await;
    let change = scene.push(API, "main", "maya");
    let found = scene.confirm(&change).await;
    assert_eq!(trust(&found), PROTECTED);
    assert_eq!(found.commit, Some(commit(&change.commit)));
    assert_eq!(found.head, found.commit);
    let actor = found.actor.unwrap();
    assert_eq!(
        (actor.username.as_str(), actor.access, actor.bot, actor.host),
        ("maya", Some(40), false, false)
    );
    let Scope::Project(project) = found.scope else {
        panic!()
    };
    assert_eq!(
        (
            project.path.as_str(),
            project.default_branch.as_deref(),
            project.visibility.as_str()
        ),
        (API, Some("main"), "public")
    );
}

#[tokio::test]
async fn who_can_see_a_project_is_gitlab_s_word_and_what_it_does_not_show_counts_as_public() {
    let scene = Scene::new().await;
    let seen_by = async |id| {
        penstock_gitlab::visibility(&scene.client, id)
            .await
            .unwrap()
    };
    assert_eq!(seen_by(scene.project(API)).await, Visibility::Public);
    assert_eq!(seen_by(ProjectId(999_999)).await, Visibility::Public);
    for (word, expect) in [
        (Shown::Private, Visibility::Private),
        (Shown::Internal, Visibility::Internal),
    ] {
        let scene = Scene::with(|world| _ = world.visibility(API, word)).await;
        let seen_by = penstock_gitlab::visibility(&scene.client, scene.project(API)).await;
        assert_eq!(seen_by, Ok(expect));
    }
}

#[tokio::test]
async fn a_push_to_a_branch_that_a_wildcard_protects_is_protected() {
    let scene = Scene::with(|world| {
        world.protect(API, Protected::new("release/*"));
    })
    .await;
    let change = scene.push(API, "release/1/2", "maya");
    assert_eq!(trust(&scene.confirm(&change).await), PROTECTED);
}

#[tokio::test]
async fn a_push_of_a_member_is_a_members_and_of_anybody_else_is_not_trusted() {
    let scene = Scene::new().await;
    for (by, wanted, access) in [
        ("alice", MEMBER, 30),
        ("rita", UNTRUSTED, 20),
        ("stranger", UNTRUSTED, 0),
    ] {
        let change = scene.push(API, &format!("feature-{by}"), by);
        let found = scene.confirm(&change).await;
        assert_eq!(trust(&found), wanted, "{by}");
        assert_eq!(found.actor.unwrap().access, Some(access), "{by}");
    }
}

#[tokio::test]
async fn what_our_own_user_does_is_marked() {
    let scene = Scene::new().await;
    let change = scene.push(API, "by-us", "project_1_bot_penstock");
    let actor = scene.confirm(&change).await.actor.unwrap();
    assert!(actor.host && actor.bot);
}

#[tokio::test]
async fn an_older_commit_of_the_branch_keeps_its_trust_and_the_head_is_todays() {
    let scene = Scene::new().await;
    let first = scene.push(API, "main", "maya");
    let second = scene
        .gitlab
        .push(Push::new(API, "main", "maya").write("b.txt", "b"));
    let found = scene.confirm(&first).await;
    assert_eq!(trust(&found), PROTECTED);
    assert_eq!(found.commit, Some(commit(&first.commit)));
    assert_eq!(found.head, Some(commit(&second.commit)));
}

#[tokio::test]
async fn a_commit_that_was_pushed_away_is_not_confirmed() {
    let scene = Scene::new().await;
    let first = scene.push(API, "feature", "alice");
    let second = scene.gitlab.push(
        Push::new(API, "feature", "alice")
            .from("main")
            .write("b.txt", "b"),
    );
    let found = scene.confirm(&first).await;
    assert_eq!(trust(&found), UNCONFIRMED);
    assert_eq!(found.head, Some(commit(&second.commit)));
}

#[tokio::test]
async fn an_event_is_past_when_gitlab_has_gone_on() {
    let scene = Scene::new().await;
    let first = scene.push(API, "main", "maya");
    assert!(!scene.confirm(&first).await.past);
    let second = scene
        .gitlab
        .push(Push::new(API, "main", "maya").write("b.txt", "b"));
    assert!(scene.confirm(&first).await.past, "another head");
    assert!(!scene.confirm(&second).await.past);

    let _ = scene.push(API, "feature", "alice");
    let deleted = scene.gitlab.delete_branch(API, "feature", "alice");
    assert!(!scene.confirm(&deleted).await.past);
    let _ = scene.push(API, "feature", "alice");
    assert!(scene.confirm(&deleted).await.past, "it is there again");

    let opened = scene.gitlab.propose(Proposal::new(API, "feature", "alice"));
    assert!(!scene.confirm(&opened).await.past);
    let closed = scene.gitlab.close(API, opened.number, "alice");
    assert!(!scene.confirm(&closed).await.past);
    let late = scene.confirm(&opened).await;
    assert!(late.past, "it is closed");
    let EventKind::MergeRequest(it) = &late.kind else {
        panic!("{:?}", late.kind)
    };
    assert_eq!(it.merge_request.state, "closed", "as GitLab says by now");
    let reopened = scene.gitlab.reopen(API, opened.number, "alice");
    assert!(scene.confirm(&closed).await.past, "it is open again");
    assert!(!scene.confirm(&reopened).await.past);

    let asked = scene.gitlab.comment(API, opened.number, "alice", "/cancel");
    let mut parsed = scene.parsed(&asked);
    assert!(!scene.try_confirm(&parsed).await.unwrap().past);
    let hours_ago = parsed.happened_at.unwrap().0 - 2 * 60 * 60 * 1000;
    parsed.happened_at = Some(Timestamp(hours_ago));
    assert!(
        scene.try_confirm(&parsed).await.unwrap().past,
        "sent again, hours later: of the same head, and all the same nobody waits for it"
    );
}

#[tokio::test]
async fn a_payload_that_claims_another_branch_of_its_commit_is_not_confirmed() {
    let scene = Scene::new().await;
    let change = scene
        .push(API, "feature", "alice")
        .bend(|body| body["ref"] = "refs/heads/main".into());
    let found = scene.confirm(&change).await;
    assert_eq!(trust(&found), UNCONFIRMED);
}

#[tokio::test]
async fn a_deleted_branch_is_about_no_code() {
    let scene = Scene::new().await;
    let _ = scene.push(API, "feature", "alice");
    let change = scene.gitlab.delete_branch(API, "feature", "alice");
    let found = scene.confirm(&change).await;
    assert_eq!(trust(&found), MEMBER);
    assert_eq!((found.commit, found.head), (None, None));
}

#[tokio::test]
async fn a_tag_is_resolved_to_its_commit_and_trusted_by_its_rules() {
    let scene = Scene::new().await;
    let head = scene.push(API, "main", "maya").commit;
    let annotated = scene
        .gitlab
        .tag(API, "v1.0", "main", Some("Release"), "maya");
    let found = scene.confirm(&annotated).await;
    assert_eq!(trust(&found), PROTECTED);
    assert_eq!(found.commit, Some(commit(&head)));
    let plain = scene.gitlab.tag(API, "nightly", "main", None, "alice");
    let found = scene.confirm(&plain).await;
    assert_eq!(trust(&found), MEMBER);
    assert_eq!(found.commit, Some(commit(&head)));
}

#[tokio::test]
async fn a_tag_that_moved_since_is_not_confirmed() {
    let scene = Scene::new().await;
    let first = scene.gitlab.tag(API, "v1.0", "main", None, "maya");
    let _ = scene.push(API, "main", "maya");
    let _ = scene.gitlab.tag(API, "v1.0", "main", None, "maya");
    assert_eq!(trust(&scene.confirm(&first).await), UNCONFIRMED);
}

#[tokio::test]
async fn a_release_is_trusted_as_its_tag() {
    let scene = Scene::new().await;
    let _ = scene.gitlab.tag(API, "v1.0", "main", None, "maya");
    let _ = scene.gitlab.tag(API, "nightly", "main", None, "alice");
    let found = scene
        .confirm(&scene.gitlab.release(API, "v1.0", "Notes"))
        .await;
    assert_eq!(trust(&found), PROTECTED);
    let found = scene
        .confirm(&scene.gitlab.release(API, "nightly", "Notes"))
        .await;
    assert_eq!(trust(&found), MEMBER);
}

#[tokio::test]
async fn a_body_that_names_another_tenants_project_by_id_is_out_of_scope() {
    let scene = Scene::new().await;
    let victim = scene.project(FORK);
    let change = scene.push(API, "feature", "alice");
    let mut parsed = scene.parsed(&change);
    let ScopeClaim::Project { id, .. } = &mut parsed.scope else {
        panic!()
    };
    *id = victim;
    let found = scene.try_confirm(&parsed).await;
    assert!(
        matches!(found, Err(ConfirmError::OutOfScope { ref path, .. }) if path == FORK),
        "{found:?}"
    );
}

#[tokio::test]
async fn a_project_that_gitlab_does_not_show_is_not_confirmed() {
    let scene = Scene::new().await;
    let mut parsed = scene.parsed(&scene.push(API, "main", "maya"));
    let ScopeClaim::Project { id, .. } = &mut parsed.scope else {
        panic!()
    };
    *id = penstock_model::id::ProjectId(999_999);
    let found = scene.try_confirm(&parsed).await.unwrap();
    assert_eq!(trust(&found), UNCONFIRMED);
    assert_eq!((found.commit, found.head), (None, None));
    assert_eq!(found.actor.unwrap().access, None);
}

#[tokio::test]
async fn a_group_event_is_confirmed_by_the_groups_id() {
    let scene = Scene::new().await;
    let parsed = scene.parsed(&scene.gitlab.join("acme/sub", "stranger", Access::Developer));
    let found = scene.try_confirm(&parsed).await.unwrap();
    let Scope::Group(group) = &found.scope else {
        panic!()
    };
    assert_eq!(group.path, "acme/sub");
    assert_eq!(found.provenance.trust, Trust::Untrusted);
    let other = HookScope::Group("elsewhere".to_owned());
    let found = confirm(&scene.client, &parsed, &other, &scene.own).await;
    assert!(
        matches!(found, Err(ConfirmError::OutOfScope { .. })),
        "{found:?}"
    );
}

#[tokio::test]
async fn a_gitlab_that_is_away_never_widens_and_is_asked_again() {
    for path in [
        "/projects/[0-9]+$",
        "/members/all/",
        "/repository/branches/",
        "/users/",
    ] {
        for how in [Break::Status(502), Break::RateLimited(Some(0)), Break::Cut] {
            let scene = Scene::new().await;
            let parsed = scene.parsed(&scene.push(API, "feature", "alice"));
            scene
                .gitlab
                .order(Fault::new("GET", path, how.clone()).times(1));
            let found = scene.try_confirm(&parsed).await;
            assert!(
                matches!(found, Err(ConfirmError::Api(ApiError::Unavailable { .. }))),
                "{path} {how:?}: {found:?}"
            );
            let again = scene.try_confirm(&parsed).await.unwrap();
            assert_eq!(trust(&again), MEMBER, "{path} {how:?}");
        }
    }
}

#[tokio::test]
async fn members_that_gitlab_does_not_show_have_no_rights() {
    let scene = Scene::new().await;
    let parsed = scene.parsed(&scene.push(API, "feature", "alice"));
    scene
        .gitlab
        .order(Fault::new("GET", "/members/all/", Break::Status(403)));
    let found = scene.try_confirm(&parsed).await.unwrap();
    assert_eq!(trust(&found), UNCONFIRMED);
    assert_eq!(found.actor.unwrap().access, None);
}

#[tokio::test]
async fn rights_are_asked_for_once_a_minute_and_heads_every_time() {
    let scene = Scene::new().await;
    let parsed = scene.parsed(&scene.push(API, "feature", "alice"));
    for _ in 0..3 {
        scene.try_confirm(&parsed).await.unwrap();
    }
    assert_eq!(scene.gitlab.calls_to("GET", "/members/all/").len(), 1);
    assert_eq!(
        scene.gitlab.calls_to("GET", "/repository/branches/").len(),
        3
    );
    scene.client.forget_rights();
    scene.try_confirm(&parsed).await.unwrap();
    assert_eq!(scene.gitlab.calls_to("GET", "/members/all/").len(), 2);
}

#[tokio::test]
async fn what_is_asked_anew_is_what_all_believe_from_then_on() {
    let scene = Scene::new().await;
    let _ = scene.push(API, "feature", "alice");
    let opened = scene.gitlab.propose(Proposal::new(API, "feature", "alice"));
    assert_eq!(trust(&scene.confirm(&opened).await), MEMBER);
    scene
        .gitlab
        .edit(|world| _ = world.remove_member("acme", "alice"));
    assert_eq!(
        trust(&scene.confirm(&opened).await),
        MEMBER,
        "what was said a moment ago is believed"
    );
    let parsed = scene.parsed(&opened);
    let scope = HookScope::Group("acme".to_owned());
    let anew = confirm(&scene.client.anew(), &parsed, &scope, &scene.own).await;
    assert_eq!(trust(&anew.unwrap()), UNTRUSTED);
    assert_eq!(trust(&scene.confirm(&opened).await), UNTRUSTED);
}
