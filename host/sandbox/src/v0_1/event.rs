//! The model's event in the words of the contract.

use penstock_model::event as model;
use penstock_model::run::{Run, RunState};
use penstock_model::scope::{Actor, Author, Group, Project, Provenance, Scope, Trust};

use super::wit::{events as wit, types};

/// An event.
pub(crate) fn event(event: &model::Event) -> wit::Event {
    wit::Event {
        delivery: event.delivery.as_str().to_owned(),
        received_at: event.received_at.0,
        instance: event.instance.as_str().to_owned(),
        instance_url: event.instance_url.clone(),
        tenant: event.tenant.as_str().to_owned(),
        scope: scope(&event.scope),
        actor: event.actor.as_ref().map(actor),
        provenance: provenance(&event.provenance),
        ref_name: event.ref_name.as_ref().map(text),
        commit: event.commit.as_ref().map(text),
        kind: kind(&event.kind),
        extras: extras(&event.kind),
    }
}

/// What has been added to events since the contract was written, as JSON under its name.
fn extras(kind: &model::EventKind) -> Vec<types::Extra> {
    let excerpt = match kind {
        model::EventKind::RunFinished(it) => it.log_excerpt.as_deref(),
        _ => None,
    };
    excerpt
        .map(|excerpt| {
            let json = serde_json::Value::from(excerpt).to_string();
            ("log-excerpt".to_owned(), json)
        })
        .into_iter()
        .collect()
}

fn text(name: &impl ToString) -> String {
    name.to_string()
}

fn scope(scope: &Scope) -> types::Scope {
    match scope {
        Scope::Project(it) => types::Scope::Project(project(it)),
        Scope::Group(Group { id, path, web_url }) => types::Scope::Group(types::Group {
            id: *id,
            path: path.clone(),
            web_url: web_url.clone(),
        }),
        Scope::Instance => types::Scope::Instance,
    }
}

fn project(project: &Project) -> types::Project {
    types::Project {
        id: project.id.0,
        path: project.path.as_str().to_owned(),
        default_branch: project.default_branch.clone(),
        web_url: project.web_url.clone(),
        visibility: project.visibility.clone(),
    }
}

/// Somebody who did something.
pub(super) fn actor(actor: &Actor) -> types::Actor {
    types::Actor {
        id: actor.id.0,
        username: actor.username.clone(),
        bot: actor.bot,
        host: actor.host,
        access: actor.access,
    }
}

/// Somebody who wrote or pushed a commit.
pub(super) fn author(author: &Author) -> types::Author {
    types::Author {
        name: author.name.clone(),
        email: author.email.clone(),
        user: author.user.as_ref().map(actor),
    }
}

fn provenance(provenance: &Provenance) -> types::Provenance {
    types::Provenance {
        trust: match provenance.trust {
            Trust::Untrusted => types::Trust::Untrusted,
            Trust::Member => types::Trust::Member,
            Trust::Protected => types::Trust::Protected,
        },
        ref_protected: provenance.ref_protected,
        source_project: provenance.source_project.as_ref().map(project),
        confirmed: provenance.confirmed,
    }
}

fn kind(kind: &model::EventKind) -> wit::EventKind {
    match kind {
        model::EventKind::Push(it) => wit::EventKind::Push(push(it)),
        model::EventKind::TagPush(it) => wit::EventKind::TagPush(wit::TagPush {
            ref_name: text(&it.ref_name),
            before: it.before.clone(),
            after: it.after.clone(),
            message: it.message.clone(),
        }),
        model::EventKind::MergeRequest(it) => {
            wit::EventKind::MergeRequest(wit::MergeRequestEvent {
                merge_request: merge_request(&it.merge_request),
                action: it.action.clone(),
                old_head: it.old_head.as_ref().map(text),
                changed: it.changed.clone(),
                system: it.system,
            })
        }
        model::EventKind::Note(it) => wit::EventKind::Note(note(it)),
        model::EventKind::Pipeline(it) => wit::EventKind::Pipeline(wit::Pipeline {
            id: it.id,
            ref_: it.git_ref.clone(),
            tag: it.tag,
            sha: text(&it.sha),
            status: it.status.clone(),
            source: it.source.clone(),
            merge_request: it.merge_request,
        }),
        model::EventKind::Deployment(it) => wit::EventKind::Deployment(wit::Deployment {
            id: it.id,
            status: it.status.clone(),
            environment: it.environment.clone(),
            tier: it.tier.clone(),
            ref_: it.git_ref.clone(),
            sha: it.sha.clone(),
        }),
        model::EventKind::Release(it) => wit::EventKind::Release(wit::Release {
            tag: it.tag.clone(),
            name: it.name.clone(),
            action: it.action.clone(),
        }),
        model::EventKind::TokenExpiring(it) => wit::EventKind::TokenExpiring(wit::TokenExpiring {
            token_id: it.token_id,
            name: it.name.clone(),
            owner: it.owner.clone(),
            expires_at: it.expires_at.clone(),
        }),
        model::EventKind::Sweep(it) => wit::EventKind::Sweep(wit::Sweep {
            ref_name: text(&it.ref_name),
            merge_request: it.merge_request.as_ref().map(merge_request),
            last_decided: it.last_decided.as_ref().map(text),
            found: it.found.as_ref().map(text),
        }),
        model::EventKind::Request(it) => wit::EventKind::Request(wit::Request {
            name: it.name.clone(),
            ref_name: text(&it.ref_name),
            commit: text(&it.commit),
            parameters: it.parameters.clone(),
            source: it.source.clone(),
        }),
        model::EventKind::RunFinished(it) => wit::EventKind::RunFinished(wit::RunFinished {
            run: run(&it.run),
            depth: it.depth,
            failed_task: it.failed_task.clone(),
        }),
        model::EventKind::Other(word) => wit::EventKind::Other(word.clone()),
    }
}

fn push(push: &model::Push) -> wit::Push {
    wit::Push {
        ref_name: text(&push.ref_name),
        before: push.before.as_ref().map(text),
        after: push.after.as_ref().map(text),
        commits: push.commits.iter().map(commit).collect(),
        total_commits: push.total_commits,
    }
}

fn commit(commit: &model::Commit) -> wit::Commit {
    wit::Commit {
        id: text(&commit.id),
        title: commit.title.clone(),
        message: commit.message.clone(),
        author_name: commit.author_name.clone(),
        author_email: commit.author_email.clone(),
        added: commit.added.clone(),
        modified: commit.modified.clone(),
        removed: commit.removed.clone(),
    }
}

/// A merge request.
pub(super) fn merge_request(it: &model::MergeRequest) -> wit::MergeRequest {
    wit::MergeRequest {
        iid: it.iid,
        title: it.title.clone(),
        state: it.state.clone(),
        draft: it.draft,
        source_project: it.source_project.map(|id| id.0),
        source_branch: it.source_branch.clone(),
        target_branch: it.target_branch.clone(),
        head: text(&it.head),
        author: it.author.0,
        labels: it.labels.clone(),
        web_url: it.web_url.clone(),
    }
}

fn note(note: &model::Note) -> wit::Note {
    wit::Note {
        id: note.id,
        text: note.text.clone(),
        target: match &note.target {
            model::NoteTarget::MergeRequest(it) => wit::NoteTarget::MergeRequest(merge_request(it)),
            model::NoteTarget::Commit(id) => wit::NoteTarget::Commit(text(id)),
            model::NoteTarget::Other(word) => wit::NoteTarget::Other(word.clone()),
        },
        created: note.created,
        system: note.system,
    }
}

/// A run.
pub(super) fn run(run: &Run) -> wit::Run {
    wit::Run {
        id: run.id.clone(),
        plugin: text(&run.plugin),
        key: text(&run.key),
        pipeline: run.pipeline.clone(),
        place: text(&run.place),
        ref_name: run.ref_name.as_ref().map(text),
        merge_request: run.merge_request,
        commit: text(&run.commit),
        state: match run.state {
            RunState::Queued => wit::RunState::Queued,
            RunState::Gated => wit::RunState::Gated,
            RunState::Running => wit::RunState::Running,
            RunState::Succeeded => wit::RunState::Succeeded,
            RunState::Failed => wit::RunState::Failed,
            RunState::Canceled => wit::RunState::Canceled,
            RunState::Refused => wit::RunState::Refused,
            RunState::Gone => wit::RunState::Gone,
        },
        reason: run.reason.clone(),
        web_url: run.web_url.clone(),
        created_at: run.created_at.0,
        started_at: run.started_at.map(|it| it.0),
        finished_at: run.finished_at.map(|it| it.0),
        results: run.results.clone(),
    }
}
