//! What is kept from event to event: which commits of a merge request were allowed to
//! run, and what its comment has beside the runs.

use std::collections::BTreeMap;

use penstock_sdk::Problem;
use serde::{Deserialize, Serialize};

use crate::world::World;

/// Days after which a merge request that nobody touches is forgotten.
const DAYS: u32 = 180;
/// Approvals of one merge request.
const MOST_APPROVALS: usize = 50;

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
    /// Runs were started for the commit.
    pub(crate) runs: bool,
    /// Task that failed, by the run's id.
    #[serde(default)]
    pub(crate) failed_tasks: BTreeMap<String, String>,
}

/// A commit that somebody allowed to run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Approval {
    commit: String,
    by: String,
}

/// What was said last about a merge request or, without one, about a commit.
pub(crate) fn said(world: &dyn World, subject: &str) -> Said {
    let kept = world.recall(&format!("said/{subject}")).ok().flatten();
    kept.and_then(|it| serde_json::from_slice(&it).ok())
        .unwrap_or_default()
}

/// Keeps what is said.
pub(crate) fn keep_said(world: &dyn World, subject: &str, said: &Said) {
    if let Ok(value) = serde_json::to_vec(said) {
        // Without a store the comment is only written anew.
        let _ = world.keep(&format!("said/{subject}"), value, DAYS);
    }
}

/// Who allowed this commit of a merge request, if anybody did.
pub(crate) fn approved_by(world: &dyn World, iid: u64, commit: &str) -> Option<String> {
    let approvals = approvals(world, iid);
    let found = approvals.into_iter().find(|it| it.commit == commit);
    found.map(|it| it.by)
}

/// Keeps that somebody allowed a commit.
///
/// # Errors
/// The plugin has no store for such events.
pub(crate) fn approve(world: &dyn World, iid: u64, commit: &str, by: &str) -> Result<(), String> {
    let mut approvals = approvals(world, iid);
    approvals.retain(|it| it.commit != commit);
    approvals.push(Approval {
        commit: commit.to_owned(),
        by: by.to_owned(),
    });
    let excess = approvals.len().saturating_sub(MOST_APPROVALS);
    approvals.drain(..excess);
    let value = serde_json::to_vec(&approvals).map_err(|error| error.to_string())?;
    world
        .keep(&format!("ok/{iid}"), value, DAYS)
        .map_err(|error| error.describe())
}

fn approvals(world: &dyn World, iid: u64) -> Vec<Approval> {
    let kept = world.recall(&format!("ok/{iid}")).ok().flatten();
    kept.and_then(|it| serde_json::from_slice(&it).ok())
        .unwrap_or_default()
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
