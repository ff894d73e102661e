//! How many bytes a lookup, an answer or an event is: the lengths of its texts and contents, and a few bytes for whatever else it holds.
//!
//! Cheap on purpose, for it is done in every call; where a limit is about an encoding, the encoding is counted when this comes near it.

use penstock_model::effect::Problem;
use penstock_model::event::{Event, EventKind, MergeRequest, NoteTarget};
use penstock_model::lookup::{
    Answer, Changes, CommitInfo, File, Lookup, LookupError, MergeRequestApproval, PlaceView,
    RunFilter, Source,
};
use penstock_model::run::Run;
use penstock_model::scope::{Actor, Author, Project, Scope};

/// Bytes that an item weighs besides its texts.
const ITEM: u64 = 8;

/// Knows its size.
pub(crate) trait Weigh {
    /// Bytes.
    fn weigh(&self) -> u64;
}

fn len(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

fn sum(parts: &[&dyn Weigh]) -> u64 {
    parts
        .iter()
        .fold(ITEM, |sum, part| sum.saturating_add(part.weigh()))
}

impl Weigh for str {
    fn weigh(&self) -> u64 {
        len(self.len())
    }
}

impl Weigh for String {
    fn weigh(&self) -> u64 {
        len(self.len())
    }
}

impl<T: Weigh> Weigh for Option<T> {
    fn weigh(&self) -> u64 {
        self.as_ref().map_or(0, Weigh::weigh)
    }
}

impl<T: Weigh> Weigh for [T] {
    fn weigh(&self) -> u64 {
        self.iter()
            .fold(0, |sum: u64, it| sum.saturating_add(ITEM + it.weigh()))
    }
}

impl<T: Weigh> Weigh for Vec<T> {
    fn weigh(&self) -> u64 {
        self.as_slice().weigh()
    }
}

impl<T: Weigh> Weigh for Box<T> {
    fn weigh(&self) -> u64 {
        self.as_ref().weigh()
    }
}

impl<A: Weigh, B: Weigh> Weigh for (A, B) {
    fn weigh(&self) -> u64 {
        self.0.weigh().saturating_add(self.1.weigh())
    }
}

impl<T: Weigh, E: Weigh> Weigh for Result<T, E> {
    fn weigh(&self) -> u64 {
        match self {
            Ok(it) => it.weigh(),
            Err(error) => error.weigh(),
        }
    }
}

impl Weigh for LookupError {
    fn weigh(&self) -> u64 {
        match self {
            Self::Denied(text) | Self::Invalid(text) => text.weigh(),
            Self::NotFound | Self::TooLarge(_) => ITEM,
        }
    }
}

impl Weigh for Source {
    fn weigh(&self) -> u64 {
        match self {
            Self::Event | Self::TargetBranch | Self::DefaultBranch => ITEM,
            Self::Commit(id) => id.as_str().weigh(),
            Self::Ref(name) => name.as_str().weigh(),
            Self::Elsewhere { project, revision } => sum(&[project, revision]),
        }
    }
}

impl Weigh for RunFilter {
    fn weigh(&self) -> u64 {
        let commit = self.commit.as_ref().map_or(0, |it| it.as_str().weigh());
        let name = self.ref_name.as_ref().map_or(0, |it| it.as_str().weigh());
        commit + name + self.pipeline.weigh() + ITEM
    }
}

impl Weigh for Lookup {
    fn weigh(&self) -> u64 {
        match self {
            Self::Payload
            | Self::Headers
            | Self::ChangedPaths
            | Self::Places
            | Self::FindMergeRequest(_)
            | Self::MergeRequestApprovals(_)
            | Self::Access(_) => ITEM,
            Self::FindCommit(id) => id.as_str().weigh(),
            Self::Folder { source, path } => sum(&[source, path]),
            Self::Files { source, paths } => sum(&[source, paths]),
            Self::Resolve(source) => source.weigh(),
            Self::Runs { filter, .. } => filter.weigh(),
            Self::PayloadAt(text)
            | Self::OpenMergeRequests(text)
            | Self::FindUser(text)
            | Self::GroupAccess { group: text, .. }
            | Self::History { pipeline: text, .. }
            | Self::Fetch(text)
            | Self::StateGet(text)
            | Self::StatePut(text)
            | Self::StateDelete(text)
            | Self::StateKeys { prefix: text, .. } => text.weigh(),
        }
    }
}

impl Weigh for File {
    fn weigh(&self) -> u64 {
        sum(&[&self.path, &self.blob]).saturating_add(len(self.content.0.len()))
    }
}

impl Weigh for Actor {
    fn weigh(&self) -> u64 {
        3 * ITEM + self.username.weigh()
    }
}

impl Weigh for Author {
    fn weigh(&self) -> u64 {
        sum(&[&self.name, &self.email, &self.user])
    }
}

impl Weigh for CommitInfo {
    fn weigh(&self) -> u64 {
        sum(&[&self.message, &self.author, &self.committer, &self.web_url])
            .saturating_add(self.id.as_str().weigh())
    }
}

impl Weigh for Changes {
    fn weigh(&self) -> u64 {
        sum(&[&self.added, &self.modified, &self.deleted, &self.renamed])
    }
}

impl Weigh for MergeRequest {
    fn weigh(&self) -> u64 {
        let texts: [&dyn Weigh; 6] = [
            &self.title,
            &self.state,
            &self.source_branch,
            &self.target_branch,
            &self.labels,
            &self.web_url,
        ];
        4 * ITEM + sum(&texts) + self.head.as_str().weigh()
    }
}

impl Weigh for MergeRequestApproval {
    fn weigh(&self) -> u64 {
        ITEM + self.by.weigh()
    }
}

impl Weigh for PlaceView {
    fn weigh(&self) -> u64 {
        sum(&[&self.name, &self.cluster, &self.namespace])
    }
}

impl Weigh for Run {
    fn weigh(&self) -> u64 {
        let texts: [&dyn Weigh; 5] = [
            &self.id,
            &self.pipeline,
            &self.reason,
            &self.web_url,
            &self.results,
        ];
        let names = [
            self.plugin.as_str(),
            self.key.as_str(),
            self.place.as_str(),
            self.ref_name.as_ref().map_or("", |it| it.as_str()),
            self.commit.as_str(),
        ];
        6 * ITEM + sum(&texts) + names.iter().map(|it| it.weigh()).sum::<u64>()
    }
}

impl Weigh for Problem {
    fn weigh(&self) -> u64 {
        2 * ITEM + sum(&[&self.path, &self.message])
    }
}

impl Weigh for Answer {
    fn weigh(&self) -> u64 {
        match self {
            Self::Text(text) => text.weigh(),
            Self::Part(part) => part.weigh(),
            Self::Headers(pairs) => pairs.weigh(),
            Self::Folder(files) => files.weigh(),
            Self::Files(files) => files.weigh(),
            Self::CommitId(id) => id.as_str().weigh(),
            Self::Commit(it) => it.weigh(),
            Self::Changes(it) => it.weigh(),
            Self::MergeRequest(it) => it.weigh(),
            Self::MergeRequests(them) => them.weigh(),
            Self::Approvals(them) => them.weigh(),
            Self::User(it) => it.weigh(),
            Self::Access(_) | Self::Summary(_) => ITEM,
            Self::Places(them) => them.weigh(),
            Self::Runs(them) => them.weigh(),
            Self::Fetched { content, .. } => 72_u64.saturating_add(len(content.0.len())),
            Self::State(value) => value.as_ref().map_or(ITEM, |it| len(it.value.0.len())),
            Self::Keys(keys) => keys.weigh(),
        }
    }
}

impl Weigh for Project {
    fn weigh(&self) -> u64 {
        sum(&[&self.default_branch, &self.web_url, &self.visibility]) + self.path.as_str().weigh()
    }
}

impl Weigh for Event {
    fn weigh(&self) -> u64 {
        let scope = match &self.scope {
            Scope::Project(project) => project.weigh(),
            Scope::Group(group) => sum(&[&group.path, &group.web_url]),
            Scope::Instance => ITEM,
        };
        let names = [
            self.delivery.as_str(),
            self.instance.as_str(),
            self.tenant.as_str(),
            self.ref_name.as_ref().map_or("", |it| it.as_str()),
            self.commit.as_ref().map_or("", |it| it.as_str()),
        ];
        let rest = sum(&[
            &self.instance_url,
            &self.actor,
            &self.provenance.source_project,
            &self.kind,
        ]);
        scope + rest + names.iter().map(|it| it.weigh()).sum::<u64>()
    }
}

impl Weigh for EventKind {
    fn weigh(&self) -> u64 {
        match self {
            Self::Push(push) => push.commits.iter().fold(200, |sum_, commit| {
                let texts: [&dyn Weigh; 7] = [
                    &commit.title,
                    &commit.message,
                    &commit.author_name,
                    &commit.author_email,
                    &commit.added,
                    &commit.modified,
                    &commit.removed,
                ];
                sum_ + sum(&texts) + commit.id.as_str().weigh()
            }),
            Self::TagPush(tag) => {
                sum(&[&tag.before, &tag.after, &tag.message]) + tag.ref_name.as_str().weigh()
            }
            Self::MergeRequest(event) => {
                sum(&[&event.merge_request, &event.action, &event.changed]) + 80
            }
            Self::Note(note) => {
                let target: &dyn Weigh = match &note.target {
                    NoteTarget::MergeRequest(it) => it,
                    NoteTarget::Commit(_) => &(),
                    NoteTarget::Other(text) => text,
                };
                sum(&[&note.text, target])
            }
            Self::Pipeline(it) => sum(&[&it.git_ref, &it.status, &it.source]),
            Self::Deployment(it) => {
                sum(&[&it.status, &it.environment, &it.tier, &it.git_ref, &it.sha])
            }
            Self::Release(it) => sum(&[&it.tag, &it.name, &it.action]),
            Self::TokenExpiring(it) => sum(&[&it.name, &it.owner, &it.expires_at]),
            Self::Sweep(it) => sum(&[&it.merge_request]) + it.ref_name.as_str().weigh() + 160,
            Self::Request(it) => {
                sum(&[&it.name, &it.parameters, &it.source]) + it.ref_name.as_str().weigh()
            }
            Self::RunFinished(it) => {
                it.run.weigh() + it.failed_task.weigh() + it.log_excerpt.weigh()
            }
            Self::Other(word) => word.weigh(),
        }
    }
}

/// What weighs nothing but itself.
impl Weigh for () {
    fn weigh(&self) -> u64 {
        64
    }
}
