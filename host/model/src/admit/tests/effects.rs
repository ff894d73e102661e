//! Effects of every kind: granted or not, about the event or not, built yet or not.

use super::*;
use crate::effect::{
    CancelRuns, Comment, CommitStatus, Extension, RequestApproval, RunSecret, SecretSource,
};

fn member() -> Setting {
    Setting::new(place(When::Member, PlacePolicy::default()))
}

fn status(of: &str) -> Action {
    Action::CommitStatus(CommitStatus {
        commit: commit(of),
        name: "lint".into(),
        state: StatusState::Success,
        description: "d".repeat(300),
        target_url: Some("https://ci.example.com/1".into()),
    })
}

fn comment(target: CommentTarget) -> Action {
    Action::Comment(Comment {
        target,
        body: Some("hello\n/merge".into()),
    })
}

fn cancel(scope: CancelScope) -> Action {
    Action::CancelRuns(CancelRuns {
        scope,
        pipeline: None,
        reason: "newer".into(),
    })
}

fn approval() -> Action {
    Action::RequestApproval(RequestApproval {
        policy: None,
        title: "t".into(),
        description: "d".into(),
        environment: None,
        arguments: vec![],
    })
}

/// Judges one effect; the path and rule of what is wrong.
#[track_caller]
fn refusal(setting: &Setting, action: Action) -> (String, String) {
    let admitted = setting.admit(vec![("k", action)]);
    assert!(admitted.orders.is_empty(), "{admitted:?}");
    let [one] = admitted.refused.as_slice() else {
        panic!("{admitted:?}")
    };
    assert!(!one.remedy.is_empty());
    (one.path.clone(), one.rule.clone())
}

fn started(edit: impl FnOnce(&mut StartRun)) -> Action {
    let mut start = start_run(&smallest().to_string());
    edit(&mut start);
    Action::StartRun(Box::new(start))
}

#[test]
fn nothing_is_done_that_was_not_granted() {
    let mut setting = member();
    setting.grants = Grants::default();
    for action in [
        start(&smallest().to_string()),
        cancel(CancelScope::Superseded),
        comment(CommentTarget::MergeRequest(7)),
        status(COMMIT),
        approval(),
    ] {
        let kind = action.kind().as_str();
        let (path, rule) = refusal(&setting, action);
        assert_eq!(path, "");
        assert_eq!(
            rule,
            format!("plugin `pipelines` has no grant for `{kind}` in events that are member")
        );
    }
}

#[test]
fn a_fork_gets_what_forks_are_granted_and_nothing_else() {
    let mut setting = Setting::new(place(When::Fork, PlacePolicy::default()));
    setting.grants.from_fork.effects = [EffectKind::Comment].into();
    let admitted = setting.admit(vec![
        ("run", start(&smallest().to_string())),
        ("say", comment(CommentTarget::MergeRequest(7))),
    ]);
    assert_eq!(admitted.orders.len(), 1);
    assert!(matches!(admitted.orders[0].task, Task::Comment(_)));
    assert_eq!(admitted.refused[0].key, "run".into());
    assert_eq!(admitted.refused[0].status_name.as_deref(), Some("build"));
}

#[test]
fn a_queue_or_a_keep_that_can_not_be_meant_is_refused() {
    let setting = member();
    let queue = |name: &str, concurrency| {
        let queue = Queue {
            name: name.into(),
            concurrency,
        };
        started(|it| it.queue = Some(queue))
    };
    assert_eq!(refusal(&setting, queue("", None)).0, "queue.name");
    assert_eq!(refusal(&setting, queue("a\nb", None)).0, "queue.name");
    assert_eq!(
        refusal(&setting, queue("deploy", Some(0))).0,
        "queue.concurrency"
    );
    assert_eq!(refusal(&setting, started(|it| it.keep = Some(0))).0, "keep");
    let admitted = setting.admit(vec![("run", queue("deploy to production", Some(1)))]);
    let Task::StartRun(run) = &admitted.orders[0].task else {
        panic!("{admitted:?}");
    };
    assert_eq!(run.queue.as_ref().unwrap().concurrency, Some(1));
}

#[test]
fn a_run_keeps_what_it_asks_for_and_no_more_than_its_place_allows() {
    let kept = |most: Option<u32>, asked: Option<u32>| {
        let mut setting = member();
        for place in &mut setting.places {
            place.policy.keep_runs = most;
        }
        let admitted = setting.admit(vec![("run", started(|it| it.keep = asked))]);
        let Task::StartRun(run) = &admitted.orders[0].task else {
            panic!("{admitted:?}");
        };
        run.keep
    };
    assert_eq!(kept(None, None), None);
    assert_eq!(kept(None, Some(7)), Some(7));
    assert_eq!(kept(Some(5), Some(7)), Some(5));
    assert_eq!(kept(Some(5), Some(3)), Some(3));
    assert_eq!(kept(Some(5), None), Some(5));
}

#[test]
fn what_is_not_built_yet_is_refused_and_never_done_without() {
    let setting = member();
    let (path, rule) = refusal(&setting, started(|it| it.gate = Some("ask".into())));
    assert_eq!(
        (path.as_str(), rule.as_str()),
        ("gate", "gates are not built yet in this release")
    );
    let secret = RunSecret {
        name: "s".into(),
        source: SecretSource::Reference("vault:ci#token".into()),
    };
    assert_eq!(
        refusal(&setting, started(|it| it.secrets = vec![secret])).0,
        "secrets[0].source"
    );
    assert_eq!(
        refusal(
            &setting,
            started(|it| it.extras = vec![("new".into(), "1".into())])
        )
        .0,
        "extras"
    );
    assert!(refusal(&setting, approval()).1.contains("not built yet"));
    let extension = Action::Extension(Extension {
        kind: "k".into(),
        json: "{}".into(),
    });
    assert!(refusal(&setting, extension).1.contains("not built yet"));
    // A gate and the approval it names: neither is done.
    let admitted = setting.admit(vec![
        ("ask", approval()),
        ("run", started(|it| it.gate = Some("ask".into()))),
    ]);
    assert!(admitted.orders.is_empty());
    assert_eq!(admitted.refused.len(), 2);
}

#[test]
fn cancels_come_first_and_the_rest_keeps_its_order() {
    let admitted = member().admit(vec![
        ("a", status(COMMIT)),
        ("b", start(&smallest().to_string())),
        ("c", cancel(CancelScope::Superseded)),
        ("d", comment(CommentTarget::MergeRequest(7))),
        ("e", cancel(CancelScope::Earlier)),
    ]);
    let keys: Vec<&str> = admitted
        .orders
        .iter()
        .map(|order| order.key.as_str())
        .collect();
    assert_eq!(keys, ["c", "e", "a", "b", "d"]);
}

#[test]
fn an_id_and_a_name_come_from_instance_delivery_route_attempt_and_key() {
    let admitted = member().admit(vec![("run/build", start(&smallest().to_string()))]);
    let id = EffectId::new(
        &"main".into(),
        &"d-1".into(),
        &"acme/** pipelines".into(),
        1,
        &"run/build".into(),
    );
    assert_eq!(admitted.orders[0].id, id);
    let Task::StartRun(run) = &admitted.orders[0].task else {
        panic!()
    };
    assert_eq!(run.name, id.object_name("build"));
    assert_eq!(
        run.manifest["metadata"]["annotations"][label::EFFECT_ID],
        id.hex()
    );
}

#[test]
fn the_second_effect_of_a_key_is_refused() {
    let admitted = member().admit(vec![
        ("k", status(COMMIT)),
        ("k", comment(CommentTarget::MergeRequest(7))),
    ]);
    assert_eq!(admitted.orders.len(), 1);
    assert_eq!(
        admitted.refused[0].rule,
        "another effect of the plan has the same key"
    );
}

#[test]
fn a_run_of_an_event_without_a_ref_is_about_a_ref_whose_head_was_asked_for() {
    let target = |of: &str, name: &str| {
        let target = RunTarget {
            commit: commit(of),
            ref_name: Some(RefName::from(name)),
            merge_request: None,
        };
        started(|it| it.target = Some(target))
    };
    let mut setting = member();
    setting.heads = vec![
        ("refs/heads/nightly".into(), commit(COMMIT)),
        ("refs/heads/other".into(), commit(OTHER)),
    ];
    // An event of a ref is about that ref.
    let wrong = refusal(&setting, target(COMMIT, "refs/heads/nightly"));
    assert_eq!(wrong.0, "target.ref-name");
    setting.event.ref_name = None;
    for name in ["refs/heads/other", "refs/heads/unknown"] {
        let wrong = refusal(&setting, target(COMMIT, name));
        assert_eq!(wrong.0, "target.ref-name", "{name}");
    }
    let admitted = setting.admit(vec![("k", target(COMMIT, "refs/heads/nightly"))]);
    let Task::StartRun(run) = &admitted.orders[0].task else {
        panic!()
    };
    assert_eq!(run.ref_name, Some("refs/heads/nightly".into()));
}

#[test]
fn a_run_is_about_the_event_or_the_head_that_gitlab_confirmed() {
    let target = |of: &str, ref_name: Option<&str>, iid: Option<u64>| {
        let ref_name = ref_name.map(RefName::from);
        let target = RunTarget {
            commit: commit(of),
            ref_name,
            merge_request: iid,
        };
        started(|it| it.target = Some(target))
    };
    let mut setting = member();
    assert_eq!(
        refusal(&setting, target(OTHER, None, None)).0,
        "target.commit"
    );
    assert_eq!(
        refusal(&setting, target(COMMIT, Some("refs/heads/main"), None)).0,
        "target.ref-name"
    );
    assert_eq!(
        refusal(&setting, target(COMMIT, None, Some(8))).0,
        "target.merge-request"
    );
    setting.head = Some(commit(OTHER));
    let admitted = setting.admit(vec![("k", target(OTHER, Some("refs/heads/mend"), Some(7)))]);
    let Task::StartRun(run) = &admitted.orders[0].task else {
        panic!()
    };
    assert_eq!(run.commit, commit(OTHER));
    assert_eq!(run.merge_request, Some(7));
    setting.event.commit = None;
    assert_eq!(
        refusal(&setting, start(&smallest().to_string())).0,
        "target"
    );
}

#[test]
fn names_that_can_not_be_kept_are_refused() {
    let setting = member();
    for name in ["", "a b", "-a", "a/", "ä", &"a".repeat(64)] {
        let admitted = setting.admit(vec![("k", started(|it| it.pipeline = name.into()))]);
        assert!(
            admitted.refused.iter().any(|it| it.path == "pipeline"),
            "{name}"
        );
    }
    assert_eq!(
        setting
            .admit(vec![("k", started(|it| it.pipeline = "Build_1.x".into()))])
            .orders
            .len(),
        1
    );
    for name in ["", "a\nb", &"a".repeat(256)] {
        assert_eq!(
            refusal(&setting, started(|it| it.status_name = Some(name.into()))).0,
            "status-name"
        );
    }
}

#[test]
fn a_place_of_another_trust_is_refused() {
    let mut setting = member();
    setting.places.push(Place {
        name: "release".into(),
        ..place(When::Protected, PlacePolicy::default())
    });
    let (path, rule) = refusal(&setting, started(|it| it.place = Some("release".into())));
    assert_eq!(
        (path.as_str(), rule.as_str()),
        (
            "place",
            "place `release` does not take events that are member"
        )
    );
}

#[test]
fn a_status_is_of_the_events_commit() {
    let mut setting = member();
    let admitted = setting.admit(vec![("k", status(COMMIT))]);
    let Task::SetStatus(order) = &admitted.orders[0].task else {
        panic!()
    };
    assert_eq!(order.description.len(), 255);
    assert_eq!(order.merge_request, Some(7));
    assert_eq!(refusal(&setting, status(OTHER)).0, "commit");
    setting.head = Some(commit(OTHER));
    assert_eq!(setting.admit(vec![("k", status(OTHER))]).orders.len(), 1);
    for url in ["javascript:alert(1)", "ftp://x", "https://a b"] {
        let Action::CommitStatus(mut wanted) = status(COMMIT) else {
            panic!()
        };
        wanted.target_url = Some(url.into());
        assert_eq!(
            refusal(&setting, Action::CommitStatus(wanted)).0,
            "target-url"
        );
    }
    let Action::CommitStatus(mut unnamed) = status(COMMIT) else {
        panic!()
    };
    unnamed.name.clear();
    assert_eq!(refusal(&setting, Action::CommitStatus(unnamed)).0, "name");
}

#[test]
fn a_comment_is_on_the_events_merge_request_or_commit_and_commands_nothing() {
    let setting = member();
    let admitted = setting.admit(vec![("k", comment(CommentTarget::MergeRequest(7)))]);
    let Task::Comment(order) = &admitted.orders[0].task else {
        panic!()
    };
    assert_eq!(order.body.as_deref(), Some("hello\n\\/merge"));
    assert_eq!(
        setting
            .admit(vec![("k", comment(CommentTarget::Commit(commit(COMMIT))))])
            .orders
            .len(),
        1
    );
    assert_eq!(
        refusal(&setting, comment(CommentTarget::MergeRequest(8))).0,
        "target"
    );
    assert_eq!(
        refusal(&setting, comment(CommentTarget::Commit(commit(OTHER)))).0,
        "target"
    );
    assert_eq!(
        refusal(&member().pushed(), comment(CommentTarget::MergeRequest(7))).0,
        "target"
    );
    let long = Action::Comment(Comment {
        target: CommentTarget::MergeRequest(7),
        body: Some("x".repeat(1_000_000)),
    });
    assert_eq!(refusal(&setting, long).0, "body");
}

#[test]
fn a_cancel_carries_lane_and_head_and_a_fork_cancels_only_its_own() {
    let mut setting = member();
    setting.head = Some(commit(OTHER));
    let admitted = setting.admit(vec![(
        "k",
        cancel(CancelScope::Ref("refs/heads/main".into())),
    )]);
    let Task::CancelRuns(order) = &admitted.orders[0].task else {
        panic!()
    };
    assert_eq!(order.lane, setting.lane);
    assert_eq!(order.head, setting.head);
    assert_eq!(
        refusal(&setting, cancel(CancelScope::Runs(vec!["x".into()]))).0,
        "scope"
    );
    let forks = Setting::new(place(When::Fork, PlacePolicy::default()));
    for scope in [
        CancelScope::Superseded,
        CancelScope::Earlier,
        CancelScope::MergeRequest(7),
    ] {
        assert_eq!(forks.admit(vec![("k", cancel(scope))]).orders.len(), 1);
    }
    for scope in [
        CancelScope::MergeRequest(8),
        CancelScope::Ref("refs/heads/main".into()),
        CancelScope::Commit(commit(OTHER)),
    ] {
        assert_eq!(refusal(&forks, cancel(scope)).0, "scope");
    }
}

#[test]
fn an_event_of_no_project_has_no_effects() {
    let mut setting = member();
    setting.event.scope = Scope::Instance;
    assert_eq!(
        refusal(&setting, status(COMMIT)).1,
        "the event is of no project, and effects are always of one"
    );
}

#[test]
fn one_that_is_refused_does_not_hold_up_the_others() {
    let admitted = member().admit(vec![("a", start("")), ("b", status(COMMIT))]);
    assert_eq!((admitted.orders.len(), admitted.refused.len()), (1, 1));
}
