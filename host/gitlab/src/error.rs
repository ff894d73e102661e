//! What GitLab's API can answer instead of what was asked for.
//!
//! GitLab writes errors in three shapes, `{"message": "…"}`, `{"message": {field: ["…"]}}` and `{"error", "error_description"}`,
//! and at times as plain text. Messages are cut and freed of control characters; no error ever holds a token or an address.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderMap, StatusCode};
use penstock_model::lookup::HostFault;
use serde_json::Value;

/// Longest text of GitLab's that an error repeats, in characters.
const LONGEST: usize = 500;

/// Longest wait that GitLab is believed.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// Why a call of GitLab's API gave no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// No answer, 408, 429 or 5xx: try again.
    #[error("GitLab can't be asked now: {what}")]
    Unavailable {
        /// What happened.
        what: String,
        /// What GitLab asked to wait.
        retry_after: Option<Duration>,
    },
    /// 401: the token is wrong, expired or revoked.
    #[error("GitLab does not take the token: {0}; see `penstock check`")]
    Unauthorized(String),
    /// 403.
    #[error("GitLab refuses it: {0}")]
    Forbidden(String),
    /// 404: it is not there, or the token's user may not see it.
    #[error("GitLab does not show it: {0}")]
    NotFound(String),
    /// 409.
    #[error("GitLab says that something else is under way: {0}")]
    Conflict(String),
    /// Any other status.
    #[error("GitLab answered {status}: {message}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// What GitLab said.
        message: String,
    },
    /// The answer is larger than the caller takes.
    #[error("GitLab's answer is larger than {limit} bytes")]
    TooLarge {
        /// Bytes that would have been taken.
        limit: u64,
        /// Its size, where GitLab said it, else what had come.
        size: u64,
    },
    /// The answer is not what the API promises.
    #[error("GitLab's answer to `{class}` can't be read: {problem}")]
    Unreadable {
        /// What was asked.
        class: &'static str,
        /// What is wrong with the answer.
        problem: String,
    },
}

impl ApiError {
    /// What GitLab asked to wait before the next try.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unavailable { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// The world says no: it is not there or must not be seen. Everything else is a fault of the host or of GitLab.
    pub fn is_denial(&self) -> bool {
        matches!(self, Self::NotFound(_) | Self::Forbidden(_))
    }

    pub(crate) fn unavailable(what: impl Into<String>) -> Self {
        Self::Unavailable {
            what: what.into(),
            retry_after: None,
        }
    }

    /// Reads an answer that is no success.
    pub(crate) fn of(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Self {
        let message = message(status, body);
        match status.as_u16() {
            401 => Self::Unauthorized(message),
            403 => Self::Forbidden(message),
            404 => Self::NotFound(message),
            409 => Self::Conflict(message),
            408 | 429 | 500..=599 => Self::Unavailable {
                what: format!("it answered {}: {message}", status.as_u16()),
                retry_after: wait(headers),
            },
            status => Self::Refused { status, message },
        }
    }
}

impl From<ApiError> for HostFault {
    fn from(error: ApiError) -> Self {
        let wait = error.retry_after();
        Self {
            what: error.to_string(),
            retry_after: wait.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)),
        }
    }
}

/// Why something was not written to GitLab.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ActError {
    /// It would never be taken. Says why and what to do.
    #[error("{0}")]
    Permanent(String),
    /// Try again later.
    #[error("{what}")]
    Retry {
        /// What happened.
        what: String,
        /// What GitLab asked to wait.
        after: Option<Duration>,
    },
}

impl From<ApiError> for ActError {
    /// A refusal is for good, but for 401 and 409: a token is mended, and a lock is given up.
    fn from(error: ApiError) -> Self {
        match &error {
            ApiError::Unavailable { retry_after, .. } => Self::Retry {
                after: *retry_after,
                what: error.to_string(),
            },
            ApiError::Unauthorized(_) | ApiError::Conflict(_) | ApiError::Unreadable { .. } => {
                Self::Retry {
                    what: error.to_string(),
                    after: None,
                }
            }
            ApiError::Forbidden(_)
            | ApiError::NotFound(_)
            | ApiError::Refused { .. }
            | ApiError::TooLarge { .. } => Self::Permanent(error.to_string()),
        }
    }
}

/// It is GitLab's outer limiter that refuses, for all calls of the token: it answers plain text.
pub(crate) fn is_whole_token_limited(status: StatusCode, body: &[u8]) -> bool {
    status == StatusCode::TOO_MANY_REQUESTS && serde_json::from_slice::<Value>(body).is_err()
}

fn message(status: StatusCode, body: &[u8]) -> String {
    let said = serde_json::from_slice::<Value>(body)
        .ok()
        .and_then(|value| {
            let error = value.get("error").map(words);
            let more = value
                .get("error_description")
                .or_else(|| value.get("message"))
                .map(words);
            match (error, more) {
                (Some(error), Some(more)) => Some(format!("{error}: {more}")),
                (one, other) => one.or(other),
            }
        });
    let said = said.unwrap_or_else(|| {
        let text = String::from_utf8_lossy(body);
        // A page for people, of GitLab or of a proxy before it, says nothing that helps here.
        if text.trim_start().starts_with('<') {
            String::new()
        } else {
            text.into_owned()
        }
    });
    let clean: String = said
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(LONGEST)
        .collect();
    let clean = clean.trim();
    if clean.is_empty() {
        status
            .canonical_reason()
            .unwrap_or("no reason given")
            .to_owned()
    } else {
        clean.to_owned()
    }
}

/// A text, a list of texts, or fields with lists of texts, as one line.
fn words(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(words).collect::<Vec<_>>().join(", "),
        Value::Object(fields) => {
            let fields = fields
                .iter()
                .map(|(name, problems)| format!("{name} {}", words(problems)));
            fields.collect::<Vec<_>>().join("; ")
        }
        other => other.to_string(),
    }
}

fn wait(headers: &HeaderMap) -> Option<Duration> {
    let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<u64>().ok();
    let reset = || {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        number("ratelimit-reset").map(|at| at.saturating_sub(now))
    };
    let seconds = number("retry-after").or_else(reset)?;
    Some(Duration::from_secs(seconds).min(LONGEST_WAIT))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(status: u16, headers: &[(&'static str, &str)], body: &str) -> ApiError {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().unwrap());
        }
        ApiError::of(StatusCode::from_u16(status).unwrap(), &map, body.as_bytes())
    }

    #[test]
    fn all_shapes_of_an_error_are_read() {
        for (body, said) in [
            (
                r#"{"message":"404 Project Not Found"}"#,
                "404 Project Not Found",
            ),
            (
                r#"{"message":{"name":["is taken","is short"],"base":["x"]}}"#,
                "base x; name is taken, is short",
            ),
            (
                r#"{"error":"invalid_token","error_description":"Token was revoked."}"#,
                "invalid_token: Token was revoked.",
            ),
            (r#"{"error":"state is missing"}"#, "state is missing"),
            ("Retry later\n", "Retry later"),
            ("<html><body>502</body></html>", "Not Found"),
            ("", "Not Found"),
            ("a\u{1b}[31mb", "a [31mb"),
        ] {
            assert_eq!(of(404, &[], body), ApiError::NotFound(said.to_owned()));
        }
    }

    #[test]
    fn what_may_pass_is_told_from_what_will_not() {
        for status in [408, 429, 500, 502, 503, 504] {
            assert!(
                matches!(of(status, &[], "x"), ApiError::Unavailable { .. }),
                "{status}"
            );
            assert!(
                matches!(ActError::from(of(status, &[], "x")), ActError::Retry { .. }),
                "{status}"
            );
        }
        for (status, retried) in [
            (401, true),
            (409, true),
            (400, false),
            (403, false),
            (404, false),
            (422, false),
        ] {
            let error = ActError::from(of(status, &[], "x"));
            assert_eq!(matches!(error, ActError::Retry { .. }), retried, "{status}");
        }
    }

    #[test]
    fn a_wait_is_read_from_either_header_and_capped() {
        let seconds = |headers: &[(&'static str, &str)]| {
            of(429, headers, "").retry_after().map(|it| it.as_secs())
        };
        assert_eq!(seconds(&[("retry-after", "7")]), Some(7));
        assert_eq!(seconds(&[("retry-after", "99999999")]), Some(3600));
        assert_eq!(seconds(&[("ratelimit-reset", "1")]), Some(0));
        assert_eq!(seconds(&[("retry-after", "soon")]), None);
        assert_eq!(seconds(&[]), None);
    }

    #[test]
    fn a_long_message_is_cut() {
        let ApiError::Refused { message, .. } = of(400, &[], &"x".repeat(5000)) else {
            panic!()
        };
        assert_eq!(message.len(), LONGEST);
    }
}
