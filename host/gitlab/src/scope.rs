//! Which projects a hook may speak for, and what of a delivery is kept.
//!
//! Does no IO. An [`Accepted`] comes from a [`VerifiedBody`] within its hook's scope, or from the store that kept one; so no
//! body that names another tenant's project becomes an event. Names in a body are GitLab's word under the hook's key, no
//! more: [`confirm`](crate::confirm::confirm) asks for the project by id and checks the scope again.

use bytes::Bytes;
use http::HeaderMap;
use penstock_model::id::{DeliveryId, Digest, HookName, InstanceName, ProjectId, ProjectPath};
use penstock_model::lane::Lane;

use crate::claims::{self, Claims, GroupClaim};
use crate::redact::Redaction;
use crate::verify::{IDEMPOTENCY_KEY, MESSAGE_ID, VerifiedBody};

const EVENT: &str = "x-gitlab-event";

/// Headers that are kept. All others may carry credentials: GitLab lets people add headers of their own to a hook.
const KEPT_HEADERS: [&str; 9] = [
    EVENT,
    "x-gitlab-instance",
    "x-gitlab-event-uuid",
    "x-gitlab-webhook-uuid",
    IDEMPOTENCY_KEY,
    MESSAGE_ID,
    "webhook-timestamp",
    "user-agent",
    "content-type",
];

/// Longest id of a delivery that is taken from a header.
const LONGEST_ID: usize = 200;

/// What a hook may speak for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HookScope {
    /// A group by its full path, with all groups and projects below it.
    Group(String),
    /// One project by its full path.
    Project(String),
    /// One project by GitLab's id.
    ProjectId(ProjectId),
    /// Everything: system hooks.
    Instance,
}

impl HookScope {
    /// A project or group of this full path lies within it; for [`HookScope::ProjectId`] the path says nothing and it is false.
    pub fn contains(&self, path: &str) -> bool {
        let path = path.trim_matches('/');
        match self {
            Self::Instance => true,
            Self::ProjectId(_) => false,
            Self::Project(own) => path.eq_ignore_ascii_case(own.trim_matches('/')),
            Self::Group(group) => {
                let group = group.trim_matches('/');
                let whole = path
                    .get(..group.len())
                    .is_some_and(|start| start.eq_ignore_ascii_case(group));
                let rest = path.get(group.len()..).unwrap_or_default();
                !group.is_empty() && whole && (rest.is_empty() || rest.starts_with('/'))
            }
        }
    }

    /// A project lies within it, by id and path.
    pub fn contains_project(&self, id: ProjectId, path: &str) -> bool {
        match self {
            Self::ProjectId(own) => *own == id,
            _ => self.contains(path),
        }
    }
}

impl std::fmt::Display for HookScope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Group(path) => write!(f, "group `{path}`"),
            Self::Project(path) => write!(f, "project `{path}`"),
            Self::ProjectId(id) => write!(f, "project {id}"),
            Self::Instance => f.write_str("the whole instance"),
        }
    }
}

/// Why a verified body is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScopeError {
    /// Not a JSON object: answer 400.
    #[error("the body is not JSON: {problem}")]
    NotJson {
        /// What is wrong and where.
        problem: String,
    },
    /// The project or group is not the hook's: answer 403.
    #[error(
        "the hook speaks for {scope} and the body is about {about}: give it a hook of its own, or widen this one's scope"
    )]
    OutOfScope {
        /// The hook's scope.
        scope: String,
        /// What the body names; cut after 200 characters.
        about: String,
    },
    /// Two places of the body name different projects: answer 403.
    #[error("the body names the {what} twice and differently")]
    Disagrees {
        /// `project's id`, `project's path`, `group's id`, `group's path`.
        what: &'static str,
    },
    /// A field that names the project can't be read: answer 403.
    #[error("`{field}` can't be read: {problem}")]
    Unclear {
        /// Its path.
        field: String,
        /// What is wrong.
        problem: String,
    },
}

/// The project that a body names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProjectClaim {
    /// GitLab's id.
    pub id: Option<ProjectId>,
    /// Full path.
    pub path: Option<ProjectPath>,
}

/// A delivery within the scope of the hook that verified it, as it is stored: no credentials, no values of CI variables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    instance: InstanceName,
    hook: HookName,
    delivery: DeliveryId,
    headers: Vec<(String, String)>,
    claims: Claims,
    lane: Lane,
    body: Bytes,
    redacted: bool,
    body_digest: Digest,
}

impl VerifiedBody {
    /// Checks that the hook may speak for the project or group that the body names, and makes what is kept of the delivery.
    ///
    /// The delivery's id is `webhook-id` if a signature covers it, else `Idempotency-Key`, else a digest of instance, hook,
    /// event header and body. Digests are of the body *after* redaction: a digest of the whole would let whoever steals
    /// the store try guesses of a variable's value.
    ///
    /// # Errors
    /// The body is not JSON, names nothing or something else than the hook may speak for, or contradicts itself.
    pub fn within(
        self,
        scope: &HookScope,
        instance: &InstanceName,
        hook: &HookName,
        redaction: &Redaction,
    ) -> Result<Accepted, ScopeError> {
        let claims = claims::read(&self.body)?;
        check_scope(scope, &claims)?;
        let redacted = redaction.apply(&self.body);
        let was_redacted = redacted.is_some();
        let body = redacted.unwrap_or(self.body);
        // What is kept must read the same when it comes back from the store.
        let claims = if was_redacted {
            claims::read(&body)?
        } else {
            claims
        };
        let headers = kept(&self.headers);
        let delivery = delivery_id(&headers, self.signed_id.is_some(), instance, hook, &body);
        Ok(Accepted::new(
            instance.clone(),
            hook.clone(),
            delivery,
            headers,
            claims,
            body,
            was_redacted,
        ))
    }
}

fn check_scope(scope: &HookScope, claims: &Claims) -> Result<(), ScopeError> {
    let fits = match (scope, &claims.project, &claims.group) {
        (HookScope::Instance, _, _) => true,
        (HookScope::ProjectId(own), ProjectClaim { id, .. }, _) => *id == Some(*own),
        (
            _,
            ProjectClaim {
                path: Some(path), ..
            },
            _,
        ) => scope.contains(path.as_str()),
        (
            HookScope::Group(_),
            ProjectClaim {
                id: None,
                path: None,
            },
            Some(group),
        ) => match group {
            GroupClaim {
                full_path: Some(path),
                ..
            } => scope.contains(path),
            // Events on members give only the last segment of a group's path: whether the group is below the hook's
            // is asked of GitLab by id before anything is decided.
            GroupClaim {
                id,
                full_path: None,
            } => id.is_some(),
        },
        _ => false,
    };
    if fits {
        return Ok(());
    }
    let about = match (&claims.project, &claims.group) {
        (
            ProjectClaim {
                path: Some(path), ..
            },
            _,
        ) => format!("project `{path}`"),
        (ProjectClaim { id: Some(id), .. }, _) => format!("project {id}"),
        (
            _,
            Some(GroupClaim {
                full_path: Some(path),
                ..
            }),
        ) => format!("group `{path}`"),
        (_, Some(_)) => "a group".to_owned(),
        _ => "no project and no group".to_owned(),
    };
    Err(ScopeError::OutOfScope {
        scope: scope.to_string(),
        about: about.chars().take(200).collect(),
    })
}

fn kept(headers: &HeaderMap) -> Vec<(String, String)> {
    KEPT_HEADERS
        .iter()
        .filter_map(|name| {
            let value = headers.get(*name)?.to_str().ok()?;
            Some(((*name).to_owned(), value.to_owned()))
        })
        .collect()
}

fn header<'a>(headers: &'a [(String, String)], wanted: &str) -> Option<&'a str> {
    headers
        .iter()
        .find(|(name, _)| name == wanted)
        .map(|(_, value)| value.as_str())
}

fn delivery_id(
    headers: &[(String, String)],
    signed: bool,
    instance: &InstanceName,
    hook: &HookName,
    body: &[u8],
) -> DeliveryId {
    let usable = |name: &str| {
        let value = header(headers, name)?;
        let plain = value.bytes().all(|byte| byte.is_ascii_graphic());
        // The hook is part of the id: whoever holds another hook's key can't take an id away before its delivery comes.
        (plain && (1..=LONGEST_ID).contains(&value.len()))
            .then(|| DeliveryId::new(format!("{hook}:{value}")))
    };
    let signed_id = if signed { usable(MESSAGE_ID) } else { None };
    signed_id
        .or_else(|| usable(IDEMPOTENCY_KEY))
        .unwrap_or_else(|| {
            let event = header(headers, EVENT).unwrap_or_default();
            let parts = [
                instance.as_str().as_bytes(),
                hook.as_str().as_bytes(),
                event.as_bytes(),
                body,
            ];
            DeliveryId::new(Digest::of_parts(parts).to_string())
        })
}

impl Accepted {
    fn new(
        instance: InstanceName,
        hook: HookName,
        delivery: DeliveryId,
        headers: Vec<(String, String)>,
        claims: Claims,
        body: Bytes,
        redacted: bool,
    ) -> Self {
        let lane = Lane {
            instance: instance.clone(),
            project: claims.project.id,
            subject: claims.subject.clone(),
        };
        let body_digest = Digest::of(&body);
        Self {
            instance,
            hook,
            delivery,
            headers,
            claims,
            lane,
            body,
            redacted,
            body_digest,
        }
    }

    /// Makes it again from what the store kept of one that [`VerifiedBody::within`] made.
    ///
    /// # Errors
    /// The body is not what was kept.
    pub fn restore(
        instance: InstanceName,
        hook: HookName,
        delivery: DeliveryId,
        headers: Vec<(String, String)>,
        body: Bytes,
    ) -> Result<Self, ScopeError> {
        let claims = claims::read(&body)?;
        Ok(Self::new(
            instance, hook, delivery, headers, claims, body, false,
        ))
    }

    /// The GitLab instance.
    pub fn instance(&self) -> &InstanceName {
        &self.instance
    }

    /// The hook that verified it.
    pub fn hook(&self) -> &HookName {
        &self.hook
    }

    /// Its id.
    pub fn delivery(&self) -> &DeliveryId {
        &self.delivery
    }

    /// `X-Gitlab-Event`, such as `Push Hook`; empty if there was none.
    pub fn event(&self) -> &str {
        header(&self.headers, EVENT).unwrap_or_default()
    }

    /// `object_kind`, else `event_name`, else `unknown`: what routes and metrics call it.
    pub fn kind(&self) -> &str {
        &self.claims.kind
    }

    /// Headers, names in lower case, without anything that could be a credential.
    pub fn headers(&self) -> &[(String, String)] {
        &self.headers
    }

    /// The project that it is about, as the body says.
    pub fn project(&self) -> &ProjectClaim {
        &self.claims.project
    }

    pub(crate) fn group(&self) -> Option<&GroupClaim> {
        self.claims.group.as_ref()
    }

    /// Its lane.
    pub fn lane(&self) -> &Lane {
        &self.lane
    }

    /// The body, redacted.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Something was blanked when it was taken in; false for one that was restored.
    pub fn redacted(&self) -> bool {
        self.redacted
    }

    /// Digest of the body after redaction: the same event through another hook has the same.
    pub fn body_digest(&self) -> Digest {
        self.body_digest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::{Keys, verify};
    use penstock_model::id::Timestamp;
    use penstock_model::secret::Secret;
    use serde_json::{Value, json};

    fn accept_with(
        scope: &HookScope,
        body: &[u8],
        more: &[(&'static str, &str)],
    ) -> Result<Accepted, ScopeError> {
        let keys = Keys::new(vec![Secret::new("s")], vec![]).unwrap();
        let mut headers = HeaderMap::new();
        headers.insert("x-gitlab-token", "s".parse().unwrap());
        headers.insert("x-gitlab-event", "Push Hook".parse().unwrap());
        for (name, value) in more {
            headers.insert(*name, value.parse().unwrap());
        }
        let body = verify(
            &keys,
            &headers,
            Bytes::from(body.to_vec()),
            Timestamp::now(),
        )
        .unwrap();
        body.within(scope, &"main".into(), &"acme".into(), &Redaction::default())
    }

    fn accept(scope: &HookScope, body: &Value) -> Result<Accepted, ScopeError> {
        accept_with(scope, body.to_string().as_bytes(), &[])
    }

    fn group(path: &str) -> HookScope {
        HookScope::Group(path.to_owned())
    }

    fn push(path: &str) -> Value {
        json!({"object_kind": "push", "ref": "refs/heads/main", "project_id": 7,
            "project": {"id": 7, "path_with_namespace": path}})
    }

    #[test]
    fn a_group_speaks_for_whole_segments_below_it_in_any_case() {
        for (path, fits) in [
            ("acme/api", true),
            ("ACME/Api", true),
            ("acme/deep/er/api", true),
            ("acme-evil/api", false),
            ("other/acme/api", false),
            ("acm/e", false),
        ] {
            let found = accept(&group("acme"), &push(path));
            assert_eq!(found.is_ok(), fits, "{path}: {found:?}");
        }
        assert!(!group("").contains("acme/api"));
    }

    #[test]
    fn a_body_about_another_project_is_out_of_scope() {
        for scope in [
            group("acme"),
            HookScope::Project("acme/api".into()),
            HookScope::ProjectId(ProjectId(8)),
        ] {
            let found = accept(&scope, &push("victim/api"));
            assert!(
                matches!(found, Err(ScopeError::OutOfScope { .. })),
                "{found:?}"
            );
        }
        assert!(accept(&HookScope::Instance, &push("victim/api")).is_ok());
        assert!(accept(&HookScope::ProjectId(ProjectId(7)), &push("acme/api")).is_ok());
        assert!(accept(&HookScope::Project("Acme/API".into()), &push("acme/api")).is_ok());
    }

    #[test]
    fn a_body_that_names_two_projects_is_refused_wherever_the_second_stands() {
        for (place, value) in [
            ("/project_id", json!(8)),
            ("/project/path_with_namespace", json!("victim/api")),
            ("/object_attributes/target_project_id", json!(8)),
            ("/object_attributes/project_id", json!(8)),
            (
                "/object_attributes/target/path_with_namespace",
                json!("victim/api"),
            ),
            ("/merge_request/target_project_id", json!(8)),
            (
                "/merge_request/target/path_with_namespace",
                json!("victim/api"),
            ),
            ("/project_path_with_namespace", json!("victim/api")),
        ] {
            let mut body = json!({
                "object_kind": "note", "project_id": 7, "project_path_with_namespace": "acme/api",
                "project": {"id": 7, "path_with_namespace": "acme/api"},
                "object_attributes": {"project_id": 7, "target_project_id": 7, "target": {"path_with_namespace": "acme/api"}},
                "merge_request": {"target_project_id": 7, "target": {"path_with_namespace": "acme/api"}, "source_project_id": 99},
            });
            assert!(accept(&group("acme"), &body).is_ok());
            *body.pointer_mut(place).unwrap() = value;
            let found = accept(&HookScope::Instance, &body);
            assert!(
                matches!(found, Err(ScopeError::Disagrees { .. })),
                "{place}: {found:?}"
            );
        }
    }

    #[test]
    fn a_repeated_or_malformed_name_of_the_project_is_refused() {
        for body in [
            r#"{"object_kind":"push","project_id":7,"project_id":8,"project":{"path_with_namespace":"acme/api"}}"#,
            r#"{"object_kind":"push","project":{"path_with_namespace":"acme/api","path_with_namespace":"victim/api"}}"#,
            r#"{"object_kind":"push","project_id":"7","project":{"path_with_namespace":"acme/api"}}"#,
            r#"{"object_kind":"push","project_id":-7,"project":{"path_with_namespace":"acme/api"}}"#,
        ] {
            let found = accept_with(&group("acme"), body.as_bytes(), &[]);
            assert!(
                matches!(found, Err(ScopeError::Unclear { .. })),
                "{found:?}"
            );
        }
    }

    #[test]
    fn what_is_not_json_is_told_from_what_names_nothing() {
        for body in [b"".as_slice(), b"{", b"payload=%7B%7D", b"\xff{}", b"{} {}"] {
            let found = accept_with(&group("acme"), body, &[]);
            assert!(
                matches!(found, Err(ScopeError::NotJson { .. })),
                "{found:?}"
            );
        }
        for body in [b"{}".as_slice(), b"{\"project\":[]}", b"{\"project_id\":7}"] {
            let found = accept_with(&group("acme"), body, &[]);
            assert!(
                matches!(found, Err(ScopeError::OutOfScope { .. })),
                "{found:?}"
            );
        }
    }

    #[test]
    fn a_group_event_is_taken_by_its_full_path_or_left_to_confirmation() {
        let subgroup =
            json!({"event_name": "subgroup_create", "group_id": 3, "full_path": "acme/new"});
        assert!(accept(&group("acme"), &subgroup).is_ok());
        assert!(accept(&group("other"), &subgroup).is_err());
        let member = json!({"event_name": "user_add_to_group", "group_id": 3, "group_path": "new"});
        assert_eq!(
            accept(&group("acme"), &member).unwrap().kind(),
            "user_add_to_group"
        );
        assert!(accept(&HookScope::Project("acme/api".into()), &member).is_err());
    }

    #[test]
    fn lanes_are_by_merge_request_else_by_full_ref_else_whole() {
        let place = json!({"id": 7, "path_with_namespace": "acme/api"});
        for (body, lane) in [
            (
                json!({"object_kind": "push", "ref": "refs/heads/a/b"}),
                "main/7/refs/heads/a/b",
            ),
            (
                json!({"object_kind": "tag_push", "ref": "refs/tags/v1"}),
                "main/7/refs/tags/v1",
            ),
            (
                json!({"object_kind": "merge_request", "object_attributes": {"iid": 4}}),
                "main/7/!4",
            ),
            (
                json!({"object_kind": "note", "merge_request": {"iid": 4}}),
                "main/7/!4",
            ),
            (
                json!({"object_kind": "note", "issue": {"iid": 4}}),
                "main/7/-",
            ),
            (
                json!({"object_kind": "pipeline", "object_attributes": {"ref": "v1", "tag": true}}),
                "main/7/refs/tags/v1",
            ),
            (
                json!({"object_kind": "pipeline", "object_attributes": {"ref": "x"}, "merge_request": {"iid": 5}}),
                "main/7/!5",
            ),
            (
                json!({"object_kind": "build", "ref": "main", "tag": false}),
                "main/7/refs/heads/main",
            ),
            (
                json!({"object_kind": "release", "tag": "v1"}),
                "main/7/refs/tags/v1",
            ),
            (
                json!({"object_kind": "issue", "object_attributes": {"iid": 4}}),
                "main/7/-",
            ),
            (json!({"object_kind": "push", "ref": 4}), "main/7/-"),
        ] {
            let mut body = body;
            body["project"] = place.clone();
            assert_eq!(
                accept(&group("acme"), &body).unwrap().lane().to_string(),
                lane
            );
        }
    }

    #[test]
    fn credentials_of_any_name_are_not_kept() {
        let more = [
            ("authorization", "Bearer x"),
            ("cookie", "x"),
            ("private-token", "x"),
            ("x-our-own-api-key", "x"),
            ("idempotency-key", "k1"),
            ("x-gitlab-event-uuid", "u1"),
        ];
        let body = push("acme/api").to_string();
        let found = accept_with(&group("acme"), body.as_bytes(), &more).unwrap();
        let names: Vec<&str> = found
            .headers()
            .iter()
            .map(|(name, _)| name.as_str())
            .collect();
        assert_eq!(
            names,
            ["x-gitlab-event", "x-gitlab-event-uuid", "idempotency-key"]
        );
        assert_eq!(found.event(), "Push Hook");
    }

    #[test]
    fn the_id_is_the_key_of_the_request_else_a_digest_of_what_it_is() {
        let body = push("acme/api").to_string();
        let id = |more: &[(&'static str, &str)]| {
            accept_with(&group("acme"), body.as_bytes(), more)
                .unwrap()
                .delivery()
                .to_string()
        };
        assert_eq!(
            id(&[("idempotency-key", "k1"), ("webhook-id", "not signed")]),
            "acme:k1"
        );
        let digest = id(&[]);
        assert!(digest.starts_with("sha256:"), "{digest}");
        assert_eq!(id(&[("x-gitlab-event-uuid", "random")]), digest);
        assert_eq!(id(&[("idempotency-key", "")]), digest);
        assert_eq!(id(&[("idempotency-key", &"k".repeat(201))]), digest);
        assert_ne!(id(&[("x-gitlab-event", "System Hook")]), digest);
    }

    #[test]
    fn what_was_kept_is_restored_to_the_same() {
        let body = json!({"object_kind": "pipeline", "project": {"id": 7, "path_with_namespace": "acme/api"},
            "object_attributes": {"ref": "main", "variables": [{"key": "A", "value": "s3cret"}]}});
        let first = accept(&group("acme"), &body).unwrap();
        assert!(first.redacted());
        assert!(!String::from_utf8_lossy(first.body()).contains("s3cret"));
        let again = Accepted::restore(
            first.instance().clone(),
            first.hook().clone(),
            first.delivery().clone(),
            first.headers().to_vec(),
            first.body().clone(),
        )
        .unwrap();
        assert_eq!(
            (again.lane(), again.kind(), again.body_digest()),
            (first.lane(), first.kind(), first.body_digest())
        );
        let plain = push("acme/api");
        let found = accept(&group("acme"), &plain).unwrap();
        assert!(!found.redacted());
        assert_eq!(found.body().as_ref(), plain.to_string().as_bytes());
    }
}
