//! Heads that nothing was decided about become `sweep` events.
//!
//! A difference is believed when it was seen twice, some time apart: the webhook that tells of it may just be on its way. One that a delivery told of is
//! none, whatever became of that delivery: what failed is tried again by people, and what Penstock's own users did starts nothing.

use std::collections::BTreeSet;
use std::time::Instant;

use penstock_gitlab::{Heads, merge_request_now};
use penstock_model::admit::ProjectOf;
use penstock_model::event::{MergeRequest, Sweep};
use penstock_model::host_event::{HostEvent, Suspect};
use penstock_model::id::{RefName, Timestamp};
use penstock_model::lane::{Lane, Subject};
use penstock_store::{Head, KnownProject, Move, NewHostEvent, Waiting};
use serde::{Deserialize, Serialize};

use super::Memory;
use super::known::{Compared, Difference, at_first_sight, differences};
use super::late::{KNOWN_EVERYWHERE, sweep_id, tells};
use super::round::{Cut, Round};

/// What was found of a subject.
pub(super) type Found = Head;

/// What is kept of a look at a project.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Seen {
    /// Lists that were compared.
    compared: Compared,
    /// Number of the last delivery up to which none waited.
    settled_to: u64,
}

impl Round<'_> {
    /// Compares a project's heads; the lists that were compared at the last look, if there was one.
    pub(super) async fn sweep(
        &mut self,
        of: &ProjectOf,
        heads: &Heads,
        waiting: Waiting,
        compared: Compared,
        memory: &mut Memory,
    ) -> Result<Option<Compared>, Cut> {
        let (store, now) = (&self.host.store, Timestamp::now());
        let mark = format!("heads/{}/{}", of.instance, of.project);
        let before: Option<Seen> = store
            .mark(&mark)
            .await?
            .and_then(|(value, _)| serde_json::from_str(&value).ok());
        let lists = before.as_ref().map(|before| before.compared);
        let mut known = store.heads(&of.instance, of.project).await?;
        let taken = at_first_sight(&known, heads, lists, compared);
        if !taken.is_empty() {
            known.extend(taken.iter().cloned());
            store
                .take_heads_for_known(&of.instance, of.project, taken, now)
                .await?;
        }
        let found = differences(&known, heads, &waiting.subjects, compared);
        let subjects: BTreeSet<&String> = found.iter().map(|it| &it.subject).collect();
        memory.unsettled.retain(|(instance, project, subject), _| {
            (instance, project) != (&of.instance, &of.project) || subjects.contains(subject)
        });
        let after = before.map_or(0, |before| before.settled_to);
        for difference in &found {
            let key = (of.instance.clone(), of.project, difference.subject.clone());
            if self.was_told(of, difference, after).await? {
                self.take_for_known(of, difference).await?;
                memory.unsettled.remove(&key);
                continue;
            }
            let seen = memory.unsettled.get(&key);
            let since = seen.filter(|(seen, _)| *seen == difference.found);
            match since.map(|(_, since)| *since) {
                Some(since) if since.elapsed() >= self.live.config.reconcile.settle => {
                    self.tell(of, difference).await?;
                    memory.unsettled.remove(&key);
                }
                Some(_) => {}
                None => {
                    let new = (difference.found.clone(), Instant::now());
                    memory.unsettled.insert(key, new);
                }
            }
        }
        let seen = Seen {
            compared,
            settled_to: waiting.settled_to,
        };
        let value = serde_json::to_string(&seen).unwrap_or_default();
        store.set_mark(&mark, &value, now).await?;
        Ok(lists)
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
        Ok(bodies.iter().any(|body| tells(body, &difference.found)))
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
