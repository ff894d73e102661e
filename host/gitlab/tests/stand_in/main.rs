//! The crate against a GitLab stand-in that keeps GitLab's rules of statuses, members, protected refs, forks and errors.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod check;
mod client;
mod comment;
mod confirm;
mod lookup;
mod lost;
mod scene;
mod status;
