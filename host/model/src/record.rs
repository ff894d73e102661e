//! A plugin call, whole: enough to explain it and to run it again.
//!
//! The canonical encoding is the JSON that serde writes for these types: fields in the order of their
//! declaration, maps sorted, no spaces. Two calls are the same if their encodings are the same bytes.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::effect::{Plan, PluginError};
use crate::event::Event;
use crate::id::{Digest, PluginName, Timestamp};
use crate::limits::Limits;
use crate::lookup::{Answer, Content, Lookup, LookupError};

/// One question and what was answered to it, by position.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostCall {
    /// What was asked.
    pub lookup: Lookup,
    /// What was answered.
    pub answer: Result<Answer, LookupError>,
}

/// A log line of a plugin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// `debug`, `info`, `warn` or `error`.
    pub level: String,
    /// The message.
    pub message: String,
    /// Its fields.
    pub fields: Vec<(String, String)>,
}

/// A write to the plugin's state, kept only if its decision is committed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateWrite {
    /// None: the key is removed.
    pub value: Option<Content>,
    /// Days without a write after which it is forgotten.
    pub days: Option<u32>,
}

/// What a call read and wrote of its state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateChange {
    /// Version of each key that was read; 0: there was none. A commit finds them unchanged or is thrown away.
    pub read: BTreeMap<String, u64>,
    /// Prefixes that were listed, with the keys seen. A commit finds the same keys or is thrown away.
    pub listed: Vec<(String, u32, Vec<String>)>,
    /// What is written.
    pub written: BTreeMap<String, StateWrite>,
}

/// How a call ended without the plugin's own answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Failure {
    /// Memory and tables over the limit.
    #[error(
        "memory-exceeded: the plugin wanted more than {limit} bytes of memory and tables; raise `limits.memory` or mend the plugin"
    )]
    MemoryExceeded {
        /// Bytes.
        limit: u64,
    },
    /// Computed longer than it may.
    #[error(
        "cpu-exceeded: the plugin computed longer than {limit_ms} ms; raise `limits.cpu` or mend the plugin"
    )]
    CpuExceeded {
        /// Milliseconds.
        limit_ms: u64,
    },
    /// Took longer than it may, host calls included.
    #[error(
        "deadline-passed: the call took longer than {limit_ms} ms, host calls included; it is tried again"
    )]
    DeadlinePassed {
        /// Milliseconds.
        limit_ms: u64,
    },
    /// Recursed too deep.
    #[error("stack-overflow: the plugin recursed too deep")]
    StackOverflow,
    /// Trapped.
    #[error("trap: {message}")]
    Trap {
        /// What wasm says, with the guest's frames; cut after 4 KiB.
        message: String,
    },
    /// More host calls than it may.
    #[error(
        "host-calls-exceeded: the plugin made more than {limit} host calls; raise `limits.host-calls` or mend the plugin"
    )]
    HostCallsExceeded {
        /// How many are allowed.
        limit: u32,
    },
    /// Held more handles than it may.
    #[error(
        "handles-exceeded: the plugin held more than {limit} handles at one time; raise `limits.handles` or mend the plugin"
    )]
    HandlesExceeded {
        /// How many are allowed.
        limit: u32,
    },
    /// More bytes in one host call, or in all, than it may.
    #[error(
        "host-bytes-exceeded: more than {limit} bytes crossed in {what}; raise the limit or ask for less"
    )]
    HostBytesExceeded {
        /// `one host call` or `all host calls`.
        what: String,
        /// Bytes.
        limit: u64,
    },
    /// The answer is larger than it may be.
    #[error(
        "output-exceeded: the plugin's answer is larger than {limit} bytes; raise `limits.output` or mend the plugin"
    )]
    OutputExceeded {
        /// Bytes.
        limit: u64,
    },
    /// More effects than it may ask for.
    #[error(
        "effects-exceeded: the plan has {found} effects and {limit} are allowed; raise `limits.effects` or mend the plugin"
    )]
    EffectsExceeded {
        /// How many there are.
        found: u64,
        /// How many are allowed.
        limit: u32,
    },
    /// Wrote more state than it may.
    #[error(
        "state-exceeded: the call writes more than {limit} {what} of state; raise the limit or mend the plugin"
    )]
    StateExceeded {
        /// `keys` or `bytes`.
        what: String,
        /// How many are allowed.
        limit: u64,
    },
    /// The record is larger than it may be.
    #[error(
        "record-exceeded: the decision record would be larger than {limit} bytes; raise `limits.record` or ask for less"
    )]
    RecordExceeded {
        /// Bytes.
        limit: u64,
    },
    /// The answer does not fit the contract.
    #[error("bad-answer: {message}")]
    BadAnswer {
        /// What is wrong with it and where.
        message: String,
    },
    /// State changed under it five times in a row.
    #[error("state-conflict: the state changed under the call {tries} times in a row")]
    StateConflict {
        /// How often it was tried.
        tries: u32,
    },
    /// The plugin would have more state in the project than it may.
    #[error(
        "state-full: the plugin would have more than {limit} {what} of state in this project; let it remove keys or give them an expiry"
    )]
    StateFull {
        /// `keys` or `bytes`.
        what: String,
        /// How many it may have.
        limit: u64,
    },
    /// The store does not take the decision, and never will.
    #[error("not-stored: the decision can't be stored: {message}")]
    NotStored {
        /// What the store says.
        message: String,
    },
}

impl Failure {
    /// The word for metrics and scripts: the part before the colon.
    pub fn word(&self) -> &'static str {
        match self {
            Self::MemoryExceeded { .. } => "memory-exceeded",
            Self::CpuExceeded { .. } => "cpu-exceeded",
            Self::DeadlinePassed { .. } => "deadline-passed",
            Self::StackOverflow => "stack-overflow",
            Self::Trap { .. } => "trap",
            Self::HostCallsExceeded { .. } => "host-calls-exceeded",
            Self::HandlesExceeded { .. } => "handles-exceeded",
            Self::HostBytesExceeded { .. } => "host-bytes-exceeded",
            Self::OutputExceeded { .. } => "output-exceeded",
            Self::EffectsExceeded { .. } => "effects-exceeded",
            Self::StateExceeded { .. } => "state-exceeded",
            Self::RecordExceeded { .. } => "record-exceeded",
            Self::BadAnswer { .. } => "bad-answer",
            Self::StateConflict { .. } => "state-conflict",
            Self::StateFull { .. } => "state-full",
            Self::NotStored { .. } => "not-stored",
        }
    }

    /// It was ended by time or by the stack: it replays to the same prefix of host calls only.
    pub fn is_cut(&self) -> bool {
        matches!(
            self,
            Self::CpuExceeded { .. } | Self::DeadlinePassed { .. } | Self::StackOverflow
        )
    }
}

/// What came of a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// A plan.
    Plan(Plan),
    /// The plugin's own error.
    Error(PluginError),
    /// The host ended the call.
    Failure(Failure),
}

/// What a call used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Guest time.
    pub cpu: Duration,
    /// Wall time, queue not included.
    pub wall: Duration,
    /// Peak bytes of memory and tables.
    pub memory: u64,
    /// Host calls.
    pub host_calls: u32,
    /// Bytes that crossed in host calls.
    pub host_bytes: u64,
    /// Bytes of log lines that were dropped.
    pub log_dropped: u64,
    /// Bytes of the largest host call, one way.
    #[serde(default)]
    pub host_call_bytes: u64,
    /// Bytes of the answer in its canonical encoding.
    #[serde(default)]
    pub output: u64,
    /// Effects of the plan, those over the limit too.
    #[serde(default)]
    pub effects: u64,
    /// Bytes of log lines that were kept.
    #[serde(default)]
    pub log: u64,
    /// Keys of state that it wrote.
    #[serde(default)]
    pub state_keys: u32,
    /// Bytes of state that it wrote.
    #[serde(default)]
    pub state_bytes: u64,
    /// Bytes that are in the record, before they are encoded.
    #[serde(default)]
    pub record: u64,
    /// Calls of the plugin at the same time when it began, itself included.
    #[serde(default)]
    pub at_once: u32,
    /// Peak of the handles to WASI's resources, those lent to a host call counted twice; the limit, where it was exceeded.
    #[serde(default)]
    pub handles: u32,
}

/// Everything that a call depends on, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecisionRecord {
    /// Version of the contract, such as `0.1.0`.
    pub contract: String,
    /// The plugin's name in the configuration.
    pub plugin: PluginName,
    /// Digest of the component's bytes.
    pub digest: Digest,
    /// The settings as JSON.
    pub settings: String,
    /// What it was asked.
    pub event: Event,
    /// Seed of every random number that the guest draws.
    pub seed: [u8; 32],
    /// The time that the guest saw.
    pub time: Timestamp,
    /// What the call might use: an answer that is refused under one limit passes under another.
    #[serde(default)]
    pub limits: Limits,
    /// Every host call, in order.
    pub calls: Vec<HostCall>,
    /// Log lines, in order.
    pub log: Vec<LogLine>,
    /// State read and written.
    pub state: StateChange,
    /// What came of it.
    pub outcome: Outcome,
    /// It was ended by time or by the stack.
    pub cut: bool,
    /// What came of the call itself, where the host could not commit it: then `outcome` says why, and `state` what it would have written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withheld: Option<Box<Outcome>>,
    /// What it used. Not part of the canonical encoding: time is never the same twice.
    #[serde(default, skip)]
    pub usage: Usage,
}

impl DecisionRecord {
    /// The record of a call whose outcome can't be committed: it keeps what came of the call beside the reason.
    #[must_use]
    pub fn withhold(mut self, why: Failure) -> Self {
        let came = std::mem::replace(&mut self.outcome, Outcome::Failure(why));
        self.withheld.get_or_insert_with(|| Box::new(came));
        self
    }

    /// The canonical encoding.
    ///
    /// # Errors
    /// None in practice: every part of a record is plain data. The error is serde's.
    pub fn canonical(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
    }
}
