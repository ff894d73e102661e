//! The calls of a loaded plugin: from what it is asked to the record of what came of it.
//!
//! Runs where it is called: slots and threads are [`super`]'s.

use std::sync::Arc;

use penstock_model::id::Timestamp;
use penstock_model::limits::Limits;
use penstock_model::lookup::{HostFault, Lookup};
use penstock_model::record::{DecisionRecord, Failure, Outcome, Usage};
use tokio::runtime::Handle;

use super::{CallInput, Loaded, SettingsError, fault, unasked};
use crate::CONTRACT;
use crate::ask::{Allowed, Caller};
use crate::call::{self, Question, Told};
use crate::clamp;
use crate::limiter::Held;
use crate::meter::Meter;
use crate::record;
use crate::state::Overlay;
use crate::stop::Stop;
use crate::v0_1;
use crate::wasi::Wasi;
use crate::weigh::Weigh;
use crate::world::{Asked, BoxFuture, World};

impl Loaded {
    pub(super) async fn decide(
        &self,
        input: CallInput,
        allowed: Allowed,
        world: Arc<dyn World>,
        outside: Handle,
    ) -> Result<DecisionRecord, HostFault> {
        let CallInput {
            event,
            settings,
            seed,
            time,
            grant: _,
        } = input;
        let given = v0_1::event(&event);
        let wasi = Wasi::new(seed, time);
        let mut caller = self.caller(settings, allowed, world, outside, wasi);
        caller.keeps_state = event.scope.project().is_some();
        let at_once = self.in_use();
        let (mut caller, told) = call::run(
            &self.compiled,
            &self.turns,
            caller,
            Question::Decide(&given),
        )
        .await;
        let mut usage = Usage::default();
        let mut outcome = match told {
            Ok(Told::Decided(answer)) => call::judge(answer, &self.limits, &mut usage),
            Ok(Told::Schema(_) | Told::Problems(_)) => return Err(unasked()),
            Err(Stop::Failure(failure)) => Outcome::Failure(failure),
            Err(Stop::Fault(fault)) => return Err(clamp::fault(fault)),
        };
        clamp::outcome(&mut outcome);
        let cut = matches!(&outcome, Outcome::Failure(failure) if failure.is_cut());
        // How far a call came that was cut depends on the machine: a line that it had not ended is no part of the record.
        if !cut {
            caller.end_of_output();
        }
        usage = Usage {
            output: usage.output,
            effects: usage.effects,
            at_once,
            ..caller.usage()
        };
        // The one that was too many was refused before it was there.
        if let Outcome::Failure(Failure::HandlesExceeded { limit }) = outcome {
            usage.handles = limit;
        }
        usage.record = [
            usage.log,
            usage.state_bytes,
            usage.output,
            caller.settings.weigh(),
            event.weigh(),
            // An answer that was one too many is in the record and not in the sum.
            match &outcome {
                Outcome::Failure(_) => usage.host_call_bytes,
                Outcome::Plan(_) | Outcome::Error(_) => 0,
            },
        ]
        .into_iter()
        .fold(caller.host_bytes, u64::saturating_add);
        let mut state = caller.state.into_change();
        if !matches!(outcome, Outcome::Plan(_)) {
            state.written.clear();
        }
        let mut record = DecisionRecord {
            contract: CONTRACT.to_owned(),
            plugin: self.name.clone(),
            digest: self.digest,
            settings: caller.settings,
            event,
            seed,
            time,
            limits: Limits::clone(&self.limits),
            calls: caller.calls,
            log: caller.log,
            state,
            cut,
            withheld: None,
            outcome,
            usage,
        };
        record::limit(&mut record, usage.record, self.limits.record);
        Ok(record)
    }

    /// Calls of this plugin that have a slot.
    fn in_use(&self) -> u32 {
        let free = self.slots.available_permits();
        let used = self.engine.share(&self.limits).saturating_sub(free);
        u32::try_from(used).unwrap_or(u32::MAX)
    }

    pub(super) async fn about_settings(
        &self,
        question: Question<'_>,
        outside: Handle,
    ) -> Result<Told, SettingsError> {
        // The same answer whenever they are asked about: no seed and no time.
        let wasi = Wasi::new([0; 32], Timestamp(0));
        let world = Arc::new(Nothing);
        let caller = self.caller(String::new(), Allowed::LogOnly, world, outside, wasi);
        match call::run(&self.compiled, &self.turns, caller, question)
            .await
            .1
        {
            Ok(told) => Ok(told),
            Err(Stop::Failure(mut failure)) => {
                clamp::failure(&mut failure);
                Err(SettingsError::Failure(failure))
            }
            Err(Stop::Fault(fault)) => Err(SettingsError::Host(clamp::fault(fault))),
        }
    }

    fn caller(
        &self,
        settings: String,
        allowed: Allowed,
        world: Arc<dyn World>,
        outside: Handle,
        wasi: Wasi,
    ) -> Caller {
        Caller {
            meter: Arc::new(Meter::new(self.limits.cpu, self.engine.tick())),
            held: Held::new(self.limits.memory),
            limits: Arc::clone(&self.limits),
            allowed,
            settings,
            world,
            outside,
            keeps_state: false,
            state: Overlay::default(),
            calls: Vec::new(),
            log: Vec::new(),
            host_calls: 0,
            host_bytes: 0,
            largest: 0,
            log_bytes: 0,
            log_dropped: 0,
            wasi,
        }
    }
}

impl Caller {
    fn usage(&self) -> Usage {
        Usage {
            cpu: self.meter.spent(),
            wall: self.meter.wall(),
            memory: self.held.peak(),
            host_calls: self.host_calls,
            handles: self.wasi.handles(),
            host_bytes: self.host_bytes,
            log_dropped: self.log_dropped,
            host_call_bytes: self.largest,
            log: self.log_bytes,
            state_keys: self.state.keys(),
            state_bytes: self.state.bytes(),
            ..Usage::default()
        }
    }
}

/// The world of a plugin whose settings are checked: it is never asked.
struct Nothing;

impl World for Nothing {
    fn ask(&self, _lookup: Lookup) -> BoxFuture<'_, Asked> {
        Box::pin(std::future::ready(Err(fault(
            "there is no world while settings are checked",
        ))))
    }
}
