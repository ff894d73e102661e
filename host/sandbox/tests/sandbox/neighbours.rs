//! One plugin never stops another.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use penstock_model::limits::Limits;
use penstock_sandbox::{Engine, EngineSettings, Plugin};

use crate::stage::{Told, failure, input, load, reasons, usual};

/// More than anything takes beside others on a busy machine, and less than a guest spins.
const A_WHILE: Duration = Duration::from_secs(120);

fn crowded() -> Engine {
    one_thread(4)
}

fn one_thread(slots: u32) -> Engine {
    Engine::new(EngineSettings {
        threads: 1,
        slots,
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
    assert!(took < A_WHILE, "{took:?}");
    assert!(
        spinning.iter().all(|task| !task.is_finished()),
        "they still spin"
    );
    for task in &spinning {
        task.abort();
    }
    // Whoever ends a call gives its slots back: the hostile plugin itself can be called again.
    let again = hostile.decide(input(r#"{"do":"nothing"}"#), Told::new(usual));
    let record = tokio::time::timeout(A_WHILE, again)
        .await
        .expect("the slots are free")
        .unwrap();
    assert_eq!(reasons(&record).len(), 1);
}

#[tokio::test]
async fn many_calls_of_a_plugin_that_spins_get_no_more_of_a_thread_than_one_of_its_neighbour() {
    let engine = one_thread(16);
    let spins = |cpu| Limits {
        cpu: Duration::from_millis(cpu),
        deadline: A_WHILE,
        concurrency: 8,
        ..Limits::default()
    };
    let hostile = load(&engine, "misbehave", spins(300));
    let neighbour = load(&engine, "misbehave", spins(400));
    let spinning: Vec<_> = (0..8).map(|_| spin(&hostile)).collect();
    // A call for a call each of the eight would have its 300 ms when this one has as many. In turns they have 50 each by then, and a long way to go for whoever
    // looks a moment late.
    spin(&neighbour).await.unwrap();
    let ended = spinning.iter().filter(|task| task.is_finished()).count();
    assert_eq!(ended, 0, "of the eight beside it");
    for task in spinning {
        task.await.unwrap();
    }
}

#[tokio::test]
async fn more_calls_than_slots_wait_and_all_end() {
    let engine = crowded();
    let plugin = load(
        &engine,
        "misbehave",
        Limits {
            deadline: A_WHILE,
            ..Limits::default()
        },
    );
    let began = Instant::now();
    let calls = (0..64).map(|_| plugin.decide(input(r#"{"do":"state-count"}"#), Told::new(usual)));
    let mut together = Duration::ZERO;
    for record in join_all(calls).await {
        let record = record.unwrap();
        assert_eq!(reasons(&record), ["count is 1"]);
        together += record.usage.wall;
    }
    // Two at a time: were waiting for a slot a part of a call, they would have sixteen times as much between them.
    let most = 2 * began.elapsed();
    assert!(together <= most, "{together:?} of {most:?}");
}

#[tokio::test]
async fn a_slot_is_given_at_once_or_not_at_all_and_comes_back_when_it_is_dropped() {
    let engine = crowded();
    let one = load(&engine, "minimal", Limits::default());
    let other = load(&engine, "misbehave", Limits::default());
    // Four in all, and two of them for each plugin.
    let first = one.slot().expect("all are free");
    let second = one.slot().expect("half of all are its own");
    assert!(one.slot().is_none(), "a plugin gets half of the slots");
    let (third, fourth) = (other.slot().unwrap(), other.slot().unwrap());
    drop(third);
    let again = other.slot().expect("what was dropped is free again");
    let waiting = {
        let one = one.clone();
        tokio::spawn(async move { one.decide(input("{}"), Told::new(usual)).await })
    };
    let record = one
        .decide_in(first, input("{}"), Told::new(usual))
        .await
        .unwrap();
    assert!(reasons(&record).len() <= 1);
    assert!(
        waiting.await.unwrap().is_ok(),
        "the call gave its slot back"
    );
    drop((second, fourth, again));
    let all: Vec<_> = (0..2)
        .flat_map(|_| [one.slot(), other.slot()])
        .map(|slot| slot.expect("every slot came back"))
        .collect();
    assert_eq!(all.len(), 4);
}

#[tokio::test]
async fn a_slot_that_fails_for_want_of_a_shared_one_keeps_none_of_its_own() {
    let engine = one_thread(1);
    let one = load(&engine, "minimal", Limits::default());
    let other = load(&engine, "misbehave", Limits::default());
    let held = one.slot().unwrap();
    assert!(other.slot().is_none());
    drop(held);
    assert!(other.slot().is_some());
}

#[tokio::test]
async fn a_call_that_is_dropped_gives_its_slot_back() {
    let engine = crowded();
    let limits = Limits {
        // It goes on until it is dropped, however late that is.
        cpu: Duration::from_secs(600),
        deadline: Duration::from_secs(600),
        concurrency: 1,
        ..Limits::default()
    };
    let plugin = load(&engine, "misbehave", limits);
    let slot = plugin.slot().unwrap();
    let call = {
        let plugin = plugin.clone();
        tokio::spawn(async move {
            let settings = r#"{"do":"loop"}"#;
            plugin
                .decide_in(slot, input(settings), Told::new(usual))
                .await
        })
    };
    tokio::task::yield_now().await;
    assert!(plugin.slot().is_none());
    call.abort();
    let again = plugin.decide(input(r#"{"do":"nothing"}"#), Told::new(usual));
    tokio::time::timeout(A_WHILE, again)
        .await
        .expect("the slot is free")
        .unwrap();
}

#[tokio::test]
async fn a_slot_of_another_plugin_is_not_taken() {
    let engine = crowded();
    let one = load(&engine, "minimal", Limits::default());
    let other = load(&engine, "misbehave", Limits::default());
    let slot = other.slot().unwrap();
    let fault = one
        .decide_in(slot, input("{}"), Told::new(usual))
        .await
        .unwrap_err();
    assert!(fault.what.contains("another plugin"), "{fault}");
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
