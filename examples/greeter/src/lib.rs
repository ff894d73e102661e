//! The smallest plugin that does something: one comment on each merge request that is opened.
//!
//! It needs the grant `effects: [comment]` and imports nothing.

use penstock_sdk::{Comment, Event, EventKind, Plan, PluginError, Problem, Trigger};

/// The plugin.
struct Greeter;

impl Trigger for Greeter {
    fn schema() -> String {
        r#"{"type": "object", "additionalProperties": false}"#.to_owned()
    }

    fn validate(_settings: &str) -> Vec<Problem> {
        Vec::new()
    }

    fn decide(event: Event) -> Result<Plan, PluginError> {
        Ok(greet(&event))
    }
}

/// What it decides: a function of the event alone, so that it can be tested natively.
pub fn greet(event: &Event) -> Plan {
    match &event.kind {
        EventKind::MergeRequest(change) if change.action == "open" => {
            let iid = change.merge_request.iid;
            Plan::because("a merge request was opened").comment(
                "welcome",
                Comment::on_merge_request(
                    iid,
                    "Thank you! Runs of this merge request are shown below its title.",
                ),
            )
        }
        _ => Plan::nothing("only a merge request that is opened is greeted"),
    }
}

penstock_sdk::export!(Greeter);
