//! Runs in lists and in figures: for plugins, and for whoever watches a cluster.

use std::time::Duration;

use penstock_model::id::{
    ClusterName, CommitId, InstanceName, PluginName, ProjectId, RefName, Timestamp,
};
use penstock_model::lookup::{RunFilter, Summary};
use penstock_model::run::{Run, RunState};

use crate::backend::Tx;
use crate::backend::value::params;
use crate::error::StoreError;
use crate::run::{StoredRun, read_run, read_stored, run_columns};
use crate::store::Store;

/// Runs that a summary looks at, at most.
const SUMMARIZED: u32 = 1000;

/// Runs of one pipeline that a plugin started in a project.
struct Past {
    plugin: PluginName,
    instance: InstanceName,
    project: ProjectId,
    pipeline: String,
    since: Timestamp,
}

fn summary(tx: &mut dyn Tx, past: &Past) -> Result<Summary, StoreError> {
    let rows = tx.query(
        "SELECT state, started_at, finished_at FROM runs WHERE instance = ?1 AND project = ?2 AND plugin = ?3 \
         AND created_at >= ?4 AND pipeline = ?5 ORDER BY created_at DESC LIMIT ?6",
        params![
            past.instance.as_str(),
            past.project.0,
            past.plugin.as_str(),
            past.since,
            &past.pipeline,
            SUMMARIZED
        ],
    )?;
    let mut summary = Summary::default();
    let mut durations = Vec::new();
    for mut row in rows {
        let state = RunState::parse(&row.text()?);
        let (started_at, finished_at) = (row.opt_time()?, row.opt_time()?);
        summary.runs += 1;
        match state {
            Some(RunState::Failed) => {
                summary.failed += 1;
                summary.last_failure = summary.last_failure.max(finished_at);
            }
            Some(RunState::Succeeded) => {
                summary.last_success = summary.last_success.max(finished_at);
            }
            Some(RunState::Canceled) => summary.canceled += 1,
            _ => {}
        }
        let ran = matches!(state, Some(RunState::Failed | RunState::Succeeded));
        if let (true, Some(started_at), Some(finished_at)) = (ran, started_at, finished_at) {
            durations.push(finished_at.since(started_at).as_secs());
        }
    }
    durations.sort_unstable();
    summary.median_duration = durations
        .get(durations.len() / 2)
        .and_then(|seconds| u32::try_from(*seconds).ok());
    Ok(summary)
}

impl Store {
    /// Runs that a plugin started in a project, newest first.
    ///
    /// # Errors
    /// The store's.
    pub async fn runs(
        &self,
        plugin: &PluginName,
        instance: &InstanceName,
        project: ProjectId,
        filter: RunFilter,
        limit: u32,
    ) -> Result<Vec<Run>, StoreError> {
        let (plugin, instance) = (plugin.clone(), instance.clone());
        self.read(move |tx| {
            let rows = tx.query(
                concat!(
                    "SELECT ",
                    run_columns!(),
                    " FROM runs WHERE instance = ?1 AND project = ?2 AND plugin = ?3 \
                     AND (CAST(?4 AS TEXT) IS NULL OR commit_id = ?4) AND (CAST(?5 AS BIGINT) IS NULL OR merge_request = ?5) \
                     AND (CAST(?6 AS TEXT) IS NULL OR ref_name = ?6) AND (CAST(?7 AS TEXT) IS NULL OR pipeline = ?7) \
                     ORDER BY created_at DESC, delivery_seq DESC, id LIMIT ?8"
                ),
                params![
                    instance.as_str(),
                    project.0,
                    plugin.as_str(),
                    filter.commit.as_ref().map(CommitId::as_str),
                    filter.merge_request,
                    filter.ref_name.as_ref().map(RefName::as_str),
                    filter.pipeline.as_ref(),
                    limit
                ],
            )?;
            rows.into_iter().map(|mut row| read_run(&mut row)).collect()
        })
        .await
    }

    /// Runs of a cluster that have not ended, oldest first.
    ///
    /// # Errors
    /// The store's.
    pub async fn runs_unfinished(
        &self,
        cluster: &ClusterName,
    ) -> Result<Vec<StoredRun>, StoreError> {
        let cluster = cluster.clone();
        self.read(move |tx| {
            let rows = tx.query(
                concat!(
                    "SELECT ",
                    run_columns!(),
                    " FROM runs WHERE finished = 0 AND cluster = ?1 ORDER BY created_at, id"
                ),
                params![cluster.as_str()],
            )?;
            rows.into_iter()
                .map(|mut row| read_stored(&mut row))
                .collect()
        })
        .await
    }

    /// Figures of a pipeline's runs in the last days, over the newest thousand. Gates are counted by none yet.
    ///
    /// # Errors
    /// The store's.
    pub async fn summary(
        &self,
        plugin: &PluginName,
        instance: &InstanceName,
        project: ProjectId,
        pipeline: &str,
        days: u32,
        now: Timestamp,
    ) -> Result<Summary, StoreError> {
        let back = Duration::from_secs(u64::from(days) * 24 * 60 * 60);
        let past = Past {
            plugin: plugin.clone(),
            instance: instance.clone(),
            project,
            pipeline: pipeline.to_owned(),
            since: now.minus(back),
        };
        self.read(move |tx| summary(tx, &past)).await
    }
}
