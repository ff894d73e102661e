//! Every limit, tripped by a guest.

use std::time::{Duration, Instant};

use penstock_model::effect::PluginError;
use penstock_model::limits::Limits;
use penstock_model::lookup::{Answer, Lookup};
use penstock_model::record::{Failure, Outcome};

use crate::stage::{Silent, Told, decide, failure, input, misbehave, reasons, usual};

const MIB: u64 = 1024 * 1024;

#[tokio::test]
async fn a_guest_that_computes_too_long_is_stopped() {
    let limits = Limits {
        cpu: Duration::from_millis(50),
        ..Limits::default()
    };
    let record = decide(limits, r#"{"do":"loop"}"#).await;
    assert_eq!(failure(&record), &Failure::CpuExceeded { limit_ms: 50 });
    assert!(record.cut);
    assert!(
        record.usage.cpu >= Duration::from_millis(50),
        "{:?}",
        record.usage
    );
}

#[tokio::test]
async fn a_world_that_never_answers_is_stopped_by_the_deadline() {
    let limits = Limits {
        deadline: Duration::from_secs(1),
        ..Limits::default()
    };
    let began = Instant::now();
    let record = misbehave(limits)
        .decide(input(r#"{"do":"host-bytes"}"#), std::sync::Arc::new(Silent))
        .await
        .unwrap();
    assert_eq!(
        failure(&record),
        &Failure::DeadlinePassed { limit_ms: 1_000 }
    );
    assert!(record.cut);
    assert_eq!(record.calls, [], "a call without an answer is not recorded");
    assert!(
        record.usage.cpu < Duration::from_millis(400),
        "waiting is not computing"
    );
    assert!(began.elapsed() < Duration::from_secs(60));
}

#[tokio::test]
async fn a_guest_that_computes_past_its_deadline_is_stopped_too() {
    let limits = Limits {
        cpu: Duration::from_secs(60),
        deadline: Duration::from_millis(60),
        ..Limits::default()
    };
    let record = decide(limits, r#"{"do":"loop"}"#).await;
    assert_eq!(failure(&record), &Failure::DeadlinePassed { limit_ms: 60 });
}

#[tokio::test]
async fn memory_over_the_limit_ends_the_call() {
    let limits = Limits {
        memory: 8 * MIB,
        ..Limits::default()
    };
    let record = decide(limits.clone(), r#"{"do":"memory","bytes":null}"#).await;
    assert_eq!(
        failure(&record),
        &Failure::MemoryExceeded { limit: 8 * MIB }
    );
    let record = decide(limits, r#"{"do":"memory","bytes":4194304}"#).await;
    assert_eq!(reasons(&record), ["took 4194304 bytes"]);
    assert!(record.usage.memory > 4 * MIB && record.usage.memory <= 8 * MIB);
}

#[tokio::test]
async fn traps_and_panics_are_failures_of_the_plugin() {
    let record = decide(Limits::default(), r#"{"do":"trap"}"#).await;
    let Failure::Trap { message } = failure(&record) else {
        panic!("{:?}", record.outcome);
    };
    assert!(message.contains("unreachable"), "{message}");
    let record = decide(Limits::default(), r#"{"do":"panic"}"#).await;
    assert_eq!(failure(&record).word(), "trap");
    assert!(
        record
            .log
            .iter()
            .any(|line| line.message.contains("told to panic")),
        "{:?}",
        record.log
    );
}

#[tokio::test]
async fn host_calls_are_counted() {
    let limits = Limits {
        host_calls: 10,
        ..Limits::default()
    };
    let record = decide(limits.clone(), r#"{"do":"host-calls","count":null}"#).await;
    assert_eq!(failure(&record), &Failure::HostCallsExceeded { limit: 10 });
    assert_eq!(record.usage.host_calls, 10);
    // One of the ten reads the settings.
    let record = decide(limits, r#"{"do":"host-calls","count":9}"#).await;
    assert_eq!(reasons(&record), ["made 9 calls"]);
}

#[tokio::test]
async fn bytes_are_counted_for_each_call_and_for_all() {
    let payload = |bytes: usize| {
        Told::new(move |lookup: &Lookup| match lookup {
            Lookup::Payload => Ok(Ok(Answer::Text("x".repeat(bytes)))),
            other => usual(other),
        })
    };
    let limits = Limits {
        host_call_bytes: 64 * 1024,
        total_bytes: 200 * 1024,
        ..Limits::default()
    };
    let plugin = misbehave(limits);
    let settings = r#"{"do":"host-bytes","count":null}"#;
    let record = plugin
        .decide(input(settings), payload(65 * 1024))
        .await
        .unwrap();
    assert!(
        matches!(&record.outcome, Outcome::Error(PluginError::Other(told))
            if told == "it has 66560 bytes, more than the plugin may read"),
        "{:?}",
        record.outcome
    );
    let record = plugin
        .decide(input(settings), payload(60 * 1024))
        .await
        .unwrap();
    assert_eq!(
        failure(&record),
        &Failure::HostBytesExceeded {
            what: "all host calls".into(),
            limit: 200 * 1024
        }
    );
    assert_eq!(
        record.calls.len(),
        4,
        "the answer that was one too many is kept: without it the call could not be run again"
    );
}

#[tokio::test]
async fn what_a_guest_hands_over_is_limited_before_it_is_copied() {
    let limits = Limits {
        host_call_bytes: 64 * 1024,
        output: 4 * 1024,
        ..Limits::default()
    };
    let record = decide(limits, r#"{"do":"log-flood","count":1,"bytes":1000000}"#).await;
    assert_eq!(
        failure(&record),
        &Failure::HostBytesExceeded {
            what: "one host call".into(),
            limit: 64 * 1024
        }
    );
}

#[tokio::test]
async fn log_lines_over_the_limit_are_dropped_and_counted() {
    let limits = Limits {
        log: 1000,
        ..Limits::default()
    };
    let record = decide(limits, r#"{"do":"log-flood","count":10,"bytes":300}"#).await;
    assert_eq!(reasons(&record), ["logged 10 messages"]);
    let kept: usize = record.log.iter().map(|line| line.message.len()).sum();
    assert!(kept <= 1000 && kept > 500, "{kept}");
    assert!(record.usage.log_dropped > 1500, "{:?}", record.usage);
}

#[tokio::test]
async fn an_answer_over_the_limit_is_refused_before_and_after_it_is_copied() {
    let limits = Limits {
        output: 16 * 1024,
        host_call_bytes: 64 * 1024,
        ..Limits::default()
    };
    for bytes in [17 * 1024, 4 * 1024 * 1024] {
        let settings = format!(r#"{{"do":"big-answer","bytes":{bytes}}}"#);
        let record = decide(limits.clone(), &settings).await;
        assert_eq!(
            failure(&record),
            &Failure::OutputExceeded { limit: 16 * 1024 },
            "{bytes}"
        );
    }
    let record = decide(limits, r#"{"do":"big-answer","bytes":15000}"#).await;
    assert!(
        reasons(&record)[0].len() < 5000,
        "reasons are cut for people"
    );
}

#[tokio::test]
async fn effects_are_counted() {
    let limits = Limits {
        effects: 5,
        ..Limits::default()
    };
    let record = decide(limits.clone(), r#"{"do":"many-effects","count":6}"#).await;
    assert_eq!(
        failure(&record),
        &Failure::EffectsExceeded { found: 6, limit: 5 }
    );
    let record = decide(limits, r#"{"do":"many-effects","count":5}"#).await;
    assert!(matches!(&record.outcome, Outcome::Plan(plan) if plan.effects.len() == 5));
}

#[tokio::test]
async fn state_is_limited_in_keys_and_bytes() {
    let limits = Limits {
        state_keys: 4,
        state_bytes: 1000,
        ..Limits::default()
    };
    let record = decide(
        limits.clone(),
        r#"{"do":"state-grow","count":null,"bytes":10}"#,
    )
    .await;
    assert_eq!(
        failure(&record),
        &Failure::StateExceeded {
            what: "keys".into(),
            limit: 4
        }
    );
    assert!(
        record.state.written.is_empty(),
        "nothing is written by a call that failed"
    );
    let record = decide(limits, r#"{"do":"state-grow","count":null,"bytes":600}"#).await;
    assert_eq!(
        failure(&record),
        &Failure::StateExceeded {
            what: "bytes".into(),
            limit: 1000
        }
    );
}

#[tokio::test]
async fn a_record_over_the_limit_is_cut_to_it() {
    let limits = Limits {
        record: 8 * 1024,
        ..Limits::default()
    };
    let world = Told::new(|lookup: &Lookup| match lookup {
        // Each quote takes two bytes in the record.
        Lookup::Payload => Ok(Ok(Answer::Text("\"".repeat(1500)))),
        other => usual(other),
    });
    let record = misbehave(limits)
        .decide(input(r#"{"do":"host-bytes","count":4}"#), world)
        .await
        .unwrap();
    assert_eq!(
        failure(&record),
        &Failure::RecordExceeded { limit: 8 * 1024 }
    );
    assert!(record.cut);
    let size = record.canonical().unwrap().len();
    assert!(size <= 8 * 1024, "{size}");
    assert!(!record.calls.is_empty(), "what fits is kept");
}

#[tokio::test]
async fn a_record_far_over_the_limit_ends_the_call_at_once() {
    let limits = Limits {
        record: 8 * 1024,
        ..Limits::default()
    };
    let world = Told::new(|lookup: &Lookup| match lookup {
        Lookup::Payload => Ok(Ok(Answer::Text("x".repeat(3000)))),
        other => usual(other),
    });
    let record = misbehave(limits)
        .decide(input(r#"{"do":"host-bytes","count":null}"#), world)
        .await
        .unwrap();
    assert_eq!(
        failure(&record),
        &Failure::RecordExceeded { limit: 8 * 1024 }
    );
    assert!(record.canonical().unwrap().len() <= 8 * 1024);
}
