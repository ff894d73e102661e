//! What people do with code: each call changes the state and gives the webhooks that follow, to be sent or not.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    Shared, activity,
    asked::{Proposal, Push},
    change::Change,
    hooks::Trigger,
    merge_requests::MergeRequest,
    notices::{about, move_branch, moved},
    repository::{Commit, TagRef, ZERO},
    send::Notice,
    world::World,
};

/// More branches or tags than this in one push, and no push event is sent at all.
pub(crate) const PUSH_EVENT_LIMIT: usize = 3;

/// Carries out what the public methods of `GitLab` offer.
pub(crate) struct Acting<'a> {
    pub(crate) shared: &'a Arc<Shared>,
}

impl Acting<'_> {
    pub(crate) fn change(&self, commit: &str, number: u64, notices: Vec<Notice>) -> Change {
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
        activity::note(&mut world, id, by, &[&push.branch], &tip);
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
        activity::note(&mut world, id, by, names, &tip);
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
}
