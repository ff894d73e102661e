//! A recorded call, made again: the same component, input, limits, answers, seed and time give the same bytes.
//!
//! Asks nothing of the world: a question is answered only if it stands in the record at that very position, with those very arguments.

mod difference;
mod recorded;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use penstock_model::grant::Grant;
use penstock_model::id::Digest;
use penstock_model::lookup::{HostFault, Lookup};
use penstock_model::record::{DecisionRecord, HostCall, Outcome};

use crate::ask::Allowed;
use crate::inspect::LoadError;
use crate::plugin::{CallInput, Plugin};
use crate::world::{Asked, BoxFuture, World};

pub use self::difference::Difference;
pub use self::recorded::Recorded;

/// What came of a replay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The same bytes.
    Same {
        /// Digest of the canonical encoding, then and now.
        digest: Digest,
    },
    /// The call had been cut: the same host calls and log lines as far as both went.
    SamePrefix {
        /// Host calls that were compared.
        calls: usize,
    },
    /// Something else.
    Differs(Difference),
}

impl Verdict {
    /// Nothing differs, as far as it can be compared.
    pub fn is_same(&self) -> bool {
        !matches!(self, Self::Differs(_))
    }
}

/// Why a call was not made again.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// It is another component.
    #[error(
        "the record is of {recorded} and the plugin is {given}: give the component with that digest"
    )]
    OtherPlugin {
        /// Digest in the record.
        recorded: Digest,
        /// Digest of the plugin.
        given: Digest,
    },
    /// The component can't be loaded any more.
    #[error("the component of the record can't be loaded: {0}")]
    Load(#[source] Box<LoadError>),
    /// The host failed.
    #[error("the call could not be made again: {0}")]
    Host(HostFault),
    /// The records can't be compared.
    #[error("the records can't be encoded")]
    Encoding(#[source] serde_json::Error),
}

/// Answers what was answered before, in the same order, to the same questions alone.
#[derive(Debug)]
pub struct Replay {
    calls: Vec<HostCall>,
    next: AtomicUsize,
    differs: Mutex<Option<Difference>>,
    ended: AtomicBool,
}

impl Replay {
    /// The answers of a record.
    pub fn new(record: &DecisionRecord) -> Self {
        Self {
            calls: record.calls.clone(),
            next: AtomicUsize::new(0),
            differs: Mutex::new(None),
            ended: AtomicBool::new(false),
        }
    }

    /// The first question that was another than in the record.
    pub fn differs(&self) -> Option<Difference> {
        self.differs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// More was asked than is in the record.
    pub fn ended(&self) -> bool {
        self.ended.load(Relaxed)
    }

    fn answer(&self, lookup: &Lookup) -> Asked {
        let position = self.next.fetch_add(1, Relaxed);
        let recorded = self.calls.get(position);
        if let Some(call) = recorded
            && call.lookup == *lookup
        {
            return Ok(call.answer.clone());
        }
        self.ended.fetch_or(recorded.is_none(), Relaxed);
        let mut differs = self.differs.lock().unwrap_or_else(PoisonError::into_inner);
        let difference = differs.get_or_insert_with(|| {
            Difference::question(position, recorded.map(|call| &call.lookup), lookup)
        });
        Err(HostFault {
            what: format!("replay: {difference}"),
            retry_after: None,
        })
    }
}

impl World for Replay {
    fn ask(&self, lookup: Lookup) -> BoxFuture<'_, Asked> {
        Box::pin(std::future::ready(self.answer(&lookup)))
    }
}

/// Makes a recorded call again under the limits that this plugin was loaded with, and compares canonical bytes. [`Recorded`] takes the record's limits.
///
/// # Errors
/// [`ReplayError`].
pub async fn replay(plugin: &Plugin, record: &DecisionRecord) -> Result<Verdict, ReplayError> {
    if plugin.digest() != record.digest {
        return Err(ReplayError::OtherPlugin {
            recorded: record.digest,
            given: plugin.digest(),
        });
    }
    let world = Arc::new(Replay::new(record));
    let input = CallInput {
        event: record.event.clone(),
        settings: record.settings.clone(),
        seed: record.seed,
        time: record.time,
        grant: Arc::new(Grant::default()),
    };
    let allowed = Allowed::Recorded {
        state: !state_was_denied(record),
    };
    let slot = plugin.wait().await.map_err(ReplayError::Host)?;
    let again = plugin
        .decide_with(slot, input, allowed, world.clone())
        .await;
    let mut again = match (again, world.differs()) {
        // It went on where the record was cut: as far as that, it was the same.
        (Err(_), Some(_)) if record.cut && world.ended() => {
            return Ok(Verdict::SamePrefix {
                calls: record.calls.len(),
            });
        }
        (Err(_), Some(difference)) => return Ok(Verdict::Differs(difference)),
        (Err(fault), None) => return Err(ReplayError::Host(fault)),
        (Ok(again), _) => again,
    };
    // The name is the configuration's, not the component's; more time may have been given to a call that did not run out of it.
    again.plugin = record.plugin.clone();
    again.limits = record.limits.clone();
    // What the host could not commit is a matter of the store then, not of the call: the answer that was withheld is compared, with all the rest.
    if let (Some(_), Outcome::Failure(why)) = (&record.withheld, &record.outcome) {
        again = again.withhold(why.clone());
    }
    if record.cut {
        return Ok(prefix(&again, record));
    }
    let (now, then) = (
        again.canonical().map_err(ReplayError::Encoding)?,
        record.canonical().map_err(ReplayError::Encoding)?,
    );
    Ok(if now == then {
        Verdict::Same {
            digest: Digest::of(&now),
        }
    } else {
        Verdict::Differs(Difference::between(record, &again))
    })
}

/// A write of the state leaves a host call only where it was denied.
fn state_was_denied(record: &DecisionRecord) -> bool {
    record
        .calls
        .iter()
        .any(|call| matches!(call.lookup, Lookup::StatePut(_) | Lookup::StateDelete(_)))
}

/// Of a call that was cut: as far as both went they must agree, and the one of now must go as far, or be cut too.
fn prefix(again: &DecisionRecord, record: &DecisionRecord) -> Verdict {
    if let Some(difference) = Difference::of_calls(record, again)
        .or_else(|| Difference::of_log(record, again))
        .or_else(|| {
            (!again.cut && again.calls.len() < record.calls.len())
                .then(|| Difference::number_of_calls(record, again))
        })
    {
        return Verdict::Differs(difference);
    }
    Verdict::SamePrefix {
        calls: again.calls.len().min(record.calls.len()),
    }
}
