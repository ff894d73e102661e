//! The same input gives the same bytes: again, in another engine, on other threads, on one core alone.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use penstock_model::id::Digest;
use penstock_model::limits::Limits;
use penstock_model::lookup::{Answer, Content, File, Lookup};
use penstock_model::record::{DecisionRecord, Outcome};
use penstock_sandbox::{Allocation, Asked, Engine, EngineSettings, Kind};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, TestRunner};

use crate::stage::{Told, engine, grants, guest, guests, input, usual};
use crate::wasi;

/// One instruction over four floats and four vectors: a template, and which of them it reads and writes.
#[derive(Clone, Debug)]
struct Op {
    template: &'static str,
    a: u8,
    b: u8,
    c: u8,
    constant: u64,
}

/// `A`, `B`, `C` are floats, `X`, `Y`, `Z` vectors, `K` is a number; what is before the arrow is written.
const OPS: [&str; 46] = [
    "A -> (f64.add A B)",
    "A -> (f64.sub A B)",
    "A -> (f64.mul A B)",
    "A -> (f64.div A B)",
    "A -> (f64.min A B)",
    "A -> (f64.max A B)",
    "A -> (f64.copysign A B)",
    "A -> (f64.sqrt B)",
    "A -> (f64.nearest B)",
    "A -> (f64.neg B)",
    "A -> (f64.promote_f32 (f32.div (f32.demote_f64 A) (f32.demote_f64 B)))",
    "A -> (f64.promote_f32 (f32.mul (f32.demote_f64 A) (f32.demote_f64 B)))",
    "A -> (f64.promote_f32 (f32.sqrt (f32.demote_f64 B)))",
    "A -> (f64.reinterpret_i64 (i64.const K))",
    "A -> (f64.convert_i64_s (i64.trunc_sat_f64_s B))",
    "A -> (f64x2.extract_lane 1 X)",
    "X -> (f64x2.splat A)",
    "X -> (i64x2.splat (i64.const K))",
    "X -> (f64x2.replace_lane 0 X A)",
    "X -> (f32x4.add X Y)",
    "X -> (f32x4.sub X Y)",
    "X -> (f32x4.mul X Y)",
    "X -> (f32x4.div X Y)",
    "X -> (f32x4.min X Y)",
    "X -> (f32x4.pmax X Y)",
    "X -> (f32x4.sqrt Y)",
    "X -> (f64x2.add X Y)",
    "X -> (f64x2.mul X Y)",
    "X -> (f64x2.div X Y)",
    "X -> (f64x2.max X Y)",
    "X -> (f64x2.sqrt Y)",
    "X -> (f32x4.demote_f64x2_zero Y)",
    "X -> (f64x2.promote_low_f32x4 Y)",
    "X -> (i8x16.swizzle X Y)",
    "X -> (i8x16.relaxed_swizzle X Y)",
    "X -> (f32x4.relaxed_madd X Y Z)",
    "X -> (f32x4.relaxed_nmadd X Y Z)",
    "X -> (f64x2.relaxed_madd X Y Z)",
    "X -> (f32x4.relaxed_min X Y)",
    "X -> (f64x2.relaxed_max X Y)",
    "X -> (i8x16.relaxed_laneselect X Y Z)",
    "X -> (i16x8.relaxed_q15mulr_s X Y)",
    "X -> (i32x4.relaxed_trunc_f32x4_s Y)",
    "X -> (i32x4.relaxed_trunc_f64x2_u_zero Y)",
    "X -> (i16x8.relaxed_dot_i8x16_i7x16_s X Y)",
    "A -> (f64.reinterpret_i64 (call $random))",
];

/// Numbers that floats trip over: NaNs of both kinds, infinities, zeroes, the smallest there are.
const ODD: [u64; 9] = [
    0x7ff0_0000_0000_0001,
    0xfff8_dead_beef_0001,
    0x7ff8_0000_0000_0000,
    0x7ff0_0000_0000_0000,
    0xfff0_0000_0000_0000,
    0x8000_0000_0000_0000,
    1,
    0x7fa0_0001_ffc0_0002,
    0x3ff0_0000_0000_0001,
];

fn op() -> impl Strategy<Value = Op> {
    let constant = prop_oneof![proptest::sample::select(ODD.to_vec()), any::<u64>()];
    (
        proptest::sample::select(OPS.to_vec()),
        0..4_u8,
        0..4_u8,
        0..4_u8,
        constant,
    )
        .prop_map(|(template, a, b, c, constant)| Op {
            template,
            a,
            b,
            c,
            constant,
        })
}

impl Op {
    /// The instruction, and every bit of what it gave mixed into the sum.
    fn write(&self, body: &mut String) {
        let (target, value) = self.template.split_once(" -> ").unwrap();
        let mut text = String::new();
        for c in value.chars() {
            match c {
                'A' => write!(text, "(local.get $f{})", self.a),
                'B' => write!(text, "(local.get $f{})", self.b),
                'X' => write!(text, "(local.get $v{})", self.a),
                'Y' => write!(text, "(local.get $v{})", self.b),
                'Z' => write!(text, "(local.get $v{})", self.c),
                'K' => write!(text, "{}", self.constant),
                c => write!(text, "{c}"),
            }
            .unwrap();
        }
        let kind = if target == "A" { 'f' } else { 'v' };
        let name = format!("${kind}{}", self.a);
        writeln!(body, "(local.set {name} {text})").unwrap();
        let halves = match kind {
            'f' => vec![format!("(i64.reinterpret_f64 (local.get {name}))")],
            _ => (0..2)
                .map(|lane| format!("(i64x2.extract_lane {lane} (local.get {name}))"))
                .collect(),
        };
        for half in halves {
            writeln!(
                body,
                "(local.set $sum (i64.xor (i64.rotl (local.get $sum) (i64.const 7)) {half}))"
            )
            .unwrap();
        }
    }
}

fn program(ops: &[Op]) -> Vec<u8> {
    let mut body =
        "(local $sum i64) (local $f0 f64) (local $f1 f64) (local $f2 f64) (local $f3 f64)
        (local $v0 v128) (local $v1 v128) (local $v2 v128) (local $v3 v128)"
            .to_owned();
    for op in ops {
        op.write(&mut body);
    }
    body.push_str("(call $tell (local.get $sum))");
    wasi::guest(
        "import wasi:random/random@0.2.0;",
        r#"(import "wasi:random/random@0.2.0" "get-random-u64" (func $random (result i64)))"#,
        &body,
    )
}

/// What a guest of the corpus is asked, and what it sees.
struct Case {
    name: String,
    wasm: Vec<u8>,
    settings: String,
    world: fn(&Lookup) -> Asked,
    /// So many effects are in its plan: what it does is more than to say that there is nothing to do. None: whatever comes of it.
    effects: Option<usize>,
}

impl Case {
    /// In the usual world, and whatever comes of it.
    fn usual(name: String, wasm: Vec<u8>, settings: String) -> Self {
        Self {
            name,
            wasm,
            settings,
            world: usual,
            effects: None,
        }
    }

    fn digest(&self, engine: &Engine) -> String {
        let Some(record) = record(engine, &self.wasm, &self.settings, self.world) else {
            return "another kind".to_owned();
        };
        if let Some(effects) = self.effects {
            let found = match &record.outcome {
                Outcome::Plan(plan) => plan.effects.len(),
                Outcome::Error(_) | Outcome::Failure(_) => 0,
            };
            assert_eq!(found, effects, "{}: {:#?}", self.name, record.outcome);
        }
        Digest::of(&record.canonical().unwrap()).to_string()
    }
}

/// Digest of the record in its canonical encoding.
fn digest(engine: &Engine, wasm: &[u8], settings: &str) -> String {
    let record = record(engine, wasm, settings, usual).unwrap();
    Digest::of(&record.canonical().unwrap()).to_string()
}

/// The record of a call; none: it is no trigger.
fn record(
    engine: &Engine,
    wasm: &[u8],
    settings: &str,
    world: fn(&Lookup) -> Asked,
) -> Option<DecisionRecord> {
    let limits = Limits {
        cpu: std::time::Duration::from_secs(20),
        // Guests give way to all others: on a busy machine seconds of theirs take minutes.
        deadline: std::time::Duration::from_secs(600),
        memory: 128 << 20,
        ..Limits::default()
    };
    let plugin = engine
        .load("it".into(), wasm, limits, grants())
        .unwrap_or_else(|error| panic!("{error}"));
    if plugin.kind() != Kind::Trigger {
        return None;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let record = runtime
        .block_on(plugin.decide(input(settings), Told::new(world)))
        .unwrap();
    assert!(!record.cut, "{settings}: {:?}", record.outcome);
    Some(record)
}

fn other() -> Engine {
    let settings = EngineSettings {
        threads: 3,
        allocation: Allocation::OnDemand,
        ..crate::stage::settings()
    };
    Engine::new(settings).unwrap()
}

#[test]
fn any_program_over_floats_and_vectors_gives_the_same_bytes_in_another_engine() {
    let other = other();
    let mut runner = TestRunner::new(Config::with_cases(48));
    runner
        .run(&proptest::collection::vec(op(), 1..80), |ops| {
            let wasm = program(&ops);
            let first = digest(engine(), &wasm, "{}");
            prop_assert_eq!(&first, &digest(engine(), &wasm, "{}"));
            prop_assert_eq!(first, digest(&other, &wasm, "{}"));
            Ok(())
        })
        .unwrap();
}

/// A payload with a mapping whose keys are in no order.
fn mappings(lookup: &Lookup) -> Asked {
    let body = r#"{"object_kind":"push","labels":{"zeta":1,"beta":2,"Alpha":3,"omega":4,"eta":5,"10":6,"9":7,"kappa":8,"":9,"iota":10,"mu":11,"nu":12}}"#;
    match lookup {
        Lookup::Payload => Ok(Ok(Answer::Text(body.to_owned()))),
        Lookup::PayloadAt(pointer) => {
            let body: serde_json::Value = serde_json::from_str(body).unwrap();
            let part = body.pointer(pointer).map(ToString::to_string);
            Ok(Ok(Answer::Part(part)))
        }
        other => usual(other),
    }
}

/// Rules that show the order in which they go through a mapping: as text, as a list, as JSON, and in what is started.
const RULES: &str = r#"{"rules":[
    {
        "name": "build", "on": ["push"],
        "when": ["event.code_changed", "body.labels.exists(name, body.labels[name] == 12)"],
        "let": {
            "names": "body.labels.map(name, name).join(' ')",
            "some": "body.labels.filter(name, body.labels[name] > 3).map(name, string(body.labels[name])).join(' ')",
            "json": "marshalJSON(body.labels)"
        },
        "params": { "names": "$(extensions.names)", "some": "$(extensions.some)", "json": "$(extensions.json)" },
        "template": {
            "apiVersion": "tekton.dev/v1", "kind": "PipelineRun",
            "spec": {
                "params": [
                    { "name": "names", "value": "$(tt.params.names)" },
                    { "name": "some", "value": "$(tt.params.some)" },
                    { "name": "json", "value": "$(tt.params.json)" }
                ],
                "pipelineRef": { "name": "build" }
            }
        }
    },
    { "name": "tell", "on": ["push"], "comment": "Labels: $(body.labels)" },
    { "name": "never", "on": ["push"], "when": "body.labels.all(name, body.labels[name] > 6)", "comment": "No." }
]}"#;

/// A repository with one pipeline and the tasks that it names.
fn tekton_folder(lookup: &Lookup) -> Asked {
    let file = |path: &str, text: &str| File {
        path: path.to_owned(),
        blob: "b".repeat(40),
        content: Content(text.as_bytes().to_vec()),
    };
    let run = r#"apiVersion: tekton.dev/v1
kind: PipelineRun
metadata:
  generateName: build-
  annotations:
    pipelinesascode.tekton.dev/on-event: "[push]"
    pipelinesascode.tekton.dev/on-target-branch: "[main]"
    pipelinesascode.tekton.dev/max-keep-runs: "5"
spec:
  params: [{ name: revision, value: "{{ revision }}" }, { name: sender, value: "{{ sender }}" }]
  pipelineSpec:
    params: [{ name: revision }, { name: sender }]
    tasks:
      - { name: lint, taskRef: { name: lint } }
      - { name: test, taskRef: { name: test }, runAfter: [lint] }
"#;
    let task = |name: &str| {
        let text = format!(
            "apiVersion: tekton.dev/v1\nkind: Task\nmetadata: {{ name: {name} }}\nspec:\n  steps:\n    - {{ name: run, image: example.com/{name}, script: \"exit 0\" }}\n"
        );
        file(&format!(".tekton/{name}.yaml"), &text)
    };
    match lookup {
        Lookup::Folder { .. } => Ok(Ok(Answer::Folder(vec![
            task("test"),
            file(".tekton/build.yaml", run),
            task("lint"),
        ]))),
        Lookup::OpenMergeRequests(_) => Ok(Ok(Answer::MergeRequests(Vec::new()))),
        other => usual(other),
    }
}

/// Every plugin there is, with settings and a world that make it do something, and thirty programs that are always the same.
fn corpus() -> Vec<Case> {
    let mut all = Vec::new();
    let mut runner = TestRunner::deterministic();
    for number in 0..30 {
        let ops = proptest::collection::vec(op(), 60)
            .new_tree(&mut runner)
            .unwrap()
            .current();
        let name = format!("program {number}");
        all.push(Case::usual(name, program(&ops), "{}".to_owned()));
    }
    for name in guests() {
        let ways: &[&str] = match name.as_str() {
            "misbehave" => &[
                "echo-lookups",
                "trap",
                "panic",
                "state-count",
                "error-source",
            ],
            "misbehave-python" => &[
                "chance", "floats", "clock", "sleep", "raise", "network", "files",
            ],
            "misbehave-go" => &["map", "select", "chance", "clock"],
            "misbehave-javascript" => &["chance", "floats", "clock", "throw", "payload"],
            "trigger-map" => {
                all.push(Case {
                    settings: RULES.to_owned(),
                    world: mappings,
                    effects: Some(2),
                    ..Case::usual(
                        "rules over mappings".to_owned(),
                        guest(&name),
                        String::new(),
                    )
                });
                &[]
            }
            "pipelines-as-code" => {
                all.push(Case {
                    settings: "{}".to_owned(),
                    world: tekton_folder,
                    effects: Some(1),
                    ..Case::usual("a .tekton folder".to_owned(), guest(&name), String::new())
                });
                &[]
            }
            _ => &["nothing"],
        };
        for way in ways {
            let settings = format!(r#"{{"do":"{way}"}}"#);
            all.push(Case::usual(format!("{name} {way}"), guest(&name), settings));
        }
    }
    all
}

fn digests(engine: &Engine) -> BTreeMap<String, String> {
    for name in guests() {
        crate::stage::hold(&name);
    }
    corpus()
        .into_iter()
        .map(|case| {
            let digest = case.digest(engine);
            (case.name, digest)
        })
        .collect()
}

#[test]
fn every_plugin_gives_the_same_bytes_again_and_on_one_core() {
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args([
            "determinism::the_corpus_on_one_core",
            "--exact",
            "--ignored",
            "--nocapture",
        ])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success(), "{said}");
    let on_one_core: BTreeMap<String, String> = said
        .lines()
        .filter_map(|line| line.split_once(" => "))
        .map(|(name, digest)| (name.to_owned(), digest.to_owned()))
        .collect();
    let here = digests(engine());
    assert_eq!(here, digests(engine()));
    assert_eq!(here, on_one_core);
    assert!(here.len() > 40, "{here:?}");
    for name in ["rules over mappings", "a .tekton folder"] {
        assert!(here.contains_key(name), "{name}: {here:?}");
    }
}

#[test]
#[ignore = "run on one core by `every_plugin_gives_the_same_bytes_again_and_on_one_core`"]
#[allow(clippy::print_stdout, reason = "the other process reads it")]
fn the_corpus_on_one_core() {
    let mut cores = rustix::thread::CpuSet::new();
    let allowed = rustix::thread::sched_getaffinity(None).unwrap();
    let first = (0..rustix::thread::CpuSet::MAX_CPU)
        .find(|core| allowed.is_set(*core))
        .unwrap();
    cores.set(first);
    rustix::thread::sched_setaffinity(None, &cores).unwrap();
    let settings = EngineSettings {
        allocation: Allocation::OnDemand,
        ..crate::stage::settings()
    };
    println!();
    for (name, digest) in digests(&Engine::new(settings).unwrap()) {
        println!("{name} => {digest}");
    }
}

#[test]
fn a_program_says_something() {
    let ops = [Op {
        template: "A -> (f64.reinterpret_i64 (i64.const K))",
        a: 0,
        b: 0,
        c: 0,
        constant: 7,
    }];
    let plugin = engine()
        .load("it".into(), &program(&ops), Limits::default(), grants())
        .unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let record = runtime
        .block_on(plugin.decide(input("{}"), Told::new(usual)))
        .unwrap();
    assert!(
        matches!(&record.outcome, Outcome::Plan(plan) if plan.reasons == ["0000000000000007"]),
        "{:?}",
        record.outcome
    );
}
