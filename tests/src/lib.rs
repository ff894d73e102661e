//! What end-to-end tests and measurements share: the real binary `penstock` beside a stand-in for GitLab, a namespace on a real API server
//! with Tekton, and plugins built from this repository.
//!
//! A [`Scene`] is all of it together. Nothing here knows how the host works inside: it writes the YAML that an operator would write, sends what
//! GitLab would send, and looks where a person would look: at statuses, comments, PipelineRuns, the command line and the API.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic, and its panic is the clearest report"
)]

pub mod audit;
pub mod burst;
pub mod faults;
pub mod load;
pub mod manifest;
pub mod penstock;
pub mod plugin;
pub mod postgres;
pub mod power;
pub mod preload;
pub mod progress;
pub mod proxied;
pub mod replicas;
pub mod scene;
pub mod wait;

pub use penstock::{Penstock, Told};
pub use plugin::{Plugin, Route};
pub use postgres::Postgres;
pub use scene::{Builder, Scene};
pub use wait::{LIMIT, until, until_within};
