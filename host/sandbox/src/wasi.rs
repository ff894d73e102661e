//! WASI 0.2 as plugins get it: nothing of this machine, and the same in every run.
//!
//! Components in Python, JavaScript and Go import WASI because their runtimes do. Here the wall clock begins at the record's time, the monotonic clock
//! moves by a microsecond for each look at it and to the end of each sleep, random numbers are a stream cipher's under the record's seed, what is printed goes
//! into the plugin's log, and there are no files, arguments, variables, input or network. None of it waits, so nothing of it is a host call or is recorded.
//!
//! | module | owns |
//! |---|---|
//! | [`clock`] | both clocks and `wasi:io/poll` |
//! | [`random`] | `wasi:random` |
//! | [`handles`] | how many of their handles a guest holds |
//! | [`print`](mod@print) | streams: what is printed, and an input that is at its end |
//! | [`empty`] | arguments, variables, folders, terminals: there are none; `exit` |
//! | [`refuse`](mod@refuse) | sockets, HTTP and files: each function says no |

mod clock;
mod empty;
mod handles;
mod print;
mod random;
mod refuse;

use penstock_model::id::Timestamp;
use wasmtime::component::{Component, Linker};

use crate::ask::Caller;
use crate::inspect::LoadError;

/// What one call has of WASI. How many handles a guest holds is limited by the store.
pub(crate) struct Wasi {
    clock: clock::Clock,
    random: random::Random,
    printed: print::Printed,
    handles: handles::Handles,
}

impl Wasi {
    /// The most handles that the guest held at one time.
    pub(crate) fn handles(&self) -> u32 {
        self.handles.peak()
    }

    pub(crate) fn new(seed: [u8; 32], time: Timestamp) -> Self {
        Self {
            clock: clock::Clock::new(time),
            random: random::Random::new(seed),
            printed: print::Printed::default(),
            handles: handles::Handles::default(),
        }
    }
}

/// The interfaces that are here; a component may name any version of 0.2.
const HERE: [&str; 20] = [
    "cli/environment",
    "cli/exit",
    "cli/stderr",
    "cli/stdin",
    "cli/stdout",
    "cli/terminal-input",
    "cli/terminal-output",
    "cli/terminal-stderr",
    "cli/terminal-stdin",
    "cli/terminal-stdout",
    "clocks/monotonic-clock",
    "clocks/wall-clock",
    "filesystem/preopens",
    "filesystem/types",
    "io/error",
    "io/poll",
    "io/streams",
    "random/insecure",
    "random/insecure-seed",
    "random/random",
];

/// Whether an import of WASI is to be had: here, or refused function by function.
pub(crate) fn import(name: &str) -> Result<(), LoadError> {
    let import = name.to_owned();
    let Some((interface, version)) = name
        .strip_prefix("wasi:")
        .and_then(|rest| rest.split_once('@'))
    else {
        return Err(LoadError::Wasi { import });
    };
    if !(version == "0.2" || version.starts_with("0.2.")) {
        return Err(LoadError::WasiVersion { import });
    }
    let refused = interface.starts_with("sockets/") || interface.starts_with("http/");
    if refused || HERE.contains(&interface) {
        Ok(())
    } else {
        Err(LoadError::Wasi { import })
    }
}

/// What every component gets.
pub(crate) fn link(linker: &mut Linker<Caller>) -> wasmtime::Result<()> {
    clock::link(linker)?;
    random::link(linker)?;
    print::link(linker)?;
    empty::link(linker)
}

/// What one component gets besides: a refusal for each function of an interface that is not here.
pub(crate) fn refuse(linker: &mut Linker<Caller>, component: &Component) -> wasmtime::Result<()> {
    refuse::link(linker, component)
}

/// Whether a component imports anything that [`refuse`](mod@refuse) must answer.
pub(crate) fn is_refused(import: &str) -> bool {
    refuse::covers(import)
}

impl Caller {
    /// Writes lines that were not ended into the log: the call is over.
    pub(crate) fn end_of_output(&mut self) {
        print::flush(self);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_version_of_0_2_is_to_be_had_and_others_are_named() {
        for name in [
            "wasi:io/poll@0.2.0",
            "wasi:cli/stdin@0.2.9",
            "wasi:sockets/tcp@0.2.3",
            "wasi:http/types@0.2.4",
        ] {
            assert!(import(name).is_ok(), "{name}");
        }
        for name in ["wasi:clocks/wall-clock@0.3.0", "wasi:io/poll@0.20.0"] {
            assert!(
                matches!(import(name), Err(LoadError::WasiVersion { .. })),
                "{name}"
            );
        }
        for name in ["wasi:keyvalue/store@0.2.0", "wasi:io/poll", "wasi:"] {
            assert!(
                matches!(import(name), Err(LoadError::Wasi { .. })),
                "{name}"
            );
        }
    }
}
