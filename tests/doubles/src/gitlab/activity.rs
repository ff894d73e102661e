//! A project's activity: who pushed what. Of what people do beside pushes it knows nothing.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    actions::PUSH_EVENT_LIMIT, answer::Answer, call::Call, project::Project, world::World,
};

/// One row.
#[derive(Clone, Debug)]
pub(crate) struct Pushed {
    id: u64,
    by: u64,
    at: Timestamp,
    /// None: many refs, which the row only counts.
    branch: Option<String>,
    refs: usize,
    tip: String,
}

/// Notes a push of branches: one row each, or one for all if there are many.
pub(crate) fn note(world: &mut World, project: u64, by: u64, branches: &[&str], tip: &str) {
    let at = world.now();
    let many = branches.len() > PUSH_EVENT_LIMIT;
    let told: Vec<Option<&str>> = if many {
        vec![None]
    } else {
        branches.iter().map(|name| Some(*name)).collect()
    };
    for branch in told {
        let row = Pushed {
            id: world.next_id(),
            by,
            at,
            branch: branch.map(str::to_owned),
            refs: branches.len(),
            tip: tip.to_owned(),
        };
        let project = world.projects.get_mut(&project).expect("a project");
        project.activity.push(row);
    }
}

/// `GET /projects/:id/events`, newest first.
pub(crate) fn answer(world: &World, call: &Call, project: &Project) -> Answer {
    let wanted = call.text("action").is_none_or(|action| action == "pushed");
    let rows = project.activity.iter().rev().filter(|_| wanted);
    Answer::Rows(rows.map(|row| show(world, project, row)).collect())
}

fn show(world: &World, project: &Project, row: &Pushed) -> Value {
    let username = &world.users[&row.by].username;
    json!({
        "id": row.id,
        "project_id": project.id,
        "action_name": "pushed to",
        "target_id": null,
        "target_type": null,
        "author_id": row.by,
        "author_username": username,
        "created_at": row.at.to_string(),
        "push_data": {
            "commit_count": 1,
            "action": "pushed",
            "ref_type": "branch",
            "ref": row.branch,
            "ref_count": row.branch.is_none().then_some(row.refs),
            "commit_to": row.branch.is_some().then_some(&row.tip),
        },
    })
}
