//! Bytes in a guest's memory, lifted as a plan: wrong tags, lists as long as memory, pointers anywhere, texts that are none.
//!
//! Whatever the guest answers is an outcome within its limits, can be written down and read back, and comes out the same when it is run again.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use penstock_model::event::{Event, EventKind};
use penstock_model::grant::{Grant, Grants};
use penstock_model::id::{ProjectId, Timestamp};
use penstock_model::limits::Limits;
use penstock_model::lookup::{Answer, Content, Lookup, StateValue};
use penstock_model::record::{DecisionRecord, Outcome};
use penstock_model::scope::{Project, Provenance, Scope};
use penstock_sandbox::{
    Asked, BoxFuture, CallInput, Engine, EngineSettings, Plugin, Recorded, Verdict, World,
};
use tokio::runtime::Handle;

/// Bytes that the guest has room for.
const MOST: usize = 64 * 1024;

struct Stage {
    plugin: Plugin,
    recorded: Recorded,
    /// The guests' own threads: a call from there changes no thread, which is most of what it would cost.
    threads: Handle,
    grant: Arc<Grant>,
}

static STAGE: LazyLock<Stage> = LazyLock::new(|| {
    let engine = Engine::new(EngineSettings {
        threads: 1,
        slots: 2,
        ..EngineSettings::default()
    });
    let engine = engine.unwrap();
    let wasm = penstock_written_guests::answers_its_state();
    let base = Grant {
        state: true,
        ..Grant::default()
    };
    let grants = Grants {
        base: base.clone(),
        from_fork: Grant::default(),
    };
    let limits = Limits {
        // The machine may be busy, and a cut call is compared less strictly.
        cpu: Duration::from_secs(10),
        output: 64 * 1024,
        ..Limits::default()
    };
    Stage {
        plugin: engine.load("fuzz".into(), &wasm, limits, grants).unwrap(),
        recorded: engine.recorded(wasm.into()),
        threads: engine.threads().clone(),
        grant: Arc::new(base),
    }
});

/// A state that holds the input.
struct Holds(Vec<u8>);

impl World for Holds {
    fn ask(&self, lookup: Lookup) -> BoxFuture<'_, Asked> {
        assert!(matches!(lookup, Lookup::StateGet(_)), "{lookup:?}");
        let value = StateValue {
            value: Content(self.0.clone()),
            version: 1,
        };
        Box::pin(std::future::ready(Ok(Ok(Answer::State(Some(value))))))
    }
}

/// Runs it.
pub fn run(data: &[u8]) {
    if data.len() > MOST {
        return;
    }
    let stage = &*STAGE;
    let input = CallInput {
        event: event(),
        settings: "{}".to_owned(),
        seed: [7; 32],
        time: Timestamp(2),
        grant: Arc::clone(&stage.grant),
    };
    let world = Arc::new(Holds(data.to_vec()));
    let record = stage
        .threads
        .block_on(stage.plugin.decide(input, world))
        .expect("no fault of the host");
    if let Outcome::Plan(plan) = &record.outcome {
        let limits = stage.plugin.limits();
        assert!(plan.effects.len() as u64 <= u64::from(limits.effects));
    }
    let bytes = record.canonical().expect("a record can be written");
    let read: DecisionRecord = serde_json::from_slice(&bytes).expect("and read");
    assert_eq!(read.canonical().unwrap(), bytes, "the same when read back");
    let verdict = stage
        .threads
        .block_on(stage.recorded.replay(&read))
        .expect("it can be run again");
    assert!(
        matches!(verdict, Verdict::Same { .. } | Verdict::SamePrefix { .. }),
        "{verdict:?}"
    );
}

fn event() -> Event {
    Event {
        delivery: "d".into(),
        received_at: Timestamp(1),
        instance: "main".into(),
        instance_url: "https://gitlab.example.com".to_owned(),
        tenant: "acme".into(),
        scope: Scope::Project(Project {
            id: ProjectId(7),
            path: "acme/api".into(),
            default_branch: None,
            web_url: "https://gitlab.example.com/acme/api".to_owned(),
            visibility: "private".to_owned(),
        }),
        actor: None,
        provenance: Provenance::unconfirmed(),
        ref_name: None,
        commit: None,
        kind: EventKind::Other("fuzz".to_owned()),
    }
}
