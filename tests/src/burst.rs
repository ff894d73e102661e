//! Many deliveries at random moments, and the account of what became of each: acknowledged means exactly one run, or the failure that
//! its plugin makes of it, for all to see; otherwise at most one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use penstock_doubles::gitlab::{Delivery, Push};
use penstock_guests::Behaviour;

use crate::plugin::{Plugin, Route};
use crate::scene::{Answer, Builder, PROJECT, Poster, Scene};

/// What was sent, and what was answered.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// Ids that got a 2xx.
    pub acknowledged: BTreeSet<String>,
    /// Ids that got none, with what was sent: GitLab would show them as failed, and a person may resend them.
    pub unanswered: BTreeMap<String, Delivery>,
    /// Ids of those whose plugin traps, with their commits: instead of a run they have a visible failure.
    pub trapping: BTreeMap<String, String>,
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

    /// Sends one that the host, which is well now, surely takes in: of what is sent at drawn moments a busy machine may take in nothing, and
    /// nothing would be shown.
    ///
    /// # Panics
    /// If it is not taken in.
    pub async fn surely(&mut self, scene: &Scene, delivery: Delivery) {
        let answer = scene.post(&delivery).await;
        assert!(
            (200..300).contains(&answer.status),
            "nothing stands in its way: {answer:?}"
        );
        self.note(delivery, Some(answer));
    }

    /// A push that is surely taken in, as above: in every fifth round one whose plugin traps.
    pub async fn surely_in(&mut self, scene: &Scene, round: u32) {
        let delivery = match round % 5 {
            4 => self.trapping(scene, 1).remove(0),
            _ => pushes(scene, 1).remove(0),
        };
        self.surely(scene, delivery).await;
    }

    /// Takes out some that got no answer, to send them again: with the signature that they have, which is good for five minutes.
    pub fn again(&mut self, count: usize) -> Vec<Delivery> {
        let fresh = self.unanswered.iter().filter(|(_, it)| is_fresh(it));
        let ids: Vec<String> = fresh.take(count).map(|(id, _)| id.clone()).collect();
        ids.iter()
            .filter_map(|id| self.unanswered.remove(id))
            .collect()
    }

    /// Pushes to [`TRAPPED`], whose plugin traps.
    #[must_use]
    pub fn trapping(&mut self, scene: &Scene, count: usize) -> Vec<Delivery> {
        let one = |n: usize| {
            let branch = format!("topic-{}", rand::random_range(0..3));
            let push = Push::new(TRAPPED, &branch, "alice")
                .write("a.txt", format!("{n} {}", rand::random::<u64>()));
            let change = scene.gitlab.push(push);
            let delivery = change.delivery(scene.hook);
            self.trapping.insert(id(&delivery), change.commit.clone());
            delivery
        };
        (0..count).map(one).collect()
    }

    /// Waits until everything is done and holds it against the API server: nothing lost, nothing doubled, nothing made up. What there is.
    ///
    /// # Panics
    /// If something was lost, doubled or made up.
    pub async fn check(&self, scene: &Scene) -> Count {
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
        found
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
            .filter(|id| !runs.contains_key(*id) && !self.trapping.contains_key(*id))
            .cloned()
            .collect::<BTreeSet<_>>();
        let trapped = self.acknowledged.iter();
        let trapped = trapped.filter_map(|id| Some((id, self.trapping.get(id)?)));
        let (mut failed, mut hidden) = (0, BTreeSet::new());
        for (id, commit) in trapped {
            match fails_visibly(scene, id, commit).await {
                true => failed += 1,
                false => drop(hidden.insert(id.clone())),
            }
        }
        let lost = lost.union(&hidden).cloned().collect();
        let mut doubled: BTreeSet<String> = runs
            .iter()
            .filter(|(id, count)| **count > 1 || self.trapping.contains_key(*id))
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
            failed,
            lost,
            doubled,
        }
    }
}

/// Its signature is younger than four minutes, or it has none.
fn is_fresh(delivery: &Delivery) -> bool {
    let signed = delivery.headers.get("webhook-timestamp");
    let Some(signed) = signed.and_then(|it| it.to_str().ok()?.parse().ok()) else {
        return true;
    };
    let signed = SystemTime::UNIX_EPOCH + Duration::from_secs(signed);
    signed
        .elapsed()
        .is_ok_and(|age| age < Duration::from_secs(240))
}

/// What came of a burst.
#[derive(Clone, Debug)]
pub struct Count {
    /// Runs on the API server.
    pub runs: usize,
    /// Deliveries whose plugin trapped, and that failed for all to see.
    pub failed: usize,
    /// Deliveries that were acknowledged and have neither a run nor the failure that is due.
    pub lost: BTreeSet<String>,
    /// Deliveries with several runs, and names of runs that were created several times.
    pub doubled: BTreeSet<String>,
}

/// The project whose plugin traps, in a scene with [`with_traps`].
pub const TRAPPED: &str = "acme/web";

/// Gives [`TRAPPED`] a tenant of its own, whose pushes lead to a plugin that traps.
#[must_use]
pub fn with_traps(builder: Builder) -> Builder {
    let trap = Plugin::misbehave("traps", Behaviour::Trap);
    let route = Route::to("traps").on(&["push"]).of_tenant(TRAPPED);
    builder.plugin_by(trap, route).edit(|config| {
        let mut tenant = config["tenants"][0].clone();
        tenant["match"] = TRAPPED.into();
        config["tenants"]
            .as_array_mut()
            .expect("a list")
            .push(tenant);
    })
}

/// The delivery has failed in the eyes of whoever asks Penstock, and of whoever looks at the commit.
async fn fails_visibly(scene: &Scene, delivery: &str, commit: &str) -> bool {
    let told = scene.explain(delivery).await;
    let rows = scene.gitlab.statuses(TRAPPED, commit);
    let shown = rows
        .iter()
        .any(|row| row["name"] == "penstock/traps" && row["status"] == "failed");
    shown && told["delivery"]["outcome"] == "failed"
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
