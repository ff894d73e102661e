//! What was started, and where it stands.
//!
//! A run's row is there from the decision on. It only moves forward, and a final state is never left.

use penstock_model::admit::{Order, ProjectOf, RunOrder};
use penstock_model::id::{
    ClusterName, CommitId, Digest, EffectId, EffectKey, PlaceName, PluginName, ProjectId, RefName,
    RouteName, Timestamp,
};
use penstock_model::run::{Run, RunState};
use penstock_model::scope::Trust;

use crate::act::CreatedRun;
use crate::backend::Tx;
use crate::backend::value::{Row, params};
use crate::claim::{Queue, wake_lane};
use crate::delivery::DeliveryKey;
use crate::error::StoreError;
use crate::outbox::{self, Origin, read_run_order};
use crate::run_end;
use crate::store::Store;
use crate::{cancel, flow, keep};

/// A run with all that is needed to follow and to report it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRun {
    /// As plugins and people see it.
    pub run: Run,
    /// Whose it is.
    pub of: ProjectOf,
    /// Its cluster.
    pub cluster: ClusterName,
    /// Its namespace.
    pub namespace: String,
    /// The account that creates it.
    pub creator: String,
    /// The account that its pods get.
    pub run_as: String,
    /// Name of the PipelineRun.
    pub name: String,
    /// UID of the PipelineRun, once it was created.
    pub uid: Option<String>,
    /// Digest of its spec as the API server stored it.
    pub stored_digest: Option<Digest>,
    /// Name of its commit status.
    pub status_name: String,
    /// The project that the code comes from, where it isn't the event's.
    pub source_project: Option<ProjectId>,
    /// How far the event was trusted.
    pub trust: Trust,
    /// Key of the event's lane.
    pub lane: String,
    /// Name of the limit that it shares.
    pub queue: Option<String>,
    /// The delivery that led to it.
    pub delivery: DeliveryKey,
    /// The route.
    pub route: RouteName,
    /// The attempt.
    pub attempt: u32,
    /// Digest of the plugin that asked for it.
    pub plugin_digest: Digest,
    /// The task that failed first.
    pub failed_task: Option<String>,
    /// The end of the failed step's log, where it may be shown.
    pub log_excerpt: Option<String>,
}

/// What was seen of a run in its cluster.
#[derive(Clone, Debug)]
pub struct RunObservation {
    /// The run.
    pub id: EffectId,
    /// Where it was seen.
    pub cluster: ClusterName,
    /// UID of the PipelineRun: another object of that name says nothing about the run.
    pub uid: String,
    /// Where it stands.
    pub state: RunState,
    /// For people.
    pub reason: String,
    /// Its page; none: as before.
    pub web_url: Option<String>,
    /// When Tekton started it; none: as before.
    pub started_at: Option<Timestamp>,
    /// When it ended; none: as before.
    pub finished_at: Option<Timestamp>,
    /// Tekton's results.
    pub results: Vec<(String, String)>,
    /// The task that failed first.
    pub failed_task: Option<String>,
    /// What follows if it is news, such as a status.
    pub follow_ups: Vec<Order>,
}

/// Columns of a run as [`read_stored`] reads them; [`read_run`] reads the first of them.
macro_rules! run_columns {
    () => {
        "id, plugin, key, pipeline, place, ref_name, merge_request, commit_id, state, reason, web_url, created_at, \
         started_at, finished_at, results, instance, project, project_path, tenant, cluster, namespace, creator, run_as, \
         name, uid, stored_digest, status_name, source_project, trust, lane, queue, delivery, route, attempt, \
         plugin_digest, failed_task, log_excerpt"
    };
}
pub(crate) use run_columns;

pub(crate) fn read_run(row: &mut Row) -> Result<Run, StoreError> {
    let id = row.text()?;
    let plugin = PluginName::new(row.text()?);
    let key = EffectKey::new(row.text()?);
    let pipeline = row.text()?;
    let place = PlaceName::new(row.text()?);
    let ref_name = row.opt_text()?.map(RefName::new);
    let merge_request = row.opt_uint()?;
    let commit = CommitId::parse(&row.text()?)
        .map_err(|error| StoreError::unreadable(format!("the commit of run {id}: {error}")))?;
    let word = row.text()?;
    let state = RunState::parse(&word)
        .ok_or_else(|| StoreError::unreadable(format!("`{word}` is no state of a run")))?;
    Ok(Run {
        id,
        plugin,
        key,
        pipeline,
        place,
        ref_name,
        merge_request,
        commit,
        state,
        reason: row.text()?,
        web_url: row.opt_text()?,
        created_at: row.time()?,
        started_at: row.opt_time()?,
        finished_at: row.opt_time()?,
        results: row.json()?,
    })
}

pub(crate) fn read_stored(row: &mut Row) -> Result<StoredRun, StoreError> {
    let run = read_run(row)?;
    let of = ProjectOf {
        instance: row.text()?.into(),
        project: ProjectId(row.uint()?),
        path: row.text()?.into(),
        tenant: row.text()?.into(),
    };
    Ok(StoredRun {
        run,
        cluster: row.text()?.into(),
        namespace: row.text()?,
        creator: row.text()?,
        run_as: row.text()?,
        name: row.text()?,
        uid: row.opt_text()?,
        stored_digest: row.opt_digest()?,
        status_name: row.text()?,
        source_project: row.opt_uint()?.map(ProjectId),
        trust: read_trust(&row.text()?)?,
        lane: row.text()?,
        queue: row.opt_text()?,
        delivery: DeliveryKey {
            instance: of.instance.clone(),
            id: row.text()?.into(),
        },
        route: RouteName::new(row.text()?),
        attempt: row.small()?,
        plugin_digest: row.digest()?,
        failed_task: row.opt_text()?,
        log_excerpt: row.opt_text()?,
        of,
    })
}

fn read_trust(word: &str) -> Result<Trust, StoreError> {
    [Trust::Untrusted, Trust::Member, Trust::Protected]
        .into_iter()
        .find(|trust| trust.as_str() == word)
        .ok_or_else(|| StoreError::unreadable(format!("`{word}` is no trust")))
}

/// Writes a run down when the order to start it is committed.
pub(crate) fn insert(
    tx: &mut dyn Tx,
    order: &Order,
    run: &RunOrder,
    effect_lane: &str,
    origin: &Origin,
    now: Timestamp,
) -> Result<(), StoreError> {
    tx.execute(
        "INSERT INTO runs (cluster, instance, id, project, project_path, tenant, plugin, plugin_digest, key, pipeline, place, \
         namespace, creator, run_as, name, status_name, commit_id, ref_name, merge_request, source_project, trust, lane, \
         effect_lane, queue, delivery, delivery_seq, route, attempt, state, finished, reason, created_at, results, queue_limit, keep) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24, \
         ?25, ?26, ?27, ?28, 'queued', 0, '', ?29, '[]', ?30, ?31) ON CONFLICT (id) DO NOTHING",
        params![
            run.cluster.as_str(),
            run.of.instance.as_str(),
            &order.id.hex(),
            run.of.project.0,
            run.of.path.as_str(),
            run.of.tenant.as_str(),
            run.plugin.as_str(),
            &run.plugin_digest,
            order.key.as_str(),
            &run.pipeline,
            run.place.as_str(),
            &run.namespace,
            &run.creator,
            &run.run_as,
            &run.name,
            &run.status_name,
            run.commit.as_str(),
            run.ref_name.as_ref().map(RefName::as_str),
            run.merge_request,
            run.source_project.map(|project| project.0),
            run.trust.as_str(),
            &run.lane.to_string(),
            effect_lane,
            run.queue.as_ref().map(|queue| queue.name.as_str()),
            origin.delivery.id.as_str(),
            origin.seq,
            origin.route.as_str(),
            origin.attempt,
            now,
            run.queue.as_ref().and_then(|queue| queue.concurrency),
            run.keep,
        ],
    )
    .map(drop)
}

/// The lane in which a run is started and stopped.
pub(crate) fn lane(tx: &mut dyn Tx, id: &EffectId) -> Result<Option<String>, StoreError> {
    tx.first(
        "SELECT effect_lane FROM runs WHERE id = ?1",
        params![&id.hex()],
    )?
    .map(|mut row| row.text())
    .transpose()
}

/// Ends a run that was never created.
pub(crate) fn end_unstarted(
    tx: &mut dyn Tx,
    id: &str,
    state: RunState,
    reason: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    let ended = tx.execute(
        "UPDATE runs SET state = ?2, reason = ?3, finished = 1, finished_at = ?4 WHERE id = ?1 AND finished = 0",
        params![id, state.as_str(), reason, now],
    )?;
    match ended {
        0 => Ok(()),
        _ => run_end::tell(tx, id, now),
    }
}

/// Says why a run still waits.
pub(crate) fn explain(tx: &mut dyn Tx, id: &str, reason: &str) -> Result<(), StoreError> {
    tx.execute(
        "UPDATE runs SET reason = ?2 WHERE id = ?1 AND state = 'queued'",
        params![id, reason],
    )
    .map(drop)
}

/// Queues a run again whose creation was refused.
pub(crate) fn queue_again(tx: &mut dyn Tx, id: &str) -> Result<(), StoreError> {
    tx.execute(
        "UPDATE runs SET state = 'queued', finished = 0, finished_at = NULL, reason = '', told_waiting = 0 \
         WHERE id = ?1 AND state IN ('queued', 'refused')",
        params![id],
    )
    .map(drop)
}

/// A run has this UID.
pub(crate) fn has_uid(tx: &mut dyn Tx, id: &EffectId, uid: &str) -> Result<bool, StoreError> {
    let row = tx.first(
        "SELECT 1 FROM runs WHERE id = ?1 AND uid = ?2",
        params![&id.hex(), uid],
    )?;
    Ok(row.is_some())
}

/// Writes down that a run was created, and says whether that is news: it may have been seen, or cancelled, before.
pub(crate) fn created(
    tx: &mut dyn Tx,
    run: &CreatedRun,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let id = run.id.hex();
    let before = tx.first(
        "SELECT state FROM runs WHERE id = ?1 FOR UPDATE",
        params![&id],
    )?;
    let queued = match before {
        Some(mut row) => row.text()? == "queued",
        None => false,
    };
    tx.execute(
        "UPDATE runs SET uid = ?2, stored_digest = ?3, web_url = coalesce(?4, web_url), \
         reason = CASE WHEN state = 'queued' THEN 'created' ELSE reason END, \
         started_at = CASE WHEN state = 'queued' THEN coalesce(started_at, ?5) ELSE started_at END, \
         state = CASE WHEN state = 'queued' THEN 'running' ELSE state END WHERE id = ?1",
        params![
            &id,
            &run.uid,
            &run.stored_digest,
            run.web_url.as_ref(),
            now
        ],
    )?;
    Ok(queued)
}

/// How far along a state is; runs only move to the right.
fn stage(state: RunState) -> u8 {
    match state {
        RunState::Queued => 0,
        RunState::Gated => 1,
        RunState::Running => 2,
        _ => 3,
    }
}

/// What an observation came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Observed {
    /// It was news of the run.
    news: bool,
    /// Something is to be carried out.
    wakes: bool,
}

/// Holds a run whose object nobody has told of yet, with the lane and the effect that start it: always in this order, so that
/// a worker that carries the effect out and a watch that sees its object wait for each other and never in a ring. Says where
/// the effect stands.
fn hold_unseen(tx: &mut dyn Tx, id: &str, now: Timestamp) -> Result<Option<String>, StoreError> {
    let unseen = tx.first(
        "SELECT e.lane, e.tenant FROM effects e JOIN runs r ON r.id = e.id WHERE e.id = ?1 AND r.uid IS NULL",
        params![id],
    )?;
    let Some(mut row) = unseen else {
        return Ok(None);
    };
    let (lane, tenant) = (row.text()?, row.text()?);
    // What comes of it changes what the lane has next.
    wake_lane(tx, Queue::Act, &lane, &tenant, now, now)?;
    tx.first(
        "SELECT state FROM effects WHERE id = ?1 FOR UPDATE",
        params![id],
    )?
    .map(|mut row| row.text())
    .transpose()
}

/// The object of a run that may still be to be created is there: it is created no more.
fn settle_start(tx: &mut dyn Tx, id: &str, uid: &str, now: Timestamp) -> Result<(), StoreError> {
    let result = serde_json::json!({ "uid": uid }).to_string();
    tx.execute(
        "UPDATE effects SET state = 'done', result = ?2, settled_at = ?3, next_at = NULL \
         WHERE id = ?1 AND kind = 'start-run' AND state IN ('waiting', 'dead')",
        params![id, &result, now],
    )
    .map(drop)
}

fn observed(
    tx: &mut dyn Tx,
    seen: &RunObservation,
    now: Timestamp,
) -> Result<Observed, StoreError> {
    let id = seen.id.hex();
    if seen.state.is_final() {
        run_end::hold(tx, &id, now)?;
    }
    let start = hold_unseen(tx, &id, now)?;
    let row = tx.first(
        "SELECT state, reason, uid FROM runs WHERE id = ?1 AND cluster = ?2 FOR UPDATE",
        params![&id, seen.cluster.as_str()],
    )?;
    let Some(mut row) = row else {
        return Ok(Observed::default());
    };
    let word = row.text()?;
    let known = RunState::parse(&word)
        .ok_or_else(|| StoreError::unreadable(format!("`{word}` is no state of a run")))?;
    let (reason, uid) = (row.text()?, row.opt_text()?);
    if uid.is_none() && known == RunState::Canceled && !seen.state.is_final() {
        return stop_living(tx, seen, start.as_deref(), now);
    }
    let other = uid.as_ref().is_some_and(|uid| *uid != seen.uid);
    let same = uid.is_some() && known == seen.state && reason == seen.reason;
    if other || known.is_final() || stage(seen.state) < stage(known) || same {
        return Ok(Observed::default());
    }
    if uid.is_none() {
        settle_start(tx, &id, &seen.uid, now)?;
        flow::seen(tx, &id)?;
    }
    let results = serde_json::to_string(&seen.results)
        .map_err(|error| StoreError::unreadable(error.to_string()))?;
    let finished = seen.state.is_final();
    let finished_at = seen.finished_at.or(finished.then_some(now));
    tx.execute(
        "UPDATE runs SET state = ?2, reason = ?3, finished = ?4, uid = ?5, web_url = coalesce(?6, web_url), \
         started_at = coalesce(?7, started_at), finished_at = ?8, results = ?9, failed_task = coalesce(?10, failed_task) \
         WHERE id = ?1",
        params![
            &id,
            seen.state.as_str(),
            &seen.reason,
            finished,
            &seen.uid,
            seen.web_url.as_ref(),
            seen.started_at,
            finished_at,
            &results,
            seen.failed_task.as_ref(),
        ],
    )?;
    if finished {
        flow::land(tx, &id)?;
        keep::prune(tx, &seen.id, now)?;
    }
    outbox::follow(tx, &seen.id, &seen.follow_ups, now)?;
    if finished {
        run_end::tell(tx, &id, now)?;
    }
    Ok(Observed {
        news: true,
        wakes: true,
    })
}

/// Orders a withdrawn run to be stopped that was created after all, and of which its creator never told.
fn stop_living(
    tx: &mut dyn Tx,
    seen: &RunObservation,
    start: Option<&str>,
    now: Timestamp,
) -> Result<Observed, StoreError> {
    if start != Some("withdrawn") {
        return Ok(Observed::default());
    }
    tx.execute(
        "UPDATE runs SET uid = ?2 WHERE id = ?1",
        params![&seen.id.hex(), &seen.uid],
    )?;
    cancel::stop_withdrawn(tx, &seen.id, now)?;
    Ok(Observed {
        news: false,
        wakes: true,
    })
}

/// The run of an effect.
pub(crate) fn find(tx: &mut dyn Tx, id: &str) -> Result<Option<StoredRun>, StoreError> {
    tx.first(
        concat!("SELECT ", run_columns!(), " FROM runs WHERE id = ?1"),
        params![id],
    )?
    .map(|mut row| read_stored(&mut row))
    .transpose()
}

/// The runs that a delivery led to, oldest first.
pub(crate) fn of_delivery(
    tx: &mut dyn Tx,
    key: &DeliveryKey,
) -> Result<Vec<StoredRun>, StoreError> {
    let rows = tx.query(
        concat!(
            "SELECT ",
            run_columns!(),
            " FROM runs WHERE instance = ?1 AND delivery = ?2 ORDER BY created_at, id"
        ),
        params![key.instance.as_str(), key.id.as_str()],
    )?;
    rows.into_iter()
        .map(|mut row| read_stored(&mut row))
        .collect()
}

impl Store {
    /// Writes down what was seen of a run, if it is news, with what follows from it; says whether it was. A run that is seen is
    /// created no more, whether or not its creator was answered; one that lives though it was cancelled is ordered to be stopped.
    ///
    /// # Errors
    /// The store's.
    pub async fn run_observed(
        &self,
        seen: RunObservation,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let ended = seen.state.is_final();
        let observed = self.write(move |tx| observed(tx, &seen, now)).await?;
        if observed.wakes {
            self.hint(Queue::Act);
            self.hint_room();
        }
        if observed.news && ended {
            self.hint(Queue::Dispatch);
        }
        Ok(observed.news)
    }

    /// A run.
    ///
    /// # Errors
    /// The store's.
    pub async fn run(&self, id: &EffectId) -> Result<Option<StoredRun>, StoreError> {
        let id = id.hex();
        self.read(move |tx| find(tx, &id)).await
    }

    /// Digest of the manifest that a run is created from; none: no effect starts it.
    ///
    /// # Errors
    /// The store's.
    pub async fn manifest_of(&self, id: &EffectId) -> Result<Option<Digest>, StoreError> {
        let id = id.hex();
        self.read(move |tx| {
            let row = tx.first(
                "SELECT content FROM effects WHERE id = ?1 AND kind = 'start-run'",
                params![&id],
            )?;
            row.map(|mut row| Ok(read_run_order(&row.bytes()?, &id)?.manifest_digest))
                .transpose()
        })
        .await
    }

    /// The newest run whose PipelineRun has this name.
    ///
    /// # Errors
    /// The store's.
    pub async fn run_named(&self, name: &str) -> Result<Option<StoredRun>, StoreError> {
        let name = name.to_owned();
        self.read(move |tx| {
            tx.first(
                concat!(
                    "SELECT ",
                    run_columns!(),
                    " FROM runs WHERE name = ?1 ORDER BY created_at DESC LIMIT 1"
                ),
                params![name.as_str()],
            )?
            .map(|mut row| read_stored(&mut row))
            .transpose()
        })
        .await
    }
}
