//! What GitLab is told: the living comment of a merge request and the aggregate status.

use std::collections::BTreeMap;

use penstock_sdk::events::Run;
use penstock_sdk::{Comment, CommentTarget, CommitStatus, Plan, Problem, StatusState};

use crate::choice::Choice;
use crate::comment::{self, Asked};
use crate::facts::Facts;
use crate::memory::{self, Said, shown};
use crate::provenance;
use crate::settings::OnNoMatch;
use crate::start::Scene;
use crate::status;

/// Key of the comment: there is one for each merge request.
pub(crate) const COMMENT: &str = "comment";
const STATUS: &str = "status";
/// What is said about one commit at most.
const MOST_SAID: usize = 30;

/// What came of a decision.
pub(crate) struct Report {
    whole: bool,
    waits: bool,
    pub(crate) problems: Vec<Problem>,
    pub(crate) notes: Vec<String>,
    warned: Vec<String>,
    pub(crate) started: Vec<String>,
    pub(crate) existing: Vec<Run>,
    before: Said,
    /// What was said is about the same commit.
    same: bool,
}

impl Report {
    pub(crate) fn new(scene: &Scene<'_>, choice: &Choice) -> Self {
        let before = memory::said(scene.world, &subject(scene.facts));
        Self {
            whole: choice.is_whole(),
            waits: false,
            problems: Vec::new(),
            notes: Vec::new(),
            warned: Vec::new(),
            started: Vec::new(),
            existing: Vec::new(),
            same: before.commit == scene.facts.commit,
            before,
        }
    }

    /// The commit's runs, with those that were refused.
    pub(crate) fn with_refused(&self, runs: Vec<Run>) -> Vec<Run> {
        if self.same {
            self.before.with_refused(runs)
        } else {
            runs
        }
    }

    /// Nothing runs before somebody does something: that alone is said, not what a
    /// stranger wrote into files.
    pub(crate) fn waits(&mut self, why: String) {
        self.waits = true;
        self.problems.clear();
        self.notes = vec![comment::plain(&why)];
    }

    /// Mistakes, each once: several runs may refer to one broken task.
    pub(crate) fn add_problems(&mut self, problems: Vec<Problem>) {
        for problem in problems {
            if !self.problems.contains(&problem) {
                self.problems.push(problem);
            }
        }
    }

    pub(crate) fn warn(&mut self, warning: &Problem) {
        let text = shown(warning);
        if !self.warned.contains(&text) {
            self.warned.push(text);
        }
    }
}

/// What a status and a comment are about: a merge request, else a commit.
pub(crate) fn subject(facts: &Facts<'_>) -> String {
    match facts.merge_request {
        Some(it) => format!("mr/{}", it.iid),
        None => format!("commit/{}", facts.commit),
    }
}

/// Tells what came of a decision.
pub(crate) fn tell(scene: Scene<'_>, report: Report, plan: Plan) -> Plan {
    let Scene {
        settings,
        world,
        facts,
    } = scene;
    let mut plan = plan;
    let (before, same) = (&report.before, report.same);
    let mut said = Said {
        commit: facts.commit.to_owned(),
        problems: report.problems.iter().map(shown).collect(),
        notes: report.notes.clone(),
        comment: before.comment,
        failed: false,
        failed_tasks: if same {
            before.failed_tasks.clone()
        } else {
            BTreeMap::new()
        },
        refused: if same {
            before.refused.clone()
        } else {
            BTreeMap::new()
        },
        excerpts: if same {
            before.excerpts.clone()
        } else {
            Vec::new()
        },
    };
    // They are asked for anew.
    said.refused
        .retain(|pipeline, _| !report.started.contains(pipeline));
    said.notes.extend(report.warned.iter().cloned());
    if !report.whole && same {
        // Only a part of the folder was looked at: what was said of the rest still holds.
        for old in &before.problems {
            if !said.problems.contains(old) {
                said.problems.push(old.clone());
            }
        }
    }
    shorten(&mut said.problems);
    shorten(&mut said.notes);
    for problem in &report.problems {
        plan = plan.warning(problem.clone());
    }
    let told = aggregate(&scene, &report, &said);
    said.failed = matches!(told, Some((StatusState::Failed, _))) && !said.problems.is_empty();
    if let Some((state, description)) = told {
        let status = CommitStatus::new(facts.commit, &settings.aggregate, state, description);
        plan = plan.commit_status(STATUS, status);
    }
    if let Some(merge_request) = facts.merge_request {
        let asked: Vec<Asked> = report
            .started
            .iter()
            .map(|pipeline| Asked {
                pipeline: pipeline.clone(),
            })
            .collect();
        let body = comment::body(&said, &report.existing, &asked, settings.comments);
        (plan, said.comment) = write(plan, merge_request.iid, body, before.comment);
    }
    let nothing = Said {
        commit: said.commit.clone(),
        ..Said::default()
    };
    if said != *before && (said != nothing || !before.commit.is_empty()) {
        memory::keep_said(world, &subject(facts), &said);
    }
    plan
}

/// There is no folder: what was said of an earlier commit is taken back, and a project
/// that never had one is told nothing.
pub(crate) fn nothing(scene: Scene<'_>, plan: Plan) -> Plan {
    let facts = scene.facts;
    let before = memory::said(scene.world, &subject(facts));
    if before == Said::default() {
        return plan;
    }
    let mut plan = plan;
    if let Some(merge_request) = facts.merge_request {
        (plan, _) = write(plan, merge_request.iid, None, before.comment);
    }
    let said = Said {
        commit: facts.commit.to_owned(),
        ..Said::default()
    };
    memory::keep_said(scene.world, &subject(facts), &said);
    plan
}

/// A mark skips the commit. The aggregate status says so too, where there is one: branch rules
/// that ask for it learn that nothing will come. It is never a success: the author of a change
/// must not grant that.
pub(crate) fn skipped(scene: Scene<'_>, plan: Plan) -> Plan {
    let Scene {
        settings,
        world,
        facts,
    } = scene;
    let source = provenance::source(settings.provenance, facts);
    // A project without the folder gets nothing at all.
    if settings.on_no_match == OnNoMatch::None || world.folder(&source, &settings.folder).is_err() {
        return plan;
    }
    let why = plan.reasons.first().cloned().unwrap_or_default();
    let state = StatusState::Skipped;
    let status = CommitStatus::new(facts.commit, &settings.aggregate, state, why);
    plan.commit_status(STATUS, status)
}

/// Writes the comment or takes it away; whether it is there afterwards.
pub(crate) fn write(plan: Plan, iid: u64, body: Option<String>, was: bool) -> (Plan, bool) {
    match body {
        Some(body) => (
            plan.comment(COMMENT, Comment::on_merge_request(iid, body)),
            true,
        ),
        None if was => {
            let remove = Comment::remove(CommentTarget::MergeRequest(iid));
            (plan.comment(COMMENT, remove), false)
        }
        None => (plan, false),
    }
}

fn aggregate(scene: &Scene<'_>, report: &Report, said: &Said) -> Option<status::Told> {
    let stable = scene.settings.on_no_match;
    if report.waits {
        // Whatever matches: what matches in a stranger's files lets nobody pass.
        let why = report.notes.first().cloned().unwrap_or_default();
        return (stable != OnNoMatch::None).then_some((StatusState::Pending, why));
    }
    if let Some(problem) = report.problems.first() {
        let more = report.problems.len() - 1;
        let more = if more > 0 {
            format!(" (and {more} more)")
        } else {
            String::new()
        };
        let place = problem
            .line
            .map_or_else(String::new, |line| format!(":{line}"));
        let what = format!("{}{place}: {}{more}", problem.path, problem.message);
        return Some((StatusState::Failed, what));
    }
    if !said.problems.is_empty() {
        return None;
    }
    if stable == OnNoMatch::None {
        let mended =
            report.before.failed && report.before.commit == scene.facts.commit && report.whole;
        return mended.then(|| (StatusState::Success, "what was wrong is mended".to_owned()));
    }
    if !report.started.is_empty() {
        let what = format!("{} started", status::count(report.started.len()));
        return Some((StatusState::Running, what));
    }
    if let Some(told) = status::of_runs(&report.existing) {
        return Some(told);
    }
    // Of a part of the folder nothing follows for the commit.
    if !report.whole {
        return None;
    }
    let what = "nothing in the folder is for this change".to_owned();
    Some(match stable {
        OnNoMatch::Success => (StatusState::Success, what),
        _ => (StatusState::Skipped, what),
    })
}

fn shorten(lines: &mut Vec<String>) {
    let left_out = lines.len().saturating_sub(MOST_SAID);
    if left_out > 0 {
        lines.truncate(MOST_SAID);
        lines.push(format!("and {left_out} more"));
    }
}
