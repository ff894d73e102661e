//! Who did something, in which project, and how far that is trusted.

use serde::{Deserialize, Serialize};

use crate::id::{ProjectId, ProjectPath, RefName, UserId};

/// A project as GitLab names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Project {
    /// GitLab's id.
    pub id: ProjectId,
    /// Full path.
    pub path: ProjectPath,
    /// Name of the default branch, without `refs/heads/`.
    pub default_branch: Option<String>,
    /// Page of the project.
    pub web_url: String,
    /// `private`, `internal` or `public`.
    pub visibility: String,
}

/// A group as GitLab names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// GitLab's id.
    pub id: u64,
    /// Full path.
    pub path: String,
    /// Page of the group.
    pub web_url: String,
}

/// What something belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// A project.
    Project(Project),
    /// Group-only events.
    Group(Group),
    /// System hooks.
    Instance,
}

impl Scope {
    /// The project, if it is one.
    pub fn project(&self) -> Option<&Project> {
        match self {
            Self::Project(project) => Some(project),
            Self::Group(_) | Self::Instance => None,
        }
    }
}

/// Somebody who did something in GitLab.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// GitLab's id.
    pub id: UserId,
    /// GitLab's name.
    pub username: String,
    /// A bot user, of a token or of a service.
    pub bot: bool,
    /// One of Penstock's own users.
    pub host: bool,
    /// Access level in the project, inherited ones too. 0: not a member; none: it could not be confirmed and counts as 0.
    pub access: Option<u32>,
}

/// Somebody who wrote or pushed a commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Author {
    /// As the commit says.
    pub name: String,
    /// As the commit says.
    pub email: String,
    /// None: GitLab knows no user of this address.
    pub user: Option<Actor>,
}

/// How far an event is trusted: the least that the code, the actor and the confirmation allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trust {
    /// From a fork, or something that could not be confirmed with GitLab.
    Untrusted,
    /// A branch, a tag or a merge request of the project's own members.
    Member,
    /// A ref that GitLab protects.
    Protected,
}

impl Trust {
    /// The word of the configuration and of messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Untrusted => "untrusted",
            Self::Member => "member",
            Self::Protected => "protected",
        }
    }
}

/// What the host found out about where an event comes from. Never taken from the payload alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// The sum of it all.
    pub trust: Trust,
    /// GitLab protects the ref.
    pub ref_protected: bool,
    /// The project that the code comes from, where it isn't the project of the event.
    pub source_project: Option<Project>,
    /// Everything above was confirmed with GitLab.
    pub confirmed: bool,
}

impl Provenance {
    /// What counts where nothing could be confirmed.
    pub fn unconfirmed() -> Self {
        Self {
            trust: Trust::Untrusted,
            ref_protected: false,
            source_project: None,
            confirmed: false,
        }
    }
}

/// Name of the branch or tag behind a full ref name.
pub fn short_ref(name: &RefName) -> &str {
    let text = name.as_str();
    text.strip_prefix("refs/heads/")
        .or_else(|| text.strip_prefix("refs/tags/"))
        .unwrap_or(text)
}
