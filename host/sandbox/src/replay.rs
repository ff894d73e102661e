//! A recorded call, made again: the same component, input, answers, seed and time give the same bytes.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use penstock_model::grant::Grant;
use penstock_model::id::Digest;
use penstock_model::lookup::{HostFault, Lookup};
use penstock_model::record::{DecisionRecord, HostCall, Outcome};

use crate::ask::{self, Allowed};
use crate::plugin::{CallInput, Plugin};
use crate::world::{Asked, BoxFuture, World};

/// What came of a replay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The same bytes; or, of a call that was cut, the same host calls as far as both went.
    Same,
    /// Something else.
    Differs {
        /// What, in a sentence.
        what: String,
    },
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
    differs: Mutex<Option<String>>,
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
    pub fn differs(&self) -> Option<String> {
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
        let what = match self.calls.get(position) {
            Some(call) if call.lookup == *lookup => return Ok(call.answer.clone()),
            Some(call) => format!(
                "host call {} is `{}` and was `{}`, or its arguments differ",
                position + 1,
                ask::name(lookup),
                ask::name(&call.lookup)
            ),
            None => {
                self.ended.store(true, Relaxed);
                format!(
                    "host call {} is `{}` and there were only {}",
                    position + 1,
                    ask::name(lookup),
                    self.calls.len()
                )
            }
        };
        let mut differs = self.differs.lock().unwrap_or_else(PoisonError::into_inner);
        let what = differs.get_or_insert(what).clone();
        Err(HostFault {
            what: format!("replay: {what}"),
            retry_after: None,
        })
    }
}

impl World for Replay {
    fn ask(&self, lookup: Lookup) -> BoxFuture<'_, Asked> {
        Box::pin(std::future::ready(self.answer(&lookup)))
    }
}

/// Makes a recorded call again, under the plugin's limits of today, and compares canonical bytes.
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
        (Err(_), Some(_)) if record.cut && world.ended() => return Ok(Verdict::Same),
        (Err(_), Some(what)) => return Ok(Verdict::Differs { what }),
        (Err(fault), None) => return Err(ReplayError::Host(fault)),
        (Ok(again), _) => again,
    };
    // The name is the configuration's, not the component's.
    again.plugin = record.plugin.clone();
    if record.cut {
        return Ok(compare_prefix(&again, record));
    }
    let same = again.canonical().map_err(ReplayError::Encoding)?
        == record.canonical().map_err(ReplayError::Encoding)?;
    Ok(if same {
        Verdict::Same
    } else {
        Verdict::Differs {
            what: difference(&again, record),
        }
    })
}

/// A write of the state leaves a host call only where it was denied.
fn state_was_denied(record: &DecisionRecord) -> bool {
    record
        .calls
        .iter()
        .any(|call| matches!(call.lookup, Lookup::StatePut(_) | Lookup::StateDelete(_)))
}

fn compare_prefix(again: &DecisionRecord, record: &DecisionRecord) -> Verdict {
    let differs = again
        .calls
        .iter()
        .zip(&record.calls)
        .position(|(one, other)| one != other);
    let finished = !again.cut && again.calls.len() < record.calls.len();
    match differs {
        Some(position) => Verdict::Differs {
            what: format!("host call {} differs", position + 1),
        },
        None if finished => Verdict::Differs {
            what: format!(
                "it ended after {} host calls, and {} were made",
                again.calls.len(),
                record.calls.len()
            ),
        },
        None => Verdict::Same,
    }
}

/// The first part that differs, in the order in which a reader asks.
fn difference(again: &DecisionRecord, record: &DecisionRecord) -> String {
    let word = |outcome: &Outcome| match outcome {
        Outcome::Plan(_) => "a plan",
        Outcome::Error(_) => "the plugin's own error",
        Outcome::Failure(failure) => failure.word(),
    };
    if again.calls != record.calls {
        return format!(
            "the host calls differ: {} now, {} then",
            again.calls.len(),
            record.calls.len()
        );
    }
    if again.outcome != record.outcome {
        return format!(
            "the outcome differs: {} now, {} then",
            word(&again.outcome),
            word(&record.outcome)
        );
    }
    for (what, differs) in [
        ("the state", again.state != record.state),
        ("the log", again.log != record.log),
        (
            "the version of the contract",
            again.contract != record.contract,
        ),
    ] {
        if differs {
            return format!("{what} differs");
        }
    }
    "the encodings differ".to_owned()
}
