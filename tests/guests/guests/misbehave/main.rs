//! Does what its settings say, however bad: see `penstock_guests::Behaviour`.

mod bad_plan;
mod lookups;
mod resources;

use penstock_guests::{Behaviour, Settings};
use penstock_sdk::imports::state;
use penstock_sdk::{Comment, Event, LookupError, Plan, PluginError, Problem, StartRun, Trigger};

struct Misbehave;

impl Trigger for Misbehave {
    fn schema() -> String {
        r#"{"type":"object","required":["do"],"properties":{"do":{"type":"string"},"in-validate":{"type":"boolean"}}}"#
            .to_owned()
    }

    fn validate(settings: &str) -> Vec<Problem> {
        match penstock_sdk::settings::parse::<Settings>(settings) {
            Ok(settings) if settings.in_validate => match behave(settings.behaviour, None) {
                Ok(_) => Vec::new(),
                Err(PluginError::Settings(problems) | PluginError::Source(problems)) => problems,
                Err(PluginError::Other(message)) => vec![Problem::new("", message)],
            },
            Ok(_) => Vec::new(),
            Err(problem) => vec![problem],
        }
    }

    fn decide(event: Event) -> Result<Plan, PluginError> {
        let settings: Settings = penstock_sdk::settings::load()?;
        behave(settings.behaviour, Some(&event))
    }
}

fn behave(behaviour: Behaviour, event: Option<&Event>) -> Result<Plan, PluginError> {
    match behaviour {
        Behaviour::Nothing => Ok(Plan::nothing("told to do nothing")),
        Behaviour::StartRun {
            manifest,
            key,
            pipeline,
        } => {
            Ok(Plan::because("told to start a run")
                .start_run(key, StartRun::new(pipeline, manifest)))
        }
        Behaviour::Effects { effects } => {
            let mut plan = Plan::because("told to answer these effects");
            plan.effects = effects;
            Ok(plan)
        }
        Behaviour::Loop => resources::spin(),
        Behaviour::Memory { bytes } => Ok(resources::take_memory(bytes)),
        Behaviour::Recursion { depth } => Ok(resources::recurse(depth)),
        Behaviour::Trap => resources::trap(),
        Behaviour::Panic => {
            penstock_sdk::log::panics();
            resources::fail()
        }
        Behaviour::HostCalls { count } => Ok(resources::call_the_host(count)),
        Behaviour::HostBytes { count } => resources::read_the_payload(count).map_err(refused),
        Behaviour::LogFlood { count, bytes } => Ok(resources::flood_the_log(count, bytes)),
        Behaviour::BigAnswer { bytes } => Ok(Plan::because("x".repeat(size(bytes)))),
        Behaviour::ManyEffects { count } => Ok((0..count).fold(
            Plan::because("told to answer many effects"),
            |plan, n| {
                plan.comment(
                    format!("comment/{n}"),
                    Comment::on_merge_request(1, format!("comment {n}")),
                )
            },
        )),
        Behaviour::StateCount { key } => count_in_state(&key, || ()),
        Behaviour::StateSlowCount { key, turns } => {
            count_in_state(&key, || resources::compute(turns))
        }
        Behaviour::StateCountAndRead { key, path } => {
            let counted = count_in_state(&key, || ())?;
            penstock_sdk::repository::text(&path)?;
            Ok(counted)
        }
        Behaviour::StateGrow { count, bytes } => {
            resources::fill_the_state(count, bytes).map_err(refused)
        }
        Behaviour::StateThenError => {
            state::put("left-behind", b"1", None).map_err(refused)?;
            Err(PluginError::Other("told to fail after a write".to_owned()))
        }
        Behaviour::ErrorSettings => Err(PluginError::Settings(vec![Problem::new(
            "do",
            "told to refuse its settings",
        )])),
        Behaviour::ErrorSource => Err(PluginError::source(
            Problem::new(".tekton/build.yaml", "told to find a fault here").at(3, 7),
        )),
        Behaviour::ErrorOther => Err(PluginError::Other("told to fail".to_owned())),
        Behaviour::Fetch { urls } => Ok(lookups::fetch_all(&urls)),
        Behaviour::EchoLookups => Ok(lookups::ask_everything(event)),
        Behaviour::BadPlan { fault } => Ok(bad_plan::with(fault)),
    }
}

/// What the host refuses, as this plugin's own error.
fn refused(error: LookupError) -> PluginError {
    PluginError::Other(error.describe())
}

fn count_in_state(key: &str, between: impl FnOnce()) -> Result<Plan, PluginError> {
    let count = match state::get(key).map_err(refused)? {
        None => 0,
        Some(bytes) => String::from_utf8(bytes)
            .ok()
            .and_then(|text| text.parse::<u64>().ok())
            .ok_or_else(|| PluginError::Other(format!("the state `{key}` holds no number")))?,
    };
    between();
    let next = count.saturating_add(1);
    state::put(key, next.to_string().as_bytes(), None).map_err(refused)?;
    Ok(Plan::because(format!("count is {next}")))
}

/// A length on this machine. What can't be had is asked for all the same.
fn size(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

penstock_sdk::export!(Misbehave);
