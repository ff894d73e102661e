//! Whatever goes in, what comes out obeys the place.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::super::rules::glob;
use super::super::schema::{Field, PIPELINE_RUN, Rule, Shape};
use super::*;

/// Choices to make, drawn one after the other; zeros when they run out.
struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    fn below(&mut self, n: usize) -> usize {
        match self.0.split_first() {
            Some((first, rest)) => {
                self.0 = rest;
                usize::from(*first) % n
            }
            None => 0,
        }
    }

    fn pick<'t>(&mut self, of: &[&'t str]) -> &'t str {
        of[self.below(of.len())]
    }
}

const TEXTS: &[&str] = &[
    "x",
    "ci-token",
    "prod",
    "builder",
    "admin",
    "deployer",
    "git",
    "hub",
    "/data/x",
    "/etc",
    "$(params.x)",
    COMMIT,
    "alpine:3",
    "0",
];

const FORBIDDEN: &[&str] = &[
    "status",
    "managedBy",
    "ownerReferences",
    "finalizers",
    "serviceAccountNames",
    "nfs",
    "dataSource",
];

fn object(fields: &'static [Field], choices: &mut Choices<'_>, depth: usize) -> Value {
    let mut object = Map::new();
    for _ in 0..=choices.below(5) {
        if choices.below(40) == 39 {
            object.insert(choices.pick(FORBIDDEN).to_owned(), json!({ "x": 1 }));
        } else {
            let field = &fields[choices.below(fields.len())];
            object.insert(field.name.to_owned(), field_value(field, choices, depth));
        }
    }
    Value::Object(object)
}

fn field_value(field: &Field, choices: &mut Choices<'_>, depth: usize) -> Value {
    match field.rule {
        Some(Rule::Labels | Rule::Annotations) => {
            let key = choices.pick(&[
                "example.com/a",
                "app",
                "penstock.dev/effect",
                "tekton.dev/pipeline",
            ]);
            json!({ key: "x" })
        }
        _ => value(field.shape, choices, depth),
    }
}

fn value(shape: Shape, choices: &mut Choices<'_>, depth: usize) -> Value {
    match shape {
        Shape::Scalar | Shape::Value => match choices.below(12) {
            10 => json!(true),
            11 => json!(choices.below(256)),
            _ => json!(choices.pick(TEXTS)),
        },
        Shape::Object(_) if depth == 0 => json!({}),
        Shape::List(_) | Shape::Map(_) if depth == 0 => Value::Null,
        Shape::List(item) => {
            let items = (0..=choices.below(2))
                .map(|_| value(*item, choices, depth - 1))
                .collect();
            Value::Array(items)
        }
        Shape::Map(item) => json!({ "key": value(*item, choices, depth - 1) }),
        Shape::Object(fields) => object(fields, choices, depth - 1),
    }
}

/// Every (key, value) of the run, wherever it stands.
fn entries(of: &Value) -> Vec<(&str, &Value)> {
    match of {
        Value::Object(object) => object
            .iter()
            .flat_map(|(key, value)| [vec![(key.as_str(), value)], entries(value)].concat())
            .collect(),
        Value::Array(items) => items.iter().flat_map(entries).collect(),
        _ => vec![],
    }
}

fn obeys(run: &RunOrder, place: &Place) {
    let manifest = &run.manifest;
    let policy = &place.policy;
    let fork = place.when == When::Fork;
    assert_eq!(manifest["metadata"]["name"], run.name);
    assert_eq!(manifest["metadata"]["namespace"], place.namespace);
    assert_eq!(
        manifest["spec"]["taskRunTemplate"]["serviceAccountName"],
        place.run_as
    );
    for (key, value) in entries(manifest) {
        assert!(
            !FORBIDDEN.contains(&key) && key != "generateName",
            "{key} in {manifest}"
        );
        match key {
            "serviceAccountName" => {
                let name = value.as_str().unwrap();
                assert!(
                    name == place.run_as
                        || (!fork && policy.service_accounts.iter().any(|it| it == name)),
                    "{name}"
                );
            }
            "podTemplate" => assert!(policy.pod_template && !fork),
            "hostPath" => {
                assert!(!fork && !policy.host_paths.is_empty());
                assert!(value["path"].as_str().unwrap().starts_with("/data"));
            }
            "secretName" => assert!(
                !fork
                    && policy
                        .secrets
                        .iter()
                        .any(|it| glob(it, value.as_str().unwrap()))
            ),
            "secretRef" | "secretKeyRef" | "imagePullSecrets" | "nodePublishSecretRef" => {
                for (key, value) in entries(value) {
                    assert!(
                        key != "name"
                            || (!fork
                                && policy
                                    .secrets
                                    .iter()
                                    .any(|it| glob(it, value.as_str().unwrap())))
                    );
                }
            }
            "labels" | "annotations" if value.is_object() => {
                let allowed = if key == "labels" {
                    &policy.labels
                } else {
                    &policy.annotations
                };
                for (key, _) in entries(value) {
                    let hosts = key.starts_with("penstock.dev/") || key == label::MANAGED_BY;
                    assert!(
                        hosts || (!fork && allowed.iter().any(|it| glob(it, key))),
                        "{key}"
                    );
                }
            }
            "privileged" => {
                assert!(value == &Value::Bool(false) || (policy.security_context && !fork))
            }
            "hostNetwork" => assert!(
                value == &Value::Bool(false)
                    || value == &json!(0)
                    || (policy.security_context && !fork)
            ),
            "resolver" => assert!(
                !fork
                    && policy
                        .resolvers
                        .iter()
                        .any(|it| Some(it.as_str()) == value.as_str())
            ),
            _ => {}
        }
    }
}

/// What the host wrote taken out again.
fn unstamped(run: &RunOrder) -> Value {
    let mut manifest = run.manifest.clone();
    for map in ["labels", "annotations"] {
        let map = manifest["metadata"][map].as_object_mut().unwrap();
        map.retain(|key, _| !key.starts_with("penstock.dev/") && key != label::MANAGED_BY);
    }
    manifest
}

fn policies() -> impl Strategy<Value = PlacePolicy> {
    (any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(pod_template, security_context, open)| PlacePolicy {
            pod_template,
            security_context,
            images: None,
            timeout: None,
            ..if open {
                generous()
            } else {
                PlacePolicy::default()
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn what_comes_out_obeys_the_place(
        choices in proptest::collection::vec(any::<u8>(), 0..200),
        policy in policies(),
        when in prop_oneof![Just(When::Member), Just(When::Protected), Just(When::Fork)],
    ) {
        let mut manifest = object(PIPELINE_RUN, &mut Choices(&choices), 12);
        manifest["apiVersion"] = json!("tekton.dev/v1");
        manifest["kind"] = json!("PipelineRun");
        let place = place(when, policy);
        let setting = Setting::new(place.clone());
        if let Ok(run) = setting.run(&manifest.to_string()) {
            obeys(&run, &place);
            prop_assert_eq!(run.manifest_digest, manifest_digest(&run.manifest));
            // What was admitted once is admitted again, unchanged.
            let again = setting.run(&unstamped(&run).to_string()).unwrap();
            prop_assert_eq!(&again.manifest, &run.manifest);
        }
    }

    #[test]
    fn any_text_is_judged_without_a_panic(text in "(?s).{0,200}") {
        let setting = Setting::new(place(When::Member, generous()));
        prop_assert!(setting.run(&text).is_err());
    }

    #[test]
    fn a_glob_without_a_star_matches_itself_alone(text in "[a-c/]{0,6}", other in "[a-c/]{0,6}") {
        prop_assert_eq!(glob(&text, &other), text == other);
        let everything = format!("{text}**");
        let with_more = format!("{text}{other}");
        prop_assert!(glob(&everything, &with_more));
        let one_part = format!("{text}*");
        prop_assert_eq!(glob(&one_part, &with_more), !other.contains('/'));
    }
}
