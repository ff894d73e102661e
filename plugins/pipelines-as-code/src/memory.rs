//! What is kept from event to event: which commits of a merge request were allowed to
//! run, and what its comment has beside the runs.

use std::collections::BTreeMap;

use penstock_sdk::Problem;
use penstock_sdk::events::{Run, RunState};
use serde::{Deserialize, Serialize};

use crate::world::World;

/// Days after which a merge request that nobody touches is forgotten.
const DAYS: u32 = 180;
/// Approvals of one merge request.
const MOST_APPROVALS: usize = 50;
/// Ends of logs of one commit.
const MOST_EXCERPTS: usize = 3;
/// Keys of each kind.
const BUCKETS: u64 = 256;
/// Bytes under one key: a call may write 256 KiB in all.
const MOST_SAID_BYTES: usize = 120 * 1024;
const MOST_APPROVAL_BYTES: usize = 60 * 1024;

/// What was said last about a commit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Said {
    /// The commit.
    pub(crate) commit: String,
    /// Mistakes, as Markdown.
    pub(crate) problems: Vec<String>,
    /// What is worth knowing, as Markdown.
    pub(crate) notes: Vec<String>,
    /// The comment is there.
    pub(crate) comment: bool,
    /// The aggregate status is failed because of a mistake.
    pub(crate) failed: bool,
    /// Task that failed, by the run's id.
    #[serde(default)]
    pub(crate) failed_tasks: BTreeMap<String, String>,
    /// Pipelines of which no run was made, and why: the host has no run of them to show.
    #[serde(default)]
    pub(crate) refused: BTreeMap<String, String>,
    /// Ends of logs with the ids of their runs, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) excerpts: Vec<(String, String)>,
}

impl Said {
    /// Keeps the end of a log, and of all only the newest few: the host masked and cut it, and keeps it better.
    pub(crate) fn keep_excerpt(&mut self, run: &str, excerpt: String) {
        self.excerpts.retain(|(id, _)| id != run);
        self.excerpts.push((run.to_owned(), excerpt));
        let excess = self.excerpts.len().saturating_sub(MOST_EXCERPTS);
        self.excerpts.drain(..excess);
    }

    /// The runs of its commit, newest first, with those that were refused in front.
    pub(crate) fn with_refused(&self, runs: Vec<Run>) -> Vec<Run> {
        let refused = self.refused.iter().map(|(pipeline, reason)| Run {
            id: String::new(),
            plugin: String::new(),
            key: String::new(),
            pipeline: pipeline.clone(),
            place: String::new(),
            ref_name: None,
            merge_request: None,
            commit: self.commit.clone(),
            state: RunState::Refused,
            reason: reason.clone(),
            web_url: None,
            created_at: 0,
            started_at: None,
            finished_at: None,
            results: Vec::new(),
        });
        refused.chain(runs).collect()
    }
}

/// A commit that somebody allowed to run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Approval {
    commit: String,
    by: String,
}

/// What was said last about a merge request or, without one, about a commit.
pub(crate) fn said(world: &dyn World, subject: &str) -> Said {
    Bucket::of(world, "said", subject).take(subject)
}

/// Keeps what is said. Of commits only what was wrong or refused is kept: each push has another one.
pub(crate) fn keep_said(world: &dyn World, subject: &str, said: &Said) {
    let mut bucket = Bucket::of(world, "said", subject);
    let before: Said = bucket.take(subject);
    let worth = subject.starts_with("mr/") || said.failed || !said.refused.is_empty();
    if worth {
        bucket.put(subject, said);
    }
    if worth || before != Said::default() {
        // Without a store the comment is only written anew.
        let _ = bucket.keep(world, MOST_SAID_BYTES);
    }
}

/// Who allowed this commit of a merge request, if anybody did.
pub(crate) fn approved_by(world: &dyn World, iid: u64, commit: &str) -> Option<String> {
    let subject = format!("mr/{iid}");
    let approvals: Vec<Approval> = Bucket::of(world, "ok", &subject).take(&subject);
    let found = approvals.into_iter().find(|it| it.commit == commit);
    found.map(|it| it.by)
}

/// Keeps that somebody allowed a commit.
///
/// # Errors
/// The plugin has no store for such events.
pub(crate) fn approve(world: &dyn World, iid: u64, commit: &str, by: &str) -> Result<(), String> {
    let subject = format!("mr/{iid}");
    let mut bucket = Bucket::of(world, "ok", &subject);
    let mut approvals: Vec<Approval> = bucket.take(&subject);
    approvals.retain(|it| it.commit != commit);
    approvals.push(Approval {
        commit: commit.to_owned(),
        by: by.to_owned(),
    });
    let excess = approvals.len().saturating_sub(MOST_APPROVALS);
    approvals.drain(..excess);
    bucket.put(&subject, &approvals);
    bucket
        .keep(world, MOST_APPROVAL_BYTES)
        .map_err(|error| error.describe())
}

/// Several merge requests or commits under one key: the host keeps 1,000 keys for a project, and a project has more
/// merge requests than that.
struct Bucket {
    key: String,
    /// In the order in which they were written.
    entries: Vec<(String, serde_json::Value)>,
}

impl Bucket {
    fn of(world: &dyn World, kind: &str, subject: &str) -> Self {
        // FNV-1a: it has to spread, not to withstand anyone.
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for byte in subject.bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        let key = format!("{kind}/{}", (hash ^ (hash >> 32)) % BUCKETS);
        let kept = world.recall(&key).ok().flatten();
        let entries = kept.and_then(|it| serde_json::from_slice(&it).ok());
        Self {
            key,
            entries: entries.unwrap_or_default(),
        }
    }

    /// Takes an entry out.
    fn take<T: Default + serde::de::DeserializeOwned>(&mut self, subject: &str) -> T {
        let Some(at) = self.entries.iter().position(|(name, _)| name == subject) else {
            return T::default();
        };
        let (_, value) = self.entries.remove(at);
        serde_json::from_value(value).unwrap_or_default()
    }

    fn put(&mut self, subject: &str, value: &impl Serialize) {
        if let Ok(value) = serde_json::to_value(value) {
            self.entries.push((subject.to_owned(), value));
        }
    }

    /// Keeps it; what was written longest ago gives way to what is over a limit of bytes.
    fn keep(mut self, world: &dyn World, most: usize) -> Result<(), penstock_sdk::LookupError> {
        loop {
            let value = serde_json::to_vec(&self.entries).unwrap_or_default();
            if value.len() <= most || self.entries.len() < 2 {
                return world.keep(&self.key, value, DAYS);
            }
            self.entries.remove(0);
        }
    }
}

/// A problem as Markdown.
pub(crate) fn shown(problem: &Problem) -> String {
    let place = match (problem.line, problem.column) {
        (Some(line), Some(column)) => format!("{}:{line}:{column}", problem.path),
        (Some(line), None) => format!("{}:{line}", problem.path),
        _ => problem.path.clone(),
    };
    format!(
        "`{}` {}",
        place.replace('`', "'"),
        crate::comment::plain(&problem.message)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_longest_ago_gives_way() {
        let mut bucket = Bucket {
            key: "said/1".to_owned(),
            entries: Vec::new(),
        };
        for number in 0..3 {
            bucket.put(&format!("mr/{number}"), &"x".repeat(10));
        }
        bucket.put("mr/0", &"y");
        let names: Vec<_> = bucket.entries.iter().map(|it| it.0.as_str()).collect();
        assert_eq!(names, ["mr/0", "mr/1", "mr/2", "mr/0"]);
        let text: String = bucket.take("mr/0");
        assert_eq!(text, "x".repeat(10));
        let none: String = bucket.take("mr/9");
        assert_eq!(none, "");
    }
}
