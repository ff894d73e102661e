//! Settings of `trigger-map`: CEL, bindings and templates over events.
//!
//! What `validate` finds nothing wrong with can be parsed; deciding answers a plan or an error and never panics. How long it takes is the sandbox's to bound.

use penstock_sdk::Event;
use penstock_trigger_map::{Settings, decide, validate};

#[expect(dead_code, reason = "the plugin's own tests use all of it")]
#[path = "../../../plugins/trigger-map/tests/given/mod.rs"]
mod given;

/// Longer ones are slower and not other.
const MOST: usize = 4096;

/// Runs it.
pub fn run(data: &[u8]) {
    let Ok(settings) = std::str::from_utf8(data) else {
        return;
    };
    if settings.len() > MOST {
        return;
    }
    let problems = validate(settings);
    let parsed = Settings::parse(settings);
    // It finds more than reading does, such as a function that there isn't.
    assert!(
        parsed.is_ok() || !problems.is_empty(),
        "nothing found, and yet {:?}",
        parsed.as_ref().err()
    );
    let Ok(parsed) = parsed else {
        return;
    };
    for event in events() {
        let world = given::Asked::with_file("x", "kind: PipelineRun");
        // A plan or an error. Not the same twice: a mapping of CEL has another order in each process, and only in the sandbox, where chance is the
        // record's, is it the same again.
        drop(decide(&parsed, &event, &world));
    }
}

fn events() -> [Event; 4] {
    [
        given::push("main"),
        given::tag("v1.2.3"),
        given::merge_request("open"),
        given::note("/test build", true),
    ]
}
