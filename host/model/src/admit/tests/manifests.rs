//! Manifests as people write them: YAML and JSON, one document, of a bearable size.

use super::*;

fn member() -> Setting {
    Setting::new(place(When::Member, generous()))
}

#[track_caller]
fn refused(manifest: &str, path: &str, rule: &str) {
    let faults = member().run(manifest).unwrap_err();
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert_eq!(faults[0].0, path);
    assert!(faults[0].1.contains(rule), "{faults:?}");
}

#[test]
fn a_real_pipeline_run_is_sent_with_the_hosts_marks() {
    let run = member()
        .run(include_str!("../../../tests/real-run.yaml"))
        .unwrap();
    assert_eq!(run.manifest_digest, manifest_digest(&run.manifest));
    assert_eq!(
        run.manifest["metadata"]["annotations"][label::MANIFEST_DIGEST],
        run.manifest_digest.to_string()
    );
    insta::assert_json_snapshot!("real_run", run);
}

#[test]
fn the_digest_does_not_depend_on_the_order_of_keys() {
    let one = json!({ "a": 1, "b": { "c": [1, { "d": 2, "e": 3 }] } });
    let other: Value =
        serde_json::from_str(r#"{ "b": { "c": [1, { "e": 3, "d": 2 }] }, "a": 1 }"#).unwrap();
    assert_eq!(manifest_digest(&one), manifest_digest(&other));
    assert_ne!(manifest_digest(&one), manifest_digest(&json!({ "a": 1 })));
}

#[test]
fn json_is_read_too() {
    let run = member().run(&smallest().to_string()).unwrap();
    assert_eq!(run.manifest["spec"]["pipelineRef"]["name"], "build");
    let emoji = smallest()
        .to_string()
        .replace("\"build\"", r#""\ud83d\ude00""#);
    assert_eq!(
        member().run(&emoji).unwrap().manifest["spec"]["pipelineRef"]["name"],
        "😀"
    );
}

#[test]
fn octal_modes_mean_what_they_mean_to_kubectl() {
    let yaml = "apiVersion: tekton.dev/v1\nkind: PipelineRun\nspec:\n  workspaces: [{ name: w, configMap: { name: c, defaultMode: 0644 } }]\n";
    let run = member().run(yaml).unwrap();
    assert_eq!(
        run.manifest["spec"]["workspaces"][0]["configMap"]["defaultMode"],
        0o644
    );
}

#[test]
fn what_is_no_single_pipeline_run_of_v1_is_told_in_one_line() {
    refused("", "manifest", "empty");
    refused("- a", "manifest", "no object");
    refused("a: [", "manifest", "can't be read");
    refused("a: 1\na: 2", "manifest", "can't be read");
    refused(
        "apiVersion: tekton.dev/v1\n---\napiVersion: tekton.dev/v1\n",
        "manifest",
        "can't be read",
    );
    refused(
        "kind: PipelineRun\nspec: {}",
        "manifest.apiVersion",
        "(none given)",
    );
    refused(
        "apiVersion: tekton.dev/v1beta1\nkind: PipelineRun\nspec: { timeout: 1h }",
        "manifest.apiVersion",
        "no longer taken",
    );
    refused(
        "apiVersion: tekton.dev/v1\nkind: Pipeline\nspec: {}",
        "manifest.kind",
        "`Pipeline`",
    );
    refused(
        "apiVersion: tekton.dev/v1\nkind: PipelineRun",
        "manifest.spec",
        "without a spec",
    );
}

#[test]
fn a_manifest_that_unfolds_into_a_bomb_is_refused() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for n in 1..10 {
        let below = format!("*a{},", n - 1).repeat(10);
        bomb.push_str(&format!("a{n}: &a{n} [{below}]\n"));
    }
    refused(&bomb, "manifest", "can't be read");
    refused(
        &format!("a: {}", "[".repeat(500)),
        "manifest",
        "can't be read",
    );
    refused(
        &format!("{{\"a\": {}", "[".repeat(5000)),
        "manifest",
        "can't be read",
    );
    refused(&"#".repeat(5 * 1024 * 1024), "manifest", "at most 4096 KiB");
}

#[test]
fn a_run_that_can_not_be_stored_is_refused_with_its_largest_tasks() {
    let task = |name: &str, size: usize| json!({ "name": name, "taskSpec": { "steps": [{ "image": "alpine:3", "script": "x".repeat(size) }] } });
    let manifest = json!({ "apiVersion": "tekton.dev/v1", "kind": "PipelineRun", "spec": { "pipelineSpec": {
        "tasks": [task("small", 10), task("big", 700_000), task("middle", 300_000)], "finally": [task("last", 100_000)] } } });
    refused(
        &manifest.to_string(),
        "manifest",
        "`big` (684 KiB), `middle` (294 KiB), `last` (98 KiB)",
    );
}

#[test]
fn no_more_faults_are_told_than_a_reader_can_bear() {
    let many: serde_json::Map<String, Value> =
        (0..1000).map(|n| (format!("f{n}"), json!(n))).collect();
    let mut manifest = smallest();
    manifest["spec"] = Value::Object(many);
    assert_eq!(member().run(&manifest.to_string()).unwrap_err().len(), 40);
}

#[test]
fn a_key_of_any_bytes_is_shown_quoted_and_cut() {
    let mut manifest = smallest();
    manifest["spec"][format!("\u{1b}[31m{}", "x".repeat(500))] = json!(1);
    let faults = member().run(&manifest.to_string()).unwrap_err();
    assert!(
        faults[0].0.starts_with("manifest.spec[\"\\u{1b}[31mxx"),
        "{faults:?}"
    );
    assert!(faults[0].0.len() < 120);
}

/// Judges one key in a place; the path and rule of all that is wrong.
fn keyed(place: Place, map: &str, key: &str) -> Result<RunOrder, Vec<(String, String)>> {
    let mut manifest = smallest();
    manifest["metadata"] = json!({ map: { key: "x" } });
    Setting::new(place).run(&manifest.to_string())
}

#[test]
fn a_label_or_annotation_is_kept_only_where_the_policy_names_it() {
    let open = PlacePolicy {
        labels: vec!["example.com/*".into(), "team".into()],
        annotations: vec!["vault.hashicorp.com/**".into()],
        ..PlacePolicy::default()
    };
    for (map, key, with) in [
        ("labels", "app", false),
        ("labels", "team", true),
        ("labels", "example.com/team", true),
        ("labels", "example.com", false),
        ("labels", "app.kubernetes.io/version", false),
        ("labels", "sidecar.istio.io/inject", false),
        ("labels", "vault.hashicorp.com/agent-inject", false),
        ("annotations", "vault.hashicorp.com/agent-inject", true),
        ("annotations", "example.com/team", false),
        ("annotations", "iam.amazonaws.com/role", false),
        ("annotations", "k8s.v1.cni.cncf.io/networks", false),
        ("annotations", "pipelinesascode.tekton.dev/on-event", false),
        ("annotations", "tekton.dev/tags", false),
    ] {
        let path = match key.split_once(['.', '/']) {
            Some(_) => format!("manifest.metadata.{map}[\"{key}\"]"),
            None => format!("manifest.metadata.{map}.{key}"),
        };
        let what = map.trim_end_matches('s');
        let refused = vec![(
            path,
            format!("place `ci` does not allow the {what} `{key}`"),
        )];
        let run = keyed(place(When::Member, open.clone()), map, key);
        match (with, run) {
            (true, Ok(run)) => assert_eq!(run.manifest["metadata"][map][key], "x"),
            (false, Err(faults)) => assert_eq!(faults, refused),
            (_, run) => panic!("{map} {key}: {run:?}"),
        }
        let plain = keyed(place(When::Member, PlacePolicy::default()), map, key);
        assert_eq!(plain.unwrap_err(), refused);
    }
}

#[test]
fn a_place_for_forks_keeps_no_label_whatever_its_policy_says() {
    let open = PlacePolicy {
        labels: vec!["**".into()],
        annotations: vec!["**".into()],
        ..PlacePolicy::default()
    };
    for (map, what) in [("labels", "labels"), ("annotations", "annotations")] {
        assert!(keyed(place(When::Member, open.clone()), map, "app").is_ok());
        let faults = keyed(place(When::Fork, open.clone()), map, "app").unwrap_err();
        let rule = format!("place `ci` is for forks and never gives a run {what} of its own");
        assert_eq!(faults, [(format!("manifest.metadata.{map}.app"), rule)]);
    }
}

#[test]
fn labels_of_tasks_and_claims_obey_the_policy_too() {
    let metadata = json!({ "labels": { "app": "payments" }, "annotations": { "iam.amazonaws.com/role": "admin" } });
    let manifest = json!({ "apiVersion": "tekton.dev/v1", "kind": "PipelineRun", "spec": {
        "pipelineSpec": {
            "tasks": [{ "name": "a", "taskSpec": { "metadata": metadata } }],
            "finally": [{ "name": "b", "pipelineSpec": { "tasks": [{ "name": "c", "taskSpec": { "metadata": metadata } }] } }],
        },
        "taskRunSpecs": [{ "pipelineTaskName": "a", "metadata": metadata }],
        "workspaces": [{ "name": "w", "volumeClaimTemplate": { "metadata": metadata } }],
    } });
    let faults = member().run(&manifest.to_string()).unwrap_err();
    let paths: Vec<&str> = faults.iter().map(|(path, _)| path.as_str()).collect();
    for at in [
        "spec.pipelineSpec.tasks[0].taskSpec",
        "spec.pipelineSpec.finally[0].pipelineSpec.tasks[0].taskSpec",
        "spec.taskRunSpecs[0]",
        "spec.workspaces[0].volumeClaimTemplate",
    ] {
        let at = format!("manifest.{at}.metadata");
        assert!(
            paths.contains(&format!("{at}.labels.app").as_str()),
            "{paths:?}"
        );
        let role = format!("{at}.annotations[\"iam.amazonaws.com/role\"]");
        assert!(paths.contains(&role.as_str()), "{paths:?}");
    }
    assert_eq!(paths.len(), 8);
}

#[test]
fn reserved_labels_are_refused_whatever_the_policy_says() {
    let open = PlacePolicy {
        labels: vec!["**".into()],
        annotations: vec!["**".into()],
        ..PlacePolicy::default()
    };
    let with = |map: &str, key: &str| keyed(place(When::Member, open.clone()), map, key);
    for map in ["labels", "annotations"] {
        for key in [
            "penstock.dev/effect",
            "chains.tekton.dev/signed",
            "tekton.dev/pipeline",
            "kubectl.kubernetes.io/x",
        ] {
            assert_eq!(
                with(map, key).unwrap_err()[0].0,
                format!("manifest.metadata.{map}[\"{key}\"]")
            );
        }
        assert!(with(map, "pipelinesascode.tekton.dev/on-event").is_ok());
    }
    assert!(with("annotations", "tekton.dev/tags").is_ok());
    let inside = json!({ "apiVersion": "tekton.dev/v1", "kind": "PipelineRun", "spec": {
        "pipelineSpec": { "tasks": [{ "taskSpec": { "metadata": { "labels": { "penstock.dev/effect": "x" } } } }] },
        "taskRunSpecs": [{ "metadata": { "annotations": { "chains.tekton.dev/x": "x" } } }] } });
    let faults = Setting::new(place(When::Member, open))
        .run(&inside.to_string())
        .unwrap_err();
    assert_eq!(faults.len(), 2);
}
