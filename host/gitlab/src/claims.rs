//! What a body says of the project or group that it acts in, of its kind and of its lane: read before anything is kept.
//!
//! Reads as little as it can: everything else of the body is skipped, not built. Every place that names the acting project
//! must agree, so that a body can't be judged by one name and acted on by another.

use penstock_model::id::{ProjectId, ProjectPath, RefName};
use penstock_model::lane::Subject;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::scope::{ProjectClaim, ScopeError};

/// What the body says, places that disagree ruled out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claims {
    /// `object_kind`, else `event_name`, else `unknown`.
    pub(crate) kind: String,
    pub(crate) project: ProjectClaim,
    pub(crate) group: Option<GroupClaim>,
    pub(crate) subject: Subject,
}

/// The group of a group-only event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GroupClaim {
    pub(crate) id: Option<u64>,
    pub(crate) full_path: Option<String>,
}

type Raw<'a> = Option<&'a RawValue>;

#[derive(Default, Deserialize)]
#[serde(default)]
struct Body<'a> {
    #[serde(borrow)]
    object_kind: Raw<'a>,
    #[serde(borrow)]
    event_name: Raw<'a>,
    #[serde(borrow)]
    project_id: Raw<'a>,
    #[serde(borrow)]
    project: Raw<'a>,
    #[serde(borrow)]
    project_path_with_namespace: Raw<'a>,
    #[serde(borrow)]
    path_with_namespace: Raw<'a>,
    #[serde(borrow)]
    group: Raw<'a>,
    #[serde(borrow)]
    group_id: Raw<'a>,
    #[serde(borrow)]
    full_path: Raw<'a>,
    #[serde(borrow)]
    object_attributes: Raw<'a>,
    #[serde(borrow)]
    merge_request: Raw<'a>,
    #[serde(borrow, rename = "ref")]
    git_ref: Raw<'a>,
    #[serde(borrow)]
    tag: Raw<'a>,
}

/// `project`, `target`, `group`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Place<'a> {
    #[serde(borrow)]
    id: Raw<'a>,
    #[serde(borrow)]
    path_with_namespace: Raw<'a>,
    #[serde(borrow)]
    group_id: Raw<'a>,
    #[serde(borrow)]
    full_path: Raw<'a>,
}

/// `object_attributes`, `merge_request`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Object<'a> {
    #[serde(borrow)]
    iid: Raw<'a>,
    #[serde(borrow)]
    project_id: Raw<'a>,
    #[serde(borrow)]
    target_project_id: Raw<'a>,
    #[serde(borrow)]
    target: Raw<'a>,
    #[serde(borrow, rename = "ref")]
    git_ref: Raw<'a>,
    #[serde(borrow)]
    tag: Raw<'a>,
}

/// Reads the claims of a body.
pub(crate) fn read(body: &[u8]) -> Result<Claims, ScopeError> {
    let text = std::str::from_utf8(body).map_err(|_| ScopeError::NotJson {
        problem: "it is not UTF-8".to_owned(),
    })?;
    let whole: Body<'_> = serde_json::from_str(text).map_err(|error| {
        if error.is_data() {
            unclear("the body", &error.to_string())
        } else {
            ScopeError::NotJson {
                problem: error.to_string(),
            }
        }
    })?;
    let project: Place<'_> = part("project", whole.project)?;
    let group: Place<'_> = part("group", whole.group)?;
    let attributes: Object<'_> = part("object_attributes", whole.object_attributes)?;
    let merge_request: Object<'_> = part("merge_request", whole.merge_request)?;
    let target: Place<'_> = part("object_attributes.target", attributes.target)?;
    let merge_target: Place<'_> = part("merge_request.target", merge_request.target)?;

    let id = agreed(
        "project's id",
        [
            number("project_id", whole.project_id)?,
            number("project.id", project.id)?,
            number("object_attributes.project_id", attributes.project_id)?,
            number(
                "object_attributes.target_project_id",
                attributes.target_project_id,
            )?,
            number("object_attributes.target.id", target.id)?,
            number(
                "merge_request.target_project_id",
                merge_request.target_project_id,
            )?,
            number("merge_request.target.id", merge_target.id)?,
        ],
        |one, other| one == other,
    )?;
    let path = agreed(
        "project's path",
        [
            word("project.path_with_namespace", project.path_with_namespace)?,
            word(
                "project_path_with_namespace",
                whole.project_path_with_namespace,
            )?,
            word("path_with_namespace", whole.path_with_namespace)?,
            word(
                "object_attributes.target.path_with_namespace",
                target.path_with_namespace,
            )?,
            word(
                "merge_request.target.path_with_namespace",
                merge_target.path_with_namespace,
            )?,
        ],
        |one: &String, other| one.eq_ignore_ascii_case(other),
    )?;
    let group_id = agreed(
        "group's id",
        [
            number("group_id", whole.group_id)?,
            number("group.group_id", group.group_id)?,
            number("group.id", group.id)?,
        ],
        |one, other| one == other,
    )?;
    let full_path = agreed(
        "group's path",
        [
            word("full_path", whole.full_path)?,
            word("group.full_path", group.full_path)?,
        ],
        |one: &String, other| one.eq_ignore_ascii_case(other),
    )?;

    let kind = match word("object_kind", whole.object_kind)? {
        Some(kind) => kind,
        None => word("event_name", whole.event_name)?.unwrap_or_else(|| "unknown".to_owned()),
    };
    let about_group = group_id.is_some() || full_path.is_some();
    let subject = match subject(&kind, &whole, &attributes, &merge_request) {
        // Without a project it is the group that stays in order, so that no group waits for another.
        Subject::Whole if id.is_none() && about_group => {
            let name = full_path
                .clone()
                .or_else(|| group_id.map(|id| id.to_string()));
            name.map_or(Subject::Whole, Subject::Group)
        }
        subject => subject,
    };
    Ok(Claims {
        kind,
        project: ProjectClaim {
            id: id.filter(|id| *id > 0).map(ProjectId),
            path: path.map(ProjectPath::from),
        },
        group: about_group.then_some(GroupClaim {
            id: group_id,
            full_path,
        }),
        subject,
    })
}

/// What the delivery's lane is about. A malformed field only widens the lane: what is wrong with it is for `parse` to say.
fn subject(
    kind: &str,
    whole: &Body<'_>,
    attributes: &Object<'_>,
    merge_request: &Object<'_>,
) -> Subject {
    let iid = |raw: Raw<'_>| number("iid", raw).ok().flatten();
    let text = |raw: Raw<'_>| {
        word("ref", raw)
            .ok()
            .flatten()
            .filter(|name| !name.is_empty())
    };
    let flag = |raw: Raw<'_>| raw.is_some_and(|raw| raw.get() == "true");
    let found = match kind {
        "merge_request" => iid(attributes.iid).map(Subject::MergeRequest),
        "note" => iid(merge_request.iid).map(Subject::MergeRequest),
        "push" | "tag_push" => text(whole.git_ref).map(|name| Subject::Ref(RefName::from(name))),
        "release" => text(whole.tag).map(|tag| Subject::Ref(full_ref(&tag, true))),
        "pipeline" => iid(merge_request.iid)
            .map(Subject::MergeRequest)
            .or_else(|| {
                text(attributes.git_ref)
                    .map(|name| Subject::Ref(full_ref(&name, flag(attributes.tag))))
            }),
        "build" => text(whole.git_ref).map(|name| Subject::Ref(full_ref(&name, flag(whole.tag)))),
        _ => None,
    };
    found.unwrap_or(Subject::Whole)
}

/// The full name of a branch or tag; a name that is full already stays.
pub(crate) fn full_ref(name: &str, tag: bool) -> RefName {
    if name.starts_with("refs/") {
        RefName::from(name)
    } else if tag {
        RefName::new(format!("refs/tags/{name}"))
    } else {
        RefName::new(format!("refs/heads/{name}"))
    }
}

fn unclear(field: &str, problem: &str) -> ScopeError {
    ScopeError::Unclear {
        field: field.to_owned(),
        problem: problem.to_owned(),
    }
}

/// A part that is an object; anything else (an empty list, a text) names nothing.
fn part<'a, T: Default + Deserialize<'a>>(field: &str, raw: Raw<'a>) -> Result<T, ScopeError> {
    match raw {
        Some(raw) if raw.get().starts_with('{') => {
            serde_json::from_str(raw.get()).map_err(|error| unclear(field, &error.to_string()))
        }
        _ => Ok(T::default()),
    }
}

fn number(field: &str, raw: Raw<'_>) -> Result<Option<u64>, ScopeError> {
    raw.map(|raw| {
        serde_json::from_str(raw.get()).map_err(|error| unclear(field, &error.to_string()))
    })
    .transpose()
}

fn word(field: &str, raw: Raw<'_>) -> Result<Option<String>, ScopeError> {
    raw.map(|raw| {
        serde_json::from_str(raw.get()).map_err(|error| unclear(field, &error.to_string()))
    })
    .transpose()
}

/// The one value that all places hold that hold one.
fn agreed<T, const N: usize>(
    what: &'static str,
    places: [Option<T>; N],
    same: impl Fn(&T, &T) -> bool,
) -> Result<Option<T>, ScopeError> {
    let mut held: Option<T> = None;
    for value in places.into_iter().flatten() {
        match &held {
            Some(held) if !same(held, &value) => return Err(ScopeError::Disagrees { what }),
            Some(_) => {}
            None => held = Some(value),
        }
    }
    Ok(held)
}
