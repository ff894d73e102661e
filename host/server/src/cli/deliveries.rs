//! `penstock deliveries`.

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Subcommand;
use penstock_model::id::{DeliveryId, Timestamp};
use penstock_store::{DeliveryFilter, DeliveryOutcome, Store};
use serde_json::json;

use super::{Shared, open_beside, output};
use crate::explain;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// The newest deliveries.
    List {
        /// Only of the project with this path.
        #[arg(long)]
        project: Option<String>,
        /// Only with this outcome, such as `failed`.
        #[arg(long)]
        outcome: Option<String>,
        /// How many at most.
        #[arg(long, default_value_t = 20)]
        limit: u32,
    },
    /// A delivery, as it was received.
    Show {
        /// Its id.
        id: String,
    },
    /// Decides a delivery anew that failed, died, led nowhere or could not be read.
    Retry {
        /// Its id.
        id: String,
    },
}

pub(super) async fn run(command: Command, shared: &Shared) -> Result<ExitCode> {
    let store = open_beside(shared).await?;
    match command {
        Command::List {
            project,
            outcome,
            limit,
        } => list(&store, shared, project, outcome, limit).await?,
        Command::Show { id } => show(&store, shared, &id).await?,
        Command::Retry { id } => retry(&store, shared, &id).await?,
    }
    store.close().await;
    Ok(ExitCode::SUCCESS)
}

async fn list(
    store: &Store,
    shared: &Shared,
    project: Option<String>,
    outcome: Option<String>,
    limit: u32,
) -> Result<()> {
    let outcome = outcome
        .map(|word| {
            DeliveryOutcome::parse(&word).with_context(|| {
                format!(
                    "`{word}` is no outcome: it is one of waiting, decided, failed, dead, unrouted, unreadable, same-event"
                )
            })
        })
        .transpose()?;
    let filter = DeliveryFilter {
        project,
        outcome,
        limit,
        ..DeliveryFilter::default()
    };
    let listed = explain::list(&store.deliveries(filter).await?);
    output::answer(shared.output, &listed, || {
        if listed.is_empty() {
            return "no deliveries; is a webhook of GitLab set to this host?".to_owned();
        }
        let rows = listed.iter().map(|it| {
            [
                it.received_at.clone(),
                it.kind.clone(),
                it.project.clone().unwrap_or_default(),
                it.outcome.to_owned(),
                it.delivery.clone(),
                it.why.clone().unwrap_or_default(),
            ]
        });
        output::table(
            ["RECEIVED", "KIND", "PROJECT", "OUTCOME", "DELIVERY", "WHY"],
            rows,
        )
    });
    Ok(())
}

async fn show(store: &Store, shared: &Shared, id: &str) -> Result<()> {
    let id = DeliveryId::new(id);
    let found = store
        .delivery(None, &id)
        .await?
        .with_context(|| unknown(id.as_str()))?;
    let body = found.body.as_deref().map(String::from_utf8_lossy);
    let headers: serde_json::Map<_, _> = found
        .headers
        .iter()
        .map(|(name, value)| (name.clone(), json!(value)))
        .collect();
    let json = json!({
        "delivery": explain::list(std::slice::from_ref(&found)).first(),
        "headers": headers,
        "body": body,
    });
    output::answer(shared.output, &json, || {
        let mut text = String::new();
        for (name, value) in &found.headers {
            text.push_str(&format!("{name}: {value}\n"));
        }
        text.push('\n');
        text.push_str(body.as_deref().unwrap_or("(the body has expired)"));
        text
    });
    Ok(())
}

async fn retry(store: &Store, shared: &Shared, id: &str) -> Result<()> {
    let id = DeliveryId::new(id);
    let retried = store.retry_delivery(None, &id, Timestamp::now()).await?;
    let routes: Vec<_> = retried
        .routes
        .iter()
        .map(|(route, attempt)| json!({ "route": route, "attempt": attempt }))
        .collect();
    let json = json!({ "delivery": id, "routes": routes, "rerouted": retried.rerouted });
    output::answer(shared.output, &json, || {
        if retried.rerouted {
            format!("{id} is routed anew; `penstock explain {id}` says what came of it")
        } else {
            let routes: Vec<String> = retried
                .routes
                .iter()
                .map(|(route, attempt)| format!("`{route}` (attempt {attempt})"))
                .collect();
            format!(
                "{id} is decided anew by {}; `penstock explain {id}` says what came of it",
                routes.join(", ")
            )
        }
    });
    Ok(())
}

fn unknown(what: &str) -> String {
    format!("there is no delivery `{what}`: `penstock deliveries list` shows the newest")
}
