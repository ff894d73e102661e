//! The folder: every Tekton object in it, and what is wrong with its files.

use std::collections::BTreeMap;

use penstock_sdk::Problem;

use crate::document::{self, Document};
use crate::placeholder::Placeholders;
use crate::v1beta1;
use crate::world::File;

/// What the folder holds.
#[derive(Debug, Default)]
pub(crate) struct Folder {
    pub(crate) runs: Vec<Document>,
    pub(crate) pipelines: BTreeMap<String, Document>,
    pub(crate) tasks: BTreeMap<String, Document>,
    pub(crate) problems: Vec<Problem>,
    /// Objects that are no part of a run.
    pub(crate) left_out: Vec<String>,
    /// All its files by their paths, read or not: what a reference may name without another call.
    pub(crate) files: BTreeMap<String, String>,
}

impl Folder {
    /// Reads the folder's files.
    pub(crate) fn read(files: Vec<File>, placeholders: &mut Placeholders) -> Self {
        let mut folder = Self::default();
        for file in files {
            let is_yaml = file.path.ends_with(".yaml") || file.path.ends_with(".yml");
            if !is_yaml {
                continue;
            }
            match String::from_utf8(file.content) {
                Ok(text) => {
                    folder.add(&file.path, &text, placeholders);
                    folder.files.insert(file.path, text);
                }
                Err(error) => folder.problems.push(Problem::new(
                    &file.path,
                    format!("is not UTF-8: {}", error.utf8_error()),
                )),
            }
        }
        folder
    }

    fn add(&mut self, path: &str, text: &str, placeholders: &mut Placeholders) {
        let (documents, mut problems) = read(path, text, placeholders);
        self.problems.append(&mut problems);
        for document in documents {
            match document.kind() {
                "PipelineRun" => self.runs.push(document),
                "Pipeline" => keep(&mut self.pipelines, document, &mut self.problems),
                "Task" => keep(&mut self.tasks, document, &mut self.problems),
                "" => self
                    .problems
                    .push(document.problem(&[], "the document has no `kind`")),
                kind => self
                    .left_out
                    .push(format!("`{kind}` in `{path}` is no part of a run")),
            }
        }
    }
}

/// Reads a file's documents; Tekton's are those of `v1`.
pub(crate) fn read(
    path: &str,
    text: &str,
    placeholders: &mut Placeholders,
) -> (Vec<Document>, Vec<Problem>) {
    let (documents, mut problems) = document::read(path, text, placeholders);
    let mut kept = Vec::new();
    for mut document in documents {
        if !document.value.is_object() {
            problems.push(document.problem(&[], "the document is no object of Kubernetes"));
            continue;
        }
        let ours = matches!(document.kind(), "PipelineRun" | "Pipeline" | "Task");
        let version = document.text_at("/apiVersion").to_owned();
        if ours && !matches!(version.as_str(), "tekton.dev/v1" | "tekton.dev/v1beta1") {
            problems.push(document.problem(
                &["apiVersion"],
                format!("`apiVersion` must be `tekton.dev/v1`, and is `{version}`"),
            ));
            continue;
        }
        let mut value = std::mem::take(&mut document.value);
        let gone = v1beta1::upgrade(&mut value);
        document.value = value;
        let place = |why: String| document.problem(&["resources"], why);
        problems.extend(gone.into_iter().map(place));
        kept.push(document);
    }
    (kept, problems)
}

fn keep(objects: &mut BTreeMap<String, Document>, document: Document, problems: &mut Vec<Problem>) {
    let name = document.name().to_owned();
    if name.is_empty() {
        problems.push(document.problem(
            &["metadata"],
            format!("the {} has no `metadata.name`", document.kind()),
        ));
        return;
    }
    if let Some(first) = objects.get(&name) {
        let message = format!(
            "a {} `{name}` stands in `{}` already: rename one of them",
            document.kind(),
            first.file
        );
        problems.push(document.problem(&["metadata", "name", &name], message));
        return;
    }
    objects.insert(name, document);
}
