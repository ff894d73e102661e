//! What is read from a repository: branches, tags, commits, trees, files, comparisons.

use std::collections::BTreeMap;

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{
    answer::{Answer, ApiError},
    call::Call,
    project::Project,
    repository::{Commit, Tree, object_id},
    statuses,
    world::World,
};

/// `/projects/:id/repository/…`, GET.
pub(crate) fn answer(
    world: &World,
    call: &Call,
    project: &Project,
    path: &[&str],
) -> Result<Answer, ApiError> {
    match path {
        ["branches"] => {
            let search = call.text("search").unwrap_or_default();
            let names = project
                .refs
                .branches
                .keys()
                .filter(|name| matches(&search, name));
            Answer::page(call, names, |name| show_branch(world, call, project, name))
        }
        ["branches", name] => {
            project
                .refs
                .branches
                .get(*name)
                .ok_or_else(|| ApiError::not_found("Branch"))?;
            Ok(Answer::ok(show_branch(world, call, project, name)))
        }
        ["tags"] => {
            let names = project.refs.tags.keys();
            Answer::page(call, names, |name| show_tag(world, project, name))
        }
        ["tags", name] => {
            project
                .refs
                .tags
                .get(*name)
                .ok_or_else(|| ApiError::not_found("Tag"))?;
            Ok(Answer::ok(show_tag(world, project, name)))
        }
        ["commits"] => commits(world, call, project),
        ["commits", name] => {
            let commit = commit(world, project, name)?;
            let mut shown = show_commit(world, project, commit);
            let pipeline = project
                .pipelines
                .iter()
                .rev()
                .find(|pipeline| pipeline.sha == commit.id);
            shown["project_id"] = json!(project.id);
            shown["status"] =
                json!(pipeline.map(|pipeline| statuses::pipeline_state(project, pipeline)));
            shown["last_pipeline"] = pipeline.map_or(Value::Null, |pipeline| {
                statuses::show_pipeline(world, project, pipeline)
            });
            shown["stats"] = json!({ "additions": 0, "deletions": 0, "total": 0 });
            Ok(Answer::ok(shown))
        }
        ["commits", name, "refs"] => refs(world, call, project, name),
        ["commits", name, "diff"] => {
            let commit = commit(world, project, name)?;
            let parent = commit
                .parents
                .first()
                .and_then(|id| world.objects.commit(id));
            let old = parent.map(|parent| parent.tree.clone()).unwrap_or_default();
            Ok(Answer::Rows(show_changes(world, &old, &commit.tree)))
        }
        ["commits", name, "merge_requests"] => {
            let commit = commit(world, project, name)?;
            let holds = project.merge_requests.values().filter(|request| {
                let (base, _) = request.base(world, project);
                world
                    .objects
                    .between(&base, &request.sha)
                    .iter()
                    .any(|other| other.id == commit.id)
            });
            Ok(Answer::Rows(
                holds
                    .map(|request| super::merge_requests::show(world, project, request))
                    .collect(),
            ))
        }
        ["merge_base"] => {
            let names = call.list("refs");
            if names.len() < 2 {
                return Err(ApiError::message(400, "Provide at least 2 refs"));
            }
            let mut base: Option<String> = None;
            for name in &names {
                let next = commit(world, project, name)
                    .map_err(|_| ApiError::message(400, format!("Could not find ref: {name}")))?;
                base = Some(match base {
                    None => next.id.clone(),
                    Some(base) => world
                        .objects
                        .merge_base(&base, &next.id)
                        .ok_or_else(|| ApiError::not_found("Merge Base"))?,
                });
            }
            let base = commit(world, project, &base.expect("two refs"))?;
            Ok(Answer::ok(show_commit(world, project, base)))
        }
        ["compare"] => compare(world, call, project),
        ["tree"] => tree(world, call, project),
        ["files", path] => file(world, call, project, path, false),
        ["files", path, "raw"] => file(world, call, project, path, true),
        ["blobs", id] => {
            let bytes = blob(world, project, id)?;
            Ok(Answer::ok(json!({
                "size": bytes.len(),
                "encoding": "base64",
                "content": BASE64_STANDARD.encode(&bytes),
                "sha": id,
            })))
        }
        ["blobs", id, "raw"] => Ok(Answer::Raw(blob(world, project, id)?, Vec::new())),
        _ => Err(ApiError::error(404, "404 Not Found")),
    }
}

/// `^x` begins with, `x$` ends with, else contains.
fn matches(search: &str, name: &str) -> bool {
    match (search.strip_prefix('^'), search.strip_suffix('$')) {
        (Some(start), _) if start.ends_with('$') => name == start.trim_end_matches('$'),
        (Some(start), _) => name.starts_with(start),
        (None, Some(end)) => name.ends_with(end),
        (None, None) => name.contains(search),
    }
}

fn commit<'a>(world: &'a World, project: &Project, name: &str) -> Result<&'a Commit, ApiError> {
    let id = project.refs.resolve(name, &project.default_branch);
    id.and_then(|id| world.objects.commit(&id))
        .ok_or_else(|| ApiError::not_found("Commit"))
}

fn commits(world: &World, call: &Call, project: &Project) -> Result<Answer, ApiError> {
    let name = call
        .text("ref_name")
        .unwrap_or_else(|| project.default_branch.clone());
    let (from, name) = match name.split_once("..") {
        Some((from, to)) => (Some(commit(world, project, from)?), to.to_owned()),
        None => (None, name),
    };
    let tip = commit(world, project, &name)?;
    let path = call.text("path");
    let touches = |commit: &Commit| {
        let Some(path) = &path else { return true };
        let parent = commit
            .parents
            .first()
            .and_then(|id| world.objects.commit(id));
        let old = parent.map(|parent| parent.tree.clone()).unwrap_or_default();
        let inside = |changed: &str| changed == path || changed.starts_with(&format!("{path}/"));
        world
            .objects
            .differences(&old, &commit.tree)
            .iter()
            .any(|change| inside(&change.new_path))
    };
    let found = world.objects.history(&tip.id);
    let found = found.into_iter().filter(|commit| {
        touches(commit) && from.is_none_or(|from| !world.objects.is_ancestor(&commit.id, &from.id))
    });
    Ok(Answer::Rows(
        found
            .map(|commit| show_commit(world, project, commit))
            .collect(),
    ))
}

fn refs(world: &World, call: &Call, project: &Project, name: &str) -> Result<Answer, ApiError> {
    let commit = commit(world, project, name)?;
    let kind = call.text("type").unwrap_or_else(|| "all".to_owned());
    let mut rows = Vec::new();
    if kind != "tag" {
        let with = project
            .refs
            .branches
            .iter()
            .filter(|(_, tip)| world.objects.is_ancestor(&commit.id, tip));
        rows.extend(with.map(|(name, _)| json!({ "type": "branch", "name": name })));
    }
    if kind != "branch" {
        let with = project
            .refs
            .tags
            .iter()
            .filter(|(_, tag)| world.objects.is_ancestor(&commit.id, &tag.target));
        rows.extend(with.map(|(name, _)| json!({ "type": "tag", "name": name })));
    }
    Ok(Answer::Rows(rows))
}

fn compare(world: &World, call: &Call, project: &Project) -> Result<Answer, ApiError> {
    let side = |name: String| commit(world, project, &name).map_err(|_| ApiError::not_found("Ref"));
    let (from, to) = (side(call.required("from")?)?, side(call.required("to")?)?);
    let base = if call.flag("straight").unwrap_or(false) {
        Some(from)
    } else {
        world
            .objects
            .merge_base(&from.id, &to.id)
            .and_then(|id| world.objects.commit(&id))
    };
    let commits: Vec<Value> = world
        .objects
        .between(&from.id, &to.id)
        .into_iter()
        .map(|commit| show_commit(world, project, commit))
        .collect();
    let old = base.map(|base| base.tree.clone()).unwrap_or_default();
    Ok(Answer::ok(json!({
        "commit": commits.last(),
        "commits": commits,
        "diffs": show_changes(world, &old, &to.tree),
        "compare_timeout": false,
        "compare_same_ref": from.id == to.id,
        "web_url": format!("{}/{}/-/compare/{}...{}", world.base, project.path, from.id, to.id),
    })))
}

/// Rows of a tree: folders are made from the paths of the files in them.
fn tree(world: &World, call: &Call, project: &Project) -> Result<Answer, ApiError> {
    let name = call.text("ref").unwrap_or_else(|| "HEAD".to_owned());
    let commit = commit(world, project, &name).map_err(|_| ApiError::not_found("Tree"))?;
    let folder = call
        .text("path")
        .unwrap_or_default()
        .trim_matches('/')
        .to_owned();
    let prefix = if folder.is_empty() {
        String::new()
    } else {
        format!("{folder}/")
    };
    let recursive = call.flag("recursive").unwrap_or(false);
    let mut rows: BTreeMap<(u8, String), Value> = BTreeMap::new();
    for (path, blob) in &commit.tree {
        let Some(inside) = path.strip_prefix(&prefix) else {
            continue;
        };
        for (position, _) in inside.match_indices('/') {
            let path = format!("{prefix}{}", &inside[..position]);
            if recursive || !path[prefix.len()..].contains('/') {
                rows.insert(
                    (0, path.clone()),
                    tree_row(&subtree_id(&commit.tree, &path), "tree", &path, "040000"),
                );
            }
        }
        if recursive || !inside.contains('/') {
            rows.insert((1, path.clone()), tree_row(blob, "blob", path, "100644"));
        }
    }
    if rows.is_empty() {
        let message = if folder.is_empty() {
            "Tree"
        } else {
            "invalid revision or path"
        };
        return Err(ApiError::not_found(message));
    }
    Ok(Answer::KeyedRows(
        rows.into_iter()
            .map(|((_, path), row)| (hex::encode(path), row))
            .collect(),
    ))
}

fn subtree_id(tree: &Tree, folder: &str) -> String {
    let prefix = format!("{folder}/");
    let inside: Vec<_> = tree
        .iter()
        .filter_map(|(path, id)| Some((path.strip_prefix(&prefix)?, id)))
        .collect();
    object_id("tree", format!("{inside:?}").as_bytes())
}

fn tree_row(id: &str, kind: &str, path: &str, mode: &str) -> Value {
    let name = path.rsplit('/').next().unwrap_or(path);
    json!({ "id": id, "name": name, "type": kind, "path": path, "mode": mode })
}

fn file(
    world: &World,
    call: &Call,
    project: &Project,
    path: &str,
    raw: bool,
) -> Result<Answer, ApiError> {
    let name = call.text("ref").unwrap_or_else(|| "HEAD".to_owned());
    let commit = commit(world, project, &name)?;
    let id = commit
        .tree
        .get(path)
        .ok_or_else(|| ApiError::not_found("File"))?;
    let bytes = world
        .objects
        .blob(id)
        .cloned()
        .ok_or_else(|| ApiError::not_found("File"))?;
    let last = world
        .objects
        .history(&commit.id)
        .into_iter()
        .take_while(|older| older.tree.get(path) == Some(id))
        .last();
    let last = last.map_or(&commit.id, |commit| &commit.id).clone();
    let digest = hex::encode(Sha256::digest(&bytes));
    if raw {
        let headers = vec![
            ("x-gitlab-blob-id", id.clone()),
            ("x-gitlab-commit-id", commit.id.clone()),
            ("x-gitlab-content-sha256", digest),
            ("x-gitlab-encoding", "base64".to_owned()),
            ("x-gitlab-execute-filemode", "false".to_owned()),
            (
                "x-gitlab-file-name",
                path.rsplit('/').next().unwrap_or(path).to_owned(),
            ),
            ("x-gitlab-file-path", path.to_owned()),
            ("x-gitlab-last-commit-id", last),
            ("x-gitlab-ref", name),
            ("x-gitlab-size", bytes.len().to_string()),
        ];
        return Ok(Answer::Raw(bytes, headers));
    }
    Ok(Answer::ok(json!({
        "file_name": path.rsplit('/').next(),
        "file_path": path,
        "size": bytes.len(),
        "encoding": "base64",
        "content_sha256": digest,
        "ref": name,
        "blob_id": id,
        "commit_id": commit.id,
        "last_commit_id": last,
        "execute_filemode": false,
        "content": BASE64_STANDARD.encode(&bytes),
    })))
}

/// A blob that some commit of this project holds.
fn blob(world: &World, project: &Project, id: &str) -> Result<Bytes, ApiError> {
    let here = project
        .refs
        .known
        .iter()
        .filter_map(|id| world.objects.commit(id));
    let held = here
        .flat_map(|commit| commit.tree.values())
        .any(|blob| blob == id);
    let found = world.objects.blob(id).filter(|_| held);
    found.cloned().ok_or_else(|| ApiError::not_found("Blob"))
}

/// What changed between two trees, as `diffs` of a comparison or a merge request.
pub(crate) fn show_changes(world: &World, old: &Tree, new: &Tree) -> Vec<Value> {
    let changes = world.objects.differences(old, new);
    let shown = changes.iter().map(|change| {
        json!({
            "old_path": change.old_path,
            "new_path": change.new_path,
            "a_mode": if change.old_blob.is_some() { "100644" } else { "0" },
            "b_mode": if change.new_blob.is_some() { "100644" } else { "0" },
            "new_file": change.old_blob.is_none(),
            "renamed_file": change.renamed(),
            "deleted_file": change.new_blob.is_none(),
            "generated_file": false,
            "collapsed": false,
            "too_large": false,
            "diff": world.objects.diff_text(change),
        })
    });
    shown.collect()
}

pub(crate) fn show_commit(world: &World, project: &Project, commit: &Commit) -> Value {
    json!({
        "id": commit.id,
        "short_id": &commit.id[..8],
        "created_at": commit.at.to_string(),
        "parent_ids": commit.parents,
        "title": commit.title(),
        "message": commit.message,
        "author_name": commit.author_name,
        "author_email": commit.author_email,
        "authored_date": commit.at.to_string(),
        "committer_name": commit.author_name,
        "committer_email": commit.author_email,
        "committed_date": commit.at.to_string(),
        "trailers": {},
        "extended_trailers": {},
        "web_url": format!("{}/{}/-/commit/{}", world.base, project.path, commit.id),
    })
}

fn show_branch(world: &World, call: &Call, project: &Project, name: &str) -> Value {
    let tip = &project.refs.branches[name];
    let commit = world.objects.commit(tip).expect("a branch's commit");
    let main = project.refs.branches.get(&project.default_branch);
    let merged = name != project.default_branch
        && main.is_some_and(|main| world.objects.is_ancestor(tip, main));
    let rules = project.branch_rules(name);
    let developers = |list: &dyn Fn(&super::project::Protected) -> Vec<super::project::Allowed>| {
        use super::project::{Access, Allowed};
        rules.iter().any(|rule| {
            list(rule)
                .iter()
                .any(|allowed| matches!(allowed, Allowed::From(Access::Developer)))
        })
    };
    json!({
        "name": name,
        "commit": show_commit(world, project, commit),
        "merged": merged,
        "protected": !rules.is_empty(),
        "developers_can_push": developers(&|rule| rule.push.clone()),
        "developers_can_merge": developers(&|rule| rule.merge.clone()),
        "can_push": project.may_push(world, call.who.user, name),
        "default": name == project.default_branch,
        "web_url": format!("{}/{}/-/tree/{name}", world.base, project.path),
    })
}

fn show_tag(world: &World, project: &Project, name: &str) -> Value {
    let tag = &project.refs.tags[name];
    let commit = world.objects.commit(&tag.target).expect("a tag's commit");
    let annotated = tag
        .message
        .as_ref()
        .map(|message| object_id("tag", format!("{name} {message}").as_bytes()));
    json!({
        "name": name,
        "message": tag.message.clone().unwrap_or_default(),
        "target": annotated.unwrap_or_else(|| tag.target.clone()),
        "commit": show_commit(world, project, commit),
        "release": null,
        "protected": !project.tag_rules(name).is_empty(),
        "created_at": tag.message.as_ref().map(|_| tag.at.to_string()),
    })
}
