//! Reads a delivery into a typed event.
//!
//! Does no IO and trusts nothing: who did it, which commit and which project are *claims* until
//! [`confirm`](crate::confirm::confirm) asked GitLab. Only an [`Accepted`] can be parsed, so a request that was not checked
//! can never become an event. Ids of zeros are git's way to say 'none' and become none.

use penstock_model::event::EventKind;
use penstock_model::id::{CommitId, ProjectId, ProjectPath, RefName, Timestamp, UserId};
use serde::de::DeserializeOwned;

use crate::incoming::{self, Asked};
use crate::payload;
use crate::scope::Accepted;

mod code;
mod other;

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
    /// What is asked for, where somebody asks for a run. It becomes the event's kind once GitLab said which commit the ref leads to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asked: Option<Asked>,
    /// When it happened, of what can mean anything hours later: a comment. None: it is not said.
    #[serde(skip)]
    pub happened_at: Option<Timestamp>,
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
    happened_at: Option<Timestamp>,
}

struct Reader<'a> {
    accepted: &'a Accepted,
}

impl Reader<'_> {
    fn read(&self) -> Result<Parsed, ParseError> {
        let mut asked = None;
        let read = match self.accepted.kind() {
            _ if incoming::is_incoming(self.accepted.hook()) => {
                let (read, wanted) = self.incoming()?;
                asked = Some(wanted);
                read
            }
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
            source_project: read
                .source_project
                .map(ProjectId)
                .filter(|source| Some(*source) != own),
            asked,
            happened_at: read.happened_at,
        })
    }

    fn incoming(&self) -> Result<(Read, Asked), ParseError> {
        let (ref_name, asked) = incoming::read(self.accepted.body())
            .map_err(|error| self.error("", error.to_string()))?;
        let read = Read {
            ref_name: Some(ref_name),
            ..plain(incoming::ROUTED_AS, None)
        };
        Ok((read, asked))
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
            let path = project
                .path
                .clone()
                .unwrap_or_else(|| ProjectPath::from(""));
            return Ok(ScopeClaim::Project { id, path });
        }
        if let Some(group) = self.accepted.group()
            && let Some(id) = group.id
        {
            return Ok(ScopeClaim::Group {
                id,
                path: group.full_path.clone(),
            });
        }
        match kind {
            EventKind::Other(_) | EventKind::TokenExpiring(_) => Ok(ScopeClaim::Instance),
            _ => Err(self.error("project.id", "it is missing")),
        }
    }
}

fn plain(word: &str, actor: Option<ActorClaim>) -> Read {
    Read {
        kind: EventKind::Other(word.to_owned()),
        actor,
        ref_name: None,
        revision: None,
        source_project: None,
        happened_at: None,
    }
}

/// A time as GitLab writes it in a webhook: `2015-05-17 18:21:36 UTC`, or RFC 3339.
fn time(text: &str) -> Option<Timestamp> {
    let utc = text.strip_suffix(" UTC").map(|time| format!("{time}Z"));
    let time: jiff::Timestamp = utc.as_deref().unwrap_or(text).parse().ok()?;
    u64::try_from(time.as_millisecond()).ok().map(Timestamp)
}

fn claim(id: Option<u64>, username: Option<String>) -> Option<ActorClaim> {
    let id = id.filter(|id| *id > 0)?;
    Some(ActorClaim {
        id: UserId(id),
        username: username.unwrap_or_default(),
    })
}

fn person(user: Option<payload::User>) -> Option<ActorClaim> {
    let user = user?;
    claim(user.id, user.username)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_read_in_each_of_gitlab_s_ways() {
        for text in [
            "2015-05-17 18:21:36 UTC",
            "2015-05-17T18:21:36Z",
            "2015-05-17T20:21:36.000+02:00",
        ] {
            assert_eq!(time(text), Some(Timestamp(1_431_886_896_000)), "{text}");
        }
        assert_eq!(time("yesterday"), None);
    }
}
