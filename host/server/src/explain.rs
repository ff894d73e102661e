//! Why something did or did not happen, for people and for scripts.
//!
//! Reads rows of the store; decides nothing.

mod absent;
mod considered;
mod question;

use std::fmt::Write as _;

use penstock_model::event::Event;
use penstock_store::{
    Explained, ExplainedEffect, ExplainedRoute, Store, StoreError, StoredDelivery, StoredRun,
};
use serde::Serialize;
use serde_json::{Value, json};

use crate::plugins;
use crate::text;
use crate::trace;

pub use self::absent::{absent, of_unrecovered};
pub use self::considered::{Considered, considered};
pub use self::question::Question;

/// A delivery in a list.
#[derive(Debug, Serialize)]
pub struct Listed {
    /// Its id.
    pub delivery: String,
    /// The GitLab instance.
    pub instance: String,
    /// RFC 3339.
    pub received_at: String,
    /// GitLab's word for the kind.
    pub kind: String,
    /// Path of the project.
    pub project: Option<String>,
    /// What became of it.
    pub outcome: &'static str,
    /// Why, where there is something to say.
    pub why: Option<String>,
}

/// Deliveries for a list.
pub fn list(deliveries: &[StoredDelivery]) -> Vec<Listed> {
    deliveries.iter().map(listed).collect()
}

fn listed(delivery: &StoredDelivery) -> Listed {
    Listed {
        delivery: delivery.key.id.to_string(),
        instance: delivery.key.instance.to_string(),
        received_at: text::time(delivery.received_at),
        kind: delivery.kind.clone(),
        project: delivery.project.as_ref().map(|(_, path)| path.to_string()),
        outcome: delivery.outcome.as_str(),
        why: delivery.why.clone().or_else(|| {
            delivery
                .same_as
                .as_ref()
                .map(|first| format!("same event as {first}"))
        }),
    }
}

/// What a plugin was asked, by the record of its call.
enum Asked {
    /// There was no call, or its record has expired.
    Nothing,
    /// This.
    Event(Box<Event>),
    /// The record can't be read.
    Unreadable(String),
}

impl Asked {
    fn event(&self) -> Option<&Event> {
        match self {
            Self::Event(event) => Some(event),
            Self::Nothing | Self::Unreadable(_) => None,
        }
    }

    fn unreadable(&self) -> Option<&str> {
        match self {
            Self::Unreadable(why) => Some(why),
            Self::Nothing | Self::Event(_) => None,
        }
    }
}

/// A delivery with the records of its decisions.
pub struct Explanation {
    explained: Explained,
    /// For each route, what the plugin was asked.
    asked: Vec<Asked>,
}

impl Explanation {
    /// Reads the records of the decisions. One that can't be read is told of.
    ///
    /// # Errors
    /// The store's.
    pub async fn of(store: &Store, explained: Explained) -> Result<Self, StoreError> {
        let mut asked = Vec::new();
        for route in &explained.routes {
            let record = store
                .record(&explained.delivery.key, &route.route, route.attempt)
                .await;
            asked.push(match record {
                Ok(Some(record)) => Asked::Event(Box::new(record.event)),
                Ok(None) => Asked::Nothing,
                // All else is shown: whoever asks has the more reason to.
                Err(StoreError::Unreadable { what }) => Asked::Unreadable(what),
                Err(error) => return Err(error),
            });
        }
        Ok(Self { explained, asked })
    }

    fn routes(&self) -> impl Iterator<Item = (&ExplainedRoute, &Asked)> {
        self.explained.routes.iter().zip(&self.asked)
    }
}

/// Everything about a delivery, as JSON.
pub fn explanation(explanation: &Explanation) -> Value {
    let explained = &explanation.explained;
    json!({
        "delivery": listed(&explained.delivery),
        "tenant": explained.delivery.tenant,
        "hook": explained.delivery.hook,
        "trace": trace::id_of(&explained.delivery.key),
        "body_bytes": explained.delivery.body_size,
        "routes": explanation.routes().map(|(it, asked)| route(it, asked, &explained.effects)).collect::<Vec<_>>(),
        "effects": explained.effects.iter().map(effect).collect::<Vec<_>>(),
        "runs": explained.runs.iter().map(run).collect::<Vec<_>>(),
    })
}

/// Runs of a new attempt that an earlier one has ordered already: they were not ordered again.
fn kept<'e>(
    route: &'e ExplainedRoute,
    effects: &'e [ExplainedEffect],
) -> impl Iterator<Item = &'e ExplainedEffect> {
    route
        .admitted
        .iter()
        .filter(|it| it.kind == "start-run")
        .filter(move |it| !effects.iter().any(|effect| effect.id == it.id))
        .filter_map(move |it| {
            effects.iter().rev().find(|effect| {
                effect.kind == it.kind
                    && effect.key == it.key
                    && effect.route == route.route
                    && effect.attempt < route.attempt
            })
        })
}

fn route(route: &ExplainedRoute, asked: &Asked, effects: &[ExplainedEffect]) -> Value {
    let event = asked.event();
    json!({
        "kept": kept(route, effects).map(|it| json!({ "id": it.id, "key": it.key, "attempt": it.attempt })).collect::<Vec<_>>(),
        "trust": event.map(|event| event.provenance.trust.as_str()),
        "confirmed": event.map(|event| event.provenance.confirmed),
        "commit": event.and_then(|event| event.commit.as_ref()),
        "ref": event.and_then(|event| event.ref_name.as_ref()),
        "actor": event.and_then(|event| event.actor.as_ref()).map(|actor| &actor.username),
        "route": route.route,
        "attempt": route.attempt,
        "outcome": route.outcome.as_str(),
        "mode": route.mode.map(penstock_store::Mode::as_str),
        "tries": route.tries,
        "next_at": route.next_at.map(text::time),
        "why": route.why,
        "plugin": route.plugin,
        "plugin_digest": route.plugin_digest,
        "answer": route.answer,
        "reasons": route.reasons,
        "warnings": route.warnings,
        "refused": route.refused,
        "admitted": route.admitted.iter().map(|it| json!({ "id": it.id, "key": it.key, "kind": it.kind })).collect::<Vec<_>>(),
        "record": route.record,
        "record_unreadable": asked.unreadable(),
        "usage": route.usage,
    })
}

fn effect(effect: &ExplainedEffect) -> Value {
    json!({
        "id": effect.id,
        "key": effect.key,
        "kind": effect.kind,
        "state": effect.state.as_str(),
        "tries": effect.tries,
        "next_at": effect.next_at.map(text::time),
        "why": effect.why,
        "result": effect.result,
    })
}

fn run(run: &StoredRun) -> Value {
    json!({
        "id": run.run.id,
        "cluster": run.cluster,
        "namespace": run.namespace,
        "name": run.name,
        "pipeline": run.run.pipeline,
        "commit": run.run.commit,
        "state": run.run.state.as_str(),
        "reason": run.run.reason,
        "failed_task": run.failed_task,
        "log_excerpt": run.log_excerpt,
        "url": run.run.web_url,
    })
}

/// Everything about a delivery, as text for a terminal.
pub fn tell(explanation: &Explanation) -> String {
    let explained = &explanation.explained;
    let delivery = listed(&explained.delivery);
    let mut told = String::new();
    // Writing to a String can't fail.
    let _ = writeln!(
        told,
        "delivery {} ({}, {})",
        delivery.delivery, delivery.kind, delivery.outcome
    );
    let _ = writeln!(
        told,
        "  received {} through the hook `{}` of `{}`{}",
        delivery.received_at,
        explained.delivery.hook,
        delivery.instance,
        delivery
            .project
            .map(|path| format!(", for {path}"))
            .unwrap_or_default()
    );
    if let Some(tenant) = &explained.delivery.tenant {
        let _ = writeln!(told, "  tenant {tenant}");
    }
    if let Some(why) = delivery.why {
        let _ = writeln!(told, "  {why}");
    }
    for (route, asked) in explanation.routes() {
        tell_route(&mut told, route, asked);
        for effect in kept(route, &explained.effects) {
            let _ = writeln!(
                told,
                "  `{}` is not started again: attempt {} did",
                effect.key, effect.attempt
            );
        }
    }
    for effect in &explained.effects {
        tell_effect(&mut told, effect);
    }
    for run in &explained.runs {
        let _ = writeln!(
            told,
            "run {}/{} on {}: {} ({})",
            run.namespace,
            run.name,
            run.cluster,
            run.run.state.as_str(),
            run.run.reason
        );
        if let Some(url) = &run.run.web_url {
            let _ = writeln!(told, "  {url}");
        }
        if let Some(excerpt) = &run.log_excerpt {
            let _ = writeln!(told, "  the end of the failed step's log:");
            for line in excerpt.lines() {
                let _ = writeln!(told, "    {line}");
            }
        }
    }
    told
}

fn tell_route(told: &mut String, route: &ExplainedRoute, asked: &Asked) {
    let _ = writeln!(
        told,
        "route {} (attempt {}, {}{})",
        route.route,
        route.attempt,
        route.outcome.as_str(),
        if route.mode == Some(penstock_store::Mode::Observe) {
            ", observe: nothing is done"
        } else {
            ""
        }
    );
    if let Some(why) = asked.unreadable() {
        let _ = writeln!(
            told,
            "  what the plugin was asked can't be shown: {why}: somebody changed it, or a newer version wrote it"
        );
    }
    if let Some(event) = asked.event() {
        tell_event(told, event);
    }
    if let Some(why) = &route.why {
        let _ = writeln!(told, "  {why}");
    }
    if let Some(next) = route.next_at {
        let _ = writeln!(
            told,
            "  tried {} times; next at {}",
            route.tries,
            text::time(next)
        );
    }
    for reason in &route.reasons {
        let _ = writeln!(told, "  - {reason}");
    }
    for warning in &route.warnings {
        let _ = writeln!(
            told,
            "  warning: {}",
            plugins::list(std::slice::from_ref(warning))
        );
    }
    for refusal in &route.refused {
        let place = if refusal.path.is_empty() {
            "the effect"
        } else {
            refusal.path.as_str()
        };
        let _ = writeln!(
            told,
            "  refused `{}`: {place}: {}",
            refusal.key, refusal.rule
        );
        let _ = writeln!(told, "    remedy: {}", refusal.remedy);
    }
    if let Some(usage) = &route.usage {
        let _ = writeln!(
            told,
            "  used {} of guest time, {} KiB of memory, {} host calls",
            text::duration(usage.cpu),
            usage.memory / 1024,
            usage.host_calls
        );
        if usage.log_dropped > 0 {
            let _ = writeln!(
                told,
                "  dropped {} bytes of its log: `limits.log` is full",
                usage.log_dropped
            );
        }
    }
}

/// What GitLab confirmed: what places and grants follow.
fn tell_event(told: &mut String, event: &Event) {
    let _ = write!(told, "  the event is {}", event.provenance.trust.as_str());
    if !event.provenance.confirmed {
        let _ = write!(told, " (GitLab did not confirm all of it)");
    }
    if let Some(name) = &event.ref_name {
        let _ = write!(told, ", {name}");
    }
    if let Some(commit) = &event.commit {
        let _ = write!(told, " at {commit}");
    }
    if let Some(actor) = &event.actor {
        let _ = write!(told, ", by {}", actor.username);
    }
    let _ = writeln!(told);
}

fn tell_effect(told: &mut String, effect: &ExplainedEffect) {
    let _ = write!(
        told,
        "effect `{}` ({}): {}",
        effect.key,
        effect.kind,
        effect.state.as_str()
    );
    if effect.tries > 1 {
        let _ = write!(told, ", tried {} times", effect.tries);
    }
    if let Some(why) = &effect.why {
        let _ = write!(told, ": {why}");
    }
    let _ = writeln!(told);
}
