//! What the guest `misbehave` can be told to do: the settings of both sides.
//!
//! A host test writes a [`Settings`] as JSON into the plugin's configuration; the
//! guest reads it back. The guests themselves are in `guests/`, each a `cdylib`
//! that `cargo xtask guests` makes a component of.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test may panic"))]

use penstock_sdk::Effect;
use serde::{Deserialize, Serialize};

/// The settings of `misbehave`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Settings {
    /// What it does when asked to decide.
    #[serde(flatten)]
    pub behaviour: Behaviour,
    /// It does so when its settings are validated, too. What needs an import that
    /// may not be called from there is then refused by the host.
    #[serde(default)]
    pub in_validate: bool,
}

impl From<Behaviour> for Settings {
    fn from(behaviour: Behaviour) -> Self {
        Self {
            behaviour,
            in_validate: false,
        }
    }
}

/// One way to behave; the JSON key `do` names it.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum Behaviour {
    /// Answers an empty plan.
    Nothing,
    /// Starts one run.
    StartRun {
        /// The PipelineRun.
        manifest: String,
        /// Key of the effect.
        #[serde(default = "default_key")]
        key: String,
        /// Name of the pipeline.
        #[serde(default = "default_pipeline")]
        pipeline: String,
    },
    /// Answers these effects.
    Effects {
        /// In this order.
        effects: Vec<Effect>,
    },
    /// Never returns.
    Loop,
    /// Takes and touches memory.
    Memory {
        /// So much, then answers; none: for ever.
        bytes: Option<u64>,
    },
    /// Calls itself.
    Recursion {
        /// So deep, then answers; none: for ever.
        depth: Option<u32>,
    },
    /// Executes `unreachable`.
    Trap,
    /// Panics, after it set the hook that logs panics.
    Panic,
    /// Asks the host again and again.
    HostCalls {
        /// So often, then answers; none: for ever.
        count: Option<u64>,
    },
    /// Reads the whole payload again and again: bytes, not calls.
    HostBytes {
        /// So often, then answers; none: for ever.
        count: Option<u64>,
    },
    /// Logs much.
    LogFlood {
        /// Messages; none: for ever.
        count: Option<u64>,
        /// Bytes of each.
        bytes: u64,
    },
    /// Answers a reason of so many bytes.
    BigAnswer {
        /// Its length.
        bytes: u64,
    },
    /// Answers so many comments.
    ManyEffects {
        /// How many.
        count: u32,
    },
    /// Reads a counter, adds one, writes it, and answers it as the reason.
    StateCount {
        /// The state's key.
        #[serde(default = "default_key")]
        key: String,
    },
    /// Does the same and computes between reading and writing, so that other calls come in between.
    StateSlowCount {
        /// The state's key.
        key: String,
        /// How long: some ten million take a tenth of a second.
        turns: u64,
    },
    /// Counts as `StateCount` does, then reads a file of the repository: its write waits meanwhile.
    StateCountAndRead {
        /// The state's key.
        key: String,
        /// The file.
        path: String,
    },
    /// Writes many values.
    StateGrow {
        /// Keys; none: for ever.
        count: Option<u64>,
        /// Bytes of each value.
        bytes: u64,
    },
    /// Says that its settings can't be used.
    ErrorSettings,
    /// Says that a file of the repository can't be used.
    ErrorSource,
    /// Fails otherwise.
    ErrorOther,
    /// Writes a state key, then fails: the key must not be kept.
    StateThenError,
    /// Gets each of these and answers what it was told, as reasons.
    Fetch {
        /// Addresses.
        urls: Vec<String>,
    },
    /// Asks every import once and answers what it was told, as reasons.
    EchoLookups,
    /// Answers a plan that no host should take.
    BadPlan {
        /// What is wrong with it.
        fault: Fault,
    },
}

/// What is wrong with a plan.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// Two effects have one key.
    DuplicateKeys,
    /// A key has no characters.
    EmptyKey,
    /// A key has 100,000 characters.
    LongKey,
    /// The name of a status has 100,000 characters.
    LongStatusName,
    /// A key, a reason and a status hold control characters and line ends.
    ControlCharacters,
    /// A commit id isn't one.
    MalformedCommit,
    /// A run waits for a gate that no effect of the plan opens.
    UnknownGate,
    /// Two runs wait for one gate.
    SharedGate,
    /// A record carries an extra that no host knows.
    UnknownExtra,
    /// An effect of a kind that no host knows.
    UnknownExtension,
    /// The manifest isn't YAML.
    MalformedManifest,
}

fn default_key() -> String {
    "run/build".to_owned()
}

fn default_pipeline() -> String {
    "build".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str, behaviour: &Behaviour) {
        let settings: Settings = serde_json::from_str(json).unwrap();
        assert_eq!(&settings.behaviour, behaviour, "{json}");
        let again: Settings =
            serde_json::from_value(serde_json::to_value(&settings).unwrap()).unwrap();
        assert_eq!(again, settings);
    }

    #[test]
    fn settings_are_read_as_a_host_test_writes_them() {
        check(r#"{"do": "nothing"}"#, &Behaviour::Nothing);
        check(
            r#"{"do": "memory", "in-validate": true}"#,
            &Behaviour::Memory { bytes: None },
        );
        check(
            r#"{"do": "bad-plan", "fault": "duplicate-keys"}"#,
            &Behaviour::BadPlan {
                fault: Fault::DuplicateKeys,
            },
        );
        check(
            r#"{"do": "start-run", "manifest": "{}"}"#,
            &Behaviour::StartRun {
                manifest: "{}".to_owned(),
                key: "run/build".to_owned(),
                pipeline: "build".to_owned(),
            },
        );
    }
}
