//! The webhooks that follow from what happened, and what a moving branch takes along.

use serde_json::{Value, json};

use super::{
    hooks::Trigger,
    notes::Subject,
    payloads::{self, Moved},
    repository::ZERO,
    send::Notice,
    world::World,
};

/// Moves a branch and every open merge request whose source it is; those lose their approvals.
pub(crate) fn move_branch(
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
                let had_approvals = !std::mem::take(&mut request.approved_by).is_empty();
                heads.push((request.iid, old, had_approvals));
            }
        }
        for (iid, old, had_approvals) in heads {
            target
                .refs
                .hidden
                .insert(format!("refs/merge-requests/{iid}/head"), tip.to_owned());
            target.refs.keep(objects, tip);
            pushed_requests.push((target.id, iid, old, had_approvals));
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
    for (target, iid, old, had_approvals) in pushed_requests {
        notices.push(about(
            world,
            target,
            iid,
            by,
            "update",
            json!({ "oldrev": old }),
            json!({}),
        ));
        if had_approvals {
            let reset = json!({ "system": true, "system_action": "approvals_reset_on_push" });
            notices.push(about(
                world,
                target,
                iid,
                by,
                "unapproved",
                reset,
                json!({}),
            ));
        }
    }
    notices
}

pub(crate) fn moved(
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

pub(crate) fn about(
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

pub(crate) fn written(world: &World, id: u64, on: &Subject, number: u64, action: &str) -> Notice {
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
