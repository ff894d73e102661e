//! Commit statuses and the pipelines they land in, by the rules of GitLab's `CreateCommitStatusService`.
//!
//! A status lands in the newest pipeline of the project that has the commit and, if `ref` is given, that ref; a pipeline of
//! the merge request has the ref `refs/merge-requests/N/head`, so a status for `ref=<branch>` never lands there. The row
//! that is changed is the pending or running one of the same name, ref and *user*; there is none for a new user, who gets
//! a row of his own.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    answer::{Answer, ApiError},
    call::Call,
    project::{Access, Project},
    rest, show,
    world::World,
};

/// The most characters that `description` and `target_url` may have.
const LONGEST_TEXT: usize = 255;

/// One pipeline.
#[derive(Clone, Debug)]
pub(crate) struct Pipeline {
    pub(crate) id: u64,
    pub(crate) iid: u64,
    pub(crate) sha: String,
    pub(crate) name: String,
    /// `external`, `push`, `merge_request_event`, …
    pub(crate) source: String,
    pub(crate) user: u64,
    /// Set for pipelines that GitLab CI runs; else it follows from the statuses.
    pub(crate) forced: Option<String>,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
}

/// One status row.
#[derive(Clone, Debug)]
pub(crate) struct Status {
    pub(crate) id: u64,
    pub(crate) pipeline: u64,
    pub(crate) sha: String,
    pub(crate) git_ref: String,
    pub(crate) name: String,
    pub(crate) state: State,
    pub(crate) user: u64,
    pub(crate) target_url: Option<String>,
    pub(crate) description: Option<String>,
    pub(crate) coverage: Option<f64>,
    pub(crate) retried: bool,
    pub(crate) created_at: Timestamp,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) finished_at: Option<Timestamp>,
}

/// A job's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Created,
    Pending,
    Running,
    Success,
    Failed,
    Canceled,
    Skipped,
}

impl State {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Success => "success",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
            Self::Skipped => "skipped",
        }
    }

    /// The next state, or why there is none, in the words of GitLab's state machine.
    fn after(self, wanted: &str) -> Result<Self, String> {
        use State::{Canceled, Created, Failed, Pending, Running, Skipped, Success};
        let (event, from) = match wanted {
            "pending" => ("enqueue", self),
            // `running` enqueues first, quietly.
            "running" => (
                "run",
                if matches!(self, Created | Skipped) {
                    Pending
                } else {
                    self
                },
            ),
            "success" => ("success", self),
            "failed" => ("drop", self),
            "canceled" => ("cancel", self),
            _ => ("skip", self),
        };
        match (event, from) {
            ("enqueue", Created | Skipped) => Ok(Pending),
            ("run", Pending) => Ok(Running),
            ("success", Created | Pending | Running) => Ok(Success),
            ("drop", Created | Pending | Running) => Ok(Failed),
            ("cancel", Created | Pending | Running) => Ok(Canceled),
            ("skip", Created | Pending) => Ok(Skipped),
            _ => Err(format!(
                "Cannot transition status via :{event} from :{} (Reason(s): Status cannot transition via \"{event}\")",
                from.word()
            )),
        }
    }
}

/// `POST /projects/:id/statuses/:sha`.
pub(crate) fn set(
    world: &mut World,
    call: &Call,
    project: u64,
    sha: &str,
) -> Result<Answer, ApiError> {
    let user = call.who.user;
    if rest::project(world, project).level(world, user) < Access::Developer as u8 {
        return Err(ApiError::forbidden());
    }
    let wanted = call.required("state")?;
    if ![
        "pending", "running", "success", "failed", "canceled", "skipped",
    ]
    .contains(&wanted.as_str())
    {
        return Err(ApiError::parameter(
            "state does not have a valid value".to_owned(),
        ));
    }
    let pipeline_id = call.number("pipeline_id")?;
    let now = world.now();
    let found = rest::project(world, project);
    let commit = found
        .refs
        .resolve(sha, &found.default_branch)
        .ok_or_else(|| ApiError::not_found("Commit"))?;
    let given = call.text("ref").filter(|name| !name.is_empty());
    let matching = newest_pipeline(found, &commit, given.as_deref(), pipeline_id);
    if pipeline_id.is_some() && matching.is_none() {
        return Err(ApiError::not_found("Pipeline for pipeline_id, sha and ref"));
    }
    let git_ref = given
        .or_else(|| matching.map(|pipeline| pipeline.name.clone()))
        .or_else(|| first_branch_with(world, found, &commit))
        .ok_or_else(|| ApiError::not_found("References for commit"))?;
    if !found.may_update(world, user, &git_ref) {
        return Err(ApiError::forbidden());
    }
    for field in ["target_url", "description"] {
        if call
            .text(field)
            .is_some_and(|text| text.chars().count() > LONGEST_TEXT)
        {
            return Err(ApiError::invalid(
                field,
                "is too long (maximum is 255 characters)",
            ));
        }
    }
    if call
        .text("target_url")
        .is_some_and(|url| !url.is_empty() && !url.starts_with("http"))
    {
        return Err(ApiError::invalid(
            "target_url",
            "is blocked: Only allowed schemes are http, https",
        ));
    }
    let matching = matching.map(|pipeline| pipeline.id);
    let (next_pipeline, next_status) = (world.next_id(), world.next_id());
    let found = world.projects.get_mut(&project).expect("a project");
    let pipeline = matching.unwrap_or_else(|| {
        let iid = found.pipelines.len() as u64 + 1;
        found.pipelines.push(Pipeline {
            id: next_pipeline,
            iid,
            sha: commit.clone(),
            name: git_ref.clone(),
            source: "external".to_owned(),
            user,
            forced: None,
            created_at: now,
            updated_at: now,
        });
        next_pipeline
    });
    let name = call
        .text("name")
        .or_else(|| call.text("context"))
        .unwrap_or_else(|| "default".to_owned());
    let is_it = |row: &Status| {
        row.pipeline == pipeline
            && row.name == name
            && row.git_ref == git_ref
            && row.user == user
            && matches!(row.state, State::Pending | State::Running)
    };
    let position = found.statuses.iter().position(is_it);
    let current = position.map_or(State::Created, |position| found.statuses[position].state);
    let state = current
        .after(&wanted)
        .map_err(|problem| ApiError::message(400, problem))?;
    let position = position.unwrap_or_else(|| {
        for old in found
            .statuses
            .iter_mut()
            .filter(|row| row.pipeline == pipeline && row.name == name)
        {
            old.retried = true;
        }
        found.statuses.push(Status {
            id: next_status,
            pipeline,
            sha: commit.clone(),
            git_ref: git_ref.clone(),
            name: name.clone(),
            state,
            user,
            target_url: None,
            description: None,
            coverage: None,
            retried: false,
            created_at: now,
            started_at: None,
            finished_at: None,
        });
        found.statuses.len() - 1
    });
    let row = &mut found.statuses[position];
    row.state = state;
    row.target_url = call.text("target_url").or_else(|| row.target_url.take());
    row.description = call.text("description").or_else(|| row.description.take());
    row.coverage = call
        .text("coverage")
        .and_then(|text| text.parse().ok())
        .or(row.coverage);
    match state {
        State::Running => row.started_at = Some(now),
        State::Success | State::Failed | State::Canceled | State::Skipped => {
            row.finished_at = Some(now)
        }
        State::Created | State::Pending => {}
    }
    let row = row.clone();
    if let Some(touched) = found
        .pipelines
        .iter_mut()
        .find(|other| other.id == pipeline)
    {
        touched.updated_at = now;
    }
    Ok(Answer::created(show(world, &row)))
}

/// `GET /projects/:id/repository/commits/:sha/statuses`.
pub(crate) fn list(
    world: &World,
    call: &Call,
    project: &Project,
    sha: &str,
) -> Result<Answer, ApiError> {
    let commit = project
        .refs
        .resolve(sha, &project.default_branch)
        .ok_or_else(|| ApiError::not_found("Commit"))?;
    let (name, git_ref, pipeline) = (
        call.text("name"),
        call.text("ref"),
        call.number("pipeline_id")?,
    );
    let all = call.flag("all").unwrap_or(false);
    let rows = project.statuses.iter().filter(|row| {
        row.sha == commit
            && (all || !row.retried)
            && name.as_ref().is_none_or(|name| row.name == *name)
            && git_ref
                .as_ref()
                .is_none_or(|git_ref| row.git_ref == *git_ref)
            && pipeline.is_none_or(|pipeline| row.pipeline == pipeline)
    });
    Ok(Answer::Rows(rows.map(|row| show(world, row)).collect()))
}

/// The newest pipeline of a commit; the first hundred are looked at, as in GitLab.
fn newest_pipeline<'a>(
    project: &'a Project,
    sha: &str,
    git_ref: Option<&str>,
    id: Option<u64>,
) -> Option<&'a Pipeline> {
    let newest = project
        .pipelines
        .iter()
        .rev()
        .filter(|pipeline| pipeline.sha == sha);
    newest
        .take(if id.is_some() { usize::MAX } else { 100 })
        .filter(|pipeline| git_ref.is_none_or(|wanted| pipeline.name == wanted))
        .find(|pipeline| id.is_none_or(|id| pipeline.id == id))
}

fn first_branch_with(world: &World, project: &Project, sha: &str) -> Option<String> {
    project
        .refs
        .branches
        .iter()
        .find(|(_, tip)| world.objects.is_ancestor(sha, tip))
        .map(|(name, _)| name.clone())
}

/// The pipeline that 'Pipelines must succeed' looks at: the merge request's own before any of the branch, and those of
/// the branch in the source project alone.
pub(crate) fn head_pipeline(world: &World, target: &Project, iid: u64) -> Option<(u64, Pipeline)> {
    let request = target.merge_requests.get(&iid)?;
    let own = format!("refs/merge-requests/{iid}/");
    let newest = |project: &Project, fits: &dyn Fn(&Pipeline) -> bool| {
        let found = project
            .pipelines
            .iter()
            .rev()
            .find(|pipeline| pipeline.sha == request.sha && fits(pipeline));
        found.map(|pipeline| (project.id, pipeline.clone()))
    };
    newest(target, &|pipeline| pipeline.name.starts_with(&own)).or_else(|| {
        let source = world.projects.get(&request.source_project)?;
        newest(source, &|pipeline| pipeline.name == request.source_branch)
    })
}

/// What a pipeline says, from its statuses unless GitLab CI runs it.
pub(crate) fn pipeline_state(project: &Project, pipeline: &Pipeline) -> String {
    if let Some(forced) = &pipeline.forced {
        return forced.clone();
    }
    let rows: Vec<State> = project
        .statuses
        .iter()
        .filter(|row| row.pipeline == pipeline.id && !row.retried)
        .map(|row| row.state)
        .collect();
    let any = |state: State| rows.contains(&state);
    let all = |state: State| rows.iter().all(|other| *other == state);
    let state = if rows.is_empty() || all(State::Skipped) {
        State::Skipped
    } else if all(State::Pending) {
        State::Pending
    } else if any(State::Running) || any(State::Pending) {
        State::Running
    } else if any(State::Failed) {
        State::Failed
    } else if any(State::Canceled) {
        State::Canceled
    } else {
        State::Success
    };
    state.word().to_owned()
}

/// A pipeline as the lists show it.
pub(crate) fn show_pipeline(world: &World, project: &Project, pipeline: &Pipeline) -> Value {
    json!({
        "id": pipeline.id,
        "iid": pipeline.iid,
        "project_id": project.id,
        "sha": pipeline.sha,
        "ref": pipeline.name,
        "status": pipeline_state(project, pipeline),
        "source": pipeline.source,
        "name": null,
        "created_at": pipeline.created_at.to_string(),
        "updated_at": pipeline.updated_at.to_string(),
        "web_url": format!("{}/{}/-/pipelines/{}", world.base, project.path, pipeline.id),
        "user": show::show_user(world, pipeline.user),
        "tag": project.refs.tags.contains_key(&pipeline.name),
    })
}

pub(crate) fn show(world: &World, row: &Status) -> Value {
    let time = |at: Option<Timestamp>| at.map(|at| at.to_string());
    json!({
        "id": row.id,
        "sha": row.sha,
        "ref": row.git_ref,
        "status": row.state.word(),
        "name": row.name,
        "target_url": row.target_url,
        "description": row.description,
        "created_at": row.created_at.to_string(),
        "started_at": time(row.started_at),
        "finished_at": time(row.finished_at),
        "allow_failure": false,
        "coverage": row.coverage,
        "pipeline_id": row.pipeline,
        "author": show::show_user(world, row.user),
    })
}
