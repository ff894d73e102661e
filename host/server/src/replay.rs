//! Decisions run again: the record, the plugin's bytes by their digest, and nothing else.
//!
//! Neither the configuration's plugins nor GitLab nor a cluster is asked, and nothing is written: what is compared is what the store holds with what the
//! same call gives now.

use std::collections::HashMap;
use std::num::NonZero;
use std::sync::Arc;

use futures_util::{StreamExt as _, stream};
use penstock_model::id::{Digest, PluginName, Timestamp};
use penstock_sandbox::{Difference, Engine, Recorded, Verdict};
use penstock_store::{KeptRecord, RecordPage, Store, StoreError};
use serde::Serialize;
use tokio::sync::Mutex;

/// Deliveries whose records are read at one time.
const PAGE: u32 = 128;
/// Plugins that are kept ready: of a plugin that is changed each day, a month.
const READY: usize = 32;

/// What came of one decision that was run again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "result")]
pub enum Rerun {
    /// The same bytes.
    Same,
    /// The call had been cut by time, the stack or its record's size: the same host calls as far as both went.
    SamePrefix {
        /// Host calls that were compared.
        calls: usize,
    },
    /// Something else.
    Differs {
        /// The first thing that is not the same.
        #[serde(flatten)]
        difference: Difference,
    },
    /// The record is past its age.
    Expired,
    /// It could not be run.
    NotRun {
        /// Why, and what to do.
        why: String,
    },
}

/// A decision and what came of running it again.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The GitLab instance.
    pub instance: String,
    /// The delivery.
    pub delivery: String,
    /// The route.
    pub route: String,
    /// The attempt.
    pub attempt: u32,
    /// The plugin that was called.
    pub plugin: String,
    /// Digest of its bytes.
    pub plugin_digest: Digest,
    /// Digest of the record's canonical encoding.
    pub record: Digest,
    /// What came of it.
    #[serde(flatten)]
    pub rerun: Rerun,
}

/// Runs decisions again.
pub struct Replayer {
    store: Store,
    engine: Engine,
    at_once: usize,
    plugins: Mutex<HashMap<Digest, Arc<Recorded>>>,
}

impl Replayer {
    /// Over a store, in an engine.
    pub fn new(store: Store, engine: Engine) -> Arc<Self> {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        Arc::new(Self {
            store,
            engine,
            at_once: cores * 2,
            plugins: Mutex::default(),
        })
    }

    /// Runs all decisions about deliveries that were received since then, the newest first, and tells of each as it ends.
    ///
    /// # Errors
    /// The store's.
    pub async fn since(
        self: &Arc<Self>,
        since: Timestamp,
        plugin: Option<&PluginName>,
        mut told: impl FnMut(Report),
    ) -> Result<(), StoreError> {
        let mut page = self.store.records(since, plugin, None, PAGE).await?;
        loop {
            let RecordPage {
                records,
                next: before,
            } = page;
            let next = async {
                match before {
                    None => Ok(None),
                    Some(_) => {
                        let next = self.store.records(since, plugin, before, PAGE);
                        next.await.map(Some)
                    }
                }
            };
            let reruns = async {
                let mut reruns = stream::iter(records)
                    .map(|kept| self.spawned(kept))
                    .buffered(self.at_once);
                while let Some(report) = reruns.next().await {
                    told(report);
                }
            };
            let (next, ()) = tokio::join!(next, reruns);
            match next? {
                Some(next) => page = next,
                None => return Ok(()),
            }
        }
    }

    /// Runs these decisions again, one after the other.
    pub async fn these(self: &Arc<Self>, records: Vec<KeptRecord>) -> Vec<Report> {
        let mut reports = Vec::new();
        for kept in records {
            reports.push(self.spawned(kept).await);
        }
        reports
    }

    /// On the threads of the plugins, where the call itself is made: no thread is changed on the way.
    async fn spawned(self: &Arc<Self>, kept: KeptRecord) -> Report {
        let report = Report {
            instance: kept.delivery.instance.to_string(),
            delivery: kept.delivery.id.to_string(),
            route: kept.route.to_string(),
            attempt: kept.attempt,
            plugin: kept.plugin.to_string(),
            plugin_digest: kept.plugin_digest,
            record: kept.digest,
            rerun: Rerun::Expired,
        };
        let this = Arc::clone(self);
        let again = self
            .engine
            .threads()
            .spawn(async move { this.again(&kept).await });
        let rerun = again.await.unwrap_or_else(|_| Rerun::NotRun {
            why: "the host panicked while it made the call: this is a fault of Penstock, please report it".to_owned(),
        });
        Report { rerun, ..report }
    }

    async fn again(&self, kept: &KeptRecord) -> Rerun {
        let not_run = |why: String| Rerun::NotRun { why };
        let record = match kept.open() {
            Ok(Some(record)) => record,
            Ok(None) => return Rerun::Expired,
            Err(error) => return not_run(error.to_string()),
        };
        let recorded = match self.recorded(kept.plugin_digest).await {
            Ok(recorded) => recorded,
            Err(why) => return not_run(why),
        };
        match recorded.replay(&record).await {
            Ok(Verdict::Same { digest }) if digest == kept.digest => Rerun::Same,
            Ok(Verdict::Same { digest }) => not_run(format!(
                "the record was written in another encoding: {digest} now, {} then",
                kept.digest
            )),
            Ok(Verdict::SamePrefix { calls }) => Rerun::SamePrefix { calls },
            Ok(Verdict::Differs(difference)) => Rerun::Differs { difference },
            Err(error) => not_run(error.to_string()),
        }
    }

    /// The plugin with that digest, from the store.
    async fn recorded(&self, digest: Digest) -> Result<Arc<Recorded>, String> {
        // Held while it is read: others that want the same one wait instead of reading it too.
        let mut plugins = self.plugins.lock().await;
        if let Some(recorded) = plugins.get(&digest) {
            return Ok(Arc::clone(recorded));
        }
        let bytes = self
            .store
            .blob(&digest)
            .await
            .map_err(|error| error.to_string())?
            .ok_or_else(|| {
                format!("the bytes of the plugin {digest} are not in the store: it was taken from a backup, or somebody removed them")
            })?;
        let recorded = Arc::new(self.engine.recorded(bytes.into()));
        if recorded.digest() != digest {
            return Err(format!(
                "the plugin {digest} has the digest {} in the store: it was changed after it was stored",
                recorded.digest()
            ));
        }
        if plugins.len() >= READY {
            plugins.clear();
        }
        plugins.insert(digest, Arc::clone(&recorded));
        Ok(recorded)
    }
}
