//! Settings: every problem at once, with its path and its place.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

use penstock_trigger_map::{SCHEMA, validate};
use serde_json::{Value, json};

/// A problem: its path, its line and column, and a part of its message.
type Expected<'a> = (&'a str, Option<(u32, u32)>, &'a str);

fn check(settings: Value, expect: &[Expected<'_>]) {
    let problems = validate(&settings.to_string());
    let found: Vec<_> = problems
        .iter()
        .map(|it| (it.path.as_str(), it.line.zip(it.column)))
        .collect();
    let wanted: Vec<_> = expect
        .iter()
        .map(|(path, place, _)| (*path, *place))
        .collect();
    assert_eq!(found, wanted, "{problems:#?}");
    for (problem, (_, _, part)) in problems.iter().zip(expect) {
        assert!(problem.message.contains(part), "{problem:?} lacks {part}");
    }
}

fn run() -> Value {
    json!({ "apiVersion": "tekton.dev/v1", "kind": "PipelineRun" })
}

#[test]
fn all_problems_are_told_at_once() {
    check(
        json!({
            "rule": [],
            "rules": [
                { "name": "a", "whne": "true", "template": run(), "on": ["psuh"], "cancel": "all" },
                { "name": "a", "when": ["true", "event.branch ==\n  bodi.ref"], "template": run(), "file": "x.yaml" },
                { "name": "Bad Name", "keep": 0, "file": "../x.yaml" },
                { "when": "true" },
                { "name": "idle" },
                3,
            ],
        }),
        &[
            ("rule", None, "did you mean `rules`?"),
            ("rules[0].whne", None, "did you mean `when`?"),
            ("rules[0].on", None, "did you mean `push`?"),
            ("rules[0].cancel", None, "superseded"),
            ("rules[1]", None, "both `template` and `file`"),
            ("rules[2].name", None, "lower-case"),
            ("rules[2].file", None, "a path in the repository"),
            ("rules[2].keep", None, "at least 1"),
            ("rules[3].name", None, "missing"),
            ("rules[4]", None, "does nothing"),
            ("rules[5]", None, "must be a mapping"),
            ("rules[1].name", None, "names must differ"),
            ("rules[1].when[1]", Some((2, 3)), "did you mean `body`?"),
        ],
    );
}

#[test]
fn params_and_placeholders_are_checked_against_each_other() {
    let template = "apiVersion: tekton.dev/v1\nkind: PipelineRun\nspec:\n  params:\n    - { name: r, value: $(tt.params.revison) }\n";
    check(
        json!({ "rules": [{
            "name": "a",
            "template": template,
            "let": { "a": "extensions.b", "b": "extensions.a", "c": "1 +" },
            "params": {
                "revision": "$(evnt.commit)",
                "b": "x $(event.comit) $(extensions.d)",
                "c": { "cel": "event.commit", "text": "x" },
                "d": ["x"],
                "e": "$(body.a[",
                "f": "$(body.x..y)",
            },
            "comment": "$(header)$(nothing)",
        }] }),
        &[
            ("rules[0].params.c", None, "either `cel` or `text`"),
            ("rules[0].params.d", None, "is a list"),
            ("rules[0].let.c", Some((1, 4)), "is not CEL"),
            ("rules[0].params.b", Some((1, 3)), "did you mean `commit`?"),
            ("rules[0].params.b", Some((1, 18)), "names nothing in `let`"),
            ("rules[0].params.e", Some((1, 1)), "not closed"),
            ("rules[0].params.f", Some((1, 1)), "write the whole path"),
            (
                "rules[0].params.revision",
                Some((1, 1)),
                "did you mean `event`?",
            ),
            ("rules[0].comment", Some((1, 10)), "no known name"),
            (
                "rules[0].template",
                Some((5, 25)),
                "did you mean `revision`?",
            ),
            ("rules[0].let", None, "break the circle"),
        ],
    );
}

#[test]
fn a_template_that_is_no_pipeline_run_is_refused() {
    check(
        json!({ "rules": [{ "name": "a", "template": { "apiVersion": "v1", "kind": "Pod" } }] }),
        &[("rules[0].template", None, "must be a PipelineRun")],
    );
    check(
        json!({ "rules": [{ "name": "a", "template": "kind: PipelineRun\nspec: {\n" }] }),
        &[("rules[0].template", Some((2, 7)), "is not YAML")],
    );
}

#[test]
fn what_is_not_settings_is_refused() {
    check(json!({}), &[("rules", None, "at least one rule")]);
    check(
        json!({ "rules": {} }),
        &[("rules", None, "a list of rules")],
    );
    check(json!([]), &[("", None, "must be a mapping")]);
    assert_eq!(validate("{").len(), 1);
}

#[test]
fn the_schema_names_every_setting_of_a_rule() {
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    let known = schema
        .pointer("/$defs/rule/properties")
        .unwrap()
        .as_object()
        .unwrap();
    let mut rule = json!({ "name": "a", "template": run() });
    for name in known.keys() {
        rule.as_object_mut()
            .unwrap()
            .entry(name)
            .or_insert(Value::Null);
    }
    let unknown: Vec<_> = validate(&json!({ "rules": [rule] }).to_string())
        .into_iter()
        .filter(|it| it.message.starts_with("unknown setting"))
        .collect();
    assert_eq!(unknown, []);
    // And the other way: what the reader knows is in the schema.
    let hint = validate(
        &json!({ "rules": [{ "name": "a", "template": run(), "zzzzzzzz": 1 }] }).to_string(),
    );
    assert_eq!(hint.len(), 1);
    for name in [
        "name",
        "on",
        "when",
        "let",
        "params",
        "template",
        "file",
        "pipeline",
        "place",
        "cancel",
        "keep",
        "status-name",
        "queue",
        "secrets",
        "comment",
        "description",
    ] {
        assert!(known.contains_key(name), "{name}");
        assert!(known[name]["description"].is_string(), "{name}");
    }
}
