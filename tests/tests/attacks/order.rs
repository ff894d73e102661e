//! A lane's deliveries are decided in the order in which they came, whichever of two replicas took them in and whichever is killed meanwhile.

use penstock_doubles::gitlab::Push;
use penstock_guests::Behaviour;
use penstock_tests::burst::id;
use penstock_tests::scene::PROJECT;
use penstock_tests::{Plugin, Postgres, Route, Scene};

const PUSHES: usize = 24;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lane_s_deliveries_are_decided_in_their_order_over_two_replicas() {
    let server = Postgres::start().await;
    // Each call adds one to what the one before it has left, and says what it found.
    let counts = Behaviour::StateCount {
        key: "count".to_owned(),
    };
    let mut scene = Scene::builder("order")
        .postgres(&server)
        .plugin_by(
            Plugin::misbehave("counter", counts),
            Route::to("counter").on(&["push"]),
        )
        .start()
        .await;
    let (mut second, second_url) = scene.replica();
    second.restart().await;
    let mut sent = Vec::new();
    for number in 0..PUSHES {
        let push = Push::new(PROJECT, "topic", "alice").write("a.txt", number.to_string());
        let mut delivery = scene.gitlab.push(push).delivery(scene.hook);
        if number % 2 == 1 {
            delivery.url = delivery.url.replace(scene.url(), &second_url);
        }
        assert_eq!(scene.post(&delivery).await.status, 202);
        sent.push(id(&delivery));
        // What a replica had in hand when it was killed is the other's when the claim is over.
        match number {
            8 => {
                second.kill9();
                second.restart().await;
            }
            16 => {
                scene.penstock.kill9();
                scene.penstock.restart().await;
            }
            _ => {}
        }
    }
    let mut found = Vec::new();
    for delivery in &sent {
        let told = scene.outcome(delivery, "decided").await;
        let reason = told["routes"][0]["reasons"][0].as_str().unwrap_or_default();
        found.push(reason.to_owned());
    }
    let expect: Vec<String> = (1..=PUSHES)
        .map(|number| format!("count is {number}"))
        .collect();
    assert_eq!(
        found, expect,
        "the n-th delivery is the n-th that was decided"
    );
}
