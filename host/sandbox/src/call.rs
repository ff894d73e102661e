//! One call: a fresh store, the guest, and whatever ends it.
//!
//! A store is never used again. Nothing here waits for a slot or chooses a thread: see [`crate::plugin`].

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::ready;

use penstock_model::effect::Problem;
use penstock_model::limits::Limits;
use penstock_model::record::{Failure, Outcome, Usage};
use wasmtime::component::TypedFunc;
use wasmtime::{Store, UpdateDeadline};

use crate::ask::Caller;
use crate::clamp;
use crate::compiled::Compiled;
use crate::meter::millis;
use crate::record;
use crate::stop::{self, Stop};
use crate::turn::Turns;
use crate::v0_1;

/// What a guest is asked.
pub(crate) enum Question<'a> {
    /// `trigger.decide`
    Decide(&'a v0_1::wit::events::Event),
    /// `settings.schema`
    Schema,
    /// `settings.validate`
    Validate(&'a str),
}

/// What it answers.
pub(crate) enum Told {
    Decided(Result<v0_1::wit::effects::Plan, v0_1::wit::types::PluginError>),
    Schema(String),
    Problems(Vec<v0_1::wit::types::Problem>),
}

/// Asks a guest, and gives back the host's side of the call with what came of it.
pub(crate) async fn run(
    compiled: &Compiled,
    turns: &Turns,
    caller: Caller,
    question: Question<'_>,
) -> (Caller, Result<Told, Stop>) {
    let limits = Arc::clone(&caller.limits);
    let meter = Arc::clone(&caller.meter);
    let mut store = Store::new(compiled.engine(), caller);
    store.limiter(|caller| &mut caller.held);
    store.set_hostcall_fuel(copied(&limits));
    store.set_max_component_handles(usize::try_from(limits.handles).unwrap_or(usize::MAX));
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(|store| {
        store.data().meter.tick()?;
        Ok(UpdateDeadline::YieldCustom(
            1,
            Box::pin(tokio::task::yield_now()),
        ))
    });
    let answered = {
        let mut asked = pin!(ask(compiled, &mut store, question));
        let mut line = turns.line();
        let on_guest_time = poll_fn(|context| {
            let _turn = if meter.has_ticked() {
                ready!(line.poll(context))
            } else {
                None
            };
            meter.resume();
            let polled = asked.as_mut().poll(context);
            meter.pause();
            polled
        });
        tokio::time::timeout(limits.deadline, on_guest_time).await
    };
    let told = match answered {
        Ok(Ok(told)) => Ok(told),
        Ok(Err(error)) => Err(stop::read(error, &limits)),
        Err(_) => Err(Stop::Failure(Failure::DeadlinePassed {
            limit_ms: millis(limits.deadline),
        })),
    };
    (store.into_data(), told)
}

/// Bytes that wasmtime copies out of a guest at one time, before this crate sees any of them: the arguments of a host call, or the answer, whose
/// fields take up to eight times as many bytes in memory as in its encoding.
fn copied(limits: &Limits) -> usize {
    let most = limits.host_call_bytes.max(limits.output.saturating_mul(8));
    usize::try_from(most).unwrap_or(usize::MAX)
}

async fn ask(
    compiled: &Compiled,
    store: &mut Store<Caller>,
    question: Question<'_>,
) -> wasmtime::Result<Told> {
    let instance = compiled
        .pre
        .instantiate_async(&mut *store)
        .await
        .map_err(stop::at_start)?;
    let exports = &compiled.exports;
    let gone = || wasmtime::Error::from(Stop::fault("an export that was there at load is gone"));
    match question {
        Question::Decide(event) => {
            let decide = exports.decide.as_ref().ok_or_else(gone)?;
            let decide = instance.get_func(&mut *store, decide).ok_or_else(gone)?;
            #[expect(
                unsafe_code,
                reason = "`Compiled::new` checked this export of this component against these very types, and an instance's types are its component's; \
                          the check walks the whole contract, so it is made once and not in every call"
            )]
            // SAFETY: see the reason above.
            let decide = unsafe {
                TypedFunc::<v0_1::DecideParams<'_>, v0_1::DecideResults>::new_unchecked(decide)
            };
            let (answer,) = decide.call_async(&mut *store, (event,)).await?;
            Ok(Told::Decided(answer))
        }
        Question::Schema => {
            let schema =
                instance.get_typed_func::<(), v0_1::SchemaResults>(&mut *store, &exports.schema)?;
            let (text,) = schema.call_async(&mut *store, ()).await?;
            Ok(Told::Schema(text))
        }
        Question::Validate(settings) => {
            let validate = instance
                .get_typed_func::<v0_1::ValidateParams<'_>, v0_1::ValidateResults>(
                    &mut *store,
                    &exports.validate,
                )?;
            let (problems,) = validate.call_async(&mut *store, (settings,)).await?;
            Ok(Told::Problems(problems))
        }
    }
}

/// What an answer of `decide` comes to, within its limits; its texts are the guest's still. How large it is goes into `usage`.
pub(crate) fn judge(
    answer: Result<v0_1::wit::effects::Plan, v0_1::wit::types::PluginError>,
    limits: &Limits,
    usage: &mut Usage,
) -> Outcome {
    let plan = match answer {
        Ok(plan) => plan,
        Err(error) => {
            let error = v0_1::error(error);
            usage.output = record::encoded(&error);
            if usage.output > limits.output {
                return too_large(limits);
            }
            return Outcome::Error(error);
        }
    };
    let found = u64::try_from(plan.effects.len()).unwrap_or(u64::MAX);
    usage.effects = found;
    if found > u64::from(limits.effects) {
        return Outcome::Failure(Failure::EffectsExceeded {
            found,
            limit: limits.effects,
        });
    }
    match v0_1::plan(plan) {
        Err(message) => Outcome::Failure(Failure::BadAnswer { message }),
        Ok(plan) => {
            usage.output = record::encoded(&plan);
            if usage.output > limits.output {
                return too_large(limits);
            }
            Outcome::Plan(plan)
        }
    }
}

/// Problems of the settings, within their limits.
pub(crate) fn judge_problems(
    problems: Vec<v0_1::wit::types::Problem>,
    limits: &Limits,
) -> Result<Vec<Problem>, Failure> {
    let mut problems = v0_1::problems(problems);
    if record::encoded(&problems) > limits.output {
        return Err(Failure::OutputExceeded {
            limit: limits.output,
        });
    }
    clamp::problems(&mut problems);
    Ok(problems)
}

fn too_large(limits: &Limits) -> Outcome {
    Outcome::Failure(Failure::OutputExceeded {
        limit: limits.output,
    })
}
