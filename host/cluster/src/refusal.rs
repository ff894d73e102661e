//! Reads an answer that is not a success: what kind of trouble it is, whoever asked.
//!
//! Follows the API server's `Status` objects (API conventions of Kubernetes, `Failure`), and goes by texts only where
//! they hold nothing else: RBAC, quotas and admission plugins all say `Forbidden`.

use std::time::Duration;

use http::StatusCode;
use serde::Deserialize;

use crate::wire::{Answer, Lost};

/// Longest message that is handed on, in characters.
const MESSAGE: usize = 1000;
/// When a namespace's quota is worth another try.
const QUOTA_PAUSE: Duration = Duration::from_secs(30);
/// The longest pause that is taken from an answer: something between us and the API server may ask for years.
const LONGEST_PAUSE: Duration = Duration::from_secs(60 * 60);

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The token or certificate is not (or no longer) good.
    Unauthorized(String),
    /// RBAC says no.
    Denied(String),
    /// The object or the change itself is refused: validation, an admission webhook or policy.
    Refused(String),
    /// The namespace is being deleted.
    Terminating,
    /// An object that is needed, or was asked for, isn't there; its kind in plural, such as `namespaces`.
    NotFound(String),
    /// The API server does not know the resource at all.
    NoResource,
    /// The name is in use.
    Exists,
    /// The object is not, or no longer, the one that was meant.
    Conflict(String),
    /// More bytes than the API server or etcd take.
    TooLarge,
    /// Not now.
    Unavailable {
        /// Why.
        why: String,
        /// The API server's wish.
        retry_after: Option<Duration>,
    },
}

impl From<Lost> for Trouble {
    fn from(lost: Lost) -> Self {
        Self::Unavailable {
            why: lost.why,
            retry_after: None,
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    message: String,
    reason: String,
    details: Option<Details>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Details {
    kind: String,
    causes: Vec<Cause>,
    #[serde(rename = "retryAfterSeconds")]
    retry_after: Option<u64>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Cause {
    reason: String,
}

/// The answer if it is a success, else what is wrong.
pub(crate) fn accepted(answer: Answer) -> Result<Answer, Trouble> {
    if answer.status.is_success() {
        Ok(answer)
    } else {
        Err(trouble(&answer))
    }
}

fn trouble(answer: &Answer) -> Trouble {
    let status: Option<Status> = serde_json::from_slice(&answer.body).ok();
    let spoken = status.is_some();
    let Status {
        message,
        reason,
        details,
    } = status.unwrap_or_default();
    let details = details.unwrap_or_default();
    let said = if message.is_empty() {
        format!(
            "HTTP {}: {}",
            answer.status.as_u16(),
            cut(&String::from_utf8_lossy(&answer.body), 200)
        )
    } else {
        cut(&message, MESSAGE)
    };
    let unavailable = |retry_after: Option<Duration>| Trouble::Unavailable {
        why: said.clone(),
        retry_after: retry_after.map(|wish| wish.min(LONGEST_PAUSE)),
    };
    match answer.status {
        StatusCode::UNAUTHORIZED => Trouble::Unauthorized(said),
        StatusCode::FORBIDDEN => {
            let terminating = details
                .causes
                .iter()
                .any(|cause| cause.reason == "NamespaceTerminating");
            if terminating {
                Trouble::Terminating
            } else if message.contains("exceeded quota:") {
                unavailable(Some(QUOTA_PAUSE))
            } else if is_rbac(&message) {
                Trouble::Denied(said)
            } else {
                Trouble::Refused(said)
            }
        }
        StatusCode::NOT_FOUND if spoken && reason == "NotFound" && !details.kind.is_empty() => {
            Trouble::NotFound(details.kind)
        }
        StatusCode::NOT_FOUND => Trouble::NoResource,
        StatusCode::CONFLICT if reason == "AlreadyExists" => Trouble::Exists,
        StatusCode::CONFLICT => Trouble::Conflict(said),
        StatusCode::PAYLOAD_TOO_LARGE => Trouble::TooLarge,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => unavailable(
            answer
                .retry_after
                .or(details.retry_after.map(Duration::from_secs)),
        ),
        status if status.is_server_error() => {
            // etcd's client has a limit of its own, which the API server does not know as such.
            if message.contains("larger than max") || message.contains("request is too large") {
                Trouble::TooLarge
            } else {
                unavailable(
                    answer
                        .retry_after
                        .or(details.retry_after.map(Duration::from_secs)),
                )
            }
        }
        _ => Trouble::Refused(said),
    }
}

/// The text of an authorizer, as against that of an admission plugin.
fn is_rbac(message: &str) -> bool {
    message.contains("cannot ")
        && (message.contains(" resource \"") || message.contains(" path \""))
}

/// At most so many characters, with a sign where it was cut.
pub(crate) fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default().trim_end()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::json;

    use super::*;

    fn check(code: u16, body: &serde_json::Value, expect: &Trouble) {
        let answer = Answer {
            status: StatusCode::from_u16(code).unwrap(),
            retry_after: None,
            body: Bytes::from(body.to_string()),
        };
        assert_eq!(trouble(&answer), *expect, "{body}");
    }

    #[test]
    fn a_denial_by_rbac_is_told_from_a_refusal_by_an_admission_plugin() {
        let rbac = "pipelineruns.tekton.dev is forbidden: User \"system:serviceaccount:a:creator\" cannot create resource \"pipelineruns\" in API group \"tekton.dev\" in the namespace \"a\"";
        check(
            403,
            &json!({"message": rbac, "reason": "Forbidden"}),
            &Trouble::Denied(rbac.into()),
        );
        let plugin = "pipelineruns.tekton.dev \"x\" is forbidden: ValidatingAdmissionPolicy 'no-root' denied request: runs as root";
        check(
            403,
            &json!({"message": plugin, "reason": "Forbidden"}),
            &Trouble::Refused(plugin.into()),
        );
        let webhook = "admission webhook \"validation.webhook.pipeline.tekton.dev\" denied the request: validation failed: missing field(s): spec";
        check(
            400,
            &json!({"message": webhook, "reason": "BadRequest"}),
            &Trouble::Refused(webhook.into()),
        );
    }

    #[test]
    fn a_used_up_quota_and_a_webhook_that_is_away_pass_by_themselves() {
        let quota = "pipelineruns.tekton.dev \"x\" is forbidden: exceeded quota: runs, requested: count/pipelineruns.tekton.dev=1";
        let expect = Trouble::Unavailable {
            why: quota.into(),
            retry_after: Some(QUOTA_PAUSE),
        };
        check(
            403,
            &json!({"message": quota, "reason": "Forbidden"}),
            &expect,
        );
        let webhook = "Internal error occurred: failed calling webhook \"webhook.pipeline.tekton.dev\": connection refused";
        let expect = Trouble::Unavailable {
            why: webhook.into(),
            retry_after: None,
        };
        check(
            500,
            &json!({"message": webhook, "reason": "InternalError"}),
            &expect,
        );
    }

    #[test]
    fn a_missing_namespace_is_told_from_a_missing_api() {
        let gone = json!({"message": "namespaces \"x\" not found", "reason": "NotFound", "details": {"name": "x", "kind": "namespaces"}});
        check(404, &gone, &Trouble::NotFound("namespaces".into()));
        check(404, &json!("404 page not found"), &Trouble::NoResource);
        let ending = json!({"message": "unable to create new content in namespace x because it is being terminated", "reason": "Forbidden",
            "details": {"causes": [{"reason": "NamespaceTerminating", "field": "metadata.namespace"}]}});
        check(403, &ending, &Trouble::Terminating);
    }

    #[test]
    fn the_wish_to_be_left_alone_for_a_while_is_kept() {
        let body = json!({"message": "too many requests", "reason": "TooManyRequests", "details": {"retryAfterSeconds": 7}});
        let expect = Trouble::Unavailable {
            why: "too many requests".into(),
            retry_after: Some(Duration::from_secs(7)),
        };
        check(429, &body, &expect);
    }

    #[test]
    fn a_wish_for_years_is_one_for_an_hour() {
        for (header, body) in [
            (Some(Duration::from_secs(u64::MAX)), json!({})),
            (
                None,
                json!({"details": {"retryAfterSeconds": 100_000_000_u64}}),
            ),
        ] {
            let answer = Answer {
                status: StatusCode::SERVICE_UNAVAILABLE,
                retry_after: header,
                body: Bytes::from(body.to_string()),
            };
            let Trouble::Unavailable { retry_after, .. } = trouble(&answer) else {
                panic!("it is for another try")
            };
            assert_eq!(retry_after, Some(Duration::from_secs(3600)));
        }
    }

    #[test]
    fn a_run_that_etcd_does_not_take_is_too_large() {
        check(
            413,
            &json!({"message": "etcdserver: request is too large", "reason": "RequestEntityTooLarge"}),
            &Trouble::TooLarge,
        );
        check(
            500,
            &json!({"message": "rpc error: trying to send message larger than max (3 vs. 2)"}),
            &Trouble::TooLarge,
        );
    }

    #[test]
    fn an_answer_of_something_that_is_no_api_server_is_shown_cut() {
        let answer = Answer {
            status: StatusCode::BAD_GATEWAY,
            retry_after: None,
            body: Bytes::from("<html>".repeat(200)),
        };
        let Trouble::Unavailable { why, .. } = trouble(&answer) else {
            panic!("a gateway's error is for another try")
        };
        assert!(
            why.starts_with("HTTP 502: <html>") && why.len() < 300,
            "{why}"
        );
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(cut("äöü", 2), "äö…");
        assert_eq!(cut("äöü", 3), "äöü");
    }
}
