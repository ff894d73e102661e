//! Guests as components: what they ask of a host is what they call.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use std::fs;

use penstock_xtask::guests::{self, Built};

fn check(built: &Built, imports: &[&str], kind: &str) {
    let full = |name: &&str| format!("penstock:plugin/{name}@0.1.0");
    let mut exports = vec![full(&"settings"), full(&kind)];
    exports.sort();
    assert_eq!(
        built.imports,
        imports.iter().map(full).collect::<Vec<_>>(),
        "{}",
        built.name
    );
    assert_eq!(built.exports, exports, "{}", built.name);
    assert_eq!(fs::metadata(&built.path).unwrap().len(), built.size);
}

#[test]
fn a_plugin_imports_only_what_it_calls() {
    let built = guests::build(&[]).unwrap();
    let find = |name: &str| built.iter().find(|it| it.name == name).expect(name);
    check(find("minimal"), &[], "trigger");
    check(find("bench"), &["delivery"], "trigger");
    check(
        find("misbehave"),
        &[
            "cluster-read",
            "config",
            "delivery",
            "fetch",
            "gitlab-read",
            "history",
            "log",
            "state",
        ],
        "trigger",
    );
    check(
        find("trigger-map"),
        &["config", "delivery", "gitlab-read", "log"],
        "trigger",
    );
    check(find("approve"), &[], "approval");
    check(find("rotate"), &["secrets"], "rotation");
    assert!(
        find("trigger-map").size < 2_000_000,
        "{}",
        find("trigger-map").size
    );
    assert!(find("minimal").size < 100_000, "{}", find("minimal").size);
    for name in ["greeter-python", "greeter-javascript", "greeter-go"] {
        let built = find(name);
        // Their runtimes import WASI besides, and nothing of the contract that their world does not name.
        let own: Vec<_> = built
            .imports
            .iter()
            .filter(|it| !it.starts_with("wasi:"))
            .collect();
        assert_eq!(own, ["penstock:plugin/log@0.1.0"], "{name}");
        assert_eq!(
            built.exports,
            [
                "penstock:plugin/settings@0.1.0",
                "penstock:plugin/trigger@0.1.0"
            ],
            "{name}"
        );
        assert!(
            built.imports.iter().all(|it| !it.contains("http")),
            "{name}"
        );
    }
}

#[test]
fn an_unknown_guest_is_named_with_those_there_are() {
    let error = guests::build(&["nobody"]).unwrap_err().to_string();
    assert!(
        error.contains("`nobody`") && error.contains("minimal"),
        "{error}"
    );
}
