//! One plugin never stops another.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use penstock_model::limits::Limits;
use penstock_sandbox::{Engine, EngineSettings, Plugin};

use crate::stage::{Told, failure, input, load, reasons, usual};

fn crowded() -> Engine {
    Engine::new(EngineSettings {
        threads: 1,
        slots: 4,
        ..EngineSettings::default()
    })
    .unwrap()
}

fn spin(plugin: &Plugin) -> tokio::task::JoinHandle<()> {
    let plugin = plugin.clone();
    tokio::spawn(async move {
        let record = plugin
            .decide(input(r#"{"do":"loop"}"#), Told::new(usual))
            .await
            .unwrap();
        failure(&record);
    })
}

#[tokio::test]
async fn neighbours_go_on_while_two_guests_spin_on_one_thread() {
    let engine = crowded();
    let forever = Limits {
        cpu: Duration::from_secs(600),
        deadline: Duration::from_secs(600),
        concurrency: 100,
        ..Limits::default()
    };
    let hostile = load(&engine, "misbehave", forever);
    let good = load(&engine, "minimal", Limits::default());
    // Five, and only two may run: a plugin gets half of the slots.
    let spinning: Vec<_> = (0..5).map(|_| spin(&hostile)).collect();
    let began = Instant::now();
    for _ in 0..20 {
        let record = good.decide(input("{}"), Told::new(usual)).await.unwrap();
        assert!(reasons(&record).len() <= 1);
    }
    let took = began.elapsed();
    assert!(took < Duration::from_secs(20), "{took:?}");
    assert!(
        spinning.iter().all(|task| !task.is_finished()),
        "they still spin"
    );
    for task in &spinning {
        task.abort();
    }
    // Whoever ends a call gives its slots back: the hostile plugin itself can be called again.
    let again = hostile.decide(input(r#"{"do":"nothing"}"#), Told::new(usual));
    let record = tokio::time::timeout(Duration::from_secs(20), again)
        .await
        .expect("the slots are free")
        .unwrap();
    assert_eq!(reasons(&record).len(), 1);
}

#[tokio::test]
async fn more_calls_than_slots_wait_and_all_end() {
    let engine = crowded();
    let plugin = load(
        &engine,
        "misbehave",
        Limits {
            // Waiting for a slot is not part of it.
            deadline: Duration::from_secs(5),
            ..Limits::default()
        },
    );
    let calls = (0..64).map(|_| plugin.decide(input(r#"{"do":"state-count"}"#), Told::new(usual)));
    for record in join_all(calls).await {
        assert_eq!(reasons(&record.unwrap()), ["count is 1"]);
    }
}

#[tokio::test]
async fn a_call_on_the_plugins_own_threads_is_made_there() {
    let engine = crowded();
    let plugin = load(&engine, "minimal", Limits::default());
    let world = Told::new(usual);
    let call = async move { plugin.decide(input("{}"), world).await };
    let record = engine.threads().spawn(call).await.unwrap().unwrap();
    assert!(record.usage.wall > Duration::ZERO);
}

#[test]
fn an_engine_can_be_dropped_anywhere() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let engine = crowded();
        let plugin = load(&engine, "minimal", Limits::default());
        drop(engine);
        let world = Told::new(usual);
        assert!(plugin.decide(input("{}"), world.clone()).await.is_ok());
        drop(plugin);
        assert_eq!(
            Arc::strong_count(&world),
            1,
            "nothing of a call is left behind"
        );
    });
}
