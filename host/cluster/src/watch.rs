//! One watch for a whole cluster: every PipelineRun that Penstock made, in all namespaces.
//!
//! Goes on after a lost connection where it was, and lists everything again where the API server has forgotten that
//! point. Nothing is kept between two processes: each begins with a whole listing.

use futures_util::{Stream, StreamExt as _, future};
use kube::{
    Api,
    runtime::{
        WatchStreamExt as _,
        watcher::{Config, Error, Event, watcher},
    },
};
use penstock_model::id::EffectId;

use crate::{
    Cluster,
    names::{MANAGED_BY, MANAGED_BY_LABEL},
    object::SeenRun,
    status::RunStatus,
    wire::chain,
};

/// The API server ends a watch after so many seconds, and it is taken up again: a connection that died silently is
/// found out after at most that.
const WATCH_SECONDS: u32 = 120;

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
    /// The watch failed. It goes on by itself after a pause that grows to half a minute.
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
        let config = Config::default()
            .labels(&format!("{MANAGED_BY_LABEL}={MANAGED_BY}"))
            .timeout(WATCH_SECONDS);
        let mut listing = Vec::new();
        watcher(runs, config)
            .default_backoff()
            .filter_map(move |event| future::ready(seen(event, &mut listing)))
    }
}

/// One event of the watcher; `listing` holds the ids of a listing that is not complete.
fn seen(event: Result<Event<SeenRun>, Error>, listing: &mut Vec<EffectId>) -> Option<RunSeen> {
    match event {
        Ok(Event::Apply(run)) => run.read().map(RunSeen::Changed),
        Ok(Event::Delete(run)) => run.read().map(RunSeen::Deleted),
        Ok(Event::Init) => {
            listing.clear();
            None
        }
        Ok(Event::InitApply(run)) => {
            let run = run.read();
            listing.extend(run.as_ref().map(|run| run.effect));
            run.map(RunSeen::Changed)
        }
        Ok(Event::InitDone) => Some(RunSeen::Listed(std::mem::take(listing))),
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
        let mut listing = Vec::new();
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
