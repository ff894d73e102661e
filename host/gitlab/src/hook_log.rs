//! A hook as GitLab keeps it: whether it is called, which of its calls failed, and how they are had again.
//!
//! What a row of the log holds is GitLab's own word, asked for with our token at the configured address: it is taken in like a body that the hook's
//! key verified, held against the same scope and redacted the same way. GitLab keeps rows for a week, and none for what it did not send at all: a
//! hook that was disabled leaves nothing here.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use penstock_model::id::{HookName, InstanceName, Timestamp};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::api::or_default;
use crate::call::Call;
use crate::client::Client;
use crate::error::ApiError;
use crate::redact::Redaction;
use crate::scope::{Accepted, HookScope, ScopeError};
use crate::verify::{IDEMPOTENCY_KEY, VerifiedBody};

/// Rows of a page: one can hold a whole body.
const PER_PAGE: &str = "20";
/// Bytes of a page that are taken.
const MOST_PAGE: u64 = 128 << 20;
/// Pages that are looked through.
const MOST_PAGES: usize = 100;
const MOST_HOOK_PAGES: usize = 10;
/// GitLab sends no more than five again in a minute, for each user and project or group.
pub const BETWEEN_RESENDS: Duration = Duration::from_secs(13);

/// A hook that calls us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownHook {
    /// GitLab's id.
    pub id: u64,
    /// Its address.
    pub url: String,
    /// Whether GitLab calls it.
    pub state: HookState,
    /// Kinds of events that it sends, such as `push` and `merge_requests`.
    pub events: Vec<String>,
    /// Only pushes of branches that fit are sent; empty: all.
    pub branch_filter: String,
}

/// Whether GitLab calls a hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HookState {
    /// It does.
    Enabled,
    /// Not before a time, because calls failed.
    Paused {
        /// ISO 8601.
        until: String,
    },
    /// No more, until a test succeeds or somebody switches it on.
    Disabled,
}

impl HookState {
    /// The word of metrics and messages.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Enabled => "enabled",
            Self::Paused { .. } => "paused",
            Self::Disabled => "disabled",
        }
    }
}

/// A call that did not succeed.
#[derive(Clone, Debug)]
pub struct FailedCall {
    /// GitLab's id of the row.
    pub id: u64,
    /// When it was made.
    pub at: Timestamp,
    /// Status of the answer, or GitLab's word for none.
    pub status: String,
    headers: HeaderMap,
    body: Option<Bytes>,
}

/// Calls that failed since a time, oldest first.
#[derive(Clone, Debug, Default)]
pub struct FailedCalls {
    /// They.
    pub calls: Vec<FailedCall>,
    /// Nothing older was left out.
    pub complete: bool,
}

/// Why a row of the log can't be taken in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotReadBack {
    /// The body was too large for GitLab to keep, or the row names no `Idempotency-Key`: it must be sent again.
    #[error("GitLab's log of the hook does not hold all of it")]
    Incomplete,
    /// It is not the hook's to tell of.
    #[error(transparent)]
    Scope(#[from] ScopeError),
}

#[derive(Deserialize)]
struct HookRow {
    id: u64,
    url: String,
    #[serde(default)]
    alert_status: Option<String>,
    #[serde(default)]
    disabled_until: Option<String>,
    #[serde(default, deserialize_with = "or_default")]
    push_events_branch_filter: String,
    #[serde(flatten)]
    more: serde_json::Map<String, Value>,
}

#[derive(Deserialize)]
struct CallRow {
    id: u64,
    #[serde(default)]
    request_headers: Option<HashMap<String, Value>>,
    #[serde(default)]
    request_data: Option<Box<RawValue>>,
    #[serde(default)]
    response_status: Option<Value>,
    #[serde(default, deserialize_with = "or_default")]
    created_at: String,
}

/// A path below `/groups/…/hooks` or `/projects/…/hooks`.
struct Owner {
    kind: &'static str,
    name: String,
}

impl Owner {
    fn of(scope: &HookScope) -> Option<Self> {
        let (kind, name) = match scope {
            HookScope::Group(path) => ("groups", path.clone()),
            HookScope::Project(path) => ("projects", path.clone()),
            HookScope::ProjectId(id) => ("projects", id.to_string()),
            // System hooks keep no log that the API shows.
            HookScope::Instance => return None,
        };
        Some(Self { kind, name })
    }

    fn path<'a>(&'a self, rest: &[&'a str]) -> Vec<&'a str> {
        let mut path = vec![self.kind, self.name.as_str(), "hooks"];
        path.extend(rest);
        path
    }
}

/// The hook of a scope whose address ends in `path`, such as `/hooks/gitlab/main/acme`; none: there is no such hook, or a system hook is meant.
///
/// # Errors
/// GitLab has no answer, or does not show hooks to our user.
pub async fn known_hook(
    client: &Client,
    scope: &HookScope,
    path: &str,
) -> Result<Option<KnownHook>, ApiError> {
    let Some(owner) = Owner::of(scope) else {
        return Ok(None);
    };
    let segments = owner.path(&[]);
    let rows = client
        .pages::<HookRow>(&Call::get("hooks", &segments), MOST_HOOK_PAGES)
        .await?
        .rows;
    let found = rows
        .into_iter()
        .find(|row| row.url.trim_end_matches('/').ends_with(path));
    Ok(found.map(KnownHook::from))
}

/// Calls of a hook that did not succeed, made at `since` or later.
///
/// # Errors
/// GitLab has no answer, or does not show the log to our user.
pub async fn failed_calls(
    client: &Client,
    scope: &HookScope,
    hook: u64,
    since: Timestamp,
) -> Result<FailedCalls, ApiError> {
    let Some(owner) = Owner::of(scope) else {
        return Ok(FailedCalls::default());
    };
    let hook = hook.to_string();
    let segments = owner.path(&[&hook, "events"]);
    let mut calls = BTreeMap::new();
    let mut complete = true;
    // The log of a busy hook is long, and each row has a whole body: those that went well are not asked for. A GitLab that
    // does not know the filter lists all.
    for failure in ["client_failure", "server_failure"] {
        complete &= listed(client, &segments, failure, since, &mut calls).await?;
    }
    Ok(FailedCalls {
        calls: calls.into_values().collect(),
        complete,
    })
}

/// Reads one list, newest first; false: it is too long.
async fn listed(
    client: &Client,
    segments: &[&str],
    status: &str,
    since: Timestamp,
    calls: &mut BTreeMap<(Timestamp, u64), FailedCall>,
) -> Result<bool, ApiError> {
    for page in 1..=MOST_PAGES {
        let page = page.to_string();
        let call = Call::get("hook.events", segments)
            .with("status", status)
            .with("per_page", PER_PAGE)
            .with("page", &page)
            .at_most(MOST_PAGE);
        let rows: Vec<CallRow> = client.now(&call).await?;
        let mut last = rows.is_empty();
        for row in rows {
            let Ok(at) = row.created_at.parse::<jiff::Timestamp>() else {
                continue;
            };
            let at = Timestamp(u64::try_from(at.as_millisecond()).unwrap_or_default());
            last |= at < since;
            if let Some(failed) = FailedCall::of(row, at).filter(|failed| failed.at >= since) {
                calls.insert((at, failed.id), failed);
            }
        }
        if last {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Has a call made again. The answer is only whether GitLab took the wish: what comes, comes by the hook.
///
/// # Errors
/// GitLab has no answer, or refuses.
pub async fn resend(
    client: &Client,
    scope: &HookScope,
    hook: u64,
    call: u64,
) -> Result<(), ApiError> {
    let (hook, call) = (hook.to_string(), call.to_string());
    post(
        client,
        "hook.resend",
        scope,
        &[&hook, "events", &call, "resend"],
    )
    .await
}

/// Has a test event sent; a success switches a hook on that was paused or disabled. `trigger` is GitLab's word, such as `push_events`.
///
/// # Errors
/// GitLab has no answer, or refuses: for some triggers the project must have something to tell of.
pub async fn test_hook(
    client: &Client,
    scope: &HookScope,
    hook: u64,
    trigger: &str,
) -> Result<(), ApiError> {
    let hook = hook.to_string();
    post(client, "hook.test", scope, &[&hook, "test", trigger]).await
}

async fn post(
    client: &Client,
    class: &'static str,
    scope: &HookScope,
    rest: &[&str],
) -> Result<(), ApiError> {
    let Some(owner) = Owner::of(scope) else {
        return Err(ApiError::NotFound(
            "system hooks have no such call".to_owned(),
        ));
    };
    let segments = owner.path(rest);
    client
        .send(&Call::new(Method::POST, class, &segments))
        .await
        .map(drop)
}

impl From<HookRow> for KnownHook {
    fn from(row: HookRow) -> Self {
        let events = row
            .more
            .iter()
            .filter(|(_, value)| **value == Value::Bool(true))
            .filter_map(|(name, _)| name.strip_suffix("_events").map(str::to_owned))
            .collect();
        let state = match (row.alert_status.as_deref(), row.disabled_until) {
            (Some("disabled"), _) => HookState::Disabled,
            (Some("temporarily_disabled"), Some(until)) => HookState::Paused { until },
            // A GitLab that says only until when.
            (None, Some(until)) => HookState::Paused { until },
            _ => HookState::Enabled,
        };
        Self {
            id: row.id,
            url: row.url,
            state,
            events,
            branch_filter: row.push_events_branch_filter,
        }
    }
}

impl FailedCall {
    /// None: it succeeded.
    fn of(row: CallRow, at: Timestamp) -> Option<Self> {
        let status = match row.response_status {
            Some(Value::String(text)) => text,
            Some(other) => other.to_string(),
            None => "no answer".to_owned(),
        };
        let well = status
            .parse::<u16>()
            .is_ok_and(|status| (200..300).contains(&status));
        if well {
            return None;
        }
        let mut headers = HeaderMap::new();
        for (name, value) in row.request_headers.unwrap_or_default() {
            let name = HeaderName::from_bytes(name.to_ascii_lowercase().as_bytes());
            let value = value
                .as_str()
                .and_then(|text| HeaderValue::from_str(text).ok());
            if let (Ok(name), Some(value)) = (name, value) {
                headers.insert(name, value);
            }
        }
        let body = row
            .request_data
            .map(|data| Bytes::from(data.get().to_owned()));
        Some(Self {
            id: row.id,
            at,
            status,
            headers,
            // What GitLab puts where a body was too large to keep, or where it is gone.
            body: body.filter(|body| is_whole(body)),
        })
    }

    /// Takes the body in as if it had come through the hook, under the id that it would have had.
    ///
    /// # Errors
    /// The log does not hold enough of it, or it is out of the hook's scope.
    pub fn read_back(
        self,
        scope: &HookScope,
        instance: &InstanceName,
        hook: &HookName,
        redaction: &Redaction,
    ) -> Result<Accepted, NotReadBack> {
        // Without the key the id would be made of the body, which GitLab does not give as it was sent.
        let body = self
            .body
            .filter(|_| self.headers.contains_key(IDEMPOTENCY_KEY))
            .ok_or(NotReadBack::Incomplete)?;
        let verified = VerifiedBody::read_back(body, self.headers);
        Ok(verified.within(scope, instance, hook, redaction)?)
    }
}

fn is_whole(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Kept {
        #[serde(default)]
        oversize: bool,
    }
    serde_json::from_slice::<Kept>(body).is_ok_and(|kept| !kept.oversize) && body != b"{}"
}
