//! Uses up what a host must limit: time, memory, stack, calls, bytes.

use std::hint::black_box;

use penstock_sdk::imports::{config, delivery, state};
use penstock_sdk::log::{Level, write};
use penstock_sdk::{LookupError, Plan};

use crate::size;

const MIB: u64 = 1024 * 1024;

/// Runs for ever.
pub(crate) fn spin() -> ! {
    let mut turns = 0_u64;
    loop {
        turns = black_box(turns.wrapping_add(1));
    }
}

/// Runs for a while.
pub(crate) fn compute(turns: u64) {
    for turn in 0..turns {
        black_box(turn);
    }
}

/// Takes memory by the MiB and writes to each page of it.
pub(crate) fn take_memory(bytes: Option<u64>) -> Plan {
    let mut held: Vec<Vec<u8>> = Vec::new();
    let mut left = bytes.unwrap_or(u64::MAX);
    while left > 0 {
        let part = left.min(MIB);
        held.push(black_box(vec![1; size(part)]));
        left -= part;
    }
    let taken: usize = held.iter().map(Vec::len).sum();
    Plan::because(format!("took {taken} bytes"))
}

/// Calls itself, each time with a frame that can't be left out.
pub(crate) fn recurse(depth: Option<u32>) -> Plan {
    Plan::because(format!("came back from {}", deeper(depth, 0)))
}

#[inline(never)]
fn deeper(limit: Option<u32>, depth: u32) -> u32 {
    let frame = black_box([depth; 16]);
    if limit == Some(depth) {
        return depth;
    }
    let below = deeper(limit, depth.wrapping_add(1));
    black_box(frame);
    below
}

/// Executes the instruction that traps.
pub(crate) fn trap() -> ! {
    #[cfg(target_arch = "wasm32")]
    core::arch::wasm32::unreachable();
    #[cfg(not(target_arch = "wasm32"))]
    std::process::abort();
}

/// Panics.
#[expect(clippy::panic, reason = "told to")]
pub(crate) fn fail() -> ! {
    panic!("told to panic")
}

/// Makes the cheapest call there is, over and over.
pub(crate) fn call_the_host(count: Option<u64>) -> Plan {
    let mut calls = 0;
    while count != Some(calls) {
        black_box(config::settings());
        calls += 1;
    }
    Plan::because(format!("made {calls} calls"))
}

/// Copies the payload in, over and over.
pub(crate) fn read_the_payload(count: Option<u64>) -> Result<Plan, LookupError> {
    let mut bytes = 0;
    let mut calls = 0;
    while count != Some(calls) {
        bytes += black_box(delivery::payload()?).len();
        calls += 1;
    }
    Ok(Plan::because(format!("read {bytes} bytes")))
}

/// Logs long messages.
pub(crate) fn flood_the_log(count: Option<u64>, bytes: u64) -> Plan {
    let message = "flood ".repeat(size(bytes / 6 + 1));
    let mut written = 0;
    while count != Some(written) {
        write(Level::Info, &message, &[]);
        written += 1;
    }
    Plan::because(format!("logged {written} messages"))
}

/// Writes values under ever new keys.
pub(crate) fn fill_the_state(count: Option<u64>, bytes: u64) -> Result<Plan, LookupError> {
    let value = vec![7; size(bytes)];
    let mut written = 0;
    while count != Some(written) {
        state::put(&format!("grow/{written:020}"), &value, None)?;
        written += 1;
    }
    Ok(Plan::because(format!("wrote {written} values")))
}
