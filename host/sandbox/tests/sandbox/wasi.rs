//! WASI as plugins get it: clocks that only the guest moves, random numbers of the record's seed, and nothing of this machine.

use std::time::{Duration, Instant};

use penstock_model::id::Timestamp;
use penstock_model::limits::Limits;
use penstock_model::record::{DecisionRecord, Failure, Outcome};
use penstock_sandbox::replay;

use crate::stage::{Told, failure, input, load_bytes, usual};
use penstock_written_guests::Written;

/// As much of WASI as the guests here call.
const WASI: &str = "
package wasi:io@0.2.0 {
    interface poll { resource pollable; poll: func(in: list<borrow<pollable>>) -> list<u32>; }
    interface error { resource error; }
    interface streams {
        use error.{error};
        variant stream-error { last-operation-failed(error), closed }
        resource output-stream { blocking-write-and-flush: func(contents: list<u8>) -> result<_, stream-error>; }
    }
}
package wasi:clocks@0.2.0 {
    interface monotonic-clock {
        use wasi:io/poll@0.2.0.{pollable};
        now: func() -> u64;
        subscribe-duration: func(when: u64) -> pollable;
    }
    interface wall-clock { record datetime { seconds: u64, nanoseconds: u32 } now: func() -> datetime; }
}
package wasi:random@0.2.0 {
    interface random { get-random-u64: func() -> u64; get-random-bytes: func(len: u64) -> list<u8>; }
}
package wasi:cli@0.2.0 {
    interface stdout { use wasi:io/streams@0.2.0.{output-stream}; get-stdout: func() -> output-stream; }
    interface exit { exit: func(status: result); }
}
package wasi:sockets@0.2.0 {
    interface network { resource network; enum error-code { unknown, access-denied, not-supported } }
    interface instance-network { use network.{network}; instance-network: func() -> network; }
    interface ip-name-lookup {
        use network.{network, error-code};
        resolve: func(network: borrow<network>, name: string) -> result<u32, error-code>;
    }
}
package wasi:http@0.2.0 { interface types { resource fields { constructor(); } } }
";

/// Eight bytes at an address as 16 digits at another, and a plan whose only reason they are.
const TELL: &str = r#"
    (func $digit (param $n i32) (result i32)
        (i32.add (local.get $n) (select (i32.const 87) (i32.const 48) (i32.gt_u (local.get $n) (i32.const 9)))))
    (func $tell (param $number i64)
        (local $at i32)
        (local.set $at (i32.const 2016))
        (loop $l
            (local.set $at (i32.sub (local.get $at) (i32.const 1)))
            (i32.store8 (local.get $at) (call $digit (i32.wrap_i64 (i64.and (local.get $number) (i64.const 15)))))
            (local.set $number (i64.shr_u (local.get $number) (i64.const 4)))
            (br_if $l (i32.gt_u (local.get $at) (i32.const 2000))))
        (i32.store (i32.const 1980) (i32.const 2000))
        (i32.store (i32.const 1984) (i32.const 16))
        (i32.store (i32.const 1036) (i32.const 1980))
        (i32.store (i32.const 1040) (i32.const 1)))
"#;

/// A guest that imports these and runs this body; `$tell` answers a number as the plan's only reason.
pub(crate) fn guest(items: &str, imports: &str, decide: &str) -> Vec<u8> {
    Written {
        packages: WASI,
        items,
        imports,
        fields: TELL,
        decide,
        ..Written::default()
    }
    .component()
}

async fn run(wasm: &[u8], limits: Limits) -> DecisionRecord {
    let plugin = load_bytes(wasm, limits).unwrap_or_else(|error| panic!("{error}"));
    let record = plugin.decide(input("{}"), Told::new(usual)).await.unwrap();
    let again = replay(&plugin, &record).await.unwrap();
    assert!(again.is_same(), "{again:?}");
    record
}

fn number(record: &DecisionRecord) -> u64 {
    match &record.outcome {
        Outcome::Plan(plan) => u64::from_str_radix(&plan.reasons[0], 16).unwrap(),
        other => panic!("{other:?}"),
    }
}

const MONOTONIC: &str = r#"
    (import "wasi:clocks/monotonic-clock@0.2.0" "now" (func $now (result i64)))
    (import "wasi:clocks/monotonic-clock@0.2.0" "subscribe-duration" (func $sleep (param i64) (result i32)))
    (import "wasi:io/poll@0.2.0" "poll" (func $poll (param i32 i32 i32)))
"#;
const CLOCK: &str = "import wasi:io/poll@0.2.0; import wasi:clocks/monotonic-clock@0.2.0;";

#[tokio::test]
async fn a_sleep_takes_no_time_and_moves_the_clock_to_its_end() {
    // An hour and a minute: the first to end is the minute, and the hour is not over then.
    let wasm = guest(
        CLOCK,
        MONOTONIC,
        "(i32.store (i32.const 3000) (call $sleep (i64.const 3600000000000)))
         (i32.store (i32.const 3004) (call $sleep (i64.const 60000000000)))
         (call $poll (i32.const 3000) (i32.const 2) (i32.const 3008))
         (if (i32.ne (i32.load (i32.const 3012)) (i32.const 1)) (then unreachable))
         (if (i32.ne (i32.load (i32.load (i32.const 3008))) (i32.const 1)) (then unreachable))
         (call $tell (call $now))",
    );
    let began = Instant::now();
    let record = run(&wasm, Limits::default()).await;
    assert_eq!(number(&record), 60_000_001_000, "nanoseconds");
    assert!(began.elapsed() < Duration::from_secs(50), "nobody waited");
}

#[tokio::test]
async fn a_clock_tells_nothing_of_this_machine() {
    let work = "(local $n i32)
        (drop (call $now))
        (loop $l (br_if $l (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const COUNT))))
        (call $tell (call $now))";
    for count in ["10", "10000000"] {
        let wasm = guest(CLOCK, MONOTONIC, &work.replace("COUNT", count));
        assert_eq!(number(&run(&wasm, Limits::default()).await), 2_000);
    }
    let wasm = guest(
        "import wasi:clocks/wall-clock@0.2.0;",
        r#"(import "wasi:clocks/wall-clock@0.2.0" "now" (func $now (param i32)))"#,
        "(call $now (i32.const 3000)) (call $tell (i64.load (i32.const 3000)))",
    );
    assert_eq!(number(&run(&wasm, Limits::default()).await), 1_700_000_001);
}

#[tokio::test]
async fn random_numbers_are_the_record_s_and_no_oracle() {
    let wasm = guest(
        "import wasi:random/random@0.2.0;",
        r#"(import "wasi:random/random@0.2.0" "get-random-u64" (func $random (result i64)))"#,
        "(drop (call $random)) (call $tell (call $random))",
    );
    let plugin = load_bytes(&wasm, Limits::default()).unwrap();
    let with = async |seed: u8| {
        let mut input = input("{}");
        input.seed = [seed; 32];
        // The time has no part in it.
        input.time = Timestamp(u64::from(seed) * 1000);
        number(&plugin.decide(input, Told::new(usual)).await.unwrap())
    };
    assert_eq!(with(1).await, with(1).await);
    assert_ne!(with(1).await, with(2).await);
}

#[tokio::test]
async fn random_bytes_are_counted_before_they_are_made() {
    let wasm = guest(
        "import wasi:random/random@0.2.0;",
        r#"(import "wasi:random/random@0.2.0" "get-random-bytes" (func $random (param i64 i32)))"#,
        "(call $random (i64.const 1099511627776) (i32.const 3000))",
    );
    let record = run(&wasm, Limits::default()).await;
    assert_eq!(failure(&record).word(), "host-bytes-exceeded");
}

#[tokio::test]
async fn handles_that_are_never_given_back_end_the_call() {
    let limits = Limits {
        handles: 50,
        ..Limits::default()
    };
    let wasm = guest(
        CLOCK,
        MONOTONIC,
        "(loop $l (drop (call $sleep (i64.const 1))) (br $l))",
    );
    let record = run(&wasm, limits.clone()).await;
    assert_eq!(failure(&record), &Failure::HandlesExceeded { limit: 50 });
    // Its own resources need no host function: the handles are the host's memory all the same.
    let wasm = Written {
        packages: "package test:mine { interface things { resource thing; } }",
        items: "export test:mine/things;",
        imports: r#"(import "[export]test:mine/things" "[resource-new]thing" (func $new (param i32) (result i32)))"#,
        decide: "(loop $l (drop (call $new (i32.const 1))) (br $l))",
        ..Written::default()
    }
    .component();
    let record = run(&wasm, limits).await;
    assert_eq!(failure(&record), &Failure::HandlesExceeded { limit: 50 });
}

/// With as many handles as its peak says it runs, and with one less it does not: the peak is the engine's own count.
async fn peak_is(wasm: &[u8], expect: u32) {
    let allowed = |handles| Limits {
        handles,
        ..Limits::default()
    };
    let record = run(wasm, allowed(1_000)).await;
    assert_eq!(record.usage.handles, expect, "{:?}", record.outcome);
    let enough = run(wasm, allowed(expect)).await;
    assert_eq!(enough.outcome, record.outcome);
    let Some(few) = expect.checked_sub(1) else {
        return;
    };
    let record = run(wasm, allowed(few)).await;
    assert_eq!(failure(&record), &Failure::HandlesExceeded { limit: few });
    assert_eq!(record.usage.handles, few, "all that it might have");
}

#[tokio::test]
async fn the_peak_of_the_handles_is_what_the_limit_must_allow() {
    peak_is(&guest(CLOCK, MONOTONIC, ""), 0).await;
    let clock = |body: &str| {
        let imports = r#"(import "wasi:clocks/monotonic-clock@0.2.0" "subscribe-duration" (func $sleep (param i64) (result i32)))
            (import "wasi:io/poll@0.2.0" "poll" (func $poll (param i32 i32 i32)))
            (import "wasi:io/poll@0.2.0" "[resource-drop]pollable" (func $drop (param i32)))"#;
        let items = "import wasi:clocks/monotonic-clock@0.2.0; import wasi:io/poll@0.2.0;";
        guest(items, imports, body)
    };
    let sleep = "(call $sleep (i64.const 1))";
    // One at a time, a hundred times.
    let one = clock(&format!(
        "(local $n i32) (loop $l (call $drop {sleep}) (local.set $n (i32.add (local.get $n) (i32.const 1))) (br_if $l (i32.lt_u (local.get $n) (i32.const 100))))"
    ));
    peak_is(&one, 1).await;
    // Three that are held, and lent all at once.
    let three: String = (0..3)
        .map(|n| format!("(i32.store (i32.const {}) {sleep})", 3000 + 4 * n))
        .collect();
    let polled = clock(&format!(
        "{three} (call $poll (i32.const 3000) (i32.const 3) (i32.const 3100))"
    ));
    peak_is(&polled, 6).await;
    // One that is given back before another is taken.
    let given_back = clock(&format!(
        "{three} (call $drop (i32.load (i32.const 3000))) (drop {sleep})"
    ));
    peak_is(&given_back, 3).await;
    let printed = Written {
        packages: WASI,
        items: STDOUT,
        imports: PRINT,
        decide: "(call $write (call $stdout) (i32.const 3000) (i32.const 2) (i32.const 2900))",
        ..Written::default()
    };
    peak_is(&printed.component(), 2).await;
}

const PRINT: &str = r#"
    (import "wasi:cli/stdout@0.2.0" "get-stdout" (func $stdout (result i32)))
    (import "wasi:io/streams@0.2.0" "[method]output-stream.blocking-write-and-flush"
        (func $write (param i32 i32 i32 i32)))
"#;
const STDOUT: &str = "import wasi:io/streams@0.2.0; import wasi:cli/stdout@0.2.0;";

#[tokio::test]
async fn what_is_printed_is_lines_of_the_log() {
    let wasm = Written {
        packages: WASI,
        items: STDOUT,
        imports: PRINT,
        fields: r#"(data (i32.const 3000) "one\n\ntwo\u{0}\n\ffthree")"#,
        decide: "(local $out i32) (local.set $out (call $stdout))
            (call $write (local.get $out) (i32.const 3000) (i32.const 2) (i32.const 2900))
            (call $write (local.get $out) (i32.const 3002) (i32.const 14) (i32.const 2900))",
        ..Written::default()
    }
    .component();
    let record = run(&wasm, Limits::default()).await;
    let lines: Vec<(&str, &str)> = record
        .log
        .iter()
        .map(|line| (line.level.as_str(), line.message.as_str()))
        .collect();
    assert_eq!(
        lines,
        [
            ("info", "one"),
            ("info", "two\u{fffd}"),
            ("info", "\u{fffd}three")
        ]
    );
    assert_eq!(record.log[0].fields, [("stream".into(), "stdout".into())]);
    assert_eq!(record.usage.host_calls, 0);
}

#[tokio::test]
async fn a_flood_on_standard_output_is_dropped_and_counted() {
    let limits = Limits {
        log: 10_000,
        cpu: Duration::from_millis(100),
        // Most of the time is the host's, for each line, and the guest gives way to all others.
        deadline: Duration::from_secs(600),
        ..Limits::default()
    };
    for data in ["x\\n", "xxxxxxxxxxxxxxx"] {
        let wasm = Written {
            packages: WASI,
            items: STDOUT,
            imports: PRINT,
            fields: &format!(r#"(data (i32.const 3000) "{data}")"#),
            decide: "(local $out i32) (local.set $out (call $stdout))
                (loop $l (call $write (local.get $out) (i32.const 3000) (i32.const 2) (i32.const 2900)) (br $l))",
            ..Written::default()
        }
        .component();
        let record = run(&wasm, limits.clone()).await;
        assert_eq!(failure(&record), &Failure::CpuExceeded { limit_ms: 100 });
        let kept: usize = record.log.iter().map(|it| it.message.len()).sum();
        assert!(record.log.len() < 1000 && kept <= 10_000, "{kept}");
        assert!(record.usage.log_dropped > 0);
    }
}

#[tokio::test]
async fn exit_ends_the_call() {
    let wasm = guest(
        "import wasi:cli/exit@0.2.0;",
        r#"(import "wasi:cli/exit@0.2.0" "exit" (func $exit (param i32)))"#,
        "(call $exit (i32.const 0))",
    );
    let Failure::Trap { message } = failure(&run(&wasm, Limits::default()).await).clone() else {
        panic!("it must trap");
    };
    assert!(message.contains("called exit with success"), "{message}");
}

#[tokio::test]
async fn sockets_and_http_load_and_every_function_says_no() {
    let wasm = guest(
        "import wasi:sockets/instance-network@0.2.0; import wasi:sockets/ip-name-lookup@0.2.0;",
        r#"(import "wasi:sockets/instance-network@0.2.0" "instance-network" (func $network (result i32)))
           (import "wasi:sockets/ip-name-lookup@0.2.0" "resolve" (func $resolve (param i32 i32 i32 i32)))"#,
        "(call $resolve (call $network) (i32.const 3000) (i32.const 4) (i32.const 3000))
         (call $tell (i64.load8_u (i32.const 3004)))",
    );
    let record = run(&wasm, Limits::default()).await;
    assert_eq!(number(&record), 1, "access-denied");
    let wasm = guest(
        "import wasi:http/types@0.2.0;",
        r#"(import "wasi:http/types@0.2.0" "[constructor]fields" (func $fields (result i32)))"#,
        "(drop (call $fields))",
    );
    let Failure::Trap { message } = failure(&run(&wasm, Limits::default()).await).clone() else {
        panic!("it must trap");
    };
    assert!(
        message.contains("wasi:http/types@0.2.0#[constructor]fields")
            && message.contains("`fetch`"),
        "{message}"
    );
}
