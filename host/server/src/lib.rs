//! The host: configuration, command line, HTTP and the loops that carry a delivery from GitLab to a cluster and back.
//!
//! No loop calls another; they meet in the store. `docs/ARCHITECTURE.md` walks through a delivery.

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

pub mod act;
pub mod backoff;
pub mod budget;
pub mod check;
pub mod cli;
mod clone;
mod code_key;
pub mod config;
pub mod creations;
#[cfg(feature = "demo")]
pub mod demo;
pub mod dispatch;
mod excerpt;
pub mod explain;
pub mod fence;
pub mod flow;
pub mod host;
pub mod http;
mod incoming;
pub mod lanes;
pub mod listen;
pub mod live;
pub mod log;
pub mod looks;
pub mod metrics;
pub mod page;
pub mod plugins;
pub mod receive;
pub mod reconcile;
pub mod replay;
pub mod report;
pub mod retention;
pub mod seal;
pub mod serve;
pub mod status;
pub mod statuses;
pub mod text;
pub mod trace;
pub mod waiting;
pub mod workers;
