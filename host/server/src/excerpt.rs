//! The end of a failed step's log: read where the tenant lets logs be shown, and nowhere else.
//!
//! The place's policy says whose logs may be shown, GitLab says who can see the project, and both are asked again when one is shown. What is kept
//! has no secret of this host's in it (see `clean`). A log that can't be had is none: it holds up no run's end for longer than a moment.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use penstock_cluster::{Cluster, FailedTask, LogAt};
use penstock_model::id::EffectId;
use penstock_model::secret::Secret;
use penstock_model::tenant::Visibility;
use penstock_store::StoredRun;

use crate::config::StoreConfig;
use crate::host::Host;
use crate::live::Live;

mod clean;

/// A log that is not there by then is not shown.
const PATIENCE: Duration = Duration::from_secs(5);
/// A namespace whose logs did not come is left alone for so long: its nodes may hang, and others' runs are told of by the same loop.
const LEFT_ALONE: Duration = Duration::from_secs(60);

/// Reads logs of one cluster.
#[derive(Default)]
pub(crate) struct Excerpts {
    hung: Mutex<HashMap<String, Instant>>,
}

/// Whose logs the run's place lets be shown; none: nobody's. Also none if the place is another one by now.
pub(crate) fn allowed(live: &Live, run: &StoredRun) -> Option<Visibility> {
    let place = live.place(&run.of, &run.run.place)?;
    let same = place.cluster == run.cluster && place.namespace == run.namespace;
    place.policy.log_excerpts.filter(|_| same)
}

/// The run's log may be shown to whoever may see its project now. What GitLab does not say is no.
pub(crate) async fn may_show(live: &Live, run: &StoredRun) -> bool {
    let (Some(most), Some(instance)) = (allowed(live, run), live.instance(&run.of.instance)) else {
        return false;
    };
    match penstock_gitlab::visibility(&instance.client, run.of.project).await {
        Ok(now) => now <= most,
        Err(error) => {
            tracing::info!(%error, project = %run.of.path, "no log is shown: GitLab does not say who can see the project");
            false
        }
    }
}

impl Excerpts {
    /// Reads and keeps the end of the failed step's log, if it may be shown and can be had.
    pub(crate) async fn take(
        &self,
        host: &Host,
        cluster: &Cluster,
        run: &StoredRun,
        id: EffectId,
        failed: &FailedTask,
    ) {
        let live = host.live();
        if run.log_excerpt.is_some()
            || allowed(&live, run).is_none()
            || self.is_left_alone(&run.namespace)
        {
            return;
        }
        let Ok(text) =
            tokio::time::timeout(PATIENCE, read(host, &live, cluster, run, id, failed)).await
        else {
            self.leave_alone(&run.namespace);
            tracing::warn!(
                namespace = run.namespace,
                run = run.name,
                "a step's log did not come; no logs of this namespace are read for a minute"
            );
            return;
        };
        if let Some(text) = text
            && let Err(error) = host.store.keep_excerpt(&id, &text).await
        {
            tracing::warn!(%error, run = run.name, "the end of a step's log could not be kept");
        }
    }

    fn is_left_alone(&self, namespace: &str) -> bool {
        let mut hung = self.hung.lock().unwrap_or_else(PoisonError::into_inner);
        hung.retain(|_, since| since.elapsed() < LEFT_ALONE);
        hung.contains_key(namespace)
    }

    fn leave_alone(&self, namespace: &str) {
        let mut hung = self.hung.lock().unwrap_or_else(PoisonError::into_inner);
        hung.insert(namespace.to_owned(), Instant::now());
    }
}

async fn read(
    host: &Host,
    live: &Live,
    cluster: &Cluster,
    run: &StoredRun,
    id: EffectId,
    failed: &FailedTask,
) -> Option<String> {
    let (pod, container) = failed.log.as_ref()?;
    if !may_show(live, run).await {
        return None;
    }
    let at = LogAt {
        namespace: &run.namespace,
        creator: &run.creator,
        pod,
        container,
    };
    let log = match cluster.log_end(at).await {
        Ok(log) => log,
        Err(error) => {
            tracing::warn!(%error, run = run.name, "the log of a failed step could not be read");
            return None;
        }
    };
    let mut secrets = of_configuration(live);
    match of_run(host, live, run, id).await {
        Ok(own) => secrets.extend(own),
        Err(error) => {
            tracing::warn!(%error, run = run.name, "no log is shown: the run's own credentials are not known");
            return None;
        }
    }
    clean::clean(&log.text, log.cut, &secrets)
}

/// Every secret that the configuration holds.
fn of_configuration(live: &Live) -> Vec<Secret> {
    let config = &live.config;
    let mut secrets: Vec<Secret> = config
        .api_token
        .iter()
        .chain(&config.sealing_keys)
        .cloned()
        .collect();
    if let StoreConfig::Postgres(url) = &config.store {
        secrets.push(url.clone());
    }
    for gitlab in &config.gitlab {
        secrets.push(gitlab.token.clone());
        for hook in &gitlab.hooks {
            secrets.extend(hook.tokens.iter().cloned());
            secrets.extend(hook.signing_tokens.iter().cloned());
        }
        for entry in &gitlab.incoming {
            secrets.extend(entry.secrets.iter().cloned());
        }
    }
    secrets
}

/// The credentials with which the run clones.
async fn of_run(
    host: &Host,
    live: &Live,
    run: &StoredRun,
    id: EffectId,
) -> anyhow::Result<Vec<Secret>> {
    let mut secrets = Vec::new();
    for (project, token) in host.store.clone_tokens_of(&id).await? {
        let about = crate::clone::about(&run.of.instance, project, &token.name);
        let value = live.keys.open(&about, &token.sealed)?;
        secrets.push(Secret::new(String::from_utf8_lossy(&value).into_owned()));
    }
    Ok(secrets)
}
