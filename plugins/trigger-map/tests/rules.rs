//! Rules over events, as an operator would try them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod given;

use given::{Asked, merge_request, note, push, sweep, tag};
use penstock_sdk::{Action, CancelScope, Event, Plan, PluginError};
use penstock_trigger_map::{Changes, Settings, decide};
use serde_json::{Value, json};

const TEMPLATE: &str = r#"{"apiVersion":"tekton.dev/v1","kind":"PipelineRun","spec":{"params":[{"name":"v","value":"$(tt.params.v)"}]}}"#;

/// Settings of one rule that passes a param `v` into the run.
fn rule(rule: Value) -> Settings {
    let mut all = json!({ "name": "build", "template": TEMPLATE, "params": { "v": "x" } });
    all.as_object_mut()
        .unwrap()
        .extend(rule.as_object().unwrap().clone());
    settings(json!({ "rules": [all] }))
}

fn settings(settings: Value) -> Settings {
    let text = settings.to_string();
    assert_eq!(penstock_trigger_map::validate(&text), [], "{text}");
    Settings::parse(&text).unwrap()
}

fn plan(settings: &Settings, event: &Event) -> Plan {
    decide(settings, event, &Asked::default()).unwrap()
}

/// Whether the only rule matches, and the reason.
fn check_when(when: &str, event: &Event, expect: Result<(), &str>) {
    let plan = plan(&rule(json!({ "when": when })), event);
    let reason = &plan.reasons[0];
    match expect {
        Ok(()) => assert_eq!(plan.effects.len(), 1, "{when}: {reason}"),
        Err(why) => {
            assert_eq!(plan.effects, [], "{when}");
            assert!(reason.contains(why), "{when}: {reason}");
        }
    }
}

/// The value of the param `v` in the run that is started.
fn check_value(v: Value, event: &Event, expect: &str) {
    let settings = rule(json!({
        "params": { "v": v },
        "let": { "version": "event.tag.substring(1)", "major": "int(extensions.version.split('.')[0])" },
        "on": ["push", "tag_push", "merge_request", "note"],
        "when": "event.kind != 'push'",
    }));
    let plan = plan(&settings, event);
    assert_eq!(plan.warnings, [], "{v}");
    let [effect] = plan.effects.as_slice() else {
        panic!("{v}: {:?}", plan.reasons)
    };
    let Action::StartRun(run) = &effect.action else {
        panic!("{effect:?}")
    };
    let manifest: Value = serde_json::from_str(&run.manifest).unwrap();
    assert_eq!(manifest["spec"]["params"][0]["value"], expect, "{v}");
}

#[test]
fn a_condition_is_asked_of_event_body_and_headers() {
    check_when("event.branch == 'main'", &push("main"), Ok(()));
    check_when(
        "event.branch.startsWith('release/') && event.protected",
        &push("release/1"),
        Err("`event.protected` is false"),
    );
    check_when(
        "body.ref == 'refs/heads/main' && body.commits.exists(c, 'src/lib.rs' in c.added)",
        &push("main"),
        Ok(()),
    );
    check_when(
        "body.user_username.matches('^a.*a$')",
        &push("main"),
        Ok(()),
    );
    check_when(
        "header.match('X-Gitlab-Event', 'Push Hook')",
        &push("main"),
        Ok(()),
    );
    check_when(
        "header.canonical('x-gitlab-event').endsWith('Hook')",
        &push("main"),
        Ok(()),
    );
    check_when(
        "headers['x-gitlab-event'] == 'Push Hook'",
        &push("main"),
        Ok(()),
    );
    check_when(
        "has(body.nothing) || !has(event.merge_request)",
        &push("main"),
        Ok(()),
    );
    check_when(
        "event.push.commits[0].title.contains('fix')",
        &push("main"),
        Ok(()),
    );
    check_when(
        "body.ref.split('/')[2] == 'main' && body.ref.upperAscii() == 'REFS/HEADS/MAIN'",
        &push("main"),
        Ok(()),
    );
    check_when(
        "body.labels.parseJSON().team == 'core'",
        &push("main"),
        Ok(()),
    );
    check_when(
        "'bWFpbg'.decodeb64() == event.branch",
        &push("main"),
        Ok(()),
    );
    check_when(
        "event.merge_request.target_branch == 'main' && 'ci' in event.merge_request.labels",
        &merge_request("open"),
        Ok(()),
    );
    check_when(
        "changes.all.exists(f, f.startsWith('docs/')) && !changes.truncated",
        &push("main"),
        Ok(()),
    );
    check_when(
        "event.trust in ['member', 'protected'] && event.actor.access >= 30",
        &push("main"),
        Ok(()),
    );
}

#[test]
fn a_missing_key_keeps_a_rule_from_matching_and_is_named() {
    check_when(
        "body.object_attributes.action == 'open'",
        &push("main"),
        Err("there is no key `object_attributes`"),
    );
    check_when(
        "event.merge_request.draft",
        &push("main"),
        Err("there is no key `merge_request`"),
    );
    check_when("body.ref", &push("main"), Err("neither true nor false"));
    check_when(
        "body.ref.parseJSON() == 1",
        &push("main"),
        Err("`parseJSON` failed"),
    );
}

/// Found by the fuzz target `rules`: the reason was a payload, with its keys in another order each time.
#[test]
fn a_mapping_of_the_wrong_type_is_not_shown_in_the_reason() {
    check_when(
        "event.parseJSON().code_changed",
        &push("main"),
        Err("`event.parseJSON().code_changed`: Unexpected type: got 'DefaultMap({…"),
    );
}

#[test]
fn the_first_condition_that_fails_is_the_reason() {
    let settings = rule(
        json!({ "when": ["event.code_changed", "event.branch == 'main'\n&& event.protected && event.fork"] }),
    );
    let plan = plan(&settings, &push("main"));
    assert_eq!(
        plan.reasons,
        ["rule `build` does not match: `event.protected` is false"]
    );
}

#[test]
fn a_rule_is_for_the_kinds_it_names() {
    let settings = rule(json!({ "on": "tag_push" }));
    assert_eq!(
        plan(&settings, &push("main")).reasons,
        ["rule `build` does not match: it is not for `push` events"]
    );
    assert_eq!(plan(&settings, &tag("v1.2.3")).effects.len(), 1);
}

#[test]
fn values_come_from_bindings_and_expressions() {
    let tag = tag("v12.3.4");
    check_value(
        json!("$(event.tag)-$(event.project.name)"),
        &tag,
        "v12.3.4-api",
    );
    check_value(json!("$(extensions.version)"), &tag, "12.3.4");
    check_value(json!("$(extensions.major)"), &tag, "12");
    check_value(
        json!("$(body.commits[0].id)"),
        &tag,
        "1111111111111111111111111111111111111111",
    );
    check_value(json!("$(body.commits[0].added)"), &tag, r#"["src/lib.rs"]"#);
    check_value(json!("$(header.X-Gitlab-Event)"), &tag, "Push Hook");
    check_value(json!("$(context.eventID)"), &tag, "delivery-1");
    check_value(json!("$$(event.tag)"), &tag, "$(event.tag)");
    check_value(
        json!({ "cel": "event.commit.truncate(8)" }),
        &tag,
        "11111111",
    );
    check_value(
        json!({ "cel": "event.push.after", "default": "none" }),
        &tag,
        "none",
    );
    check_value(
        json!({ "text": "$(body.missing)", "default": 7 }),
        &tag,
        "7",
    );
    check_value(json!(true), &tag, "true");
}

#[test]
fn a_param_without_a_value_starts_nothing_and_says_which() {
    let plan = plan(
        &rule(json!({ "params": { "v": "$(body.missing)" } })),
        &push("main"),
    );
    assert_eq!(plan.effects, []);
    assert_eq!(plan.warnings[0].path, "rules[0].params.v");
    assert!(
        plan.reasons[0].contains("`$(body.missing)` has no value"),
        "{:?}",
        plan.reasons
    );
}

#[test]
fn a_rule_sets_everything_of_its_run() {
    let settings = rule(json!({
        "pipeline": "unit", "place": "ci", "cancel": "superseded", "keep": 5, "status-name": "ci/unit",
        "queue": { "name": "unit", "concurrency": 1 },
        "secrets": [{ "name": "git", "clone": ["acme/lib"] }, { "name": "npm", "reference": "vault:npm#token" }],
        "comment": "Started for $(event.merge_request.title)",
    }));
    let mut event = merge_request("open");
    if let penstock_sdk::EventKind::MergeRequest(it) = &mut event.kind {
        it.merge_request.title = "`x`\n/merge @all".to_owned();
    }
    insta::assert_json_snapshot!(plan(&settings, &event));
}

#[test]
fn a_sweep_counts_as_the_push_that_was_lost() {
    let settings = rule(
        json!({ "on": "push", "when": "event.swept && event.code_changed && event.push.created" }),
    );
    assert_eq!(plan(&settings, &sweep("main")).effects.len(), 1);
}

#[test]
fn a_merge_request_that_has_ended_since_has_no_code_to_decide_about() {
    let settings = rule(json!({ "on": "merge_request", "when": "event.code_changed" }));
    let mut event = merge_request("open");
    assert_eq!(plan(&settings, &event).effects.len(), 1);
    if let penstock_sdk::EventKind::MergeRequest(it) = &mut event.kind {
        it.merge_request.state = "merged".to_owned();
    }
    assert_eq!(plan(&settings, &event).effects, []);
}

#[test]
fn a_deleted_branch_starts_no_run() {
    let mut event = push("main");
    event.commit = None;
    let plan = plan(&rule(json!({})), &event);
    assert_eq!(plan.effects, []);
    assert!(plan.reasons[0].contains("no commit"), "{:?}", plan.reasons);
}

#[test]
fn an_edited_comment_asks_no_rule() {
    let settings = rule(json!({ "on": "note", "when": "event.note.text == '/test'" }));
    assert_eq!(plan(&settings, &note("/test", true)).effects.len(), 1);
    assert_eq!(plan(&settings, &note("/test", false)).effects, []);
}

#[test]
fn the_host_is_asked_only_for_what_rules_name() {
    let asked = Asked::default();
    decide(
        &rule(json!({ "when": "event.branch == 'main'" })),
        &push("main"),
        &asked,
    )
    .unwrap();
    assert_eq!(asked.log.into_inner(), Vec::<String>::new());
    let asked = Asked::default();
    decide(
        &rule(json!({ "on": "tag_push", "when": "body.x == 1" })),
        &push("main"),
        &asked,
    )
    .unwrap();
    assert_eq!(asked.log.into_inner(), Vec::<String>::new());
}

#[test]
fn changed_paths_that_are_not_to_be_had_are_a_reason() {
    let asked = Asked {
        changes: Err("denied: no grant".to_owned()),
        ..Asked::default()
    };
    let settings = rule(json!({ "when": "size(changes.all) > 0" }));
    let plan = decide(&settings, &push("main"), &asked).unwrap();
    assert!(
        plan.reasons[0].contains("denied: no grant"),
        "{:?}",
        plan.reasons
    );
}

#[test]
fn a_rule_that_needs_what_is_withheld_does_not_match_and_others_do() {
    let asked = Asked {
        withheld: Some("denied: no grant `delivery: true`".to_owned()),
        ..Asked::default()
    };
    for needs in ["body.ref != ''", "size(headers) > 0"] {
        let settings = rule(json!({ "when": needs }));
        let plan = decide(&settings, &push("main"), &asked).unwrap();
        assert!(plan.effects.is_empty());
        assert!(
            plan.reasons[0].contains("not to be had: denied: no grant"),
            "{:?}",
            plan.reasons
        );
    }
    let settings = rule(json!({ "when": "event.branch == 'main'" }));
    let plan = decide(&settings, &push("main"), &asked).unwrap();
    assert_eq!(plan.effects.len(), 1);
}

#[test]
fn renamed_files_count_by_both_names() {
    let changes = Changes {
        renamed: vec![("old.rs".to_owned(), "new.rs".to_owned())],
        ..Changes::default()
    };
    let asked = Asked {
        changes: Ok(changes),
        ..Asked::default()
    };
    let settings =
        rule(json!({ "when": "'old.rs' in changes.all && changes.renamed == ['new.rs']" }));
    assert_eq!(
        decide(&settings, &push("main"), &asked)
            .unwrap()
            .effects
            .len(),
        1
    );
}

#[test]
fn a_file_of_the_repository_is_the_template() {
    let settings = settings(
        json!({ "rules": [{ "name": "a", "file": ".ci/build.yaml", "params": { "v": "$(event.branch)" } }] }),
    );
    let asked = Asked::with_file(".ci/build.yaml", TEMPLATE);
    let plan = decide(&settings, &push("main"), &asked).unwrap();
    assert_eq!(plan.effects[0].key, "run/a");
    assert_eq!(asked.log.into_inner(), ["file .ci/build.yaml"]);
}

#[test]
fn faults_of_repository_files_have_their_place() {
    let settings = settings(json!({ "rules": [
        { "name": "a", "file": "a.yaml" }, { "name": "b", "file": "b.yaml" }, { "name": "c", "file": "missing.yaml" },
    ] }));
    let mut asked = Asked::with_file(
        "a.yaml",
        "kind: PipelineRun\napiVersion: tekton.dev/v1\nspec:\n  x: $(tt.params.v)\n",
    );
    asked.files.insert(
        "b.yaml".to_owned(),
        "kind: PipelineRun\n  apiVersion: [\n".to_owned(),
    );
    let Err(PluginError::Source(problems)) = decide(&settings, &push("main"), &asked) else {
        panic!()
    };
    let places: Vec<_> = problems
        .iter()
        .map(|it| (it.path.as_str(), it.line))
        .collect();
    assert_eq!(
        places,
        [
            ("a.yaml", Some(4)),
            ("b.yaml", Some(2)),
            ("missing.yaml", None)
        ]
    );
}

#[test]
fn a_trigger_template_starts_all_its_runs_under_keys_of_their_own() {
    let run = json!({ "apiVersion": "tekton.dev/v1", "kind": "PipelineRun", "metadata": { "generateName": "r-$(uid)-" } });
    let settings = settings(json!({ "rules": [{
        "name": "both", "cancel": "earlier",
        "template": { "apiVersion": "triggers.tekton.dev/v1beta1", "kind": "TriggerTemplate", "spec": { "resourcetemplates": [run, run] } },
    }] }));
    let plan = plan(&settings, &push("main"));
    let keys: Vec<_> = plan.effects.iter().map(|it| it.key.as_str()).collect();
    assert_eq!(keys, ["cancel/both", "run/both", "run/both-2"]);
    let Action::CancelRuns(cancel) = &plan.effects[0].action else {
        panic!()
    };
    assert_eq!(cancel.scope, CancelScope::Earlier);
}

#[test]
fn the_same_event_gives_the_same_plan() {
    let settings = rule(json!({
        "template": TEMPLATE.replace("$(tt.params.v)", "$(tt.params.v)-$(uid)"),
        "params": { "v": { "cel": "body.commits.map(c, c.id)" } },
    }));
    let first = plan(&settings, &push("main"));
    assert_eq!(first, plan(&settings, &push("main")));
    assert_eq!(first.effects.len(), 1);
}

#[test]
fn the_end_of_a_run_is_for_rules_that_name_it() {
    let mut event = push("main");
    event.kind = given::run_finished();
    assert_eq!(plan(&rule(json!({})), &event).effects, []);
    let settings = rule(
        json!({ "on": "run_finished", "when": "event.run.state == 'failed' && event.run.depth < 2u" }),
    );
    assert_eq!(plan(&settings, &event).effects.len(), 1);
    let settings =
        rule(json!({ "on": "run_finished", "when": "event.run.log_excerpt.endsWith('\"boom')" }));
    assert_eq!(plan(&settings, &event).effects, []);
    let json = json!("a\n\"boom").to_string();
    event.extras = vec![("log-excerpt".to_owned(), json)];
    assert_eq!(plan(&settings, &event).effects.len(), 1);
}
