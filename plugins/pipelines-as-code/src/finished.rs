//! A run has ended: the comment and the aggregate status are brought up to date.
//!
//! The folder is not read again: what was said of the commit is kept, and the runs are
//! the host's to tell.

use penstock_sdk::events::{RunFinished, RunState};
use penstock_sdk::{CommitStatus, Event, Plan};

use crate::comment;
use crate::memory;
use crate::settings::{OnNoMatch, Settings};
use crate::status;
use crate::tell::write;
use crate::world::{RunFilter, World};

const MOST_RUNS: u32 = 500;
/// Failed tasks that are kept of one commit.
const MOST_FAILED: usize = 100;

/// The end of the failed step's log, where the place lets logs be shown.
fn log_excerpt(event: &Event) -> Option<String> {
    let (_, json) = event
        .extras
        .iter()
        .find(|(name, _)| name == "log-excerpt")?;
    serde_json::from_str(json).ok()
}

/// Tells what a run's end changes.
pub(crate) fn decide(
    settings: &Settings,
    event: &Event,
    finished: &RunFinished,
    world: &dyn World,
) -> Plan {
    let run = &finished.run;
    let mut plan = Plan::because(format!("`{}` ended", run.pipeline));
    let filter = RunFilter {
        commit: Some(run.commit.clone()),
        merge_request: run.merge_request,
        ref_name: None,
        pipeline: None,
    };
    let mut runs = match world.runs(&filter, MOST_RUNS) {
        // What a merge request started at this commit is its own.
        Ok(runs) => runs
            .into_iter()
            .filter(|it| it.merge_request == run.merge_request)
            .collect::<Vec<_>>(),
        Err(error) => {
            return plan.reason(format!("its runs are not to be had: {}", error.describe()));
        }
    };
    let subject = match run.merge_request {
        Some(iid) => format!("mr/{iid}"),
        None => format!("commit/{}", run.commit),
    };
    let mut said = memory::said(world, &subject);
    // Of a commit without a merge request nothing may be kept yet.
    if said.commit.is_empty() && run.merge_request.is_none() {
        said.commit.clone_from(&run.commit);
    }
    let current = said.commit == run.commit;
    // The event is the newest word of its run. One that was not admitted is none of the host's runs.
    match runs.iter_mut().find(|it| it.id == run.id) {
        Some(known) => known.clone_from(run),
        None if run.state == RunState::Refused && current => {
            said.refused
                .insert(run.pipeline.clone(), run.reason.clone());
            memory::keep_said(world, &subject, &said);
        }
        None => runs.push(run.clone()),
    }
    if current {
        runs = said.with_refused(runs);
    }
    if let Some(iid) = run.merge_request {
        if current {
            if let Some(task) = &finished.failed_task
                && said.failed_tasks.len() < MOST_FAILED
            {
                said.failed_tasks.insert(run.id.clone(), task.clone());
                if let Some(excerpt) = log_excerpt(event) {
                    said.keep_excerpt(&run.id, excerpt);
                }
                memory::keep_said(world, &subject, &said);
            }
            let body = comment::body(&said, &runs, &[], settings.comments);
            let (with_comment, _) = write(plan, iid, body, said.comment);
            plan = with_comment;
        } else {
            plan = plan.reason("the comment is about a newer commit");
        }
    }
    let failed = current && said.failed;
    if settings.on_no_match != OnNoMatch::None
        && !failed
        && event.commit.as_ref() == Some(&run.commit)
        && let Some((state, description)) = status::of_runs(&runs)
    {
        let status = CommitStatus::new(&run.commit, &settings.aggregate, state, description);
        plan = plan.commit_status("status", status);
    }
    plan
}
