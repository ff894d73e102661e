//! `penstock replay`, and `--rerun` of `penstock explain`.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;
use penstock_model::id::{PluginName, Timestamp};
use penstock_store::{DeliveryKey, Store};
use serde::Serialize;

use super::{Shared, load, output};
use crate::config::{Config, unit};
use crate::host::{self, target};
use crate::replay::{Replayer, Report, Rerun};

/// Exit status: a decision is another one now.
const DIFFERS: u8 = 3;
/// Exit status: a decision whose record is there could not be run.
const NOT_RUN: u8 = 4;

/// What to run again.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Decisions about deliveries that were received so long ago at most, such as `30d` or `12h`.
    #[arg(long, value_name = "TIME", value_parser = unit::duration)]
    since: Duration,
    /// Only those of the plugin with this name.
    #[arg(long, value_name = "NAME")]
    plugin: Option<String>,
}

/// How many came to what.
#[derive(Debug, Default, Serialize)]
struct Summary {
    decisions: u64,
    same: u64,
    same_prefix: u64,
    differ: u64,
    expired: u64,
    not_run: u64,
    seconds: f64,
    /// Those that differ or could not be run.
    reports: Vec<Report>,
}

impl Summary {
    fn take(&mut self, report: Report) {
        self.decisions += 1;
        let count = match &report.rerun {
            Rerun::Same => &mut self.same,
            Rerun::SamePrefix { .. } => &mut self.same_prefix,
            Rerun::Expired => &mut self.expired,
            Rerun::Differs { .. } => &mut self.differ,
            Rerun::NotRun { .. } => &mut self.not_run,
        };
        *count += 1;
        if matches!(report.rerun, Rerun::Differs { .. } | Rerun::NotRun { .. }) {
            self.reports.push(report);
        }
    }

    fn code(&self) -> u8 {
        match (self.differ, self.not_run) {
            (0, 0) => 0,
            (0, _) => NOT_RUN,
            _ => DIFFERS,
        }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for report in &self.reports {
            text.push_str(&format!(
                "{} route {} (attempt {}) by {}: {}\n",
                report.delivery,
                report.route,
                report.attempt,
                report.plugin,
                words(&report.rerun)
            ));
        }
        text.push_str(&format!(
            "{} decisions in {:.1} s: {} gave the same bytes",
            self.decisions, self.seconds, self.same
        ));
        for (count, what) in [
            (
                self.same_prefix,
                "had been cut and are the same as far as they went",
            ),
            (self.differ, "DIFFER"),
            (self.not_run, "could not be run"),
            (
                self.expired,
                "have no record any more: contents expire, see `retention`",
            ),
        ] {
            if count > 0 {
                text.push_str(&format!(", {count} {what}"));
            }
        }
        if let Some(first) = self.reports.first() {
            text.push_str(&format!(
                "\n`penstock explain {} --rerun` shows one of them whole",
                first.delivery
            ));
        }
        text
    }
}

fn words(rerun: &Rerun) -> String {
    match rerun {
        Rerun::Same => "the same bytes".to_owned(),
        Rerun::SamePrefix { calls } => {
            format!("it had been cut; the same as far as it went ({calls} host calls)")
        }
        Rerun::Differs { difference } => format!("DIFFERS: {difference}"),
        Rerun::Expired => {
            "its record has expired: contents are kept for `retention.contents`".to_owned()
        }
        Rerun::NotRun { why } => format!("could not be run: {why}"),
    }
}

/// Runs all decisions since a time again.
pub(super) async fn run(arguments: &Arguments, shared: &Shared) -> Result<ExitCode> {
    let config = load(&shared.config)?;
    let store = open(&config).await?;
    let replayer = replayer(&config, &store)?;
    let plugin = arguments.plugin.as_deref().map(PluginName::from);
    let since = Timestamp::now().minus(arguments.since);
    let (begun, mut summary) = (Instant::now(), Summary::default());
    replayer
        .since(since, plugin.as_ref(), |report| summary.take(report))
        .await?;
    summary.seconds = begun.elapsed().as_secs_f64();
    output::answer(shared.output, &summary, || summary.text());
    store.close().await;
    Ok(ExitCode::from(summary.code()))
}

/// The decisions about one delivery, run again.
pub(super) struct Again {
    reports: Vec<Report>,
}

impl Again {
    /// Runs them.
    pub(super) async fn of(config: &Config, store: &Store, delivery: &DeliveryKey) -> Result<Self> {
        let records = store.records_of(delivery).await?;
        let reports = if records.is_empty() {
            Vec::new()
        } else {
            replayer(config, store)?.these(records).await
        };
        Ok(Self { reports })
    }

    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::json!(self.reports)
    }

    pub(super) fn text(&self) -> String {
        if self.reports.is_empty() {
            return "run again: no plugin was called for it".to_owned();
        }
        let line = |report: &Report| {
            format!(
                "run again: route {} (attempt {}): {}\n  record {}, plugin {}\n",
                report.route,
                report.attempt,
                words(&report.rerun),
                report.record,
                report.plugin_digest
            )
        };
        self.reports.iter().map(line).collect()
    }

    pub(super) fn code(&self) -> ExitCode {
        let mut summary = Summary::default();
        for report in &self.reports {
            summary.take(report.clone());
        }
        ExitCode::from(match summary.code() {
            // Asked for this very delivery, and its record is gone.
            0 if summary.expired > 0 => NOT_RUN,
            code => code,
        })
    }
}

fn replayer(config: &Config, store: &Store) -> Result<std::sync::Arc<Replayer>> {
    let engine = host::engine_on_all_cores(config)?;
    Ok(Replayer::new(store.clone(), engine))
}

async fn open(config: &Config) -> Result<Store> {
    Store::open_beside(target(config))
        .await
        .context("the store can't be opened")
}
