//! What the tests share: an engine, guests, an event, and a world that answers what it is told to.

use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Mutex};

use penstock_model::event::{Commit, Event, EventKind, MergeRequest, MergeRequestEvent, Push};
use penstock_model::grant::{ClusterRead, GitlabRead, Grant, Grants};
use penstock_model::id::{CommitId, ProjectId, Timestamp, UserId};
use penstock_model::limits::Limits;
use penstock_model::lookup::{Answer, HostFault, Lookup, LookupError};
use penstock_model::record::{DecisionRecord, Failure, Outcome};
use penstock_model::scope::{Actor, Project, Provenance, Scope, Trust};
use penstock_sandbox::{
    Asked, BoxFuture, CacheKey, CacheSettings, CallInput, Engine, EngineSettings, LoadError,
    Plugin, World,
};

/// One engine for most tests: a pool reserves much address space.
pub(crate) fn engine() -> &'static Engine {
    static ENGINE: LazyLock<Engine> = LazyLock::new(|| Engine::new(settings()).expect("an engine"));
    &ENGINE
}

/// The usual settings, and compiled code kept beside the guests: a component with a language's runtime in it takes many seconds to compile.
pub(crate) fn settings() -> EngineSettings {
    EngineSettings {
        cache: Some(CacheSettings {
            dir: folder().join("compiled"),
            key: CacheKey::new([9; 32]),
        }),
        ..EngineSettings::default()
    }
}

/// Where `cargo xtask guests` puts them.
fn folder() -> PathBuf {
    std::env::var_os("PENSTOCK_GUESTS").map_or_else(
        || {
            std::env::var_os("PENSTOCK_CACHE")
                .map(PathBuf::from)
                .unwrap_or_else(|| {
                    PathBuf::from(std::env::var_os("HOME").expect("HOME is set"))
                        .join(".cache/penstock")
                })
                .join("guests")
        },
        PathBuf::from,
    )
}

/// A guest that `cargo xtask guests` built.
pub(crate) fn guest(name: &str) -> Vec<u8> {
    let path = folder().join(format!("{name}.wasm"));
    std::fs::read(&path).unwrap_or_else(|error| {
        panic!(
            "the guest {} is missing ({error}): run `cargo xtask guests`",
            path.display()
        )
    })
}

/// Names of all that were built.
pub(crate) fn guests() -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder())
        .expect("run `cargo xtask guests`")
        .filter_map(|entry| entry.unwrap().file_name().into_string().ok())
        .filter_map(|name| name.strip_suffix(".wasm").map(str::to_owned))
        .collect();
    names.sort();
    names
}

/// Everything that `misbehave` imports.
pub(crate) fn grants() -> Grants {
    Grants {
        base: Grant {
            gitlab_read: [
                GitlabRead::Files,
                GitlabRead::Commits,
                GitlabRead::MergeRequests,
                GitlabRead::Members,
            ]
            .into(),
            cluster_read: [ClusterRead::Places, ClusterRead::Runs].into(),
            delivery: true,
            history: true,
            state: true,
            fetch: ["example.com".to_owned()].into(),
            ..Grant::default()
        },
        from_fork: Grant::default(),
    }
}

/// Loads `misbehave` with these limits.
pub(crate) fn misbehave(limits: Limits) -> Plugin {
    load(engine(), "misbehave", limits)
}

/// Loads a built guest.
pub(crate) fn load(engine: &Engine, name: &str, limits: Limits) -> Plugin {
    engine
        .load(name.into(), &guest(name), limits, grants())
        .unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Loads a guest with a language's runtime in it, once for all tests: as long as it is there, another load of it shares its code.
pub(crate) fn hold(name: &str) {
    static HELD: Mutex<Vec<Plugin>> = Mutex::new(Vec::new());
    let mut held = HELD.lock().unwrap();
    if held.iter().all(|it| it.name().as_str() != name) {
        let limits = Limits {
            memory: 128 << 20,
            ..Limits::default()
        };
        held.push(load(engine(), name, limits));
    }
}

/// Loads bytes with every grant.
pub(crate) fn load_bytes(wasm: &[u8], limits: Limits) -> Result<Plugin, LoadError> {
    engine().load("written".into(), wasm, limits, grants())
}

/// A push to `main`.
pub(crate) fn event() -> Event {
    let commit = CommitId::parse(&"a".repeat(40)).unwrap();
    Event {
        delivery: "d-1".into(),
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
            after: Some(commit.clone()),
            commits: vec![Commit {
                id: commit,
                title: "Mend it".into(),
                message: "Mend it\n\nIt was broken.".into(),
                author_name: "Ada".into(),
                author_email: "ada@example.com".into(),
                added: vec![],
                modified: vec!["src/lib.rs".into()],
                removed: vec![],
            }],
            total_commits: 1,
        }),
    }
}

/// A merge request that was opened.
pub(crate) fn opened() -> EventKind {
    EventKind::MergeRequest(MergeRequestEvent {
        merge_request: MergeRequest {
            iid: 12,
            title: "Mend it".into(),
            state: "opened".into(),
            draft: false,
            source_project: Some(ProjectId(7)),
            source_branch: "topic".into(),
            target_branch: "main".into(),
            head: CommitId::parse(&"a".repeat(40)).unwrap(),
            author: UserId(3),
            labels: vec!["bug".into()],
            web_url: "https://gitlab.example.com/acme/payments/api/-/merge_requests/12".into(),
        },
        action: "open".into(),
        old_head: None,
        changed: vec![],
        system: false,
    })
}

/// The input of a call with these settings.
pub(crate) fn input(settings: &str) -> CallInput {
    CallInput {
        event: event(),
        settings: settings.to_owned(),
        seed: [7; 32],
        time: Timestamp(1_700_000_001_000),
        grant: Arc::new(grants().base),
    }
}

/// A world that answers what a function says, and remembers what it was asked.
pub(crate) struct Told<F> {
    answer: F,
    asked: Mutex<Vec<Lookup>>,
}

impl<F: Fn(&Lookup) -> Asked + Send + Sync> Told<F> {
    pub(crate) fn new(answer: F) -> Arc<Self> {
        Arc::new(Self {
            answer,
            asked: Mutex::default(),
        })
    }

    pub(crate) fn asked(&self) -> Vec<Lookup> {
        self.asked.lock().unwrap().clone()
    }
}

impl<F: Fn(&Lookup) -> Asked + Send + Sync> World for Told<F> {
    fn ask(&self, lookup: Lookup) -> BoxFuture<'_, Asked> {
        let answer = (self.answer)(&lookup);
        self.asked.lock().unwrap().push(lookup);
        Box::pin(std::future::ready(answer))
    }
}

/// The world's usual answers.
pub(crate) fn usual(lookup: &Lookup) -> Asked {
    let answer = match lookup {
        Lookup::Payload => Answer::Text(r#"{"object_kind":"push"}"#.to_owned()),
        Lookup::PayloadAt(_) => Answer::Part(Some("\"push\"".to_owned())),
        Lookup::Headers => Answer::Headers(vec![("x-gitlab-event".into(), "Push Hook".into())]),
        Lookup::Access(_) | Lookup::GroupAccess { .. } => Answer::Access(40),
        Lookup::Places => Answer::Places(vec![]),
        Lookup::StateGet(_) => Answer::State(None),
        Lookup::StateKeys { .. } => Answer::Keys(vec![]),
        _ => return Ok(Err(LookupError::NotFound)),
    };
    Ok(Ok(answer))
}

/// A world that never answers.
pub(crate) struct Silent;

impl World for Silent {
    fn ask(&self, _lookup: Lookup) -> BoxFuture<'_, Asked> {
        Box::pin(std::future::pending())
    }
}

/// What `misbehave` does with these settings in the usual world.
pub(crate) async fn decide(limits: Limits, settings: &str) -> DecisionRecord {
    misbehave(limits)
        .decide(input(settings), Told::new(usual))
        .await
        .unwrap_or_else(|fault| panic!("{settings}: {fault}"))
}

/// The failure of a record.
pub(crate) fn failure(record: &DecisionRecord) -> &Failure {
    match &record.outcome {
        Outcome::Failure(failure) => failure,
        other => panic!("no failure: {other:?}"),
    }
}

/// The reasons of a plan.
pub(crate) fn reasons(record: &DecisionRecord) -> &[String] {
    match &record.outcome {
        Outcome::Plan(plan) => &plan.reasons,
        other => panic!("no plan: {other:?}\n{:?}", record.log),
    }
}

/// A fault of the host.
pub(crate) fn fault(what: &str) -> HostFault {
    HostFault {
        what: what.to_owned(),
        retry_after: Some(1500),
    }
}
