use crate::{connect, effect, order, spec};
use futures_util::{StreamExt as _, stream};
use kube::api::PostParams;
use penstock_control_plane::{ControlPlane, Options, TestPlace};
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn speed() {
    let plane = ControlPlane::start(Options {
        kubelet: false,
        ..Options::default()
    })
    .await
    .unwrap();
    let place = TestPlace::create(plane.access(), "speed").await.unwrap();
    let cluster = connect(place.host_kubeconfig()).await;
    let straight = place.pipeline_runs(place.client_as("creator").await.unwrap());
    for round in 0..3 {
        for ours in [false, true] {
            let cpu = rustix_cpu();
            let start = std::time::Instant::now();
            stream::iter(0..300)
                .map(|n| {
                    let effect = effect(&place, &format!("{round}/{ours}/{n}"));
                    let mut spec = spec("true");
                    spec["status"] = "PipelineRunPending".into();
                    let order = order(&place, effect, spec);
                    let (cluster, straight) = (cluster.clone(), straight.clone());
                    async move {
                        if ours {
                            cluster.create_run(&order, effect).await.unwrap();
                        } else {
                            let o = serde_json::from_value(order.manifest).unwrap();
                            straight.create(&PostParams::default(), &o).await.unwrap();
                        }
                    }
                })
                .buffer_unordered(8)
                .collect::<Vec<_>>()
                .await;
            eprintln!(
                "ours={ours} {:.0}/s cpu {:.2} ms each",
                300.0 / start.elapsed().as_secs_f64(),
                (rustix_cpu() - cpu) * 1000.0 / 300.0
            );
        }
    }
}
fn rustix_cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let f: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    (f[11].parse::<f64>().unwrap() + f[12].parse::<f64>().unwrap()) / 100.0
}
