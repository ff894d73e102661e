//! How a call ends before its answer, and which [`Failure`] a wasmtime error stands for.

use penstock_model::limits::Limits;
use penstock_model::lookup::HostFault;
use penstock_model::record::Failure;
use wasmtime::{Trap, WasmBacktrace};

use crate::clamp;
use crate::limiter::{INSTANCES, MEMORIES, TABLES};

/// Ends a call from inside a host function, the limiter or the epoch callback.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Stop {
    /// The plugin's fault.
    #[error(transparent)]
    Failure(Failure),
    /// The host's.
    #[error("{0}")]
    Fault(HostFault),
}

impl Stop {
    /// A fault of the host itself.
    pub(crate) fn fault(what: impl Into<String>) -> Self {
        Self::Fault(HostFault {
            what: what.into(),
            retry_after: None,
        })
    }

    /// A trap in the host's words.
    pub(crate) fn trap(message: impl Into<String>) -> Self {
        Self::Failure(Failure::Trap {
            message: message.into(),
        })
    }
}

/// Bytes of a trap's message that are kept.
const TRAP_MESSAGE: usize = 4096;

/// What wasmtime says when more would be copied out of a guest than [`wasmtime::Store::set_hostcall_fuel`] allows; it has no type of its own.
const FUEL_EXHAUSTED: &str = "fuel allocated for hostcalls has been exhausted";

/// What wasmtime says when a guest holds more handles than [`wasmtime::Store::set_max_component_handles`] allows; it has no type of its own.
const TOO_MANY_HANDLES: &str = "store handle limit exceeded";

/// What wasmtime says when a component makes more instances, memories or tables than the limiter allows; it has no type of its own.
const TOO_MANY: &str = "resource limit exceeded";

/// Sorts an error of an instantiation: what neither the guest did nor a limit of its own stopped, such as memory that the machine does not have, is the host's fault.
pub(crate) fn at_start(error: wasmtime::Error) -> wasmtime::Error {
    if error.is::<Stop>() || error.is::<Trap>() || error.downcast_ref::<WasmBacktrace>().is_some() {
        return error;
    }
    let words = error.root_cause().to_string();
    if words.contains(TOO_MANY) {
        Stop::trap(format!(
            "{words}: a component may have {INSTANCES} core instances, {MEMORIES} memories and {TABLES} tables, those that the engine adds to join components included; merge its modules"
        ))
        .into()
    } else {
        Stop::fault(format!("a plugin could not be started: {words}")).into()
    }
}

/// Reads an error of an instantiation or a call.
///
/// An answer is copied after the guest's last frame is gone, so an error without frames is about the answer.
pub(crate) fn read(error: wasmtime::Error, limits: &Limits) -> Stop {
    let error = match error.downcast::<Stop>() {
        Ok(stop) => return stop,
        Err(error) => error,
    };
    if let Some(Trap::StackOverflow) = error.downcast_ref::<Trap>() {
        return Stop::Failure(Failure::StackOverflow);
    }
    let frames = error.downcast_ref::<WasmBacktrace>();
    let says = |words: &str| error.chain().any(|cause| cause.to_string().contains(words));
    if says(TOO_MANY_HANDLES) {
        return Stop::Failure(Failure::HandlesExceeded {
            limit: limits.handles,
        });
    }
    let fuel = says(FUEL_EXHAUSTED);
    // The last cause and the guest's frames, never the error's own frames: those are the host's, and of this build alone.
    let words = error.root_cause().to_string();
    let failure = match (fuel, frames) {
        (true, Some(_)) => Failure::HostBytesExceeded {
            what: "one host call".to_owned(),
            limit: limits.host_call_bytes,
        },
        (true, None) => Failure::OutputExceeded {
            limit: limits.output,
        },
        (false, Some(frames)) => Failure::Trap {
            message: clamp::cut(&format!("{words}\n{frames}"), TRAP_MESSAGE),
        },
        (false, None) if error.is::<Trap>() => Failure::Trap { message: words },
        (false, None) => Failure::BadAnswer {
            message: clamp::cut(&words, TRAP_MESSAGE),
        },
    };
    Stop::Failure(failure)
}
