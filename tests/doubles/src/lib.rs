//! Stand-ins for the two servers that Penstock talks to.
//!
//! [`gitlab`] answers GitLab's REST API and sends GitLab's webhooks; [`kubernetes`] answers the part of the Kubernetes API
//! that a Tekton run needs. Both listen on loopback alone, hold everything in memory and forget it when they are dropped.
//! [`proxy`] stands before a real server and breaks what passes.
//!
//! A stand-in is only as good as what is known to be missing from it: each module's documentation lists what it does
//! not do. Tests that must be sure about Kubernetes or Tekton use `penstock-control-plane`, which is the real thing.
#![recursion_limit = "256"]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a stand-in runs in tests and demos, where a panic is the clearest report of its own mistake"
)]

mod wire;

pub mod gitlab;
pub mod kubernetes;
pub mod proxy;
