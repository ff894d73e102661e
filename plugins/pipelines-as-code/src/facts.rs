//! An event in the words of Pipelines-as-Code.

use std::collections::BTreeMap;

use penstock_sdk::Event;
use penstock_sdk::events::MergeRequest;
use penstock_sdk::types::Project;

/// What sets a run off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trigger {
    Push,
    PullRequest,
    Incoming,
}

impl Trigger {
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Push => "push",
            Self::PullRequest => "pull_request",
            Self::Incoming => "incoming",
        }
    }
}

/// What is known of an event that may start runs.
#[derive(Clone, Debug)]
pub(crate) struct Facts<'e> {
    pub(crate) event: &'e Event,
    pub(crate) project: &'e Project,
    pub(crate) trigger: Trigger,
    /// `push`, `pull_request`, `incoming` or `on-comment`.
    pub(crate) event_type: &'static str,
    pub(crate) commit: &'e str,
    /// Full ref names; of a push they are the same.
    pub(crate) target_ref: String,
    pub(crate) source_ref: String,
    pub(crate) merge_request: Option<&'e MergeRequest>,
    /// The comment that asked.
    pub(crate) comment: Option<&'e str>,
    /// Title of the merge request or of the commit.
    pub(crate) title: String,
    /// Values from a command or from outside, for names that the settings have.
    pub(crate) arguments: BTreeMap<String, String>,
}

impl Facts<'_> {
    /// The event comes from another project.
    pub(crate) fn is_fork(&self) -> bool {
        self.event.provenance.source_project.is_some()
    }

    /// The variables whose values the event alone gives. Those without a value in this
    /// event are not among them.
    pub(crate) fn variables(&self) -> BTreeMap<&'static str, String> {
        let (owner, name) = self
            .project
            .path
            .rsplit_once('/')
            .unwrap_or(("", &self.project.path));
        let source_url = self.event.provenance.source_project.as_ref();
        let source_url = source_url.map_or(&self.project.web_url, |it| &it.web_url);
        let sender = self
            .event
            .actor
            .as_ref()
            .map(|it| it.username.to_lowercase());
        let labels = self.merge_request.map(|it| it.labels.join("\\n"));
        // Lines of a comment are joined as Pipelines-as-Code joins them: files count on it.
        let comment = self
            .comment
            .unwrap_or_default()
            .replace("\r\n", "\\n")
            .replace('\n', "\\n");
        let mut variables: BTreeMap<&'static str, String> = [
            ("revision", self.commit.to_owned()),
            ("repo_url", self.project.web_url.clone()),
            ("repo_owner", owner.to_lowercase()),
            ("repo_name", name.to_lowercase()),
            ("source_branch", short(&self.source_ref).to_owned()),
            ("target_branch", short(&self.target_ref).to_owned()),
            ("source_url", source_url.clone()),
            ("target_url", self.project.web_url.clone()),
            ("sender", sender.unwrap_or_default()),
            ("event", self.trigger.word().to_owned()),
            ("event_type", self.event_type.to_owned()),
            ("event_title", self.title.clone()),
            ("git_tag", self.tag().unwrap_or_default().to_owned()),
            ("pull_request_labels", labels.unwrap_or_default()),
            ("trigger_comment", comment),
        ]
        .into_iter()
        .collect();
        if let Some(merge_request) = self.merge_request {
            variables.insert("pull_request_number", merge_request.iid.to_string());
        }
        variables
    }

    /// The tag's name, if it is about one.
    pub(crate) fn tag(&self) -> Option<&str> {
        self.target_ref.strip_prefix("refs/tags/")
    }
}

/// A ref name without `refs/heads/` or `refs/tags/`.
pub(crate) fn short(full: &str) -> &str {
    full.strip_prefix("refs/heads/")
        .or_else(|| full.strip_prefix("refs/tags/"))
        .unwrap_or(full)
}
