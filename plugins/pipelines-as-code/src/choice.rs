//! Which PipelineRuns of the folder an event asks for.

use std::collections::{BTreeMap, BTreeSet};

use penstock_sdk::Problem;
use penstock_sdk::events::Run;

use crate::annotations;
use crate::cel::Evaluator;
use crate::document::Document;
use crate::facts::Facts;
use crate::filled::Filled;
use crate::matching::{self, Verdict};
use crate::run;
use crate::start::is_failed;

/// What is asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Choice {
    /// Those that match.
    pub(crate) matching: bool,
    /// Of those, the ones that have no run at this commit yet.
    pub(crate) only_new: bool,
    /// Of those, the ones that name a label.
    pub(crate) labels: bool,
    /// Those whose `on-comment` is for the comment.
    pub(crate) comment: bool,
    /// Those whose newest run at this commit failed.
    pub(crate) failed: bool,
    /// These, whatever their annotations say.
    pub(crate) names: BTreeSet<String>,
    /// Of those that are named, the ones that match.
    pub(crate) named_match: bool,
    /// Somebody allows a merge request's commit to run.
    pub(crate) approval: bool,
}

impl Choice {
    /// All that match.
    pub(crate) fn matching() -> Self {
        Self {
            matching: true,
            ..Self::default()
        }
    }

    /// Those that match and have no run at this commit yet.
    pub(crate) fn only_new() -> Self {
        Self {
            only_new: true,
            ..Self::matching()
        }
    }

    pub(crate) const fn needs_runs(&self) -> bool {
        self.only_new || self.failed
    }

    /// Everything that matches was looked at: what is said of the commit is whole.
    pub(crate) const fn is_whole(&self) -> bool {
        self.matching && !self.labels
    }
}

/// A PipelineRun by its name.
#[derive(Debug)]
pub(crate) struct Candidate<'d> {
    pub(crate) name: String,
    pub(crate) document: &'d Document,
    /// Its annotations with values put in; else why they can't be used.
    pub(crate) annotations: Result<Filled, Problem>,
    /// Why it runs.
    pub(crate) why: &'static str,
}

impl<'d> Candidate<'d> {
    /// An annotation, with values put in where they could be.
    pub(crate) fn value(&self, annotation: &str) -> Option<String> {
        match &self.annotations {
            Ok(filled) => filled.value(annotation).map(str::to_owned),
            Err(_) => annotations::value(&self.document.value, annotation),
        }
    }

    pub(crate) const fn new(
        name: String,
        document: &'d Document,
        annotations: Result<Filled, Problem>,
    ) -> Self {
        Self {
            name,
            document,
            annotations,
            why: "",
        }
    }
}

/// What was chosen, and why the others were not.
#[derive(Debug, Default)]
pub(crate) struct Chosen<'d> {
    pub(crate) candidates: Vec<Candidate<'d>>,
    pub(crate) reasons: Vec<String>,
    pub(crate) problems: Vec<Problem>,
    pub(crate) notes: Vec<String>,
}

/// Chooses.
pub(crate) fn choose<'d>(
    choice: &Choice,
    candidates: Vec<Candidate<'d>>,
    facts: &Facts<'_>,
    evaluator: &Evaluator<'_>,
    existing: &[Run],
) -> Chosen<'d> {
    let mut newest: BTreeMap<&str, &Run> = BTreeMap::new();
    for run in existing {
        newest.entry(&run.pipeline).or_insert(run);
    }
    let mut chosen = Chosen::default();
    let mut asked: BTreeSet<&String> = choice.names.iter().collect();
    let mut known = Vec::new();
    for mut candidate in candidates {
        known.push(format!("`{}`", candidate.name));
        asked.remove(&candidate.name);
        let newest = newest.get(run::pipeline(&candidate.name).as_str());
        let state = newest.map(|run| run.state);
        let verdict = if choice.names.contains(&candidate.name) {
            candidate.why = "it was asked for by its name";
            if choice.named_match {
                matching::judge(&candidate, facts, evaluator)
            } else {
                Verdict::Matches
            }
        } else if choice.failed && state.is_some_and(is_failed) {
            candidate.why = "its last run failed";
            Verdict::Matches
        } else if choice.comment {
            candidate.why = "the comment asks for it";
            matching::comment(&candidate, facts.comment.unwrap_or_default())
        } else if !choice.matching {
            Verdict::No(match state {
                Some(_) if choice.failed => "its last run did not fail".to_owned(),
                None if choice.failed => "it has no run at this commit".to_owned(),
                _ => "nobody asked for it".to_owned(),
            })
        } else if choice.labels && !matching::has_label(candidate.document) {
            Verdict::No(
                "only labels changed, and neither `on-label` nor its expression is about them"
                    .to_owned(),
            )
        } else {
            candidate.why = "it matches";
            match matching::judge(&candidate, facts, evaluator) {
                Verdict::Matches if choice.only_new && state.is_some() => {
                    Verdict::No("it has a run at this commit".to_owned())
                }
                // What came later went first, while this could not be decided.
                Verdict::Matches
                    if newest.is_some_and(|run| run.created_at > facts.event.received_at) =>
                {
                    Verdict::No(
                        "it has a run at this commit that is newer than this event".to_owned(),
                    )
                }
                verdict => verdict,
            }
        };
        match verdict {
            Verdict::Matches => chosen.candidates.push(candidate),
            Verdict::No(why) => chosen
                .reasons
                .push(format!("`{}` does not run: {why}", candidate.name)),
            Verdict::Wrong(problem) => {
                chosen.reasons.push(format!(
                    "`{}` does not run: {}",
                    candidate.name, problem.message
                ));
                chosen.problems.push(problem);
            }
        }
    }
    for name in asked {
        let known = if known.is_empty() {
            "none".to_owned()
        } else {
            known.join(", ")
        };
        chosen.notes.push(format!(
            "there is no pipeline `{name}`: the folder has {known}"
        ));
    }
    chosen
}
