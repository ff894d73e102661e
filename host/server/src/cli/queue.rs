//! `penstock queue`: what waits, for what, and in which place.

use std::process::ExitCode;

use anyhow::Result;
use penstock_store::{
    DeliveryFilter, DeliveryOutcome, EffectFilter, EffectState, ExplainedEffect, Queued, Store,
    StoredDelivery,
};
use serde_json::{Value, json};

use super::{Shared, open_beside, output};
use crate::text;

/// All that waits.
struct Waiting {
    runs: Vec<Queued>,
    effects: Vec<ExplainedEffect>,
    deliveries: Vec<StoredDelivery>,
}

impl Waiting {
    async fn read(store: &Store, limit: u32) -> Result<Self> {
        let runs = store.queue(limit).await?;
        let effects = EffectFilter {
            state: Some(EffectState::Waiting),
            limit,
            ..EffectFilter::default()
        };
        let mut effects = store.effects(effects).await?;
        // Runs in a line are told of with their place.
        effects.retain(|effect| !runs.iter().any(|run| run.id == effect.id));
        let deliveries = DeliveryFilter {
            outcome: Some(DeliveryOutcome::Waiting),
            limit,
            ..DeliveryFilter::default()
        };
        Ok(Self {
            runs,
            effects,
            deliveries: store.deliveries(deliveries).await?,
        })
    }
}

/// One line of the answer.
struct Told {
    what: &'static str,
    id: String,
    of: String,
    place: Option<(u64, u64)>,
    since: String,
    why: String,
}

fn run(run: &Queued) -> Told {
    Told {
        what: "run",
        id: run.name.clone(),
        of: format!("{} {}", run.project_path, run.flow.pipeline),
        place: Some((run.place, run.of)),
        since: text::time(run.since),
        why: run.why.clone(),
    }
}

fn effect(effect: &ExplainedEffect) -> Told {
    let why = match (&effect.why, effect.next_at) {
        (Some(why), Some(at)) => format!("tried again at {}: {why}", text::time(at)),
        (Some(why), None) => why.clone(),
        (None, _) => "its turn".to_owned(),
    };
    Told {
        what: "effect",
        id: effect.id.to_string(),
        of: format!("{} `{}`", effect.kind, effect.key),
        place: None,
        since: text::time(effect.created_at),
        why,
    }
}

fn delivery(delivery: &StoredDelivery) -> Told {
    let project = delivery.project.as_ref().map(|(_, path)| path.as_str());
    Told {
        what: "delivery",
        id: delivery.key.id.to_string(),
        of: format!("{} {}", project.unwrap_or("-"), delivery.kind),
        place: None,
        since: text::time(delivery.received_at),
        why: delivery
            .why
            .clone()
            .unwrap_or_else(|| "its turn".to_owned()),
    }
}

fn json(told: &Told) -> Value {
    json!({
        "what": told.what,
        "id": told.id,
        "of": told.of,
        "place": told.place.map(|(place, _)| place),
        "in_line": told.place.map(|(_, of)| of),
        "since": told.since,
        "waits_for": told.why,
    })
}

pub(super) async fn show(limit: u32, shared: &Shared) -> Result<ExitCode> {
    let store = open_beside(shared).await?;
    let waiting = Waiting::read(&store, limit).await?;
    store.close().await;
    let mut told: Vec<Told> = waiting.runs.iter().map(run).collect();
    told.extend(waiting.effects.iter().rev().map(effect));
    told.extend(waiting.deliveries.iter().rev().map(delivery));
    let rows: Vec<Value> = told.iter().map(json).collect();
    output::answer(shared.output, &rows, || {
        if told.is_empty() {
            return "nothing waits".to_owned();
        }
        let rows = told.into_iter().map(|it| {
            let place = it.place.map(|(place, of)| format!("{place} of {of}"));
            [
                it.what.to_owned(),
                it.of,
                place.unwrap_or_default(),
                it.since,
                it.id,
                it.why,
            ]
        });
        output::table(["WHAT", "OF", "PLACE", "SINCE", "ID", "WAITS FOR"], rows)
    });
    Ok(ExitCode::SUCCESS)
}
