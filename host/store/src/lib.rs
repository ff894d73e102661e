//! Everything that Penstock must not lose: deliveries, claims, decisions, the outbox, runs, plugin state.
//!
//! The only crate that knows SQL. Every operation is written once, as a function over a transaction, and runs on SQLite (one
//! server on one disk) and on Postgres (any number of servers). What returned `Ok` is on the disk. The store keeps no time of
//! its own: whoever asks says what time it is.
//!
//! ```no_run
//! # async fn demo() -> Result<(), Box<dyn std::error::Error>> {
//! use penstock_model::id::Timestamp;
//! use penstock_store::{Caps, Store, Target};
//!
//! let store = Store::open(Target::Sqlite { path: "penstock.db".into() }).await?;
//! let (ttl, caps) = (std::time::Duration::from_secs(30), Caps { per_tenant: 4 });
//! for drawn in store.draw_deliveries("worker-1", ttl, caps, 8, Timestamp::now()).await? {
//!     // Route `drawn.first`, call the plugins, commit their decisions.
//!     store.release(drawn.claim, None, Timestamp::now()).await?;
//! }
//! # Ok(())
//! # }
//! ```
//!
//! | module | owns |
//! |---|---|
//! | `delivery` | what GitLab sent, once for each id |
//! | `claim` | who may work on a lane |
//! | `dispatch`, `decision` | from a delivery to what was decided about it |
//! | `outbox`, `take_up`, `act`, `cancel` | what is to be done in the world: ordered, in hand, done, called off |
//! | `flow` | limits on what is started |
//! | `keep` | how many finished runs stay in the cluster |
//! | `run`, `history` | what was started and where it stands |
//! | `clone` | credentials of runs, from before they are made until they are gone |
//! | `own_users` | whom Penstock acts as in GitLab |
//! | `waiting` | runs that wait, and that this is told of |
//! | `excerpt` | ends of logs |
//! | `run_end` | a run's end, given to the plugin that started it |
//! | `heads`, `mark` | what was last decided about each ref; how far something was looked through, and who does what only one may do |
//! | `repeat` | statuses that a newer pipeline has to be given again |
//! | `state`, `project` | what plugins remember; which tenant a project was first seen in |
//! | `explain`, `retry`, `figures` | for people and metrics |
//! | `records` | decision records in numbers, to make calls again |
//! | `blob`, `retention`, `size` | large things, how long things are kept, how much |
//! | `backend` | connections, threads, transactions, what differs between the databases |

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

mod act;
mod backend;
mod blob;
mod cancel;
mod claim;
mod clone;
mod decision;
mod delivery;
mod dispatch;
mod error;
mod excerpt;
mod explain;
mod figures;
mod flow;
mod heads;
mod history;
mod keep;
mod mark;
mod outbox;
mod own_users;
mod project;
mod records;
mod repeat;
mod retention;
mod retry;
mod run;
mod run_end;
mod size;
mod state;
mod store;
mod take_up;
mod taken_back;
#[cfg(test)]
mod tests;
mod waiting;

pub use act::{ActError, Created, CreatedRun};
pub use cancel::withdrawn_status;
pub use claim::{Caps, Claim, Drawn, Onward, Queue, Then};
pub use clone::{CloneAnswer, CloneFigures, CloneToken, IdleSecret, IdleToken, SecretFor};
pub use decision::{CommitError, Committed, Decision, Mode, Settlement};
pub use delivery::{
    Appended, DeliveryFilter, DeliveryKey, DeliveryOutcome, NewDelivery, StoredDelivery,
};
pub use dispatch::{Pending, PendingRoute};
pub use error::{LaneError, OpenError, StoreError};
pub use explain::{
    AdmittedOrder, EffectFilter, Explained, ExplainedEffect, ExplainedRoute, RouteOutcome,
};
pub use figures::Figures;
pub use flow::{Granted, Queued};
pub use heads::{DecidedHead, Head, KnownProject, Move, NewHostEvent, Waiting};
pub use outbox::{EffectState, effect_lane};
pub use project::{Pinned, PinnedProject};
pub use records::{KeptRecord, RecordPage};
pub use repeat::{NewPipeline, StatusesOf};
pub use retention::{Ages, Purged};
pub use retry::{Retried, RetriedEffect, RetryError};
pub use run::{RunObservation, StoredRun};
pub use size::Shrunk;
pub use state::StateScope;
pub use store::{Store, Target};
pub use take_up::Effect;
pub use waiting::{WaitingRun, WaitsFor};
