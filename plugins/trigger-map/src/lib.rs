//! Starts runs by rules in the settings.
//!
//! A rule says for which events it is (`on`, and `when` in CEL), which values it
//! takes from the event (`let`, `params`), and what then happens: a PipelineRun
//! from a template in the settings or a file in the repository, runs that are
//! cancelled, a comment. It has what a user of Tekton Triggers knows as an
//! EventListener with the CEL interceptor, a TriggerBinding and a TriggerTemplate.
//!
//! ```yaml
//! rules:
//!   - name: build
//!     on: [push, merge_request]
//!     when: event.code_changed && !event.branch.startsWith("wip/")
//!     params:
//!       url: $(event.project.clone_url)
//!       revision: $(event.commit)
//!       short: { cel: event.commit.truncate(8) }
//!     cancel: superseded
//!     file: .ci/build.yaml
//!   - name: release
//!     on: [tag_push]
//!     when:
//!       - event.tag.matches("^v[0-9]+[.][0-9]+[.][0-9]+$")
//!       - event.protected
//!     let:
//!       version: event.tag.substring(1)
//!     params:
//!       version: $(extensions.version)
//!     place: release
//!     template:
//!       apiVersion: tekton.dev/v1
//!       kind: PipelineRun
//!       metadata: { generateName: release- }
//!       spec:
//!         params: [{ name: version, value: $(tt.params.version) }]
//!         pipelineRef: { name: release }
//! ```
//!
//! Values are put into a template as data: into the strings of the parsed document,
//! never into its text, so that no branch name can add a field. The logic is pure
//! and asks the host by [`World`]; `plugin` is the only part that knows the host.

#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        reason = "a test may panic"
    )
)]

mod compile;
mod decide;
mod event;
mod expression;
mod facts;
mod jsonpath;
mod names;
mod plugin;
mod settings;
mod template;
mod text;

pub use decide::decide;
pub use facts::{Changes, World};
pub(crate) use penstock_reading::{fault, functions, read};
pub use settings::{Settings, validate};

/// JSON Schema of the settings, for editors and for `plugin inspect`.
pub const SCHEMA: &str = include_str!("settings.schema.json");
