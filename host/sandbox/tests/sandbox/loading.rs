//! What is refused before it runs, and in which words.

use penstock_model::grant::{Grant, Grants};
use penstock_model::limits::Limits;
use penstock_sandbox::{Kind, LoadError};

use crate::stage::{engine, grants, guest, load_bytes};
use penstock_written_guests::{empty, empty_with, trigger, with_instances};

const SETTINGS: &str = "export penstock:plugin/settings@0.1.0;";
const TRIGGER: &str = "export penstock:plugin/trigger@0.1.0;";
const APPROVAL: &str = "export penstock:plugin/approval@0.1.0;";
const ROTATION: &str = "export penstock:plugin/rotation@0.1.0;";

fn refused(wasm: &[u8]) -> LoadError {
    load_bytes(wasm, Limits::default()).expect_err("it must not load")
}

#[test]
fn something_else_than_a_component_is_named() {
    assert!(matches!(refused(b"#!/bin/sh"), LoadError::NotWasm));
    assert!(matches!(refused(b""), LoadError::NotWasm));
    let module = wat::parse_str("(module)").unwrap();
    assert!(
        refused(&module)
            .to_string()
            .contains("wasm-tools component new")
    );
    let nonsense = b"\0asm\x0d\0\x01\0nonsense";
    assert!(matches!(refused(nonsense), LoadError::Compile(_)));
}

#[test]
fn a_component_that_is_too_large_is_refused_before_it_is_read() {
    let limits = Limits {
        component: 100,
        ..Limits::default()
    };
    let error = load_bytes(&guest("minimal"), limits).unwrap_err();
    assert!(
        matches!(error, LoadError::TooLarge { limit: 100, .. }),
        "{error}"
    );
}

#[test]
fn a_component_is_of_exactly_one_kind() {
    assert!(matches!(refused(&empty(SETTINGS)), LoadError::NoKind));
    assert!(matches!(
        refused(&empty(&format!("{SETTINGS}{TRIGGER}{APPROVAL}"))),
        LoadError::TwoKinds { .. }
    ));
    assert!(matches!(refused(&empty(TRIGGER)), LoadError::NoSettings));
    for (own, kind) in [
        (TRIGGER, Kind::Trigger),
        (APPROVAL, Kind::Approval),
        (ROTATION, Kind::Rotation),
    ] {
        let plugin = load_bytes(&empty(&format!("{SETTINGS}{own}")), Limits::default())
            .unwrap_or_else(|error| panic!("{own}: {error}"));
        assert_eq!(plugin.kind(), kind);
    }
}

#[test]
fn a_rotation_plugin_loads_with_imports_that_are_not_built_yet() {
    let wasm = empty(&format!(
        "import penstock:plugin/http@0.1.0; import penstock:plugin/log@0.1.0; {SETTINGS}{ROTATION}"
    ));
    let plugin = load_bytes(&wasm, Limits::default()).unwrap_or_else(|error| panic!("{error}"));
    assert!(plugin.imports().iter().any(|it| it.contains("http")));
}

#[tokio::test]
async fn only_a_trigger_plugin_decides_events() {
    let plugin = load_bytes(&empty(&format!("{SETTINGS}{APPROVAL}")), Limits::default()).unwrap();
    let world = crate::stage::Told::new(crate::stage::usual);
    let error = plugin
        .decide(crate::stage::input("{}"), world)
        .await
        .unwrap_err();
    assert!(error.what.contains("approval"), "{error}");
}

#[test]
fn imports_need_a_grant_and_a_kind_that_has_them() {
    let error = engine()
        .load(
            "p".into(),
            &guest("bench"),
            Limits::default(),
            Grants::default(),
        )
        .unwrap_err();
    assert!(
        matches!(&error, LoadError::NotGranted { import } if import == "delivery"),
        "{error}"
    );
    let only_fork = Grants {
        from_fork: grants().base,
        base: Grant::default(),
    };
    assert!(
        engine()
            .load("p".into(), &guest("bench"), Limits::default(), only_fork)
            .is_err(),
        "what the base has not is granted to nobody"
    );
    let error = refused(&empty(&format!(
        "import penstock:plugin/state@0.1.0; {SETTINGS}{APPROVAL}"
    )));
    assert!(
        matches!(&error, LoadError::NotOfKind { import, kind: "approval" } if import == "state"),
        "{error}"
    );
}

#[test]
fn unknown_imports_and_wasi_are_refused_by_name() {
    let other = "package other:thing@1.0.0 { interface door { open: func(); } }";
    let error = refused(&empty_with(
        other,
        &format!("import other:thing/door@1.0.0; {SETTINGS}{TRIGGER}"),
    ));
    assert!(
        matches!(&error, LoadError::UnknownImport { import } if import == "other:thing/door@1.0.0"),
        "{error}"
    );
    for (wasi, name) in [
        (
            "package wasi:keyvalue@0.2.0 { interface store { open: func(); } }",
            "wasi:keyvalue/store@0.2.0",
        ),
        (
            "package wasi:clocks@0.3.0 { interface wall-clock { now: func() -> u64; } }",
            "wasi:clocks/wall-clock@0.3.0",
        ),
    ] {
        let error = refused(&empty_with(
            wasi,
            &format!("import {name}; {SETTINGS}{TRIGGER}"),
        ));
        assert!(error.to_string().contains(name), "{error}");
        assert!(error.to_string().contains("--stub-wasi"), "{error}");
    }
    // What is there has to have the types that it has.
    let other = "package wasi:clocks@0.2.6 { interface wall-clock { now: func() -> u64; } }";
    let error = refused(&empty_with(
        other,
        &format!("import wasi:clocks/wall-clock@0.2.6; {SETTINGS}{TRIGGER}"),
    ));
    assert!(matches!(error, LoadError::Contract { .. }), "{error}");
}

#[test]
fn another_version_of_the_contract_is_refused_by_name() {
    let next = "package penstock:plugin@0.2.0 { interface trigger { decide: func(); } }";
    let error = refused(&empty_with(
        next,
        &format!("{SETTINGS} export penstock:plugin/trigger@0.2.0;"),
    ));
    assert!(
        matches!(&error, LoadError::OtherContract { interface } if interface == "penstock:plugin/trigger@0.2.0"),
        "{error}"
    );
}

#[test]
fn a_trigger_whose_types_differ_is_refused() {
    let other = "package penstock:plugin@0.1.9 { interface trigger { decide: func(event: string) -> string; } }";
    let error = refused(&empty_with(
        other,
        &format!("{SETTINGS} export penstock:plugin/trigger@0.1.9;"),
    ));
    assert!(matches!(error, LoadError::Contract { .. }), "{error}");
}

#[test]
fn a_component_that_begins_with_too_much_is_refused() {
    let limits = Limits {
        memory: 1 << 20,
        ..Limits::default()
    };
    let error = load_bytes(&trigger("(memory $big 17)", ""), limits).unwrap_err();
    assert!(
        matches!(error, LoadError::Memory { needs, .. } if needs >= 17 * 65536),
        "{error}"
    );
}

/// What no configuration raises: one more of each than there may be.
#[tokio::test]
async fn a_component_of_too_many_parts_is_refused() {
    // One memory is there in any case.
    let error = refused(&trigger(&"(memory 1)".repeat(16), ""));
    let LoadError::TooMany { what, found, limit } = error else {
        panic!("{error}");
    };
    assert_eq!((what, found, limit), ("memories", 17, 16));

    // The encoder makes a table of its own where something is imported.
    let error = refused(&trigger(&"(table 1 funcref)".repeat(65), ""));
    let LoadError::TooMany { what, limit, .. } = error else {
        panic!("{error}");
    };
    assert_eq!((what, limit), ("tables", 64));

    // Those of the plugin's own modules are there in any case.
    let found = |more: usize| match refused(&with_instances(&trigger("", ""), more)) {
        LoadError::TooMany {
            what: "core instances",
            found,
            limit: 64,
        } => found as usize,
        error => panic!("{error}"),
    };
    let own = found(70) - 70;
    assert!((1..=5).contains(&own), "{own}");
    let most = 64 - own;
    assert_eq!(found(most + 1), 65);
    assert_eq!(
        refused(&with_instances(&trigger("", ""), most + 1)).to_string(),
        "the component has 65 core instances and 64 are allowed: merge its modules"
    );
    // With one less it runs: what is counted is what the engine makes.
    let few = load_bytes(&with_instances(&trigger("", ""), most), Limits::default()).unwrap();
    assert!(few.validate("{}").await.unwrap().is_empty());
}

#[test]
fn what_the_engine_leaves_out_does_not_load() {
    let shared = trigger("(memory $s 1 1 shared)", "");
    assert!(matches!(refused(&shared), LoadError::Compile(_)));
    let large = trigger("(memory $l i64 1)", "");
    assert!(matches!(refused(&large), LoadError::Compile(_)));
}

#[tokio::test]
async fn more_memories_than_a_pool_has_run_on_demand() {
    let many: String = (0..8).map(|n| format!("(memory $m{n} 1)")).collect();
    let plugin = load_bytes(&trigger(&many, ""), Limits::default()).unwrap();
    assert!(!plugin.is_pooled());
    let world = crate::stage::Told::new(crate::stage::usual);
    let record = plugin
        .decide(crate::stage::input("{}"), world)
        .await
        .unwrap();
    assert!(crate::stage::reasons(&record).is_empty());
}
