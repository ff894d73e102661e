//! A GitLab: REST v4 on loopback, and the sender of its webhooks.
//!
//! Its rules are those of GitLab's own code where Penstock leans on them: statuses and the pipelines they land in, the
//! lock that ends in 409, pages and their links, the three shapes of errors, hooks that are disabled by failures, logs of
//! hook events and resends, protected refs, members through groups, merge requests from forks.
//!
//! ```
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! use penstock_doubles::gitlab::{Access, GitLab, Hook, ProjectSeed, Push, Token, World};
//!
//! let mut world = World::new();
//! world.user("alice").bot("penstock").group("acme").project(ProjectSeed::new("acme/api"));
//! world.member("acme", "alice", Access::Developer).member("acme", "penstock", Access::Maintainer);
//! world.token(Token::new("glpat-for-the-test", "penstock"));
//! let hook = world.hook(Hook::group("acme", "http://127.0.0.1:9/hooks").token("a secret"));
//!
//! let gitlab = GitLab::start(world).await;
//! let change = gitlab.push(Push::new("acme/api", "feature", "alice").write("a.txt", "a"));
//! let delivery = change.delivery(hook); // made, not sent
//! assert_eq!(delivery.headers["x-gitlab-event"], "Push Hook");
//! let sent = change.send().await; // sent; nobody listens on port 9
//! assert_eq!(sent[0].status, None);
//! # });
//! ```
//!
//! **What it does not do.** No git protocol, no OAuth, of GraphQL nothing but the files of a commit, no anonymous access, no CI (pipelines are said to be),
//! no issues, wikis, labels of their own, quick actions, approval rules, code owners, push rules or merge trains. Ids
//! of commits and trees are not git's. Trees hold plain files alone, diffs have one hunk, and merging never conflicts. Custom roles, shared
//! groups, invited groups and expiring memberships are unknown. Nobody's rights are asked for what the Rust methods do.
//! Rotation of tokens and CI variables are not served.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use jiff::SignedDuration;
use regex::Regex;
use serde_json::{Value, json};

use crate::wire::{self, Server};

mod actions;
mod activity;
mod admin;
mod answer;
mod asked;
mod call;
mod change;
mod code;
mod deeds;
mod deploy_tokens;
mod faults;
mod graphql;
mod hooks;
mod merge_requests;
mod notes;
mod notices;
mod payloads;
mod project;
mod repository;
mod rest;
mod send;
mod serve;
mod show;
mod statuses;
mod tokens;
mod world;

use actions::Acting;
pub use asked::{Proposal, Push};
pub use change::Change;
use faults::Desk;
pub use faults::{Break, Fault, Heard};
pub use hooks::{Hook, Trigger};
use notes::Subject;
pub use project::{Access, Allowed, ProjectSeed, Protected, Visibility};
pub use repository::ZERO;
pub use send::{Delivery, Sent, sign};
pub use tokens::Token;
pub use world::{Limits, World};

type StatusLocks = HashMap<(u64, String), Arc<tokio::sync::Mutex<()>>>;

/// What the server's tasks and the test share.
pub(crate) struct Shared {
    world: Mutex<World>,
    desk: Mutex<Desk>,
    locks: Mutex<StatusLocks>,
    heard: tokio::sync::watch::Sender<u64>,
    client: reqwest::Client,
}

impl Shared {
    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.world
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(crate) fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn locks(&self) -> MutexGuard<'_, StatusLocks> {
        self.locks
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// A running GitLab; it stops when it is dropped.
pub struct GitLab {
    shared: Arc<Shared>,
    server: Server,
}

impl std::fmt::Debug for GitLab {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GitLab")
            .field("url", &self.url())
            .finish_non_exhaustive()
    }
}

impl GitLab {
    /// Starts on a free port.
    ///
    /// # Panics
    /// If loopback has no free port.
    pub async fn start(world: World) -> Self {
        Self::start_on(world, 0)
            .await
            .expect("a free port on loopback")
    }

    /// Starts on this port.
    ///
    /// # Errors
    /// If the port can't be listened on.
    pub async fn start_on(world: World, port: u16) -> std::io::Result<Self> {
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            // Whoever is called closes a connection that is not used for a while: no call may begin on one at that moment.
            .pool_idle_timeout(Duration::from_secs(5))
            .build()
            .map_err(std::io::Error::other)?;
        let shared = Arc::new(Shared {
            world: Mutex::new(world),
            desk: Mutex::default(),
            locks: Mutex::default(),
            heard: tokio::sync::watch::Sender::new(0),
            client,
        });
        let answering = Arc::clone(&shared);
        let server = wire::serve(port, move |received| {
            serve::answer(Arc::clone(&answering), received)
        })
        .await?;
        shared.world().base = format!("http://{}", server.address);
        Ok(Self { shared, server })
    }

    /// The base URL, without a slash at its end.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.server.address)
    }

    /// Looks at or changes the state; the closure must not call back into this `GitLab`.
    pub fn edit<T>(&self, edit: impl FnOnce(&mut World) -> T) -> T {
        edit(&mut self.shared.world())
    }

    /// Puts the clock forward: tokens expire, disabled hooks come back, limits are forgotten.
    pub fn advance(&self, by: Duration) {
        let by = SignedDuration::try_from(by).expect("a time that fits");
        let mut world = self.shared.world();
        world.ahead += by;
    }

    /// Orders a fault; the first that strikes wins.
    pub fn order(&self, fault: Fault) {
        self.shared.desk().faults.push(fault);
    }

    /// Withdraws all faults.
    pub fn heal(&self) {
        self.shared.desk().faults.clear();
    }

    /// Lets every call take this long.
    pub fn latency(&self, latency: Duration) {
        self.shared.desk().latency = latency;
    }

    /// Every call so far, in order of arrival.
    #[must_use]
    pub fn calls(&self) -> Vec<Heard> {
        self.shared.desk().journal.clone()
    }

    /// The calls with this method whose path, as sent, matches this regular expression.
    ///
    /// # Panics
    /// If it is not a regular expression.
    #[must_use]
    pub fn calls_to(&self, method: &str, path: &str) -> Vec<Heard> {
        let path = Regex::new(path).expect("a regular expression");
        let desk = self.shared.desk();
        desk.journal
            .iter()
            .filter(|heard| heard.method == method && path.is_match(&heard.path))
            .cloned()
            .collect()
    }

    /// Waits until `count` calls with this method and path were answered, and gives them.
    ///
    /// # Panics
    /// If that takes longer than `limit`.
    pub async fn wait_for_calls(
        &self,
        method: &str,
        path: &str,
        count: usize,
        limit: Duration,
    ) -> Vec<Heard> {
        let mut heard = self.shared.heard.subscribe();
        let wait = async {
            loop {
                let answered: Vec<Heard> = self
                    .calls_to(method, path)
                    .into_iter()
                    .filter(|heard| heard.status.is_some())
                    .collect();
                if answered.len() >= count {
                    return answered;
                }
                heard.changed().await.expect("the server is there");
            }
        };
        let found = tokio::time::timeout(limit, wait).await;
        found.unwrap_or_else(|_| {
            panic!("{count} calls of {method} {path} did not come within {limit:?}")
        })
    }

    /// Statuses of a commit, newest last, as the REST API shows them, those replaced by newer ones too.
    #[must_use]
    pub fn statuses(&self, project: &str, sha: &str) -> Vec<Value> {
        let world = self.shared.world();
        let rows = world
            .project_named(project)
            .statuses
            .iter()
            .filter(|row| row.sha == sha);
        rows.map(|row| statuses::show(&world, row)).collect()
    }

    /// Notes on a merge request, oldest first.
    #[must_use]
    pub fn notes(&self, project: &str, iid: u64) -> Vec<Value> {
        let world = self.shared.world();
        let found = world.project_named(project);
        let on = Subject::MergeRequest(iid);
        on.notes(found)
            .into_iter()
            .map(|note| on.show(&world, found, note))
            .collect()
    }

    /// Notes on a commit, oldest first.
    #[must_use]
    pub fn commit_notes(&self, project: &str, sha: &str) -> Vec<Value> {
        let world = self.shared.world();
        let found = world.project_named(project);
        let on = Subject::Commit(sha.to_owned());
        on.notes(found)
            .into_iter()
            .map(|note| on.show(&world, found, note))
            .collect()
    }

    fn acting(&self) -> Acting<'_> {
        Acting {
            shared: &self.shared,
        }
    }

    /// Pushes commits to a branch; an open merge request from it moves along and tells so.
    pub fn push(&self, push: Push) -> Change {
        self.acting().push(push)
    }

    /// Makes or moves branches in one push; more than three send no push event.
    pub fn create_branches(&self, project: &str, names: &[&str], from: &str, by: &str) -> Change {
        self.acting().create_branches(project, names, from, by)
    }

    /// Deletes a branch: a push whose `after` is [`ZERO`].
    pub fn delete_branch(&self, project: &str, name: &str, by: &str) -> Change {
        self.acting().delete_branch(project, name, by)
    }

    /// Makes or moves a tag; annotated if it has a message.
    pub fn tag(
        &self,
        project: &str,
        name: &str,
        at: &str,
        message: Option<&str>,
        by: &str,
    ) -> Change {
        self.acting().tag(project, name, at, message, by)
    }

    /// Deletes a tag.
    pub fn delete_tag(&self, project: &str, name: &str, by: &str) -> Change {
        self.acting().delete_tag(project, name, by)
    }

    /// Opens a merge request; its iid is the change's `number`.
    pub fn propose(&self, proposal: Proposal) -> Change {
        self.acting().propose(proposal)
    }

    /// Changes a merge request's title (and so whether it is a draft).
    pub fn retitle(&self, project: &str, iid: u64, title: &str, by: &str) -> Change {
        self.acting()
            .act_on(project, iid, by, "update", |request, _, _| {
                let old = std::mem::replace(&mut request.title, title.to_owned());
                json!({ "title": { "previous": old, "current": title } })
            })
    }

    /// Points a merge request at another branch.
    pub fn retarget(&self, project: &str, iid: u64, branch: &str, by: &str) -> Change {
        self.acting()
            .act_on(project, iid, by, "update", |request, _, _| {
                let old = std::mem::replace(&mut request.target_branch, branch.to_owned());
                json!({ "target_branch": { "previous": old, "current": branch } })
            })
    }

    /// Replaces a merge request's labels.
    pub fn relabel(&self, project: &str, iid: u64, labels: &[&str], by: &str) -> Change {
        self.acting()
            .act_on(project, iid, by, "update", |request, _, _| {
                let new: Vec<String> = labels.iter().map(|label| (*label).to_owned()).collect();
                let show = |labels: &[String]| -> Value {
                    labels
                        .iter()
                        .map(|title| json!({ "title": title }))
                        .collect()
                };
                let old = std::mem::replace(&mut request.labels, new);
                json!({ "labels": { "previous": show(&old), "current": show(&request.labels) } })
            })
    }

    /// Closes a merge request.
    pub fn close(&self, project: &str, iid: u64, by: &str) -> Change {
        Self::close_in(&self.acting(), project, iid, by)
    }

    fn close_in(acting: &Acting<'_>, project: &str, iid: u64, by: &str) -> Change {
        acting.act_on(project, iid, by, "close", |request, _, now| {
            request.state = "closed";
            request.closed_at = Some(now);
            json!({ "state_id": { "previous": 1, "current": 2 } })
        })
    }

    /// Opens a closed merge request again.
    pub fn reopen(&self, project: &str, iid: u64, by: &str) -> Change {
        self.acting()
            .act_on(project, iid, by, "reopen", |request, _, _| {
                request.state = "opened";
                request.closed_at = None;
                json!({ "state_id": { "previous": 2, "current": 1 } })
            })
    }

    /// One person approves; `approved` if that was the last one needed, else `approval`.
    pub fn approve(&self, project: &str, iid: u64, by: &str) -> Change {
        let enough = self.edit(|world| {
            let request = &world.project_named(project).merge_requests[&iid];
            request.approved_by.len() + 1 >= request.approvals_required
        });
        self.acting().act_on(
            project,
            iid,
            by,
            if enough { "approved" } else { "approval" },
            |request, by, _| {
                request.approved_by.push(by);
                json!({})
            },
        )
    }

    /// One person takes an approval back.
    pub fn unapprove(&self, project: &str, iid: u64, by: &str) -> Change {
        let was_enough = self.edit(|world| {
            let request = &world.project_named(project).merge_requests[&iid];
            request.approved_by.len() <= request.approvals_required
        });
        self.acting().act_on(
            project,
            iid,
            by,
            if was_enough {
                "unapproved"
            } else {
                "unapproval"
            },
            |request, by, _| {
                request.approved_by.retain(|user| *user != by);
                json!({})
            },
        )
    }

    /// Merges with a merge commit: a push to the target branch, then the merge request's event.
    pub fn merge(&self, project: &str, iid: u64, by: &str) -> Change {
        self.acting().merge(project, iid, by)
    }

    /// Comments on a merge request; the note's id is the change's `number`.
    pub fn comment(&self, project: &str, iid: u64, by: &str, body: &str) -> Change {
        self.acting()
            .note(project, &Subject::MergeRequest(iid), by, body)
    }

    /// Edits a comment on a merge request.
    pub fn edit_comment(&self, project: &str, iid: u64, note: u64, body: &str) -> Change {
        self.acting()
            .edit_note(project, &Subject::MergeRequest(iid), note, body)
    }

    /// Comments on a commit, by its full id.
    pub fn comment_on_commit(&self, project: &str, sha: &str, by: &str, body: &str) -> Change {
        self.acting()
            .note(project, &Subject::Commit(sha.to_owned()), by, body)
    }

    /// Starts a pipeline of GitLab CI on a ref (`refs/merge-requests/N/head` for a merge request's own), or moves the
    /// one that is there to another state.
    pub fn pipeline(
        &self,
        project: &str,
        git_ref: &str,
        source: &str,
        state: &str,
        by: &str,
    ) -> Change {
        self.acting().pipeline(project, git_ref, source, state, by)
    }

    /// A deployment comes to a status.
    pub fn deploy(
        &self,
        project: &str,
        environment: &str,
        git_ref: &str,
        status: &str,
        by: &str,
    ) -> Change {
        self.acting()
            .deploy(project, environment, git_ref, status, by)
    }

    /// Makes a release of a tag.
    pub fn release(&self, project: &str, tag: &str, description: &str) -> Change {
        self.acting().release(project, tag, description)
    }

    /// Tells a project or group that an access token is about to expire.
    pub fn token_expires(&self, path: &str, secret: &str) -> Change {
        self.acting().token_expires(path, secret)
    }

    /// Adds a member to a group or changes the level: told to group hooks alone.
    pub fn join(&self, group: &str, username: &str, access: Access) -> Change {
        self.acting().join(group, username, access)
    }
}
