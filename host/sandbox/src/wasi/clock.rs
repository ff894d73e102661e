//! Two clocks that only the guest moves, and sleeping that takes no time.
//!
//! Each look moves the clock by a microsecond, so that a loop that waits for time to pass comes to an end; a sleep moves it to its end at once. How fast the machine
//! is shows in neither.

use std::collections::BTreeMap;

use penstock_model::id::Timestamp;
use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Linker, Lower, Resource, ResourceType};

use super::handles;
use crate::ask::Caller;
use crate::stop::Stop;

/// Nanoseconds that a look takes.
const LOOK: u64 = 1_000;
/// Nanoseconds of a second.
const SECOND: u64 = 1_000_000_000;

/// Time in one call.
#[derive(Debug)]
pub(super) struct Clock {
    /// Milliseconds since 1970 when the call began.
    began: u64,
    /// Nanoseconds since then.
    passed: u64,
    /// When each pollable that the guest holds is ready.
    pollables: BTreeMap<u32, u64>,
    next: u32,
}

/// What `wasi:io/poll` waits for. The table of the clock says when it is ready; what is not in it always is.
pub(super) struct Pollable;

impl Pollable {
    /// One that never waits.
    pub(super) fn ready() -> Resource<Self> {
        Resource::new_own(0)
    }
}

#[derive(ComponentType, Lower)]
#[component(record)]
struct Datetime {
    seconds: u64,
    nanoseconds: u32,
}

impl Clock {
    pub(super) fn new(time: Timestamp) -> Self {
        Self {
            began: time.0,
            passed: 0,
            pollables: BTreeMap::new(),
            next: 1,
        }
    }

    fn look(&mut self) -> u64 {
        self.passed = self.passed.saturating_add(LOOK);
        self.passed
    }

    fn wall(&mut self) -> Datetime {
        let passed = self.look();
        let nanos = u128::from(self.began) * 1_000_000 + u128::from(passed);
        Datetime {
            seconds: u64::try_from(nanos / u128::from(SECOND)).unwrap_or(u64::MAX),
            nanoseconds: u32::try_from(nanos % u128::from(SECOND)).unwrap_or(0),
        }
    }

    /// Sleeps until then, if it is not past.
    fn sleep_until(&mut self, then: u64) {
        self.passed = self.passed.max(then);
    }
}

impl Clock {
    fn subscribe(&mut self, until: u64) -> wasmtime::Result<(Resource<Pollable>,)> {
        let number = self.next;
        self.next = number
            .checked_add(1)
            .ok_or_else(|| Stop::trap("wasi:io/poll: too many pollables were made"))?;
        self.pollables.insert(number, until);
        Ok((Resource::new_own(number),))
    }

    fn until(&self, pollable: &Resource<Pollable>) -> u64 {
        self.pollables.get(&pollable.rep()).copied().unwrap_or(0)
    }

    /// Indexes of those that are ready, after sleeping until the first is.
    fn poll(&mut self, pollables: &[Resource<Pollable>]) -> wasmtime::Result<Vec<u32>> {
        let untils: Vec<u64> = pollables.iter().map(|it| self.until(it)).collect();
        let Some(first) = untils.iter().min() else {
            return Err(Stop::trap("wasi:io/poll: there is nothing to wait for").into());
        };
        self.sleep_until(*first);
        Ok((0..)
            .zip(untils)
            .filter(|(_, until)| *until <= self.passed)
            .map(|(index, _)| index)
            .collect())
    }
}

fn clock<'a>(cx: &'a mut StoreContextMut<'_, Caller>) -> &'a mut Clock {
    &mut cx.data_mut().wasi.clock
}

pub(super) fn link(linker: &mut Linker<Caller>) -> wasmtime::Result<()> {
    type Cx<'a> = StoreContextMut<'a, Caller>;
    let mut io = linker.instance("wasi:io/poll@0.2.0")?;
    io.resource(
        "pollable",
        ResourceType::host::<Pollable>(),
        |mut cx, number| {
            clock(&mut cx).pollables.remove(&number);
            handles::given_back(&mut cx);
            Ok(())
        },
    )?;
    io.func_wrap(
        "[method]pollable.ready",
        |mut cx: Cx<'_>, (pollable,): (Resource<Pollable>,)| {
            handles::lent(&mut cx, 1);
            let clock = clock(&mut cx);
            Ok((clock.until(&pollable) <= clock.look(),))
        },
    )?;
    io.func_wrap(
        "[method]pollable.block",
        |mut cx: Cx<'_>, (pollable,): (Resource<Pollable>,)| {
            handles::lent(&mut cx, 1);
            let clock = clock(&mut cx);
            clock.sleep_until(clock.until(&pollable));
            Ok(())
        },
    )?;
    io.func_wrap(
        "poll",
        |mut cx: Cx<'_>, (pollables,): (Vec<Resource<Pollable>>,)| {
            handles::lent(&mut cx, pollables.len());
            Ok((clock(&mut cx).poll(&pollables)?,))
        },
    )?;
    let mut monotonic = linker.instance("wasi:clocks/monotonic-clock@0.2.0")?;
    monotonic.func_wrap("now", |mut cx: Cx<'_>, (): ()| Ok((clock(&mut cx).look(),)))?;
    monotonic.func_wrap("resolution", |_: Cx<'_>, (): ()| Ok((LOOK,)))?;
    monotonic.func_wrap("subscribe-instant", |mut cx: Cx<'_>, (when,): (u64,)| {
        handles::made(&mut cx, 0);
        clock(&mut cx).subscribe(when)
    })?;
    monotonic.func_wrap("subscribe-duration", |mut cx: Cx<'_>, (time,): (u64,)| {
        handles::made(&mut cx, 0);
        let clock = clock(&mut cx);
        clock.subscribe(clock.passed.saturating_add(time))
    })?;
    let mut wall = linker.instance("wasi:clocks/wall-clock@0.2.0")?;
    wall.func_wrap("now", |mut cx: Cx<'_>, (): ()| Ok((clock(&mut cx).wall(),)))?;
    wall.func_wrap("resolution", |_: Cx<'_>, (): ()| {
        Ok((Datetime {
            seconds: 0,
            nanoseconds: 1_000,
        },))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_takes_a_microsecond_and_a_sleep_its_time() {
        let mut clock = Clock::new(Timestamp(1_700_000_000_250));
        let begun = clock.wall();
        assert_eq!(
            (begun.seconds, begun.nanoseconds),
            (1_700_000_000, 250_001_000)
        );
        clock.sleep_until(3 * SECOND);
        clock.sleep_until(SECOND);
        assert_eq!(clock.look(), 3 * SECOND + LOOK);
        assert_eq!(clock.wall().seconds, 1_700_000_003);
        clock.sleep_until(u64::MAX);
        assert_eq!(clock.look(), u64::MAX);
    }
}
