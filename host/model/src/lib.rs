//! The vocabulary of Penstock and its pure rules.
//!
//! Every other crate of the host depends on this one; it depends on none of them. It does no IO and knows
//! no async runtime, no Kubernetes client, no WebAssembly engine and no SQL, so each rule that decides what may
//! happen can be read and tested by itself.
//!
//! | module | owns |
//! |---|---|
//! | [`id`] | names, ids and digests as types |
//! | [`secret`] | bytes that never print |
//! | [`event`], [`scope`] | a delivery, read into a typed value |
//! | [`host_event`] | an event that no webhook told of |
//! | [`effect`] | what a plugin may ask for |
//! | [`lookup`] | what a plugin may ask, and what it is answered |
//! | [`grant`], [`limits`] | what was granted to a plugin |
//! | [`tenant`], [`pattern`] | whose project it is and where its runs may live |
//! | [`admit`] | the one gate between a plan and the world |
//! | [`record`] | a plugin call, whole |
//! | [`lane`] | what must stay in order |
//! | [`flow`] | how much may go on at a time |
//! | [`run`] | a run and where it stands |

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

pub mod admit;
pub mod effect;
pub mod event;
pub mod flow;
pub mod grant;
pub mod host_event;
pub mod id;
pub mod lane;
pub mod limits;
pub mod lookup;
pub mod pattern;
pub mod record;
pub mod run;
pub mod scope;
pub mod secret;
pub mod tenant;
