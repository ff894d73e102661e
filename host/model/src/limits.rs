//! What a plugin call may use. A limit can't be left out: each has a safe default.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Limits of one plugin's calls. Stack size and pool slots are the engine's, so no plugin can set them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Time that the guest itself may compute.
    pub cpu: Duration,
    /// Wall time of the whole call, host calls included, waiting for a slot not.
    pub deadline: Duration,
    /// Bytes of linear memory and tables, summed over the store.
    pub memory: u64,
    /// Host calls in one call; log lines and state writes count too.
    pub host_calls: u32,
    /// Handles that the guest may hold at one time: of resources of its own, of WASI's, of the host's.
    pub handles: u32,
    /// Bytes that may cross in one host call, both ways each.
    pub host_call_bytes: u64,
    /// Bytes that may cross in all host calls together.
    pub total_bytes: u64,
    /// Bytes of the answer in its canonical encoding.
    pub output: u64,
    /// Effects in a plan.
    pub effects: u32,
    /// Bytes of log lines that are kept; what is over is counted and dropped.
    pub log: u64,
    /// Keys of state that one call may write.
    pub state_keys: u32,
    /// Bytes of state that one call may write.
    pub state_bytes: u64,
    /// Bytes of the decision record, before compression.
    pub record: u64,
    /// Calls of the plugin at the same time.
    pub concurrency: u32,
    /// Bytes of the component.
    pub component: u64,
}

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

impl Default for Limits {
    fn default() -> Self {
        Self {
            cpu: Duration::from_millis(500),
            deadline: Duration::from_secs(30),
            memory: 64 * MIB,
            host_calls: 100,
            handles: 1_000,
            host_call_bytes: 32 * MIB,
            total_bytes: 64 * MIB,
            output: MIB,
            effects: 64,
            log: 64 * KIB,
            state_keys: 64,
            state_bytes: 256 * KIB,
            record: 96 * MIB,
            concurrency: 4,
            component: 32 * MIB,
        }
    }
}

/// One limit as a configuration names it.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Such as `host-calls`.
    pub name: &'static str,
    /// Where it is kept, and so what it is.
    pub field: Field,
}

/// A field of [`Limits`].
#[derive(Clone, Copy, Debug)]
pub enum Field {
    /// A time.
    Time(fn(&mut Limits) -> &mut Duration),
    /// A number of bytes.
    Size(fn(&mut Limits) -> &mut u64),
    /// A number of things.
    Count(fn(&mut Limits) -> &mut u32),
}

macro_rules! settings {
    ($($name:literal: $kind:ident $field:ident,)*) => {
        impl Limits {
            /// Every limit that can be set: what a configuration is read by, and what the tests hold a hostile guest against.
            pub const SETTINGS: &[Setting] = &[
                $(Setting { name: $name, field: Field::$kind(|limits| &mut limits.$field) },)*
            ];

            /// Every field is in the list, or this does not compile.
            fn _is_whole(self) {
                let Self { $($field: _),* } = self;
            }
        }
    };
}

settings! {
    "cpu": Time cpu,
    "deadline": Time deadline,
    "memory": Size memory,
    "host-calls": Count host_calls,
    "handles": Count handles,
    "host-call-bytes": Size host_call_bytes,
    "total-bytes": Size total_bytes,
    "output": Size output,
    "effects": Count effects,
    "log": Size log,
    "state-keys": Count state_keys,
    "state-bytes": Size state_bytes,
    "record": Size record,
    "concurrency": Count concurrency,
    "component": Size component,
}
