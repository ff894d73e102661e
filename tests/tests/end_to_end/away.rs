//! What Penstock leans on is away for a while: deliveries wait, and then have their effects once.

use penstock_control_plane::{ControlPlane, Options};
use penstock_doubles::gitlab::{Break, Change, Fault, Push};
use penstock_tests::manifest::{running, short_lived};
use penstock_tests::scene::PROJECT;
use penstock_tests::{Plugin, Scene, until};

fn push(scene: &Scene) -> Change {
    scene.gitlab.push(
        Push::new(PROJECT, "topic", "alice").write("a.txt", format!("{}", rand::random::<u64>())),
    )
}

/// While GitLab answers like this, a delivery waits; when it is well again, the run starts.
async fn check(name: &str, how: Break) {
    let scene = Scene::builder(name)
        .plugin(Plugin::starts("pipelines", &short_lived()))
        .start()
        .await;
    let change = push(&scene);
    scene.gitlab.order(Fault::new(".*", "/api/v4/", how));
    let delivery = scene.send_one(&change).await;
    until("a try that was put off", async || {
        let told = scene.explain(&delivery).await;
        let waits = |of: &serde_json::Value| of["tries"].as_u64().is_some_and(|tries| tries > 0);
        let routes = told["routes"].as_array().cloned().unwrap_or_default();
        let put_off =
            routes.iter().any(waits) || scene.penstock.logs().contains("a delivery waits");
        (put_off && told["delivery"]["outcome"] == "waiting").then_some(())
    })
    .await;
    until(
        "a host that is ready: GitLab has no part in it",
        async || (scene.penstock.get("/readyz").await?.0 == 200).then_some(()),
    )
    .await;
    assert!(scene.runs().await.is_empty());
    scene.gitlab.heal();
    scene.run_of(&delivery).await;
    scene.outcome(&delivery, "decided").await;
    scene.status(&change.commit, "build", "failed").await;
}

#[tokio::test]
async fn a_delivery_waits_while_gitlab_answers_with_errors() {
    check("errors", Break::Status(502)).await;
}

#[tokio::test]
async fn a_delivery_waits_while_gitlab_has_had_enough() {
    check("enough", Break::RateLimited(Some(1))).await;
}

#[tokio::test]
async fn a_delivery_waits_while_gitlab_cuts_connections() {
    check("cut", Break::Cut).await;
}

#[tokio::test]
async fn a_status_whose_answer_was_lost_is_posted_again_and_stands_once() {
    let scene = Scene::builder("lost")
        .plugin(Plugin::starts("pipelines", &running("echo built")))
        .start()
        .await;
    scene
        .gitlab
        .order(Fault::new("POST", "/statuses/", Break::LoseAnswer).times(2));
    let change = push(&scene);
    scene.send_one(&change).await;
    scene.status(&change.commit, "build", "success").await;
    scene.settled().await;
    assert_eq!(scene.gitlab.statuses(PROJECT, &change.commit).len(), 1);
}

#[tokio::test]
async fn a_run_is_created_exactly_once_when_the_cluster_comes_back() {
    let options = Options {
        audit: true,
        kubelet: false,
        tekton_webhook: false,
        ..Options::default()
    };
    let plane = ControlPlane::start(options).await.unwrap();
    let scene = Scene::builder("restarted")
        .cluster(plane.access())
        .plugin(Plugin::starts("pipelines", &short_lived()))
        .start()
        .await;
    let mut restart = std::pin::pin!(plane.restart_api_server());
    // Killed between a creation and its line in the audit log, it would have created a run that is not there: nothing is sent before it is away.
    let address = plane.server_url().trim_start_matches("https://");
    let away = until("an API server that is away", async || {
        let connected = tokio::net::TcpStream::connect(address).await;
        connected.is_err().then_some(())
    });
    let mut restarted = tokio::select! {
        restarted = &mut restart => Some(restarted),
        () = away => None,
    };
    // As long as it is away, and a few more: some of them meet it dead, some starting, some alive.
    let mut sent = Vec::new();
    while restarted.is_none() {
        tokio::select! {
            done = &mut restart => restarted = Some(done),
            delivery = async { scene.send_one(&push(&scene)).await }, if sent.len() < 60 => sent.push(delivery),
        }
    }
    restarted.unwrap().unwrap();
    for _ in 0..5 {
        sent.push(scene.send_one(&push(&scene)).await);
    }
    for delivery in &sent {
        scene.run_of(delivery).await;
    }
    scene.settled().await;
    let creations = scene.creations();
    // One more may have been on its way when the API server was back, and its answer not waited for.
    assert!((sent.len()..=sent.len() + 1).contains(&creations.len()));
    assert!(creations.values().all(|by| by.len() == 1), "{creations:?}");
}

#[tokio::test]
async fn what_became_of_a_run_is_told_though_the_api_server_was_restarted_meanwhile() {
    let plane = ControlPlane::start(Options::default()).await.unwrap();
    let scene = Scene::builder("watched")
        .cluster(plane.access())
        .plugin(Plugin::starts("pipelines", &running("echo built")))
        .start()
        .await;
    scene.place.hold_pods().await.unwrap();
    let before = push(&scene);
    scene.send_one(&before).await;
    scene.status(&before.commit, "build", "running").await;
    plane.restart_api_server().await.unwrap();
    let after = push(&scene);
    scene.send_one(&after).await;
    scene.status(&after.commit, "build", "running").await;
    scene.place.let_pods_finish().await.unwrap();
    for change in [before, after] {
        scene.status(&change.commit, "build", "success").await;
    }
}
