//! Constructors for plans and effects, so that an author writes only what differs
//! from the defaults.

use crate::contract::penstock::plugin::effects::{
    Action, CancelRuns, CancelScope, Comment, CommentTarget, CommitStatus, Effect, Extension, Plan,
    Queue, RequestApproval, RunSecret, SecretSource, StartRun, StatusState,
};
use crate::contract::penstock::plugin::types::Problem;

impl Plan {
    /// A plan with nothing in it yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            effects: Vec::new(),
            reasons: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// A plan that starts with its reason.
    #[must_use]
    pub fn because(reason: impl Into<String>) -> Self {
        Self::new().reason(reason)
    }

    /// The decision to do nothing, and why.
    #[must_use]
    pub fn nothing(reason: impl Into<String>) -> Self {
        Self::because(reason)
    }

    /// Adds a reason, for people: which rule matched, or which did not and why.
    #[must_use]
    pub fn reason(mut self, reason: impl Into<String>) -> Self {
        self.reasons.push(reason.into());
        self
    }

    /// Adds something to mend in the repository that does not stop the plan.
    #[must_use]
    pub fn warning(mut self, problem: Problem) -> Self {
        self.warnings.push(problem);
        self
    }

    /// Adds an effect. The key is unique in the plan and the same for the same
    /// thing whenever the plugin is asked again.
    #[must_use]
    pub fn effect(mut self, key: impl Into<String>, action: impl Into<Action>) -> Self {
        self.effects.push(Effect {
            key: key.into(),
            action: action.into(),
        });
        self
    }

    /// Starts a run.
    #[must_use]
    pub fn start_run(self, key: impl Into<String>, run: StartRun) -> Self {
        self.effect(key, run)
    }

    /// Cancels runs.
    #[must_use]
    pub fn cancel_runs(self, key: impl Into<String>, cancel: CancelRuns) -> Self {
        self.effect(key, cancel)
    }

    /// Writes, edits or takes away this plugin's comment of this key.
    #[must_use]
    pub fn comment(self, key: impl Into<String>, comment: Comment) -> Self {
        self.effect(key, comment)
    }

    /// Sets a commit status.
    #[must_use]
    pub fn commit_status(self, key: impl Into<String>, status: CommitStatus) -> Self {
        self.effect(key, status)
    }

    /// Asks for an approval; a run waits for it by [`StartRun::gate`].
    #[must_use]
    pub fn request_approval(self, key: impl Into<String>, request: RequestApproval) -> Self {
        self.effect(key, request)
    }
}

impl Default for Plan {
    fn default() -> Self {
        Self::new()
    }
}

impl StartRun {
    /// A run of a pipeline, from a PipelineRun in YAML or JSON, about what the
    /// event is about, in the place that fits the provenance.
    #[must_use]
    pub fn new(pipeline: impl Into<String>, manifest: impl Into<String>) -> Self {
        Self {
            manifest: manifest.into(),
            pipeline: pipeline.into(),
            target: None,
            place: None,
            gate: None,
            status_name: None,
            queue: None,
            keep: None,
            secrets: Vec::new(),
            extras: Vec::new(),
        }
    }

    /// In this place of the tenant.
    #[must_use]
    pub fn place(mut self, name: impl Into<String>) -> Self {
        self.place = Some(name.into());
        self
    }

    /// Waits for the `request-approval` of this key.
    #[must_use]
    pub fn gate(mut self, key: impl Into<String>) -> Self {
        self.gate = Some(key.into());
        self
    }

    /// Name of the commit status, where it is not the pipeline's.
    #[must_use]
    pub fn status_name(mut self, name: impl Into<String>) -> Self {
        self.status_name = Some(name.into());
        self
    }

    /// At most so many runs of this queue at a time.
    #[must_use]
    pub fn queue(mut self, name: impl Into<String>, concurrency: u32) -> Self {
        self.queue = Some(Queue {
            name: name.into(),
            concurrency: Some(concurrency),
        });
        self
    }

    /// Keeps so many finished runs of this pipeline.
    #[must_use]
    pub const fn keep(mut self, runs: u32) -> Self {
        self.keep = Some(runs);
        self
    }

    /// A Secret that the manifest names; the host makes it and deletes it with the
    /// run. Its value never enters the plugin.
    #[must_use]
    pub fn secret(mut self, name: impl Into<String>, source: SecretSource) -> Self {
        self.secrets.push(RunSecret {
            name: name.into(),
            source,
        });
        self
    }
}

impl CancelRuns {
    /// Cancels this plugin's runs of a scope.
    #[must_use]
    pub fn new(scope: CancelScope, reason: impl Into<String>) -> Self {
        Self {
            scope,
            pipeline: None,
            reason: reason.into(),
        }
    }

    /// Runs of the event's lane whose commit is no longer the head.
    #[must_use]
    pub fn superseded() -> Self {
        Self::new(CancelScope::Superseded, "a newer commit was pushed")
    }

    /// Only those of this pipeline.
    #[must_use]
    pub fn pipeline(mut self, name: impl Into<String>) -> Self {
        self.pipeline = Some(name.into());
        self
    }
}

impl Comment {
    /// A comment, in Markdown, on a merge request.
    #[must_use]
    pub fn on_merge_request(iid: u64, body: impl Into<String>) -> Self {
        Self {
            target: CommentTarget::MergeRequest(iid),
            body: Some(body.into()),
        }
    }

    /// A comment, in Markdown, on a commit.
    #[must_use]
    pub fn on_commit(commit: impl Into<String>, body: impl Into<String>) -> Self {
        Self {
            target: CommentTarget::Commit(commit.into()),
            body: Some(body.into()),
        }
    }

    /// Takes the comment of this key away.
    #[must_use]
    pub const fn remove(target: CommentTarget) -> Self {
        Self { target, body: None }
    }
}

impl CommitStatus {
    /// A status of a commit.
    #[must_use]
    pub fn new(
        commit: impl Into<String>,
        name: impl Into<String>,
        state: StatusState,
        description: impl Into<String>,
    ) -> Self {
        Self {
            commit: commit.into(),
            name: name.into(),
            state,
            description: description.into(),
            target_url: None,
        }
    }
}

impl RequestApproval {
    /// Asks by the tenant's own policy.
    #[must_use]
    pub fn new(title: impl Into<String>, description: impl Into<String>) -> Self {
        Self {
            policy: None,
            title: title.into(),
            description: description.into(),
            environment: None,
            arguments: Vec::new(),
        }
    }

    /// Asks by this policy, if the grant allows it to be named.
    #[must_use]
    pub fn policy(mut self, name: impl Into<String>) -> Self {
        self.policy = Some(name.into());
        self
    }

    /// Adds an argument for the policy.
    #[must_use]
    pub fn argument(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.arguments.push((name.into(), value.into()));
        self
    }
}

impl From<StartRun> for Action {
    fn from(run: StartRun) -> Self {
        Self::StartRun(run)
    }
}

impl From<CancelRuns> for Action {
    fn from(cancel: CancelRuns) -> Self {
        Self::CancelRuns(cancel)
    }
}

impl From<Comment> for Action {
    fn from(comment: Comment) -> Self {
        Self::Comment(comment)
    }
}

impl From<CommitStatus> for Action {
    fn from(status: CommitStatus) -> Self {
        Self::CommitStatus(status)
    }
}

impl From<RequestApproval> for Action {
    fn from(request: RequestApproval) -> Self {
        Self::RequestApproval(request)
    }
}

impl From<Extension> for Action {
    fn from(extension: Extension) -> Self {
        Self::Extension(extension)
    }
}
