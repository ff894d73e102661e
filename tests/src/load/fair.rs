//! How much longer one tenant waits for its runs while another sends ten thousand deliveries.

use std::collections::{BTreeSet, HashMap};
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
use super::plane::{CLUSTER, OURS, Plane, Webhooks};
use super::process;
use crate::progress::said;
use crate::{Scene, burst, until};

/// What tenant A sends, as fast as it is taken in.
const MANY: usize = 10_000;
/// What tenant B sends in each half, one at a time.
const FEW: usize = 200;
/// Project of tenant B.
const QUIET: &str = "other/api";
/// Annotation of a run: the delivery.
const DELIVERY: &str = "penstock.dev/delivery";
/// Label of a run: GitLab's id of the project.
const PROJECT_ID: &str = "penstock.dev/project-id";

/// Limits on creations a second. Those on runs in flight are lifted in both: without a kubelet no run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Creations {
    /// As they are where nothing is configured.
    ByDefault,
    /// None: the cluster is as busy as it can be.
    Lifted,
}

impl Creations {
    fn words(self) -> &'static str {
        match self {
            Self::ByDefault => "default limits on creations",
            Self::Lifted => "no limit on creations",
        }
    }

    /// Where this program runs: what sends, plays GitLab and watches. With few creations the cluster has time to spare, and Penstock has a core of
    /// its own; else the cluster has.
    fn core(self) -> usize {
        match self {
            Self::ByDefault => CLUSTER,
            Self::Lifted => OURS,
        }
    }

    /// Between two deliveries of tenant B: fewer than its own limit.
    fn pause(self) -> Duration {
        match self {
            Self::ByDefault => Duration::from_millis(250),
            Self::Lifted => Duration::from_millis(100),
        }
    }
}

/// Measures it.
pub(super) async fn measure(penstock: &Path) -> Vec<Figure> {
    let mut figures = with(Creations::ByDefault, penstock).await;
    figures.extend(with(Creations::Lifted, penstock).await);
    figures
}

async fn with(creations: Creations, penstock: &Path) -> Vec<Figure> {
    said(creations.words());
    let plane = Plane::start(Webhooks::InPlace).await;
    process::keep_to(creations.core());
    let scene = feed::scene("fair", plane.access(), penstock)
        .prefix(&["taskset", "--cpu-list", &OURS.to_string()])
        .edit(move |config| {
            let route = json!({ "tenant": "other/**", "on": ["push"], "plugin": "bench" });
            config["routes"].as_array_mut().expect("a list").push(route);
            if creations == Creations::ByDefault {
                let flow = config["flow"].as_object_mut().expect("limits");
                for limits in flow.values_mut() {
                    // What is not written keeps its default.
                    limits
                        .as_object_mut()
                        .expect("a limit")
                        .remove("per-second");
                }
            }
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

    said("tenant B alone");
    let alone = quiet("alone", FEW);
    let alone_ids = alone.iter().map(burst::id).collect();
    let pause = creations.pause();
    let alone = waits(&scene, &seen, alone, pause).await;
    said("tenant A sends");
    let crowd = feed::pushes(&scene, MANY);
    let beside = quiet("beside", FEW);
    let feed = Feed::start(&scene.poster(), crowd);
    feed.let_send(MANY);
    let taken_in = async || (feed.sent() >= MANY / 10).then_some(());
    until("a tenth of what tenant A sends", taken_in).await;
    said("tenant B beside it");
    let beside_ids = beside.iter().map(burst::id).collect();
    let (runs_before, begun) = (created(&scene).await, Instant::now());
    let beside = waits(&scene, &seen, beside, pause).await;
    let runs = created(&scene).await - runs_before;
    let rate = runs / begun.elapsed().as_secs_f64();
    let behind = MANY.saturating_sub(feed.sent());
    let stages = [&alone_ids, &beside_ids].map(|half| Stages::of(&scene, half));
    feed.stop().await;

    let (alone_99, beside_99) = (percentile(&alone, 99.0), percentile(&beside, 99.0));
    let count = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    let plain = |what: &str, value, unit| {
        Figure::plain(&format!("{what}, {}", creations.words()), value, unit)
    };
    vec![
        Figure::at_most(
            &format!(
                "tenant B's p99 to created while A sends 10,000, against alone, {}",
                creations.words()
            ),
            beside_99 / alone_99,
            "ratio",
            2.0,
        ),
        plain("its p99 alone", alone_99, "ms"),
        plain("its p99 beside A", beside_99, "ms"),
        plain("its median alone", percentile(&alone, 50.0), "ms"),
        plain("its median beside A", percentile(&beside, 50.0), "ms"),
        plain("received to decided, median alone", stages[0].decided, "ms"),
        plain(
            "received to decided, median beside A",
            stages[1].decided,
            "ms",
        ),
        plain("decided to created, median alone", stages[0].created, "ms"),
        plain(
            "decided to created, median beside A",
            stages[1].created,
            "ms",
        ),
        plain("runs created meanwhile, of both", rate, "runs/s"),
        plain("deliveries of B in each half", count(FEW), "deliveries"),
        plain(
            "deliveries of A not yet sent when B was done",
            count(behind),
            "deliveries",
        ),
    ]
}

/// What part of a wait is spent where, in the middle, by what the store keeps.
struct Stages {
    decided: f64,
    created: f64,
}

impl Stages {
    fn of(scene: &Scene, half: &BTreeSet<String>) -> Self {
        let store = scene.store();
        let median = |statement: &str| {
            let mut statement = store.prepare(statement).expect("a statement");
            let rows = statement
                .query_map([], |row| {
                    Ok((row.get::<_, String>(0)?, row.get::<_, f64>(1)?))
                })
                .expect("rows");
            let mut took: Vec<f64> = rows
                .map(|row| row.expect("a row"))
                .filter(|(id, _)| half.contains(id))
                .map(|(_, took)| took)
                .collect();
            took.sort_by(f64::total_cmp);
            percentile(&took, 50.0)
        };
        Self {
            decided: median(
                "SELECT d.id, r.settled_at - d.received_at FROM routes r \
                 JOIN deliveries d ON d.instance = r.instance AND d.id = r.delivery WHERE r.outcome = 'decided'",
            ),
            created: median(
                "SELECT delivery, settled_at - created_at FROM effects WHERE kind = 'start-run' AND state = 'done'",
            ),
        }
    }
}

/// Sends them one after the other, whether or not there is a run of the one before; how long each waited for its run, sorted.
async fn waits(scene: &Scene, seen: &Seen, deliveries: Vec<Delivery>, pause: Duration) -> Vec<f64> {
    let mut ticks = tokio::time::interval(pause);
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

/// Runs that were created so far, by the host's own count.
async fn created(scene: &Scene) -> f64 {
    until("the metrics", async || {
        let (_, text) = scene.penstock.get("/metrics").await?;
        let line = r#"penstock_effects_total{kind="start-run",outcome="done"} "#;
        let count = text.lines().find_map(|it| it.strip_prefix(line))?;
        count.trim().parse().ok()
    })
    .await
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
