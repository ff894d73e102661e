//! The whole path with real parts: the shipped binary, a real API server with Tekton, plugins built from this repository, and a stand-in for GitLab.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod away;
mod check;
mod clone;
mod dead_letters;
mod explain;
mod flow;
mod hostile;
mod incoming;
mod late;
mod log_excerpt;
mod main_path;
mod metrics;
mod page;
mod plugins;
mod provenance;
mod receive;
mod reconcile;
mod refusals;
mod reload;
mod replaced_bot;
mod replay;
mod request_id;
mod retry;
mod run_finished;
mod secrets;
mod shutdown;
mod state;
mod statuses;
mod superseded;
mod tekton;
mod tekton_credentials;
mod tekton_folder;
mod tekton_forks;
mod tekton_merge_request;
mod tekton_status;
mod tls;
mod traces;
