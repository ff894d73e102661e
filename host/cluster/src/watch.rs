//! One watch for a whole cluster: every PipelineRun that Penstock made, in all namespaces.
//!
//! Goes on after a lost connection where it was, and lists everything again where the API server has forgotten that
//! point. Nothing is kept between two processes: each begins with a whole listing.

use std::time::Duration;

use backon::ExponentialBuilder;
use futures_util::{
    Stream, StreamExt as _,
    stream::{self, BoxStream},
};
use kube::{
    Api,
    runtime::{
        WatchStreamExt as _,
        utils::ResetTimerBackoff,
        watcher::{Config, Error, Event, ExponentialBackoff, watcher},
    },
};
use penstock_model::id::EffectId;
use tokio::time::timeout;

use crate::{
    Cluster,
    names::{MANAGED_BY, MANAGED_BY_LABEL},
    object::SeenRun,
    status::RunStatus,
    wire::chain,
};

/// The API server ends a watch after so many seconds, and it is taken up again where it was. One that says nothing for longer, not even that it
/// begins, hangs: the connection is given up (`wire`).
const WATCH_SECONDS: u32 = 30;

/// A listing that says nothing for so long is begun anew: its answer may be lost.
const LISTING_PATIENCE: Duration = Duration::from_secs(30);
/// Pauses after the watch failed: the first and the longest. A watch that went well for as long as the longest begins with the first again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));

/// What the watch says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunSeen {
    /// A run is there; also for every run of a listing. The same state may come several times.
    Changed(RunStatus),
    /// A run was deleted, or somebody took its label off; as it last was.
    Deleted(RunStatus),
    /// A listing is complete: these are there. A run of this cluster that isn't among them, and was created before the
    /// listing began, is gone.
    Listed(Vec<EffectId>),
    /// The watch failed. It goes on by itself after a pause that grows to ten seconds.
    Interrupted {
        /// Why.
        why: String,
    },
}

impl Cluster {
    /// Watches the runs, beginning with a listing. The stream never ends; drop it to stop. It is pulled: who reads
    /// slowly is told late and misses nothing.
    pub fn watch(&self) -> impl Stream<Item = RunSeen> + Send + 'static {
        let runs: Api<SeenRun> = Api::all(self.wire.host());
        stream::unfold(Watching::begin(runs), |mut watching| async {
            let said = watching.next().await?;
            Some((said, watching))
        })
    }
}

/// A watch that goes on.
struct Watching {
    runs: Api<SeenRun>,
    events: BoxStream<'static, Result<Event<SeenRun>, Error>>,
    /// Ids of a listing that is not complete; none: it is.
    listing: Option<Vec<EffectId>>,
}

impl Watching {
    fn begin(runs: Api<SeenRun>) -> Self {
        let config = Config::default()
            .labels(&format!("{MANAGED_BY_LABEL}={MANAGED_BY}"))
            .timeout(WATCH_SECONDS);
        let pauses = ExponentialBuilder::default()
            .with_min_delay(PAUSES.0)
            .with_max_delay(PAUSES.1)
            .with_factor(2.0)
            .with_jitter()
            .without_max_times();
        let pauses = ResetTimerBackoff::new(ExponentialBackoff::from(pauses), PAUSES.1);
        Self {
            events: watcher(runs.clone(), config).backoff(pauses).boxed(),
            listing: Some(Vec::new()),
            runs,
        }
    }

    async fn next(&mut self) -> Option<RunSeen> {
        loop {
            let event = match &self.listing {
                None => self.events.next().await,
                Some(_) => match timeout(LISTING_PATIENCE, self.events.next()).await {
                    Ok(event) => event,
                    Err(_) => {
                        *self = Self::begin(self.runs.clone());
                        let why = format!("a listing said nothing for {LISTING_PATIENCE:?}");
                        return Some(RunSeen::Interrupted { why });
                    }
                },
            };
            if let Some(said) = seen(event?, &mut self.listing) {
                return Some(said);
            }
        }
    }
}

/// One event of the watcher; `listing` holds the ids of a listing that is not complete.
fn seen(
    event: Result<Event<SeenRun>, Error>,
    listing: &mut Option<Vec<EffectId>>,
) -> Option<RunSeen> {
    match event {
        Ok(Event::Apply(run)) => run.read().map(RunSeen::Changed),
        Ok(Event::Delete(run)) => run.read().map(RunSeen::Deleted),
        Ok(Event::Init) => {
            *listing = Some(Vec::new());
            None
        }
        Ok(Event::InitApply(run)) => {
            let run = run.read();
            if let Some(listing) = listing {
                listing.extend(run.as_ref().map(|run| run.effect));
            }
            run.map(RunSeen::Changed)
        }
        Ok(Event::InitDone) => Some(RunSeen::Listed(listing.take().unwrap_or_default())),
        Err(error) => Some(RunSeen::Interrupted { why: chain(&error) }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn run(effect: &str) -> SeenRun {
        let metadata = json!({ "name": "x", "namespace": "n", "uid": "u", "annotations": { "penstock.dev/effect-id": effect } });
        serde_json::from_value(json!({ "metadata": metadata })).unwrap()
    }

    #[test]
    fn a_listing_that_begins_again_forgets_the_first_half() {
        let (one, other) = ("ab".repeat(32), "cd".repeat(32));
        let mut listing = None;
        let events = [
            Event::Init,
            Event::InitApply(run(&one)),
            Event::Init,
            Event::InitApply(run(&other)),
            Event::InitApply(run("forged")),
            Event::InitDone,
        ];
        let mut said: Vec<RunSeen> = events
            .into_iter()
            .filter_map(|event| seen(Ok(event), &mut listing))
            .collect();
        assert_eq!(
            said.pop(),
            Some(RunSeen::Listed(vec![EffectId::parse(&other).unwrap()]))
        );
        assert!(said.iter().all(|seen| matches!(seen, RunSeen::Changed(_))));
        assert_eq!(said.len(), 2);
    }
}
