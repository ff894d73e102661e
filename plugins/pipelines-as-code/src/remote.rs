//! Gets what annotations name: by path, by address, from a catalog.
//!
//! All files of one place are asked for in one question, and each only once for an event.

use std::collections::BTreeMap;

use penstock_sdk::{LookupError, Problem};
use serde_json::Value;

use crate::annotations;
use crate::document::Document;
use crate::facts::Facts;
use crate::fill::Filler;
use crate::folder::{self, Folder};
use crate::placeholder::Placeholders;
use crate::provenance::{self, Target};
use crate::settings::Settings;
use crate::world::World;

/// Tasks by name and the pipeline, as the annotations of one object named them.
#[derive(Debug, Default)]
pub(crate) struct Fetched {
    pub(crate) tasks: BTreeMap<String, Document>,
    pub(crate) pipeline: Option<Document>,
    /// Where the pipeline came from.
    pub(crate) pipeline_at: Option<Target>,
}

/// A reference with the place where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    kind: &'static str,
    pub(crate) target: Target,
    reference: String,
    annotation: String,
}

/// Texts that were read, by what named them.
#[derive(Debug, Default)]
pub(crate) struct Library(Vec<(Target, Result<String, String>)>);

/// What the annotations of an object name; those of a pipeline name tasks alone.
/// `beside` is where a remote pipeline stands.
///
/// # Errors
/// References that are not followed.
pub(crate) fn wanted(
    document: &Document,
    beside: Option<&Target>,
    settings: &Settings,
    facts: &Facts<'_>,
    filler: &mut Filler<'_>,
) -> Result<Vec<Wanted>, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut references: Vec<(&'static str, String, String)> = Vec::new();
    match annotations::tasks(&document.value) {
        Ok(tasks) => references.extend(tasks.into_iter().map(|(name, it)| ("task", name, it))),
        Err((name, why)) => problems.push(document.problem(&[&name], format!("`{name}`: {why}"))),
    }
    if let Some(text) =
        annotations::value(&document.value, "pipeline").filter(|_| document.kind() == "PipelineRun")
    {
        match annotations::list(&text).as_deref() {
            Ok([one]) => references.push(("pipeline", "pipeline".to_owned(), one.clone())),
            Ok(_) => problems.push(
                document.problem(&["pipeline"], "`pipeline` names one pipeline, not several"),
            ),
            Err(why) => {
                problems.push(document.problem(&["pipeline"], format!("`pipeline`: {why}")))
            }
        }
    }
    let mut wanted = Vec::new();
    for (kind, annotation, reference) in references {
        let reference = filler.text(&reference);
        match provenance::target(&reference, beside, settings.provenance, facts) {
            Ok(target) => wanted.push(Wanted {
                kind,
                target,
                reference,
                annotation,
            }),
            Err(why) => problems.push(document.problem(
                &[&annotation, &reference],
                format!("`{reference}` is not read: {why}"),
            )),
        }
    }
    if problems.is_empty() {
        Ok(wanted)
    } else {
        Err(problems)
    }
}

impl Library {
    /// Reads what is not here yet: one question for each place of GitLab.
    pub(crate) fn read(
        &mut self,
        wanted: &[Wanted],
        folder: &Folder,
        own: &crate::world::Source,
        settings: &Settings,
        world: &dyn World,
    ) {
        let mut of_gitlab: Vec<(crate::world::Source, Vec<String>)> = Vec::new();
        for it in wanted {
            if self.get(&it.target).is_some() {
                continue;
            }
            match &it.target {
                Target::File(source, path) => {
                    if source == own
                        && let Some(text) = folder.files.get(path)
                    {
                        self.0.push((it.target.clone(), Ok(text.clone())));
                        continue;
                    }
                    match of_gitlab.iter_mut().find(|(known, _)| known == source) {
                        Some((_, paths)) if paths.contains(path) => {}
                        Some((_, paths)) => paths.push(path.clone()),
                        None => of_gitlab.push((source.clone(), vec![path.clone()])),
                    }
                }
                Target::Web(url) => {
                    let text = text_of(world.fetch(url));
                    self.0.push((it.target.clone(), text));
                }
                Target::Hub { hub, name, version } => {
                    let text = from_hub(
                        hub.as_deref(),
                        it.kind,
                        name,
                        version.as_deref(),
                        settings,
                        world,
                    );
                    self.0.push((it.target.clone(), text));
                }
            }
        }
        for (source, paths) in of_gitlab {
            let answers = match world.files(&source, &paths) {
                Ok(answers) => answers
                    .into_iter()
                    .map(|it| text_of(it.map(|file| file.content)))
                    .collect(),
                Err(error) => vec![Err(error.describe()); paths.len()],
            };
            for (path, answer) in paths.into_iter().zip(answers) {
                self.0.push((Target::File(source.clone(), path), answer));
            }
        }
    }

    fn get(&self, target: &Target) -> Option<&Result<String, String>> {
        self.0
            .iter()
            .find(|(known, _)| known == target)
            .map(|(_, text)| text)
    }

    /// The objects that an object's annotations named.
    ///
    /// # Errors
    /// What could not be read, at the annotation; or what is wrong in a remote file.
    pub(crate) fn objects(
        &self,
        document: &Document,
        wanted: &[Wanted],
        placeholders: &mut Placeholders,
    ) -> Result<Fetched, Vec<Problem>> {
        let mut fetched = Fetched::default();
        let mut problems = Vec::new();
        for it in wanted {
            let at = |message: String| document.problem(&[&it.annotation, &it.reference], message);
            let text = match self.get(&it.target) {
                Some(Ok(text)) => text,
                Some(Err(why)) => {
                    problems.push(at(format!(
                        "the {} `{}` can't be read: {why}",
                        it.kind, it.reference
                    )));
                    continue;
                }
                None => continue,
            };
            let (documents, mut wrong) = folder::read(&it.reference, text, placeholders);
            if !wrong.is_empty() {
                problems.append(&mut wrong);
                continue;
            }
            let kind = if it.kind == "task" {
                "Task"
            } else {
                "Pipeline"
            };
            let mut found = documents
                .into_iter()
                .filter(|it| it.kind() == kind)
                .peekable();
            if found.peek().is_none() {
                problems.push(at(format!("`{}` holds no {kind}", it.reference)));
            }
            for object in found {
                if kind == "Task" {
                    fetched
                        .tasks
                        .entry(object.name().to_owned())
                        .or_insert(object);
                } else {
                    fetched.pipeline_at = Some(it.target.clone());
                    fetched.pipeline.get_or_insert(object);
                }
            }
        }
        if problems.is_empty() {
            Ok(fetched)
        } else {
            Err(problems)
        }
    }
}

fn text_of(content: Result<Vec<u8>, LookupError>) -> Result<String, String> {
    let content = content.map_err(|error| error.describe())?;
    String::from_utf8(content).map_err(|_| "it is not UTF-8".to_owned())
}

fn from_hub(
    hub: Option<&str>,
    kind: &str,
    name: &str,
    version: Option<&str>,
    settings: &Settings,
    world: &dyn World,
) -> Result<String, String> {
    let hub = hub.unwrap_or(crate::settings::DEFAULT_HUB);
    let catalog = settings.hubs.get(hub).ok_or_else(|| {
        format!(
            "there is no hub `{hub}`: the settings name {}",
            known(settings)
        )
    })?;
    let plain = |it: &str| {
        !it.is_empty()
            && it
                .chars()
                .all(|it| it.is_ascii_alphanumeric() || "-_.".contains(it))
    };
    if !plain(name) || version.is_some_and(|it| !plain(it)) {
        return Err(
            "it is no name of a catalog, such as `git-clone` or `git-clone:0.9`".to_owned(),
        );
    }
    let url = catalog.address(kind, name, version);
    let text = text_of(world.fetch(&url)).map_err(|why| format!("{url}: {why}"))?;
    let Some(pointer) = &catalog.pointer else {
        return Ok(text);
    };
    let answer: Value =
        serde_json::from_str(&text).map_err(|_| format!("{url}: the answer is no JSON"))?;
    let yaml = answer.pointer(pointer).and_then(Value::as_str);
    yaml.map(str::to_owned)
        .ok_or_else(|| format!("{url}: the answer has nothing at `{pointer}`"))
}

fn known(settings: &Settings) -> String {
    let names: Vec<String> = settings.hubs.keys().map(|it| format!("`{it}`")).collect();
    names.join(", ")
}
