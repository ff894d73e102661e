//! Heads that nothing was decided about become `sweep` events.
//!
//! A difference is believed when it was seen twice, some time apart: the webhook that tells of it may just be on its way. One that a delivery told of is
//! none, whatever became of that delivery: what failed is tried again by people, and what Penstock's own users did starts nothing.

use std::time::Instant;

use penstock_gitlab::{Heads, merge_request_now, tells_head};
use penstock_model::admit::ProjectOf;
use penstock_model::event::{MergeRequest, Sweep};
use penstock_model::host_event::{HostEvent, Suspect};
use penstock_model::id::{RefName, Timestamp};
use penstock_model::lane::{Lane, Subject};
use penstock_store::{KnownProject, Move, NewHostEvent};
use serde::{Deserialize, Serialize};

use super::Memory;
use super::known::{Compared, Difference, at_first_sight, differences};
use super::late::{KNOWN_EVERYWHERE, sweep_id};
use super::round::{Cut, Round};

/// What is kept of a look at a project.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Seen {
    /// Lists that were compared.
    pub compared: Compared,
    /// Number of the last delivery up to which none waited.
    pub settled_to: u64,
}

impl Round<'_> {
    /// Compares a project's heads; these, and what is kept of the look. Whether comments were looked through stays what it was.
    pub(super) async fn compare(
        &mut self,
        of: &ProjectOf,
        compared: Compared,
        memory: &mut Memory,
    ) -> Result<(Heads, Seen), Cut> {
        let store = &self.host.store;
        // Before GitLab is asked: what comes later may not be in its answer.
        let waiting = store.waiting(self.name, of.project).await?;
        let heads = penstock_gitlab::heads(&self.client, of.project).await?;
        let before = store
            .mark(&mark(of))
            .await?
            .and_then(|(value, _)| serde_json::from_str::<Seen>(&value).ok());
        let lists = before.as_ref().map(|before| before.compared);
        let mut known = store.heads(&of.instance, of.project).await?;
        let taken = at_first_sight(&known, &heads, lists, compared);
        if !taken.is_empty() {
            known.extend(taken.iter().cloned());
            store
                .take_heads_for_known(&of.instance, of.project, taken, Timestamp::now())
                .await?;
        }
        let found = differences(&known, &heads, &waiting.subjects, compared);
        let after = before.map_or(0, |before| before.settled_to);
        self.settle(of, &found, after, memory).await?;
        let seen = Seen {
            compared: Compared {
                comments: lists.is_some_and(|lists| lists.comments),
                ..compared
            },
            settled_to: waiting.settled_to,
        };
        self.note_look(of, &seen).await?;
        Ok((heads, seen))
    }

    /// Tells of the differences that stand, and remembers the others.
    async fn settle(
        &self,
        of: &ProjectOf,
        found: &[Difference],
        after: u64,
        memory: &mut Memory,
    ) -> Result<(), Cut> {
        let unsettled = &mut memory.unsettled;
        let settle = self.live.config.reconcile.settle;
        unsettled.only_subjects(of, &found.iter().map(|it| it.subject.as_str()).collect());
        for difference in found {
            let Difference { subject, found, .. } = difference;
            if self.was_told(of, difference, after).await? {
                self.take_for_known(of, difference).await?;
                unsettled.settled(of, subject);
            } else if unsettled.stands(of, subject, found, Instant::now(), settle) {
                self.tell(of, difference).await?;
                unsettled.settled(of, subject);
            }
        }
        Ok(())
    }

    /// Keeps what was seen for the next look.
    pub(super) async fn note_look(&self, of: &ProjectOf, seen: &Seen) -> Result<(), Cut> {
        let value = serde_json::to_string(seen).unwrap_or_default();
        let store = &self.host.store;
        Ok(store.set_mark(&mark(of), &value, Timestamp::now()).await?)
    }

    /// A delivery told of it after delivery number `after`, and decided nothing about the head.
    async fn was_told(
        &self,
        of: &ProjectOf,
        difference: &Difference,
        after: u64,
    ) -> Result<bool, Cut> {
        let project = KnownProject {
            id: of.project,
            path: of.path.clone(),
        };
        let store = &self.host.store;
        let bodies = store
            .told(&of.instance, &project, &difference.subject, after)
            .await?;
        let found = difference.found.as_ref();
        Ok(bodies.iter().any(|body| tells_head(body, found)))
    }

    async fn take_for_known(&self, of: &ProjectOf, difference: &Difference) -> Result<(), Cut> {
        let head = vec![(difference.subject.clone(), difference.found.clone())];
        let store = &self.host.store;
        Ok(store
            .take_heads_for_known(&of.instance, of.project, head, Timestamp::now())
            .await?)
    }

    async fn tell(&self, of: &ProjectOf, difference: &Difference) -> Result<(), Cut> {
        let subject = match difference.subject.strip_prefix('!').map(str::parse) {
            Some(Ok(iid)) => Subject::MergeRequest(iid),
            _ => Subject::Ref(RefName::new(difference.subject.clone())),
        };
        let request = match (&difference.request, &subject) {
            (Some(open), _) => Some(open.request.clone()),
            (None, Subject::MergeRequest(iid)) => {
                match merge_request_now(&self.client, of.project, *iid).await? {
                    // It was opened again while we looked.
                    Some(request) if request.state == "opened" => return Ok(()),
                    Some(request) => Some(request),
                    // It was deleted: there is nothing to tell of it.
                    None => return self.take_for_known(of, difference).await,
                }
            }
            (None, _) => None,
        };
        let event = HostEvent::sweep(
            of.clone(),
            Sweep {
                ref_name: ref_of(difference, request.as_ref()),
                last_decided: difference.last.clone(),
                found: difference.found.clone(),
                merge_request: request.clone(),
            },
            request.map(|request| suspect(difference, &request)),
        );
        let now = Timestamp::now();
        let id = sweep_id(of.project, &difference.subject, &difference.found);
        let new = NewHostEvent {
            id: format!("{id}{}", now.0),
            header: "Sweep",
            event,
            lane: Lane {
                instance: of.instance.clone(),
                project: Some(of.project),
                subject,
            },
            moves: Some(Move {
                from: difference.last.clone(),
                to: difference.found.clone(),
            }),
            not_before: now.plus(KNOWN_EVERYWHERE),
        };
        let id = new.id.clone();
        if self.host.store.append_host(new, now).await? {
            self.host.found.yes().await;
            self.host.metrics.reconciled(self.name.as_str(), "sweep");
            tracing::info!(
                delivery.id = id, project = %of.path, subject = difference.subject,
                "found a head that no delivery told of"
            );
        }
        Ok(())
    }
}

fn mark(of: &ProjectOf) -> String {
    format!("heads/{}/{}", of.instance, of.project)
}

/// Of a merge request only its author is known to have had a part in it.
fn suspect(difference: &Difference, request: &MergeRequest) -> Suspect {
    let open = difference.request.as_ref();
    Suspect {
        id: request.author,
        username: open
            .map(|open| open.author_name.clone())
            .unwrap_or_default(),
    }
}

fn ref_of(difference: &Difference, request: Option<&MergeRequest>) -> RefName {
    let source =
        |request: &MergeRequest| RefName::new(format!("refs/heads/{}", request.source_branch));
    difference
        .ref_name
        .clone()
        .or_else(|| request.map(source))
        .unwrap_or_else(|| RefName::new(difference.subject.clone()))
}
