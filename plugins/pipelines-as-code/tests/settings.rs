//! Settings: every problem at once, with its path.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

use penstock_pipelines_as_code::{SCHEMA, validate};
use serde_json::{Value, json};

fn check(settings: Value, expect: &[(&str, &str)]) {
    let problems = validate(&settings.to_string());
    let found: Vec<_> = problems.iter().map(|it| it.path.as_str()).collect();
    let wanted: Vec<_> = expect.iter().map(|(path, _)| *path).collect();
    assert_eq!(found, wanted, "{problems:#?}");
    for (problem, (_, part)) in problems.iter().zip(expect) {
        assert!(problem.message.contains(part), "{problem:?} lacks {part}");
    }
}

#[test]
fn no_settings_are_good_settings() {
    check(json!({}), &[]);
    check(Value::Null, &[]);
}

#[test]
fn what_a_repository_object_has_is_taken_as_it_is() {
    check(
        json!({ "repository": {
            "concurrency_limit": 3,
            "params": [
                { "name": "company", "value": "Acme", "filter": "pac.event_type == 'push'" },
                { "name": "token", "secret_ref": { "name": "a", "key": "b" } },
                { "name": "asked-for" },
            ],
            "incoming": [{ "type": "webhook-url", "params": ["version"], "targets": ["main"] }],
            "settings": {
                "pipelinerun_provenance": "default_branch",
                "policy": { "ok_to_test": ["acme/maintainers"], "pull_request": [] },
                "gitops_command_prefix": "pac",
                "gitlab": { "comment_strategy": "disable_all" },
            },
        } }),
        &[],
    );
}

#[test]
fn what_the_host_has_elsewhere_says_where() {
    check(
        json!({ "repository": {
            "git_provider": { "secret": { "name": "x" } },
            "incoming": [{ "type": "webhook-url", "secret": { "name": "x" } }],
            "settings": { "ai": {}, "forgejo": {}, "github": {}, "github_app_token_scope_repos": [] },
            "url": "https://gitlab.example.com/acme/api",
        } }),
        &[
            ("repository.git_provider", "the host's `gitlab`"),
            ("repository.incoming[0].secret", "the host checks who asks"),
            ("repository.settings.ai", "no language model"),
            ("repository.settings.forgejo", "not for GitLab"),
            ("repository.settings.github", "not for GitLab"),
            (
                "repository.settings.github_app_token_scope_repos",
                "not for GitLab",
            ),
            ("repository.url", "`routes`"),
        ],
    );
}

#[test]
fn all_problems_are_told_at_once() {
    check(
        json!({
            "aplication-name": "x",
            "on-no-match": "sucess",
            "folder": "../x",
            "max-keep-runs": { "most": 0 },
            "push-with-merge-request": true,
            "cancel-in-progress": { "push": "yes" },
            "hubs": { "own": { "url": "http://x" } },
            "repository": {
                "params": [
                    { "name": "revision", "value": "x" },
                    { "name": "b", "value": "x", "secret_ref": { "name": "a", "key": "b" } },
                    { "name": "c", "value": "x", "filter": "1 +" },
                    { "value": "x" },
                ],
                "incoming": [{ "type": "other", "targets": ["a["], "params": ["revision"] }],
                "settings": { "gitops_command_prefix": "/pac", "pipelinerun_provenance": "branch" },
            },
        }),
        &[
            ("aplication-name", "did you mean `application-name`?"),
            ("cancel-in-progress.push", "`true` or `false`"),
            ("folder", "a path in the repository"),
            ("hubs.own.url", "https://"),
            ("max-keep-runs.most", "at least 1"),
            ("on-no-match", "`success`"),
            ("push-with-merge-request", "`skip`"),
            ("repository.incoming[0].type", "webhook-url"),
            ("repository.incoming[0].targets[0]", "no glob"),
            ("repository.incoming[0].params[0]", "every run has"),
            ("repository.params[0].name", "every run has"),
            ("repository.params[1]", "both"),
            ("repository.params[2].filter", "is not CEL"),
            ("repository.params[3].name", "and is nothing"),
            ("repository.settings.gitops_command_prefix", "plain word"),
            (
                "repository.settings.pipelinerun_provenance",
                "`default_branch`",
            ),
        ],
    );
}

#[test]
fn the_schema_names_every_setting() {
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    let names = |pointer: &str| -> Vec<String> {
        let known = schema
            .pointer(pointer)
            .and_then(Value::as_object)
            .expect(pointer);
        known.keys().cloned().collect()
    };
    for name in names("/properties") {
        let unknown: Vec<_> = validate(&json!({ &name: null }).to_string())
            .into_iter()
            .filter(|it| it.message.starts_with("unknown setting"))
            .collect();
        assert_eq!(unknown, [], "{name}");
    }
    let settings = "/properties/repository/properties/settings/properties";
    for name in names(settings) {
        let unknown: Vec<_> =
            validate(&json!({ "repository": { "settings": { &name: null } } }).to_string())
                .into_iter()
                .filter(|it| it.message.starts_with("unknown setting"))
                .collect();
        assert_eq!(unknown, [], "{name}");
    }
}
