//! What people do in GitLab: each call changes the state and gives the webhooks that follow, to be sent or not.

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    Shared,
    hooks::Trigger,
    merge_requests::MergeRequest,
    notes::{Note, Subject},
    payloads::{self, Deployed, Moved},
    project::Access,
    repository::{Commit, TagRef, ZERO},
    send::{self, Delivery, Force, Notice, Sent},
    statuses::Pipeline,
    world::World,
};

/// More branches or tags than this in one push, and no push event is sent at all.
const PUSH_EVENT_LIMIT: usize = 3;

/// Something that happened, and the webhooks that GitLab would send for it.
///
/// Nothing is sent until [`Change::send`]; a change that is dropped is an event that GitLab lost.
#[must_use = "nothing is sent until `send` is called"]
#[derive(Clone)]
pub struct Change {
    /// The commit that it is about: the new head, or the merge request's head; empty if there is none.
    pub commit: String,
    /// The iid of the merge request, or the id of the note, pipeline, deployment or release.
    pub number: u64,
    notices: Vec<Notice>,
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kinds: Vec<Trigger> = self.notices.iter().map(|notice| notice.trigger).collect();
        f.debug_struct("Change")
            .field("commit", &self.commit)
            .field("number", &self.number)
            .field("notices", &kinds)
            .finish_non_exhaustive()
    }
}

impl Change {
    /// Sends every webhook to every hook that it reaches, one after the other.
    pub async fn send(&self) -> Vec<Sent> {
        let mut sent = Vec::new();
        for notice in &self.notices {
            let deliveries: Vec<Delivery> = {
                let world = self.shared.world();
                let hooks = send::reached(&world, notice);
                hooks
                    .into_iter()
                    .map(|hook| make(&world, hook, notice))
                    .collect()
            };
            for delivery in deliveries {
                sent.push(send::deliver(&self.shared, delivery, Force::No).await);
            }
        }
        sent
    }

    /// The calls for one hook, with a fresh id and signature, not sent and not logged.
    #[must_use]
    pub fn deliveries(&self, hook: u64) -> Vec<Delivery> {
        let world = self.shared.world();
        self.notices
            .iter()
            .map(|notice| make(&world, hook, notice))
            .collect()
    }

    /// The first of [`Change::deliveries`].
    ///
    /// # Panics
    /// If this change sends nothing.
    #[must_use]
    pub fn delivery(&self, hook: u64) -> Delivery {
        self.deliveries(hook)
            .into_iter()
            .next()
            .expect("a change with a webhook")
    }

    /// The bodies, before they are sent.
    #[must_use]
    pub fn bodies(&self) -> Vec<Value> {
        self.notices
            .iter()
            .map(|notice| notice.body.clone())
            .collect()
    }

    /// Lets a test bend the bodies before they are sent: fields that are missing, wrong or from a newer GitLab.
    pub fn bend(mut self, bend: impl Fn(&mut Value)) -> Self {
        for notice in &mut self.notices {
            bend(&mut notice.body);
        }
        self
    }
}

fn make(world: &World, hook: u64, notice: &Notice) -> Delivery {
    send::prepare(
        world,
        hook,
        notice.trigger,
        Bytes::from(notice.body.to_string()),
        None,
    )
}

/// A push to one branch: commits on top of what is there, or on top of another start.
///
/// ```
/// use penstock_doubles::gitlab::Push;
/// let push = Push::new("acme/api", "feature", "alice").write("src/a.rs", "fn a() {}").delete("old.rs").message("Add a");
/// # let _ = push;
/// ```
#[derive(Clone, Debug)]
pub struct Push {
    project: String,
    branch: String,
    author: String,
    from: Option<String>,
    commits: Vec<Written>,
}

#[derive(Clone, Debug, Default)]
struct Written {
    message: String,
    files: Vec<(String, Option<Bytes>)>,
}

impl Push {
    /// A push by `author`; a branch that is not there yet begins at the default branch.
    #[must_use]
    pub fn new(project: &str, branch: &str, author: &str) -> Self {
        let (project, branch, author) = (project.to_owned(), branch.to_owned(), author.to_owned());
        Self {
            project,
            branch,
            author,
            from: None,
            commits: Vec::new(),
        }
    }

    /// Writes a file in the current commit.
    #[must_use]
    pub fn write(mut self, path: &str, content: impl Into<Bytes>) -> Self {
        self.current()
            .files
            .push((path.to_owned(), Some(content.into())));
        self
    }

    /// Deletes a file in the current commit.
    #[must_use]
    pub fn delete(mut self, path: &str) -> Self {
        self.current().files.push((path.to_owned(), None));
        self
    }

    /// Sets the current commit's message.
    #[must_use]
    pub fn message(mut self, message: &str) -> Self {
        message.clone_into(&mut self.current().message);
        self
    }

    /// Begins another commit of the same push.
    #[must_use]
    pub fn then(mut self) -> Self {
        self.commits.push(Written::default());
        self
    }

    /// Starts from this commit, branch or tag and not from the branch's head: a force-push if it leaves commits behind.
    #[must_use]
    pub fn from(mut self, start: &str) -> Self {
        self.from = Some(start.to_owned());
        self
    }

    fn current(&mut self) -> &mut Written {
        if self.commits.is_empty() {
            self.commits.push(Written::default());
        }
        self.commits.last_mut().expect("a commit")
    }
}

/// A merge request to open.
#[derive(Clone, Debug)]
pub struct Proposal {
    target: String,
    source: Option<String>,
    branch: String,
    into: Option<String>,
    author: String,
    title: String,
    description: String,
    labels: Vec<String>,
    approvals: usize,
}

impl Proposal {
    /// From `branch` into the default branch of the same project.
    #[must_use]
    pub fn new(project: &str, branch: &str, author: &str) -> Self {
        Self {
            target: project.to_owned(),
            source: None,
            branch: branch.to_owned(),
            into: None,
            author: author.to_owned(),
            title: format!("Change {branch}"),
            description: String::new(),
            labels: Vec::new(),
            approvals: 0,
        }
    }

    /// The branch is in this fork.
    #[must_use]
    pub fn from_fork(mut self, fork: &str) -> Self {
        self.source = Some(fork.to_owned());
        self
    }

    /// Into this branch.
    #[must_use]
    pub fn into(mut self, branch: &str) -> Self {
        self.into = Some(branch.to_owned());
        self
    }

    /// Its title; one that begins with `Draft:` makes it a draft.
    #[must_use]
    pub fn title(mut self, title: &str) -> Self {
        title.clone_into(&mut self.title);
        self
    }

    /// Its labels.
    #[must_use]
    pub fn labels(mut self, labels: &[&str]) -> Self {
        self.labels = labels.iter().map(|label| (*label).to_owned()).collect();
        self
    }

    /// How many approvals it needs.
    #[must_use]
    pub fn approvals(mut self, count: usize) -> Self {
        self.approvals = count;
        self
    }
}

/// Carries out what the public methods of `GitLab` offer.
pub(crate) struct Acting<'a> {
    pub(crate) shared: &'a Arc<Shared>,
}

impl Acting<'_> {
    fn change(&self, commit: &str, number: u64, notices: Vec<Notice>) -> Change {
        Change {
            commit: commit.to_owned(),
            number,
            notices,
            shared: Arc::clone(self.shared),
        }
    }

    pub(crate) fn push(&self, push: Push) -> Change {
        let mut world = self.shared.world();
        let by = world.user_id(&push.author);
        let now = world.now();
        let project = world.project_named(&push.project);
        let (id, default) = (project.id, project.default_branch.clone());
        let before = project.refs.branches.get(&push.branch).cloned();
        let start = match &push.from {
            Some(name) => Some(
                project
                    .refs
                    .resolve(name, &default)
                    .expect("a commit to start from"),
            ),
            None => before
                .clone()
                .or_else(|| project.refs.branches.get(&default).cloned()),
        };
        let name = world.users[&by].name.clone();
        let email = format!("{}@example.com", push.author);
        let mut tip = start;
        for written in push.commits {
            let mut tree = tip
                .as_deref()
                .and_then(|id| world.objects.commit(id))
                .map(|tip| tip.tree.clone())
                .unwrap_or_default();
            let first = written.files.first().map(|(path, _)| path.clone());
            for (path, content) in written.files {
                match content {
                    Some(content) => tree.insert(path, world.objects.put_blob(content)),
                    None => tree.remove(&path),
                };
            }
            let message = match written.message {
                message if message.is_empty() => {
                    format!("Change {}", first.unwrap_or_else(|| "nothing".to_owned()))
                }
                message => message,
            };
            tip = Some(world.objects.put_commit(Commit {
                id: String::new(),
                parents: tip.into_iter().collect(),
                tree,
                message,
                author_name: name.clone(),
                author_email: email.clone(),
                at: now,
            }));
        }
        let tip = tip.expect("a push to an empty project has commits");
        let notices = move_branch(&mut world, id, &push.branch, before.as_deref(), &tip, by);
        drop(world);
        self.change(&tip, 0, notices)
    }

    pub(crate) fn create_branches(
        &self,
        project: &str,
        names: &[&str],
        from: &str,
        by: &str,
    ) -> Change {
        let mut world = self.shared.world();
        let by = world.user_id(by);
        let tip = world
            .commit_id(project, from)
            .expect("a commit to start from");
        let id = world.project_id(project);
        let mut notices = Vec::new();
        for name in names {
            let before = world.projects[&id].refs.branches.get(*name).cloned();
            notices.extend(move_branch(
                &mut world,
                id,
                name,
                before.as_deref(),
                &tip,
                by,
            ));
        }
        if names.len() > PUSH_EVENT_LIMIT {
            notices.retain(|notice| notice.trigger != Trigger::Push);
        }
        drop(world);
        self.change(&tip, 0, notices)
    }

    pub(crate) fn delete_branch(&self, project: &str, name: &str, by: &str) -> Change {
        let mut world = self.shared.world();
        let (id, by) = (world.project_id(project), world.user_id(by));
        let before = world
            .project_mut(project)
            .refs
            .branches
            .remove(name)
            .expect("a branch to delete");
        let notice = moved(
            &world,
            id,
            &format!("refs/heads/{name}"),
            &before,
            ZERO,
            by,
            None,
        );
        drop(world);
        self.change("", 0, vec![notice])
    }

    pub(crate) fn tag(
        &self,
        project: &str,
        name: &str,
        at: &str,
        message: Option<&str>,
        by: &str,
    ) -> Change {
        let mut world = self.shared.world();
        let (id, by, now) = (world.project_id(project), world.user_id(by), world.now());
        let target = world.commit_id(project, at).expect("a commit to tag");
        let tag = TagRef {
            target: target.clone(),
            message: message.map(str::to_owned),
            at: now,
        };
        let old = world
            .project_mut(project)
            .refs
            .tags
            .insert(name.to_owned(), tag);
        let before = old.map_or_else(|| ZERO.to_owned(), |old| old.target);
        let notice = moved(
            &world,
            id,
            &format!("refs/tags/{name}"),
            &before,
            &target,
            by,
            message,
        );
        drop(world);
        self.change(&target, 0, vec![notice])
    }

    pub(crate) fn delete_tag(&self, project: &str, name: &str, by: &str) -> Change {
        let mut world = self.shared.world();
        let (id, by) = (world.project_id(project), world.user_id(by));
        let before = world
            .project_mut(project)
            .refs
            .tags
            .remove(name)
            .expect("a tag to delete")
            .target;
        let notice = moved(
            &world,
            id,
            &format!("refs/tags/{name}"),
            &before,
            ZERO,
            by,
            None,
        );
        drop(world);
        self.change("", 0, vec![notice])
    }

    pub(crate) fn propose(&self, proposal: Proposal) -> Change {
        let mut world = self.shared.world();
        let (by, id, now) = (
            world.user_id(&proposal.author),
            world.next_id(),
            world.now(),
        );
        let source = proposal.source.as_ref().unwrap_or(&proposal.target);
        let sha = world
            .commit_id(source, &format!("refs/heads/{}", proposal.branch))
            .expect("a source branch");
        let source = world.project_id(source);
        let target = world.project_id(&proposal.target);
        let iid = world.projects[&target]
            .merge_requests
            .keys()
            .max()
            .map_or(1, |last| last + 1);
        let default = world.projects[&target].default_branch.clone();
        let request = MergeRequest {
            id,
            iid,
            title: proposal.title,
            description: proposal.description,
            state: "opened",
            source_project: source,
            source_branch: proposal.branch,
            target_branch: proposal.into.unwrap_or(default),
            author: by,
            labels: proposal.labels,
            sha: sha.clone(),
            created_at: now,
            updated_at: now,
            merged_at: None,
            closed_at: None,
            merged_by: None,
            merge_commit: None,
            notes: Vec::new(),
            approved_by: Vec::new(),
            approvals_required: proposal.approvals,
            fixed_base: None,
        };
        let World {
            projects, objects, ..
        } = &mut *world;
        let project = projects.get_mut(&target).expect("a project");
        project.merge_requests.insert(iid, request);
        project
            .refs
            .hidden
            .insert(format!("refs/merge-requests/{iid}/head"), sha.clone());
        project.refs.keep(objects, &sha);
        let notice = about(&world, target, iid, by, "open", json!({}), json!({}));
        drop(world);
        self.change(&sha, iid, vec![notice])
    }

    /// Changes a merge request's state or fields; `edit` gives `changes`, or `None` if the request stands otherwise.
    pub(crate) fn act_on(
        &self,
        project: &str,
        iid: u64,
        by: &str,
        action: &str,
        edit: impl FnOnce(&mut MergeRequest, u64, Timestamp) -> Value,
    ) -> Change {
        let mut world = self.shared.world();
        let (id, by, now) = (world.project_id(project), world.user_id(by), world.now());
        let fixed = {
            let project = &world.projects[&id];
            project
                .merge_requests
                .get(&iid)
                .expect("a merge request")
                .base(&world, project)
        };
        let request = world
            .projects
            .get_mut(&id)
            .expect("a project")
            .merge_requests
            .get_mut(&iid)
            .expect("a merge request");
        if matches!(action, "close" | "merge") {
            request.fixed_base = Some(fixed);
        } else if action == "reopen" {
            request.fixed_base = None;
        }
        let changes = edit(request, by, now);
        request.updated_at = now;
        let sha = request.sha.clone();
        let notice = about(&world, id, iid, by, action, json!({}), changes);
        drop(world);
        self.change(&sha, iid, vec![notice])
    }

    pub(crate) fn merge(&self, project: &str, iid: u64, by: &str) -> Change {
        let (id, sha, branch, author, tip, title) = {
            let world = self.shared.world();
            let found = world.project_named(project);
            let request = found.merge_requests.get(&iid).expect("a merge request");
            let tip = found.refs.branches[&request.target_branch].clone();
            (
                found.id,
                request.sha.clone(),
                request.target_branch.clone(),
                world.user_id(by),
                tip,
                request.title.clone(),
            )
        };
        let mut merged = self.act_on(project, iid, by, "merge", |request, by, now| {
            request.state = "merged";
            request.merged_at = Some(now);
            request.merged_by = Some(by);
            json!({ "state_id": { "previous": 1, "current": 3 } })
        });
        let mut world = self.shared.world();
        let (name, now) = (world.users[&author].name.clone(), world.now());
        let base = world.objects.merge_base(&tip, &sha);
        let (ours, theirs) = (
            world.objects.commit(&tip).expect("a tip"),
            world.objects.commit(&sha).expect("a head"),
        );
        let mut tree = ours.tree.clone();
        let old = base
            .and_then(|id| world.objects.commit(&id))
            .map(|base| base.tree.clone())
            .unwrap_or_default();
        for change in world.objects.differences(&old, &theirs.tree) {
            if change.new_blob.is_none() || change.renamed() {
                tree.remove(&change.old_path);
            }
            if let Some(blob) = change.new_blob {
                tree.insert(change.new_path, blob);
            }
        }
        let commit = world.objects.put_commit(Commit {
            id: String::new(),
            parents: vec![tip.clone(), sha],
            tree,
            message: format!(
                "Merge branch into '{branch}'\n\n{title}\n\nSee merge request {project}!{iid}"
            ),
            author_name: name,
            author_email: format!("{by}@example.com"),
            at: now,
        });
        let found = world.projects.get_mut(&id).expect("a project");
        found
            .merge_requests
            .get_mut(&iid)
            .expect("a merge request")
            .merge_commit = Some(commit.clone());
        merged.notices = move_branch(&mut world, id, &branch, Some(&tip), &commit, author);
        merged.notices.push(about(
            &world,
            id,
            iid,
            author,
            "merge",
            json!({}),
            json!({ "state_id": { "previous": 1, "current": 3 } }),
        ));
        drop(world);
        merged.commit = commit;
        merged
    }

    pub(crate) fn note(&self, project: &str, on: &Subject, by: &str, body: &str) -> Change {
        let mut world = self.shared.world();
        let (id, by) = (world.project_id(project), world.user_id(by));
        let note = Note::new(&mut world, by, body);
        let number = note.id;
        on.add(world.projects.get_mut(&id).expect("a project"), note);
        let notice = written(&world, id, on, number, "create");
        drop(world);
        self.change("", number, vec![notice])
    }

    pub(crate) fn edit_note(&self, project: &str, on: &Subject, number: u64, body: &str) -> Change {
        let mut world = self.shared.world();
        let (id, now) = (world.project_id(project), world.now());
        let project = world.projects.get_mut(&id).expect("a project");
        let note = match on {
            Subject::MergeRequest(iid) => {
                let request = project
                    .merge_requests
                    .get_mut(iid)
                    .expect("a merge request");
                request.notes.iter_mut().find(|note| note.id == number)
            }
            Subject::Commit(_) => project
                .commit_notes
                .iter_mut()
                .map(|(_, note)| note)
                .find(|note| note.id == number),
        };
        let note = note.expect("a note to edit");
        body.clone_into(&mut note.body);
        note.updated_at = now;
        let notice = written(&world, id, on, number, "update");
        drop(world);
        self.change("", number, vec![notice])
    }

    pub(crate) fn pipeline(
        &self,
        project: &str,
        name: &str,
        source: &str,
        state: &str,
        by: &str,
    ) -> Change {
        let mut world = self.shared.world();
        let (id, by, now, new) = (
            world.project_id(project),
            world.user_id(by),
            world.now(),
            world.next_id(),
        );
        let sha = world
            .commit_id(project, name)
            .expect("a ref for a pipeline");
        let found = world.projects.get_mut(&id).expect("a project");
        let known = found.pipelines.iter_mut().rev().find(|run| {
            run.name == name && run.sha == sha && run.source == source && run.forced.is_some()
        });
        let run = if let Some(run) = known {
            run.forced = Some(state.to_owned());
            run.updated_at = now;
            run.clone()
        } else {
            let run = Pipeline {
                id: new,
                iid: found.pipelines.len() as u64 + 1,
                sha: sha.clone(),
                name: name.to_owned(),
                source: source.to_owned(),
                user: by,
                forced: Some(state.to_owned()),
                created_at: now,
                updated_at: now,
            };
            found.pipelines.push(run.clone());
            run
        };
        let found = &world.projects[&id];
        let request = found
            .merge_requests
            .values()
            .find(|request| name.starts_with(&format!("refs/merge-requests/{}/", request.iid)));
        let body = payloads::pipeline(&world, found, &run, request);
        let notice = Notice {
            trigger: Trigger::Pipeline,
            project: Some(id),
            group: None,
            body,
        };
        drop(world);
        self.change(&sha, run.id, vec![notice])
    }

    pub(crate) fn deploy(
        &self,
        project: &str,
        environment: &str,
        name: &str,
        status: &str,
        by: &str,
    ) -> Change {
        let mut world = self.shared.world();
        let (id, by, number) = (
            world.project_id(project),
            world.user_id(by),
            world.next_id(),
        );
        let sha = world.commit_id(project, name).expect("a ref to deploy");
        let deployed = Deployed {
            id: number,
            environment,
            status,
            name,
            sha: &sha,
            by,
        };
        let body = payloads::deployment(&world, &world.projects[&id], &deployed);
        let notice = Notice {
            trigger: Trigger::Deployment,
            project: Some(id),
            group: None,
            body,
        };
        drop(world);
        self.change(&sha, number, vec![notice])
    }

    pub(crate) fn release(&self, project: &str, tag: &str, description: &str) -> Change {
        let mut world = self.shared.world();
        let (id, number) = (world.project_id(project), world.next_id());
        let sha = world.commit_id(project, tag).expect("a tag to release");
        let body = payloads::release(&world, &world.projects[&id], number, tag, description);
        let notice = Notice {
            trigger: Trigger::Release,
            project: Some(id),
            group: None,
            body,
        };
        drop(world);
        self.change(&sha, number, vec![notice])
    }

    pub(crate) fn token_expires(&self, path: &str, secret: &str) -> Change {
        let world = self.shared.world();
        let token = world
            .tokens
            .iter()
            .find(|token| token.secret == secret)
            .expect("a token");
        let group = world.groups.values().find(|group| group.path == path);
        let notice = match group {
            Some(group) => Notice {
                trigger: Trigger::AccessToken,
                project: None,
                group: Some(group.id),
                body: payloads::access_token(&world, Err(group), token),
            },
            None => Notice {
                trigger: Trigger::AccessToken,
                project: Some(world.project_id(path)),
                group: None,
                body: payloads::access_token(&world, Ok(world.project_named(path)), token),
            },
        };
        let number = token.id;
        drop(world);
        self.change("", number, vec![notice])
    }

    pub(crate) fn join(&self, group: &str, username: &str, access: Access) -> Change {
        let mut world = self.shared.world();
        let (id, user) = (world.group_id(group), world.user_id(username));
        let known = world
            .groups
            .get_mut(&id)
            .expect("a group")
            .members
            .insert(user, access)
            .is_some();
        let event = if known {
            "user_update_for_group"
        } else {
            "user_add_to_group"
        };
        let body = payloads::member(&world, &world.groups[&id], user, access, event);
        let notice = Notice {
            trigger: Trigger::Member,
            project: None,
            group: Some(id),
            body,
        };
        drop(world);
        self.change("", user, vec![notice])
    }
}

/// Moves a branch and every open merge request whose source it is.
fn move_branch(
    world: &mut World,
    id: u64,
    name: &str,
    before: Option<&str>,
    tip: &str,
    by: u64,
) -> Vec<Notice> {
    let now = world.now();
    let World {
        projects, objects, ..
    } = &mut *world;
    let project = projects.get_mut(&id).expect("a project");
    project
        .refs
        .branches
        .insert(name.to_owned(), tip.to_owned());
    project.refs.keep(objects, tip);
    let mut pushed_requests = Vec::new();
    for target in projects.values_mut() {
        let mut heads = Vec::new();
        for request in target.merge_requests.values_mut() {
            let is_source = request.source_project == id
                && request.source_branch == name
                && request.state == "opened";
            if is_source && request.sha != tip {
                let old = std::mem::replace(&mut request.sha, tip.to_owned());
                request.updated_at = now;
                heads.push((request.iid, old));
            }
        }
        for (iid, old) in heads {
            target
                .refs
                .hidden
                .insert(format!("refs/merge-requests/{iid}/head"), tip.to_owned());
            target.refs.keep(objects, tip);
            pushed_requests.push((target.id, iid, old));
        }
    }
    let name = format!("refs/heads/{name}");
    let mut notices = vec![moved(
        world,
        id,
        &name,
        before.unwrap_or(ZERO),
        tip,
        by,
        None,
    )];
    for (target, iid, old) in pushed_requests {
        notices.push(about(
            world,
            target,
            iid,
            by,
            "update",
            json!({ "oldrev": old }),
            json!({}),
        ));
    }
    notices
}

fn moved(
    world: &World,
    id: u64,
    name: &str,
    before: &str,
    after: &str,
    by: u64,
    message: Option<&str>,
) -> Notice {
    let of = &world.projects[&id];
    let is_tag = name.starts_with("refs/tags/");
    let commits = if after == ZERO {
        Vec::new()
    } else if before != ZERO {
        world.objects.between(before, after)
    } else if is_tag {
        world.objects.commit(after).into_iter().collect()
    } else {
        // A new branch lists what the default branch does not hold.
        let main = of
            .refs
            .branches
            .get(&of.default_branch)
            .filter(|_| name != format!("refs/heads/{}", of.default_branch));
        main.map_or_else(Vec::new, |main| world.objects.between(main, after))
    };
    let body = payloads::push(
        world,
        &Moved {
            of,
            by,
            name,
            before,
            after,
            commits,
            message,
        },
    );
    let trigger = if is_tag {
        Trigger::TagPush
    } else {
        Trigger::Push
    };
    Notice {
        trigger,
        project: Some(id),
        group: None,
        body,
    }
}

fn about(
    world: &World,
    id: u64,
    iid: u64,
    by: u64,
    action: &str,
    further: Value,
    changes: Value,
) -> Notice {
    let of = &world.projects[&id];
    let body = payloads::merge_request(
        world,
        of,
        &of.merge_requests[&iid],
        by,
        action,
        further,
        changes,
    );
    Notice {
        trigger: Trigger::MergeRequest,
        project: Some(id),
        group: None,
        body,
    }
}

fn written(world: &World, id: u64, on: &Subject, number: u64, action: &str) -> Notice {
    let of = &world.projects[&id];
    let note = on
        .notes(of)
        .into_iter()
        .find(|note| note.id == number)
        .expect("the note");
    let body = match on {
        Subject::MergeRequest(iid) => {
            payloads::note(world, of, of.merge_requests.get(iid), "", note, action)
        }
        Subject::Commit(sha) => payloads::note(world, of, None, sha, note, action),
    };
    Notice {
        trigger: Trigger::Note,
        project: Some(id),
        group: None,
        body,
    }
}
