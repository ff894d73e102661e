//! What becomes of runs: each cluster is watched, and what is new goes into the store together with the status that tells of it.
//!
//! The watch is only a hint of what the cluster holds: an object is believed when its name, namespace and UID are those of a run that the store knows.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use penstock_cluster::{Cluster, FailedTask, LinkTo, RunSeen, RunStatus};
use penstock_model::admit::Order;
use penstock_model::id::{EffectId, Timestamp};
use penstock_model::run::RunState;
use penstock_store::{RunObservation, StoreError, StoredRun};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::excerpt::{self, Excerpts};
use crate::host::Host;
use crate::status::{self, About, News};
use crate::trace;

/// How often unfinished runs are gone through, whatever the watch said.
const GO_THROUGH: Duration = Duration::from_secs(5 * 60);
/// Runs that are looked at together.
const AT_ONCE: usize = 32;
/// Logs that are read together of runs that go on.
const LOGS_AT_ONCE: usize = 8;

/// Watches all clusters of the configuration in force until `stop`.
pub async fn run(host: Arc<Host>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let changed = host.changed();
        let live = host.live();
        let mut watches = JoinSet::new();
        for cluster in live.clusters() {
            watches.spawn(watch(Arc::clone(&host), cluster.clone()));
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = changed => {}
        }
        watches.shutdown().await;
    }
}

async fn watch(host: Arc<Host>, cluster: Cluster) {
    let mut seen = std::pin::pin!(cluster.watch().ready_chunks(256));
    let mut rounds = tokio::time::interval(GO_THROUGH);
    let excerpts = Arc::new(Excerpts::default());
    let mut logs: JoinSet<EffectId> = JoinSet::new();
    let mut asked: HashSet<EffectId> = HashSet::new();
    loop {
        let news = tokio::select! {
            news = seen.next() => news,
            Some(read) = logs.join_next() => {
                // Its next failed task, if its log could not be had, is asked for anew.
                read.ok().inspect(|id| { asked.remove(id); });
                continue;
            }
            _ = rounds.tick() => {
                find_vanished(&host, &cluster).await;
                continue;
            }
        };
        let Some(news) = news else { return };
        // Of several news of one run only the last matters; runs don't wait for each other.
        let mut latest: HashMap<EffectId, (RunStatus, bool)> = HashMap::new();
        let mut listings = Vec::new();
        for seen in news {
            match seen {
                RunSeen::Changed(status) => {
                    latest.insert(status.effect, (status, false));
                }
                RunSeen::Deleted(status) => {
                    latest.insert(status.effect, (status, true));
                }
                RunSeen::Listed(there) => listings.push(there),
                RunSeen::Interrupted { why } => {
                    tracing::warn!(cluster = %cluster.name(), why, "the watch was interrupted; it goes on");
                }
            }
        }
        let failing: Vec<(StoredRun, RunStatus)> = futures_util::stream::iter(latest.into_values())
            .map(|(status, deleted)| look(&host, &cluster, &excerpts, status, deleted))
            .buffer_unordered(AT_ONCE)
            .filter_map(std::future::ready)
            .collect()
            .await;
        // Their logs are read now: when the run ends the pod may be gone. Nobody waits for it.
        for (run, status) in failing {
            if logs.len() < LOGS_AT_ONCE && asked.insert(status.effect) {
                let (host, cluster) = (Arc::clone(&host), cluster.clone());
                let excerpts = Arc::clone(&excerpts);
                logs.spawn(async move {
                    if let Some(failed) = failed_task(&cluster, &status).await {
                        excerpts
                            .take(&host, &cluster, &run, status.effect, &failed)
                            .await;
                    }
                    status.effect
                });
            }
        }
        if !listings.is_empty() {
            find_vanished(&host, &cluster).await;
        }
    }
}

/// Looks at one run that the cluster told of; gives it back if it goes on, a task of it has failed, and that task's log may be shown and is not kept.
async fn look(
    host: &Host,
    cluster: &Cluster,
    excerpts: &Excerpts,
    status: RunStatus,
    deleted: bool,
) -> Option<(StoredRun, RunStatus)> {
    let id = status.effect;
    let known = loop {
        match ours(host, cluster, &status).await {
            Ok(found) => break found,
            Err(error) if error.is_unavailable() => {
                tracing::warn!(%error, "the store does not answer; a run's news wait");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            Err(error) => {
                tracing::error!(%error, effect.id = %id, "a run can't be read from the store");
                return None;
            }
        }
    };
    let Some(mut known) = known else {
        tracing::debug!(effect.id = %id, name = status.name, "an object names an effect that is not its own");
        return None;
    };
    if known.run.web_url.is_none() {
        // The watch can be ahead of the answer to the creation. Told with the same link, the same news is one post.
        let to = LinkTo {
            cluster: cluster.name(),
            namespace: &status.namespace,
            name: &status.name,
            uid: Some(&status.uid),
            effect: id,
        };
        known.run.web_url = host.live().run_link(cluster, &to);
    }
    if known.run.state.is_final() {
        return None;
    }
    if deleted && !status.state.is_final() {
        // The object may only have lost our label: the cluster itself is asked.
        look_for(host, cluster, known, status.uid).await;
        return None;
    }
    let failing = !status.state.is_final()
        && status.failed_tasks() > 0
        && known.log_excerpt.is_none()
        && excerpt::allowed(&host.live(), &known).is_some();
    let failing = failing.then(|| (known.clone(), status.clone()));
    if known.run.state == status.state {
        return failing;
    }
    let failed = if status.state == RunState::Failed {
        failed_task(cluster, &status).await
    } else {
        None
    };
    if let Some(failed) = &failed {
        // Before the end itself is kept: the plugin is given both together.
        excerpts.take(host, cluster, &known, id, failed).await;
    }
    let reason = failed
        .as_ref()
        .map_or_else(|| said(&status), ToString::to_string);
    let failed = failed.map(|failed| failed.task);
    observe(host, &known, status, reason, failed).await;
    failing
}

/// The run that this is the object of; none: it names an effect that did not make it.
async fn ours(
    host: &Host,
    cluster: &Cluster,
    status: &RunStatus,
) -> Result<Option<StoredRun>, StoreError> {
    let known = host.store.run(&status.effect).await?;
    let Some(known) = known.filter(|known| is_it(known, cluster, status)) else {
        return Ok(None);
    };
    if known.uid.is_some() {
        return Ok(Some(known));
    }
    // It was not created, or nobody was answered yet: the name may have been taken by somebody who knows what our objects look like.
    let asked = host.store.manifest_of(&status.effect).await?;
    let same = asked.map(|digest| digest.to_string()) == status.manifest_digest;
    Ok(Some(known).filter(|_| same))
}

fn is_it(known: &StoredRun, cluster: &Cluster, status: &RunStatus) -> bool {
    known.cluster == *cluster.name()
        && known.namespace == status.namespace
        && known.name == status.name
        && known.uid.as_ref().is_none_or(|uid| *uid == status.uid)
}

/// Why it stands where it stands, in a line.
fn said(status: &RunStatus) -> String {
    match status.state {
        RunState::Running => format!("running as {}/{}", status.namespace, status.name),
        _ if status.message.is_empty() => status.reason.clone(),
        _ => format!("{}: {}", status.reason, status.message),
    }
}

async fn failed_task(cluster: &Cluster, status: &RunStatus) -> Option<FailedTask> {
    match cluster.failed_task(status).await {
        Ok(task) => task,
        Err(error) => {
            tracing::warn!(%error, run = status.name, "the failed task of a run could not be read");
            None
        }
    }
}

async fn observe(
    host: &Host,
    known: &StoredRun,
    status: RunStatus,
    reason: String,
    failed: Option<String>,
) {
    let follow_up = tell(status.effect, known, status.state, &reason);
    let observation = RunObservation {
        id: status.effect,
        cluster: known.cluster.clone(),
        uid: status.uid,
        state: status.state,
        reason,
        web_url: known.run.web_url.clone(),
        started_at: status.started_at,
        finished_at: status.finished_at,
        results: status.results,
        failed_task: failed,
        follow_ups: vec![follow_up],
    };
    record(host, known, observation).await;
}

/// A run that is gone before its outcome was read.
async fn vanished(host: &Host, cluster: &Cluster, known: &StoredRun, uid: &str) {
    let reason = "it was deleted before its outcome was read".to_owned();
    let id = match EffectId::parse(&known.run.id) {
        Ok(id) => id,
        Err(error) => {
            tracing::error!(%error, "the store holds a run with a malformed id");
            return;
        }
    };
    let observation = RunObservation {
        id,
        cluster: cluster.name().clone(),
        uid: uid.to_owned(),
        state: RunState::Gone,
        web_url: known.run.web_url.clone(),
        started_at: known.run.started_at,
        finished_at: Some(Timestamp::now()),
        results: Vec::new(),
        failed_task: None,
        follow_ups: vec![tell(id, known, RunState::Gone, &reason)],
        reason,
    };
    record(host, known, observation).await;
}

async fn record(host: &Host, known: &StoredRun, observation: RunObservation) {
    let facts = || {
        [
            ("delivery.id", known.delivery.id.to_string().into()),
            ("run.name", known.name.clone().into()),
            ("run.state", observation.state.as_str().into()),
        ]
    };
    let traced = trace::begin(trace::of(&known.delivery), "report", facts);
    traced
        .around(Box::pin(keep(host, known, observation)))
        .await;
}

async fn keep(host: &Host, known: &StoredRun, observation: RunObservation) {
    let state = observation.state;
    loop {
        match host
            .store
            .run_observed(observation.clone(), Timestamp::now())
            .await
        {
            Ok(true) => {
                tracing::info!(
                    delivery.id = %known.delivery.id, run = known.name, state = state.as_str(), "a run moved on"
                );
                return;
            }
            Ok(false) => return,
            Err(error) if error.is_unavailable() => {
                tracing::warn!(%error, run = known.name, "the store does not answer; a run's news wait");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            Err(error) => {
                tracing::error!(%error, run = known.name, "a run's news could not be kept");
                return;
            }
        }
    }
}

/// Runs that the store waits for and the cluster no longer has.
async fn find_vanished(host: &Host, cluster: &Cluster) {
    let waiting = match host.store.runs_unfinished(cluster.name()).await {
        Ok(waiting) => waiting,
        Err(error) => {
            tracing::warn!(%error, cluster = %cluster.name(), "unfinished runs could not be read");
            return;
        }
    };
    let created = waiting
        .into_iter()
        .filter_map(|run| run.uid.clone().map(|uid| (run, uid)));
    futures_util::stream::iter(created)
        .for_each_concurrent(AT_ONCE, |(known, uid)| look_for(host, cluster, known, uid))
        .await;
}

/// Asks the cluster for one run; it has vanished only if the cluster says so.
async fn look_for(host: &Host, cluster: &Cluster, known: StoredRun, uid: String) {
    match cluster.run_status(&known.namespace, &known.name).await {
        Ok(Some(status)) if status.uid == uid => {}
        Ok(_) => vanished(host, cluster, &known, &uid).await,
        // Looked for again when unfinished runs are next gone through.
        Err(error) => {
            tracing::warn!(%error, run = known.name, "a run could not be looked for");
        }
    }
}

/// The status that tells where a run stands.
pub(crate) fn tell(id: EffectId, known: &StoredRun, state: RunState, reason: &str) -> Order {
    let about = About {
        of: &known.of,
        commit: &known.run.commit,
        name: &known.status_name,
        ref_name: known.run.ref_name.as_ref(),
        merge_request: known.run.merge_request,
        source_project: known.source_project,
    };
    status::of_run(
        id,
        about,
        News {
            state,
            reason,
            url: known.run.web_url.as_deref(),
        },
    )
}
