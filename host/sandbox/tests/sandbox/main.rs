//! The sandbox with real guests: the Rust ones of `tests/guests`, and small ones written here in WAT.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

mod answers;
mod bombs;
mod compiling;
mod confined;
mod determinism;
mod hostile;
mod limits;
mod loading;
mod lookups;
mod neighbours;
mod replays;
mod settings;
mod stage;
mod state;
mod unconfined;
mod wasi;
