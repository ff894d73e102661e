//! What people ask: why did this happen, and what waits.

use penstock_model::admit::{Order, Refusal};
use penstock_model::effect::Problem;
use penstock_model::id::{
    DeliveryId, Digest, EffectId, EffectKey, InstanceName, PluginName, RouteName, Timestamp,
};
use penstock_model::record::{DecisionRecord, Usage};
use serde::{Deserialize, Serialize};

use crate::backend::Tx;
use crate::backend::value::{Row, params};
use crate::blob;
use crate::decision::{Brief, Mode};
use crate::delivery::{self, DeliveryKey, StoredDelivery};
use crate::error::StoreError;
use crate::flow;
use crate::outbox::{EffectState, kind, read_order};
use crate::run::{self, StoredRun};
use crate::store::Store;

/// Where a (delivery, route, attempt) stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RouteOutcome {
    /// To be decided.
    Waiting,
    /// Decided.
    Decided,
    /// Failed, until somebody tries it again.
    Failed,
    /// Tried for too long, until somebody tries it again.
    Dead,
}

impl RouteOutcome {
    /// The word of the store, the command line and the metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Decided => "decided",
            Self::Failed => "failed",
            Self::Dead => "dead",
        }
    }

    /// Reads [`RouteOutcome::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Waiting, Self::Decided, Self::Failed, Self::Dead]
            .into_iter()
            .find(|outcome| outcome.as_str() == text)
    }
}

/// An order that a decision came to, in short.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdmittedOrder {
    /// Id of the effect.
    pub id: EffectId,
    /// Key that the plugin gave it.
    pub key: EffectKey,
    /// `start-run`, `cancel-runs`, `stop-run`, `comment` or `commit-status`.
    pub kind: String,
}

impl AdmittedOrder {
    pub(crate) fn of(order: &Order) -> Self {
        Self {
            id: order.id,
            key: order.key.clone(),
            kind: kind(&order.task).to_owned(),
        }
    }
}

/// One attempt of a route of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExplainedRoute {
    /// The route.
    pub route: RouteName,
    /// The attempt.
    pub attempt: u32,
    /// Where it stands.
    pub outcome: RouteOutcome,
    /// How often it was put off.
    pub tries: u32,
    /// When it is tried next.
    pub next_at: Option<Timestamp>,
    /// Why it stands there.
    pub why: Option<String>,
    /// When it was settled.
    pub settled_at: Option<Timestamp>,
    /// Whether its decision is carried out; none: not decided.
    pub mode: Option<Mode>,
    /// The plugin that was called.
    pub plugin: Option<PluginName>,
    /// Digest of its bytes.
    pub plugin_digest: Option<Digest>,
    /// `plan`, `error`, or the word of the failure.
    pub answer: Option<String>,
    /// Why, in the plugin's words.
    pub reasons: Vec<String>,
    /// Things to mend in the repository or the settings.
    pub warnings: Vec<Problem>,
    /// Effects that were refused.
    pub refused: Vec<Refusal>,
    /// Effects that were admitted.
    pub admitted: Vec<AdmittedOrder>,
    /// Digest of the decision record.
    pub record: Option<Digest>,
    /// What the call used.
    pub usage: Option<Usage>,
}

/// An effect and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExplainedEffect {
    /// Its id.
    pub id: EffectId,
    /// The key that the plugin, or the host, gave it.
    pub key: EffectKey,
    /// `start-run`, `cancel-runs`, `stop-run`, `comment` or `commit-status`.
    pub kind: String,
    /// Where it stands.
    pub state: EffectState,
    /// Key of its lane.
    pub lane: String,
    /// The delivery that led to it.
    pub delivery: DeliveryKey,
    /// The route.
    pub route: RouteName,
    /// The attempt.
    pub attempt: u32,
    /// How often it was tried.
    pub tries: u32,
    /// When it is tried next.
    pub next_at: Option<Timestamp>,
    /// The last error, or why it stands there.
    pub why: Option<String>,
    /// What came of it.
    pub result: Option<serde_json::Value>,
    /// When it was committed.
    pub created_at: Timestamp,
    /// When it was settled.
    pub settled_at: Option<Timestamp>,
    /// The order itself; none: it has expired.
    pub order: Option<Order>,
}

/// Which effects are listed. What is none does not narrow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EffectFilter {
    /// That stand there.
    pub state: Option<EffectState>,
    /// Of this kind.
    pub kind: Option<String>,
    /// Of this instance.
    pub instance: Option<InstanceName>,
    /// At most so many.
    pub limit: u32,
}

impl Default for EffectFilter {
    fn default() -> Self {
        Self {
            state: None,
            kind: None,
            instance: None,
            limit: 50,
        }
    }
}

/// All that came of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explained {
    /// The delivery, with its body.
    pub delivery: StoredDelivery,
    /// Attempts of its routes.
    pub routes: Vec<ExplainedRoute>,
    /// Effects that follow from it.
    pub effects: Vec<ExplainedEffect>,
    /// Runs that it started.
    pub runs: Vec<StoredRun>,
}

fn routes(tx: &mut dyn Tx, key: &DeliveryKey) -> Result<Vec<ExplainedRoute>, StoreError> {
    let rows = tx.query(
        "SELECT route, attempt, outcome, tries, next_at, why, settled_at, mode, plugin, plugin_digest, record, summary \
         FROM routes WHERE instance = ?1 AND delivery = ?2 ORDER BY position, route, attempt",
        params![key.instance.as_str(), key.id.as_str()],
    )?;
    rows.into_iter()
        .map(|mut row| read_route(&mut row))
        .collect()
}

fn read_route(row: &mut Row) -> Result<ExplainedRoute, StoreError> {
    let route = RouteName::new(row.text()?);
    let attempt = row.small()?;
    let word = row.text()?;
    let outcome = RouteOutcome::parse(&word)
        .ok_or_else(|| StoreError::unreadable(format!("`{word}` is no outcome of a route")))?;
    let (tries, next_at, why, settled_at) = (
        row.small()?,
        row.opt_time()?,
        row.opt_text()?,
        row.opt_time()?,
    );
    let mode = match row.opt_text()?.as_deref() {
        Some("act") => Some(Mode::Act),
        Some("observe") => Some(Mode::Observe),
        _ => None,
    };
    let plugin = row.opt_text()?.map(PluginName::new);
    let (plugin_digest, record) = (row.opt_digest()?, row.opt_digest()?);
    let brief: Brief = row.opt_json()?.unwrap_or_default();
    Ok(ExplainedRoute {
        route,
        attempt,
        outcome,
        tries,
        next_at,
        why,
        settled_at,
        mode,
        plugin,
        plugin_digest,
        answer: brief.answer,
        reasons: brief.reasons,
        warnings: brief.warnings,
        refused: brief.refused,
        admitted: brief.admitted,
        record,
        usage: brief.usage,
    })
}

macro_rules! effect_columns {
    () => {
        "id, key, kind, state, lane, instance, delivery, route, attempt, tries, next_at, why, result, created_at, \
         settled_at, content"
    };
}

fn read_effect(row: &mut Row) -> Result<ExplainedEffect, StoreError> {
    let id = row.effect_id()?;
    let (key, kind, word) = (EffectKey::new(row.text()?), row.text()?, row.text()?);
    let state = EffectState::parse(&word)
        .ok_or_else(|| StoreError::unreadable(format!("`{word}` is no state of an effect")))?;
    Ok(ExplainedEffect {
        id,
        key,
        kind,
        state,
        lane: row.text()?,
        delivery: DeliveryKey {
            instance: row.text()?.into(),
            id: row.text()?.into(),
        },
        route: RouteName::new(row.text()?),
        attempt: row.small()?,
        tries: row.small()?,
        next_at: row.opt_time()?,
        why: row.opt_text()?,
        result: row.opt_json()?,
        created_at: row.time()?,
        settled_at: row.opt_time()?,
        order: row
            .opt_bytes()?
            .map(|content| read_order(&content, &id.hex()))
            .transpose()?,
    })
}

fn effects(tx: &mut dyn Tx, key: &DeliveryKey) -> Result<Vec<ExplainedEffect>, StoreError> {
    let rows = tx.query(
        concat!(
            "SELECT ",
            effect_columns!(),
            " FROM effects WHERE instance = ?1 AND delivery = ?2 ORDER BY seq"
        ),
        params![key.instance.as_str(), key.id.as_str()],
    )?;
    rows.into_iter()
        .map(|mut row| read_effect(&mut row))
        .map(|effect| waiting_for(tx, effect?))
        .collect()
}

/// Says of a start that waits for room which, and its place.
fn waiting_for(
    tx: &mut dyn Tx,
    mut effect: ExplainedEffect,
) -> Result<ExplainedEffect, StoreError> {
    if effect.state == EffectState::Waiting && effect.kind == "start-run" {
        effect.why = flow::waits(tx, &effect.id)?.or(effect.why);
    }
    Ok(effect)
}

impl Store {
    /// All that came of a delivery; of several instances the newest.
    ///
    /// # Errors
    /// The store's.
    pub async fn explain(
        &self,
        instance: Option<&InstanceName>,
        id: &DeliveryId,
    ) -> Result<Option<Explained>, StoreError> {
        let (instance, id) = (instance.cloned(), id.clone());
        self.read(move |tx| {
            let instance = instance.as_ref().map(InstanceName::as_str);
            let Some(delivery) = delivery::find(tx, instance, id.as_str())? else {
                return Ok(None);
            };
            Ok(Some(Explained {
                routes: routes(tx, &delivery.key)?,
                effects: effects(tx, &delivery.key)?,
                runs: run::of_delivery(tx, &delivery.key)?,
                delivery,
            }))
        })
        .await
    }

    /// The record of a plugin call, what it used left out; none: there was no call, or it has expired.
    ///
    /// # Errors
    /// The store's.
    pub async fn record(
        &self,
        delivery: &DeliveryKey,
        route: &RouteName,
        attempt: u32,
    ) -> Result<Option<DecisionRecord>, StoreError> {
        let (delivery, route) = (delivery.clone(), route.clone());
        self.read(move |tx| {
            let digest = tx
                .first(
                    "SELECT record FROM routes WHERE instance = ?1 AND delivery = ?2 AND route = ?3 AND attempt = ?4",
                    params![
                        delivery.instance.as_str(),
                        delivery.id.as_str(),
                        route.as_str(),
                        attempt
                    ],
                )?
                .map(|mut row| row.opt_digest())
                .transpose()?
                .flatten();
            let Some(digest) = digest else {
                return Ok(None);
            };
            let Some(bytes) = blob::find(tx, &digest)? else {
                return Ok(None);
            };
            serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|error| StoreError::unreadable(format!("record {digest}: {error}")))
        })
        .await
    }

    /// Effects, newest first.
    ///
    /// # Errors
    /// The store's.
    pub async fn effects(&self, filter: EffectFilter) -> Result<Vec<ExplainedEffect>, StoreError> {
        self.read(move |tx| {
            let rows = tx.query(
                concat!(
                    "SELECT ",
                    effect_columns!(),
                    " FROM effects WHERE (CAST(?1 AS TEXT) IS NULL OR state = ?1) AND (CAST(?2 AS TEXT) IS NULL OR kind = ?2) \
                     AND (CAST(?3 AS TEXT) IS NULL OR instance = ?3) ORDER BY seq DESC LIMIT ?4"
                ),
                params![
                    filter.state.map(EffectState::as_str),
                    filter.kind.as_ref(),
                    filter.instance.as_ref().map(InstanceName::as_str),
                    filter.limit
                ],
            )?;
            rows.into_iter()
                .map(|mut row| read_effect(&mut row))
                .map(|effect| waiting_for(tx, effect?))
                .collect()
        })
        .await
    }
}
