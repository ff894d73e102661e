//! How much longer one tenant waits for its runs while another sends ten thousand deliveries.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::TryStreamExt as _;
use kube::Api;
use kube::api::{WatchEvent, WatchParams};
use kube::core::{DynamicObject, PartialObjectMeta};
use penstock_doubles::gitlab::Delivery;
use serde_json::json;
use tokio::task::JoinHandle;

use super::feed::{self, Feed};
use super::figure::{Figure, percentile};
use super::plane::{Plane, Webhooks};
use crate::{Scene, burst, until};

/// What tenant A sends, as fast as it is taken in.
const MANY: usize = 10_000;
/// What tenant B sends in each half, one at a time.
const FEW: usize = 200;
/// Between two deliveries of tenant B.
const PAUSE: Duration = Duration::from_millis(100);
/// Project of tenant B.
const QUIET: &str = "other/api";
/// Annotation of a run: the delivery.
const DELIVERY: &str = "penstock.dev/delivery";
/// Label of a run: GitLab's id of the project.
const PROJECT_ID: &str = "penstock.dev/project-id";

/// Measures it.
pub(super) async fn measure(penstock: &Path) -> Vec<Figure> {
    let plane = Plane::start(Webhooks::InPlace).await;
    let scene = feed::scene("fair", plane.access(), penstock)
        .edit(|config| {
            let route = json!({ "tenant": "other/**", "on": ["push"], "plugin": "bench" });
            config["routes"].as_array_mut().expect("a list").push(route);
        })
        .environment("PENSTOCK_LOG", "warn")
        .start()
        .await;
    let quiet = |half: &str, count: usize| {
        let push = |n| {
            let push = penstock_doubles::gitlab::Push::new(QUIET, &format!("{half}-{n}"), "oscar")
                .write("a.txt", format!("{half}-{n}"));
            scene.gitlab.push(push).delivery(scene.other_hook)
        };
        (0..count).map(push).collect::<Vec<Delivery>>()
    };
    let mut first = quiet("first", 1);
    let first = first.pop().expect("a delivery");
    assert_eq!(scene.post(&first).await.status, 202);
    let run = scene.run_of(&burst::id(&first)).await;
    let project = run.metadata.labels.and_then(|mut it| it.remove(PROJECT_ID));
    let seen = Seen::watch(&scene, &project.expect("a label")).await;

    let alone = waits(&scene, &seen, quiet("alone", FEW)).await;
    let crowd = feed::pushes(&scene, MANY);
    let beside = quiet("beside", FEW);
    let feed = Feed::start(&scene.poster(), crowd);
    feed.let_send(MANY);
    let taken_in = async || (feed.sent() >= MANY / 10).then_some(());
    until("a tenth of what tenant A sends", taken_in).await;
    let beside = waits(&scene, &seen, beside).await;
    let behind = MANY.saturating_sub(feed.sent());
    feed.stop().await;

    let (alone_99, beside_99) = (percentile(&alone, 99.0), percentile(&beside, 99.0));
    let count = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    vec![
        Figure::at_most(
            "tenant B's p99 to created while tenant A sends 10,000, against alone",
            beside_99 / alone_99,
            "ratio",
            2.0,
        ),
        Figure::plain("tenant B's p99 to created, alone", alone_99, "ms"),
        Figure::plain(
            "tenant B's p99 to created, beside tenant A",
            beside_99,
            "ms",
        ),
        Figure::plain(
            "tenant B's median to created, alone",
            percentile(&alone, 50.0),
            "ms",
        ),
        Figure::plain(
            "tenant B's median to created, beside tenant A",
            percentile(&beside, 50.0),
            "ms",
        ),
        Figure::plain(
            "deliveries of tenant B in each half",
            count(FEW),
            "deliveries",
        ),
        Figure::plain(
            "deliveries of tenant A not yet sent when tenant B was done",
            count(behind),
            "deliveries",
        ),
    ]
}

/// Sends them one after the other, whether or not there is a run of the one before; how long each waited for its run, sorted.
async fn waits(scene: &Scene, seen: &Seen, deliveries: Vec<Delivery>) -> Vec<f64> {
    let mut ticks = tokio::time::interval(PAUSE);
    let mut sent = Vec::new();
    for delivery in deliveries {
        ticks.tick().await;
        let at = Instant::now();
        assert_eq!(scene.post(&delivery).await.status, 202);
        sent.push((burst::id(&delivery), at));
    }
    let mut waits = Vec::new();
    for (id, at) in sent {
        let created = until("a run of tenant B", async || seen.at(&id)).await;
        waits.push(created.duration_since(at).as_secs_f64() * 1000.0);
    }
    waits.sort_by(f64::total_cmp);
    waits
}

/// When the API server first told of each delivery's run.
struct Seen {
    at: Arc<Mutex<HashMap<String, Instant>>>,
    watching: JoinHandle<()>,
}

impl Seen {
    /// Watches the runs of one project.
    async fn watch(scene: &Scene, project: &str) -> Self {
        let client = scene.access().client().await.expect("a client");
        let resource = kube::core::ApiResource::from_gvk(&kube::core::GroupVersionKind::gvk(
            "tekton.dev",
            "v1",
            "PipelineRun",
        ));
        let runs: Api<DynamicObject> =
            Api::namespaced_with(client, scene.place.namespace(), &resource);
        let at: Arc<Mutex<HashMap<String, Instant>>> = Arc::default();
        let seen = Arc::clone(&at);
        let chosen = WatchParams::default().labels(&format!("{PROJECT_ID}={project}"));
        let watching = tokio::spawn(async move {
            let mut version = "0".to_owned();
            loop {
                let Ok(events) = runs.watch_metadata(&chosen, &version).await else {
                    continue;
                };
                let mut events = std::pin::pin!(events);
                while let Ok(Some(event)) = events.try_next().await {
                    let WatchEvent::Added(run) = event else {
                        continue;
                    };
                    note(&seen, &run);
                    version = run.metadata.resource_version.unwrap_or(version);
                }
            }
        });
        Self { at, watching }
    }

    fn at(&self, delivery: &str) -> Option<Instant> {
        let seen = self.at.lock().unwrap_or_else(PoisonError::into_inner);
        seen.get(delivery).copied()
    }
}

fn note(seen: &Mutex<HashMap<String, Instant>>, run: &PartialObjectMeta<DynamicObject>) {
    let annotations = run.metadata.annotations.as_ref();
    if let Some(delivery) = annotations.and_then(|it| it.get(DELIVERY)) {
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.entry(delivery.clone()).or_insert_with(Instant::now);
    }
}

impl Drop for Seen {
    fn drop(&mut self) {
        self.watching.abort();
    }
}
