//! What must stay in order: (instance, project, merge request or else ref).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::{InstanceName, ProjectId, RefName};

/// What within a project a lane is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Subject {
    /// A merge request.
    MergeRequest(u64),
    /// A branch or a tag, by its full name.
    Ref(RefName),
    /// A group, by its full path or its id: events that no project has.
    Group(String),
    /// Anything else of the project or the instance.
    Whole,
}

/// A lane. Deliveries of one lane are decided one after the other.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Lane {
    /// The GitLab instance.
    pub instance: InstanceName,
    /// The project; none for events of a group or the instance.
    pub project: Option<ProjectId>,
    /// What within it.
    pub subject: Subject,
}

impl fmt::Display for Lane {
    /// The lane's key in the store, such as `main/17/!4` or `main/17/refs/heads/main`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/", self.instance)?;
        match self.project {
            Some(project) => write!(f, "{project}/")?,
            None => f.write_str("-/")?,
        }
        match &self.subject {
            Subject::MergeRequest(iid) => write!(f, "!{iid}"),
            Subject::Ref(name) => write!(f, "{name}"),
            Subject::Group(group) => write!(f, "group:{group}"),
            Subject::Whole => f.write_str("-"),
        }
    }
}
