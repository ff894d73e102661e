//! One living comment for (plugin, target, key): written, edited, taken away.
//!
//! A comment is found again by a hidden first line, `<!-- penstock:… -->`, a digest of instance, plugin, target and key. Only notes of
//! Penstock's own users count, and only where the line stands first: a marker within a plugin's text is text. Whoever
//! tries again after a lost answer looks first, so nothing is written twice; where two are found, the younger ones go.

use penstock_model::admit::CommentOrder;
use penstock_model::effect::CommentTarget;
use penstock_model::id::{Digest, ProjectId, UserId};
use serde::Deserialize;
use serde_json::json;

use crate::api::or_default;
use crate::call::Call;
use crate::client::Client;
use crate::confirm::OwnUsers;
use crate::error::{ActError, ApiError};
use crate::neutral::neutral;

/// GitLab's limit, in characters.
const LONGEST: usize = 1_000_000;

const CUT_NOTICE: &str = "\n\n*(cut: the text is longer than GitLab takes)*";

/// Pages of notes that are searched for ours.
const MOST_NOTE_PAGES: usize = 100;

/// What came of a comment. The numbers are GitLab's ids of the note.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommentOutcome {
    /// There was none, and now there is.
    Created(u64),
    /// It says something else now.
    Edited(u64),
    /// It said so already.
    Unchanged(u64),
    /// It is gone.
    Removed,
    /// There was none to take away.
    Absent,
}

/// A note of ours.
#[derive(Clone, Debug)]
struct Living {
    id: u64,
    /// Of a commit's note, whose address goes by its discussion.
    discussion: Option<String>,
    author: u64,
    body: String,
}

#[derive(Deserialize)]
struct NoteRow {
    id: u64,
    #[serde(default, deserialize_with = "or_default")]
    body: String,
    author: AuthorRow,
    #[serde(default, deserialize_with = "or_default")]
    system: bool,
}

#[derive(Deserialize)]
struct AuthorRow {
    id: u64,
}

#[derive(Deserialize)]
struct DiscussionRow {
    id: String,
    notes: Vec<NoteRow>,
}

/// Writes, edits or takes away a comment.
///
/// # Errors
/// GitLab refuses for good, or asks to try again.
pub async fn comment(
    client: &Client,
    order: &CommentOrder,
    own: &OwnUsers,
) -> Result<CommentOutcome, ActError> {
    let thread = Thread {
        client,
        project: order.of.project,
        target: &order.target,
        marker: marker(order),
    };
    let done = thread.bring_about(order.body.as_deref(), own).await;
    done.map_err(|error| match error {
        error if error.is_denial() => ActError::Permanent(format!(
            "the comment on {} can't be written: {error}; give Penstock's user the Reporter role in `{}`, or more",
            describe(&order.target),
            order.of.path,
        )),
        error => error.into(),
    })
}

fn describe(target: &CommentTarget) -> String {
    match target {
        CommentTarget::MergeRequest(iid) => format!("!{iid}"),
        CommentTarget::Commit(id) => id.to_string(),
    }
}

/// The hidden line that a comment is found again by.
fn marker(order: &CommentOrder) -> String {
    let target = describe(&order.target);
    let digest = Digest::of_parts([
        order.of.instance.as_str().as_bytes(),
        order.plugin.as_str().as_bytes(),
        target.as_bytes(),
        order.key.as_str().as_bytes(),
    ]);
    let short: String = digest.hex().chars().take(32).collect();
    format!("<!-- penstock:{short} -->")
}

/// The whole note: marker and text, within GitLab's limit.
fn compose(marker: &str, body: &str) -> String {
    let text = neutral(body);
    let room = LONGEST - marker.chars().count() - 2;
    if text.chars().count() <= room {
        return format!("{marker}\n\n{text}");
    }
    let kept: String = text
        .chars()
        .take(room - CUT_NOTICE.chars().count())
        .collect();
    format!("{marker}\n\n{kept}{CUT_NOTICE}")
}

struct Thread<'a> {
    client: &'a Client,
    project: ProjectId,
    target: &'a CommentTarget,
    marker: String,
}

impl Thread<'_> {
    async fn bring_about(
        &self,
        body: Option<&str>,
        own: &OwnUsers,
    ) -> Result<CommentOutcome, ApiError> {
        let gate = self
            .client
            .shared
            .comment_gates
            .gate((self.project, describe(self.target)));
        let _one_at_a_time = gate.lock().await;
        let me = self.client.own_user().await?.id;
        let mut found = self.find(me, own).await?;
        let Some(body) = body else {
            let outcome = if found.is_empty() {
                CommentOutcome::Absent
            } else {
                CommentOutcome::Removed
            };
            for living in found {
                self.remove(&living).await?;
            }
            return Ok(outcome);
        };
        let text = compose(&self.marker, body);
        // The oldest stays; one of this token's user before one of an earlier user's.
        found.sort_by_key(|living| (living.author != me, living.id));
        let mut found = found.into_iter();
        let first = found.next();
        for younger in found {
            self.remove(&younger).await?;
        }
        match first {
            Some(living) if same(&living.body, &text) => Ok(CommentOutcome::Unchanged(living.id)),
            Some(living) => match self.edit(&living, &text).await {
                Ok(()) => Ok(CommentOutcome::Edited(living.id)),
                // An earlier user's note that this one may not edit; or somebody took it away just now.
                Err(error) if error.is_denial() => self.create(&text).await,
                Err(error) => Err(error),
            },
            None => self.create(&text).await,
        }
    }

    fn key(&self) -> (ProjectId, String) {
        (self.project, self.marker.clone())
    }

    fn is_ours(&self, note: &NoteRow, me: u64, own: &OwnUsers) -> bool {
        let by_us = note.author.id == me || own.contains(&UserId(note.author.id));
        by_us && !note.system && note.body.starts_with(&self.marker)
    }

    async fn find(&self, me: u64, own: &OwnUsers) -> Result<Vec<Living>, ApiError> {
        let remembered = self.client.shared.comments.get(&self.key());
        if let Some((id, discussion)) = remembered {
            match self.read(id, discussion.clone()).await {
                Ok(note) if self.is_ours(&note, me, own) => {
                    return Ok(vec![Living {
                        id,
                        discussion,
                        author: note.author.id,
                        body: note.body,
                    }]);
                }
                Ok(_) | Err(ApiError::NotFound(_)) => {
                    self.client.shared.comments.remove(&self.key());
                }
                Err(error) => return Err(error),
            }
        }
        let mut found = Vec::new();
        let mut keep = |note: NoteRow, discussion: Option<String>| {
            if self.is_ours(&note, me, own) {
                found.push(Living {
                    id: note.id,
                    discussion,
                    author: note.author.id,
                    body: note.body,
                });
            }
        };
        let project = self.project.to_string();
        match self.target {
            CommentTarget::MergeRequest(iid) => {
                let iid = iid.to_string();
                let path = ["projects", &project, "merge_requests", &iid, "notes"];
                let call = Call::get("notes", &path)
                    .with("sort", "asc")
                    .with("order_by", "created_at")
                    .of(self.project);
                for note in self
                    .client
                    .pages::<NoteRow>(&call, MOST_NOTE_PAGES)
                    .await?
                    .rows
                {
                    keep(note, None);
                }
            }
            CommentTarget::Commit(id) => {
                let path = [
                    "projects",
                    &project,
                    "repository",
                    "commits",
                    id.as_str(),
                    "discussions",
                ];
                let call = Call::get("notes", &path).of(self.project);
                for discussion in self
                    .client
                    .pages::<DiscussionRow>(&call, MOST_NOTE_PAGES)
                    .await?
                    .rows
                {
                    let id = discussion.id;
                    discussion
                        .notes
                        .into_iter()
                        .for_each(|note| keep(note, Some(id.clone())));
                }
            }
        }
        if let Some(first) = found.first() {
            let place = (first.id, first.discussion.clone());
            self.client.shared.comments.insert(self.key(), place);
        }
        Ok(found)
    }

    /// The address of a note, or of all of them.
    fn path(&self, note: Option<(u64, Option<&str>)>) -> Vec<String> {
        let mut path = vec!["projects".to_owned(), self.project.to_string()];
        let mut add =
            |segments: &[&str]| path.extend(segments.iter().map(|segment| (*segment).to_owned()));
        match self.target {
            CommentTarget::MergeRequest(iid) => add(&["merge_requests", &iid.to_string(), "notes"]),
            CommentTarget::Commit(id) => {
                add(&["repository", "commits", id.as_str(), "discussions"]);
                if let Some((_, discussion)) = note {
                    add(&[discussion.unwrap_or_default(), "notes"]);
                }
            }
        }
        if let Some((id, _)) = note {
            add(&[&id.to_string()]);
        }
        path
    }

    async fn read(&self, id: u64, discussion: Option<String>) -> Result<NoteRow, ApiError> {
        let path = self.path(Some((id, discussion.as_deref())));
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        self.client
            .now(&Call::get("note", &path).of(self.project))
            .await
    }

    async fn create(&self, text: &str) -> Result<CommentOutcome, ApiError> {
        let path = self.path(None);
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let call = Call::new(http::Method::POST, "note.create", &path)
            .json(json!({ "body": text }))
            .of(self.project);
        let place = match self.target {
            CommentTarget::MergeRequest(_) => {
                let note: NoteRow = self.client.now(&call).await?;
                (note.id, None)
            }
            CommentTarget::Commit(_) => {
                let discussion: DiscussionRow = self.client.now(&call).await?;
                let note = discussion.notes.first().map(|note| note.id);
                let note = note.ok_or_else(|| ApiError::Unreadable {
                    class: "note.create",
                    problem: "the discussion has no note".to_owned(),
                })?;
                (note, Some(discussion.id))
            }
        };
        self.client
            .shared
            .comments
            .insert(self.key(), place.clone());
        Ok(CommentOutcome::Created(place.0))
    }

    async fn edit(&self, living: &Living, text: &str) -> Result<(), ApiError> {
        let path = self.path(Some((living.id, living.discussion.as_deref())));
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let call = Call::new(http::Method::PUT, "note.edit", &path)
            .json(json!({ "body": text }))
            .of(self.project);
        self.client.send(&call).await.map(|_| ())
    }

    async fn remove(&self, living: &Living) -> Result<(), ApiError> {
        let path = self.path(Some((living.id, living.discussion.as_deref())));
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        self.client.shared.comments.remove(&self.key());
        match self
            .client
            .send(&Call::new(http::Method::DELETE, "note.delete", &path).of(self.project))
            .await
        {
            Ok(_) | Err(ApiError::NotFound(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// GitLab takes blank space off the ends and writes line ends its own way.
fn same(held: &str, wanted: &str) -> bool {
    let plain = |text: &str| text.replace("\r\n", "\n").trim().to_owned();
    plain(held) == plain(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_is_too_long_is_cut_and_says_so() {
        let marker = "<!-- penstock:0 -->";
        let whole = compose(marker, &"ü".repeat(2_000_000));
        assert_eq!(whole.chars().count(), LONGEST);
        assert!(whole.starts_with(marker) && whole.ends_with(CUT_NOTICE));
        assert_eq!(compose(marker, "x"), format!("{marker}\n\nx"));
    }
}
