//! Runs plugins: the only crate that knows WebAssembly and the contract in `wit/`.
//!
//! A plugin is a component of one kind. [`Engine::load`] checks it against its grants and compiles it (in a child process, if told to); [`Plugin::decide`]
//! runs it once, in a fresh store, on threads that nothing else uses, and answers a whole decision record. What the plugin asks goes up through
//! [`World`], after it was granted, counted and before it is recorded.
//!
//! A plugin that fails is data: every limit of [`penstock_model::limits::Limits`] ends in its own
//! [`Failure`](penstock_model::record::Failure). Only a host that could not answer ([`HostFault`](penstock_model::lookup::HostFault)) is an error.
//!
//! | module | owns |
//! |---|---|
//! | [`engine`] | the wasmtime engines, the ticker, the guests' threads, loading |
//! | [`plugin`] | a loaded plugin and its calls |
//! | [`world`] | what the layer above answers |
//! | [`mod@replay`] | a recorded call, made again |
//! | `wasi` | what a component of a runtime that needs WASI gets of it |
//! | [`compile`], [`confine`], [`cache`] | compiling in a child process; what it may not do; compiled code on disk |

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

mod ask;
pub mod cache;
mod call;
mod clamp;
pub mod compile;
mod compiled;
mod config;
pub mod confine;
pub mod engine;
mod inspect;
mod limiter;
mod meter;
mod parts;
pub mod plugin;
mod record;
pub mod replay;
mod slot;
mod state;
mod stop;
mod turn;
mod v0_1;
mod wasi;
mod weigh;
pub mod world;

pub use cache::{CacheKey, CacheSettings};
pub use compile::{ChildSettings, CompileError, Compiler};
pub use engine::{Allocation, Engine, EngineError, EngineSettings};
pub use inspect::{Kind, LoadError};
pub use plugin::{CallInput, Plugin, SettingsError};
pub use replay::{Difference, Recorded, Replay, ReplayError, Verdict, replay};
pub use slot::Slot;
pub use world::{Asked, BoxFuture, World};

/// Version of the contract that this host speaks.
pub const CONTRACT: &str = "0.1.0";
