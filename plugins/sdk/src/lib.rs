//! Write Penstock plugins in Rust.
//!
//! A trigger plugin is a type that implements [`Trigger`]: it gets an [`Event`]
//! and answers with a [`Plan`], a list of effects it wants. The host checks every
//! effect against the plugin's grants and carries it out; a plugin does nothing
//! itself. Build it for `wasm32-unknown-unknown` as a `cdylib`, make a component
//! of it, and it imports exactly the interfaces whose functions it calls.
//!
//! ```
//! use penstock_sdk::{Event, EventKind, Plan, PluginError, Problem, StartRun, Trigger};
//! use serde::Deserialize;
//!
//! /// What an operator sets.
//! #[derive(Deserialize)]
//! #[serde(deny_unknown_fields)]
//! struct Settings {
//!     /// File in the repository that holds the PipelineRun.
//!     file: String,
//! }
//!
//! struct BuildBranches;
//!
//! impl Trigger for BuildBranches {
//!     fn schema() -> String {
//!         r#"{"type": "object", "required": ["file"], "additionalProperties": false,
//!             "properties": {"file": {"type": "string"}}}"#
//!             .to_owned()
//!     }
//!
//!     fn validate(settings: &str) -> Vec<Problem> {
//!         penstock_sdk::settings::check::<Settings>(settings)
//!     }
//!
//!     fn decide(event: Event) -> Result<Plan, PluginError> {
//!         let EventKind::Push(push) = &event.kind else {
//!             return Ok(Plan::nothing("only pushes start a build"));
//!         };
//!         if push.after.is_none() {
//!             return Ok(Plan::nothing("the branch was deleted"));
//!         }
//!         let settings: Settings = penstock_sdk::settings::load()?;
//!         let manifest = penstock_sdk::repository::text(&settings.file)?;
//!         penstock_sdk::info!("building"; branch = push.ref_name);
//!         Ok(Plan::because("a branch was pushed")
//!             .start_run("run/build", StartRun::new("build", manifest)))
//!     }
//! }
//!
//! penstock_sdk::export!(BuildBranches);
//! ```
//!
//! On any target but wasm the imported functions panic: keep what decides in
//! functions that take their inputs, and test those natively.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test may panic"))]

mod effects;
pub mod log;
mod problems;
pub mod repository;
pub mod settings;
mod trigger;

#[cfg(feature = "approval")]
pub mod approval;
#[cfg(feature = "rotation")]
pub mod rotation;

pub use contract::penstock::plugin::effects::{
    Action, CancelRuns, CancelScope, Comment, CommentTarget, CommitStatus, Effect, Extension, Plan,
    Queue, RequestApproval, RunSecret, RunTarget, SecretSource, StartRun, StatusState,
};
pub use contract::penstock::plugin::events::{Event, EventKind};
pub use contract::penstock::plugin::types::{
    Actor, LookupError, PluginError, Problem, Provenance, Scope, Trust,
};
pub use trigger::Trigger;

/// Every event and its parts.
pub mod events {
    pub use crate::contract::penstock::plugin::events::*;
}

/// Small types that events, effects and lookups share.
pub mod types {
    pub use crate::contract::penstock::plugin::types::*;
}

/// The interfaces that a trigger plugin may call, as the contract has them.
///
/// Calling a function here makes the component import its interface, and an
/// imported interface needs a grant.
pub mod imports {
    pub use crate::contract::penstock::plugin::{
        cluster_read, config, delivery, fetch, gitlab_read, history, state,
    };
}

/// The bindings of the world `trigger-plugin`, but for `settings`.
///
/// `settings` is exported by every kind of plugin, and the macro that exports an
/// interface has one name in a crate: so it is a world of its own here, and the
/// component gets both. A test holds these worlds to those of `wit/`.
#[doc(hidden)]
#[allow(
    missing_docs,
    unsafe_code,
    unreachable_pub,
    unused_qualifications,
    clippy::allow_attributes_without_reason,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "generated from wit/, where fields with plain names have no text of their own"
)]
pub mod contract {
    wit_bindgen::generate!({
        inline: "
            package penstock:guest;
            world trigger-part {
                import penstock:plugin/log@0.1.0;
                import penstock:plugin/config@0.1.0;
                import penstock:plugin/delivery@0.1.0;
                import penstock:plugin/gitlab-read@0.1.0;
                import penstock:plugin/cluster-read@0.1.0;
                import penstock:plugin/history@0.1.0;
                import penstock:plugin/fetch@0.1.0;
                import penstock:plugin/state@0.1.0;
                export penstock:plugin/trigger@0.1.0;
            }
        ",
        path: "../../wit",
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_trigger",
        generate_unused_types: true,
        additional_derives: [PartialEq, serde::Serialize, serde::Deserialize],
    });
}

/// The bindings of `settings`, which every kind of plugin exports.
#[doc(hidden)]
#[allow(
    missing_docs,
    unsafe_code,
    unreachable_pub,
    unused_qualifications,
    clippy::allow_attributes_without_reason,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "generated from wit/, where fields with plain names have no text of their own"
)]
pub mod settings_contract {
    wit_bindgen::generate!({
        inline: "
            package penstock:guest;
            world settings-part {
                export penstock:plugin/settings@0.1.0;
            }
        ",
        path: "../../wit",
        pub_export_macro: true,
        export_macro_name: "export_settings",
        with: {
            "penstock:plugin/types@0.1.0": crate::contract::penstock::plugin::types,
            "penstock:plugin/settings@0.1.0": generate,
        },
    });
}
