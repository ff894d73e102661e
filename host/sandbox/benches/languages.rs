//! What a fresh instance costs in each language: the same plugin in Rust, Python, JavaScript and Go, one call after the other, and how many instances of the
//! smallest plugin there are in a second.
//!
//! `cargo bench --workspace --bench languages -- [--calls N] [--output json]`

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    missing_docs,
    reason = "a measurement"
)]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use penstock_model::event::{Event, EventKind, MergeRequest, MergeRequestEvent};
use penstock_model::grant::{Grant, Grants};
use penstock_model::id::{CommitId, ProjectId, Timestamp, UserId};
use penstock_model::limits::Limits;
use penstock_model::lookup::{HostFault, Lookup};
use penstock_model::record::Outcome;
use penstock_model::scope::{Project, Provenance, Scope, Trust};
use penstock_sandbox::{Asked, BoxFuture, CallInput, Engine, EngineSettings, Plugin, World};

/// The greeters ask for nothing.
struct Nothing;

impl World for Nothing {
    fn ask(&self, _lookup: Lookup) -> BoxFuture<'_, Asked> {
        Box::pin(std::future::ready(Err(HostFault {
            what: "nothing is to be had here".to_owned(),
            retry_after: None,
        })))
    }
}

fn event() -> Event {
    let commit = CommitId::parse(&"a".repeat(40)).unwrap();
    Event {
        delivery: "0b5d1a6e-6a5f-4a39-b1a5-5d2f3f0c8e11".into(),
        received_at: Timestamp(1_700_000_000_000),
        instance: "main".into(),
        instance_url: "https://gitlab.example.com".into(),
        tenant: "acme/**".into(),
        scope: Scope::Project(Project {
            id: ProjectId(7),
            path: "acme/payments/api".into(),
            default_branch: Some("main".into()),
            web_url: "https://gitlab.example.com/acme/payments/api".into(),
            visibility: "private".into(),
        }),
        actor: None,
        provenance: Provenance {
            trust: Trust::Member,
            ref_protected: false,
            source_project: None,
            confirmed: true,
        },
        ref_name: Some("refs/heads/topic".into()),
        commit: Some(commit.clone()),
        kind: EventKind::MergeRequest(MergeRequestEvent {
            merge_request: MergeRequest {
                iid: 12,
                title: "Mend it".into(),
                state: "opened".into(),
                draft: false,
                source_project: Some(ProjectId(7)),
                source_branch: "topic".into(),
                target_branch: "main".into(),
                head: commit,
                author: UserId(3),
                labels: vec!["bug".into()],
                web_url: "https://gitlab.example.com/acme/payments/api/-/merge_requests/12".into(),
            },
            action: "open".into(),
            old_head: None,
            changed: vec![],
            system: false,
        }),
    }
}

fn guest(name: &str) -> Vec<u8> {
    let folder = std::env::var_os("PENSTOCK_GUESTS").map_or_else(
        || {
            std::env::var_os("PENSTOCK_CACHE")
                .map_or_else(
                    || PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache/penstock"),
                    Into::into,
                )
                .join("guests")
        },
        PathBuf::from,
    );
    std::fs::read(folder.join(format!("{name}.wasm")))
        .unwrap_or_else(|error| panic!("{name}.wasm: {error}; run `cargo xtask guests`"))
}

async fn call(plugin: &Plugin) -> (Duration, u64) {
    let input = CallInput {
        event: event(),
        settings: "{}".to_owned(),
        seed: [7; 32],
        time: Timestamp(1_700_000_001_000),
        grant: Arc::new(Grant::default()),
    };
    let began = Instant::now();
    let record = plugin.decide(input, Arc::new(Nothing)).await.unwrap();
    let took = began.elapsed();
    assert!(
        matches!(record.outcome, Outcome::Plan(_)),
        "{:?}",
        record.outcome
    );
    (took, record.usage.memory)
}

struct Figure {
    name: String,
    value: f64,
    unit: &'static str,
}

fn measure(engine: &Engine, name: &str, calls: usize, figures: &mut Vec<Figure>) {
    let wasm = guest(name);
    let limits = Limits {
        memory: 128 << 20,
        cpu: Duration::from_secs(10),
        ..Limits::default()
    };
    let began = Instant::now();
    let plugin = engine
        .load(name.into(), &wasm, limits, Grants::default())
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    let loaded = began.elapsed();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (mut times, memory) = runtime
        .block_on(engine.threads().spawn(async move {
            let mut times = Vec::new();
            let mut memory = 0;
            for n in 0..calls + calls / 10 {
                let (took, held) = call(&plugin).await;
                memory = held;
                if n >= calls / 10 {
                    times.push(took);
                }
            }
            (times, memory)
        }))
        .unwrap();
    let sum: Duration = times.iter().sum();
    times.sort_unstable();
    let at = |part: usize| times[(times.len() - 1) * part / 100].as_secs_f64() * 1e6;
    let mut add = |what: &str, value: f64, unit: &'static str| {
        figures.push(Figure {
            name: format!("{name}: {what}"),
            value,
            unit,
        });
    };
    add("component", wasm.len() as f64, "bytes");
    add("first load, compiled", loaded.as_secs_f64() * 1e3, "ms");
    add("fresh instance and call, p50", at(50), "us");
    add("fresh instance and call, p99", at(99), "us");
    add(
        "calls on one thread",
        times.len() as f64 / sum.as_secs_f64(),
        "1/s",
    );
    add("memory of a call", memory as f64, "bytes");
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let after = |flag: &str| {
        args.iter()
            .position(|arg| arg == flag)
            .and_then(|at| args.get(at + 1))
    };
    let calls: usize = after("--calls").map_or(1_000, |n| n.parse().expect("a number of calls"));
    let engine = Engine::new(EngineSettings::default()).unwrap();
    let mut figures = Vec::new();
    // The smallest there is: what an instance costs.
    measure(&engine, "minimal", calls * 10, &mut figures);
    measure(&engine, "greeter", calls * 10, &mut figures);
    for name in ["greeter-python", "greeter-javascript", "greeter-go"] {
        measure(&engine, name, calls, &mut figures);
    }
    if after("--output").is_some_and(|format| format == "json") {
        let figures: Vec<_> = figures
            .iter()
            .map(|it| {
                serde_json::json!({"name": it.name, "value": it.value, "unit": it.unit, "goal": null, "met": null})
            })
            .collect();
        println!(
            "{}",
            serde_json::json!({
                "figures": figures,
                "command": format!("cargo bench --workspace --bench languages -- --calls {calls} --output json"),
                "machine": format!("{} cores, {}", std::thread::available_parallelism().map_or(0, usize::from), std::env::consts::ARCH),
            })
        );
    } else {
        println!("pooled: {}", engine.is_pooling());
        for Figure { name, value, unit } in &figures {
            println!("{name:48} {value:14.1} {unit}");
        }
    }
}
