//! One test for each field of the table, made from the table itself, and the risky ones by hand.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::super::schema::{Field, PIPELINE_RUN, Rule, Shape};
use super::*;

/// One way down from the root to a field.
#[derive(Clone)]
struct Way {
    steps: Vec<&'static Field>,
}

/// Every field of every object, each by the way with the fewest rules above it, the shortest of those.
fn ways() -> Vec<Way> {
    let mut ways = Vec::new();
    let mut seen = Vec::new();
    let mut open: Vec<(Object, Vec<&'static Field>)> = vec![(&PIPELINE_RUN, Vec::new())];
    while !open.is_empty() {
        let cost = |steps: &[&Field]| {
            let rules = steps.iter().filter(|step| step.rule.is_some()).count();
            (rules, steps.len())
        };
        let next = (0..open.len()).min_by_key(|n| cost(&open[*n].1)).unwrap();
        let (fields, above) = open.remove(next);
        // By the table's own objects: two that hold the same may share their fields' place in memory.
        let object = std::ptr::from_ref(fields);
        if seen.contains(&object) {
            continue;
        }
        seen.push(object);
        for field in *fields {
            let steps = [above.as_slice(), &[field]].concat();
            if let Some(below) = object_of(field.shape) {
                open.push((below, steps.clone()));
            }
            ways.push(Way { steps });
        }
    }
    ways
}

/// An object of the table.
type Object = &'static &'static [Field];

fn object_of(shape: Shape) -> Option<Object> {
    match shape {
        Shape::Object(fields) => Some(fields),
        Shape::List(item) | Shape::Map(item) => object_of(*item),
        Shape::Scalar | Shape::Value => None,
    }
}

/// A value that a generous place allows.
fn sample(field: &Field) -> Value {
    match field.rule {
        Some(Rule::ApiVersion) => json!("tekton.dev/v1"),
        Some(Rule::Kind) => json!("PipelineRun"),
        Some(Rule::Labels | Rule::Annotations) => json!({ "example.com/team": "pay" }),
        Some(Rule::Account) => json!("deployer"),
        Some(Rule::Secret) => json!("ci-token"),
        Some(Rule::Driver) => json!("csi.example.com"),
        Some(Rule::Image) => json!("registry.example.com/ci/go:1"),
        Some(Rule::HostAccess) => json!(true),
        Some(Rule::Security) => json!({ "runAsUser": 0 }),
        Some(Rule::HostPath) => json!({ "path": "/data/cache" }),
        Some(Rule::Token) => json!({ "audience": "sts" }),
        _ => of_shape(field.shape),
    }
}

fn of_shape(shape: Shape) -> Value {
    match shape {
        Shape::Scalar | Shape::Value => json!("x"),
        Shape::List(item) => json!([of_shape(*item)]),
        Shape::Map(item) => json!({ "key": of_shape(*item) }),
        Shape::Object(_) => json!({}),
    }
}

/// `below` put into the field's shape, and what the field's own rule needs beside it.
fn wrap(field: &Field, below: Value) -> Value {
    fn nest(shape: Shape, below: Value) -> Value {
        match shape {
            Shape::List(item) => json!([nest(*item, below)]),
            Shape::Map(item) => json!({ "key": nest(*item, below) }),
            _ => below,
        }
    }
    let mut below = below;
    let beside = match field.rule {
        Some(Rule::HostPath | Rule::Token) => sample(field),
        _ => json!({}),
    };
    for (key, value) in beside.as_object().unwrap() {
        below
            .as_object_mut()
            .unwrap()
            .entry(key)
            .or_insert_with(|| value.clone());
    }
    nest(field.shape, below)
}

impl Way {
    fn field(&self) -> &'static Field {
        self.steps[self.steps.len() - 1]
    }

    /// Such as `spec.params[].name`.
    fn name(&self) -> String {
        let mut name = String::new();
        for (n, step) in self.steps.iter().enumerate() {
            name.push_str(if n == 0 { "" } else { "." });
            name.push_str(step.name);
            if n + 1 < self.steps.len() {
                let mut shape = step.shape;
                while let Shape::List(item) | Shape::Map(item) = shape {
                    name.push_str(if matches!(shape, Shape::List(_)) {
                        "[]"
                    } else {
                        "{}"
                    });
                    shape = *item;
                }
            }
        }
        name
    }

    /// A manifest with `value` at this way's end, under `key`.
    fn manifest(&self, key: &str, value: Value) -> Value {
        let mut built = Map::new();
        built.insert(key.to_owned(), value);
        let mut built = Value::Object(built);
        for step in self.steps[..self.steps.len() - 1].iter().rev() {
            built = json!({ step.name: wrap(step, built) });
        }
        merge(smallest(), built)
    }
}

fn merge(under: Value, over: Value) -> Value {
    match (under, over) {
        (Value::Object(mut under), Value::Object(over)) => {
            for (key, value) in over {
                let value = match under.remove(&key) {
                    Some(old) => merge(old, value),
                    None => value,
                };
                under.insert(key, value);
            }
            Value::Object(under)
        }
        (_, over) => over,
    }
}

/// Whether the value is found anywhere on the way in the run.
fn survives(way: &Way, run: &Value) -> bool {
    fn descend(shape: Shape, value: &Value) -> Option<&Value> {
        match shape {
            Shape::List(item) => descend(*item, value.get(0)?),
            Shape::Map(item) => descend(*item, value.get("key")?),
            _ => Some(value),
        }
    }
    let mut at = run;
    for step in &way.steps[..way.steps.len() - 1] {
        let Some(below) = at.get(step.name).and_then(|it| descend(step.shape, it)) else {
            return false;
        };
        at = below;
    }
    let expect = sample_of(way);
    match (at.get(way.field().name), expect) {
        // The host adds to maps and to the run's template.
        (Some(Value::Object(found)), Value::Object(expect)) => expect
            .iter()
            .all(|(key, value)| found.get(key) == Some(value)),
        (found, expect) => found == Some(&expect),
    }
}

/// The field's sample, or one of its own where the object's rule takes only some.
fn sample_of(way: &Way) -> Value {
    match way.name().as_str() {
        "spec.timeouts.pipeline" => json!("10m"),
        "spec.pipelineRef.kind" => json!("Pipeline"),
        "spec.pipelineRef.apiVersion" => json!("tekton.dev/v1"),
        "spec.pipelineRef.resolver" => json!("git"),
        name if name.ends_with("hostPath.path") => json!("/data/cache"),
        name if name.ends_with("serviceAccountToken.audience") => json!("sts"),
        _ => sample(way.field()),
    }
}

#[test]
fn every_field_of_the_table_and_what_becomes_of_it() {
    let plain = Setting::new(place(When::Member, PlacePolicy::default()));
    let free = Setting::new(place(When::Member, generous()));
    let forks = Setting::new(place(When::Fork, generous()));
    // Three columns: a default policy, a generous one, and the generous one in a place for forks.
    let mut table = String::new();
    for way in ways() {
        let text = way.manifest(way.field().name, sample_of(&way)).to_string();
        let word = |setting: &Setting| match setting.run(&text) {
            Ok(run) if survives(&way, &run.manifest) => "kept",
            Ok(_) => "the host's",
            Err(_) => "refused",
        };
        let words = (word(&plain), word(&free), word(&forks));
        writeln!(
            table,
            "{:<9} {:<10} {:<10} {}",
            words.0,
            words.1,
            words.2,
            way.name()
        )
        .unwrap();
        assert!(
            words.1 == "kept" || way.field().rule == Some(Rule::Host),
            "{}: {words:?}: {:?}",
            way.name(),
            free.run(&text)
        );
        if way.field().rule.is_none() {
            // A field without a rule is refused only where one above it is.
            let above = way.steps.iter().any(|step| step.rule.is_some());
            assert!(
                above || words == ("kept", "kept", "kept"),
                "{}: {words:?}: {:?}",
                way.name(),
                plain.run(&text)
            );
        }
    }
    insta::assert_snapshot!("fields", table);
}

#[test]
fn a_field_that_is_not_in_the_table_is_refused_with_its_path_wherever_it_stands() {
    let setting = Setting::new(place(When::Member, generous()));
    let mut objects = 0;
    for way in ways() {
        let manifest = way.manifest("neverHeardOf", json!("x"));
        let faults = setting.run(&manifest.to_string()).unwrap_err();
        let (path, rule) = faults
            .iter()
            .find(|(path, _)| path.ends_with(".neverHeardOf"))
            .unwrap();
        assert!(path.starts_with("manifest."), "{path}");
        assert_eq!(rule, "the field is not on the list of what a run may have");
        objects += 1;
    }
    assert!(objects > 300, "{objects} fields");
}

#[test]
fn a_value_of_another_shape_is_refused_with_its_path_wherever_it_stands() {
    let setting = Setting::new(place(When::Member, generous()));
    for way in ways() {
        let field = way.field();
        if matches!(field.rule, Some(Rule::Host | Rule::Account)) {
            continue;
        }
        let wrong = match field.shape {
            Shape::Scalar => json!({ "a": 1 }),
            Shape::Value => json!([[1]]),
            _ => json!("x"),
        };
        let faults = setting.run(&way.manifest(field.name, wrong).to_string());
        let faults = faults.expect_err(&way.name());
        assert!(
            faults.iter().any(|(path, _)| path.contains(field.name)),
            "{}: {faults:?}",
            way.name()
        );
    }
}

/// A spec, a policy to judge it by, and the path that is refused: none for a spec that is admitted.
#[track_caller]
fn check(when: When, policy: PlacePolicy, spec: Value, refused: Option<&str>) {
    let manifest = json!({ "apiVersion": "tekton.dev/v1", "kind": "PipelineRun", "spec": spec });
    let outcome = Setting::new(place(when, policy)).run(&manifest.to_string());
    match (outcome, refused) {
        (Ok(_), None) => {}
        (Err(faults), Some(path)) => {
            let paths: Vec<&str> = faults.iter().map(|(path, _)| path.as_str()).collect();
            assert_eq!(paths, [format!("manifest.spec.{path}")], "{faults:?}");
        }
        (outcome, _) => panic!("{outcome:?}"),
    }
}

fn steps(step: Value) -> Value {
    json!({ "pipelineSpec": { "tasks": [{ "name": "t", "taskSpec": { "steps": [step] } }] } })
}

fn volumes(volume: Value) -> Value {
    json!({ "pipelineSpec": { "tasks": [{ "name": "t", "taskSpec": { "volumes": [volume] } }] } })
}

const STEP: &str = "pipelineSpec.tasks[0].taskSpec.steps[0]";
const VOLUME: &str = "pipelineSpec.tasks[0].taskSpec.volumes[0]";

#[test]
fn what_nobody_may_write_is_refused() {
    for (spec, path) in [
        (
            json!({ "status": "PipelineRunPending" }),
            "status".to_owned(),
        ),
        (json!({ "managedBy": "me" }), "managedBy".to_owned()),
        (
            json!({ "serviceAccountName": "admin" }),
            "serviceAccountName".to_owned(),
        ),
        (json!({ "timeout": "1h" }), "timeout".to_owned()),
        (
            json!({ "taskRunTemplate": { "serviceAccount": "x" } }),
            "taskRunTemplate.serviceAccount".to_owned(),
        ),
        (
            json!({ "pipelineRef": { "bundle": "x" } }),
            "pipelineRef.bundle".to_owned(),
        ),
        (
            volumes(json!({ "nfs": { "server": "x" } })),
            format!("{VOLUME}.nfs"),
        ),
        (volumes(json!({ "iscsi": {} })), format!("{VOLUME}.iscsi")),
        (
            volumes(json!({ "flexVolume": {} })),
            format!("{VOLUME}.flexVolume"),
        ),
        (
            volumes(json!({ "projected": { "sources": [{ "clusterTrustBundle": {} }] } })),
            format!("{VOLUME}.projected.sources[0].clusterTrustBundle"),
        ),
        (
            json!({ "workspaces": [{ "volumeClaimTemplate": { "spec": { "dataSource": { "name": "theirs" } } } }] }),
            "workspaces[0].volumeClaimTemplate.spec.dataSource".to_owned(),
        ),
        (
            json!({ "workspaces": [{ "volumeClaimTemplate": { "spec": { "volumeName": "theirs" } } }] }),
            "workspaces[0].volumeClaimTemplate.spec.volumeName".to_owned(),
        ),
        (
            json!({ "workspaces": [{ "volumeClaimTemplate": { "metadata": { "ownerReferences": [] } } }] }),
            "workspaces[0].volumeClaimTemplate.metadata.ownerReferences".to_owned(),
        ),
        (
            json!({ "pipelineSpec": { "tasks": [{ "taskSpec": { "apiVersion": "example.dev/v1", "kind": "Wait" } }] } }),
            "pipelineSpec.tasks[0].taskSpec.apiVersion".to_owned(),
        ),
    ] {
        let manifest =
            json!({ "apiVersion": "tekton.dev/v1", "kind": "PipelineRun", "spec": spec });
        let faults = Setting::new(place(When::Member, generous()))
            .run(&manifest.to_string())
            .unwrap_err();
        assert!(
            faults
                .iter()
                .any(|(found, _)| *found == format!("manifest.spec.{path}")),
            "{faults:?}"
        );
    }
    for field in [
        "ownerReferences",
        "finalizers",
        "uid",
        "managedFields",
        "resourceVersion",
        "creationTimestamp",
    ] {
        let mut manifest = smallest();
        manifest["metadata"] = json!({ field: ["x"] });
        let faults = Setting::new(place(When::Member, generous()))
            .run(&manifest.to_string())
            .unwrap_err();
        assert_eq!(faults[0].0, format!("manifest.metadata.{field}"));
    }
    let mut manifest = smallest();
    manifest["status"] = json!({ "conditions": [] });
    let faults = Setting::new(place(When::Member, generous()))
        .run(&manifest.to_string())
        .unwrap_err();
    assert_eq!(faults[0].0, "manifest.status");
}

#[test]
fn names_of_secrets_obey_the_policy_wherever_they_stand() {
    let own = |name: &str| -> [(Value, String); 6] {
        [
            (
                steps(
                    json!({ "env": [{ "name": "A", "valueFrom": { "secretKeyRef": { "name": name, "key": "k" } } }] }),
                ),
                format!("{STEP}.env[0].valueFrom.secretKeyRef.name"),
            ),
            (
                steps(json!({ "envFrom": [{ "secretRef": { "name": name } }] })),
                format!("{STEP}.envFrom[0].secretRef.name"),
            ),
            (
                volumes(json!({ "secret": { "secretName": name } })),
                format!("{VOLUME}.secret.secretName"),
            ),
            (
                volumes(json!({ "projected": { "sources": [{ "secret": { "name": name } }] } })),
                format!("{VOLUME}.projected.sources[0].secret.name"),
            ),
            (
                json!({ "workspaces": [{ "name": "w", "secret": { "secretName": name } }] }),
                "workspaces[0].secret.secretName".to_owned(),
            ),
            (
                json!({ "pipelineRef": { "resolver": "git", "params": [{ "name": "token", "value": name }] } }),
                "pipelineRef.params[0].value".to_owned(),
            ),
        ]
    };
    for (spec, _) in own("ci-token") {
        check(When::Member, generous(), spec, None);
    }
    for name in [
        "prod-token",
        "ci",
        "$(params.secret)",
        "ci-$(params.secret)",
    ] {
        for (spec, path) in own(name) {
            check(When::Member, generous(), spec, Some(&path));
        }
    }
    let all = PlacePolicy {
        secrets: vec!["*".into()],
        ..generous()
    };
    for (spec, _) in own("$(params.secret)") {
        check(When::Member, all.clone(), spec, None);
    }
    let (last, rest) = {
        let [a, b, c, d, e, f] = own("ci-token");
        (f, [a, b, c, d, e])
    };
    for (spec, path) in rest {
        check(When::Fork, all.clone(), spec, Some(&path));
    }
    check(When::Fork, all, last.0, Some("pipelineRef.resolver"));
}

#[test]
fn paths_of_the_node_lie_below_what_the_policy_names() {
    for (path, allowed) in [
        ("/data", true),
        ("/data/cache", true),
        ("/database", false),
        ("/data/../etc", false),
        ("/etc", false),
        ("$(params.path)", false),
    ] {
        let spec = volumes(json!({ "hostPath": { "path": path } }));
        let refused = format!("{VOLUME}.hostPath.path");
        check(
            When::Member,
            generous(),
            spec.clone(),
            (!allowed).then_some(&refused),
        );
        check(
            When::Fork,
            generous(),
            spec,
            Some(&format!("{VOLUME}.hostPath")),
        );
    }
    check(
        When::Member,
        generous(),
        volumes(json!({ "hostPath": {} })),
        Some(&format!("{VOLUME}.hostPath.path")),
    );
}

#[test]
fn claims_config_maps_drivers_and_tokens_obey_the_policy() {
    let policy = PlacePolicy {
        config_maps: Some(vec!["ci-*".into()]),
        volume_claims: Some(vec!["cache".into()]),
        ..generous()
    };
    let claim =
        |name: &str| json!({ "workspaces": [{ "persistentVolumeClaim": { "claimName": name } }] });
    let map = |name: &str| json!({ "workspaces": [{ "configMap": { "name": name } }] });
    let driver = |name: &str| json!({ "workspaces": [{ "csi": { "driver": name } }] });
    let token = |token: Value| {
        volumes(json!({ "projected": { "sources": [{ "serviceAccountToken": token }] } }))
    };
    let claim_path = "workspaces[0].persistentVolumeClaim.claimName";
    check(When::Member, policy.clone(), claim("cache"), None);
    check(
        When::Member,
        policy.clone(),
        claim("theirs"),
        Some(claim_path),
    );
    check(When::Fork, policy.clone(), claim("cache"), Some(claim_path));
    check(When::Member, policy.clone(), map("ci-settings"), None);
    check(
        When::Member,
        policy.clone(),
        map("theirs"),
        Some("workspaces[0].configMap.name"),
    );
    check(When::Fork, policy.clone(), map("ci-settings"), None);
    check(
        When::Fork,
        generous(),
        map("any"),
        Some("workspaces[0].configMap.name"),
    );
    check(
        When::Member,
        policy.clone(),
        driver("csi.example.com"),
        None,
    );
    check(
        When::Member,
        policy.clone(),
        driver("other"),
        Some("workspaces[0].csi.driver"),
    );
    check(
        When::Fork,
        policy.clone(),
        driver("csi.example.com"),
        Some("workspaces[0].csi.driver"),
    );
    let at = format!("{VOLUME}.projected.sources[0].serviceAccountToken");
    let audience = format!("{at}.audience");
    check(
        When::Member,
        policy.clone(),
        token(json!({ "audience": "sts" })),
        None,
    );
    check(
        When::Member,
        policy.clone(),
        token(json!({ "audience": "other" })),
        Some(&audience),
    );
    check(
        When::Member,
        policy.clone(),
        token(json!({ "path": "token" })),
        Some(&audience),
    );
    check(
        When::Fork,
        policy,
        token(json!({ "audience": "sts" })),
        Some(&at),
    );
}

#[test]
fn images_obey_the_policy() {
    for (image, allowed) in [
        ("registry.example.com/ci/go:1", true),
        ("registry.example.com/ci/deep/er@sha256:00", true),
        ("registry.example.com/other/go:1", false),
        ("alpine:3", true),
        ("docker.io/library/alpine:3", true),
        ("evil/alpine:3", false),
        ("evil.example.com/alpine:3", false),
        ("$(params.image)", false),
        ("registry.example.com/ci/$(params.image)", false),
    ] {
        let refused = format!("{STEP}.image");
        check(
            When::Member,
            generous(),
            steps(json!({ "image": image })),
            (!allowed).then_some(&refused),
        );
    }
    let every = PlacePolicy {
        images: None,
        ..generous()
    };
    check(
        When::Member,
        every,
        steps(json!({ "image": "$(params.image)" })),
        None,
    );
}

#[test]
fn a_security_context_that_only_takes_away_needs_no_policy() {
    let hard = json!({
        "runAsNonRoot": true, "runAsUser": 1000, "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
        "privileged": false, "capabilities": { "drop": ["ALL"] }, "seccompProfile": { "type": "RuntimeDefault" },
    });
    check(
        When::Fork,
        PlacePolicy::default(),
        steps(json!({ "securityContext": hard })),
        None,
    );
    for soft in [
        json!({ "privileged": true }),
        json!({ "runAsUser": 0 }),
        json!({ "runAsUser": "$(params.uid)" }),
        json!({ "capabilities": { "add": ["SYS_ADMIN"] } }),
        json!({ "seccompProfile": { "type": "Unconfined" } }),
        json!({ "procMount": "Unmasked" }),
        json!({ "allowPrivilegeEscalation": true }),
    ] {
        let path = format!("{STEP}.securityContext");
        let spec = steps(json!({ "securityContext": soft }));
        check(
            When::Member,
            PlacePolicy::default(),
            spec.clone(),
            Some(&path),
        );
        check(When::Fork, generous(), spec.clone(), Some(&path));
        check(When::Member, generous(), spec, None);
    }
}

#[test]
fn pod_templates_need_the_policy_and_their_host_network_needs_more() {
    let spec = |template: Value| json!({ "taskRunTemplate": { "podTemplate": template } });
    let path = "taskRunTemplate.podTemplate";
    check(
        When::Member,
        PlacePolicy::default(),
        spec(json!({ "nodeSelector": { "a": "b" } })),
        Some(path),
    );
    check(When::Fork, generous(), spec(json!({})), Some(path));
    let policy = PlacePolicy {
        security_context: false,
        ..generous()
    };
    check(
        When::Member,
        policy.clone(),
        spec(json!({ "nodeSelector": { "a": "b" } })),
        None,
    );
    check(
        When::Member,
        policy.clone(),
        spec(json!({ "hostNetwork": true })),
        Some(&format!("{path}.hostNetwork")),
    );
    check(
        When::Member,
        policy.clone(),
        spec(json!({ "hostNetwork": false })),
        None,
    );
    check(
        When::Member,
        policy,
        spec(json!({ "imagePullSecrets": [{ "name": "theirs" }] })),
        Some(&format!("{path}.imagePullSecrets[0].name")),
    );
    let each = json!({ "taskRunSpecs": [{ "pipelineTaskName": "t", "podTemplate": {} }] });
    check(
        When::Member,
        PlacePolicy::default(),
        each,
        Some("taskRunSpecs[0].podTemplate"),
    );
}

#[test]
fn a_remote_reference_needs_its_resolver_and_a_protected_place_wants_it_pinned() {
    let remote = |resolver: &str, name: &str, value: &str| json!({ "pipelineRef": { "resolver": resolver, "params": [{ "name": name, "value": value }] } });
    check(
        When::Member,
        PlacePolicy::default(),
        remote("git", "revision", "main"),
        Some("pipelineRef.resolver"),
    );
    check(
        When::Member,
        generous(),
        remote("git", "revision", "main"),
        None,
    );
    check(
        When::Member,
        generous(),
        remote("mine", "a", "b"),
        Some("pipelineRef.resolver"),
    );
    check(
        When::Fork,
        generous(),
        remote("git", "revision", COMMIT),
        Some("pipelineRef.resolver"),
    );
    let digest = Digest::of(b"x");
    let value = Some("pipelineRef.params[0].value");
    for (resolver, name, text, refused) in [
        ("git", "revision", COMMIT, None),
        ("git", "revision", "main", value),
        ("git", "revision", "abc123", value),
        ("git", "revision", "$(params.revision)", value),
        (
            "git",
            "url",
            "https://x.example",
            Some("pipelineRef.params"),
        ),
        ("bundles", "bundle", &format!("r.example/t@{digest}"), None),
        ("bundles", "bundle", "r.example/t:1", value),
        ("hub", "version", "1", Some("pipelineRef.resolver")),
        (
            "http",
            "url",
            "https://x.example",
            Some("pipelineRef.resolver"),
        ),
        ("cluster", "name", "x", Some("pipelineRef.resolver")),
    ] {
        check(
            When::Protected,
            generous(),
            remote(resolver, name, text),
            refused,
        );
    }
    let twice = json!({ "pipelineRef": { "resolver": "git", "params": [
        { "name": "revision", "value": COMMIT }, { "name": "revision", "value": "main" }] } });
    check(
        When::Protected,
        generous(),
        twice,
        Some("pipelineRef.params[1].value"),
    );
    let step = steps(json!({ "ref": { "resolver": "hub" } }));
    check(
        When::Protected,
        generous(),
        step,
        Some(&format!("{STEP}.ref.resolver")),
    );
    let task = json!({ "pipelineSpec": { "finally": [{ "taskRef": { "resolver": "hub" } }] } });
    check(
        When::Protected,
        generous(),
        task,
        Some("pipelineSpec.finally[0].taskRef.resolver"),
    );
}

#[test]
fn a_bundle_is_fetched_with_no_account_but_the_places() {
    let spec = |account: &str| json!({ "pipelineRef": { "resolver": "bundles", "params": [{ "name": "serviceAccount", "value": account }] } });
    check(When::Member, generous(), spec("builder"), None);
    check(When::Member, generous(), spec("deployer"), None);
    check(
        When::Member,
        generous(),
        spec("penstock"),
        Some("pipelineRef.params[0].value"),
    );
}

#[test]
fn a_custom_task_and_an_address_as_a_name_are_refused() {
    let task =
        |reference: Value| json!({ "pipelineSpec": { "tasks": [{ "taskRef": reference }] } });
    check(
        When::Member,
        generous(),
        task(json!({ "name": "x", "kind": "Task" })),
        None,
    );
    let at = "pipelineSpec.tasks[0].taskRef";
    check(
        When::Member,
        generous(),
        task(json!({ "name": "x", "kind": "Wait" })),
        Some(&format!("{at}.kind")),
    );
    check(
        When::Member,
        generous(),
        task(json!({ "name": "x", "apiVersion": "example.dev/v1" })),
        Some(&format!("{at}.apiVersion")),
    );
    check(
        When::Member,
        generous(),
        task(json!({ "name": "https://x.example/t" })),
        Some(&format!("{at}.name")),
    );
}

#[test]
fn a_run_takes_no_longer_than_the_place_says() {
    let path = Some("timeouts.pipeline");
    for (text, refused) in [
        ("1h", None),
        ("59m59s", None),
        ("1h0m1s", path),
        ("0", path),
        ("0s", path),
        ("-1h", path),
        ("soon", path),
        ("$(params.t)", path),
    ] {
        check(
            When::Member,
            generous(),
            json!({ "timeouts": { "pipeline": text } }),
            refused,
        );
    }
    let run = Setting::new(place(When::Member, generous()))
        .run(&smallest().to_string())
        .unwrap();
    assert_eq!(run.manifest["spec"]["timeouts"]["pipeline"], "3600s");
    let run = Setting::new(place(When::Member, PlacePolicy::default()))
        .run(&smallest().to_string())
        .unwrap();
    assert!(run.manifest["spec"].get("timeouts").is_none());
}

#[test]
fn accounts_are_the_places_whatever_the_manifest_says() {
    let manifest = json!({
        "apiVersion": "tekton.dev/v1", "kind": "PipelineRun",
        "metadata": { "name": "mine", "generateName": "mine-", "namespace": "kube-system" },
        "spec": {
            "taskRunTemplate": { "serviceAccountName": "admin" },
            "taskRunSpecs": [{ "serviceAccountName": "admin" }, { "serviceAccountName": "deployer" }, { "pipelineTaskName": "t" }],
        },
    });
    let accounts = |when: When| {
        let run = Setting::new(place(when, generous()))
            .run(&manifest.to_string())
            .unwrap();
        assert_eq!(run.manifest["metadata"]["namespace"], "ci-pay");
        assert_eq!(run.manifest["metadata"]["name"], run.name);
        assert!(run.manifest["metadata"].get("generateName").is_none());
        assert_eq!(
            run.manifest["spec"]["taskRunTemplate"]["serviceAccountName"],
            "builder"
        );
        let specs = run.manifest["spec"]["taskRunSpecs"]
            .as_array()
            .unwrap()
            .clone();
        specs
            .iter()
            .map(|it| it["serviceAccountName"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        accounts(When::Member),
        [json!("builder"), json!("deployer"), Value::Null]
    );
    assert_eq!(
        accounts(When::Fork),
        [json!("builder"), json!("builder"), Value::Null]
    );
}
