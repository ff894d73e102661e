//! Events and a host that answers them.

use std::cell::RefCell;
use std::collections::BTreeMap;

use penstock_sdk::events::{
    Commit, MergeRequest, MergeRequestEvent, Note, NoteTarget, Push, Run, RunFinished, RunState,
    Sweep, TagPush,
};
use penstock_sdk::types::{Actor, Project, Provenance, Scope, Trust};
use penstock_sdk::{Event, EventKind, PluginError, Problem};
use penstock_trigger_map::{Changes, World};
use serde_json::json;

pub(crate) const COMMIT: &str = "1111111111111111111111111111111111111111";

/// A host that answers from memory and writes down what it was asked.
pub(crate) struct Asked {
    pub(crate) files: BTreeMap<String, String>,
    pub(crate) changes: Result<Changes, String>,
    pub(crate) log: RefCell<Vec<String>>,
    /// Why it gives neither the payload nor the headers.
    pub(crate) withheld: Option<String>,
}

impl Default for Asked {
    fn default() -> Self {
        let changes = Changes {
            modified: vec!["docs/index.md".to_owned()],
            ..Changes::default()
        };
        Self {
            files: BTreeMap::new(),
            changes: Ok(changes),
            log: RefCell::default(),
            withheld: None,
        }
    }
}

impl Asked {
    pub(crate) fn with_file(path: &str, text: &str) -> Self {
        let files = BTreeMap::from([(path.to_owned(), text.to_owned())]);
        Self {
            files,
            ..Self::default()
        }
    }
}

impl World for Asked {
    fn payload(&self) -> Result<String, String> {
        self.log.borrow_mut().push("payload".to_owned());
        if let Some(why) = &self.withheld {
            return Err(why.clone());
        }
        Ok(json!({
            "object_kind": "push",
            "ref": "refs/heads/main",
            "user_username": "ada",
            "labels": "{\"team\": \"core\"}",
            "commits": [{ "id": COMMIT, "added": ["src/lib.rs"] }],
        })
        .to_string())
    }

    fn headers(&self) -> Result<Vec<(String, String)>, String> {
        self.log.borrow_mut().push("headers".to_owned());
        if let Some(why) = &self.withheld {
            return Err(why.clone());
        }
        Ok(vec![("X-Gitlab-Event".to_owned(), "Push Hook".to_owned())])
    }

    fn changes(&self) -> Result<Changes, String> {
        self.log.borrow_mut().push("changes".to_owned());
        self.changes.clone()
    }

    fn file(&self, path: &str) -> Result<String, PluginError> {
        self.log.borrow_mut().push(format!("file {path}"));
        self.files
            .get(path)
            .cloned()
            .ok_or_else(|| PluginError::source(Problem::new(path, "there is no such file")))
    }
}

fn event(ref_name: &str, kind: EventKind) -> Event {
    Event {
        delivery: "delivery-1".to_owned(),
        received_at: 1_800_000_000_000,
        instance: "main".to_owned(),
        instance_url: "https://gitlab.example.com".to_owned(),
        tenant: "acme".to_owned(),
        scope: Scope::Project(Project {
            id: 7,
            path: "acme/payments/api".to_owned(),
            default_branch: Some("main".to_owned()),
            web_url: "https://gitlab.example.com/acme/payments/api".to_owned(),
            visibility: "private".to_owned(),
        }),
        actor: Some(Actor {
            id: 42,
            username: "ada".to_owned(),
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

/// A push of one commit to a branch.
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

/// A new tag.
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

fn merge_request_record() -> MergeRequest {
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
        web_url: "https://gitlab.example.com/acme/payments/api/-/merge_requests/5".to_owned(),
    }
}

/// A merge request on which something was done.
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

/// A comment on a merge request.
pub(crate) fn note(text: &str, created: bool) -> Event {
    let kind = EventKind::Note(Note {
        id: 9,
        text: text.to_owned(),
        target: NoteTarget::MergeRequest(merge_request_record()),
        created,
        system: false,
    });
    event("refs/heads/rounding", kind)
}

/// A head that no delivery told of.
pub(crate) fn sweep(branch: &str) -> Event {
    let ref_name = format!("refs/heads/{branch}");
    let kind = EventKind::Sweep(Sweep {
        ref_name: ref_name.clone(),
        merge_request: None,
        last_decided: None,
        found: Some(COMMIT.to_owned()),
    });
    event(&ref_name, kind)
}

/// The end of a run that failed.
pub(crate) fn run_finished() -> EventKind {
    EventKind::RunFinished(RunFinished {
        run: Run {
            id: "run-1".to_owned(),
            plugin: "trigger-map".to_owned(),
            key: "run/build".to_owned(),
            pipeline: "build".to_owned(),
            place: "ci".to_owned(),
            ref_name: None,
            merge_request: None,
            commit: COMMIT.to_owned(),
            state: RunState::Failed,
            reason: "a task failed".to_owned(),
            web_url: None,
            created_at: 0,
            started_at: None,
            finished_at: None,
            results: Vec::new(),
        },
        depth: 1,
        failed_task: Some("test".to_owned()),
    })
}
