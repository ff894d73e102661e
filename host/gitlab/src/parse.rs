//! Reads a delivery into a typed event.
//!
//! Does no IO and trusts nothing: who did it, which commit and which project are *claims* until
//! [`confirm`](crate::confirm::confirm) asked GitLab. Only an [`Accepted`] can be parsed, so a request that was not checked
//! can never become an event. Ids of zeros are git's way to say 'none' and become none.

use penstock_model::event::{
    Commit, Deployment, EventKind, MergeRequest, MergeRequestEvent, Note, NoteTarget, Pipeline, Push, Release, TagPush,
    TokenExpiring,
};
use penstock_model::id::{CommitId, ProjectId, ProjectPath, RefName, UserId};
use serde::de::DeserializeOwned;

use crate::claims::full_ref;
use crate::payload;
use crate::scope::Accepted;

/// What an event says it happened in.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub enum ScopeClaim {
    /// A project.
    Project {
        /// GitLab's id.
        id: ProjectId,
        /// Full path; empty where the body does not say.
        path: ProjectPath,
    },
    /// A group.
    Group {
        /// GitLab's id.
        id: u64,
        /// Full path, where the body has it.
        path: Option<String>,
    },
    /// The whole GitLab.
    Instance,
}

/// Who an event says did it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ActorClaim {
    /// GitLab's id.
    pub id: UserId,
    /// GitLab's name; it may be empty.
    pub username: String,
}

/// A delivery that was read and not yet confirmed.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Parsed {
    /// What happened.
    pub kind: EventKind,
    /// What it happened in.
    pub scope: ScopeClaim,
    /// Who did it.
    pub actor: Option<ActorClaim>,
    /// Full name of the ref that it is about: the source branch of a merge request.
    pub ref_name: Option<RefName>,
    /// The commit it is about: a full id, a short one, or the id of a tag object.
    pub revision: Option<String>,
    /// The project that the code comes from, where it is not that of the event: a fork's.
    pub source_project: Option<ProjectId>,
}

/// Why a delivery can't be read. It is kept and shown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the `{kind}` event can't be read at `{path}`: {problem}")]
pub struct ParseError {
    /// What the event calls itself.
    pub kind: String,
    /// Path of the field, such as `object_attributes.iid`.
    pub path: String,
    /// What is wrong.
    pub problem: String,
}

/// Reads a delivery.
///
/// # Errors
/// A field has another type than GitLab gives it, or one that the kind can't do without is missing.
pub fn parse(accepted: &Accepted) -> Result<Parsed, ParseError> {
    Reader { accepted }.read()
}

/// What is known of a kind once its payload is read.
struct Read {
    kind: EventKind,
    actor: Option<ActorClaim>,
    ref_name: Option<RefName>,
    revision: Option<String>,
    source_project: Option<u64>,
}

struct Reader<'a> {
    accepted: &'a Accepted,
}

impl Reader<'_> {
    fn read(&self) -> Result<Parsed, ParseError> {
        let read = match self.accepted.kind() {
            "push" => self.push()?,
            "tag_push" => self.tag_push()?,
            "merge_request" => self.merge_request()?,
            "note" => self.note()?,
            "pipeline" => self.pipeline()?,
            "deployment" => self.deployment()?,
            "release" => self.release()?,
            "access_token" | "expiring_access_token" => self.token_expiring()?,
            other => self.other(other)?,
        };
        let scope = self.scope(&read.kind)?;
        let own = match &scope {
            ScopeClaim::Project { id, .. } => Some(*id),
            ScopeClaim::Group { .. } | ScopeClaim::Instance => None,
        };
        Ok(Parsed {
            kind: read.kind,
            scope,
            actor: read.actor,
            ref_name: read.ref_name,
            revision: read.revision,
            source_project: read.source_project.map(ProjectId).filter(|source| Some(*source) != own),
        })
    }

    fn error(&self, path: &str, problem: impl Into<String>) -> ParseError {
        ParseError {
            kind: self.accepted.kind().chars().take(80).collect(),
            path: path.to_owned(),
            problem: problem.into(),
        }
    }

    fn body<T: DeserializeOwned>(&self) -> Result<T, ParseError> {
        let mut deserializer = serde_json::Deserializer::from_slice(self.accepted.body());
        serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
            let path = error.path().to_string();
            self.error(&path, error.into_inner().to_string())
        })
    }

    fn wanted<T>(&self, path: &str, value: Option<T>) -> Result<T, ParseError> {
        value.ok_or_else(|| self.error(path, "it is missing"))
    }

    /// A commit's id; zeros are none.
    fn commit(&self, path: &str, text: Option<&str>) -> Result<Option<CommitId>, ParseError> {
        let Some(text) = text.filter(|text| !text.is_empty()) else {
            return Ok(None);
        };
        let id = CommitId::parse(text).map_err(|error| self.error(path, error.to_string()))?;
        Ok(Some(id).filter(|id| !id.is_zero()))
    }

    fn scope(&self, kind: &EventKind) -> Result<ScopeClaim, ParseError> {
        let project = self.accepted.project();
        if let Some(id) = project.id {
            let path = project.path.clone().unwrap_or_else(|| ProjectPath::from(""));
            return Ok(ScopeClaim::Project { id, path });
        }
        if let Some(group) = self.accepted.group()
            && let Some(id) = group.id
        {
            return Ok(ScopeClaim::Group { id, path: group.full_path.clone() });
        }
        match kind {
            EventKind::Other(_) | EventKind::TokenExpiring(_) => Ok(ScopeClaim::Instance),
            _ => Err(self.error("project.id", "it is missing")),
        }
    }

    fn push(&self) -> Result<Read, ParseError> {
        let body: payload::Push = self.body()?;
        let ref_name = RefName::from(self.wanted("ref", body.git_ref)?);
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
        let title = commit.title.unwrap_or_else(|| message.lines().next().unwrap_or_default().to_owned());
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

    fn tag_push(&self) -> Result<Read, ParseError> {
        let body: payload::Push = self.body()?;
        let ref_name = RefName::from(self.wanted("ref", body.git_ref)?);
        let before = self.commit("before", body.before.as_deref())?;
        let after = self.commit("after", body.after.as_deref())?;
        let checkout = self.commit("checkout_sha", body.checkout_sha.as_deref())?;
        let revision = after.as_ref().map(|after| checkout.as_ref().unwrap_or(after).to_string());
        Ok(Read {
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
        let last = found.last_commit.as_ref().and_then(|commit| commit.id.as_deref());
        let Some(head) = self.commit(&path("last_commit.id"), last)? else {
            return Ok(None);
        };
        let labels = labels.unwrap_or_default().into_iter().filter_map(|label| label.title);
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

    fn merge_request(&self) -> Result<Read, ParseError> {
        let body: payload::MergeRequestEvent = self.body()?;
        let mut found = self.wanted("object_attributes", body.object_attributes)?;
        let labels = found.labels.take().or(body.labels);
        let old_head = self.commit("object_attributes.oldrev", found.oldrev.as_deref())?;
        let actor = person(body.user);
        let Some(merge_request) = self.read_merge_request("object_attributes", &found, labels)? else {
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

    fn note(&self) -> Result<Read, ParseError> {
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
                let id = body.commit.and_then(|commit| commit.id).or(attributes.commit_id);
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

    fn pipeline(&self) -> Result<Read, ParseError> {
        let body: payload::Pipeline = self.body()?;
        let found = self.wanted("object_attributes", body.object_attributes)?;
        let sha = self.commit("object_attributes.sha", found.sha.as_deref())?;
        let sha = self.wanted("object_attributes.sha", sha)?;
        let git_ref = self.wanted("object_attributes.ref", found.git_ref)?;
        let tag = found.tag.unwrap_or(false);
        let merge_request = body.merge_request.unwrap_or_default();
        Ok(Read {
            actor: person(body.user),
            ref_name: Some(full_ref(&git_ref, tag)),
            revision: Some(sha.to_string()),
            source_project: merge_request.source_project_id,
            kind: EventKind::Pipeline(Pipeline {
                id: self.wanted("object_attributes.id", found.id)?,
                git_ref,
                tag,
                sha,
                status: found.status.unwrap_or_default(),
                source: found.source.unwrap_or_default(),
                merge_request: merge_request.iid,
            }),
        })
    }

    fn deployment(&self) -> Result<Read, ParseError> {
        let body: payload::Deployment = self.body()?;
        // The whole id stands only at the end of the commit's address.
        let linked = body.commit_url.as_deref().and_then(|url| url.rsplit('/').next());
        let whole = linked.filter(|text| CommitId::parse(text).is_ok()).map(str::to_owned);
        let sha = self.wanted("short_sha", whole.or(body.short_sha))?;
        Ok(Read {
            actor: person(body.user),
            // A branch or a tag: the payload does not say which.
            ref_name: None,
            revision: Some(sha.clone()),
            source_project: None,
            kind: EventKind::Deployment(Deployment {
                id: self.wanted("deployment_id", body.deployment_id)?,
                status: body.status.unwrap_or_default(),
                environment: body.environment.unwrap_or_default(),
                tier: body.environment_tier,
                git_ref: body.git_ref.unwrap_or_default(),
                sha,
            }),
        })
    }

    fn release(&self) -> Result<Read, ParseError> {
        let body: payload::Release = self.body()?;
        let tag = self.wanted("tag", body.tag)?;
        let commit = body.commit.and_then(|commit| commit.id);
        let commit = self.commit("commit.id", commit.as_deref())?;
        Ok(Read {
            actor: None,
            ref_name: Some(full_ref(&tag, true)),
            revision: commit.map(|id| id.to_string()),
            source_project: None,
            kind: EventKind::Release(Release {
                name: body.name.unwrap_or_else(|| tag.clone()),
                tag,
                action: body.action.unwrap_or_default(),
            }),
        })
    }

    fn token_expiring(&self) -> Result<Read, ParseError> {
        let body: payload::TokenExpiring = self.body()?;
        let found = self.wanted("object_attributes", body.object_attributes)?;
        let (project, group) = (body.project.unwrap_or_default(), body.group.unwrap_or_default());
        let owner = project.path_with_namespace.or(group.full_path).or(group.group_path);
        let kind = EventKind::TokenExpiring(TokenExpiring {
            token_id: self.wanted("object_attributes.id", found.id)?,
            name: found.name.unwrap_or_default(),
            owner,
            expires_at: found.expires_at.unwrap_or_default(),
        });
        Ok(Read { kind, ..plain("access_token", None) })
    }

    fn other(&self, word: &str) -> Result<Read, ParseError> {
        let body: payload::Other = self.body()?;
        let mut read = plain(word, person(body.user));
        if word == "build" {
            let text = |value: Option<serde_json::Value>| value.and_then(|value| value.as_str().map(str::to_owned));
            let tag = body.tag.and_then(|tag| tag.as_bool()).unwrap_or(false);
            read.ref_name = text(body.git_ref).map(|name| full_ref(&name, tag));
            let sha = text(body.sha);
            read.revision = self.commit("sha", sha.as_deref())?.map(|id| id.to_string());
        }
        Ok(read)
    }
}

fn plain(word: &str, actor: Option<ActorClaim>) -> Read {
    Read {
        kind: EventKind::Other(word.to_owned()),
        actor,
        ref_name: None,
        revision: None,
        source_project: None,
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

fn claim(id: Option<u64>, username: Option<String>) -> Option<ActorClaim> {
    let id = id.filter(|id| *id > 0)?;
    Some(ActorClaim { id: UserId(id), username: username.unwrap_or_default() })
}

fn person(user: Option<payload::User>) -> Option<ActorClaim> {
    let user = user?;
    claim(user.id, user.username)
}
