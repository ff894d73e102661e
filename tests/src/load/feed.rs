//! Deliveries that are made before anything is timed, and senders that keep their connections.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use penstock_control_plane::Access;
use penstock_doubles::gitlab::{Delivery, Push};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::plugin::guest;
use crate::scene::{Builder, PROJECT, Poster, Scene};
use crate::{Plugin, Route};

/// Connections of GitLab's senders.
const SENDERS: usize = 32;
/// Bytes of a body, about.
const BODY: usize = 8 * 1024;
/// Of them beside the commit's message.
const BESIDE: usize = 1_580;

/// A scene for load: the plugin `bench` on pushes, and no limit of calls that would measure itself.
pub(super) fn scene(name: &str, access: &Access, penstock: &Path) -> Builder {
    Scene::builder(name)
        .cluster(access)
        .program(penstock)
        .plugin_by(
            Plugin::new("bench", &guest("bench")),
            Route::to("bench").on(&["push"]),
        )
        .edit(|config| config["gitlab"][0]["calls-per-minute"] = 100_000_000.into())
}

/// So many pushes of 8 KB, each to a branch of its own: no lane waits for another.
pub(super) fn pushes(scene: &Scene, count: usize) -> Vec<Delivery> {
    let message = format!("Fix the rounding\n\n{}", words(BODY - BESIDE));
    (0..count)
        .map(|n| push(scene, PROJECT, &format!("load-{n}"), &message))
        .collect()
}

/// One push.
pub(super) fn push(scene: &Scene, project: &str, branch: &str, message: &str) -> Delivery {
    let push = Push::new(project, branch, "alice")
        .write("a.txt", branch.to_owned())
        .message(message);
    scene.gitlab.push(push).delivery(scene.hook)
}

/// Text of a length, as commit messages are.
fn words(bytes: usize) -> String {
    const WORDS: [&str; 12] = [
        "fix", "the", "rounding", "of", "amounts", "in", "payments", "when", "a", "currency",
        "has", "no-cents",
    ];
    let mut text = String::new();
    while text.len() < bytes {
        text.push_str(WORDS[rand::random_range(0..WORDS.len())]);
        text.push(' ');
    }
    text
}

/// Senders that take a delivery whenever they are let.
pub(super) struct Feed {
    permits: Arc<Semaphore>,
    sent: Arc<AtomicUsize>,
    senders: JoinSet<()>,
}

impl Feed {
    /// Starts the senders; nothing is sent before [`Feed::let_send`].
    pub(super) fn start(poster: &Poster, deliveries: Vec<Delivery>) -> Self {
        let permits = Arc::new(Semaphore::new(0));
        let sent = Arc::new(AtomicUsize::new(0));
        let deliveries = Arc::new(deliveries);
        let next = Arc::new(AtomicUsize::new(0));
        let mut senders = JoinSet::new();
        for _ in 0..SENDERS {
            let (poster, permits, sent) = (poster.clone(), Arc::clone(&permits), Arc::clone(&sent));
            let (deliveries, next) = (Arc::clone(&deliveries), Arc::clone(&next));
            senders.spawn(async move {
                while let Ok(permit) = permits.acquire().await {
                    permit.forget();
                    let Some(delivery) = deliveries.get(next.fetch_add(1, Ordering::Relaxed))
                    else {
                        return;
                    };
                    let answer = poster.post(delivery).await.expect("an answer");
                    assert_eq!(answer.status, 202, "{answer:?}");
                    sent.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        Self {
            permits,
            sent,
            senders,
        }
    }

    /// Lets so many more be sent.
    pub(super) fn let_send(&self, count: usize) {
        self.permits.add_permits(count);
    }

    /// How many got their 2xx.
    pub(super) fn sent(&self) -> usize {
        self.sent.load(Ordering::Relaxed)
    }

    /// Waits until all are sent, or ends what was not let.
    pub(super) async fn stop(mut self) {
        self.permits.close();
        while let Some(ended) = self.senders.join_next().await {
            ended.expect("a sender that ends");
        }
    }

    /// Waits until all that there is was sent.
    pub(super) async fn finish(mut self) {
        while let Some(ended) = self.senders.join_next().await {
            ended.expect("a sender that ends");
        }
    }
}
