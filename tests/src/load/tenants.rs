//! What a delivery costs with 1,000 tenants against one, what their configuration takes in memory, and how long a change of it takes.
//!
//! The same 5,000 projects, the same deliveries, one for each project. Two hosts take turns, so that both see the same machine; what is compared is the
//! CPU time of the process, all loops.

use std::path::Path;
use std::time::{Duration, Instant};

use penstock_doubles::gitlab::ProjectSeed;
use serde_json::{Value, json};

use super::feed::{self, Feed};
use super::figure::Figure;
use super::plane::{Plane, Webhooks};
use super::process;
use crate::progress::{Progress, said};
use crate::{Scene, until};

const TENANTS: usize = 1_000;
const PROJECTS: usize = 5_000;
/// Turns of each host; in each it is sent its share of the deliveries.
const TURNS: usize = 5;
const RELOADS: usize = 5;

/// Measures it.
pub(super) async fn measure(penstock: &Path) -> Vec<Figure> {
    let plane = Plane::start(Webhooks::Absent).await;
    let one = host("one-tenant", &plane, penstock, 1).await;
    let mut many = host("many-tenants", &plane, penstock, TENANTS).await;
    let idle = [&one, &many].map(|scene| process::resident(scene.penstock.pid()));
    let mut cost = [Duration::ZERO, Duration::ZERO];
    let mut progress = Progress::begin("turns of both hosts", TURNS as u64);
    for turn in 0..TURNS {
        for (scene, cost) in [&one, &many].into_iter().zip(&mut cost) {
            *cost += spent(scene, turn).await;
        }
        progress.done(turn as u64 + 1);
    }
    let each = cost.map(|cost| cost.as_secs_f64() * 1000.0 / float(PROJECTS));
    said("changes of the configuration");
    let mut reloads = Vec::new();
    for n in 0..RELOADS {
        reloads.push(reload(&mut many, n).await);
    }
    reloads.sort_by(f64::total_cmp);
    vec![
        Figure::at_most(
            "CPU time of a delivery, 1,000 tenants and routes against one",
            each[1] / each[0],
            "ratio",
            1.1,
        ),
        Figure::plain("CPU time of a delivery, one tenant", each[0], "ms"),
        Figure::plain("CPU time of a delivery, 1,000 tenants", each[1], "ms"),
        Figure::plain("resident memory, one tenant, idle", idle[0], "MiB"),
        Figure::plain("resident memory, 1,000 tenants, idle", idle[1], "MiB"),
        Figure::plain(
            "change of a file to being in force, 1,000 tenants, median",
            super::figure::percentile(&reloads, 50.0),
            "ms",
        ),
    ]
}

/// The group of a project, one of a thousand.
fn group(project: usize) -> usize {
    project % TENANTS
}

fn path(project: usize) -> String {
    format!("acme/t{}/p{project}", group(project))
}

async fn host(name: &str, plane: &Plane, penstock: &Path, tenants: usize) -> Scene {
    let scene = feed::scene(name, plane.access(), penstock)
        .environment("PENSTOCK_LOG", "info")
        .seed(|world| {
            for n in 0..PROJECTS {
                world.project(ProjectSeed::new(&path(n)));
            }
        })
        .edit(move |config| {
            if tenants > 1 {
                spread(config, tenants);
            }
        })
        .start()
        .await;
    let first = feed::push(&scene, crate::scene::PROJECT, "first", "first");
    assert_eq!(scene.post(&first).await.status, 202);
    scene.settled().await;
    scene
}

/// A tenant and a route for each group, in the stead of one for all.
fn spread(config: &mut Value, tenants: usize) {
    let places = config["tenants"][0]["places"].clone();
    let plugin = config["plugins"][0]["name"].clone();
    for n in 0..tenants {
        let pattern = format!("acme/t{n}/**");
        let tenant = json!({ "match": pattern, "places": places });
        config["tenants"]
            .as_array_mut()
            .expect("a list")
            .push(tenant);
        let route = json!({ "tenant": pattern, "on": ["push"], "plugin": plugin });
        config["routes"].as_array_mut().expect("a list").push(route);
    }
}

/// CPU time for a share of the deliveries, from the first that is sent to the last status that is posted.
async fn spent(scene: &Scene, turn: usize) -> Duration {
    let share = PROJECTS / TURNS;
    let deliveries = (turn * share..(turn + 1) * share)
        .map(|project| feed::push(scene, &path(project), "main-line", "a change"));
    let deliveries: Vec<_> = deliveries.collect();
    let pid = scene.penstock.pid();
    let before = process::cpu(pid);
    let feed = Feed::start(&scene.poster(), deliveries);
    feed.let_send(share + 1_000);
    feed.finish().await;
    scene.settled().await;
    process::cpu(pid) - before
}

/// Milliseconds from a change of the file until the log says that it is in force.
async fn reload(scene: &mut Scene, n: usize) -> f64 {
    const SAID: &str = "a changed configuration is in force";
    let count = |scene: &Scene| scene.penstock.logs().matches(SAID).count();
    let before = count(scene);
    let begun = Instant::now();
    scene.reconfigure(|config| {
        config["public-url"] = format!("https://penstock-{n}.example.com").into();
    });
    until("the changed configuration", async || {
        (count(scene) > before).then_some(())
    })
    .await;
    begun.elapsed().as_secs_f64() * 1000.0
}

#[expect(clippy::cast_precision_loss, reason = "a count of projects")]
fn float(count: usize) -> f64 {
    count as f64
}
