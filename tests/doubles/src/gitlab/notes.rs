//! Notes on merge requests and commits: create, edit, delete, list; alone and in discussions.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    answer::{Answer, ApiError},
    call::Call,
    project::{Access, Project},
    repository::object_id,
    rest, show,
    world::World,
};

/// One note.
#[derive(Clone, Debug)]
pub(crate) struct Note {
    pub(crate) id: u64,
    pub(crate) discussion: String,
    pub(crate) alone: bool,
    pub(crate) body: String,
    pub(crate) author: u64,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
    pub(crate) system: bool,
    pub(crate) internal: bool,
    pub(crate) position: Option<Value>,
}

impl Note {
    pub(crate) fn new(world: &mut World, author: u64, body: &str) -> Self {
        let (id, now) = (world.next_id(), world.now());
        Self {
            id,
            discussion: object_id("discussion", id.to_string().as_bytes()),
            alone: true,
            body: body.to_owned(),
            author,
            created_at: now,
            updated_at: now,
            system: false,
            internal: false,
            position: None,
        }
    }
}

/// What notes hang on.
#[derive(Clone, Debug)]
pub(crate) enum Subject {
    /// A merge request, by its iid.
    MergeRequest(u64),
    /// A commit, by its full id.
    Commit(String),
}

impl Subject {
    pub(crate) fn notes<'a>(&self, project: &'a Project) -> Vec<&'a Note> {
        match self {
            Self::MergeRequest(iid) => project.merge_requests[iid].notes.iter().collect(),
            Self::Commit(sha) => project
                .commit_notes
                .iter()
                .filter(|(on, _)| on == sha)
                .map(|(_, note)| note)
                .collect(),
        }
    }

    fn find_mut<'a>(&self, project: &'a mut Project, id: u64) -> Result<&'a mut Note, ApiError> {
        let found = match self {
            Self::MergeRequest(iid) => project
                .merge_requests
                .get_mut(iid)
                .and_then(|found| found.notes.iter_mut().find(|note| note.id == id)),
            Self::Commit(sha) => project
                .commit_notes
                .iter_mut()
                .find(|(on, note)| on == sha && note.id == id)
                .map(|(_, note)| note),
        };
        found.ok_or_else(|| ApiError::not_found("Note"))
    }

    pub(crate) fn add(&self, project: &mut Project, note: Note) {
        match self {
            Self::MergeRequest(iid) => {
                let request = project
                    .merge_requests
                    .get_mut(iid)
                    .expect("a merge request");
                // GitLab touches what is commented on.
                request.updated_at = note.created_at;
                request.notes.push(note);
            }
            Self::Commit(sha) => project.commit_notes.push((sha.clone(), note)),
        }
    }

    fn remove(&self, project: &mut Project, id: u64) {
        match self {
            Self::MergeRequest(iid) => {
                project
                    .merge_requests
                    .get_mut(iid)
                    .expect("a merge request")
                    .notes
                    .retain(|note| note.id != id);
            }
            Self::Commit(_) => project.commit_notes.retain(|(_, note)| note.id != id),
        }
    }

    /// As the REST API shows a note on this subject.
    pub(crate) fn show(&self, world: &World, project: &Project, note: &Note) -> Value {
        let (kind, id, iid, commit) = match self {
            Self::MergeRequest(iid) => (
                "MergeRequest",
                Some(project.merge_requests[iid].id),
                Some(*iid),
                None,
            ),
            Self::Commit(sha) => ("Commit", None, None, Some(sha)),
        };
        json!({
            "id": note.id,
            "type": if note.alone { Value::Null } else { json!("DiscussionNote") },
            "body": note.body,
            "attachment": null,
            "author": show::show_user(world, note.author),
            "created_at": note.created_at.to_string(),
            "updated_at": note.updated_at.to_string(),
            "system": note.system,
            "noteable_id": id,
            "noteable_type": kind,
            "noteable_iid": iid,
            "commit_id": commit,
            "project_id": project.id,
            "resolvable": !note.alone,
            "resolved": false,
            "confidential": note.internal,
            "internal": note.internal,
            "imported": false,
            "imported_from": "none",
            "position": note.position,
            "commands_changes": {},
        })
    }

    fn show_discussion(&self, world: &World, project: &Project, id: &str) -> Value {
        let notes: Vec<&Note> = self
            .notes(project)
            .into_iter()
            .filter(|note| note.discussion == id)
            .collect();
        json!({
            "id": id,
            "individual_note": notes.first().is_some_and(|note| note.alone),
            "notes": notes.iter().map(|note| self.show(world, project, note)).collect::<Vec<_>>(),
        })
    }
}

/// `…/notes`, `…/notes/:id`.
pub(crate) fn answer(
    world: &mut World,
    call: &Call,
    project: u64,
    on: &Subject,
    rest_of_path: &[&str],
) -> Result<Answer, ApiError> {
    match (call.method.as_str(), rest_of_path) {
        ("GET", []) => {
            let found = rest::project(world, project);
            let mut notes = on.notes(found);
            let ascending = call.text("sort").as_deref() == Some("asc");
            notes.sort_by_key(|note| {
                if ascending {
                    (note.id as i64, 0)
                } else {
                    (-(note.id as i64), 0)
                }
            });
            Ok(Answer::Rows(
                notes
                    .into_iter()
                    .map(|note| on.show(world, found, note))
                    .collect(),
            ))
        }
        ("POST", []) => {
            let note = create(world, call, project, on, true)?;
            Ok(Answer::created(on.show(
                world,
                rest::project(world, project),
                &note,
            )))
        }
        ("GET", [id]) => {
            let found = rest::project(world, project);
            let note = on
                .notes(found)
                .into_iter()
                .find(|note| note.id.to_string() == *id);
            let note = note.ok_or_else(|| ApiError::not_found("Note"))?;
            Ok(Answer::ok(on.show(world, found, note)))
        }
        ("PUT", [id]) => {
            let body = body_of(call)?;
            let now = world.now();
            let note = own_note(world, call, project, on, id)?;
            note.body = body;
            note.updated_at = now;
            let note = note.clone();
            Ok(Answer::ok(on.show(
                world,
                rest::project(world, project),
                &note,
            )))
        }
        ("DELETE", [id]) => {
            let id = own_note(world, call, project, on, id)?.id;
            on.remove(world.projects.get_mut(&project).expect("a project"), id);
            Ok(Answer::Nothing)
        }
        _ => Err(ApiError::not_found("")),
    }
}

/// `…/discussions`, `…/discussions/:id`, `…/discussions/:id/notes(/:id)`.
pub(crate) fn answer_discussions(
    world: &mut World,
    call: &Call,
    project: u64,
    on: &Subject,
    rest_of_path: &[&str],
) -> Result<Answer, ApiError> {
    let exists = |world: &World, id: &str| {
        let found = rest::project(world, project);
        on.notes(found).iter().any(|note| note.discussion == id)
    };
    match (call.method.as_str(), rest_of_path) {
        ("GET", []) => {
            let found = rest::project(world, project);
            let mut ids: Vec<&str> = Vec::new();
            for note in on.notes(found) {
                if !ids.contains(&note.discussion.as_str()) {
                    ids.push(&note.discussion);
                }
            }
            Ok(Answer::Rows(
                ids.into_iter()
                    .map(|id| on.show_discussion(world, found, id))
                    .collect(),
            ))
        }
        ("POST", []) => {
            let note = create(world, call, project, on, false)?;
            Ok(Answer::created(on.show_discussion(
                world,
                rest::project(world, project),
                &note.discussion,
            )))
        }
        (_, [id, ..]) if !exists(world, id) => Err(ApiError::not_found("Discussion")),
        ("GET", [id]) => Ok(Answer::ok(on.show_discussion(
            world,
            rest::project(world, project),
            id,
        ))),
        ("POST", [id, "notes"]) => {
            let note = create_in(world, call, project, on, false, Some(id))?;
            Ok(Answer::created(on.show(
                world,
                rest::project(world, project),
                &note,
            )))
        }
        (_, [_, "notes", note]) => answer(world, call, project, on, &[note]),
        _ => Err(ApiError::not_found("")),
    }
}

/// `…/repository/commits/:sha/comments`, the older way to note on a commit.
pub(crate) fn answer_comments(
    world: &mut World,
    call: &Call,
    project: u64,
    sha: &str,
) -> Result<Answer, ApiError> {
    let on = Subject::Commit(sha.to_owned());
    let show = |world: &World, note: &Note| {
        json!({
            "note": note.body,
            "path": null,
            "line": null,
            "line_type": null,
            "author": show::show_user(world, note.author),
            "created_at": note.created_at.to_string(),
        })
    };
    match call.method.as_str() {
        "GET" => {
            let notes = on.notes(rest::project(world, project));
            Ok(Answer::Rows(
                notes.into_iter().map(|note| show(world, note)).collect(),
            ))
        }
        "POST" => {
            let note = create(world, call, project, &on, true)?;
            Ok(Answer::created(show(world, &note)))
        }
        _ => Err(ApiError::error(405, "405 Not Allowed")),
    }
}

fn body_of(call: &Call) -> Result<String, ApiError> {
    let body = call.text("body").or_else(|| call.text("note"));
    let body = body.ok_or_else(|| ApiError::parameter("body is missing".to_owned()))?;
    if body.trim().is_empty() {
        return Err(ApiError::message(
            400,
            "400 Bad request - Note {:note=>[\"can't be blank\"]}",
        ));
    }
    if body.chars().count() > 1_000_000 {
        return Err(ApiError::message(
            400,
            "400 Bad request - Note {:note=>[\"is too long (maximum is 1000000 characters)\"]}",
        ));
    }
    Ok(body)
}

fn create(
    world: &mut World,
    call: &Call,
    project: u64,
    on: &Subject,
    alone: bool,
) -> Result<Note, ApiError> {
    create_in(world, call, project, on, alone, None)
}

fn create_in(
    world: &mut World,
    call: &Call,
    project: u64,
    on: &Subject,
    alone: bool,
    discussion: Option<&str>,
) -> Result<Note, ApiError> {
    let body = body_of(call)?;
    let limit = world.limits.notes_a_minute;
    if !world.within("notes", call.who.user, 0, limit) {
        return Err(ApiError::too_often());
    }
    let mut note = Note::new(world, call.who.user, &body);
    note.alone = alone;
    note.internal = call.flag("internal").unwrap_or(false);
    note.position = call.body.get("position").cloned();
    if let Some(discussion) = discussion {
        discussion.clone_into(&mut note.discussion);
    }
    on.add(
        world.projects.get_mut(&project).expect("a project"),
        note.clone(),
    );
    Ok(note)
}

/// A note that the caller may change: the author's own, or anyone's for a maintainer.
fn own_note<'a>(
    world: &'a mut World,
    call: &Call,
    project: u64,
    on: &Subject,
    id: &str,
) -> Result<&'a mut Note, ApiError> {
    let level = rest::project(world, project).level(world, call.who.user);
    let id = id
        .parse()
        .map_err(|_| ApiError::parameter("note_id is invalid".to_owned()))?;
    let note = on.find_mut(world.projects.get_mut(&project).expect("a project"), id)?;
    if note.system || (note.author != call.who.user && level < Access::Maintainer as u8) {
        return Err(ApiError::forbidden());
    }
    Ok(note)
}
