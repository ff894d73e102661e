//! Webhook to PipelineRun, sustained, against the same runs sent straight at the API server.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::direct;
use super::feed::{self, Feed};
use super::figure::Figure;
use super::plane::{Plane, Webhooks};
use super::process;
use crate::progress::said;
use crate::{Scene, until};

/// What is timed.
const SUSTAINED: Duration = Duration::from_secs(60);
/// Before that the caches fill.
const WARM_UP: Duration = Duration::from_secs(5);
/// Half of the other half, before and after.
const DIRECT: Duration = Duration::from_secs(30);
/// Deliveries that may be on their way, taken in and not yet a run: what Penstock's backlog is kept below.
const WINDOW: usize = 400;
/// More deliveries a second than any of this can take.
const AT_MOST: usize = 800;

/// Measures one of the two halves of the goal.
pub(super) async fn measure(penstock: &Path, webhooks: Webhooks) -> Vec<Figure> {
    let plane = Plane::start(webhooks).await;
    let scene = feed::scene("load", plane.access(), penstock)
        .environment("PENSTOCK_LOG", "warn")
        .start()
        .await;
    let seconds = usize::try_from((SUSTAINED + WARM_UP).as_secs()).expect("a minute");
    let mut deliveries = feed::pushes(&scene, seconds * AT_MOST);
    let first = deliveries.pop().expect("a delivery");
    let body = first.body.len();
    assert_eq!(scene.post(&first).await.status, 202);
    let run = scene.run_of(&crate::burst::id(&first)).await;
    let template = direct::template(&run);

    said("the API server alone");
    let before = direct::rate(&scene, &template, DIRECT).await;
    said("webhook to PipelineRun");
    let half = ours(&scene, deliveries).await;
    said("the API server alone, again");
    let after = direct::rate(&scene, &template, DIRECT).await;
    let direct = f64::midpoint(before, after);

    let (name, goal) = match webhooks {
        Webhooks::InPlace => ("with Tekton's webhooks", 0.95),
        Webhooks::Absent => ("without Tekton's webhooks", 0.8),
    };
    let of = |what: &str| format!("{what}, {name}");
    vec![
        Figure::at_least(
            &of("webhook to PipelineRun against the API server alone"),
            half.rate / direct,
            "ratio",
            goal,
        ),
        Figure::plain(&of("webhook to PipelineRun"), half.rate, "runs/s"),
        Figure::plain(&of("API server alone"), direct, "runs/s"),
        Figure::at_most(
            &of("CPU time of Penstock for each delivery"),
            half.cpu,
            "ms",
            1.0,
        ),
        Figure::plain(
            &of("statuses not yet posted at the end"),
            half.behind,
            "statuses",
        ),
        Figure::plain(&of("bytes stored for each delivery"), half.stored, "bytes"),
        Figure::plain(&of("bytes of the store's log"), half.log, "bytes"),
        Figure::plain(
            &of("bytes of a body"),
            f64::from(u32::try_from(body).unwrap_or(u32::MAX)),
            "bytes",
        ),
    ]
}

struct Half {
    rate: f64,
    cpu: f64,
    behind: f64,
    stored: f64,
    log: f64,
}

async fn ours(scene: &Scene, deliveries: Vec<penstock_doubles::gitlab::Delivery>) -> Half {
    let pid = scene.penstock.pid();
    let count = Counter::new(scene).await;
    let (start, bytes) = (count.created().await, stored(scene).await);
    let feed = Feed::start(&scene.poster(), deliveries);
    let mut let_in = 0;
    let begun = Instant::now();
    let mut timed: Option<(Instant, usize, Duration)> = None;
    let (rate, cpu) = loop {
        let created = count.created().await - start;
        let room = (created + WINDOW).saturating_sub(let_in);
        feed.let_send(room);
        let_in += room;
        match timed {
            None if begun.elapsed() >= WARM_UP => {
                timed = Some((Instant::now(), created, process::cpu(pid)))
            }
            Some((since, first, cpu)) if since.elapsed() >= SUSTAINED => {
                let done = float(created - first);
                let cpu = process::cpu(pid) - cpu;
                break (
                    done / since.elapsed().as_secs_f64(),
                    cpu.as_secs_f64() * 1000.0 / done,
                );
            }
            _ => {}
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    let behind = waiting(scene).await;
    let sent = feed.sent();
    feed.stop().await;
    scene.settled().await;
    Half {
        rate,
        cpu,
        behind,
        stored: (stored(scene).await - bytes) / float(sent),
        log: size(scene, "-wal"),
    }
}

/// Counts runs as the API server does, without reading them.
struct Counter {
    client: kube::Client,
    path: String,
}

impl Counter {
    async fn new(scene: &Scene) -> Self {
        let client = scene.access().client().await.expect("a client");
        let path = format!(
            "/apis/tekton.dev/v1/namespaces/{}/pipelineruns?limit=1",
            scene.place.namespace()
        );
        Self { client, path }
    }

    async fn created(&self) -> usize {
        let request = http::Request::get(&self.path)
            .body(Vec::new())
            .expect("a request");
        let list: Value = self.client.request(request).await.expect("a list");
        let more = list["metadata"]["remainingItemCount"].as_u64().unwrap_or(0);
        list["items"].as_array().map_or(0, Vec::len) + usize::try_from(more).expect("a count")
    }
}

/// Bytes of the database once everything that was written has reached it. Its log is reported apart: it is reused and does not grow with deliveries.
async fn stored(scene: &Scene) -> f64 {
    const QUIET: Duration = Duration::from_secs(3);
    let (mut before, mut since) = (size(scene, ""), Instant::now());
    loop {
        let now = size(scene, "");
        if now != before {
            (before, since) = (now, Instant::now());
        }
        // The server brings its log into the database every second.
        if since.elapsed() > QUIET {
            return now;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Bytes of a file of the store.
fn size(scene: &Scene, suffix: &str) -> f64 {
    let path = format!("{}{suffix}", scene.store_path().display());
    #[expect(clippy::cast_precision_loss, reason = "a size of a file")]
    let bytes = std::fs::metadata(path).map_or(0, |meta| meta.len()) as f64;
    bytes
}

/// Statuses of runs that are there and were not told of yet.
async fn waiting(scene: &Scene) -> f64 {
    until("the metrics", async || {
        let (_, text) = scene.penstock.get("/metrics").await?;
        let of = |kind: &str| {
            let line = format!(r#"penstock_effects_total{{kind="{kind}",outcome="done"}} "#);
            text.lines()
                .find_map(|it| it.strip_prefix(&line))
                .and_then(|it| it.trim().parse::<f64>().ok())
        };
        Some((of("start-run")? - of("commit-status")?).max(0.0))
    })
    .await
}

#[expect(clippy::cast_precision_loss, reason = "a count of runs")]
fn float(count: usize) -> f64 {
    count as f64
}
