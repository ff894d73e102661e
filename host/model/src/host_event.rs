//! An event that no webhook told of: the host itself found it out, and puts it where deliveries are.
//!
//! It is kept, routed, decided and recorded as a delivery is. There is no payload behind it: a plugin that asks for one gets `null`.

use serde::{Deserialize, Serialize};

use crate::admit::ProjectOf;
use crate::event::{EventKind, RunFinished, Sweep};
use crate::id::{CommitId, HookName, ProjectId, RefName, UserId};
use crate::run::Run;
use crate::scope::Trust;

/// What stands where a delivery has its hook. No hook of a configuration can have this name.
const HOOK: &str = "(host)";

/// How many run-finished events may lead to a run: what one more would start is refused.
pub const LONGEST_CHAIN: u32 = 5;

/// Somebody who may have done it: what is confirmed with GitLab decides over the trust.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspect {
    /// GitLab's id.
    pub id: UserId,
    /// GitLab's name; it may be empty.
    pub username: String,
}

/// What is known of a run's failure.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failed {
    /// The first task of the pipeline that failed.
    pub task: Option<String>,
    /// The end of the failed step's log, where it may be shown.
    pub log_excerpt: Option<String>,
}

/// An event of the host's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostEvent {
    /// Whose it is.
    pub of: ProjectOf,
    /// What happened.
    pub kind: EventKind,
    /// The ref that it is about.
    pub ref_name: Option<RefName>,
    /// The commit that it is about.
    pub commit: Option<CommitId>,
    /// The project that the code comes from, where it isn't `of`.
    pub source_project: Option<ProjectId>,
    /// Who may have done it.
    pub suspect: Option<Suspect>,
    /// It is never trusted further than this.
    pub most: Trust,
}

/// The name that stands where a delivery has its hook.
pub fn host_hook() -> HookName {
    HookName::new(HOOK)
}

/// A delivery of this hook is an event of the host's own.
pub fn is_host_hook(hook: &HookName) -> bool {
    hook.as_str() == HOOK
}

impl HostEvent {
    /// A run ended: what follows may do what the event could that the run came of.
    pub fn run_finished(
        of: ProjectOf,
        run: Run,
        failed: Failed,
        depth: u32,
        source_project: Option<ProjectId>,
        trust: Trust,
    ) -> Self {
        Self {
            of,
            ref_name: run.ref_name.clone(),
            commit: Some(run.commit.clone()),
            source_project,
            suspect: None,
            most: trust,
            kind: EventKind::RunFinished(RunFinished {
                run,
                depth,
                failed_task: failed.task,
                log_excerpt: failed.log_excerpt,
            }),
        }
    }

    /// A head that no delivery told of.
    pub fn sweep(of: ProjectOf, sweep: Sweep, suspect: Option<Suspect>) -> Self {
        let source = sweep
            .merge_request
            .as_ref()
            .and_then(|request| request.source_project)
            .filter(|source| *source != of.project);
        Self {
            of,
            ref_name: Some(sweep.ref_name.clone()),
            commit: sweep.found.clone(),
            source_project: source,
            suspect,
            most: Trust::Protected,
            kind: EventKind::Sweep(sweep),
        }
    }
}
