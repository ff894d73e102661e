//! Secrets that the host makes for a run.

use super::*;
use crate::effect::{RunSecret, SecretSource};

fn cloning(when: When) -> Setting {
    let policy = PlacePolicy {
        clone: true,
        ..PlacePolicy::default()
    };
    let mut setting = Setting::new(place(when, policy));
    setting.grants.from_fork = setting.grants.base.clone();
    setting
}

fn secret(name: &str, others: &[&str]) -> RunSecret {
    RunSecret {
        name: name.to_owned(),
        source: SecretSource::Clone(others.iter().map(|it| (*it).to_owned()).collect()),
    }
}

/// A run whose workspace and step name a Secret.
fn naming(name: &str, secrets: Vec<RunSecret>) -> Action {
    let manifest = json!({
        "apiVersion": "tekton.dev/v1",
        "kind": "PipelineRun",
        "spec": {
            "workspaces": [{ "name": "auth", "secret": { "secretName": name } }],
            "pipelineSpec": { "tasks": [{ "name": "t", "taskSpec": { "steps": [{
                "name": "s", "image": "alpine",
                "env": [{ "name": "T", "valueFrom": { "secretKeyRef": { "name": name, "key": "git-provider-token" } } }],
            }] } }] },
        },
    });
    let mut start = start_run(&manifest.to_string());
    start.secrets = secrets;
    Action::StartRun(Box::new(start))
}

#[track_caller]
fn refused(setting: &Setting, action: Action, path: &str, rule: &str) {
    let admitted = setting.admit(vec![("k", action)]);
    assert!(admitted.orders.is_empty(), "{admitted:?}");
    let found = admitted
        .refused
        .iter()
        .any(|it| it.path == path && it.rule.contains(rule) && !it.remedy.is_empty());
    assert!(found, "{:#?}", admitted.refused);
}

#[test]
fn the_plugin_s_name_becomes_the_real_one_wherever_it_stands() {
    for when in [When::Member, When::Protected, When::Fork] {
        let admitted = cloning(when).admit(vec![("k", naming("git", vec![secret("git", &[])]))]);
        let [order] = admitted.orders.as_slice() else {
            panic!("{admitted:#?}")
        };
        let Task::StartRun(run) = &order.task else {
            panic!("{order:?}")
        };
        let [made] = run.secrets.as_slice() else {
            panic!("{run:?}")
        };
        assert_eq!(
            made.name,
            format!("penstock-clone-{}-0", &order.id.hex()[..20])
        );
        assert!(made.others.is_empty());
        let at = |path: &str| run.manifest.pointer(path).cloned().unwrap();
        assert_eq!(at("/spec/workspaces/0/secret/secretName"), made.name);
        assert_eq!(
            at("/spec/pipelineSpec/tasks/0/taskSpec/steps/0/env/0/valueFrom/secretKeyRef/name"),
            made.name
        );
    }
}

#[test]
fn a_place_that_does_not_say_so_gives_no_credentials() {
    let setting = Setting::new(place(When::Member, PlacePolicy::default()));
    refused(
        &setting,
        naming("git", vec![secret("git", &[])]),
        "secrets[0].source",
        "gives runs no credentials to clone",
    );
}

#[test]
fn another_project_is_cloned_by_written_grant_alone() {
    let mut setting = cloning(When::Member);
    let wish = || naming("git", vec![secret("git", &["acme/lib"])]);
    refused(
        &setting,
        wish(),
        "secrets[0].source",
        "no grant for the project `acme/lib`",
    );
    setting.grants.base.elsewhere = ["acme/lib".to_owned()].into();
    let admitted = setting.admit(vec![("k", wish())]);
    assert_eq!(admitted.orders.len(), 1, "{admitted:#?}");

    // What forks were not granted, forks don't get.
    let mut fork = cloning(When::Fork);
    fork.grants.base.elsewhere = ["acme/lib".to_owned()].into();
    refused(&fork, wish(), "secrets[0].source", "no grant");
}

#[test]
fn no_run_names_a_secret_that_was_made_for_another() {
    let setting = cloning(When::Member);
    let other = "penstock-clone-0123456789abcdef0123-0";
    for secrets in [vec![], vec![secret("git", &[])]] {
        refused(
            &setting,
            naming(other, secrets),
            "manifest.spec.workspaces[0].secret.secretName",
            "made for one run",
        );
    }
    let open = PlacePolicy {
        clone: true,
        secrets: vec!["*".to_owned()],
        ..PlacePolicy::default()
    };
    refused(
        &Setting::new(place(When::Member, open)),
        naming(other, vec![]),
        "manifest.spec.workspaces[0].secret.secretName",
        "made for one run",
    );
}

#[test]
fn names_are_names_and_stand_once_and_there_are_few() {
    let setting = cloning(When::Member);
    for name in ["", "Git", "a/b", "$(params.x)"] {
        let action = naming("git", vec![secret("git", &[]), secret(name, &[])]);
        refused(&setting, action, "secrets[1].name", "the name of a Secret");
    }
    let twice = naming("git", vec![secret("git", &[]), secret("git", &[])]);
    refused(&setting, twice, "secrets[1].name", "the same name");
    let names = ["git", "a", "b", "c", "d"];
    let many = naming("git", names.map(|name| secret(name, &[])).into());
    refused(&setting, many, "secrets", "at most 4");
}
