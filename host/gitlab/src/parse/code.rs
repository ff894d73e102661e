//! Events about code: pushes, tags, merge requests and comments.

use penstock_model::event::{
    Commit, EventKind, MergeRequest, MergeRequestEvent, Note, NoteTarget, Push, TagPush,
};
use penstock_model::id::{ProjectId, RefName, UserId};

use super::{ParseError, Read, Reader, claim, person, plain, time};
use crate::claims::full_ref;
use crate::payload;

impl Reader<'_> {
    pub(super) fn push(&self) -> Result<Read, ParseError> {
        let body: payload::Push = self.body()?;
        let ref_name =
            RefName::from(self.wanted("ref", body.git_ref.filter(|name| !name.is_empty()))?);
        let after = self.commit("after", body.after.as_deref())?;
        let commits = body.commits.unwrap_or_default();
        let listed = commits.len() as u64;
        let commits = commits
            .into_iter()
            .enumerate()
            .map(|(position, commit)| self.pushed(position, commit))
            .collect::<Result<_, _>>()?;
        let total = body.total_commits_count.unwrap_or(listed);
        Ok(Read {
            happened_at: None,
            kind: EventKind::Push(Push {
                ref_name: ref_name.clone(),
                before: self.commit("before", body.before.as_deref())?,
                after: after.clone(),
                commits,
                total_commits: u32::try_from(total).unwrap_or(u32::MAX),
            }),
            actor: claim(body.user_id, body.user_username),
            ref_name: Some(ref_name),
            revision: after.map(|id| id.to_string()),
            source_project: None,
        })
    }

    fn pushed(&self, position: usize, commit: payload::Commit) -> Result<Commit, ParseError> {
        let path = format!("commits[{position}].id");
        let id = self.commit(&path, commit.id.as_deref())?;
        let message = commit.message.unwrap_or_default();
        let author = commit.author.unwrap_or_default();
        let title = commit
            .title
            .unwrap_or_else(|| message.lines().next().unwrap_or_default().to_owned());
        Ok(Commit {
            id: self.wanted(&path, id)?,
            title,
            message,
            author_name: author.name.unwrap_or_default(),
            author_email: author.email.unwrap_or_default(),
            added: commit.added.unwrap_or_default(),
            modified: commit.modified.unwrap_or_default(),
            removed: commit.removed.unwrap_or_default(),
        })
    }

    pub(super) fn tag_push(&self) -> Result<Read, ParseError> {
        let body: payload::Push = self.body()?;
        let ref_name =
            RefName::from(self.wanted("ref", body.git_ref.filter(|name| !name.is_empty()))?);
        let before = self.commit("before", body.before.as_deref())?;
        let after = self.commit("after", body.after.as_deref())?;
        let checkout = self.commit("checkout_sha", body.checkout_sha.as_deref())?;
        let revision = after
            .as_ref()
            .map(|after| checkout.as_ref().unwrap_or(after).to_string());
        Ok(Read {
            happened_at: None,
            kind: EventKind::TagPush(TagPush {
                ref_name: ref_name.clone(),
                before: before.map(|id| id.to_string()),
                after: after.map(|id| id.to_string()),
                message: body.message.filter(|message| !message.is_empty()),
            }),
            actor: claim(body.user_id, body.user_username),
            ref_name: Some(ref_name),
            revision,
            source_project: None,
        })
    }

    /// None: the merge request has no commit yet, and so nothing to decide about.
    fn read_merge_request(
        &self,
        at: &str,
        found: &payload::MergeRequest,
        labels: Option<Vec<payload::Label>>,
    ) -> Result<Option<MergeRequest>, ParseError> {
        let path = |field: &str| format!("{at}.{field}");
        let last = found
            .last_commit
            .as_ref()
            .and_then(|commit| commit.id.as_deref());
        let Some(head) = self.commit(&path("last_commit.id"), last)? else {
            return Ok(None);
        };
        let labels = labels
            .unwrap_or_default()
            .into_iter()
            .filter_map(|label| label.title);
        Ok(Some(MergeRequest {
            iid: self.wanted(&path("iid"), found.iid)?,
            title: found.title.clone().unwrap_or_default(),
            state: found.state.clone().unwrap_or_default(),
            draft: found.draft.or(found.work_in_progress).unwrap_or(false),
            source_project: found.source_project_id.map(ProjectId),
            source_branch: self.wanted(&path("source_branch"), found.source_branch.clone())?,
            target_branch: self.wanted(&path("target_branch"), found.target_branch.clone())?,
            head,
            author: UserId(self.wanted(&path("author_id"), found.author_id)?),
            labels: labels.collect(),
            web_url: found.url.clone().unwrap_or_default(),
        }))
    }

    pub(super) fn merge_request(&self) -> Result<Read, ParseError> {
        let body: payload::MergeRequestEvent = self.body()?;
        let mut found = self.wanted("object_attributes", body.object_attributes)?;
        let labels = found.labels.take().or(body.labels);
        let old_head = self.commit("object_attributes.oldrev", found.oldrev.as_deref())?;
        let actor = person(body.user);
        let Some(merge_request) = self.read_merge_request("object_attributes", &found, labels)?
        else {
            return Ok(plain("merge_request", actor));
        };
        let read = about(&merge_request);
        Ok(Read {
            kind: EventKind::MergeRequest(MergeRequestEvent {
                merge_request,
                action: found.action.unwrap_or_default(),
                old_head,
                changed: body.changes.unwrap_or_default().into_keys().collect(),
                system: found.system.unwrap_or(false),
            }),
            actor,
            ..read
        })
    }

    pub(super) fn note(&self) -> Result<Read, ParseError> {
        let body: payload::Note = self.body()?;
        let attributes = self.wanted("object_attributes", body.object_attributes)?;
        let actor = person(body.user);
        let mut read = plain("note", None);
        let target = match attributes.noteable_type.as_deref() {
            Some("MergeRequest") => {
                let mut found = self.wanted("merge_request", body.merge_request)?;
                let labels = found.labels.take();
                match self.read_merge_request("merge_request", &found, labels)? {
                    Some(merge_request) => {
                        read = about(&merge_request);
                        NoteTarget::MergeRequest(merge_request)
                    }
                    None => NoteTarget::Other("MergeRequest".to_owned()),
                }
            }
            Some("Commit") => {
                let id = body
                    .commit
                    .and_then(|commit| commit.id)
                    .or(attributes.commit_id);
                let id = self.commit("commit.id", id.as_deref())?;
                let id = self.wanted("commit.id", id)?;
                read.revision = Some(id.to_string());
                NoteTarget::Commit(id)
            }
            other => NoteTarget::Other(other.unwrap_or_default().to_owned()),
        };
        // Older releases do not say what was done: a note that was never edited still has both times alike.
        let created = match attributes.action.as_deref() {
            Some(action) => action == "create",
            None => attributes.created_at == attributes.updated_at,
        };
        Ok(Read {
            happened_at: attributes.created_at.as_deref().and_then(time),
            kind: EventKind::Note(Note {
                id: self.wanted("object_attributes.id", attributes.id)?,
                text: attributes.note.unwrap_or_default(),
                target,
                created,
                system: attributes.system.unwrap_or(false),
            }),
            actor,
            ..read
        })
    }
}

fn about(merge_request: &MergeRequest) -> Read {
    Read {
        ref_name: Some(full_ref(&merge_request.source_branch, false)),
        revision: Some(merge_request.head.to_string()),
        source_project: merge_request.source_project.map(|id| id.0),
        ..plain("merge_request", None)
    }
}
