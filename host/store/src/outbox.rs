//! What is to be done in the world.
//!
//! An effect is put in with the decision that asks for it and stays when it is done: a tombstone, so that it is never done
//! again. Effects of a lane are done in their order; one that must wait holds up its lane, one that is dead or refused does not.

use penstock_model::admit::{Order, RunOrder, StopHow, Task};
use penstock_model::effect::CommentTarget;
use penstock_model::id::{
    CommitId, EffectId, EffectKey, InstanceName, ProjectId, RouteName, Timestamp,
};

use crate::backend::Tx;
use crate::backend::value::params;
use crate::blob;
use crate::claim::{Queue, wake_lane};
use crate::delivery::DeliveryKey;
use crate::error::StoreError;
use crate::{cancel, run, run_end};

/// Where an effect stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EffectState {
    /// To be done.
    Waiting,
    /// Done.
    Done,
    /// The other side refuses it for good.
    Refused,
    /// Tried for too long.
    Dead,
    /// Cancelled before it was done.
    Withdrawn,
}

impl EffectState {
    const ALL: [Self; 5] = [
        Self::Waiting,
        Self::Done,
        Self::Refused,
        Self::Dead,
        Self::Withdrawn,
    ];

    /// The word of the store, the command line and the metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Done => "done",
            Self::Refused => "refused",
            Self::Dead => "dead",
            Self::Withdrawn => "withdrawn",
        }
    }

    /// Reads [`EffectState::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

/// The lane of the statuses of a commit, whose code is in this project.
pub(crate) fn status_lane(instance: &InstanceName, code: ProjectId, commit: &CommitId) -> String {
    format!("status:{instance}/{code}/{commit}")
}

/// What an effect must stay in order with: a run with what starts and stops runs of its event's lane in its cluster, a status
/// with others of the commit, a comment with others of its target. `run_lane` is the lane of the run that is to be stopped.
pub fn effect_lane(order: &Order, run_lane: Option<&str>) -> String {
    match &order.task {
        Task::StartRun(run) => format!("run:{}/{}", run.cluster, run.lane),
        // It is due later, and holds up nothing until then.
        Task::StopRun(stop) if stop.how == StopHow::AtOnce => {
            format!("stop:{}/{}", stop.cluster, stop.run)
        }
        Task::StopRun(stop) => run_lane.map_or_else(
            || {
                format!(
                    "run:{}/{}/{}",
                    stop.cluster, stop.of.instance, stop.of.project
                )
            },
            str::to_owned,
        ),
        Task::DeleteRun(delete) => format!(
            "delete:{}/{}/{}",
            delete.cluster, delete.of.instance, delete.of.project
        ),
        Task::SetStatus(status) => status_lane(
            &status.of.instance,
            status.source_project.unwrap_or(status.of.project),
            &status.commit,
        ),
        Task::Comment(comment) => {
            let of = &comment.of;
            match &comment.target {
                CommentTarget::MergeRequest(iid) => {
                    format!("note:{}/{}/!{iid}", of.instance, of.project)
                }
                CommentTarget::Commit(commit) => {
                    format!("note:{}/{}/{commit}", of.instance, of.project)
                }
            }
        }
        Task::CancelRuns(cancel) => format!("cancel:{}", cancel.lane),
    }
}

pub(crate) fn kind(task: &Task) -> &'static str {
    match task {
        Task::StartRun(_) => "start-run",
        Task::CancelRuns(_) => "cancel-runs",
        Task::StopRun(_) => "stop-run",
        Task::DeleteRun(_) => "delete-run",
        Task::Comment(_) => "comment",
        Task::SetStatus(_) => "commit-status",
    }
}

/// What an effect follows from.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    pub(crate) delivery: DeliveryKey,
    /// Number of the delivery: what is 'before' for a cancel.
    pub(crate) seq: u64,
    pub(crate) route: RouteName,
    pub(crate) attempt: u32,
}

impl Origin {
    /// A delivery that has no routes.
    pub(crate) fn of_delivery(tx: &mut dyn Tx, key: &DeliveryKey) -> Result<Self, StoreError> {
        let mut row = tx
            .first(
                "SELECT seq FROM deliveries WHERE instance = ?1 AND id = ?2",
                params![key.instance.as_str(), key.id.as_str()],
            )?
            .ok_or_else(|| StoreError::unreadable("a delivery vanished while it was worked on"))?;
        Ok(Self {
            delivery: key.clone(),
            seq: row.uint()?,
            route: RouteName::from(""),
            attempt: 0,
        })
    }

    /// What another effect followed from.
    pub(crate) fn of_effect(tx: &mut dyn Tx, id: &EffectId) -> Result<Option<Self>, StoreError> {
        let row = tx.first(
            "SELECT instance, delivery, delivery_seq, route, attempt FROM effects WHERE id = ?1",
            params![&id.hex()],
        )?;
        row.map(|mut row| {
            Ok(Self {
                delivery: DeliveryKey {
                    instance: row.text()?.into(),
                    id: row.text()?.into(),
                },
                seq: row.uint()?,
                route: RouteName::new(row.text()?),
                attempt: row.small()?,
            })
        })
        .transpose()
    }
}

/// What orders did to runs that were there before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cancelled {
    pub(crate) withdrawn: Vec<EffectId>,
    pub(crate) stopping: Vec<EffectId>,
}

/// Puts orders into the outbox. Those whose id was there before are left alone, whatever became of them.
pub(crate) fn enqueue(
    tx: &mut dyn Tx,
    orders: &[Order],
    origin: &Origin,
    now: Timestamp,
) -> Result<Cancelled, StoreError> {
    // Before any row is held: whoever waits for the other must hold nothing that the other waits for.
    cancel::guard_projects(tx, orders)?;
    let mut cancelled = Cancelled::default();
    for order in orders {
        match &order.task {
            Task::CancelRuns(cancel) => {
                cancel::resolve(tx, order, cancel, origin, now, &mut cancelled)?;
            }
            // The same key is the same thing: a new attempt doubles no run of an earlier one.
            Task::StartRun(_) if begun_before(tx, order, origin)? => {}
            Task::StartRun(started) => {
                let lane = effect_lane(order, None);
                if insert(tx, order, &lane, origin, now)? {
                    run::insert(tx, order, started, &lane, origin, now)?;
                    run_end::expect(tx, &order.id, started)?;
                    cancel::withdraw_late(tx, &order.id, started, &lane, origin, now)?;
                }
            }
            Task::StopRun(stop) => {
                let lane = effect_lane(order, run::lane(tx, &stop.run)?.as_deref());
                insert(tx, order, &lane, origin, now)?;
            }
            Task::DeleteRun(_) | Task::Comment(_) | Task::SetStatus(_) => {
                insert(tx, order, &effect_lane(order, None), origin, now)?;
            }
        }
    }
    Ok(cancelled)
}

/// An earlier attempt of the delivery on the route ordered a run under this key, and nobody refused it or gave it up.
fn begun_before(tx: &mut dyn Tx, order: &Order, origin: &Origin) -> Result<bool, StoreError> {
    if origin.attempt < 2 {
        return Ok(false);
    }
    let row = tx.first(
        "SELECT 1 FROM effects WHERE instance = ?1 AND delivery = ?2 AND route = ?3 AND key = ?4 AND attempt < ?5 \
         AND kind = 'start-run' AND state IN ('waiting', 'done', 'withdrawn') LIMIT 1",
        params![
            origin.delivery.instance.as_str(),
            origin.delivery.id.as_str(),
            origin.route.as_str(),
            order.key.as_str(),
            origin.attempt,
        ],
    )?;
    Ok(row.is_some())
}

/// Puts one order in, and says whether it is new.
pub(crate) fn insert(
    tx: &mut dyn Tx,
    order: &Order,
    lane: &str,
    origin: &Origin,
    now: Timestamp,
) -> Result<bool, StoreError> {
    insert_at(tx, order, lane, origin, now, now)
}

/// Puts one order in that is due at a time, and says whether it is new.
pub(crate) fn insert_at(
    tx: &mut dyn Tx,
    order: &Order,
    lane: &str,
    origin: &Origin,
    at: Timestamp,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let (of, cluster) = match &order.task {
        Task::StartRun(run) => (&run.of, run.cluster.as_str()),
        Task::StopRun(stop) => (&stop.of, stop.cluster.as_str()),
        Task::DeleteRun(delete) => (&delete.of, delete.cluster.as_str()),
        Task::CancelRuns(cancel) => (&cancel.of, ""),
        Task::Comment(comment) => (&comment.of, ""),
        Task::SetStatus(status) => (&status.of, ""),
    };
    let content = serde_json::to_vec(order)
        .map_err(|error| StoreError::unreadable(error.to_string()))
        .and_then(|json| blob::pack(&json))?;
    // A stop is done before starts. A start that waits for room has 2, and is not in the lane's order: see `flow`.
    let overtakes = match order.task {
        Task::StopRun(_) => 0_i64,
        _ => 1,
    };
    let new = tx.execute(
        "INSERT INTO effects (instance, cluster, id, tenant, project, lane, overtakes, kind, key, delivery, delivery_seq, \
         route, attempt, state, content, tries, next_at, created_at) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, 'waiting', ?14, 0, ?15, ?16) \
         ON CONFLICT (id) DO NOTHING",
        params![
            of.instance.as_str(),
            cluster,
            &order.id.hex(),
            of.tenant.as_str(),
            of.project.0,
            lane,
            overtakes,
            kind(&order.task),
            order.key.as_str(),
            origin.delivery.id.as_str(),
            origin.seq,
            origin.route.as_str(),
            origin.attempt,
            &content,
            at,
            now,
        ],
    )? > 0;
    if new && !matches!(order.task, Task::CancelRuns(_)) {
        wake_lane(tx, Queue::Act, lane, of.tenant.as_str(), at, now)?;
    }
    Ok(new)
}

/// Reads the order of an effect.
pub(crate) fn read_order(content: &[u8], id: &str) -> Result<Order, StoreError> {
    let json = blob::unpack(content)?;
    serde_json::from_slice(&json)
        .map_err(|error| StoreError::unreadable(format!("the order of effect {id}: {error}")))
}

/// The order of a run that has not been started.
pub(crate) fn read_run_order(content: &[u8], id: &str) -> Result<RunOrder, StoreError> {
    match read_order(content, id)?.task {
        Task::StartRun(order) => Ok(*order),
        _ => Err(StoreError::unreadable(format!("effect {id} starts no run"))),
    }
}

/// When a lane has something to carry out.
pub(crate) fn ready_at(tx: &mut dyn Tx, lane: &str) -> Result<Option<Timestamp>, StoreError> {
    let first = tx.first(
        "SELECT next_at FROM effects WHERE lane = ?1 AND state = 'waiting' AND overtakes < 2 ORDER BY overtakes, seq LIMIT 1",
        params![lane],
    )?;
    first
        .map(|mut row| Ok(row.opt_time()?.unwrap_or_default()))
        .transpose()
}

/// Puts in what follows from an effect.
pub(crate) fn follow(
    tx: &mut dyn Tx,
    id: &EffectId,
    follow_ups: &[Order],
    now: Timestamp,
) -> Result<(), StoreError> {
    if follow_ups.is_empty() {
        return Ok(());
    }
    let origin = Origin::of_effect(tx, id)?
        .ok_or_else(|| StoreError::unreadable(format!("effect {id} is gone")))?;
    enqueue(tx, follow_ups, &origin, now).map(drop)
}

/// Key of what the host does on its own account.
pub(crate) fn host_key(word: &str) -> EffectKey {
    EffectKey::new(format!("penstock/{word}"))
}
