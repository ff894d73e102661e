//! The one way from a host function to the world: granted, counted, answered, recorded, in that order.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::Poll;

use penstock_model::grant::Grant;
use penstock_model::limits::Limits;
use penstock_model::lookup::{Answer, HostFault, Lookup, LookupError};
use penstock_model::record::{Failure, HostCall, LogLine, StateWrite};
use tokio::runtime::Handle;

use crate::clamp;
use crate::limiter::Held;
use crate::meter::Meter;
use crate::state::Overlay;
use crate::stop::Stop;
use crate::wasi::Wasi;
use crate::weigh::Weigh;
use crate::world::{Asked, World};

/// What a call may ask for.
#[derive(Clone, Debug)]
pub(crate) enum Allowed {
    /// What is granted.
    Granted(Arc<Grant>),
    /// Whatever is asked: the answers come from a record, denials among them. Only a write of the state that was denied left an answer.
    Recorded {
        /// Writes of the state were granted.
        state: bool,
    },
    /// Only to write to the log: the settings are being checked.
    LogOnly,
}

/// The host's side of one call: what every host function works on.
pub(crate) struct Caller {
    pub(crate) limits: Arc<Limits>,
    pub(crate) allowed: Allowed,
    pub(crate) settings: String,
    pub(crate) world: Arc<dyn World>,
    /// The runtime that the call came from: what the world needs of tokio is there.
    pub(crate) outside: Handle,
    pub(crate) meter: Arc<Meter>,
    pub(crate) held: Held,
    /// The event is of a project. Without one there is no state: nothing is found, nothing can be written, and the world is not asked.
    pub(crate) keeps_state: bool,
    pub(crate) state: Overlay,
    pub(crate) calls: Vec<HostCall>,
    pub(crate) log: Vec<LogLine>,
    pub(crate) host_calls: u32,
    pub(crate) host_bytes: u64,
    /// Bytes of the largest host call, one way.
    pub(crate) largest: u64,
    pub(crate) log_bytes: u64,
    pub(crate) log_dropped: u64,
    pub(crate) wasi: Wasi,
}

impl Caller {
    /// Counts one host call.
    pub(crate) fn count(&mut self) -> Result<(), Stop> {
        let limit = self.limits.host_calls;
        if self.host_calls >= limit {
            return Err(Stop::Failure(Failure::HostCallsExceeded { limit }));
        }
        self.host_calls += 1;
        Ok(())
    }

    /// Counts bytes that come from the guest.
    pub(crate) fn take(&mut self, bytes: u64) -> Result<(), Stop> {
        let limit = self.limits.host_call_bytes;
        if bytes > limit {
            return Err(Stop::Failure(Failure::HostBytesExceeded {
                what: "one host call".to_owned(),
                limit,
            }));
        }
        self.add(bytes)
    }

    /// Counts bytes that go to the guest without a question to the world.
    pub(crate) fn give(&mut self, bytes: u64) -> Result<(), Stop> {
        self.take(bytes)
    }

    fn add(&mut self, bytes: u64) -> Result<(), Stop> {
        self.largest = self.largest.max(bytes);
        let sum = self.host_bytes.saturating_add(bytes);
        let limit = self.limits.total_bytes;
        if sum > limit {
            return Err(Stop::Failure(Failure::HostBytesExceeded {
                what: "all host calls".to_owned(),
                limit,
            }));
        }
        let limit = self.limits.record;
        if sum > limit {
            // Whatever crosses is in the record, so the record can't be smaller.
            return Err(Stop::Failure(Failure::RecordExceeded { limit }));
        }
        self.host_bytes = sum;
        Ok(())
    }

    /// Why the lookup is not granted, if it isn't.
    pub(crate) fn denied(&self, lookup: &Lookup) -> Option<String> {
        match &self.allowed {
            Allowed::Granted(grant) => grant.allows(lookup).err(),
            Allowed::Recorded { .. } => None,
            Allowed::LogOnly => {
                Some("only `log` may be called while the settings are checked".to_owned())
            }
        }
    }

    /// Writes or removes a key of the state, in this call's overlay. `lookup` is the question that a write that is not allowed leaves in the record.
    pub(crate) async fn write_state(
        &mut self,
        key: String,
        write: StateWrite,
        lookup: Lookup,
    ) -> Result<Result<(), LookupError>, Stop> {
        let refused = match &self.allowed {
            Allowed::Recorded { state } => !state,
            Allowed::Granted(_) | Allowed::LogOnly => self.denied(&lookup).is_some(),
        };
        if refused {
            return match self.ask(lookup).await? {
                Ok(_) => Err(Stop::fault("a write of the state was answered")),
                Err(error) => Ok(Err(error)),
            };
        }
        self.count()?;
        self.take(
            key.weigh()
                .saturating_add(write.value.as_ref().map_or(0, |it| it.0.len() as u64)),
        )?;
        if !self.keeps_state {
            return Ok(Err(LookupError::Invalid(
                "state is kept for projects, and the event is of none".to_owned(),
            )));
        }
        let limits = Arc::clone(&self.limits);
        self.state
            .write(key, write, &limits)
            .map(Ok)
            .map_err(Stop::Failure)
    }

    /// Asks, and records what was answered.
    pub(crate) async fn ask(
        &mut self,
        lookup: Lookup,
    ) -> Result<Result<&Answer, LookupError>, Stop> {
        self.count()?;
        self.take(lookup.weigh())?;
        let answer = match self.denied(&lookup) {
            Some(words) => Err(LookupError::Denied(words)),
            None => match self.stateless(&lookup) {
                Some(nothing) => Ok(nothing),
                None => self.answer(lookup.clone()).await.map_err(Stop::Fault)?,
            },
        };
        let bytes = answer.weigh();
        let answer = match answer {
            Ok(_) if bytes > self.limits.host_call_bytes => Err(LookupError::TooLarge(bytes)),
            answer => answer,
        };
        let crossed = match &answer {
            Ok(_) => bytes,
            Err(error) => error.weigh(),
        };
        // Recorded before it is counted: an answer that is one too many is needed to run the call again.
        self.calls.push(HostCall { lookup, answer });
        self.add(crossed)?;
        match self.calls.last().map(|call| &call.answer) {
            Some(Ok(answer)) => Ok(Ok(answer)),
            Some(Err(error)) => Ok(Err(error.clone())),
            None => Err(Stop::fault("a host call was not recorded")),
        }
    }

    /// What is found of the state where there is none. A call that is made again has it in its record.
    fn stateless(&self, lookup: &Lookup) -> Option<Answer> {
        if self.keeps_state || matches!(self.allowed, Allowed::Recorded { .. }) {
            return None;
        }
        match lookup {
            Lookup::StateGet(_) => Some(Answer::State(None)),
            Lookup::StateKeys { .. } => Some(Answer::Keys(Vec::new())),
            _ => None,
        }
    }

    /// Lets the world answer, on its own time and within the runtime that the call came from.
    async fn answer(&self, lookup: Lookup) -> Asked {
        let name = name(&lookup);
        let panicked = || HostFault {
            what: format!("the host panicked while it answered `{name}`"),
            retry_after: None,
        };
        let begun = {
            let _within = self.outside.enter();
            catch_unwind(AssertUnwindSafe(|| self.world.ask(lookup)))
        };
        let Ok(mut answer) = begun else {
            return Err(panicked());
        };
        poll_fn(|context| {
            self.meter.pause();
            let within = self.outside.enter();
            let polled = catch_unwind(AssertUnwindSafe(|| answer.as_mut().poll(context)));
            drop(within);
            self.meter.resume();
            polled.unwrap_or_else(|_| Poll::Ready(Err(panicked())))
        })
        .await
    }

    /// Takes a log line from the contract's own function.
    pub(crate) fn log(&mut self, line: LogLine) -> Result<(), Stop> {
        self.count()?;
        self.keep(line);
        Ok(())
    }

    /// Keeps a log line, or counts it as dropped.
    pub(crate) fn keep(&mut self, line: LogLine) {
        let bytes = line.message.weigh() + line.fields.weigh();
        let sum = self.log_bytes.saturating_add(bytes);
        if sum > self.limits.log {
            self.log_dropped = self.log_dropped.saturating_add(bytes);
            return;
        }
        self.log_bytes = sum;
        let mut line = line;
        clamp::log_line(&mut line);
        self.log.push(line);
    }
}

/// The function of the contract behind a lookup.
pub(crate) fn name(lookup: &Lookup) -> &'static str {
    match lookup {
        Lookup::Payload => "delivery.payload",
        Lookup::PayloadAt(_) => "delivery.at",
        Lookup::Headers => "delivery.headers",
        Lookup::Folder { .. } => "gitlab-read.folder",
        Lookup::Files { .. } => "gitlab-read.files",
        Lookup::Resolve(_) => "gitlab-read.resolve",
        Lookup::FindCommit(_) => "gitlab-read.find-commit",
        Lookup::ChangedPaths => "gitlab-read.changed-paths",
        Lookup::FindMergeRequest(_) => "gitlab-read.find-merge-request",
        Lookup::OpenMergeRequests(_) => "gitlab-read.open-merge-requests",
        Lookup::MergeRequestApprovals(_) => "gitlab-read.merge-request-approvals",
        Lookup::FindUser(_) => "gitlab-read.find-user",
        Lookup::Access(_) => "gitlab-read.access",
        Lookup::GroupAccess { .. } => "gitlab-read.group-access",
        Lookup::Places => "cluster-read.places",
        Lookup::Runs { .. } => "cluster-read.runs",
        Lookup::History { .. } => "history.summarize",
        Lookup::Fetch(_) => "fetch.get",
        Lookup::StateGet(_) => "state.get",
        Lookup::StatePut(_) => "state.put",
        Lookup::StateDelete(_) => "state.delete",
        Lookup::StateKeys { .. } => "state.keys",
    }
}
