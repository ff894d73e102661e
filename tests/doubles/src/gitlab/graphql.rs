//! The one question of GraphQL that is answered: files of a commit, as text.
//!
//! `project(fullPath) { id repository { blobs(ref, paths) { nodes { … } } } }` with the variables `project`, `ref` and `paths`; anything
//! else is an error, as a field that GitLab does not know. GitLab's limits hold: a query may cost 250 and costs more with each path, a page
//! has 100 nodes, all files of a query have 20 MB. A file that looks binary has no text, one in another encoding has another text.

use serde_json::{Value, json};

use super::{
    answer::{Answer, ApiError},
    call::Call,
    project::Project,
    rest,
    world::World,
};

const MOST_COST: f64 = 250.0;
const PAGE: usize = 100;
const MOST_BYTES: usize = 20 << 20;

pub(crate) fn answer(world: &World, call: &Call) -> Result<Answer, ApiError> {
    let query = call.required("query")?;
    let known = ["project(fullPath:", "repository", "blobs(ref:", "nodes"];
    if let Some(part) = known.iter().find(|part| !query.contains(*part)) {
        return Ok(error(&format!(
            "this stand-in answers no query without `{part}`"
        )));
    }
    let variables = call.body.get("variables").cloned().unwrap_or_default();
    let text = |name: &str| variables[name].as_str().unwrap_or_default().to_owned();
    let paths: Vec<&str> = variables["paths"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let fields = 5.0 + paths.len() as f64;
    let cost = fields + fields * 0.01 * PAGE as f64;
    if cost + 10.0 > MOST_COST {
        return Ok(error(&format!(
            "Query has complexity of {cost}, which exceeds max complexity of {MOST_COST}"
        )));
    }
    let project = rest::find_project(world, &text("project"), call.who.user)
        .ok()
        .and_then(|id| world.projects.get(&id));
    let Some(project) = project else {
        return Ok(Answer::ok(json!({ "data": { "project": null } })));
    };
    let nodes = nodes(world, project, &text("ref"), &paths);
    let bytes: usize = nodes.iter().map(|(size, _)| size).sum();
    if bytes > MOST_BYTES {
        return Ok(error("Max blobs size limit exceeded"));
    }
    let nodes: Vec<Value> = nodes.into_iter().map(|(_, node)| node).take(PAGE).collect();
    Ok(Answer::ok(json!({ "data": { "project": {
        "id": format!("gid://gitlab/Project/{}", project.id),
        "repository": { "blobs": { "nodes": nodes } },
    } } })))
}

/// The files that are there, each with its size.
fn nodes(world: &World, project: &Project, name: &str, paths: &[&str]) -> Vec<(usize, Value)> {
    let commit = project
        .refs
        .resolve(name, &project.default_branch)
        .and_then(|id| world.objects.commit(&id));
    let Some(commit) = commit else {
        return Vec::new();
    };
    let node = |path: &&str| {
        let id = commit.tree.get(*path)?;
        let content = world.objects.blob(id)?;
        let text = (!content.contains(&0)).then(|| String::from_utf8_lossy(content));
        let node = json!({ "path": path, "oid": id, "rawTextBlob": text });
        Some((content.len(), node))
    };
    paths.iter().filter_map(node).collect()
}

/// GraphQL says what is wrong with a 200.
fn error(message: &str) -> Answer {
    Answer::ok(json!({ "errors": [{ "message": message }] }))
}
