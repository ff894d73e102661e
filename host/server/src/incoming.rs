//! `POST /incoming`: somebody who holds a secret asks for a run, with the parameters of Pipelines-as-Code.
//!
//! The request is judged by the configuration alone (who, which branches, which parameters), stored durably like a delivery of GitLab's, and only then
//! answered. Its secret is compared and dropped; what is kept is what was asked for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Json;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use penstock_gitlab::Incoming;
use penstock_gitlab::incoming::{KIND, hook_name};
use penstock_model::id::{DeliveryId, Digest, InstanceName, Timestamp};
use penstock_model::lane::{Lane, Subject};
use penstock_model::secret::Secret;
use penstock_store::{Appended, DeliveryKey, NewDelivery};
use serde_json::{Value, json};

use crate::config::IncomingConfig;
use crate::host::Host;
use crate::http::request_id::logged;
use crate::trace;

/// Bytes of a request.
const LARGEST: usize = 64 * 1024;
/// How long its body may take.
const SLOWEST: Duration = Duration::from_secs(8);
/// Characters of a name or value.
const LONGEST: usize = 4096;

/// Why a request was turned away.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("there is no such `repository`, or the `secret` is not its own")]
    Unknown,
    #[error("`{0}` is missing or empty")]
    Missing(&'static str),
    #[error("{0}")]
    Malformed(String),
    #[error("`{0}` is not among the `targets` of this entry")]
    Target(String),
    #[error("`{0}` is not among the `params` of this entry")]
    Parameter(String),
    #[error("the request could not be stored; send it again later")]
    Store(#[from] penstock_store::StoreError),
}

impl Refused {
    fn status(&self) -> StatusCode {
        match self {
            Self::Unknown => StatusCode::UNAUTHORIZED,
            Self::Missing(_) | Self::Malformed(_) => StatusCode::BAD_REQUEST,
            Self::Target(_) | Self::Parameter(_) => StatusCode::FORBIDDEN,
            Self::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The word for the metrics.
    fn word(&self) -> &'static str {
        match self {
            Self::Unknown => "unverified",
            Self::Missing(_) | Self::Malformed(_) => "malformed",
            Self::Target(_) | Self::Parameter(_) => "out-of-scope",
            Self::Store(_) => "store-unavailable",
        }
    }
}

/// What a request says, from its query and its body; the body wins.
#[derive(Default)]
struct Said {
    repository: Option<String>,
    branch: Option<String>,
    pipelinerun: Option<String>,
    secret: Option<Secret>,
    params: BTreeMap<String, String>,
}

/// Takes a request in.
pub(crate) async fn incoming(
    State(host): State<Arc<Host>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let begun = SystemTime::now();
    match take_in(&host, query.as_deref().unwrap_or_default(), &headers, body).await {
        Ok((instance, entry, delivery, status)) => {
            host.metrics.received(&instance, &entry, status);
            tracing::info!(delivery.id = %delivery, hook = entry, status, "received a request for a run");
            let key = DeliveryKey {
                instance: InstanceName::from(instance.as_str()),
                id: delivery.clone(),
            };
            trace::received(&trace::Receipt {
                key: &key,
                hook: &entry,
                status,
                begun,
                headers: &headers,
            });
            let link = host
                .live()
                .config
                .public_url
                .as_ref()
                .map(|url| format!("{url}/api/v1/deliveries/{instance}/{delivery}"));
            let answer = json!({
                "delivery": delivery,
                "status": status,
                "link": link,
                "explain": format!("penstock explain {delivery}"),
            });
            (StatusCode::ACCEPTED, Json(answer)).into_response()
        }
        Err(refused) => {
            host.metrics.received("unknown", KIND, refused.word());
            match &refused {
                Refused::Store(error) => {
                    tracing::error!(%error, "a request for a run was not taken in");
                }
                _ => tracing::warn!(
                    reason = refused.word(),
                    "a request for a run was turned away"
                ),
            }
            let answer = json!({ "error": refused.to_string() });
            logged((refused.status(), Json(answer)).into_response())
        }
    }
}

async fn take_in(
    host: &Host,
    query: &str,
    headers: &HeaderMap,
    body: Body,
) -> Result<(String, String, DeliveryId, &'static str), Refused> {
    let read = tokio::time::timeout(SLOWEST, axum::body::to_bytes(body, LARGEST)).await;
    let body = read
        .map_err(|_| Refused::Malformed(format!("the body did not arrive within {SLOWEST:?}")))?
        .map_err(|_| {
            Refused::Malformed(format!(
                "the body has more than {LARGEST} bytes, or broke off"
            ))
        })?;
    let said = read_request(query, headers, &body)?;
    let live = host.live();
    let name = said
        .repository
        .clone()
        .ok_or(Refused::Missing("repository"))?;
    let given = said.secret.as_ref().ok_or(Refused::Missing("secret"))?;
    let (instance, entry) = live
        .incoming(&name)
        // All keys are looked at, whichever is right.
        .filter(|(_, entry)| entry.secrets.iter().filter(|key| *key == given).count() > 0)
        .ok_or(Refused::Unknown)?;
    let asked = judge(entry, said)?;
    let tenant = live
        .belonging(entry.path.as_str())
        .ok()
        .map(|found| found.tenant.name());
    let delivery = new_delivery(instance, entry, &asked, &id(headers, &name), tenant);
    let id = delivery.key.id.clone();
    let status = match host.store.append(delivery).await? {
        Appended::New { .. } => "accepted",
        Appended::Duplicate { .. } => "duplicate",
        Appended::SameEvent { .. } => "same-event",
    };
    Ok((instance.to_string(), name, id, status))
}

/// A request that is sent again with the same `Idempotency-Key` is the same; without one each is another.
fn id(headers: &HeaderMap, entry: &str) -> DeliveryId {
    let key = headers
        .get("idempotency-key")
        .and_then(|value| value.to_str().ok())
        .filter(|value| !value.is_empty() && value.len() <= 200);
    let key = match key {
        Some(key) => Digest::of(key.as_bytes()).hex(),
        None => uuid::Uuid::new_v4().simple().to_string(),
    };
    DeliveryId::new(format!(
        "incoming-{entry}-{}",
        key.get(..32).unwrap_or(&key)
    ))
}

fn judge(entry: &IncomingConfig, said: Said) -> Result<Incoming, Refused> {
    let branch = said.branch.ok_or(Refused::Missing("branch"))?;
    let branch = branch
        .strip_prefix("refs/heads/")
        .map_or(branch.clone(), str::to_owned);
    if !entry
        .targets
        .iter()
        .any(|target| is_target(target, &branch))
    {
        return Err(Refused::Target(branch));
    }
    let unknown = said
        .params
        .keys()
        .find(|name| !entry.parameters.contains(name));
    if let Some(name) = unknown {
        return Err(Refused::Parameter(name.clone()));
    }
    Ok(Incoming {
        project: entry.project,
        path: entry.path.clone(),
        branch,
        pipeline: said.pipelinerun,
        parameters: said.params.into_iter().collect(),
    })
}

/// A `*` at the end stands for any rest.
fn is_target(target: &str, branch: &str) -> bool {
    match target.strip_suffix('*') {
        Some(start) => branch.starts_with(start),
        None => branch == target,
    }
}

fn new_delivery(
    instance: &InstanceName,
    entry: &IncomingConfig,
    asked: &Incoming,
    id: &DeliveryId,
    tenant: Option<penstock_model::id::TenantName>,
) -> NewDelivery {
    let body = asked.body();
    NewDelivery {
        key: DeliveryKey {
            instance: instance.clone(),
            id: id.clone(),
        },
        hook: hook_name(&entry.name),
        event_header: String::new(),
        kind: KIND.to_owned(),
        headers: Vec::new(),
        body_digest: Digest::of(&body),
        body,
        tenant,
        project: Some((entry.project, entry.path.clone())),
        lane: Lane {
            instance: instance.clone(),
            project: Some(entry.project),
            subject: Subject::Ref(asked.ref_name()),
        },
        received_at: Timestamp::now(),
    }
}

fn read_request(query: &str, headers: &HeaderMap, body: &Bytes) -> Result<Said, Refused> {
    let mut said = Said::default();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        said.set(&name, value.into_owned())?;
    }
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    if body.is_empty() {
        return Ok(said);
    }
    if kind.starts_with("application/x-www-form-urlencoded") {
        for (name, value) in form_urlencoded::parse(body) {
            said.set(&name, value.into_owned())?;
        }
        return Ok(said);
    }
    let Ok(Value::Object(fields)) = serde_json::from_slice(body) else {
        let why = "the body is no JSON object and no form";
        return Err(Refused::Malformed(why.to_owned()));
    };
    for (name, value) in fields {
        match (name.as_str(), value) {
            ("params", Value::Object(params)) => {
                for (name, value) in params {
                    said.parameter(name, &value)?;
                }
            }
            ("params", Value::Null) => {}
            ("params", _) => {
                let why = "`params` is an object of names and values";
                return Err(Refused::Malformed(why.to_owned()));
            }
            (_, Value::String(value)) => said.set(&name, value)?,
            (_, Value::Null) => {}
            _ => return Err(Refused::Malformed(format!("`{}` is no text", cut(&name)))),
        }
    }
    Ok(said)
}

impl Said {
    fn set(&mut self, name: &str, value: String) -> Result<(), Refused> {
        if value.chars().count() > LONGEST {
            return Err(Refused::Malformed(format!("`{}` is too long", cut(name))));
        }
        let value = Some(value).filter(|value| !value.is_empty());
        match name {
            "repository" => self.repository = value,
            "branch" => self.branch = value,
            "pipelinerun" => self.pipelinerun = value,
            "secret" => self.secret = value.map(Secret::new),
            // Places are the configuration's to choose.
            "namespace" => {}
            other => {
                return Err(Refused::Malformed(format!(
                    "there is no parameter `{}`: a request has repository, branch, pipelinerun, secret, namespace and params",
                    cut(other)
                )));
            }
        }
        Ok(())
    }

    fn parameter(&mut self, name: String, value: &Value) -> Result<(), Refused> {
        let value = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            Value::Bool(truth) => truth.to_string(),
            _ => {
                return Err(Refused::Malformed(format!(
                    "`params.{}` is no text, number or truth value",
                    cut(&name)
                )));
            }
        };
        if value.chars().count() > LONGEST {
            return Err(Refused::Malformed(format!(
                "`params.{}` is too long",
                cut(&name)
            )));
        }
        self.params.insert(name, value);
        Ok(())
    }
}

/// A name of the network's, fit for a message.
fn cut(name: &str) -> String {
    name.chars().take(80).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> IncomingConfig {
        IncomingConfig {
            name: "api".to_owned(),
            project: penstock_model::id::ProjectId(7),
            path: "acme/api".into(),
            secrets: vec![Secret::new("s")],
            targets: vec!["main".to_owned(), "release/*".to_owned()],
            parameters: vec!["version".to_owned()],
        }
    }

    fn json(body: &str) -> Result<Said, Refused> {
        read_request(
            "",
            &HeaderMap::new(),
            &Bytes::copy_from_slice(body.as_bytes()),
        )
    }

    #[test]
    fn a_request_is_read_from_query_form_and_json_and_the_body_wins() {
        let query = "repository=api&branch=main&pipelinerun=nightly&secret=s";
        let said = read_request(query, &HeaderMap::new(), &Bytes::new()).unwrap();
        assert_eq!(said.repository.as_deref(), Some("api"));
        assert_eq!(said.secret, Some(Secret::new("s")));
        let body = r#"{"branch":"release/2","params":{"version":2,"dry":true},"namespace":"x"}"#;
        let said = read_request(
            query,
            &HeaderMap::new(),
            &Bytes::from_static(body.as_bytes()),
        );
        let said = said.unwrap();
        assert_eq!(said.branch.as_deref(), Some("release/2"));
        assert_eq!(said.params["version"], "2");
        assert_eq!(said.params["dry"], "true");
        let mut form = HeaderMap::new();
        form.insert(
            header::CONTENT_TYPE,
            "application/x-www-form-urlencoded".parse().unwrap(),
        );
        let said = read_request(
            "",
            &form,
            &Bytes::from_static(b"repository=api&branch=a%2Fb"),
        );
        assert_eq!(said.unwrap().branch.as_deref(), Some("a/b"));
    }

    #[test]
    fn what_is_odd_is_malformed_and_never_panics() {
        for body in [
            "[]",
            "no json",
            r#"{"branch":1}"#,
            r#"{"params":[]}"#,
            r#"{"params":{"a":{}}}"#,
            r#"{"brunch":"main"}"#,
        ] {
            assert!(matches!(json(body), Err(Refused::Malformed(_))), "{body}");
        }
    }

    #[test]
    fn only_listed_branches_and_parameters_are_taken() {
        let ask = |branch: &str, params: &str| {
            judge(
                &entry(),
                json(&format!(r#"{{"branch":"{branch}","params":{params}}}"#)).unwrap(),
            )
        };
        for branch in ["main", "refs/heads/main", "release/", "release/1/2"] {
            assert!(ask(branch, "{}").is_ok(), "{branch}");
        }
        for branch in ["Main", "mainline", "releases", "refs/tags/main"] {
            assert!(
                matches!(ask(branch, "{}"), Err(Refused::Target(_))),
                "{branch}"
            );
        }
        assert!(ask("main", r#"{"version":"1"}"#).is_ok());
        assert!(matches!(
            ask("main", r#"{"image":"x"}"#),
            Err(Refused::Parameter(_))
        ));
        assert!(matches!(
            judge(&entry(), json("{}").unwrap()),
            Err(Refused::Missing("branch"))
        ));
    }

    #[test]
    fn the_same_key_is_the_same_request() {
        let mut headers = HeaderMap::new();
        assert_ne!(id(&headers, "api"), id(&headers, "api"));
        headers.insert("idempotency-key", "one".parse().unwrap());
        assert_eq!(id(&headers, "api"), id(&headers, "api"));
        assert_ne!(id(&headers, "api"), id(&headers, "web"));
    }
}
