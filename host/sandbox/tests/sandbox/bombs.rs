//! Guests that no toolchain would make.

use std::time::Duration;

use penstock_model::limits::Limits;
use penstock_model::record::{DecisionRecord, Failure, Outcome};

use crate::stage::{Told, failure, input, load_bytes, usual};
use penstock_written_guests::trigger;

const MIB: u64 = 1024 * 1024;

async fn run(fields: &str, body: &str, limits: Limits) -> DecisionRecord {
    load_bytes(&trigger(fields, body), limits)
        .unwrap_or_else(|error| panic!("{error}"))
        .decide(input("{}"), Told::new(usual))
        .await
        .unwrap()
}

fn small() -> Limits {
    Limits {
        cpu: Duration::from_millis(50),
        memory: 4 * MIB,
        ..Limits::default()
    }
}

#[tokio::test]
async fn a_guest_that_does_nothing_gives_an_empty_plan() {
    let record = run("", "", small()).await;
    assert!(matches!(&record.outcome, Outcome::Plan(plan) if plan.effects.is_empty()));
}

#[tokio::test]
async fn a_start_function_that_never_ends_is_stopped() {
    let record = run("(func $spin (loop $l (br $l))) (start $spin)", "", small()).await;
    assert_eq!(failure(&record), &Failure::CpuExceeded { limit_ms: 50 });
}

#[tokio::test]
async fn a_start_function_that_traps_is_a_failure_of_the_plugin() {
    let record = run("(func $fail unreachable) (start $fail)", "", small()).await;
    assert_eq!(failure(&record).word(), "trap");
}

#[tokio::test]
async fn several_memories_together_stay_under_the_limit() {
    let fields = "(memory $a 1) (memory $b 1) (memory $c 1)";
    let grow = "(loop $l
        (drop (memory.grow $a (i32.const 1)))
        (drop (memory.grow $b (i32.const 1)))
        (drop (memory.grow $c (i32.const 1)))
        (br $l))";
    let record = run(fields, grow, small()).await;
    assert_eq!(
        failure(&record),
        &Failure::MemoryExceeded { limit: 4 * MIB }
    );
    assert!(record.usage.memory <= 4 * MIB);
    assert!(record.usage.memory > 4 * MIB - 256 * 1024);
}

#[tokio::test]
async fn memories_that_only_together_begin_too_large_end_the_call() {
    let fields = "(memory $a 31) (memory $b 31)";
    let record = run(fields, "", small()).await;
    assert_eq!(
        failure(&record),
        &Failure::MemoryExceeded { limit: 4 * MIB }
    );
}

#[tokio::test]
async fn tables_count_as_memory() {
    let fields = "(table $t 1 funcref)";
    let grow = "(loop $l (drop (table.grow $t (ref.null func) (i32.const 1000))) (br $l))";
    let limits = Limits {
        memory: 4 * 64 * 1024 + 100_000,
        ..small()
    };
    let record = run(fields, grow, limits.clone()).await;
    assert_eq!(
        failure(&record),
        &Failure::MemoryExceeded {
            limit: limits.memory
        }
    );
}

#[tokio::test]
async fn endless_recursion_is_told_from_other_traps() {
    let record = run("(func $deeper (call $deeper))", "(call $deeper)", small()).await;
    assert_eq!(failure(&record), &Failure::StackOverflow);
    assert!(record.cut);
}

#[tokio::test]
async fn large_copies_in_a_loop_are_stopped() {
    let body = "(loop $l (memory.fill (i32.const 65536) (i32.const 1) (i32.const 131072)) (br $l))";
    let record = run("", body, small()).await;
    assert_eq!(failure(&record), &Failure::CpuExceeded { limit_ms: 50 });
}

#[tokio::test]
async fn an_answer_out_of_bounds_is_a_bad_answer() {
    // 4 billion effects at address 8.
    let body =
        "(i32.store (i32.const 1028) (i32.const 8)) (i32.store (i32.const 1032) (i32.const -1))";
    let record = run("", body, small()).await;
    let word = failure(&record).word();
    assert!(matches!(word, "bad-answer" | "output-exceeded"), "{word}");
    // A case that there isn't.
    let record = run("", "(i32.store8 (i32.const 1024) (i32.const 7))", small()).await;
    assert_eq!(failure(&record).word(), "bad-answer");
}

#[tokio::test]
async fn many_texts_that_share_their_bytes_are_not_copied_without_end() {
    // 15,000 reasons, each the same 60 KB: 900 MB if they were copied.
    let body = "
        (local $n i32)
        (i32.store (i32.const 1036) (i32.const 131072))
        (i32.store (i32.const 1040) (i32.const 15000))
        (loop $l
            (i32.store (i32.add (i32.const 131072) (i32.mul (local.get $n) (i32.const 8))) (i32.const 65536))
            (i32.store (i32.add (i32.const 131076) (i32.mul (local.get $n) (i32.const 8))) (i32.const 60000))
            (local.set $n (i32.add (local.get $n) (i32.const 1)))
            (br_if $l (i32.lt_u (local.get $n) (i32.const 15000))))";
    let record = run("", body, small()).await;
    assert_eq!(failure(&record).word(), "output-exceeded");
}
