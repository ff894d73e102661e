//! Tells in GitLab of runs that wait before there is one: a status `pending`, once, and only of those that wait for more than a moment. A run
//! that starts at once costs no status more.
//!
//! Pending comes before running and end: the store puts it in only while the run waits, and statuses of a commit are posted in their order.

use std::sync::Arc;
use std::time::Duration;

use penstock_cluster::LinkTo;
use penstock_model::id::{EffectId, Timestamp};
use penstock_model::run::RunState;
use penstock_store::{StoreError, WaitingRun, WaitsFor};
use tokio_util::sync::CancellationToken;

use crate::host::Host;
use crate::report;

/// Who waits no longer than this is not told of.
const MOMENT: Duration = Duration::from_secs(5);
/// How often is looked for more.
const ROUND: Duration = Duration::from_secs(1);
/// Statuses in a round: GitLab's calls are few, and what ends or runs is worth more of them than what waits.
const MOST: u32 = 10;
/// Rounds after which is looked from the beginning again: a run may wait anew.
const ALL_OVER: u32 = 60;

/// Works until `stop`.
pub async fn run(host: Arc<Host>, stop: CancellationToken) {
    let (mut after, mut rounds) = (0, 0);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(ROUND) => {}
        }
        rounds += 1;
        if rounds >= ALL_OVER {
            (after, rounds) = (0, 0);
        }
        match round(&host, after).await {
            Ok(last) => after = last.unwrap_or(after),
            Err(error) => {
                tracing::warn!(%error, "runs that wait are not told of; trying again");
            }
        }
    }
}

/// Tells of some; gives the number of the last.
async fn round(host: &Host, after: u64) -> Result<Option<u64>, StoreError> {
    let now = Timestamp::now();
    let before = Timestamp(
        now.0
            .saturating_sub(u64::try_from(MOMENT.as_millis()).unwrap_or(u64::MAX)),
    );
    let mut last = None;
    for waiting in host.store.runs_waiting(after, before, MOST).await? {
        last = Some(waiting.seq);
        tell(host, waiting).await?;
    }
    Ok(last)
}

async fn tell(host: &Host, waiting: WaitingRun) -> Result<(), StoreError> {
    let mut run = waiting.run;
    let Ok(id) = EffectId::parse(&run.run.id) else {
        tracing::error!(run = run.name, "the store holds a run with a malformed id");
        return Ok(());
    };
    let live = host.live();
    if let (None, Some(cluster)) = (&run.run.web_url, live.cluster(&run.cluster)) {
        let to = LinkTo {
            cluster: cluster.name(),
            namespace: &run.namespace,
            name: &run.name,
            uid: None,
            effect: id,
        };
        run.run.web_url = live.run_link(cluster, &to);
    }
    let why = match waiting.waits_for {
        WaitsFor::Room(why) => format!("waits for room: {why}"),
        // The cluster's words may name addresses, and whoever sees the commit sees this.
        WaitsFor::Another => "waits: it could not be created yet and is tried again".to_owned(),
        WaitsFor::Others => "waits for what comes before it".to_owned(),
    };
    let order = report::tell(id, &run, RunState::Queued, &why);
    host.store
        .tell_waiting(&id, order, Timestamp::now())
        .await
        .map(drop)
}
