//! Time from the start of the process to the first hook that is answered 2xx, with 50 plugins that are compiled already.

use std::path::Path;
use std::time::{Duration, Instant};

use super::feed;
use super::figure::{Figure, percentile};
use super::memory::{PLUGINS, loaded, plugins, with_plugins};
use super::plane::{Plane, Webhooks};
use crate::Scene;

const STARTS: usize = 15;
const PATIENCE: Duration = Duration::from_secs(60);

/// Measures it.
pub(super) async fn measure(penstock: &Path) -> Vec<Figure> {
    let plane = Plane::start(Webhooks::Absent).await;
    let folder = tempfile::tempdir().expect("a folder");
    let plugins = plugins(folder.path());
    let mut scene = with_plugins(
        Scene::builder("start")
            .cluster(plane.access())
            .program(penstock),
        &plugins,
    )
    .data(&folder.path().join("data"))
    .start()
    .await;
    loaded(&scene).await;
    let (mut accepting, mut ready) = (Vec::new(), Vec::new());
    for n in 0..STARTS {
        scene.settled().await;
        scene.penstock.terminate().await;
        let delivery = feed::push(
            &scene,
            &format!("acme/p{}", n % PLUGINS),
            &format!("start-{n}"),
            "start",
        );
        let poster = scene.poster();
        let begun = Instant::now();
        scene.penstock.spawn();
        while poster
            .post(&delivery)
            .await
            .is_none_or(|answer| !(200..300).contains(&answer.status))
        {
            assert!(
                begun.elapsed() < PATIENCE,
                "no hook is answered:\n{}",
                scene.penstock.log_tail()
            );
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        accepting.push(begun.elapsed().as_secs_f64() * 1000.0);
        loaded(&scene).await;
        ready.push(begun.elapsed().as_secs_f64() * 1000.0);
    }
    accepting.sort_by(f64::total_cmp);
    ready.sort_by(f64::total_cmp);
    vec![
        Figure::at_most(
            "start to accepting hooks with 50 plugins, warm cache, median",
            percentile(&accepting, 50.0),
            "ms",
            200.0,
        ),
        Figure::plain(
            "the slowest of 15 starts",
            percentile(&accepting, 100.0),
            "ms",
        ),
        Figure::plain(
            "start to all plugins loaded, median",
            percentile(&ready, 50.0),
            "ms",
        ),
    ]
}
