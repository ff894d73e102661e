//! Which runs a cancel is about, and what is done with them, in the transaction that commits it.
//!
//! A run that was not started is withdrawn: its effect stays as a tombstone and is never done. One that may have been started
//! gets an order to stop it. A run that is committed after a cancel of a later delivery that is about it is withdrawn at once. An
//! event that came when GitLab had gone on cancels nothing.

use std::collections::BTreeSet;

use penstock_model::admit::{
    CancelOrder, Order, ProjectOf, RunOrder, StatusOrder, StopHow, StopOrder, Task,
};
use penstock_model::effect::{CancelScope, StatusState};
use penstock_model::id::{EffectId, Timestamp};
use penstock_model::run::RunState;

use crate::backend::Tx;
use crate::backend::dialect::{guard, guard_key};
use crate::backend::value::params;
use crate::error::StoreError;
use crate::outbox::{
    Cancelled, Origin, effect_lane, host_key, insert, insert_at, read_order, read_run_order,
};
use crate::store::Store;
use crate::{flow, run};

/// The status that a run gets when it is cancelled before it was created.
pub fn withdrawn_status(run: &EffectId, order: &RunOrder, reason: &str) -> Order {
    Order {
        id: run.follow_up("status/withdrawn"),
        key: host_key("withdrawn"),
        task: Task::SetStatus(StatusOrder {
            of: order.of.clone(),
            commit: order.commit.clone(),
            name: order.status_name.clone(),
            state: StatusState::Canceled,
            description: reason.chars().take(255).collect(),
            target_url: None,
            ref_name: order.ref_name.clone(),
            merge_request: order.merge_request,
            source_project: order.source_project,
            run: Some(*run),
        }),
    }
}

/// A run that a cancel may be about.
struct Candidate {
    id: EffectId,
    lane: String,
    commit: String,
    ref_name: Option<String>,
    merge_request: Option<u64>,
    pipeline: String,
    effect_lane: String,
}

impl Candidate {
    fn meant(&self, cancel: &CancelOrder, lane: &str) -> bool {
        let of_pipeline = cancel
            .pipeline
            .as_ref()
            .is_none_or(|pipeline| *pipeline == self.pipeline);
        of_pipeline
            && match &cancel.scope {
                CancelScope::Superseded => {
                    let head = cancel.head.as_ref();
                    self.lane == lane && head.is_some_and(|head| head.as_str() != self.commit)
                }
                CancelScope::Earlier => self.lane == lane,
                CancelScope::MergeRequest(iid) => self.merge_request == Some(*iid),
                CancelScope::Ref(name) => self.ref_name.as_deref() == Some(name.as_str()),
                CancelScope::Commit(commit) => self.commit == commit.as_str(),
                CancelScope::Runs(ids) => ids.contains(&self.id.hex()),
            }
    }
}

/// Unfinished runs of the plugin in the project whose delivery came before.
fn candidates(
    tx: &mut dyn Tx,
    cancel: &CancelOrder,
    origin: &Origin,
) -> Result<Vec<Candidate>, StoreError> {
    let rows = tx.query(
        "SELECT id, lane, commit_id, ref_name, merge_request, pipeline, effect_lane FROM runs \
         WHERE instance = ?1 AND project = ?2 AND plugin = ?3 AND finished = 0 AND delivery_seq < ?4 \
         ORDER BY delivery_seq, id",
        params![
            cancel.of.instance.as_str(),
            cancel.of.project.0,
            cancel.plugin.as_str(),
            origin.seq
        ],
    )?;
    rows.into_iter()
        .map(|mut row| {
            Ok(Candidate {
                id: row.effect_id()?,
                lane: row.text()?,
                commit: row.text()?,
                ref_name: row.opt_text()?,
                merge_request: row.opt_uint()?,
                pipeline: row.text()?,
                effect_lane: row.text()?,
            })
        })
        .collect()
}

/// Carries a cancel out, once.
pub(crate) fn resolve(
    tx: &mut dyn Tx,
    order: &Order,
    cancel: &CancelOrder,
    origin: &Origin,
    now: Timestamp,
    cancelled: &mut Cancelled,
) -> Result<(), StoreError> {
    if !insert(tx, order, &effect_lane(order, None), origin, now)? {
        return Ok(());
    }
    let lane = cancel.lane.to_string();
    let mut here = Cancelled::default();
    let meant = if cancel.past {
        Vec::new()
    } else {
        candidates(tx, cancel, origin)?
    };
    for run in meant {
        if !run.meant(cancel, &lane) {
            continue;
        }
        if withdraw(tx, &run, &cancel.reason, now)? {
            here.withdrawn.push(run.id);
        } else {
            stop(tx, &order.id, &run.id, &cancel.reason, origin, now)?;
            here.stopping.push(run.id);
        }
    }
    let hex = |ids: &[EffectId]| ids.iter().map(EffectId::hex).collect::<Vec<_>>();
    let mut result = serde_json::json!({
        "withdrawn": hex(&here.withdrawn),
        "stopping": hex(&here.stopping),
    });
    if cancel.past {
        result = serde_json::json!({ "past": "GitLab had gone on since the event: nothing is cancelled" });
    }
    tx.execute(
        "UPDATE effects SET state = 'done', result = ?2, settled_at = ?3, next_at = NULL WHERE id = ?1",
        params![&order.id.hex(), &result.to_string(), now],
    )?;
    cancelled.withdrawn.extend(here.withdrawn);
    cancelled.stopping.extend(here.stopping);
    Ok(())
}

/// Withdraws a run that was not started, and says whether it could.
fn withdraw(
    tx: &mut dyn Tx,
    run: &Candidate,
    reason: &str,
    now: Timestamp,
) -> Result<bool, StoreError> {
    // Whoever works in the lane holds its row before that of an effect.
    tx.first(
        "SELECT 1 FROM lanes WHERE queue = 'act' AND lane = ?1 FOR UPDATE",
        params![&run.effect_lane],
    )?;
    let hex = run.id.hex();
    let withdrawn = tx.first(
        "UPDATE effects SET state = 'withdrawn', why = ?2, settled_at = ?3, next_at = NULL \
         WHERE id = ?1 AND state IN ('waiting', 'dead') RETURNING tries, handed_out, content",
        params![&hex, reason, now],
    )?;
    let Some(mut row) = withdrawn else {
        return Ok(false);
    };
    let (tries, handed_out) = (row.uint()?, row.uint()?);
    let order = read_run_order(&row.bytes()?, &hex)?;
    run::end_unstarted(tx, &hex, RunState::Canceled, reason, now)?;
    flow::leave(tx, &hex)?;
    if let Some(origin) = Origin::of_effect(tx, &run.id)? {
        let status = withdrawn_status(&run.id, &order, reason);
        let status_lane = effect_lane(&status, None);
        insert(tx, &status, &status_lane, &origin, now)?;
    }
    // Somebody tried to create it, or was about to: the object may be there, or come to be.
    if tries > 0 || handed_out > 0 {
        stop_withdrawn(tx, &run.id, now)?;
    }
    Ok(true)
}

/// Keeps starts and cancels of a project from being committed at the same time, where neither would know of the other.
pub(crate) fn guard_projects(tx: &mut dyn Tx, orders: &[Order]) -> Result<(), StoreError> {
    let keys: BTreeSet<i64> = orders
        .iter()
        .filter_map(|order| match &order.task {
            Task::StartRun(run) => Some(&run.of),
            Task::CancelRuns(cancel) => Some(&cancel.of),
            Task::StopRun(_) | Task::DeleteRun(_) | Task::Comment(_) | Task::SetStatus(_) => None,
        })
        .map(|of| guard_key(["runs", of.instance.as_str(), &of.project.to_string()]))
        .collect();
    keys.into_iter().try_for_each(|key| guard(tx, key))
}

/// Withdraws a run that has just been committed if a cancel of a later delivery, committed before it, is about it. What somebody
/// asked for with `deliveries retry`, knowing of the cancel, is left alone.
pub(crate) fn withdraw_late(
    tx: &mut dyn Tx,
    id: &EffectId,
    run: &RunOrder,
    effect_lane: &str,
    origin: &Origin,
    now: Timestamp,
) -> Result<(), StoreError> {
    if origin.attempt > 1 {
        return Ok(());
    }
    let candidate = Candidate {
        id: *id,
        lane: run.lane.to_string(),
        commit: run.commit.as_str().to_owned(),
        ref_name: run.ref_name.as_ref().map(|name| name.as_str().to_owned()),
        merge_request: run.merge_request,
        pipeline: run.pipeline.clone(),
        effect_lane: effect_lane.to_owned(),
    };
    let rows = tx.query(
        "SELECT id, content FROM effects WHERE kind = 'cancel-runs' AND instance = ?1 AND project = ?2 \
         AND delivery_seq > ?3 AND state = 'done' AND content IS NOT NULL ORDER BY delivery_seq, id",
        params![run.of.instance.as_str(), run.of.project.0, origin.seq],
    )?;
    for mut row in rows {
        let cancelling = row.text()?;
        let Task::CancelRuns(cancel) = read_order(&row.bytes()?, &cancelling)?.task else {
            continue;
        };
        if !cancel.past
            && cancel.plugin == run.plugin
            && candidate.meant(&cancel, &cancel.lane.to_string())
        {
            withdraw(tx, &candidate, &cancel.reason, now)?;
            return Ok(());
        }
    }
    Ok(())
}

/// Orders a withdrawn run to be stopped, in case it was created after all.
pub(crate) fn stop_withdrawn(
    tx: &mut dyn Tx,
    id: &EffectId,
    now: Timestamp,
) -> Result<(), StoreError> {
    let why = tx
        .first("SELECT why FROM effects WHERE id = ?1", params![&id.hex()])?
        .map(|mut row| row.opt_text())
        .transpose()?
        .flatten()
        .unwrap_or_default();
    match Origin::of_effect(tx, id)? {
        Some(origin) => stop(tx, &id.follow_up("withdrawn"), id, &why, &origin, now),
        None => Ok(()),
    }
}

impl Store {
    /// Orders a run that was asked to end after its `finally` tasks to be stopped at once, not before `at`. To say it twice changes
    /// nothing.
    ///
    /// # Errors
    /// The store's.
    pub async fn stop_later(
        &self,
        asked: &Order,
        at: Timestamp,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let Task::StopRun(stop) = &asked.task else {
            return Ok(());
        };
        let order = Order {
            id: asked.id.follow_up("at-once"),
            key: host_key("stop-at-once"),
            task: Task::StopRun(StopOrder {
                how: StopHow::AtOnce,
                ..stop.clone()
            }),
        };
        let asked = asked.id;
        self.write(move |tx| {
            let Some(origin) = Origin::of_effect(tx, &asked)? else {
                return Ok(());
            };
            let lane = effect_lane(&order, None);
            insert_at(tx, &order, &lane, &origin, at, now).map(drop)
        })
        .await
    }
}

/// Orders a run to be stopped. `because` makes the order's id: a later cancel may try again what an earlier one could not do.
fn stop(
    tx: &mut dyn Tx,
    because: &EffectId,
    id: &EffectId,
    reason: &str,
    origin: &Origin,
    now: Timestamp,
) -> Result<(), StoreError> {
    let mut row = tx
        .first(
            "SELECT instance, project, project_path, tenant, cluster, namespace, creator, name, uid, effect_lane \
             FROM runs WHERE id = ?1",
            params![&id.hex()],
        )?
        .ok_or_else(|| StoreError::unreadable(format!("run {id} is gone")))?;
    let of = ProjectOf {
        instance: row.text()?.into(),
        project: penstock_model::id::ProjectId(row.uint()?),
        path: row.text()?.into(),
        tenant: row.text()?.into(),
    };
    let stop = StopOrder {
        of,
        run: *id,
        cluster: row.text()?.into(),
        namespace: row.text()?,
        creator: row.text()?,
        name: row.text()?,
        uid: row.opt_text()?,
        reason: reason.to_owned(),
        how: StopHow::RunFinally,
    };
    // A second order, once the UID is known, is another order.
    let key = match &stop.uid {
        Some(uid) => format!("stop/{id}/{uid}"),
        None => format!("stop/{id}"),
    };
    let order = Order {
        id: because.follow_up(&key),
        key: host_key("stop"),
        task: Task::StopRun(stop),
    };
    let lane = row.text()?;
    insert(tx, &order, &lane, origin, now).map(drop)
}
