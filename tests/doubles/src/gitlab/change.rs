//! What follows from an action: the webhooks, to be sent, looked at, bent or lost.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

use super::{
    Shared,
    hooks::Trigger,
    send::{self, Delivery, Force, Notice, Sent},
    world::World,
};

/// Something that happened, and the webhooks that GitLab would send for it.
///
/// Nothing is sent until [`Change::send`]; a change that is dropped is an event that GitLab lost.
#[must_use = "nothing is sent until `send` is called"]
#[derive(Clone)]
pub struct Change {
    /// The commit that it is about: the new head, or the merge request's head; empty if there is none.
    pub commit: String,
    /// The iid of the merge request, or the id of the note, pipeline, deployment or release.
    pub number: u64,
    pub(crate) notices: Vec<Notice>,
    pub(crate) shared: Arc<Shared>,
}

impl std::fmt::Debug for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kinds: Vec<Trigger> = self.notices.iter().map(|notice| notice.trigger).collect();
        f.debug_struct("Change")
            .field("commit", &self.commit)
            .field("number", &self.number)
            .field("notices", &kinds)
            .finish_non_exhaustive()
    }
}

impl Change {
    /// Sends every webhook to every hook that it reaches, one after the other.
    pub async fn send(&self) -> Vec<Sent> {
        let mut sent = Vec::new();
        for notice in &self.notices {
            let deliveries: Vec<Delivery> = {
                let world = self.shared.world();
                let hooks = send::reached(&world, notice);
                hooks
                    .into_iter()
                    .map(|hook| make(&world, hook, notice))
                    .collect()
            };
            for delivery in deliveries {
                sent.push(send::deliver(&self.shared, delivery, Force::No).await);
            }
        }
        sent
    }

    /// The calls for one hook, with a fresh id and signature, not sent and not logged.
    #[must_use]
    pub fn deliveries(&self, hook: u64) -> Vec<Delivery> {
        let world = self.shared.world();
        self.notices
            .iter()
            .map(|notice| make(&world, hook, notice))
            .collect()
    }

    /// The first of [`Change::deliveries`].
    ///
    /// # Panics
    /// If this change sends nothing.
    #[must_use]
    pub fn delivery(&self, hook: u64) -> Delivery {
        self.deliveries(hook)
            .into_iter()
            .next()
            .expect("a change with a webhook")
    }

    /// The bodies, before they are sent.
    #[must_use]
    pub fn bodies(&self) -> Vec<Value> {
        self.notices
            .iter()
            .map(|notice| notice.body.clone())
            .collect()
    }

    /// Lets a test bend the bodies before they are sent: fields that are missing, wrong or from a newer GitLab.
    pub fn bend(mut self, bend: impl Fn(&mut Value)) -> Self {
        for notice in &mut self.notices {
            bend(&mut notice.body);
        }
        self
    }
}

fn make(world: &World, hook: u64, notice: &Notice) -> Delivery {
    send::prepare(
        world,
        hook,
        notice.trigger,
        Bytes::from(notice.body.to_string()),
        None,
    )
}
