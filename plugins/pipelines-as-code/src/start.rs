//! Starts what an event asks for: reads the folder, chooses, makes the runs, and tells.

use std::collections::BTreeMap;

use penstock_sdk::events::{EventKind, Run, RunState};
use penstock_sdk::{LookupError, Plan, PluginError, Problem};

use crate::annotations;
use crate::cel::Evaluator;
use crate::choice::{self, Candidate, Choice, Chosen};
use crate::document::Document;
use crate::facts::{Facts, Trigger, short};
use crate::fill::Filler;
use crate::filled;
use crate::folder::Folder;
use crate::permission::{self, Permit};
use crate::place::Places;
use crate::placeholder::Placeholders;
use crate::provenance;
use crate::remote::{self, Fetched, Library};
use crate::resolution::{self, Objects};
use crate::run::{self, Made};
use crate::settings::Settings;
use crate::tell::{self, Report};
use crate::variables::Variables;
use crate::world::{RunFilter, World};

/// Most runs that are looked at; more has no commit.
const MOST_RUNS: u32 = 500;

/// What every part of a decision looks at.
#[derive(Clone, Copy)]
pub(crate) struct Scene<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) world: &'a dyn World,
    pub(crate) facts: &'a Facts<'a>,
}

impl Scene<'_> {
    /// The runs of this commit, newest first: of the merge request where there is one.
    pub(crate) fn runs(&self) -> Result<Vec<Run>, LookupError> {
        let filter = RunFilter {
            commit: Some(self.facts.commit.to_owned()),
            merge_request: self.facts.merge_request.map(|it| it.iid),
            ref_name: None,
            pipeline: None,
        };
        let mut runs = self.world.runs(&filter, MOST_RUNS)?;
        // A filter without a merge request asks for all: what a merge request started at this commit is its own.
        runs.retain(|run| run.merge_request == filter.merge_request);
        Ok(runs)
    }
}

/// Adds to the plan what a choice of the folder's runs comes to.
///
/// # Errors
/// The host does not give what is needed.
pub(crate) fn start(scene: Scene<'_>, choice: &Choice, plan: Plan) -> Result<Plan, PluginError> {
    let Scene {
        settings,
        world,
        facts,
    } = scene;
    let mut plan = plan;
    let permit = permission::check(scene, choice);
    if let Permit::No(why) = permit {
        return Ok(plan.reason(why));
    }
    let source = provenance::source(settings.provenance, facts);
    let files = match world.folder(&source, &settings.folder) {
        Ok(files) => files,
        Err(LookupError::NotFound) => {
            let plan = plan.reason(format!("there is no folder `{}`", settings.folder));
            return Ok(tell::nothing(scene, plan));
        }
        Err(error) => return Err(PluginError::lookup(&settings.folder, &error)),
    };
    let mut placeholders = Placeholders::default();
    let mut folder = Folder::read(files, &mut placeholders);
    for why in folder.left_out.drain(..) {
        plan = plan.reason(why);
    }
    let evaluator = Evaluator::new(facts, world)?;
    let variables = Variables::new(facts, &evaluator, &settings.params);
    let mut report = Report::new(&scene, choice);
    report.problems.append(&mut folder.problems);
    report.problems.extend(variables.problems.iter().cloned());
    let runs = std::mem::take(&mut folder.runs);
    let places = Places::new(world);
    let known = candidates(&runs, &placeholders, &variables, &mut report.problems);
    let existing = if choice.needs_runs() || facts.merge_request.is_some() {
        match scene.runs() {
            Ok(runs) => report.with_refused(runs),
            Err(error) if choice.needs_runs() => return Err(PluginError::lookup("runs", &error)),
            Err(error) => {
                plan = plan.reason(format!("the comment has no table: {}", error.describe()));
                Vec::new()
            }
        }
    } else {
        Vec::new()
    };
    let mut chosen = choice::choose(choice, known, facts, &evaluator, &existing);
    for why in chosen.reasons.drain(..) {
        plan = plan.reason(why);
    }
    report.problems.append(&mut chosen.problems);
    report.notes.append(&mut chosen.notes);
    report.existing = existing;
    if let Some(why) = skipped(scene, &chosen)? {
        return Ok(plan.reason(why));
    }
    if choice.comment && chosen.candidates.is_empty() {
        // People talk: what is said of the commit is not said again for each word.
        return Ok(plan);
    }
    if let Permit::Waits(why) = permit {
        plan = plan.reason(why.clone());
        if choice.only_new && chosen.candidates.is_empty() && !facts.is_fork() {
            // Nothing new is asked for: what is said of the commit still holds.
            return Ok(plan);
        }
        report.waits(why);
        return Ok(tell::tell(scene, report, plan));
    }
    if facts.is_fork() && !chosen.candidates.is_empty() && !places.any_allowed() {
        let why = "no place of this tenant takes runs of forks, so nothing is started";
        plan = plan.reason(why);
        report.waits(why.to_owned());
        return Ok(tell::tell(scene, report, plan));
    }
    let workshop = Workshop {
        scene,
        folder: &folder,
        variables: &variables,
        places: &places,
    };
    let made = workshop.make_all(&chosen, &mut placeholders);
    for (candidate, made) in chosen.candidates.iter().zip(made) {
        match made {
            Ok(made) => {
                plan = add(plan, candidate, made, &mut report);
            }
            Err(problems) => {
                plan = plan.reason(format!(
                    "`{}` is not started: it has to be mended",
                    candidate.name
                ));
                report.add_problems(problems);
            }
        }
    }
    Ok(tell::tell(scene, report, plan))
}

fn add(plan: Plan, candidate: &Candidate<'_>, made: Made, report: &mut Report) -> Plan {
    let mut plan = plan;
    let pipeline = made.start.pipeline.clone();
    if let Some(cancel) = made.cancel {
        plan = plan.cancel_runs(format!("cancel/{pipeline}"), cancel);
    }
    plan = plan.reason(format!("`{}` runs: {}", candidate.name, candidate.why));
    plan = plan.start_run(format!("run/{pipeline}"), made.start);
    for warning in made.warnings {
        report.warn(&warning);
        plan = plan.warning(warning);
    }
    report.notes.extend(made.notes);
    report.started.push(pipeline);
    plan
}

/// The folder's PipelineRuns by their names, in the order of these. Two of one name are none.
fn candidates<'d>(
    runs: &'d [Document],
    placeholders: &Placeholders,
    variables: &Variables<'_>,
    problems: &mut Vec<Problem>,
) -> Vec<Candidate<'d>> {
    let namespace = || Err("what is known before the place can't depend on it".to_owned());
    let mut filler = Filler::new(placeholders, variables, &namespace);
    let mut named: BTreeMap<String, Vec<&Document>> = BTreeMap::new();
    for document in runs {
        match run::name(document, &mut filler) {
            Some(name) => named.entry(name).or_default().push(document),
            None => problems.push(document.problem(
                &["metadata"],
                "the PipelineRun has neither `metadata.name` nor `metadata.generateName`",
            )),
        }
    }
    problems.append(&mut filler.problems);
    let mut candidates = Vec::new();
    for (name, documents) in named {
        match documents.as_slice() {
            [document] => {
                let mut filler = Filler::new(placeholders, variables, &namespace);
                let annotations = filled::fill(document, &mut filler);
                candidates.push(Candidate::new(name, document, annotations));
            }
            several => {
                let files: Vec<String> =
                    several.iter().map(|it| format!("`{}`", it.file)).collect();
                let message = format!(
                    "{} PipelineRuns are called `{name}` ({}), so none of them runs: give each its own name",
                    several.len(),
                    files.join(", ")
                );
                problems.extend(
                    several
                        .last()
                        .map(|it| it.problem(&["metadata", "name"], message)),
                );
            }
        }
    }
    candidates
}

/// Why a push starts nothing: it belongs to a merge request, whose own event does.
fn skipped(scene: Scene<'_>, chosen: &Chosen<'_>) -> Result<Option<String>, PluginError> {
    let facts = scene.facts;
    let is_push = matches!(facts.event.kind, EventKind::Push(_) | EventKind::Sweep(_));
    let on_branch = facts.trigger == Trigger::Push && facts.tag().is_none();
    if scene.settings.push_with_merge_request
        || !is_push
        || !on_branch
        || chosen.candidates.is_empty()
    {
        return Ok(None);
    }
    let branch = short(&facts.source_ref);
    match scene.world.open_merge_requests(branch) {
        Ok(open) => Ok(open.first().map(|it| {
            format!(
                "the push belongs to merge request !{}, whose event starts its runs",
                it.iid
            )
        })),
        Err(error) => Err(PluginError::lookup("open merge requests", &error)),
    }
}

/// Makes runs of what was chosen.
struct Workshop<'a> {
    scene: Scene<'a>,
    folder: &'a Folder,
    variables: &'a Variables<'a>,
    places: &'a Places<'a>,
}

type Outcome<T> = Result<T, Vec<Problem>>;

impl Workshop<'_> {
    /// All of them; what annotations name is asked for in two rounds at most: what the
    /// runs name, then what remote pipelines name.
    fn make_all(&self, chosen: &Chosen<'_>, placeholders: &mut Placeholders) -> Vec<Outcome<Made>> {
        let mut library = Library::default();
        let documents: Vec<&Document> = chosen.candidates.iter().map(|it| it.document).collect();
        let none = vec![None; documents.len()];
        let of_runs = self.round(&documents, &none, &mut library, placeholders);
        let pipelines: Vec<Option<&Document>> = documents
            .iter()
            .zip(&of_runs)
            .map(|(document, fetched)| {
                let fetched = fetched.as_ref().ok()?;
                let name = document.text_at("/spec/pipelineRef/name");
                fetched
                    .pipeline
                    .as_ref()
                    .or_else(|| self.folder.pipelines.get(name))
            })
            .collect();
        let beside: Vec<Option<provenance::Target>> = of_runs
            .iter()
            .map(|it| it.as_ref().ok().and_then(|it| it.pipeline_at.clone()))
            .collect();
        let with_tasks: Vec<usize> = (0..documents.len())
            .filter(|at| pipelines.get(*at).is_some_and(Option::is_some))
            .collect();
        let second: Vec<&Document> = with_tasks
            .iter()
            .filter_map(|at| *pipelines.get(*at)?)
            .collect();
        let second_beside: Vec<_> = with_tasks
            .iter()
            .filter_map(|at| beside.get(*at).cloned())
            .collect();
        let found = self.round(&second, &second_beside, &mut library, placeholders);
        let mut of_pipelines: BTreeMap<usize, Outcome<Fetched>> =
            with_tasks.into_iter().zip(found).collect();
        let mut made = Vec::new();
        for (at, candidate) in chosen.candidates.iter().enumerate() {
            let of_pipeline = of_pipelines
                .remove(&at)
                .unwrap_or_else(|| Ok(Fetched::default()));
            let of_run = of_runs.get(at).map(|it| it.as_ref().map_err(Clone::clone));
            made.push(match (of_run, of_pipeline) {
                (Some(Ok(of_run)), Ok(of_pipeline)) => {
                    self.make(candidate, of_run, &of_pipeline, placeholders)
                }
                (Some(Err(problems)), _) | (_, Err(problems)) => Err(problems),
                (None, Ok(_)) => Err(Vec::new()),
            });
        }
        made
    }

    /// Gets what the annotations of these objects name.
    fn round(
        &self,
        documents: &[&Document],
        beside: &[Option<provenance::Target>],
        library: &mut Library,
        placeholders: &mut Placeholders,
    ) -> Vec<Outcome<Fetched>> {
        let Scene {
            settings,
            world,
            facts,
        } = self.scene;
        let namespace = || self.places.namespace();
        let mut filler = Filler::new(placeholders, self.variables, &namespace);
        let wanted: Vec<Outcome<Vec<remote::Wanted>>> = documents
            .iter()
            .zip(beside)
            .map(|(document, beside)| {
                let found =
                    remote::wanted(document, beside.as_ref(), settings, facts, &mut filler)?;
                let problems = std::mem::take(&mut filler.problems);
                if problems.is_empty() {
                    Ok(found)
                } else {
                    Err(problems)
                }
            })
            .collect();
        let all: Vec<remote::Wanted> = wanted.iter().flatten().flatten().cloned().collect();
        let own = provenance::source(settings.provenance, facts);
        library.read(&all, self.folder, &own, settings, world);
        documents
            .iter()
            .zip(wanted)
            .map(|(document, wanted)| library.objects(document, &wanted?, placeholders))
            .collect()
    }

    fn make(
        &self,
        candidate: &Candidate<'_>,
        of_run: &Fetched,
        of_pipeline: &Fetched,
        placeholders: &Placeholders,
    ) -> Outcome<Made> {
        let Scene {
            settings, facts, ..
        } = self.scene;
        let objects = Objects {
            folder: self.folder,
            of_run,
            of_pipeline,
        };
        let resolved = resolution::resolve(candidate.document, &objects)?;
        let namespace = || self.places.namespace();
        let mut filler = Filler::new(placeholders, self.variables, &namespace);
        let mut made = run::make(
            candidate,
            resolved,
            settings,
            facts,
            self.places,
            &mut filler,
        )?;
        for (name, why) in annotations::unknown(&candidate.document.value) {
            made.warnings
                .push(candidate.document.problem(&[&name], why));
        }
        Ok(made)
    }
}

/// Whether a run can't be used as a result: it failed, or was ended.
pub(crate) const fn is_failed(state: RunState) -> bool {
    matches!(
        state,
        RunState::Failed | RunState::Canceled | RunState::Refused | RunState::Gone
    )
}
