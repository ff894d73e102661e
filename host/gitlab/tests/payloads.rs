//! Payloads as GitLab sends them, from the body to the typed event; and bodies that nobody sends.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

use std::path::Path;

use bytes::Bytes;
use http::HeaderMap;
use penstock_gitlab::{Accepted, HookScope, Keys, ParseError, Redaction, parse, verify};
use penstock_model::event::EventKind;
use penstock_model::id::Timestamp;
use penstock_model::secret::Secret;
use proptest::prelude::*;
use serde_json::{Value, json};

fn accept(body: &[u8]) -> Option<Accepted> {
    let keys = Keys::new(vec![Secret::new("s")], vec![]).unwrap();
    let mut headers = HeaderMap::new();
    headers.insert("x-gitlab-token", "s".parse().unwrap());
    let body = verify(
        &keys,
        &headers,
        Bytes::copy_from_slice(body),
        Timestamp::now(),
    )
    .unwrap();
    body.within(
        &HookScope::Instance,
        &"main".into(),
        &"all".into(),
        &Redaction::default(),
    )
    .ok()
}

fn fixtures() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut found: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            (name, std::fs::read(path).unwrap())
        })
        .collect();
    found.sort();
    found
}

fn fixture(name: &str) -> Value {
    let found = fixtures()
        .into_iter()
        .find(|(found, _)| found == name)
        .unwrap();
    serde_json::from_slice(&found.1).unwrap()
}

fn read(body: &Value) -> Result<penstock_gitlab::Parsed, ParseError> {
    parse(&accept(body.to_string().as_bytes()).unwrap())
}

#[test]
fn every_payload_is_read() {
    let found = fixtures();
    assert!(found.len() >= 39, "fixtures are missing");
    for (name, body) in found {
        let accepted = accept(&body).unwrap();
        let parsed = parse(&accepted).unwrap();
        let lane = accepted.lane().to_string();
        insta::assert_yaml_snapshot!(name, (("lane", lane), ("kind", accepted.kind()), parsed));
    }
}

#[test]
fn every_payload_is_within_its_group_and_no_other() {
    let keys = Keys::new(vec![Secret::new("s")], vec![]).unwrap();
    let mut headers = HeaderMap::new();
    headers.insert("x-gitlab-token", "s".parse().unwrap());
    for (name, body) in fixtures() {
        for (group, fits) in [
            ("acme", true),
            ("acme/payments", true),
            ("other", name == "member_added"),
        ] {
            let body =
                verify(&keys, &headers, Bytes::from(body.clone()), Timestamp::now()).unwrap();
            let scope = HookScope::Group(group.to_owned());
            let found = body.within(&scope, &"main".into(), &"h".into(), &Redaction::default());
            assert_eq!(found.is_ok(), fits, "{name} in {group}: {found:?}");
        }
    }
}

#[test]
fn values_of_variables_are_gone_from_what_is_kept() {
    let body = fixture("pipeline").to_string();
    assert!(body.contains("s3cret"));
    let accepted = accept(body.as_bytes()).unwrap();
    let kept = String::from_utf8(accepted.body().to_vec()).unwrap();
    assert!(
        !kept.contains("s3cret") && kept.contains("DEPLOY_TOKEN"),
        "{kept}"
    );
}

#[test]
fn a_payload_that_can_not_be_read_names_the_field() {
    for (name, pointer, value, path) in [
        ("push", "/ref", json!(7), "ref"),
        ("push", "/after", json!("main"), "after"),
        ("push", "/commits/1/id", json!("short"), "commits[1].id"),
        ("push", "/user_id", json!("four"), "user_id"),
        (
            "merge_request_open",
            "/object_attributes/source_branch",
            Value::Null,
            "object_attributes.source_branch",
        ),
        (
            "merge_request_open",
            "/object_attributes/last_commit/id",
            json!("x"),
            "object_attributes.last_commit.id",
        ),
        (
            "note_on_merge_request",
            "/merge_request",
            Value::Null,
            "merge_request",
        ),
        (
            "note_on_commit",
            "/object_attributes/id",
            Value::Null,
            "object_attributes.id",
        ),
        (
            "pipeline",
            "/object_attributes/sha",
            Value::Null,
            "object_attributes.sha",
        ),
        ("deployment", "/deployment_id", Value::Null, "deployment_id"),
        ("release", "/tag", Value::Null, "tag"),
        (
            "access_token_of_project",
            "/object_attributes",
            Value::Null,
            "object_attributes",
        ),
    ] {
        let mut body = fixture(name);
        *body.pointer_mut(pointer).unwrap() = value;
        let error = read(&body).unwrap_err();
        assert_eq!(error.path, path, "{name}: {error}");
    }
}

#[test]
fn a_project_without_an_id_can_not_be_read() {
    let mut body = fixture("push");
    body["project_id"] = Value::Null;
    body["project"]["id"] = Value::Null;
    assert_eq!(read(&body).unwrap_err().path, "project.id");
}

#[test]
fn zeros_are_no_commit() {
    let EventKind::Push(push) = read(&fixture("push_deleted_branch")).unwrap().kind else {
        panic!()
    };
    assert_eq!(push.after, None);
    let parsed = read(&fixture("push_new_branch")).unwrap();
    let EventKind::Push(push) = parsed.kind else {
        panic!()
    };
    assert_eq!(
        (push.before, parsed.revision),
        (None, push.after.map(|id| id.to_string()))
    );
}

fn any_json() -> impl Strategy<Value = Value> {
    let words = prop_oneof![
        Just("push"),
        Just("tag_push"),
        Just("merge_request"),
        Just("note"),
        Just("pipeline"),
        Just("deployment"),
        Just("release"),
        Just("access_token"),
        Just("build"),
        Just("MergeRequest"),
        Just("Commit"),
        Just("refs/heads/main"),
        Just("0000000000000000000000000000000000000000"),
        Just("x"),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        words.prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    let keys = prop_oneof![
        Just("object_kind"),
        Just("event_name"),
        Just("object_attributes"),
        Just("project"),
        Just("id"),
        Just("project_id"),
        Just("path_with_namespace"),
        Just("merge_request"),
        Just("last_commit"),
        Just("ref"),
        Just("after"),
        Just("commits"),
        Just("user"),
        Just("variables"),
        Just("value"),
        Just("tag"),
        Just("group_id"),
        Just("iid"),
        Just("noteable_type"),
    ];
    leaf.prop_recursive(4, 64, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::hash_map(keys.clone().prop_map(str::to_owned), inner, 0..8)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Every place in a value.
fn pointers(value: &Value, at: &str, out: &mut Vec<String>) {
    out.push(at.to_owned());
    match value {
        Value::Object(map) => map
            .iter()
            .for_each(|(key, value)| pointers(value, &format!("{at}/{key}"), out)),
        Value::Array(items) => {
            items
                .iter()
                .enumerate()
                .for_each(|(index, value)| pointers(value, &format!("{at}/{index}"), out));
        }
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_json_makes_it_panic(body in any_json()) {
        if let Some(accepted) = accept(body.to_string().as_bytes()) {
            let _ = parse(&accepted);
        }
    }

    #[test]
    fn no_bytes_make_it_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Some(accepted) = accept(&body) {
            let _ = parse(&accepted);
        }
    }

    #[test]
    fn no_payload_with_a_field_gone_wrong_makes_it_panic(which in any::<prop::sample::Index>(), place in any::<prop::sample::Index>(), with in any_json()) {
        let found = fixtures();
        let mut body: Value = serde_json::from_slice(&which.get(found.as_slice()).1).unwrap();
        let mut places = Vec::new();
        pointers(&body, "", &mut places);
        let place: &String = place.get(places.as_slice());
        *body.pointer_mut(place).unwrap() = with;
        if let Some(accepted) = accept(body.to_string().as_bytes()) {
            let first = parse(&accepted);
            let again = Accepted::restore(
                accepted.instance().clone(), accepted.hook().clone(), accepted.delivery().clone(),
                accepted.headers().to_vec(), accepted.body().clone(),
            ).unwrap();
            prop_assert_eq!(again.lane(), accepted.lane());
            prop_assert_eq!(parse(&again), first);
        }
    }
}
