//! Events over time: forks, changes of mind, commands, the comment and the statuses.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may panic"
)]

mod given;

use given::*;
use penstock_sdk::events::{EventKind, RunState};
use penstock_sdk::{Action, Plan};
use serde_json::{Value, json};

const MR: [(&str, &str); 2] = [
    ("on-event", "[pull_request]"),
    ("on-target-branch", "[main]"),
];
const PUSH: [(&str, &str); 2] = [
    ("on-event", "[push]"),
    ("on-target-branch", "[main, rounding]"),
];

fn none() -> Value {
    json!({})
}

fn says(plan: &Plan, part: &str) {
    assert!(
        plan.reasons.iter().any(|it| it.contains(part)),
        "{:#?} lacks {part}",
        plan.reasons
    );
}

fn forked() -> Given {
    let mut given = Given::run("test", &MR);
    given.places = vec![place("ci", "ci", false), place("untrusted", "forks", true)];
    given
}

#[test]
fn a_fork_runs_only_the_commit_that_was_allowed() {
    let given = forked();
    let opened = given.decide(none(), &fork(merge_request("open")));
    assert_eq!(opened.effects.len(), 1, "only the comment");
    assert!(comment(&opened).unwrap().unwrap().contains("/ok-to-test"));
    let allowed = given.decide(none(), &fork(note("/ok-to-test")));
    assert_eq!(started(&allowed), ["test"]);
    // The same commit may be decided again, another may not.
    let again = given.decide(none(), &fork(changed(&["draft"])));
    assert_eq!(started(&again), ["test"]);
    let mut newer = fork(new_head());
    newer.commit = Some(OTHER_COMMIT.to_owned());
    let newer = given.decide(none(), &newer);
    assert_eq!(started(&newer), Vec::<&str>::new());
    assert!(comment(&newer).unwrap().unwrap().contains("222222222222"));
}

/// It was put off while GitLab was away, and the comment after it went first.
#[test]
fn what_is_decided_late_starts_nothing_that_runs_since() {
    let mut given = forked();
    let allowed = given.decide(none(), &fork(note("/ok-to-test")));
    assert_eq!(started(&allowed), ["test"]);
    let mut run = a_run("test", RunState::Running);
    run.created_at += 1;
    given.runs = vec![run];
    let opened = given.decide(none(), &fork(merge_request("open")));
    assert_eq!(started(&opened), Vec::<&str>::new());
    says(&opened, "newer than this event");
    // Opened again after it ran.
    let mut reopened = fork(merge_request("reopen"));
    reopened.received_at += 2;
    assert_eq!(started(&given.decide(none(), &reopened)), ["test"]);
}

#[test]
fn an_approval_of_another_commit_is_none() {
    let given = forked();
    for text in [
        "/ok-to-test 2222222222",
        "/ok-to-test 111",
        "/ok-to-test main",
    ] {
        let plan = given.decide(none(), &fork(note(text)));
        assert_eq!(plan.effects, [], "{text}");
        says(&plan, "is not the beginning");
    }
    let plan = given.decide(none(), &fork(note("/ok-to-test 11111111")));
    assert_eq!(started(&plan), ["test"]);
}

#[test]
fn only_a_developer_or_an_owner_allows_a_fork() {
    for access in [0, 10, 15, 20] {
        let given = forked();
        let plan = given.decide(none(), &by(fork(note("/ok-to-test")), "eve", access));
        assert_eq!(plan.effects, [], "{access}");
        let opened = given.decide(none(), &fork(merge_request("open")));
        assert_eq!(started(&opened), Vec::<&str>::new());
    }
    let given = forked().file("OWNERS", "approvers: [eve]\n");
    let plan = given.decide(none(), &by(fork(note("/ok-to-test")), "Eve", 20));
    assert_eq!(started(&plan), ["test"]);
}

#[test]
fn owners_come_from_the_default_branch_alone() {
    let mut given = forked().file("OWNERS", "approvers: [eve]\n");
    given.default_branch = Some(std::collections::BTreeMap::new());
    let plan = given.decide(none(), &by(fork(note("/ok-to-test")), "eve", 20));
    assert_eq!(plan.effects, []);
}

#[test]
fn a_policy_takes_the_place_of_the_projects_developers() {
    let policy = json!({ "repository": { "settings": { "policy": { "ok_to_test": ["acme/core"], "pull_request": ["acme/core"] } } } });
    let mut given = forked();
    let plan = given.decide(policy.clone(), &fork(note("/ok-to-test")));
    assert_eq!(
        plan.effects,
        [],
        "a developer of the project is none of the group"
    );
    given.groups.insert("acme/core".to_owned(), 30);
    assert_eq!(
        started(&given.decide(policy.clone(), &fork(note("/ok-to-test")))),
        ["test"]
    );
    given.groups.insert("acme/core".to_owned(), 20);
    let own = Given {
        groups: given.groups.clone(),
        ..Given::run("test", &MR)
    };
    assert_eq!(
        started(&own.decide(policy, &merge_request("open"))),
        Vec::<&str>::new()
    );
}

#[test]
fn without_a_place_for_forks_nothing_starts_and_it_is_said() {
    let mut given = forked();
    given.places.pop();
    let plan = given.decide(none(), &fork(note("/ok-to-test")));
    assert_eq!(started(&plan), Vec::<&str>::new());
    assert!(
        comment(&plan)
            .unwrap()
            .unwrap()
            .contains("no place of this tenant takes runs of forks")
    );
}

#[test]
fn a_developers_test_starts_no_fork_that_nobody_allowed() {
    let plan = forked().decide(none(), &fork(note("/test test")));
    assert_eq!(started(&plan), Vec::<&str>::new());
}

#[test]
fn a_strangers_files_are_not_quoted_before_they_are_allowed() {
    let given = forked().file(".tekton/x.yaml", "kind: [\n");
    let body = comment(&given.decide(none(), &fork(merge_request("open"))))
        .unwrap()
        .unwrap();
    assert!(!body.contains("x.yaml"), "{body}");
    let body = comment(&given.decide(none(), &fork(note("/ok-to-test"))))
        .unwrap()
        .unwrap();
    assert!(body.contains("x.yaml:"), "{body}");
}

#[test]
fn the_folder_comes_from_where_the_settings_say() {
    let provenance =
        |word: &str| json!({ "repository": { "settings": { "pipelinerun_provenance": word } } });
    let mut given = Given::run("changed", &MR);
    given.default_branch = Some(Given::run("default", &MR).files);
    given.target_branch = Some(Given::run("target", &MR).files);
    let opened = merge_request("open");
    assert_eq!(
        started(&given.decide(provenance("source"), &opened)),
        ["changed"]
    );
    assert_eq!(
        started(&given.decide(provenance("default_branch"), &opened)),
        ["default"]
    );
    assert_eq!(
        started(&given.decide(provenance("target_branch"), &opened)),
        ["target"]
    );
}

#[test]
fn a_task_reference_can_not_walk_round_the_provenance() {
    let run = |reference: &str| {
        format!(
            "apiVersion: tekton.dev/v1\nkind: PipelineRun\nmetadata:\n  name: r\n  annotations:\n    pipelinesascode.tekton.dev/on-event: pull_request\n    pipelinesascode.tekton.dev/on-target-branch: main\n    pipelinesascode.tekton.dev/task: \"{reference}\"\nspec:\n  pipelineSpec:\n    tasks: [{{ name: a, taskRef: {{ name: t }} }}]\n"
        )
    };
    let task = |image: &str| {
        format!(
            "apiVersion: tekton.dev/v1\nkind: Task\nmetadata: {{ name: t }}\nspec: {{ steps: [{{ name: s, image: {image} }}] }}\n"
        )
    };
    let settings =
        json!({ "repository": { "settings": { "pipelinerun_provenance": "default_branch" } } });
    let decide = |reference: &str| {
        let mut given = Given::default();
        given.files.insert("t.yaml".to_owned(), task("evil"));
        let mut trusted = std::collections::BTreeMap::new();
        trusted.insert(".tekton/r.yaml".to_owned(), run(reference));
        trusted.insert("t.yaml".to_owned(), task("good"));
        given.default_branch = Some(trusted);
        given
            .elsewhere
            .insert("acme/Payments/api@rounding:t.yaml".to_owned(), task("evil"));
        given
            .elsewhere
            .insert("eve/api@main:t.yaml".to_owned(), task("evil"));
        let settings = settings.clone();
        let mut event = merge_request("open");
        event.provenance.source_project = None;
        given.decide(settings, &event)
    };
    let base = "https://gitlab.example.com/acme/Payments/api/-/raw";
    for good in [
        "t.yaml",
        "./t.yaml",
        &format!("{base}/main/t.yaml"),
        &format!("{base}/HEAD/t.yaml"),
    ] {
        let plan = decide(good);
        assert!(starts(&plan)[0].manifest.contains("good"), "{good}");
    }
    for evil in [
        format!("{base}/rounding/t.yaml"),
        format!("{base}/{COMMIT}/t.yaml"),
        "https://gitlab.example.com/ACME/payments/api/-/blob/rounding/t.yaml".to_owned(),
        "https://GitLab.Example.com/acme/Payments/api/-/raw/rounding/t.yaml".to_owned(),
        "https://gitlab.example.com:443/acme/Payments/api/-/raw/rounding/t.yaml".to_owned(),
        "https://eve@gitlab.example.com./acme/Payments/api/-/raw/rounding/t.yaml".to_owned(),
        "HTTPS://gitlab.example.com/acme/Payments/api/-/raw/rounding/t.yaml".to_owned(),
        "../t.yaml".to_owned(),
        "http://elsewhere.example.com/t.yaml".to_owned(),
    ] {
        let plan = decide(&evil);
        assert_eq!(started(&plan), Vec::<&str>::new(), "{evil}");
        assert_eq!(
            plan.warnings[0].line,
            Some(8),
            "{evil}: {:?}",
            plan.warnings
        );
    }
}

#[test]
fn a_branch_with_a_slash_is_named_in_an_address_as_people_write_it() {
    let task = "apiVersion: tekton.dev/v1\nkind: Task\nmetadata: { name: t }\nspec: { steps: [{ name: s, image: good }] }\n";
    let run = "apiVersion: tekton.dev/v1\nkind: PipelineRun\nmetadata:\n  name: r\n  annotations:\n    pipelinesascode.tekton.dev/on-event: push\n    pipelinesascode.tekton.dev/on-target-branch: release/*\n    pipelinesascode.tekton.dev/task: https://gitlab.example.com/acme/Payments/api/-/raw/release/1.0/ci/t.yaml\nspec:\n  pipelineSpec:\n    tasks: [{ name: a, taskRef: { name: t } }]\n";
    let given = Given::folder(&[("run.yaml", run)]).file("ci/t.yaml", task);
    let plan = given.decide(none(), &push("release/1.0"));
    assert!(starts(&plan)[0].manifest.contains("good"));
}

#[test]
fn values_stand_in_annotations_and_change_no_condition() {
    let given = Given::run(
        "one",
        &[
            ("on-event", "[push]"),
            ("on-target-branch", "[{{ default }}]"),
        ],
    );
    let settings = |value: &str| json!({ "repository": { "params": [{ "name": "default", "value": value }] } });
    assert_eq!(
        started(&given.decide(settings("main"), &push("main"))),
        ["one"]
    );
    // A comma parts nothing.
    let both = given.decide(settings("main, rounding"), &push("main"));
    assert_eq!(started(&both), Vec::<&str>::new());

    let cel = |expression: &str| Given::run("one", &[("on-cel-expression", expression)]);
    let same = cel("source_branch == '{{ source_branch }}'");
    assert_eq!(started(&same.decide(none(), &push("main"))), ["one"]);
    let evil = "x' || true || 'x";
    let plan = cel("'{{ source_branch }}' == 'main'").decide(none(), &push(evil));
    assert_eq!(started(&plan), Vec::<&str>::new());
    assert!(
        plan.warnings[0]
            .message
            .contains("could change the expression"),
        "{:?}",
        plan.warnings
    );
    assert_eq!(plan.warnings[0].line, Some(1));

    let comment = Given::run("one", &[("on-comment", "^/go {{ source_branch }}$")]);
    let mut event = note("/go now");
    edit_merge_request(&mut event, |it| it.source_branch = ".*".to_owned());
    assert_eq!(started(&comment.decide(none(), &event)), Vec::<&str>::new());
}

#[test]
fn expressions_know_the_params_and_no_secret() {
    let settings = json!({ "repository": { "params": [
        { "name": "environment", "value": "staging" },
        { "name": "token", "secret_ref": { "name": "a", "key": "b" } },
    ] } });
    let cel = |expression: &str| Given::run("one", &[("on-cel-expression", expression)]);
    let plan =
        cel("event == 'push' && environment == 'staging'").decide(settings.clone(), &push("main"));
    assert_eq!(started(&plan), ["one"]);
    let plan = cel("environment == 'production'").decide(settings.clone(), &push("main"));
    assert_eq!(started(&plan), Vec::<&str>::new());
    let plan = cel("token != ''").decide(settings, &push("main"));
    assert!(
        plan.warnings[0].message.contains("`token` is a Secret"),
        "{:?}",
        plan.warnings
    );
}

#[test]
fn a_condition_on_paths_holds_where_gitlab_left_paths_out() {
    let expression = "event == 'push' && 'docs/**'.pathChanged()";
    let mut given = Given::run("one", &[("on-cel-expression", expression)]);
    given.changes.added = vec!["src/lib.rs".to_owned()];
    assert_eq!(
        started(&given.decide(none(), &push("main"))),
        Vec::<&str>::new()
    );
    given.changes.truncated = true;
    assert_eq!(started(&given.decide(none(), &push("main"))), ["one"]);
    let other = given.decide(none(), &merge_request("open"));
    assert_eq!(started(&other), Vec::<&str>::new());
}

#[test]
fn a_param_without_a_value_gets_one_by_a_command() {
    let run = run_yaml("test", &MR).replace("alpine", "{{ image }}");
    let given = Given::folder(&[("run.yaml", &run)]);
    let settings = json!({ "repository": { "params": [{ "name": "image" }] } });
    let plan = given.decide(settings.clone(), &note("/test image=b"));
    assert!(starts(&plan)[0].manifest.contains("\"image\":\"b\""));
    let plan = given.decide(settings, &note("/test"));
    assert!(starts(&plan)[0].manifest.contains("{{ image }}"));
    assert!(
        plan.warnings[0]
            .message
            .contains("where a command gives it one")
    );
}

#[test]
fn a_request_from_outside_starts_nothing_that_is_not_meant_for_it() {
    let given = Given::run("test", &MR).with("release", &[PUSH[0], ("on-target-branch", "[v*]")]);
    for name in ["test", "release"] {
        let plan = given.decide(none(), &request(Some(name), &[]));
        assert_eq!(plan.effects, [], "{name}");
        says(&plan, &format!("`{name}` does not run"));
    }
    let given = Given::run("nightly", &[("on-event", "incoming"), PUSH[1]]).with("push", &PUSH);
    for name in ["nightly", "nightly-", "push"] {
        let plan = given.decide(none(), &request(Some(name), &[]));
        assert_eq!(started(&plan), [name.trim_end_matches('-')]);
    }
}

#[test]
fn other_projects_are_cloned_by_members_alone() {
    let run = run_yaml("test", &MR).replace("alpine", "{{ git_auth_secret }}");
    let settings = json!({ "clone-also": ["acme/lib"] });
    let others = |plan: &Plan| format!("{:?}", starts(plan)[0].secrets);
    let given = Given::folder(&[("run.yaml", &run)]);
    let plan = given.decide(settings.clone(), &merge_request("open"));
    assert!(others(&plan).contains("acme/lib"), "{}", others(&plan));
    let mut given = forked();
    given.files = Given::folder(&[("run.yaml", &run)]).files;
    let plan = given.decide(settings, &fork(note("/ok-to-test")));
    assert!(others(&plan).contains("Clone") && !others(&plan).contains("acme/lib"));
}

#[test]
fn a_label_by_somebody_who_may_not_changes_nothing_that_is_said() {
    let settings = json!({ "on-no-match": "success" });
    let given = Given::run("labelled", &[MR[0], MR[1], ("on-label", "[ci]")]);
    let plan = given.decide(settings, &by(changed(&["labels"]), "eve", 20));
    assert_eq!(plan.effects, []);
    says(&plan, "no developer");
}

#[test]
fn a_fork_that_nobody_allowed_is_pending_whatever_its_files_match() {
    let mut given = forked();
    given.files = Given::run("other", &PUSH).files;
    let settings = json!({ "on-no-match": "success" });
    let plan = given.decide(settings.clone(), &fork(merge_request("open")));
    assert_eq!(status(&plan).unwrap().1, "Pending");
    let plan = given.decide(settings, &fork(note("/ok-to-test")));
    assert_eq!(status(&plan).unwrap().1, "Success");
}

#[test]
fn closing_and_merging_cancel_and_start_nothing() {
    let given = Given::run("test", &MR);
    for action in ["close", "merge"] {
        let plan = given.decide(none(), &merge_request(action));
        assert_eq!(cancels(&plan), ["MergeRequest(5) *"], "{action}");
        assert_eq!(plan.effects.len(), 1);
    }
}

#[test]
fn another_target_branch_cancels_and_decides_again() {
    let mut given = Given::run("test", &MR);
    given.runs = vec![a_run("test", RunState::Succeeded)];
    let plan = given.decide(none(), &changed(&["target_branch"]));
    assert_eq!(cancels(&plan), ["MergeRequest(5) *"]);
    assert_eq!(started(&plan), ["test"]);
}

#[test]
fn a_deleted_branch_cancels_its_runs() {
    let plan = Given::run("test", &PUSH).decide(none(), &deleted_branch("main"));
    assert_eq!(cancels(&plan), ["Earlier *"]);
    assert_eq!(plan.effects.len(), 1);
}

#[test]
fn a_label_decides_again_for_runs_that_name_one_and_have_not_run() {
    let label = [MR[0], MR[1], ("on-label", "[ci]")];
    let mut given = Given::run("test", &MR).with("labelled", &label);
    let plan = given.decide(none(), &changed(&["labels"]));
    assert_eq!(started(&plan), ["labelled"]);
    given.runs = vec![a_run("labelled", RunState::Running)];
    assert_eq!(
        started(&given.decide(none(), &changed(&["labels"]))),
        Vec::<&str>::new()
    );
}

#[test]
fn a_label_decides_again_for_an_expression_about_labels() {
    let about = [(
        "on-cel-expression",
        "event == 'pull_request' && pull_request_labels.contains('ci')",
    )];
    let given = Given::run("test", &MR).with("labelled", &about);
    let mut event = changed(&["labels"]);
    edit_merge_request(&mut event, |it| it.labels = vec!["ci".to_owned()]);
    assert_eq!(started(&given.decide(none(), &event)), ["labelled"]);
    edit_merge_request(&mut event, |it| it.labels.clear());
    assert_eq!(started(&given.decide(none(), &event)), Vec::<&str>::new());
}

#[test]
fn a_label_and_the_draft_state_at_once_decide_all_again() {
    let ready = [(
        "on-cel-expression",
        "event == 'pull_request' && !body.object_attributes.draft",
    )];
    let label = [MR[0], MR[1], ("on-label", "[ci]")];
    let mut given = Given::run("ready", &ready).with("labelled", &label);
    given.payload = json!({ "object_attributes": { "draft": false } });
    let plan = given.decide(none(), &changed(&["labels", "draft"]));
    assert_eq!(started(&plan), ["labelled", "ready"]);
}

#[test]
fn what_a_merge_request_started_at_a_commit_is_not_the_commit_s() {
    let mut given = Given::run("push", &PUSH).with("test", &MR);
    let of_push = |state| {
        let mut run = a_run("push", state);
        run.merge_request = None;
        run
    };
    given.runs = vec![
        a_run("test", RunState::Failed),
        a_run("push", RunState::Failed),
    ];
    let retest = commit_note("/retest branch:main");
    assert_eq!(started(&given.decide(none(), &retest)), Vec::<&str>::new());
    given.runs.push(of_push(RunState::Failed));
    assert_eq!(started(&given.decide(none(), &retest)), ["push"]);
    // Nor is the end of a push's run told with the merge request's.
    let settings = json!({ "on-no-match": "success" });
    let plan = given.decide(settings, &finished(of_push(RunState::Succeeded)));
    assert_eq!(status(&plan).unwrap().1, "Success");
}

#[test]
fn a_deleted_tag_does_nothing_however_it_is_learned_of() {
    let given = Given::run(
        "release",
        &[
            ("on-event", "[push]"),
            ("on-target-branch", "[refs/tags/*]"),
        ],
    );
    let mut deleted = tag("v1");
    deleted.commit = None;
    if let EventKind::TagPush(push) = &mut deleted.kind {
        push.after = None;
    }
    let mut swept = sweep("v1", false);
    if let EventKind::Sweep(sweep) = &mut swept.kind {
        sweep.ref_name = "refs/tags/v1".to_owned();
    }
    for event in [deleted, swept] {
        let plan = given.decide(none(), &event);
        assert_eq!(plan.effects, []);
        says(&plan, "the tag was deleted");
    }
}

#[test]
fn a_fork_s_run_goes_to_no_namespace_that_takes_no_forks() {
    let mut given = Given::run("test", &[MR[0], MR[1], ("target-namespace", "ci-payments")]);
    given.places = vec![
        place("ci", "ci-payments", false),
        place("untrusted", "forks", true),
    ];
    given.decide(none(), &fork(merge_request("open")));
    let plan = given.decide(none(), &fork(note("/ok-to-test")));
    assert_eq!(started(&plan), Vec::<&str>::new());
    let problem = &plan.warnings[0];
    assert!(
        problem
            .message
            .contains("does not take events of this trust"),
        "{problem:?}"
    );
    assert!(
        problem.line.is_some() && problem.column.is_some(),
        "{problem:?}"
    );
}

#[test]
fn a_draft_that_is_ready_starts_what_waited_for_it() {
    let ready = [(
        "on-cel-expression",
        "event == 'pull_request' && !body.object_attributes.draft",
    )];
    let mut given = Given::run("ready", &ready).with("test", &MR);
    given.payload = json!({ "object_attributes": { "draft": true } });
    assert_eq!(
        started(&given.decide(none(), &merge_request("open"))),
        ["test"]
    );
    given.payload = json!({ "object_attributes": { "draft": false } });
    given.runs = vec![a_run("test", RunState::Failed)];
    assert_eq!(
        started(&given.decide(none(), &changed(&["draft"]))),
        ["ready"]
    );
}

#[test]
fn a_push_of_a_merge_request_does_not_run_twice_unless_asked() {
    let mut given = Given::run("push", &PUSH);
    given.open = vec![merge_request_record()];
    let plan = given.decide(none(), &push("rounding"));
    assert_eq!(started(&plan), Vec::<&str>::new());
    says(&plan, "belongs to merge request !5");
    assert_eq!(started(&given.decide(none(), &push("main"))), ["push"]);
    let settings = json!({ "push-with-merge-request": "run" });
    assert_eq!(
        started(&given.decide(settings, &push("rounding"))),
        ["push"]
    );
}

#[test]
fn a_mark_in_the_commits_message_skips_pushes_and_merge_requests() {
    for mark in ["[skip ci]", "[ci skip]", "[skip tkn]", "[tkn skip]"] {
        let mut given = Given::run("test", &MR).with("push", &PUSH);
        given.message = format!("docs {mark}");
        given.payload = json!({ "object_attributes": { "last_commit": { "message": format!("docs {mark}") } } });
        for event in [
            merge_request("open"),
            new_branch("main"),
            tag("v1"),
            sweep("main", true),
        ] {
            let plan = given.decide(none(), &event);
            assert_eq!(plan.effects, [], "{mark} {:?}", event.kind);
        }
        // Who asks by a command means it.
        assert_eq!(
            started(&given.decide(none(), &note("/test test"))),
            ["test"]
        );
    }
}

#[test]
fn what_a_mark_skips_is_told_by_the_aggregate_status_where_there_is_one() {
    let settings = json!({ "on-no-match": "success" });
    let mut given = Given::run("test", &MR).with("push", &PUSH);
    given.message = "docs [skip ci]".to_owned();
    given.payload =
        json!({ "object_attributes": { "last_commit": { "message": "docs [skip ci]" } } });
    for event in [
        merge_request("open"),
        new_branch("main"),
        tag("v1"),
        sweep("main", true),
    ] {
        let plan = given.decide(settings.clone(), &event);
        assert_eq!(plan.effects.len(), 1, "{:?}", event.kind);
        assert_eq!(status(&plan).unwrap().1, "Skipped");
    }
    given.files.clear();
    assert_eq!(given.decide(settings, &merge_request("open")).effects, []);
}

#[test]
fn a_new_branch_without_commits_runs() {
    let plan = Given::run("push", &PUSH).decide(none(), &new_branch("main"));
    assert_eq!(started(&plan), ["push"]);
}

#[test]
fn a_sweep_starts_what_has_no_run_yet() {
    let mut given = Given::run("push", &PUSH).with("more", &PUSH);
    let mut run = a_run("push", RunState::Failed);
    run.merge_request = None;
    given.runs = vec![run];
    assert_eq!(
        started(&given.decide(none(), &sweep("main", true))),
        ["more"]
    );
    assert_eq!(
        cancels(&given.decide(none(), &sweep("main", false))),
        ["Earlier *"]
    );
}

#[test]
fn edited_and_system_comments_and_the_hosts_own_do_nothing() {
    let given = Given::run("test", &MR);
    let edited = edit_note(note("/test"), |it| it.created = false);
    assert_eq!(given.decide(none(), &edited).effects, []);
    let system = edit_note(note("/test"), |it| it.system = true);
    assert_eq!(given.decide(none(), &system).effects, []);
    let mut own = note("/test");
    own.actor.as_mut().unwrap().host = true;
    assert_eq!(given.decide(none(), &own).effects, []);
}

#[test]
fn guests_and_reporters_command_nothing() {
    let given = Given::run("test", &[("on-comment", "^hello")]);
    for text in ["/test", "/retest", "/cancel", "/test test", "hello"] {
        for access in [0, 10, 20] {
            let plan = given.decide(none(), &by(note(text), "eve", access));
            assert_eq!(plan.effects, [], "{text} {access}");
        }
    }
}

#[test]
fn a_comment_that_asks_for_nothing_changes_nothing() {
    let given = Given::run("test", &MR)
        .with("deploy", &[("on-comment", "^/deploy$")])
        .file(".tekton/x.yaml", "kind: [\n");
    given.decide(none(), &merge_request("open"));
    assert_eq!(given.decide(none(), &note("well done")).effects, []);
}

#[test]
fn a_closed_merge_request_takes_no_test() {
    let mut event = note("/test");
    edit_merge_request(&mut event, |it| it.state = "closed".to_owned());
    assert_eq!(Given::run("test", &MR).decide(none(), &event).effects, []);
}

#[test]
fn a_prefix_hides_the_bare_commands() {
    let settings = json!({ "repository": { "settings": { "gitops_command_prefix": "pac" } } });
    let given = Given::run("test", &MR);
    assert_eq!(given.decide(settings.clone(), &note("/test")).effects, []);
    assert_eq!(
        started(&given.decide(settings, &note("/pac test"))),
        ["test"]
    );
}

#[test]
fn a_command_sets_params_and_nothing_else() {
    let run = run_yaml("test", &MR).replace("alpine", "{{ image }}@{{ revision }}");
    let given = Given::folder(&[("run.yaml", &run)]);
    let settings = json!({ "repository": { "params": [{ "name": "image", "value": "a" }, { "name": "token", "secret_ref": { "name": "x", "key": "y" } }] } });
    let plan = given.decide(settings, &note("/test image=b revision=0000 token=x"));
    assert!(starts(&plan)[0].manifest.contains(&format!("b@{COMMIT}")));
    says(&plan, "`revision` is no param");
    says(&plan, "`token` is a secret");
}

#[test]
fn a_fork_and_its_labels() {
    let given = forked();
    given.decide(none(), &fork(note("/ok-to-test")));
    let run = "apiVersion: tekton.dev/v1\nkind: PipelineRun\nmetadata:\n  name: test\n  labels: { team: core }\n  annotations:\n    pipelinesascode.tekton.dev/on-event: pull_request\n    pipelinesascode.tekton.dev/on-target-branch: main\nspec: { pipelineRef: { resolver: cluster } }\n";
    let given = Given {
        files: Given::folder(&[("run.yaml", run)]).files,
        ..given
    };
    let plan = given.decide(none(), &fork(merge_request("open")));
    assert_eq!(manifest(&plan).get("metadata"), None);
    assert!(
        comment(&plan)
            .unwrap()
            .unwrap()
            .contains("a place for forks takes none")
    );
}

#[test]
fn a_mistake_is_shown_once_and_gone_when_it_is_mended() {
    let given = Given::run("test", &MR).file(".tekton/x.yaml", "kind: [\n");
    let plan = given.decide(none(), &merge_request("open"));
    assert_eq!(started(&plan), ["test"]);
    let body = comment(&plan).unwrap().unwrap();
    assert!(
        body.contains("**To mend**") && body.contains("`.tekton/x.yaml:"),
        "{body}"
    );
    let (name, state, why) = status(&plan).unwrap();
    assert_eq!((name.as_str(), state.as_str()), ("Penstock", "Failed"));
    assert!(why.contains(".tekton/x.yaml"), "{why}");
    let mended = Given {
        files: Given::run("test", &MR).files,
        ..given.clone()
    };
    let mut next = new_head();
    next.commit = Some(OTHER_COMMIT.to_owned());
    let plan = mended.decide(none(), &next);
    assert!(!comment(&plan).unwrap().unwrap().contains("To mend"));
    assert_eq!(status(&plan), None, "the mistake was another commit's");
    // The same commit, where the folder comes from elsewhere.
    let given = Given {
        state: std::cell::RefCell::default(),
        ..given
    };
    given.decide(none(), &merge_request("open"));
    let mended = Given {
        files: Given::run("test", &MR).files,
        ..given
    };
    let (_, state, _) = status(&mended.decide(none(), &note("/test"))).unwrap();
    assert_eq!(state, "Success");
}

#[test]
fn a_folder_that_is_gone_takes_its_comment_along() {
    let given = Given::run("test", &MR);
    given.decide(none(), &merge_request("open"));
    let given = Given {
        files: std::collections::BTreeMap::new(),
        ..given
    };
    let plan = given.decide(none(), &new_head());
    assert_eq!(comment(&plan), Some(None));
    assert_eq!(given.decide(none(), &new_head()).effects, [], "once");
}

#[test]
fn the_comment_follows_the_runs_to_their_end() {
    let mut given = Given::run("test", &MR).with("lint", &MR);
    let body = comment(&given.decide(none(), &merge_request("open")))
        .unwrap()
        .unwrap();
    assert!(
        body.contains("| lint | ⏳ asked for |") && body.contains("| test | ⏳ asked for |"),
        "{body}"
    );
    let mut failed = a_run("test", RunState::Failed);
    failed.results = vec![("digest".to_owned(), "sha256:12|3".to_owned())];
    given.runs = vec![
        a_run("test", RunState::Running),
        a_run("lint", RunState::Succeeded),
    ];
    let plan = given.decide(none(), &finished(failed));
    insta::assert_snapshot!(comment(&plan).unwrap().unwrap());
    assert_eq!(
        status(&plan),
        None,
        "there is no aggregate status unless asked for"
    );
}

#[test]
fn a_run_that_was_not_admitted_is_shown_until_it_is_asked_for_again() {
    let settings = json!({ "on-no-match": "success" });
    let mut given = Given::run("test", &MR).with("lint", &MR);
    given.decide(settings.clone(), &merge_request("open"));
    // The host has no run of it, and tells of its end alone.
    let mut refused = a_run("test", RunState::Refused);
    refused.reason = "not admitted: the image is not allowed".to_owned();
    given.runs = vec![a_run("lint", RunState::Running)];
    let plan = given.decide(settings.clone(), &finished(refused));
    let body = comment(&plan).unwrap().unwrap();
    assert!(
        body.contains("| test | ⛔ refused |") && body.contains("is not allowed"),
        "{body}"
    );
    assert_eq!(status(&plan).unwrap().1, "Running");
    let plan = given.decide(
        settings.clone(),
        &finished(a_run("lint", RunState::Succeeded)),
    );
    let body = comment(&plan).unwrap().unwrap();
    assert!(body.contains("| test | ⛔ refused |"), "{body}");
    assert_eq!(status(&plan).unwrap().1, "Failed");
    given.runs = vec![a_run("lint", RunState::Succeeded)];
    let plan = given.decide(settings.clone(), &note("/retest"));
    assert_eq!(started(&plan), ["test"]);
    assert!(!comment(&plan).unwrap().unwrap().contains("refused"));

    // The same of a push, of which no comment tells.
    let given = Given::run("push", &PUSH);
    given.decide(settings.clone(), &push("main"));
    let of_push = |state| {
        let mut run = a_run("push", state);
        run.merge_request = None;
        finished(run)
    };
    let plan = given.decide(settings, &of_push(RunState::Refused));
    assert_eq!(status(&plan).unwrap().1, "Failed");
}

#[test]
fn the_end_of_a_failed_step_s_log_stands_in_the_comment_until_the_pipeline_runs_again() {
    let mut given = Given::run("test", &MR).with("lint", &MR);
    given.decide(none(), &merge_request("open"));
    given.runs = vec![a_run("test", RunState::Failed)];
    let mut event = finished(a_run("test", RunState::Failed));
    event.extras = vec![("log-excerpt".to_owned(), json!("so\nbad").to_string())];
    let shown = |plan: &Plan| {
        comment(plan)
            .unwrap()
            .unwrap()
            .contains("```text\nso\nbad\n```")
    };
    assert!(shown(&given.decide(none(), &event)));
    given.runs.insert(0, a_run("lint", RunState::Succeeded));
    let other = finished(a_run("lint", RunState::Succeeded));
    assert!(
        shown(&given.decide(none(), &other)),
        "another run's end keeps it"
    );
    let mut newer = a_run("test", RunState::Running);
    newer.id = "newer".to_owned();
    given.runs.insert(0, newer);
    assert!(!shown(&given.decide(none(), &other)));
}

#[test]
fn the_end_of_an_older_commits_run_leaves_the_comment_alone() {
    let given = Given::run("test", &MR);
    let mut newer = new_head();
    newer.commit = Some(OTHER_COMMIT.to_owned());
    given.decide(none(), &newer);
    let plan = given.decide(none(), &finished(a_run("test", RunState::Failed)));
    assert_eq!(plan.effects, []);
}

#[test]
fn the_aggregate_status_follows_all_runs() {
    let settings = json!({ "on-no-match": "success" });
    let mut given = Given::run("test", &MR).with("lint", &MR);
    let state = |plan: &Plan| status(plan).unwrap().1;
    assert_eq!(
        state(&given.decide(settings.clone(), &merge_request("open"))),
        "Running"
    );
    given.runs = vec![
        a_run("test", RunState::Running),
        a_run("lint", RunState::Running),
    ];
    assert_eq!(
        state(&given.decide(
            settings.clone(),
            &finished(a_run("lint", RunState::Succeeded))
        )),
        "Running"
    );
    given.runs = vec![
        a_run("test", RunState::Running),
        a_run("lint", RunState::Succeeded),
    ];
    assert_eq!(
        state(&given.decide(settings.clone(), &finished(a_run("test", RunState::Failed)))),
        "Failed"
    );
    let again = given.decide(
        settings.clone(),
        &finished(a_run("test", RunState::Succeeded)),
    );
    assert_eq!(state(&again), "Success");
    assert_eq!(status(&again).unwrap().0, "Penstock");
}

#[test]
fn comments_may_be_off_and_mistakes_are_shown_all_the_same() {
    let settings = json!({ "repository": { "settings": { "gitlab": { "comment_strategy": "disable_all" } } } });
    let given = Given::run("test", &MR);
    assert_eq!(
        comment(&given.decide(settings.clone(), &merge_request("open"))),
        None
    );
    let given = given.file(".tekton/x.yaml", "kind: [\n");
    assert!(comment(&given.decide(settings, &merge_request("open"))).is_some());
}

#[test]
fn a_folder_of_fifty_files_is_one_question() {
    let mut given = Given::default();
    for number in 0..50 {
        given = given.with(&format!("run-{number}"), &PUSH);
    }
    let plan = given.decide(none(), &push("main"));
    assert_eq!(started(&plan).len(), 50);
    assert_eq!(*given.asked.borrow(), ["folder .tekton", "open main"]);
}

#[test]
fn the_host_is_asked_for_changes_and_body_only_where_something_names_them() {
    let given = Given::run("test", &MR);
    given.decide(none(), &merge_request("open"));
    assert_eq!(
        given.times("changes") + given.times("payload") + given.times("places"),
        0
    );
    let paths = [MR[0], MR[1], ("on-path-change", "[src/**]")];
    let given = Given::run("a", &paths).with("b", &paths);
    given.decide(none(), &merge_request("open"));
    assert_eq!(given.times("changes"), 1);
}

#[test]
fn files_of_one_place_are_asked_for_in_one_question() {
    let task = |name: &str| {
        format!(
            "apiVersion: tekton.dev/v1\nkind: Task\nmetadata: {{ name: {name} }}\nspec: {{ steps: [] }}\n"
        )
    };
    let names = [
        PUSH[0],
        PUSH[1],
        ("task", "[a.yaml, b.yaml, .tekton/c.yaml]"),
    ];
    let given = Given::run("one", &names)
        .with("two", &names)
        .file("a.yaml", &task("a"))
        .file("b.yaml", &task("b"))
        .file(".tekton/c.yaml", &task("c"));
    given.decide(none(), &push("main"));
    assert_eq!(given.times("files"), 1);
    let asked = given.asked.borrow();
    assert!(
        asked.contains(&"files Source::Event a.yaml b.yaml".to_owned()),
        "{asked:?}"
    );
}

#[test]
fn the_same_event_gives_the_same_plan() {
    let first = Given::run("test", &MR).decide(none(), &merge_request("open"));
    assert_eq!(
        first,
        Given::run("test", &MR).decide(none(), &merge_request("open"))
    );
    assert!(matches!(first.effects[0].action, Action::StartRun(_)));
}

#[test]
fn run_labels_of_a_merge_request_have_its_number() {
    let plan =
        Given::run("test", &MR).decide(json!({ "run-labels": true }), &merge_request("open"));
    let run = manifest(&plan);
    assert_eq!(
        run["metadata"]["labels"]["pipelinesascode.tekton.dev/pull-request"],
        "5"
    );
}

#[test]
fn a_comment_on_a_tags_commit_runs_for_the_tag() {
    let mut given = Given::run(
        "release",
        &[("on-event", "push"), ("on-target-branch", "[refs/tags/v*]")],
    );
    given
        .refs
        .insert("refs/tags/v1".to_owned(), COMMIT.to_owned());
    given
        .refs
        .insert("refs/tags/v2".to_owned(), OTHER_COMMIT.to_owned());
    assert_eq!(
        started(&given.decide(none(), &commit_note("/test tag:v1"))),
        ["release"]
    );
    let plan = given.decide(none(), &commit_note("/test tag:v1"));
    let target = starts(&plan)[0].target.as_ref().unwrap();
    assert_eq!(target.ref_name.as_deref(), Some("refs/tags/v1"));
    let plan = given.decide(none(), &commit_note("/test tag:v2"));
    assert_eq!(plan.effects, []);
    says(&plan, "not the head");
}

#[test]
fn a_request_that_the_host_let_through_needs_no_rule_and_sets_no_variable() {
    let incoming = [("on-event", "[incoming]"), ("on-target-branch", "[main]")];
    let run = run_yaml("nightly", &incoming).replace("alpine", "{{ version }}@{{ revision }}");
    let given = Given::folder(&[("run.yaml", &run)]);
    let event = request(Some("nightly"), &[("version", "1.2"), ("revision", "0000")]);
    let plan = given.decide(none(), &event);
    assert!(starts(&plan)[0].manifest.contains(&format!("1.2@{COMMIT}")));
}

#[test]
fn many_pushes_and_merge_requests_take_a_bounded_number_of_keys() {
    let given = Given::run("push", &PUSH).with("test", &MR);
    for number in 0..400_u64 {
        let commit = format!("{number:040x}");
        let mut pushed = push("main");
        pushed.commit = Some(commit.clone());
        given.decide(none(), &pushed);
        let mut opened = fork(merge_request("open"));
        opened.commit = Some(commit.clone());
        edit_merge_request(&mut opened, |it| it.iid = number);
        given.decide(none(), &opened);
        let mut allowed = fork(note("/ok-to-test"));
        allowed.commit = Some(commit);
        edit_merge_request(&mut allowed, |it| it.iid = number);
        given.decide(none(), &allowed);
    }
    let state = given.state.borrow();
    assert!(state.len() <= 512, "{} keys", state.len());
    let largest = state.values().map(Vec::len).max().unwrap();
    assert!(largest <= 120 * 1024, "{largest} bytes");
}
