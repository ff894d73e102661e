//! The crates know each other only as `docs/ARCHITECTURE.md` draws them, and what each crate alone may know stays its own.

#![allow(clippy::expect_used, clippy::panic, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};

/// Which of our crates a crate may depend on.
const MAY_USE: &[(&str, &[&str])] = &[
    ("penstock-model", &[]),
    ("penstock-gitlab", &["penstock-model"]),
    ("penstock-store", &["penstock-model"]),
    ("penstock-sandbox", &["penstock-model"]),
    ("penstock-cluster", &["penstock-model"]),
    (
        "penstock-server",
        &[
            "penstock-model",
            "penstock-gitlab",
            "penstock-store",
            "penstock-sandbox",
            "penstock-cluster",
        ],
    ),
    ("penstock-sdk", &[]),
    ("penstock-reading", &["penstock-sdk"]),
    (
        "penstock-trigger-map",
        &["penstock-sdk", "penstock-reading"],
    ),
    (
        "penstock-pipelines-as-code",
        &["penstock-sdk", "penstock-reading"],
    ),
    ("penstock-greeter", &["penstock-sdk"]),
];

/// Which of our crates alone may depend on a library: 'only `store` knows SQL'.
const ALONE_KNOWS: &[(&str, &str)] = &[
    ("rusqlite", "penstock-store"),
    ("postgres", "penstock-store"),
    ("tokio-postgres", "penstock-store"),
    ("wasmtime", "penstock-sandbox"),
    ("kube", "penstock-cluster"),
    ("k8s-openapi", "penstock-cluster"),
    ("prometheus-client", "penstock-server"),
    ("axum", "penstock-server"),
    ("clap", "penstock-server"),
];

/// What the model must do without, to stay pure.
const NOT_IN_THE_MODEL: &[&str] = &[
    "tokio", "kube", "wasmtime", "reqwest", "axum", "rusqlite", "tracing",
];

fn metadata() -> Metadata {
    MetadataCommand::new()
        .no_deps()
        .exec()
        .expect("cargo metadata answers")
}

/// What each of our crates depends on; what only its tests use is left out.
fn dependencies(metadata: &Metadata) -> BTreeMap<String, BTreeSet<String>> {
    let used = |package: &cargo_metadata::Package| {
        package
            .dependencies
            .iter()
            .filter(|it| it.kind != DependencyKind::Development)
            // The command `demo` brings the stand-ins along; a host that is built for use has none.
            .filter(|it| !(it.optional && it.name == "penstock-doubles"))
            .map(|it| it.name.clone())
            .collect()
    };
    metadata
        .packages
        .iter()
        .map(|it| (it.name.to_string(), used(it)))
        .collect()
}

#[test]
fn no_crate_knows_another_that_the_design_does_not_draw() {
    let dependencies = dependencies(&metadata());
    for (name, allowed) in MAY_USE {
        let found = dependencies
            .get(*name)
            .unwrap_or_else(|| panic!("there is no crate {name}"));
        for used in found.iter().filter(|it| it.starts_with("penstock-")) {
            assert!(
                allowed.contains(&used.as_str()),
                "{name} must not depend on {used}"
            );
        }
    }
    for name in dependencies.keys().filter(|it| it.starts_with("penstock-")) {
        let listed = MAY_USE.iter().any(|(known, _)| known == name);
        let of_the_tests = [
            "tests",
            "xtask",
            "doubles",
            "fuzz",
            "guests",
            "written-guests",
            "control-plane",
        ]
        .iter()
        .any(|it| name.trim_start_matches("penstock-") == *it);
        assert!(
            listed || of_the_tests,
            "{name} has no place in the layering: write it down in MAY_USE"
        );
    }
}

#[test]
fn what_one_crate_alone_may_know_no_other_crate_of_the_host_uses() {
    let dependencies = dependencies(&metadata());
    for (library, owner) in ALONE_KNOWS {
        for (name, _) in MAY_USE.iter().filter(|(name, _)| name != owner) {
            let used = dependencies
                .get(*name)
                .is_some_and(|it| it.contains(*library));
            assert!(
                !used,
                "{name} must not use {library}: only {owner} knows it"
            );
        }
    }
}

#[test]
fn the_model_does_without_io_and_runtimes() {
    let dependencies = dependencies(&metadata());
    let model = dependencies
        .get("penstock-model")
        .expect("there is a model");
    for library in NOT_IN_THE_MODEL {
        assert!(
            !model.contains(*library),
            "the model must not use {library}"
        );
    }
}
