//! What people and CI do beside the code: notes, pipelines, deployments, releases, tokens, members.

use super::{
    actions::Acting,
    change::Change,
    hooks::Trigger,
    notes::{Note, Subject},
    notices::written,
    payloads::{self, Deployed},
    project::Access,
    send::Notice,
    statuses::Pipeline,
};

impl Acting<'_> {
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
