//! The figure `call`: a plugin call against bare wasmtime.
//!
//! Bare: pooled, epochs on, the same event and the same 8 KB payload lowered, a fresh instance for each call, and nothing else. Ours: the limiter, the meter, the deadline,
//! grants, counters, the decision record in memory, and `admit`. Pairs alternate on one of the guests' threads, so that both see the same machine.
//!
//! `cargo bench --workspace --bench call -- [--pairs N] [--output json]`; with `--write-payload FILE` it only writes the payload down, for who measures beside it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a measurement that can't be made has nothing better to do than to panic"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use penstock_model::admit::{Context, admit};
use penstock_model::effect::EffectKind;
use penstock_model::event::{Commit, Event, EventKind, Push};
use penstock_model::grant::{Grant, Grants};
use penstock_model::id::{CommitId, ProjectId, Timestamp, UserId};
use penstock_model::lane::{Lane, Subject};
use penstock_model::limits::Limits;
use penstock_model::lookup::{Answer, HostFault, Lookup};
use penstock_model::record::Outcome;
use penstock_model::scope::{Actor, Project, Provenance, Scope, Trust};
use penstock_model::tenant::{Place, PlacePolicy, When};
use penstock_sandbox::{Asked, BoxFuture, CallInput, Engine, EngineSettings, Plugin, World};

/// Wasmtime and nothing else.
mod bare {
    use std::sync::Arc;
    use std::time::Duration;

    use wasmtime::component::{Component, HasSelf, Linker};
    use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Store};

    use self::bindings::penstock::plugin as wit;

    mod bindings {
        wasmtime::component::bindgen!({
            path: "../../wit",
            world: "penstock:plugin/trigger-plugin",
            imports: { default: async | trappable },
            exports: { default: async },
        });
    }

    pub(crate) struct Host {
        payload: Arc<str>,
    }

    impl wit::types::Host for Host {}
    impl wit::events::Host for Host {}
    type Told<T> = wasmtime::Result<Result<T, wit::types::LookupError>>;

    impl wit::delivery::Host for Host {
        async fn payload(&mut self) -> Told<String> {
            Ok(Ok(self.payload.as_ref().to_owned()))
        }
        async fn at(&mut self, _pointer: String) -> Told<Option<String>> {
            Ok(Ok(None))
        }
        async fn headers(&mut self) -> Told<Vec<(String, String)>> {
            Ok(Ok(Vec::new()))
        }
    }

    pub(crate) struct Bare {
        engine: Engine,
        pre: bindings::TriggerPluginPre<Host>,
        payload: Arc<str>,
        event: wit::events::Event,
    }

    impl Bare {
        pub(crate) fn new(wasm: &[u8], payload: Arc<str>, event: &super::Event) -> Self {
            let mut pool = PoolingAllocationConfig::new();
            pool.total_component_instances(16)
                .total_core_instances(64)
                .total_memories(16)
                .total_tables(64)
                .total_stacks(16)
                .max_memory_size(128 << 20)
                .linear_memory_keep_resident(256 * 1024)
                .table_keep_resident(32 * 1024)
                .async_stack_keep_resident(64 * 1024);
            let mut config = Config::new();
            config
                .concurrency_support(false)
                .epoch_interruption(true)
                .allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
            let engine = Engine::new(&config).unwrap();
            let weak = engine.weak();
            std::thread::spawn(move || {
                while let Some(engine) = weak.upgrade() {
                    engine.increment_epoch();
                    drop(engine);
                    std::thread::sleep(Duration::from_millis(5));
                }
            });
            let component = Component::new(&engine, wasm).unwrap();
            let mut linker = Linker::<Host>::new(&engine);
            wit::types::add_to_linker::<_, HasSelf<Host>>(&mut linker, |host| host).unwrap();
            wit::events::add_to_linker::<_, HasSelf<Host>>(&mut linker, |host| host).unwrap();
            wit::delivery::add_to_linker::<_, HasSelf<Host>>(&mut linker, |host| host).unwrap();
            let pre = linker.instantiate_pre(&component).unwrap();
            Self {
                engine,
                pre: bindings::TriggerPluginPre::new(pre).unwrap(),
                payload,
                event: lower(event),
            }
        }

        pub(crate) async fn call(&self) -> usize {
            let host = Host {
                payload: Arc::clone(&self.payload),
            };
            let mut store = Store::new(&self.engine, host);
            store.set_epoch_deadline(1);
            store.epoch_deadline_async_yield_and_update(1);
            let plugin = self.pre.instantiate_async(&mut store).await.unwrap();
            let plan = plugin
                .penstock_plugin_trigger()
                .call_decide(&mut store, &self.event)
                .await
                .unwrap()
                .unwrap();
            plan.effects.len()
        }
    }

    /// The push that is measured, and no other event.
    fn lower(event: &super::Event) -> wit::events::Event {
        let super::EventKind::Push(push) = &event.kind else {
            panic!("a push is measured");
        };
        let super::Scope::Project(project) = &event.scope else {
            panic!("a project is measured");
        };
        let actor = event.actor.as_ref().unwrap();
        wit::events::Event {
            delivery: event.delivery.to_string(),
            received_at: event.received_at.0,
            instance: event.instance.to_string(),
            instance_url: event.instance_url.clone(),
            tenant: event.tenant.to_string(),
            scope: wit::types::Scope::Project(wit::types::Project {
                id: project.id.0,
                path: project.path.to_string(),
                default_branch: project.default_branch.clone(),
                web_url: project.web_url.clone(),
                visibility: project.visibility.clone(),
            }),
            actor: Some(wit::types::Actor {
                id: actor.id.0,
                username: actor.username.clone(),
                bot: actor.bot,
                host: actor.host,
                access: actor.access,
            }),
            provenance: wit::types::Provenance {
                trust: wit::types::Trust::Protected,
                ref_protected: true,
                source_project: None,
                confirmed: true,
            },
            ref_name: event.ref_name.as_ref().map(ToString::to_string),
            commit: event.commit.as_ref().map(ToString::to_string),
            kind: wit::events::EventKind::Push(wit::events::Push {
                ref_name: push.ref_name.to_string(),
                before: None,
                after: push.after.as_ref().map(ToString::to_string),
                commits: push
                    .commits
                    .iter()
                    .map(|commit| wit::events::Commit {
                        id: commit.id.to_string(),
                        title: commit.title.clone(),
                        message: commit.message.clone(),
                        author_name: commit.author_name.clone(),
                        author_email: commit.author_email.clone(),
                        added: commit.added.clone(),
                        modified: commit.modified.clone(),
                        removed: commit.removed.clone(),
                    })
                    .collect(),
                total_commits: push.total_commits,
            }),
            extras: Vec::new(),
        }
    }
}

/// A world that knows the payload and nothing else.
struct Null {
    payload: Arc<str>,
}

impl World for Null {
    fn ask(&self, lookup: Lookup) -> BoxFuture<'_, Asked> {
        Box::pin(std::future::ready(match lookup {
            Lookup::Payload => Ok(Ok(Answer::Text(self.payload.as_ref().to_owned()))),
            other => Err(HostFault {
                what: format!("{other:?} is not measured"),
                retry_after: None,
            }),
        }))
    }
}

fn commits() -> Vec<Commit> {
    (0..4)
        .map(|n| Commit {
            id: CommitId::parse(&format!("{n:040x}")).unwrap(),
            title: format!("Mend number {n}"),
            message: format!(
                "Mend number {n}\n\n{}",
                "It was broken in a way. ".repeat(12)
            ),
            author_name: "Ada Lovelace".into(),
            author_email: "ada@example.com".into(),
            added: vec![format!("src/new/module_{n}.rs")],
            modified: (0..12)
                .map(|f| format!("src/some/folder/file_{n}_{f}.rs"))
                .collect(),
            removed: vec![],
        })
        .collect()
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
        actor: Some(Actor {
            id: UserId(3),
            username: "ada".into(),
            bot: false,
            host: false,
            access: Some(40),
        }),
        provenance: Provenance {
            trust: Trust::Protected,
            ref_protected: true,
            source_project: None,
            confirmed: true,
        },
        ref_name: Some("refs/heads/main".into()),
        commit: Some(commit.clone()),
        kind: EventKind::Push(Push {
            ref_name: "refs/heads/main".into(),
            before: None,
            after: Some(commit),
            commits: commits(),
            total_commits: 4,
        }),
    }
}

/// A push as GitLab sends it, of about 8 KB.
fn payload() -> String {
    let commits: Vec<_> = commits()
        .iter()
        .map(|commit| {
            serde_json::json!({
                "id": commit.id, "title": commit.title, "message": commit.message,
                "timestamp": "2026-01-01T00:00:00+00:00",
                "url": format!("https://gitlab.example.com/acme/payments/api/-/commit/{}", commit.id),
                "author": {"name": commit.author_name, "email": commit.author_email},
                "added": commit.added, "modified": commit.modified, "removed": commit.removed,
            })
        })
        .collect();
    let mut payload = serde_json::json!({
        "object_kind": "push", "event_name": "push",
        "before": "0".repeat(40), "after": "a".repeat(40), "ref": "refs/heads/main", "ref_protected": true,
        "checkout_sha": "a".repeat(40), "message": null,
        "user_id": 3, "user_name": "Ada Lovelace", "user_username": "ada", "user_email": "",
        "user_avatar": "https://gitlab.example.com/uploads/-/system/user/avatar/3/avatar.png",
        "project_id": 7,
        "project": {
            "id": 7, "name": "api", "description": "Payments", "web_url": "https://gitlab.example.com/acme/payments/api",
            "git_ssh_url": "git@gitlab.example.com:acme/payments/api.git",
            "git_http_url": "https://gitlab.example.com/acme/payments/api.git",
            "namespace": "payments", "visibility_level": 0, "path_with_namespace": "acme/payments/api",
            "default_branch": "main", "ci_config_path": ".gitlab-ci.yml",
        },
        "commits": commits, "total_commits_count": 4,
        "repository": {"name": "api", "homepage": "https://gitlab.example.com/acme/payments/api"},
    });
    let short = payload.to_string().len();
    payload["push_options"] =
        serde_json::json!({"note": "x".repeat(8192_usize.saturating_sub(short + 30))});
    payload.to_string()
}

fn guest() -> Vec<u8> {
    let folder = std::env::var_os("PENSTOCK_GUESTS").map_or_else(
        || {
            std::env::var_os("PENSTOCK_CACHE")
                .map_or_else(
                    || {
                        std::path::PathBuf::from(std::env::var_os("HOME").unwrap())
                            .join(".cache/penstock")
                    },
                    Into::into,
                )
                .join("guests")
        },
        std::path::PathBuf::from,
    );
    std::fs::read(folder.join("bench.wasm"))
        .expect("the guest bench.wasm is there: run `cargo xtask guests`")
}

fn grants() -> Grants {
    Grants {
        base: Grant {
            delivery: true,
            effects: [EffectKind::StartRun].into(),
            ..Grant::default()
        },
        from_fork: Grant::default(),
    }
}

struct Ours {
    plugin: Plugin,
    world: Arc<Null>,
    event: Event,
    grant: Arc<Grant>,
    grants: Grants,
    lane: Lane,
    places: Vec<Place>,
}

impl Ours {
    fn input(&self) -> CallInput {
        CallInput {
            event: self.event.clone(),
            settings: "{}".to_owned(),
            seed: [7; 32],
            time: Timestamp(1_700_000_001_000),
            grant: Arc::clone(&self.grant),
        }
    }

    async fn call(&self, input: CallInput) -> (Duration, Duration) {
        let began = Instant::now();
        let record = self.plugin.decide(input, self.world.clone()).await.unwrap();
        let decided = began.elapsed();
        let Outcome::Plan(plan) = &record.outcome else {
            panic!("{:?}", record.outcome);
        };
        let admitted = admit(
            plan,
            Context {
                event: &record.event,
                lane: &self.lane,
                route: &"r".into(),
                attempt: 1,
                plugin: self.plugin.name(),
                digest: record.digest,
                grants: &self.grants,
                places: &self.places,
                head: None,
                past: false,
                delivery_url: None,
                heads: &[],
            },
        );
        assert_eq!(admitted.orders.len(), 1, "{:?}", admitted.refused);
        (decided, began.elapsed())
    }
}

fn median(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1e6
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let after = |flag: &str| {
        args.iter()
            .position(|arg| arg == flag)
            .and_then(|at| args.get(at + 1))
    };
    if let Some(file) = after("--write-payload") {
        std::fs::write(file, payload()).expect("a file for the payload");
        return;
    }
    let pairs: usize = after("--pairs").map_or(10_000, |n| n.parse().expect("a number of pairs"));
    let json = after("--output").is_some_and(|format| format == "json");

    let engine = Engine::new(EngineSettings::default()).unwrap();
    let wasm = guest();
    let plugin = engine
        .load("bench".into(), &wasm, Limits::default(), grants())
        .unwrap();
    let payload: Arc<str> = payload().into();
    let event = event();
    let bare = bare::Bare::new(&wasm, Arc::clone(&payload), &event);
    let ours = Arc::new(Ours {
        plugin,
        world: Arc::new(Null {
            payload: Arc::clone(&payload),
        }),
        grant: Arc::new(grants().base),
        grants: grants(),
        lane: Lane {
            instance: "main".into(),
            project: Some(ProjectId(7)),
            subject: Subject::Ref("refs/heads/main".into()),
        },
        places: vec![Place {
            name: "ci".into(),
            cluster: "prod".into(),
            namespace: "ci-payments".into(),
            creator: "penstock".into(),
            run_as: "ci".into(),
            when: When::Member,
            policy: PlacePolicy::default(),
        }],
        event,
    });

    let on_thread = Arc::clone(&ours);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut times = runtime
        .block_on(engine.threads().spawn(async move {
            let mut times = [Vec::new(), Vec::new(), Vec::new()];
            for n in 0..pairs + 500 {
                let began = Instant::now();
                std::hint::black_box(bare.call().await);
                let took = began.elapsed();
                let input = on_thread.input();
                let (decided, admitted) = on_thread.call(input).await;
                if n >= 500 {
                    times[0].push(took);
                    times[1].push(decided);
                    times[2].push(admitted);
                }
            }
            times
        }))
        .unwrap();
    // From another runtime, as the server calls: two changes of thread more.
    let mut across: Vec<Duration> = runtime.block_on(async {
        let mut across = Vec::new();
        for _ in 0..(pairs / 10).max(1) {
            let input = ours.input();
            across.push(ours.call(input).await.1);
        }
        across
    });

    let [bare, decided, admitted] = &mut times;
    let (bare, decided, admitted) = (median(bare), median(decided), median(admitted));
    let across = median(&mut across);
    let ratio = admitted / bare;
    if json {
        let figure = |name: &str, value: f64, unit: &str, goal: Option<&str>, met: Option<bool>| serde_json::json!({"name": name, "value": value, "unit": unit, "goal": goal, "met": met});
        let figures = serde_json::json!({
            "figures": [
                figure("call", ratio, "ratio", Some("<= 1.25"), Some(ratio <= 1.25)),
                figure("call: bare wasmtime, median", bare, "us", None, None),
                figure("call: ours without admit, median", decided, "us", None, None),
                figure("call: ours, median", admitted, "us", None, None),
                figure("call: ours from another runtime, median", across, "us", None, None),
            ],
            "command": "cargo xtask measure call",
            "machine": format!("{} cores, {}", std::thread::available_parallelism().map_or(0, usize::from), std::env::consts::ARCH),
        });
        println!("{figures}");
    } else {
        println!(
            "{pairs} alternating pairs, payload of {} bytes, pooled: {}",
            payload.len(),
            engine.is_pooling()
        );
        println!("bare wasmtime               {bare:8.1} us");
        println!(
            "ours without admit          {decided:8.1} us   {:.2}",
            decided / bare
        );
        println!("ours                        {admitted:8.1} us   {ratio:.2}   goal <= 1.25");
        println!("ours from another runtime   {across:8.1} us");
    }
}
