//! What GitLab is told of a run, and of what failed before there was one.
//!
//! Pure: states in, orders for the outbox out. The id of each order comes from the run and from what the status says, so that the same news told twice is
//! one post.

use penstock_model::admit::{Order, ProjectOf, Refusal, RunOrder, StatusOrder, Task};
use penstock_model::effect::StatusState;
use penstock_model::event::Event;
use penstock_model::id::{CommitId, Digest, EffectId, EffectKey, ProjectId, RefName};
use penstock_model::run::RunState;

/// GitLab keeps so many characters of a description.
const DESCRIPTION: usize = 255;

/// News of a run.
#[derive(Clone, Copy, Debug)]
pub struct News<'a> {
    /// Where it stands.
    pub state: RunState,
    /// Why, for people.
    pub reason: &'a str,
    /// The run's page.
    pub url: Option<&'a str>,
}

/// Which status of which commit a run has.
#[derive(Clone, Copy, Debug)]
pub struct About<'a> {
    /// Whose it is.
    pub of: &'a ProjectOf,
    /// The commit.
    pub commit: &'a CommitId,
    /// The status' name.
    pub name: &'a str,
    /// The ref.
    pub ref_name: Option<&'a RefName>,
    /// The merge request.
    pub merge_request: Option<u64>,
    /// The project that the code comes from, where it isn't `of`.
    pub source_project: Option<ProjectId>,
}

impl<'a> From<&'a RunOrder> for About<'a> {
    fn from(run: &'a RunOrder) -> Self {
        Self {
            of: &run.of,
            commit: &run.commit,
            name: &run.status_name,
            ref_name: run.ref_name.as_ref(),
            merge_request: run.merge_request,
            source_project: run.source_project,
        }
    }
}

/// The status that tells news of a run.
pub fn of_run<'a>(id: EffectId, about: impl Into<About<'a>>, news: News<'_>) -> Order {
    let about = about.into();
    let state = match news.state {
        RunState::Queued | RunState::Gated => StatusState::Pending,
        RunState::Running => StatusState::Running,
        RunState::Succeeded => StatusState::Success,
        RunState::Failed | RunState::Refused => StatusState::Failed,
        RunState::Canceled | RunState::Gone => StatusState::Canceled,
    };
    let status = StatusOrder {
        of: about.of.clone(),
        commit: about.commit.clone(),
        name: about.name.to_owned(),
        state,
        description: cut(news.reason),
        target_url: news.url.map(str::to_owned),
        ref_name: about.ref_name.cloned(),
        merge_request: about.merge_request,
        source_project: about.source_project,
        run: Some(id),
    };
    order(id, status)
}

/// The status that shows a refused effect; none where there is no commit to show it on.
pub fn of_refusal(id: EffectId, event: &Event, of: &ProjectOf, refusal: &Refusal) -> Option<Order> {
    let name = refusal.status_name.clone()?;
    let place = if refusal.path.is_empty() {
        String::new()
    } else {
        format!(" ({})", refusal.path)
    };
    let description = format!("not admitted: {}{place}. {}", refusal.rule, refusal.remedy);
    let commit = event.commit.clone()?;
    Some(order(
        id,
        about_event(event, of, commit, name, &description),
    ))
}

/// The status that shows a decision that failed; none where there is no commit to show it on.
pub fn of_failure(
    id: EffectId,
    event: &Event,
    of: &ProjectOf,
    name: &str,
    why: &str,
) -> Option<Order> {
    let commit = event.commit.clone()?;
    Some(order(
        id,
        about_event(event, of, commit, name.to_owned(), why),
    ))
}

/// What a delivery claims to be about, where GitLab could not be asked.
#[derive(Clone, Debug)]
pub struct Unconfirmed {
    /// Name of the status.
    pub name: String,
    /// The commit.
    pub commit: CommitId,
    /// The ref.
    pub ref_name: Option<RefName>,
    /// The merge request.
    pub merge_request: Option<u64>,
    /// The project that the code comes from.
    pub source_project: Option<ProjectId>,
}

/// The status that shows a delivery that came to nothing before GitLab confirmed it.
pub fn of_unconfirmed(about: EffectId, of: ProjectOf, claim: Unconfirmed, why: &str) -> Order {
    let status = StatusOrder {
        of,
        commit: claim.commit,
        name: claim.name,
        state: StatusState::Failed,
        description: cut(why),
        target_url: None,
        ref_name: claim.ref_name,
        merge_request: claim.merge_request,
        source_project: claim.source_project,
        run: None,
    };
    let mut order = order(about, status);
    order.key = EffectKey::new(format!("{UNCONFIRMED}{}", order.key));
    order
}

/// The status that takes a failed one of [`of_unconfirmed`] back, since its delivery is routed after all: it would block the merge
/// request for ever. None: the order is no such status.
pub fn of_routed(told: &Order) -> Option<Order> {
    let Task::SetStatus(failed) = &told.task else {
        return None;
    };
    if !is_unconfirmed(told) || failed.state != StatusState::Failed {
        return None;
    }
    let mut status = failed.clone();
    status.state = StatusState::Success;
    "it was routed after all".clone_into(&mut status.description);
    let mut order = order(told.id, status);
    order.key = EffectKey::new(format!("{UNCONFIRMED}{}", order.key));
    Some(order)
}

/// What the key of a status begins with whose project GitLab has not confirmed.
const UNCONFIRMED: &str = "unconfirmed/";

/// Whoever posts the status must first ask GitLab whether the project's id bears the path that the order names.
pub fn is_unconfirmed(order: &Order) -> bool {
    order.key.as_str().starts_with(UNCONFIRMED)
}

/// The status that takes back an earlier one of this name; none where there is no commit.
pub fn of_mended(
    id: EffectId,
    event: &Event,
    of: &ProjectOf,
    name: &str,
    why: &str,
) -> Option<Order> {
    let commit = event.commit.clone()?;
    let mut status = about_event(event, of, commit, name.to_owned(), why);
    status.state = StatusState::Success;
    Some(order(id, status))
}

fn about_event(
    event: &Event,
    of: &ProjectOf,
    commit: CommitId,
    name: String,
    why: &str,
) -> StatusOrder {
    StatusOrder {
        of: of.clone(),
        commit,
        name,
        state: StatusState::Failed,
        description: cut(why),
        target_url: None,
        ref_name: event.ref_name.clone(),
        merge_request: event.kind.merge_request().map(|it| it.iid),
        source_project: event.provenance.source_project.as_ref().map(|it| it.id),
        run: None,
    }
}

fn order(about: EffectId, status: StatusOrder) -> Order {
    let says = Digest::of_parts([
        status.name.as_bytes(),
        status.description.as_bytes(),
        status.target_url.as_deref().unwrap_or_default().as_bytes(),
    ]);
    let key = format!("status/{}/{}", status.state.as_str(), says.hex());
    Order {
        id: about.follow_up(&key),
        key: EffectKey::new(key),
        task: Task::SetStatus(status),
    }
}

fn cut(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= DESCRIPTION {
        return line;
    }
    line.chars().take(DESCRIPTION - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_model::lane::{Lane, Subject};
    use penstock_model::scope::Trust;

    fn run() -> RunOrder {
        let digest = Digest::of(b"x");
        RunOrder {
            of: ProjectOf {
                instance: "main".into(),
                project: penstock_model::id::ProjectId(7),
                path: "acme/api".into(),
                tenant: "acme/**".into(),
            },
            plugin: "p".into(),
            plugin_digest: digest,
            place: "ci".into(),
            cluster: "prod".into(),
            namespace: "ci".into(),
            creator: "penstock".into(),
            run_as: "ci".into(),
            name: "build-0".into(),
            manifest: serde_json::Value::Null,
            manifest_digest: digest,
            pipeline: "build".into(),
            status_name: "build".into(),
            commit: CommitId::parse(&"a".repeat(40)).unwrap(),
            ref_name: Some("refs/heads/main".into()),
            merge_request: None,
            source_project: None,
            trust: Trust::Member,
            lane: Lane {
                instance: "main".into(),
                project: None,
                subject: Subject::Whole,
            },
            queue: None,
            keep: None,
            secrets: Vec::new(),
            end_at_depth: None,
        }
    }

    fn id() -> EffectId {
        EffectId::new(
            &"main".into(),
            &"d".into(),
            &"r".into(),
            1,
            &"run/build".into(),
        )
    }

    fn told(state: RunState, reason: &str) -> (EffectId, StatusOrder) {
        let order = of_run(
            id(),
            &run(),
            News {
                state,
                reason,
                url: None,
            },
        );
        let Task::SetStatus(status) = order.task else {
            panic!("no status")
        };
        (order.id, status)
    }

    #[test]
    fn the_same_news_is_one_post_and_other_news_is_another() {
        assert_eq!(
            told(RunState::Running, "a").0,
            told(RunState::Running, "a").0
        );
        assert_ne!(
            told(RunState::Running, "a").0,
            told(RunState::Running, "b").0
        );
        assert_ne!(
            told(RunState::Running, "a").0,
            told(RunState::Failed, "a").0
        );
    }

    #[test]
    fn a_run_that_was_never_created_has_failed_and_one_that_vanished_is_canceled() {
        assert_eq!(told(RunState::Refused, "x").1.state, StatusState::Failed);
        assert_eq!(told(RunState::Gone, "x").1.state, StatusState::Canceled);
    }

    #[test]
    fn a_long_reason_is_cut_at_what_gitlab_keeps() {
        let (_, status) = told(RunState::Failed, &"é ".repeat(400));
        assert_eq!(status.description.chars().count(), 255);
        assert!(status.description.ends_with('…'));
    }
}
