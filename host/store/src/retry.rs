//! Trying again what failed or died, because somebody asks for it.

use penstock_model::admit::Task;
use penstock_model::id::{DeliveryId, EffectId, InstanceName, RouteName, Timestamp};

use crate::backend::Tx;
use crate::backend::value::params;
use crate::claim::{Queue, wake_lane};
use crate::decision::Brief;
use crate::delivery::{self, DeliveryKey, DeliveryOutcome, StoredDelivery};
use crate::dispatch::settle_delivery;
use crate::error::{StoreError, failures};
use crate::outbox::read_order;
use crate::run;
use crate::store::Store;

/// What is tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retried {
    /// The delivery.
    pub key: DeliveryKey,
    /// Routes with their new attempts.
    pub routes: Vec<(RouteName, u32)>,
    /// It is routed again: it had no routes.
    pub rerouted: bool,
}

/// What became of an effect that somebody asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetriedEffect {
    /// It is tried again.
    Again,
    /// It is a status that a newer one has overtaken: posted now, it would take that one's place. It counts as withdrawn.
    Overtaken,
}

/// Why nothing is tried again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RetryError {
    /// There is no such thing.
    #[error("there is no {what}")]
    NotFound {
        /// What was named.
        what: String,
    },
    /// It neither failed nor died, and nothing of it was refused.
    #[error("{what} is {state}: only what failed, died or was refused can be tried again")]
    NothingToRetry {
        /// What was named.
        what: String,
        /// Where it stands.
        state: String,
    },
    /// What it would be decided from is gone.
    #[error("the contents of {what} have expired: let GitLab send it again")]
    Expired {
        /// What was named.
        what: String,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

failures!(RetryError);

fn retry_delivery(
    tx: &mut dyn Tx,
    instance: Option<&str>,
    id: &str,
    now: Timestamp,
) -> Result<Retried, RetryError> {
    let what = format!("delivery `{id}`");
    let Some(delivery) = delivery::find(tx, instance, id)? else {
        return Err(RetryError::NotFound { what });
    };
    if delivery.body.is_none() {
        return Err(RetryError::Expired { what });
    }
    let key = &delivery.key;
    let routes = again(tx, &delivery, now)?;
    let rerouted = routes.is_empty() && reroute(tx, &delivery, now)?;
    if routes.is_empty() && !rerouted {
        let state = delivery.outcome.as_str().to_owned();
        return Err(RetryError::NothingToRetry { what, state });
    }
    if !rerouted {
        settle_delivery(tx, key)?;
    }
    let tenant = delivery
        .tenant
        .as_ref()
        .map_or("", |tenant| tenant.as_str());
    let lane = tx
        .first(
            "SELECT lane FROM deliveries WHERE instance = ?1 AND id = ?2",
            params![key.instance.as_str(), key.id.as_str()],
        )?
        .map(|mut row| row.text())
        .transpose()?
        .ok_or_else(|| StoreError::unreadable("a delivery vanished while it was worked on"))?;
    wake_lane(tx, Queue::Dispatch, &lane, tenant, now, now)?;
    Ok(Retried {
        key: key.clone(),
        routes,
        rerouted,
    })
}

/// A new attempt for each route whose newest failed, died, or was decided with effects that were not admitted.
fn again(
    tx: &mut dyn Tx,
    delivery: &StoredDelivery,
    now: Timestamp,
) -> Result<Vec<(RouteName, u32)>, StoreError> {
    let (instance, id) = (delivery.key.instance.as_str(), delivery.key.id.as_str());
    let rows = tx.query(
        "SELECT r.route, r.attempt, r.outcome, r.summary FROM routes r \
         WHERE r.instance = ?1 AND r.delivery = ?2 AND r.outcome IN ('failed', 'dead', 'decided') AND NOT EXISTS ( \
           SELECT 1 FROM routes n WHERE n.instance = ?1 AND n.delivery = ?2 AND n.route = r.route AND n.attempt > r.attempt) \
         ORDER BY r.position",
        params![instance, id],
    )?;
    let mut begun = Vec::new();
    for mut row in rows {
        let (route, attempt, outcome) = (row.text()?, row.small()?, row.text()?);
        let brief: Brief = row.opt_json()?.unwrap_or_default();
        if outcome == "decided" && brief.refused.is_empty() {
            continue;
        }
        let new = tx.execute(
            "INSERT INTO routes (instance, delivery, route, attempt, seq, lane, position, outcome, tries, next_at) \
             SELECT instance, delivery, route, attempt + 1, seq, lane, position, 'waiting', 0, CAST(?5 AS BIGINT) \
             FROM routes WHERE instance = ?1 AND delivery = ?2 AND route = ?3 AND attempt = ?4 \
             ON CONFLICT (instance, delivery, route, attempt) DO NOTHING",
            params![instance, id, &route, attempt, now],
        )?;
        if new > 0 {
            begun.push((RouteName::new(route), attempt.saturating_add(1)));
        }
    }
    Ok(begun)
}

/// Routes a delivery again that led nowhere, could not be read or could not be routed.
fn reroute(tx: &mut dyn Tx, delivery: &StoredDelivery, now: Timestamp) -> Result<bool, StoreError> {
    let ended = matches!(
        delivery.outcome,
        DeliveryOutcome::Unrouted | DeliveryOutcome::Unreadable | DeliveryOutcome::Dead
    );
    if !ended {
        return Ok(false);
    }
    let changed = tx.execute(
        "UPDATE deliveries SET outcome = 'waiting', routed = 0, tries = 0, first_tried_at = NULL, next_at = ?3, why = NULL \
         WHERE instance = ?1 AND id = ?2 AND outcome = ?4",
        params![
            delivery.key.instance.as_str(),
            delivery.key.id.as_str(),
            now,
            delivery.outcome.as_str()
        ],
    )?;
    Ok(changed > 0)
}

/// Says whether a status was overtaken: a newer one of its name was posted, or will be.
fn overtaken(tx: &mut dyn Tx, id: &EffectId) -> Result<bool, StoreError> {
    let asked = tx.first(
        "SELECT lane, seq, content FROM effects \
         WHERE id = ?1 AND kind = 'commit-status' AND state IN ('dead', 'refused') AND content IS NOT NULL",
        params![&id.hex()],
    )?;
    let Some(mut row) = asked else {
        return Ok(false);
    };
    let (lane, seq) = (row.text()?, row.uint()?);
    let Task::SetStatus(asked) = read_order(&row.bytes()?, &id.hex())?.task else {
        return Ok(false);
    };
    let newer = tx.query(
        "SELECT id, content FROM effects WHERE lane = ?1 AND seq > ?2 AND kind = 'commit-status' \
         AND state IN ('waiting', 'done') AND content IS NOT NULL",
        params![&lane, seq],
    )?;
    for mut row in newer {
        let id = row.text()?;
        if let Task::SetStatus(it) = read_order(&row.bytes()?, &id)?.task
            && (&it.of, &it.name, it.merge_request) == (&asked.of, &asked.name, asked.merge_request)
        {
            return Ok(true);
        }
    }
    Ok(false)
}

fn retry_effect(
    tx: &mut dyn Tx,
    id: &EffectId,
    now: Timestamp,
) -> Result<RetriedEffect, RetryError> {
    let what = format!("effect {id}");
    if overtaken(tx, id)? {
        tx.execute(
            "UPDATE effects SET state = 'withdrawn', why = 'a newer status of its name came after it', settled_at = ?2, \
             next_at = NULL WHERE id = ?1 AND state IN ('dead', 'refused')",
            params![&id.hex(), now],
        )?;
        return Ok(RetriedEffect::Overtaken);
    }
    // What its tries may have left behind is not forgotten with them: it counts as handed out.
    let revived = tx.first(
        "UPDATE effects SET state = 'waiting', tries = 0, first_tried_at = NULL, next_at = ?2, settled_at = NULL, \
         handed_out = handed_out + 1 \
         WHERE id = ?1 AND state IN ('dead', 'refused') AND content IS NOT NULL RETURNING lane, tenant, kind",
        params![&id.hex(), now],
    )?;
    if let Some(mut row) = revived {
        let (lane, tenant) = (row.text()?, row.text()?);
        if row.text()? == "start-run" {
            run::queue_again(tx, &id.hex())?;
        }
        wake_lane(tx, Queue::Act, &lane, &tenant, now, now)?;
        return Ok(RetriedEffect::Again);
    }
    let known = tx.first(
        "SELECT state FROM effects WHERE id = ?1",
        params![&id.hex()],
    )?;
    match known.map(|mut row| row.text()).transpose()? {
        None => Err(RetryError::NotFound { what }),
        Some(state) if state == "dead" || state == "refused" => Err(RetryError::Expired { what }),
        Some(state) => Err(RetryError::NothingToRetry { what, state }),
    }
}

impl Store {
    /// Tries a delivery again: a new attempt for each route that failed, died, or whose decision had effects that were not
    /// admitted; one without routes is routed again.
    ///
    /// # Errors
    /// There is no such delivery, nothing of it failed or was refused, its body has expired, or the store's.
    pub async fn retry_delivery(
        &self,
        instance: Option<&InstanceName>,
        id: &DeliveryId,
        now: Timestamp,
    ) -> Result<Retried, RetryError> {
        let (instance, id) = (instance.cloned(), id.clone());
        let retried = self
            .write(move |tx| {
                let instance = instance.as_ref().map(InstanceName::as_str);
                retry_delivery(tx, instance, id.as_str(), now)
            })
            .await?;
        self.hint(Queue::Dispatch);
        Ok(retried)
    }

    /// Tries an effect again that is dead or refused. A run that was refused is queued again; a status that a newer one has
    /// overtaken is withdrawn.
    ///
    /// # Errors
    /// There is no such effect, it is neither dead nor refused, its order has expired, or the store's.
    pub async fn retry_effect(
        &self,
        id: &EffectId,
        now: Timestamp,
    ) -> Result<RetriedEffect, RetryError> {
        let id = *id;
        let became = self.write(move |tx| retry_effect(tx, &id, now)).await?;
        self.hint(Queue::Act);
        Ok(became)
    }
}
