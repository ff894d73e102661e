//! Whether an event may start anything: forks wait for `/ok-to-test` at this very commit,
//! others for somebody who may.

use penstock_sdk::events::EventKind;

use crate::authorization::{self, Deed};
use crate::choice::Choice;
use crate::facts::Trigger;
use crate::memory;
use crate::start::Scene;

/// What is allowed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Permit {
    Yes,
    /// Not before somebody who may allows it: said in the merge request.
    Waits(String),
    /// Not at all: said in the decision alone.
    No(String),
}

pub(crate) fn check(scene: Scene<'_>, choice: &Choice) -> Permit {
    let facts = scene.facts;
    let actor = facts.event.actor.as_ref();
    let policy = &scene.settings.policy;
    let may = |deed| authorization::check(actor, deed, policy, scene.world);
    let is_note = matches!(facts.event.kind, EventKind::Note(_));
    if is_note && choice.approval {
        if let Err(why) = may(Deed::OkToTest) {
            return Permit::No(why);
        }
        return Permit::Yes;
    }
    if is_note && let Err(why) = may(Deed::Run) {
        return Permit::No(why);
    }
    let Some(merge_request) = facts
        .merge_request
        .filter(|_| facts.trigger == Trigger::PullRequest)
    else {
        // Whoever could push could start it; who may ask from outside the host has checked.
        return Permit::Yes;
    };
    let approved = || memory::approved_by(scene.world, merge_request.iid, facts.commit).is_some();
    let short: String = facts.commit.chars().take(12).collect();
    if facts.is_fork() {
        return if approved() {
            Permit::Yes
        } else {
            Permit::Waits(format!(
                "the code comes from a fork: nothing of `{short}` runs before a developer of this project writes `{}` for it",
                command(scene)
            ))
        };
    }
    // Nobody did it: the host found a head on a branch that only developers change.
    if is_note || actor.is_none() {
        return Permit::Yes;
    }
    match may(Deed::Run) {
        Ok(()) => Permit::Yes,
        Err(_) if approved() => Permit::Yes,
        // Whoever only puts a label on somebody else's merge request changes nothing of it.
        Err(why) if choice.labels => Permit::No(why),
        Err(why) => Permit::Waits(format!(
            "{why}: a developer may start the runs of `{short}` by `{}`",
            command(scene)
        )),
    }
}

fn command(scene: Scene<'_>) -> String {
    match &scene.settings.prefix {
        Some(prefix) => format!("/{prefix} ok-to-test"),
        None => "/ok-to-test".to_owned(),
    }
}
