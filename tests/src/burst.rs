//! Many deliveries at random moments, and the account of what became of each: acknowledged means exactly one run, otherwise at most one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::join_all;
use penstock_doubles::gitlab::{Delivery, Push};

use crate::scene::{Answer, PROJECT, Poster, Scene};

/// What was sent, and what was answered.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// Ids that got a 2xx.
    pub acknowledged: BTreeSet<String>,
    /// Ids that got none, with what was sent: GitLab would show them as failed, and a person may resend them.
    pub unanswered: BTreeMap<String, Delivery>,
}

impl Ledger {
    /// Notes an answer.
    ///
    /// # Panics
    /// If the host refused a good delivery for good.
    pub fn note(&mut self, delivery: Delivery, answer: Option<Answer>) {
        let id = id(&delivery);
        match answer {
            Some(answer) if (200..300).contains(&answer.status) => {
                assert_eq!(answer.delivery(), id, "the answer names another delivery");
                self.unanswered.remove(&id);
                self.acknowledged.insert(id);
            }
            Some(answer) if answer.status != 503 => {
                panic!("a good delivery was refused: {answer:?}")
            }
            _ => {
                if !self.acknowledged.contains(&id) {
                    self.unanswered.insert(id, delivery);
                }
            }
        }
    }

    /// Takes out some that got no answer, to send them again.
    pub fn again(&mut self, count: usize) -> Vec<Delivery> {
        let ids: Vec<String> = self.unanswered.keys().take(count).cloned().collect();
        ids.iter()
            .filter_map(|id| self.unanswered.remove(id))
            .collect()
    }

    /// Waits until everything is done and holds it against the API server: nothing lost, nothing doubled, nothing made up. How many runs there are.
    ///
    /// # Panics
    /// If something was lost, doubled or made up.
    pub async fn check(&self, scene: &Scene) -> usize {
        let found = self.count(scene).await;
        assert!(
            found.lost.is_empty(),
            "acknowledged and lost: {:?}\n{}",
            found.lost,
            scene.penstock.log_tail()
        );
        assert!(
            found.doubled.is_empty(),
            "runs doubled: {:?}",
            found.doubled
        );
        found.runs
    }

    /// Like [`Ledger::check`], and leaves the judgement to the caller.
    ///
    /// # Panics
    /// If there is a run of a delivery that was never sent.
    pub async fn count(&self, scene: &Scene) -> Count {
        scene.settled().await;
        let runs = scene.runs_by_delivery().await;
        for delivery in runs.keys() {
            let known =
                self.acknowledged.contains(delivery) || self.unanswered.contains_key(delivery);
            assert!(
                known,
                "there is a run of a delivery that nobody sent: {delivery}"
            );
        }
        let lost = self
            .acknowledged
            .iter()
            .filter(|id| !runs.contains_key(*id))
            .cloned()
            .collect();
        let mut doubled: BTreeSet<String> = runs
            .iter()
            .filter(|(_, count)| **count > 1)
            .map(|(id, _)| id.clone())
            .collect();
        // A run that was created, deleted and created again would show here alone.
        let creations = scene.creations();
        doubled.extend(
            creations
                .iter()
                .filter(|(_, by)| by.len() > 1)
                .map(|(name, _)| name.clone()),
        );
        Count {
            runs: runs.values().sum(),
            lost,
            doubled,
        }
    }
}

/// What came of a burst.
#[derive(Clone, Debug)]
pub struct Count {
    /// Runs on the API server.
    pub runs: usize,
    /// Deliveries that were acknowledged and have no run.
    pub lost: BTreeSet<String>,
    /// Deliveries with several runs, and names of runs that were created several times.
    pub doubled: BTreeSet<String>,
}

/// The id that the host will give a delivery: the hook's name as the configuration has it, and GitLab's id.
///
/// # Panics
/// If GitLab is so old that it sends none.
#[must_use]
pub fn id(delivery: &Delivery) -> String {
    let found = delivery
        .headers
        .get("webhook-id")
        .and_then(|it| it.to_str().ok());
    let hook = delivery.url.rsplit('/').next().unwrap_or_default();
    format!(
        "{hook}:{}",
        found.expect("a delivery of GitLab 19 has an id")
    )
}

/// So many pushes, spread over a few branches: some share a lane, some don't.
#[must_use]
pub fn pushes(scene: &Scene, count: usize) -> Vec<Delivery> {
    let one = |n: usize| {
        let branch = format!("topic-{}", rand::random_range(0..5));
        let push = Push::new(PROJECT, &branch, "alice")
            .write("a.txt", format!("{n} {}", rand::random::<u64>()));
        scene.gitlab.push(push).delivery(scene.hook)
    };
    (0..count).map(one).collect()
}

/// Sends each at a random moment of this span, and gives what came back.
pub async fn send_within(
    poster: Poster,
    deliveries: Vec<Delivery>,
    span: Duration,
) -> Vec<(Delivery, Option<Answer>)> {
    let sending = deliveries.into_iter().map(|delivery| {
        let poster = poster.clone();
        async move {
            // The moments are drawn, so that over many rounds they meet every step of the host.
            tokio::time::sleep(span.mul_f64(rand::random())).await;
            let answer = poster.post(&delivery).await;
            (delivery, answer)
        }
    });
    join_all(sending).await
}

/// A moment between these two.
#[must_use]
pub fn moment(from: Duration, to: Duration) -> Duration {
    from + (to - from).mul_f64(rand::random())
}
