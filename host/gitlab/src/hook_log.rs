//! The log that GitLab keeps of a webhook's calls: which failed, and how they are had again.
//!
//! What a row of the log holds is GitLab's own word, asked for with our token at the configured address: it is taken in like a body that the hook's
//! key verified, held against the same scope and redacted the same way. GitLab keeps rows for a week, and none for what it did not send at all: a
//! hook that was disabled leaves nothing here.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use penstock_model::id::{HookName, InstanceName, Timestamp};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::api::or_default;
use crate::call::Call;
use crate::client::Client;
use crate::error::ApiError;
use crate::hooks::{Owner, post};
use crate::redact::Redaction;
use crate::scope::{Accepted, HookScope, ScopeError};
use crate::verify::{IDEMPOTENCY_KEY, VerifiedBody};

/// Rows of a page: one can hold a whole body.
const PER_PAGE: usize = 20;
/// Bytes of an answer that are taken: the largest body fits, with its headers. A page that is larger is read row by row.
const MOST_PAGE: u64 = 32 << 20;
/// Bytes of bodies and headers that are held at a time.
const MOST_HELD: usize = 32 << 20;
/// Pages that are looked through.
const MOST_PAGES: usize = 100;
/// GitLab sends no more than five again in a minute, for each user and project or group.
pub const BETWEEN_RESENDS: Duration = Duration::from_secs(13);

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
    /// Those from here on were left out: all of them are too large to be held at once. The next look begins here.
    pub rest_from: Option<Timestamp>,
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
    // System hooks keep no log that the API shows.
    if *scope == HookScope::Instance {
        return Ok(FailedCalls::default());
    }
    let owner = Owner::of(scope);
    let hook = hook.to_string();
    let segments = owner.path(&[&hook, "events"]);
    let mut held = Held::new(since, MOST_HELD);
    let mut complete = true;
    // The log of a busy hook is long, and each row has a whole body: those that went well are not asked for. A GitLab that
    // does not know the filter lists all.
    for failure in ["client_failure", "server_failure"] {
        complete &= listed(client, &segments, failure, &mut held).await?;
    }
    Ok(FailedCalls {
        calls: held.calls.into_values().collect(),
        complete,
        rest_from: held.rest_from,
    })
}

/// Calls that are held: the oldest, as many as there is room for.
struct Held {
    since: Timestamp,
    room: usize,
    size: usize,
    calls: BTreeMap<(Timestamp, u64), FailedCall>,
    rest_from: Option<Timestamp>,
}

impl Held {
    fn new(since: Timestamp, room: usize) -> Self {
        Self {
            since,
            room,
            size: 0,
            calls: BTreeMap::new(),
            rest_from: None,
        }
    }

    /// Takes a row; true: it is older than what is looked for.
    fn take(&mut self, row: CallRow) -> bool {
        let Ok(at) = row.created_at.parse::<jiff::Timestamp>() else {
            return false;
        };
        let at = Timestamp(u64::try_from(at.as_millisecond()).unwrap_or_default());
        if at < self.since {
            return true;
        }
        let left_out = self.rest_from.is_some_and(|rest| at >= rest);
        if let Some(failed) = FailedCall::of(row, at).filter(|_| !left_out) {
            self.size += failed.size();
            if let Some(same) = self.calls.insert((at, failed.id), failed) {
                self.size -= same.size();
            }
            self.leave_out();
        }
        false
    }

    /// Leaves the newest out until the rest fits. Those of the oldest moment stay, or the next look would begin where this one did.
    fn leave_out(&mut self) {
        while self.size > self.room {
            let first = self.calls.first_key_value().map(|((at, _), _)| *at);
            let Some(((at, _), call)) = self.calls.pop_last() else {
                return;
            };
            if Some(at) == first {
                self.calls.insert((at, call.id), call);
                return;
            }
            self.size -= call.size();
            self.rest_from = Some(at);
        }
        // All of one moment go together.
        if let Some(rest) = self.rest_from {
            let newer = self.calls.split_off(&(rest, 0));
            self.size -= newer.values().map(FailedCall::size).sum::<usize>();
        }
    }
}

/// Reads one list, newest first; false: it is too long.
async fn listed(
    client: &Client,
    segments: &[&str],
    status: &str,
    held: &mut Held,
) -> Result<bool, ApiError> {
    for page in 0..MOST_PAGES {
        let rows = match rows(client, segments, status, PER_PAGE, page).await {
            Ok(rows) => rows,
            Err(ApiError::TooLarge { .. }) => {
                if one_by_one(client, segments, status, page, held).await? {
                    return Ok(true);
                }
                continue;
            }
            Err(error) => return Err(error),
        };
        let mut last = rows.len() < PER_PAGE;
        for row in rows {
            last |= held.take(row);
        }
        if last {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Reads the rows of a page that is too large, each alone; true: the list ends here.
async fn one_by_one(
    client: &Client,
    segments: &[&str],
    status: &str,
    page: usize,
    held: &mut Held,
) -> Result<bool, ApiError> {
    let mut last = false;
    for row in page * PER_PAGE..(page + 1) * PER_PAGE {
        let rows = rows(client, segments, status, 1, row).await?;
        last |= rows.is_empty();
        for row in rows {
            last |= held.take(row);
        }
        if last {
            break;
        }
    }
    Ok(last)
}

/// A page of this many rows, counted from 0.
async fn rows(
    client: &Client,
    segments: &[&str],
    status: &str,
    per_page: usize,
    page: usize,
) -> Result<Vec<CallRow>, ApiError> {
    let (per_page, page) = (per_page.to_string(), (page + 1).to_string());
    let call = Call::get("hook.events", segments)
        .with("status", status)
        .with("per_page", &per_page)
        .with("page", &page)
        .at_most(MOST_PAGE);
    client.now(&call).await
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

impl FailedCall {
    fn size(&self) -> usize {
        let headers = self.headers.iter();
        let headers = headers.map(|(name, value)| name.as_str().len() + value.len());
        self.body.as_ref().map_or(0, Bytes::len) + headers.sum::<usize>()
    }

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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn row(id: u64, second: u8, bytes: usize) -> CallRow {
        let row = json!({
            "id": id,
            "request_data": { "x": "x".repeat(bytes - r#"{"x":""}"#.len()) },
            "response_status": "500",
            "created_at": format!("2026-11-25T10:00:{second:02}.000Z"),
        });
        serde_json::from_value(row).unwrap()
    }

    fn ids(held: &Held) -> Vec<u64> {
        held.calls.values().map(|call| call.id).collect()
    }

    fn at(second: u8) -> Option<Timestamp> {
        let text = format!("2026-11-25T10:00:{second:02}Z");
        let at = text.parse::<jiff::Timestamp>().unwrap();
        Some(Timestamp(at.as_millisecond().try_into().unwrap()))
    }

    #[test]
    fn of_more_than_there_is_room_for_the_oldest_are_held_and_the_next_look_begins_at_the_rest() {
        let mut held = Held::new(Timestamp(0), 100);
        // Newest first, as GitLab lists them.
        for (id, second) in [(5, 50), (4, 40), (3, 30), (2, 20), (1, 10)] {
            assert!(!held.take(row(id, second, 40)));
        }
        assert_eq!((ids(&held), held.rest_from), (vec![1, 2], at(30)));
        assert_eq!(held.size, 80);
        // The second list begins at the newest again: it leaves no gap.
        assert!(!held.take(row(6, 55, 10)));
        assert!(!held.take(row(7, 15, 10)));
        assert_eq!((ids(&held), held.rest_from), (vec![1, 7, 2], at(30)));
        let mut next = Held::new(at(30).unwrap(), 100);
        for (id, second) in [(5, 50), (4, 40), (3, 30)] {
            assert!(!next.take(row(id, second, 40)));
        }
        assert!(next.take(row(2, 20, 40)), "it is older");
        assert_eq!((ids(&next), next.rest_from), (vec![3, 4], at(50)));
    }

    #[test]
    fn one_that_is_too_large_alone_is_held_nevertheless() {
        let mut held = Held::new(Timestamp(0), 100);
        held.take(row(3, 20, 40));
        held.take(row(2, 10, 60));
        held.take(row(1, 10, 150));
        assert_eq!((ids(&held), held.rest_from), (vec![1, 2], at(20)));
        assert_eq!(held.size, 210, "those of one moment go together");
    }

    #[test]
    fn those_of_one_moment_are_left_out_together() {
        let mut held = Held::new(Timestamp(0), 100);
        for (id, second) in [(3, 20), (2, 20), (1, 10)] {
            held.take(row(id, second, 40));
        }
        assert_eq!((ids(&held), held.rest_from), (vec![1], at(20)));
        assert_eq!(held.size, 40);
    }
}
