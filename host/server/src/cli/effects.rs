//! `penstock effects`: what waits to be done, and what was given up.

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Subcommand;
use penstock_model::id::{EffectId, Timestamp};
use penstock_store::{EffectFilter, EffectState, RetriedEffect};
use serde_json::json;

use super::{Shared, open_beside, output};
use crate::text;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Effects in a state; those that wait if none is named.
    List {
        /// `waiting`, `done`, `refused`, `dead` or `withdrawn`.
        #[arg(long, default_value = "waiting")]
        state: String,
        /// How many at most.
        #[arg(long, default_value_t = 50)]
        limit: u32,
    },
    /// Tries an effect again that was given up.
    Retry {
        /// Its id.
        id: String,
    },
}

pub(super) async fn run(command: Command, shared: &Shared) -> Result<ExitCode> {
    let store = open_beside(shared).await?;
    match command {
        Command::List { state, limit } => {
            let state = EffectState::parse(&state).with_context(|| {
                format!(
                    "`{state}` is no state: it is one of waiting, done, refused, dead, withdrawn"
                )
            })?;
            let filter = EffectFilter {
                state: Some(state),
                limit,
                ..EffectFilter::default()
            };
            let found = store.effects(filter).await?;
            let rows = || {
                found.iter().map(|it| {
                    [
                        text::time(it.created_at),
                        it.kind.clone(),
                        it.key.to_string(),
                        it.tries.to_string(),
                        it.next_at.map(text::time).unwrap_or_default(),
                        it.id.to_string(),
                        it.why.clone().unwrap_or_default(),
                    ]
                })
            };
            let json: Vec<_> = found
                .iter()
                .map(|it| {
                    json!({
                        "id": it.id.to_string(), "key": it.key, "kind": it.kind, "state": it.state.as_str(), "tries": it.tries,
                        "delivery": it.delivery.id, "why": it.why, "next_at": it.next_at.map(text::time),
                    })
                })
                .collect();
            output::answer(shared.output, &json, || {
                output::table(
                    ["COMMITTED", "KIND", "KEY", "TRIES", "NEXT", "ID", "WHY"],
                    rows(),
                )
            });
        }
        Command::Retry { id } => {
            // As a digest it is written in records.
            let digits = id.strip_prefix("sha256:").unwrap_or(&id);
            let id =
                EffectId::parse(digits).with_context(|| format!("`{id}` is no id of an effect"))?;
            match store.retry_effect(&id, Timestamp::now()).await? {
                RetriedEffect::Again => {
                    output::answer(shared.output, &json!({ "retried": id.to_string() }), || {
                        format!("{id} is tried again")
                    });
                }
                RetriedEffect::Overtaken => {
                    output::answer(
                        shared.output,
                        &json!({ "overtaken": id.to_string() }),
                        || format!("{id} is not posted: a newer status of its name came after it"),
                    );
                }
            }
        }
    }
    store.close().await;
    Ok(ExitCode::SUCCESS)
}
