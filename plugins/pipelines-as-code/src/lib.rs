//! Runs what a project keeps in its `.tekton` folder, by the conventions of
//! Pipelines-as-Code: a team brings its files unchanged.
//!
//! The folder is read at the event's commit. A PipelineRun in it says by annotations for
//! which events it is; what it refers to is put into it; `{{ … }}` is filled in; and the
//! host is asked to start it. Comments with `/test`, `/retest`, `/cancel` and
//! `/ok-to-test` do what their names say, for people who may. A merge request has one
//! comment that shows its runs, and what has to be mended.
//!
//! The logic is pure and asks the host by [`World`]; `plugin` is the only part that knows
//! the host. What each part of Pipelines-as-Code became is in `docs/pipelines-as-code.md`.

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

mod annotations;
mod authorization;
mod cel;
mod choice;
mod commands;
mod comment;
mod decide;
mod document;
mod facts;
mod fill;
mod filled;
mod finished;
mod folder;
mod glob;
mod matching;
mod memory;
mod permission;
mod place;
mod placeholder;
mod plugin;
mod provenance;
mod remote;
mod resolution;
mod run;
mod settings;
mod skip;
mod start;
mod status;
mod tell;
mod v1beta1;
mod variables;
mod world;

pub use decide::decide;
pub use settings::{Settings, validate};
pub use world::{Changes, Elsewhere, File, Place, Rename, RunFilter, Source, World};

/// JSON Schema of the settings, for editors and for `plugin inspect`.
pub const SCHEMA: &str = include_str!("settings.schema.json");
