//! Memory with 50 distinct plugins, idle and in a burst.

use std::path::{Path, PathBuf};
use std::time::Duration;

use penstock_doubles::gitlab::ProjectSeed;
use serde_json::json;

use super::feed::{self, Feed};
use super::figure::Figure;
use super::plane::{Plane, Webhooks};
use super::process;
use crate::plugin::guest;
use crate::progress::Progress;
use crate::scene::Builder;
use crate::{Plugin, Scene, until_within};

/// How many plugins.
pub(super) const PLUGINS: usize = 50;
const BURST: usize = 10_000;
/// At the first start they are compiled, one after the other.
const COMPILED_WITHIN: Duration = Duration::from_secs(15 * 60);

/// Measures it.
pub(super) async fn measure(penstock: &Path) -> Vec<Figure> {
    let plane = Plane::start(Webhooks::Absent).await;
    let folder = tempfile::tempdir().expect("a folder");
    let plugins = plugins(folder.path());
    let size = std::fs::metadata(&plugins[0]).expect("a plugin").len();
    let mut scene = with_plugins(
        Scene::builder("memory")
            .cluster(plane.access())
            .program(penstock),
        &plugins,
    )
    .environment("PENSTOCK_LOG", "info")
    .data(&folder.path().join("data"))
    .start()
    .await;
    loaded(&scene).await;
    // The second start finds everything compiled, as every start but the first.
    scene.penstock.terminate().await;
    scene.penstock.restart().await;
    let pid = scene.penstock.pid();
    loaded(&scene).await;
    let first = feed::push(&scene, "acme/p0", "first", "first");
    assert_eq!(scene.post(&first).await.status, 202);
    scene.settled().await;
    let idle = process::resident(pid);

    let deliveries = (0..BURST).map(|n| {
        feed::push(
            &scene,
            &format!("acme/p{}", n % PLUGINS),
            &format!("burst-{n}"),
            "a burst",
        )
    });
    let deliveries: Vec<_> = deliveries.collect();
    process::forget_peak(pid);
    let feed = Feed::start(&scene.poster(), deliveries);
    feed.let_send(BURST + 1_000);
    feed.finish().await;
    scene.settled().await;
    let peak = process::peak(pid);
    vec![
        Figure::at_most("resident memory with 50 plugins, idle", idle, "MiB", 64.0),
        Figure::at_most(
            "peak of resident memory in a burst of 10,000",
            peak,
            "MiB",
            128.0,
        ),
        Figure::plain(
            "bytes of a plugin",
            f64::from(u32::try_from(size).unwrap_or(u32::MAX)),
            "bytes",
        ),
    ]
}

/// Fifty plugins that differ: the guest `bench` with a custom section of its own at its end.
pub(super) fn plugins(folder: &Path) -> Vec<PathBuf> {
    let bench = std::fs::read(guest("bench")).expect("a plugin");
    let make = |n: usize| {
        let path = folder.join(format!("bench-{n}.wasm"));
        let name = format!("copy-{n:02}");
        // Section 0: its length, the length of its name, and its name; all below 128, so each is one byte of LEB128.
        let mut bytes = bench.clone();
        bytes.extend([
            0,
            u8::try_from(name.len() + 1).expect("short"),
            u8::try_from(name.len()).expect("short"),
        ]);
        bytes.extend(name.as_bytes());
        std::fs::write(&path, bytes).expect("a plugin");
        path
    };
    (0..PLUGINS).map(make).collect()
}

/// A project, a tenant and a route for each plugin.
pub(super) fn with_plugins(builder: Builder, plugins: &[PathBuf]) -> Builder {
    let plugins: Vec<_> = plugins
        .iter()
        .enumerate()
        .map(|(n, file)| Plugin::new(&format!("bench-{n}"), file).yaml())
        .collect();
    builder
        .seed(|world| {
            for n in 0..PLUGINS {
                world.project(ProjectSeed::new(&format!("acme/p{n}")));
            }
        })
        .edit(|config| {
            config["gitlab"][0]["calls-per-minute"] = 100_000_000.into();
            let places = config["tenants"][0]["places"].clone();
            for n in 0..plugins.len() {
                let tenant = json!({ "match": format!("acme/p{n}"), "places": places });
                config["tenants"].as_array_mut().expect("a list").push(tenant);
                let route = json!({ "tenant": format!("acme/p{n}"), "on": ["push"], "plugin": format!("bench-{n}") });
                config["routes"].as_array_mut().expect("a list").push(route);
            }
            config["plugins"] = plugins.into();
        })
}

/// Waits until all plugins are loaded in the process that runs now.
pub(super) async fn loaded(scene: &Scene) {
    let mut progress = Progress::begin("plugins loaded", PLUGINS as u64);
    until_within("all plugins", COMPILED_WITHIN, async || {
        let logs = scene.penstock.logs();
        let since = logs.rfind("\"serving\"").map_or("", |at| &logs[at..]);
        let loaded = since.matches("loaded a plugin").count();
        progress.done(loaded as u64);
        (loaded >= PLUGINS).then_some(())
    })
    .await;
}
