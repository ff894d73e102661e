//! Why something did or did not happen, for people and for scripts.
//!
//! Reads rows of the store; decides nothing.

use std::fmt::Write as _;

use penstock_store::{Explained, ExplainedEffect, ExplainedRoute, StoredDelivery, StoredRun};
use serde::Serialize;
use serde_json::{Value, json};

use crate::plugins;
use crate::text;

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

/// Everything about a delivery, as JSON.
pub fn explanation(explained: &Explained) -> Value {
    json!({
        "delivery": listed(&explained.delivery),
        "tenant": explained.delivery.tenant,
        "hook": explained.delivery.hook,
        "body_bytes": explained.delivery.body_size,
        "routes": explained.routes.iter().map(route).collect::<Vec<_>>(),
        "effects": explained.effects.iter().map(effect).collect::<Vec<_>>(),
        "runs": explained.runs.iter().map(run).collect::<Vec<_>>(),
    })
}

fn route(route: &ExplainedRoute) -> Value {
    json!({
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
        "url": run.run.web_url,
    })
}

/// Everything about a delivery, as text for a terminal.
pub fn tell(explained: &Explained) -> String {
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
    for route in &explained.routes {
        tell_route(&mut told, route);
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
    }
    told
}

fn tell_route(told: &mut String, route: &ExplainedRoute) {
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
    }
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
