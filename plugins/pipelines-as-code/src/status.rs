//! The one status whose name never changes: what branch rules can ask for without
//! knowing the names of pipelines.

use std::collections::BTreeSet;

use penstock_sdk::StatusState;
use penstock_sdk::events::{Run, RunState};

/// A state and what is said about it.
pub(crate) type Told = (StatusState, String);

/// What all runs of a commit come to, the newest of each pipeline; none: there are none.
pub(crate) fn of_runs(runs: &[Run]) -> Option<Told> {
    let mut seen = BTreeSet::new();
    let newest: Vec<&Run> = runs
        .iter()
        .filter(|it| seen.insert(it.pipeline.as_str()))
        .collect();
    if newest.is_empty() {
        return None;
    }
    let named = |states: &[RunState]| -> Vec<&str> {
        let mut names: Vec<&str> = newest
            .iter()
            .filter(|it| states.contains(&it.state))
            .map(|it| it.pipeline.as_str())
            .collect();
        names.sort_unstable();
        names
    };
    let failed = named(&[RunState::Failed, RunState::Refused, RunState::Gone]);
    let going = named(&[RunState::Queued, RunState::Gated, RunState::Running]);
    let canceled = named(&[RunState::Canceled]);
    Some(if !going.is_empty() {
        (
            StatusState::Running,
            format!("{} of {} go on", going.len(), count(newest.len())),
        )
    } else if !failed.is_empty() {
        (StatusState::Failed, format!("{} failed", failed.join(", ")))
    } else if !canceled.is_empty() {
        (
            StatusState::Canceled,
            format!("{} cancelled", canceled.join(", ")),
        )
    } else {
        (
            StatusState::Success,
            format!("{} succeeded", count(newest.len())),
        )
    })
}

/// `1 pipeline`, `2 pipelines`.
pub(crate) fn count(number: usize) -> String {
    if number == 1 {
        "1 pipeline".to_owned()
    } else {
        format!("{number} pipelines")
    }
}
