//! Comments with commands that no delivery told of.
//!
//! A comment is looked at once it is old enough for its webhook to have come, and only if it is a person's and a line of it begins with a slash: what else is
//! said in a merge request asks for nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use penstock_gitlab::{OpenRequest, SeenNote, note_of, notes_since};
use penstock_model::admit::ProjectOf;
use penstock_model::event::{EventKind, Note, NoteTarget};
use penstock_model::host_event::{HostEvent, Suspect};
use penstock_model::id::{RefName, Timestamp};
use penstock_model::lane::{Lane, Subject};
use penstock_model::scope::Trust;
use penstock_store::{KnownProject, NewHostEvent};

use super::late::{KNOWN_EVERYWHERE, host_note_id};
use super::round::{Cut, Round};
use crate::text;

/// Deliveries of a comment may have come a little before GitLab's time of it.
const SKEW: Duration = Duration::from_secs(10 * 60);

impl Round<'_> {
    /// Looks through the comments of a project's open merge requests since the last look. At the first one nothing was missed.
    pub(super) async fn comments(
        &self,
        of: &ProjectOf,
        open: &[OpenRequest],
        first: bool,
    ) -> Result<(), Cut> {
        let now = Timestamp::now();
        let settle = self.live.config.reconcile.settle;
        let until = now.minus(settle);
        let mark = format!("comments/{}/{}", of.instance, of.project);
        let since = match self.host.store.mark(&mark).await? {
            Some((value, _)) if !first => value.parse().map(Timestamp).unwrap_or(until),
            _ => until,
        };
        let own = self.instance.own_users(&self.host.store).await?;
        for request in open.iter().filter(|request| request.updated_at >= since) {
            let iid = request.request.iid;
            let notes = notes_since(&self.client, of.project, iid, since).await?;
            if !notes.complete {
                self.lose(format!(
                    "`{}!{iid}` has too many comments since {} to look through them all",
                    of.path,
                    text::time(since)
                ))
                .await?;
            }
            let new: Vec<SeenNote> = notes
                .rows
                .into_iter()
                .filter(|note| note.created_at < until && !own.contains(&note.author))
                .filter(|note| asks(&note.text))
                .collect();
            if new.is_empty() {
                continue;
            }
            let told = self.told(of, iid, since.minus(SKEW)).await?;
            for note in new.into_iter().filter(|note| !told.contains(&note.id)) {
                // What it said when it was written is not known, and what somebody wrote over it is nobody's wish.
                if note.edited {
                    self.lose(format!(
                        "comment {} of `{}!{iid}` was edited, and no delivery told of what it said",
                        note.id, of.path
                    ))
                    .await?;
                    continue;
                }
                self.tell_note(of, request, note).await?;
            }
        }
        Ok(self
            .host
            .store
            .set_mark(&mark, &until.0.to_string(), now)
            .await?)
    }

    /// Ids of the comments that deliveries told of.
    async fn told(&self, of: &ProjectOf, iid: u64, since: Timestamp) -> Result<BTreeSet<u64>, Cut> {
        let subject = format!("!{iid}");
        let project = KnownProject {
            id: of.project,
            path: of.path.clone(),
        };
        let bodies = self
            .host
            .store
            .notes_about(&of.instance, &project, &subject, since)
            .await?;
        Ok(bodies.iter().filter_map(|body| note_id(body)).collect())
    }

    async fn tell_note(&self, of: &ProjectOf, on: &OpenRequest, note: SeenNote) -> Result<(), Cut> {
        let (request, now) = (on.request.clone(), Timestamp::now());
        let iid = request.iid;
        let event = HostEvent {
            of: of.clone(),
            ref_name: Some(RefName::new(format!(
                "refs/heads/{}",
                request.source_branch
            ))),
            commit: Some(request.head.clone()),
            source_project: request
                .source_project
                .filter(|source| *source != of.project),
            suspect: Some(Suspect {
                id: note.author,
                username: note.author_name,
            }),
            most: Trust::Protected,
            kind: EventKind::Note(Note {
                id: note.id,
                text: note.text,
                target: NoteTarget::MergeRequest(request),
                created: true,
                system: false,
            }),
        };
        let new = NewHostEvent {
            id: host_note_id(of.project, note.id),
            header: "Found Note",
            event,
            lane: Lane {
                instance: of.instance.clone(),
                project: Some(of.project),
                subject: Subject::MergeRequest(iid),
            },
            moves: None,
            not_before: now.plus(KNOWN_EVERYWHERE),
        };
        let id = new.id.clone();
        if self.host.store.append_host(new, now).await? {
            self.host.found.yes().await;
            self.host.metrics.reconciled(self.name.as_str(), "comment");
            tracing::info!(delivery.id = id, project = %of.path, iid, "found a comment that no delivery told of");
        }
        Ok(())
    }
}

/// A line of it may be a command.
fn asks(text: &str) -> bool {
    text.lines().any(|line| line.trim_start().starts_with('/'))
}

/// The comment that a kept body is about: GitLab's, or one of the host's own events.
fn note_id(body: &[u8]) -> Option<u64> {
    let own = || match serde_json::from_slice::<HostEvent>(body).ok()?.kind {
        EventKind::Note(note) => Some(note.id),
        _ => None,
    };
    note_of(body).or_else(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_asks_for_something_if_a_line_begins_with_a_slash() {
        for (text, expect) in [
            ("/test", true),
            ("please\n  /retest build", true),
            ("see a/b", false),
            ("", false),
        ] {
            assert_eq!(asks(text), expect, "{text}");
        }
    }
}
