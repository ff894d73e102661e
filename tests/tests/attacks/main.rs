//! Attacks on what Penstock promises: power cuts, full and broken disks, replicas that stand still, forged requests, bad days of everything around.
//!
//! Each is short here; `cargo xtask measure kill|power|faults` does the same for longer.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test may panic, and says what it counted"
)]

mod disk;
mod faults;
mod fencing;
mod forged;
mod logs;
mod order;
mod power;
mod request;
mod storm;
mod taken;
