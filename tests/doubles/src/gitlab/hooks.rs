//! Webhooks as the REST API shows them: registration, the log of what was sent, and how failures disable them.

use std::collections::BTreeSet;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

use super::{
    answer::{Answer, ApiError},
    call::Call,
    world::World,
};

/// Failures in a row that a hook survives without a pause.
const GRACE: u32 = 3;
/// Failures in a row after which only a person can enable a hook again, less one.
const LAST: u32 = 39;
const FIRST_PAUSE: i64 = 60;
const LONGEST_PAUSE: i64 = 24 * 60 * 60;

/// What a hook can be told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trigger {
    /// A branch was pushed.
    Push,
    /// A tag was made or deleted.
    TagPush,
    /// A merge request changed.
    MergeRequest,
    /// A note was made or edited.
    Note,
    /// A pipeline changed its state.
    Pipeline,
    /// A deployment changed its state.
    Deployment,
    /// A release was made.
    Release,
    /// An access token is about to expire.
    AccessToken,
    /// A group's member came, changed or went; group hooks alone.
    Member,
}

impl Trigger {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Push,
        Self::TagPush,
        Self::MergeRequest,
        Self::Note,
        Self::Pipeline,
        Self::Deployment,
        Self::Release,
        Self::AccessToken,
        Self::Member,
    ];

    /// The name in the log of events and of `hooks/:id/test/:trigger`'s rows.
    pub(crate) fn log_name(self) -> &'static str {
        match self {
            Self::Push => "push_hooks",
            Self::TagPush => "tag_push_hooks",
            Self::MergeRequest => "merge_request_hooks",
            Self::Note => "note_hooks",
            Self::Pipeline => "pipeline_hooks",
            Self::Deployment => "deployment_hooks",
            Self::Release => "release_hooks",
            Self::AccessToken => "resource_access_token_hooks",
            Self::Member => "member_hooks",
        }
    }

    /// The header `X-Gitlab-Event`.
    pub(crate) fn header(self) -> &'static str {
        match self {
            Self::Push => "Push Hook",
            Self::TagPush => "Tag Push Hook",
            Self::MergeRequest => "Merge Request Hook",
            Self::Note => "Note Hook",
            Self::Pipeline => "Pipeline Hook",
            Self::Deployment => "Deployment Hook",
            Self::Release => "Release Hook",
            Self::AccessToken => "Resource Access Token Hook",
            Self::Member => "Member Hook",
        }
    }

    /// The attribute that switches it, which is also the name in `test/:trigger`.
    pub(crate) fn flag(self) -> &'static str {
        match self {
            Self::Push => "push_events",
            Self::TagPush => "tag_push_events",
            Self::MergeRequest => "merge_requests_events",
            Self::Note => "note_events",
            Self::Pipeline => "pipeline_events",
            Self::Deployment => "deployment_events",
            Self::Release => "releases_events",
            Self::AccessToken => "resource_access_token_events",
            Self::Member => "member_events",
        }
    }
}

/// Whose hook it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    Project(u64),
    Group(u64),
}

/// A webhook.
#[derive(Clone)]
pub struct Hook {
    path: String,
    pub(crate) id: u64,
    pub(crate) owner: Owner,
    pub(crate) url: String,
    pub(crate) token: Option<String>,
    pub(crate) signing_token: Option<String>,
    pub(crate) triggers: BTreeSet<Trigger>,
    pub(crate) branch_filter: String,
    pub(crate) recent_failures: u32,
    pub(crate) disabled_until: Option<Timestamp>,
    pub(crate) log: Vec<Logged>,
    name: Option<String>,
    created_at: Timestamp,
}

impl std::fmt::Debug for Hook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hook")
            .field("id", &self.id)
            .field("owner", &self.owner)
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

/// One row of a hook's log.
#[derive(Clone, Debug)]
pub(crate) struct Logged {
    pub(crate) id: u64,
    pub(crate) trigger: Trigger,
    pub(crate) url: String,
    pub(crate) key: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Bytes,
    /// A number, or `internal error`.
    pub(crate) status: String,
    pub(crate) response: String,
    pub(crate) seconds: f64,
    pub(crate) at: Timestamp,
}

impl Hook {
    /// A hook of a project, told of everything.
    #[must_use]
    pub fn project(path: &str, url: &str) -> Self {
        Self::new(Owner::Project(0), path, url)
    }

    /// A hook of a group, told of everything in the group's projects and subgroups.
    #[must_use]
    pub fn group(path: &str, url: &str) -> Self {
        Self::new(Owner::Group(0), path, url)
    }

    fn new(owner: Owner, path: &str, url: &str) -> Self {
        Self {
            path: path.to_owned(),
            id: 0,
            owner,
            url: url.to_owned(),
            token: None,
            signing_token: None,
            triggers: Trigger::ALL.into(),
            branch_filter: String::new(),
            recent_failures: 0,
            disabled_until: None,
            log: Vec::new(),
            name: None,
            created_at: Timestamp::UNIX_EPOCH,
        }
    }

    /// Sets the secret token, sent as `X-Gitlab-Token`.
    #[must_use]
    pub fn token(mut self, token: &str) -> Self {
        self.token = Some(token.to_owned());
        self
    }

    /// Sets the signing token, `whsec_` and base64; used from GitLab 19.0 on.
    #[must_use]
    pub fn signing_token(mut self, token: &str) -> Self {
        self.signing_token = Some(token.to_owned());
        self
    }

    /// Tells it of these alone.
    #[must_use]
    pub fn only(mut self, triggers: &[Trigger]) -> Self {
        self.triggers = triggers.iter().copied().collect();
        self
    }

    pub(crate) fn registered(mut self, id: u64, world: &World) -> Self {
        self.id = id;
        self.created_at = world.now();
        self.owner = match self.owner {
            Owner::Project(_) => Owner::Project(world.project_id(&self.path)),
            Owner::Group(_) => Owner::Group(world.group_id(&self.path)),
        };
        self
    }

    pub(crate) fn alert_status(&self, now: Timestamp) -> &'static str {
        if self.recent_failures > LAST {
            "disabled"
        } else if self.recent_failures > GRACE
            && self.disabled_until.is_some_and(|until| until >= now)
        {
            "temporarily_disabled"
        } else {
            "executable"
        }
    }

    /// Notes how a call went: a success forgives, a failure counts and from the fourth on pauses the hook.
    pub(crate) fn went(&mut self, well: bool, now: Timestamp) {
        if well {
            self.recent_failures = 0;
            self.disabled_until = None;
            return;
        }
        if self.alert_status(now) != "executable" {
            return;
        }
        let doublings = self.recent_failures.saturating_sub(GRACE).min(20);
        self.recent_failures = (self.recent_failures + 1).min(LAST + 1);
        if self.recent_failures > GRACE {
            let pause = (FIRST_PAUSE << doublings).min(LONGEST_PAUSE);
            self.disabled_until = Some(now + SignedDuration::from_secs(pause));
        }
    }

    fn show(&self, now: Timestamp) -> Value {
        let mut shown = json!({
            "id": self.id,
            "url": self.url,
            "name": self.name,
            "description": null,
            "created_at": self.created_at.to_string(),
            "push_events_branch_filter": self.branch_filter,
            "branch_filter_strategy": if self.branch_filter.is_empty() { "all_branches" } else { "wildcard" },
            "enable_ssl_verification": true,
            "repository_update_events": false,
            "issues_events": false,
            "confidential_issues_events": false,
            "confidential_note_events": false,
            "job_events": false,
            "wiki_page_events": false,
            "feature_flag_events": false,
            "alert_status": self.alert_status(now),
            "disabled_until": self.disabled_until.map(|until| until.to_string()),
            "url_variables": [],
            "custom_headers": [],
            "custom_webhook_template": "",
            "token_present": self.token.is_some(),
            "signing_token_present": self.signing_token.is_some(),
        });
        for trigger in Trigger::ALL {
            shown[trigger.flag()] = json!(self.triggers.contains(&trigger));
        }
        match self.owner {
            Owner::Project(id) => shown["project_id"] = json!(id),
            Owner::Group(id) => shown["group_id"] = json!(id),
        }
        shown
    }

    fn change(&mut self, call: &Call) -> Result<(), ApiError> {
        if let Some(url) = call.text("url") {
            if !url.starts_with("http://") && !url.starts_with("https://") {
                return Err(ApiError::message(422, "Invalid url given"));
            }
            self.url = url;
        }
        if let Some(name) = call.text("name") {
            self.name = Some(name);
        }
        let given = |text: String| (!text.is_empty()).then_some(text);
        if let Some(token) = call.text("token") {
            self.token = given(token);
        }
        if let Some(token) = call.text("signing_token") {
            self.signing_token = given(token);
        }
        if let Some(filter) = call.text("push_events_branch_filter") {
            self.branch_filter = filter;
        }
        for trigger in Trigger::ALL {
            match call.flag(trigger.flag()) {
                Some(true) => _ = self.triggers.insert(trigger),
                Some(false) => _ = self.triggers.remove(&trigger),
                None => {}
            }
        }
        Ok(())
    }
}

impl Logged {
    /// A call that nobody answered.
    pub(crate) fn failure(
        id: u64,
        url: String,
        trigger: Trigger,
        body: &[u8],
        at: Timestamp,
    ) -> Self {
        let key = format!("made-up-{id}");
        Self {
            id,
            trigger,
            url,
            headers: vec![
                ("X-Gitlab-Event".to_owned(), trigger.header().to_owned()),
                ("Idempotency-Key".to_owned(), key.clone()),
            ],
            key,
            body: Bytes::copy_from_slice(body),
            status: "internal error".to_owned(),
            response: String::new(),
            seconds: 0.0,
            at,
        }
    }

    fn show(&self) -> Value {
        let hidden = |name: &str, value: &str| {
            let secret = name.eq_ignore_ascii_case("x-gitlab-token")
                || name.eq_ignore_ascii_case("webhook-signature");
            json!(if secret { "[REDACTED]" } else { value })
        };
        let headers: Map<String, Value> = self
            .headers
            .iter()
            .map(|(name, value)| (name.clone(), hidden(name, value)))
            .collect();
        json!({
            "id": self.id,
            "url": self.url,
            "trigger": self.trigger.log_name(),
            "request_headers": headers,
            "request_data": serde_json::from_slice::<Value>(&self.body).unwrap_or(Value::Null),
            "response_headers": {},
            "response_body": self.response,
            "execution_duration": self.seconds,
            "response_status": self.status,
            "created_at": self.at.to_string(),
        })
    }
}

/// `…/hooks…` but for what sends: `resend` and `test` are in `send`.
pub(crate) fn answer(
    world: &mut World,
    call: &Call,
    owner: Owner,
    path: &[&str],
) -> Result<Answer, ApiError> {
    let now = world.now();
    if let ("POST", []) = (call.method.as_str(), path) {
        call.required("url")?;
        let id = world.next_id();
        let mut hook = Hook::new(owner, "", "");
        hook.id = id;
        hook.created_at = now;
        hook.triggers = BTreeSet::from([Trigger::Push]);
        hook.change(call)?;
        let shown = hook.show(now);
        world.hooks.insert(id, hook);
        return Ok(Answer::created(shown));
    }
    if let ("GET", []) = (call.method.as_str(), path) {
        let own = world.hooks.values().filter(|hook| hook.owner == owner);
        return Ok(Answer::Rows(own.map(|hook| hook.show(now)).collect()));
    }
    let id = find(world, owner, path.first().copied().unwrap_or_default())?;
    let hook = world.hooks.get_mut(&id).expect("a hook that was found");
    match (call.method.as_str(), &path[1..]) {
        ("GET", []) => Ok(Answer::ok(hook.show(now))),
        ("PUT", []) => {
            hook.change(call)?;
            Ok(Answer::ok(hook.show(now)))
        }
        ("DELETE", []) => {
            world.hooks.remove(&id);
            Ok(Answer::Nothing)
        }
        ("GET", ["events"]) => {
            let status = call.text("status");
            let week = SignedDuration::from_hours(7 * 24);
            let fits = |row: &Logged| match status.as_deref() {
                None => true,
                Some("successful") => row.status.starts_with('2'),
                Some("client_failure") => row.status.starts_with('4'),
                Some("server_failure") => {
                    row.status.starts_with('5') || row.status == "internal error"
                }
                Some(wanted) => row.status == wanted,
            };
            let rows = hook
                .log
                .iter()
                .rev()
                .filter(|row| now.duration_since(row.at) < week && fits(row));
            Ok(Answer::Rows(rows.map(Logged::show).collect()))
        }
        _ => Err(ApiError::not_found("")),
    }
}

pub(crate) fn find(world: &World, owner: Owner, id: &str) -> Result<u64, ApiError> {
    let found = id
        .parse()
        .ok()
        .and_then(|id: u64| world.hooks.get(&id))
        .filter(|hook| hook.owner == owner);
    Ok(found.ok_or_else(|| ApiError::not_found(""))?.id)
}
