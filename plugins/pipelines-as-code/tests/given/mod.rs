//! A host that answers from what a test gives it, and events of every kind.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::cell::RefCell;
use std::collections::BTreeMap;

use penstock_pipelines_as_code::{
    Changes, Elsewhere, File, Place, RunFilter, Settings, Source, World, decide,
};
use penstock_sdk::events::{
    Commit, EventKind, MergeRequest, MergeRequestEvent, Note, NoteTarget, Push, Request, Run,
    RunFinished, RunState, Sweep, TagPush,
};
use penstock_sdk::types::Project;
use penstock_sdk::{
    Action, Actor, Comment, Effect, Event, LookupError, Plan, PluginError, Provenance, Scope,
    StartRun, Trust,
};
use serde_json::{Value, json};

pub(crate) const COMMIT: &str = "1111111111111111111111111111111111111111";
pub(crate) const OTHER_COMMIT: &str = "2222222222222222222222222222222222222222";

/// Files of the project at the event's commit, at its default branch, and elsewhere.
#[derive(Clone)]
pub(crate) struct Given {
    pub(crate) files: BTreeMap<String, String>,
    /// Where they differ from those of the event's commit.
    pub(crate) default_branch: Option<BTreeMap<String, String>>,
    pub(crate) target_branch: Option<BTreeMap<String, String>>,
    /// `project@revision:path`.
    pub(crate) elsewhere: BTreeMap<String, String>,
    pub(crate) web: BTreeMap<String, String>,
    pub(crate) changes: Changes,
    pub(crate) payload: Value,
    pub(crate) message: String,
    pub(crate) open: Vec<MergeRequest>,
    pub(crate) places: Vec<Place>,
    pub(crate) runs: Vec<Run>,
    pub(crate) groups: BTreeMap<String, u32>,
    pub(crate) refs: BTreeMap<String, String>,
    pub(crate) state: RefCell<BTreeMap<String, Vec<u8>>>,
    pub(crate) asked: RefCell<Vec<String>>,
}

pub(crate) fn place(name: &str, namespace: &str, allowed: bool) -> Place {
    Place {
        name: name.to_owned(),
        cluster: "prod".to_owned(),
        namespace: namespace.to_owned(),
        allowed,
    }
}

impl Default for Given {
    fn default() -> Self {
        Self {
            files: BTreeMap::new(),
            default_branch: None,
            target_branch: None,
            elsewhere: BTreeMap::new(),
            web: BTreeMap::new(),
            changes: Changes {
                added: Vec::new(),
                modified: Vec::new(),
                deleted: Vec::new(),
                renamed: Vec::new(),
                truncated: false,
            },
            payload: json!({ "object_kind": "push" }),
            message: "fix: rounding\n\nmore".to_owned(),
            open: Vec::new(),
            places: vec![place("ci", "ci-payments", true)],
            runs: Vec::new(),
            groups: BTreeMap::new(),
            refs: [("refs/heads/main".to_owned(), COMMIT.to_owned())].into(),
            state: RefCell::default(),
            asked: RefCell::default(),
        }
    }
}

impl Given {
    /// A project with these files in `.tekton`.
    pub(crate) fn folder(files: &[(&str, &str)]) -> Self {
        let mut given = Self::default();
        for (name, text) in files {
            given
                .files
                .insert(format!(".tekton/{name}"), (*text).to_owned());
        }
        given
    }

    /// A project with one PipelineRun of this name and these annotations.
    pub(crate) fn run(name: &str, annotations: &[(&str, &str)]) -> Self {
        Self::folder(&[("run.yaml", &run_yaml(name, annotations))])
    }

    pub(crate) fn with(mut self, name: &str, annotations: &[(&str, &str)]) -> Self {
        self.files
            .insert(format!(".tekton/{name}.yaml"), run_yaml(name, annotations));
        self
    }

    pub(crate) fn file(mut self, path: &str, text: &str) -> Self {
        self.files.insert(path.to_owned(), text.to_owned());
        self
    }

    pub(crate) fn decide(&self, settings: Value, event: &Event) -> Plan {
        self.try_decide(settings, event).expect("a plan")
    }

    pub(crate) fn try_decide(&self, settings: Value, event: &Event) -> Result<Plan, PluginError> {
        let settings = Settings::parse(&settings.to_string()).expect("good settings");
        decide(&settings, event, self)
    }

    pub(crate) fn times(&self, question: &str) -> usize {
        self.asked
            .borrow()
            .iter()
            .filter(|it| it.starts_with(question))
            .count()
    }

    fn log(&self, question: impl Into<String>) {
        self.asked.borrow_mut().push(question.into());
    }

    fn at(&self, source: &Source) -> BTreeMap<String, String> {
        match source {
            Source::DefaultBranch => self.default_branch.as_ref().unwrap_or(&self.files).clone(),
            Source::TargetBranch => self.target_branch.as_ref().unwrap_or(&self.files).clone(),
            Source::Elsewhere(Elsewhere { project, revision }) => {
                let prefix = format!("{project}@{revision}:");
                let of = |(key, text): (&String, &String)| {
                    Some((key.strip_prefix(&prefix)?.to_owned(), text.clone()))
                };
                self.elsewhere.iter().filter_map(of).collect()
            }
            Source::Event | Source::Commit(_) | Source::Ref(_) => self.files.clone(),
        }
    }
}

pub(crate) fn run_yaml(name: &str, annotations: &[(&str, &str)]) -> String {
    let annotations: BTreeMap<String, &str> = annotations
        .iter()
        .map(|(key, value)| (format!("pipelinesascode.tekton.dev/{key}"), *value))
        .collect();
    json!({
        "apiVersion": "tekton.dev/v1", "kind": "PipelineRun",
        "metadata": { "name": name, "annotations": annotations },
        "spec": { "pipelineSpec": { "tasks": [{ "name": "t", "taskSpec": { "steps": [{ "image": "alpine" }] } }] } },
    })
    .to_string()
}

fn file(path: &str, text: &str) -> File {
    File {
        path: path.to_owned(),
        blob: format!("blob-{path}"),
        content: text.as_bytes().to_vec(),
    }
}

impl World for Given {
    fn payload(&self) -> Result<String, LookupError> {
        self.log("payload");
        Ok(self.payload.to_string())
    }

    fn part(&self, pointer: &str) -> Result<Option<String>, LookupError> {
        self.log(format!("part {pointer}"));
        Ok(self.payload.pointer(pointer).map(Value::to_string))
    }

    fn headers(&self) -> Result<Vec<(String, String)>, LookupError> {
        self.log("headers");
        Ok(vec![("X-Gitlab-Event".to_owned(), "Push Hook".to_owned())])
    }

    fn folder(&self, source: &Source, path: &str) -> Result<Vec<File>, LookupError> {
        self.log(format!("folder {path}"));
        let prefix = format!("{path}/");
        let files: Vec<File> = self
            .at(source)
            .iter()
            .filter(|(name, _)| name.starts_with(&prefix))
            .map(|(name, text)| file(name, text))
            .collect();
        if files.is_empty() {
            Err(LookupError::NotFound)
        } else {
            Ok(files)
        }
    }

    fn files(
        &self,
        source: &Source,
        paths: &[String],
    ) -> Result<Vec<Result<File, LookupError>>, LookupError> {
        self.log(format!("files {source:?} {}", paths.join(" ")));
        let files = self.at(source);
        let read = |path: &String| {
            files
                .get(path)
                .map(|it| file(path, it))
                .ok_or(LookupError::NotFound)
        };
        Ok(paths.iter().map(read).collect())
    }

    fn resolve(&self, source: &Source) -> Result<String, LookupError> {
        self.log(format!("resolve {source:?}"));
        match source {
            Source::Ref(name) => self.refs.get(name).cloned().ok_or(LookupError::NotFound),
            _ => Ok(COMMIT.to_owned()),
        }
    }

    fn message(&self, commit: &str) -> Result<String, LookupError> {
        self.log(format!("message {commit}"));
        Ok(self.message.clone())
    }

    fn changes(&self) -> Result<Changes, LookupError> {
        self.log("changes");
        Ok(self.changes.clone())
    }

    fn open_merge_requests(&self, branch: &str) -> Result<Vec<MergeRequest>, LookupError> {
        self.log(format!("open {branch}"));
        Ok(self
            .open
            .iter()
            .filter(|it| it.source_branch == branch)
            .cloned()
            .collect())
    }

    fn group_access(&self, user: u64, group: &str) -> Result<u32, LookupError> {
        self.log(format!("group {user} {group}"));
        self.groups.get(group).copied().ok_or(LookupError::NotFound)
    }

    fn places(&self) -> Result<Vec<Place>, LookupError> {
        self.log("places");
        Ok(self.places.clone())
    }

    fn runs(&self, filter: &RunFilter, _limit: u32) -> Result<Vec<Run>, LookupError> {
        self.log("runs");
        let fits = |run: &&Run| {
            filter.commit.as_ref().is_none_or(|it| *it == run.commit)
                && (filter.merge_request.is_none() || filter.merge_request == run.merge_request)
        };
        Ok(self.runs.iter().filter(fits).cloned().collect())
    }

    fn fetch(&self, url: &str) -> Result<Vec<u8>, LookupError> {
        self.log(format!("fetch {url}"));
        let found = self.web.get(url).map(|it| it.as_bytes().to_vec());
        found.ok_or_else(|| LookupError::Denied("no grant for this host".to_owned()))
    }

    fn recall(&self, key: &str) -> Result<Option<Vec<u8>>, LookupError> {
        Ok(self.state.borrow().get(key).cloned())
    }

    fn keep(&self, key: &str, value: Vec<u8>, _days: u32) -> Result<(), LookupError> {
        self.state.borrow_mut().insert(key.to_owned(), value);
        Ok(())
    }
}

pub(crate) fn project() -> Project {
    Project {
        id: 7,
        path: "acme/Payments/api".to_owned(),
        default_branch: Some("main".to_owned()),
        web_url: "https://gitlab.example.com/acme/Payments/api".to_owned(),
        visibility: "private".to_owned(),
    }
}

pub(crate) fn event(ref_name: &str, kind: EventKind) -> Event {
    Event {
        delivery: "delivery-1".to_owned(),
        received_at: 1_800_000_000_000,
        instance: "main".to_owned(),
        instance_url: "https://gitlab.example.com".to_owned(),
        tenant: "acme".to_owned(),
        scope: Scope::Project(project()),
        actor: Some(Actor {
            id: 42,
            username: "Ada".to_owned(),
            bot: false,
            host: false,
            access: Some(30),
        }),
        provenance: Provenance {
            trust: Trust::Member,
            ref_protected: false,
            source_project: None,
            confirmed: true,
        },
        ref_name: Some(ref_name.to_owned()),
        commit: Some(COMMIT.to_owned()),
        kind,
        extras: Vec::new(),
    }
}

pub(crate) fn push(branch: &str) -> Event {
    let ref_name = format!("refs/heads/{branch}");
    let kind = EventKind::Push(Push {
        ref_name: ref_name.clone(),
        before: Some("0".repeat(39) + "1"),
        after: Some(COMMIT.to_owned()),
        commits: vec![Commit {
            id: COMMIT.to_owned(),
            title: "fix: rounding".to_owned(),
            message: "fix: rounding\n".to_owned(),
            author_name: "Ada".to_owned(),
            author_email: "ada@example.com".to_owned(),
            added: vec!["src/lib.rs".to_owned()],
            modified: Vec::new(),
            removed: Vec::new(),
        }],
        total_commits: 1,
    });
    event(&ref_name, kind)
}

/// A branch that was just made: GitLab lists no commits.
pub(crate) fn new_branch(branch: &str) -> Event {
    let mut event = push(branch);
    if let EventKind::Push(push) = &mut event.kind {
        push.before = None;
        push.commits.clear();
        push.total_commits = 0;
    }
    event
}

pub(crate) fn deleted_branch(branch: &str) -> Event {
    let mut event = push(branch);
    event.commit = None;
    if let EventKind::Push(push) = &mut event.kind {
        push.after = None;
        push.commits.clear();
    }
    event
}

pub(crate) fn tag(name: &str) -> Event {
    let ref_name = format!("refs/tags/{name}");
    let kind = EventKind::TagPush(TagPush {
        ref_name: ref_name.clone(),
        before: None,
        after: Some(COMMIT.to_owned()),
        message: None,
    });
    event(&ref_name, kind)
}

pub(crate) fn merge_request_record() -> MergeRequest {
    MergeRequest {
        iid: 5,
        title: "Round half to even".to_owned(),
        state: "opened".to_owned(),
        draft: false,
        source_project: None,
        source_branch: "rounding".to_owned(),
        target_branch: "main".to_owned(),
        head: COMMIT.to_owned(),
        author: 42,
        labels: vec!["ci".to_owned()],
        web_url: "https://gitlab.example.com/acme/Payments/api/-/merge_requests/5".to_owned(),
    }
}

pub(crate) fn merge_request(action: &str) -> Event {
    let kind = EventKind::MergeRequest(MergeRequestEvent {
        merge_request: merge_request_record(),
        action: action.to_owned(),
        old_head: None,
        changed: Vec::new(),
        system: false,
    });
    event("refs/heads/rounding", kind)
}

/// A merge request of which these fields changed.
pub(crate) fn changed(fields: &[&str]) -> Event {
    let mut event = merge_request("update");
    if let EventKind::MergeRequest(it) = &mut event.kind {
        it.changed = fields.iter().map(|it| (*it).to_owned()).collect();
    }
    event
}

/// A push to a merge request.
pub(crate) fn new_head() -> Event {
    let mut event = merge_request("update");
    if let EventKind::MergeRequest(it) = &mut event.kind {
        it.old_head = Some(OTHER_COMMIT.to_owned());
    }
    event
}

pub(crate) fn edit_merge_request(event: &mut Event, edit: impl FnOnce(&mut MergeRequest)) {
    match &mut event.kind {
        EventKind::MergeRequest(it) => edit(&mut it.merge_request),
        EventKind::Note(Note {
            target: NoteTarget::MergeRequest(it),
            ..
        }) => edit(it),
        _ => {}
    }
}

pub(crate) fn note(text: &str) -> Event {
    let kind = EventKind::Note(Note {
        id: 9,
        text: text.to_owned(),
        target: NoteTarget::MergeRequest(merge_request_record()),
        created: true,
        system: false,
    });
    event("refs/heads/rounding", kind)
}

pub(crate) fn edit_note(mut event: Event, edit: impl FnOnce(&mut Note)) -> Event {
    if let EventKind::Note(note) = &mut event.kind {
        edit(note);
    }
    event
}

pub(crate) fn commit_note(text: &str) -> Event {
    let kind = EventKind::Note(Note {
        id: 9,
        text: text.to_owned(),
        target: NoteTarget::Commit(COMMIT.to_owned()),
        created: true,
        system: false,
    });
    let mut event = event("", kind);
    event.ref_name = None;
    event
}

/// As somebody with this access.
pub(crate) fn by(mut event: Event, username: &str, access: u32) -> Event {
    if let Some(actor) = &mut event.actor {
        actor.username = username.to_owned();
        actor.access = Some(access);
    }
    if access < 30 {
        event.provenance.trust = Trust::Untrusted;
    }
    event
}

/// From a fork.
pub(crate) fn fork(mut event: Event) -> Event {
    event.provenance.trust = Trust::Untrusted;
    event.provenance.source_project = Some(Project {
        id: 8,
        path: "eve/api".to_owned(),
        default_branch: Some("main".to_owned()),
        web_url: "https://gitlab.example.com/eve/api".to_owned(),
        visibility: "public".to_owned(),
    });
    edit_merge_request(&mut event, |it| it.source_project = Some(8));
    event
}

pub(crate) fn request(name: Option<&str>, parameters: &[(&str, &str)]) -> Event {
    let kind = EventKind::Request(Request {
        name: name.map(str::to_owned),
        ref_name: "refs/heads/main".to_owned(),
        commit: COMMIT.to_owned(),
        parameters: parameters
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect(),
        source: "incoming".to_owned(),
    });
    event("refs/heads/main", kind)
}

pub(crate) fn sweep(branch: &str, found: bool) -> Event {
    let ref_name = format!("refs/heads/{branch}");
    let kind = EventKind::Sweep(Sweep {
        ref_name: ref_name.clone(),
        merge_request: None,
        last_decided: None,
        found: found.then(|| COMMIT.to_owned()),
    });
    let mut event = event(&ref_name, kind);
    event.actor = None;
    if !found {
        event.commit = None;
    }
    event
}

pub(crate) fn a_run(pipeline: &str, state: RunState) -> Run {
    Run {
        id: format!("id-{pipeline}"),
        plugin: "pipelines-as-code".to_owned(),
        key: format!("run/{pipeline}"),
        pipeline: pipeline.to_owned(),
        place: "ci".to_owned(),
        ref_name: Some("refs/heads/rounding".to_owned()),
        merge_request: Some(5),
        commit: COMMIT.to_owned(),
        state,
        reason: "task `unit` failed".to_owned(),
        web_url: Some(format!("https://tekton.example.com/{pipeline}")),
        created_at: 1_800_000_000_000,
        started_at: Some(1_800_000_001_000),
        finished_at: Some(1_800_000_126_000),
        results: Vec::new(),
    }
}

pub(crate) fn finished(run: Run) -> Event {
    let mut event = event(
        "refs/heads/rounding",
        EventKind::RunFinished(RunFinished {
            run,
            depth: 1,
            failed_task: Some("unit".to_owned()),
        }),
    );
    event.actor = None;
    event
}

pub(crate) fn starts(plan: &Plan) -> Vec<&StartRun> {
    let start = |it: &'_ Effect| matches!(it.action, Action::StartRun(_));
    plan.effects
        .iter()
        .filter(|it| start(it))
        .filter_map(|it| match &it.action {
            Action::StartRun(run) => Some(run),
            _ => None,
        })
        .collect()
}

/// Pipelines that a plan starts.
pub(crate) fn started(plan: &Plan) -> Vec<&str> {
    starts(plan)
        .into_iter()
        .map(|it| it.pipeline.as_str())
        .collect()
}

/// The manifest of the only run.
pub(crate) fn manifest(plan: &Plan) -> Value {
    let runs = starts(plan);
    assert_eq!(runs.len(), 1, "{:#?} {:#?}", plan.reasons, plan.warnings);
    serde_json::from_str(&runs[0].manifest).expect("JSON")
}

/// The comment of a plan: its body, `Some(None)` where it is taken away.
pub(crate) fn comment(plan: &Plan) -> Option<Option<String>> {
    plan.effects.iter().find_map(|it| match &it.action {
        Action::Comment(Comment { body, .. }) => Some(body.clone()),
        _ => None,
    })
}

/// The aggregate status of a plan.
pub(crate) fn status(plan: &Plan) -> Option<(String, String, String)> {
    plan.effects.iter().find_map(|it| match &it.action {
        Action::CommitStatus(it) => {
            Some((it.name.clone(), word(&it.state), it.description.clone()))
        }
        _ => None,
    })
}

/// The cancels of a plan, shown.
pub(crate) fn cancels(plan: &Plan) -> Vec<String> {
    plan.effects
        .iter()
        .filter_map(|it| match &it.action {
            Action::CancelRuns(it) => Some(format!(
                "{} {}",
                word(&it.scope),
                it.pipeline.as_deref().unwrap_or("*")
            )),
            _ => None,
        })
        .collect()
}

/// A case's name without that of its type.
fn word(case: &impl std::fmt::Debug) -> String {
    let text = format!("{case:?}");
    text.split_once("::")
        .map_or(text.clone(), |(_, word)| word.to_owned())
}
