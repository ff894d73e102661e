//! The way in: `POST /hooks/gitlab/{instance}/{hook}`.
//!
//! A request whose headers show no good credential is refused before its body is read. A body takes its share of the byte budget, is read, verified, held against the hook's scope and stored durably; then, and only then, GitLab gets its 2xx.
//! Nothing here asks a plugin, a rule or GitLab: the answer depends on the request and the store alone.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use penstock_gitlab::{Accepted, ScopeError, VerifyError, screen, verify};
use penstock_model::id::{DeliveryId, HookName, InstanceName, Timestamp};
use penstock_store::{Appended, DeliveryKey, NewDelivery};
use serde::Serialize;

use crate::budget::{ByteBudget, Share};
use crate::host::Host;
use crate::http::request_id::logged;
use crate::live::{Instance, Live};
use crate::trace;

/// GitLab's payloads have at most 25 MB.
const LARGEST_BODY: u64 = 26 * 1024 * 1024;
/// GitLab waits ten seconds for an answer.
const SLOWEST_BODY: Duration = Duration::from_secs(8);
/// Reading a body of this size takes longer than other requests should wait for.
const LARGE: usize = 512 * 1024;

/// What receiving needs.
#[derive(Clone)]
pub struct Receiver {
    /// The host.
    pub host: Arc<Host>,
    /// The bytes that bodies may take together.
    pub budget: ByteBudget,
}

/// What GitLab shows in the hook's log.
#[derive(Debug, Serialize)]
struct Receipt {
    delivery: DeliveryId,
    /// `accepted`, `duplicate` or `same-event`.
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    link: Option<String>,
    explain: String,
    /// Of a duplicate: when the first one came; of the same event through another hook: the delivery that decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    first: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry: Option<String>,
}

/// Why a request was turned away.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error(
        "there is no such hook: the address is /hooks/gitlab/INSTANCE/HOOK with the names of Penstock's configuration"
    )]
    UnknownHook,
    #[error("the body is larger than {LARGEST_BODY} bytes")]
    TooLarge,
    #[error("the body did not arrive within {SLOWEST_BODY:?}")]
    TooSlow,
    #[error("the body did not arrive whole")]
    Broken,
    #[error("{0}")]
    Spent(#[from] crate::budget::Spent),
    #[error("{0}")]
    Unverified(#[from] VerifyError),
    #[error("{0}")]
    Scope(#[from] ScopeError),
    #[error("the delivery could not be stored; GitLab may send it again later")]
    Store(#[from] penstock_store::StoreError),
}

impl Refused {
    fn status(&self) -> StatusCode {
        match self {
            Self::UnknownHook => StatusCode::NOT_FOUND,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Broken | Self::Scope(ScopeError::NotJson { .. }) => StatusCode::BAD_REQUEST,
            Self::Unverified(_) => StatusCode::UNAUTHORIZED,
            Self::Scope(_) => StatusCode::FORBIDDEN,
            // Old GitLabs disable a hook for good on a 4xx: what is not the request's own fault is a 5xx.
            Self::TooSlow | Self::Spent(_) | Self::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The word for the metrics.
    fn word(&self) -> &'static str {
        match self {
            Self::UnknownHook => "unknown-hook",
            Self::TooLarge => "too-large",
            Self::TooSlow => "too-slow",
            Self::Broken => "broken-body",
            Self::Scope(ScopeError::NotJson { .. }) => "not-json",
            Self::Unverified(_) => "unverified",
            Self::Scope(_) => "out-of-scope",
            Self::Spent(_) => "budget-spent",
            Self::Store(_) => "store-unavailable",
        }
    }
}

/// Takes a webhook in.
pub async fn receive(
    State(receiver): State<Receiver>,
    Path((instance, hook)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let begun = SystemTime::now();
    let (instance, hook) = (InstanceName::new(instance), HookName::new(hook));
    let outcome = take_in(&receiver, &instance, &hook, &headers, body).await;
    let metrics = &receiver.host.metrics;
    match outcome {
        Ok((status, receipt)) => {
            metrics.received(instance.as_str(), hook.as_str(), receipt.status);
            tracing::info!(
                delivery.id = %receipt.delivery, hook = %hook, status = receipt.status, "received a delivery"
            );
            let key = DeliveryKey {
                instance,
                id: receipt.delivery.clone(),
            };
            trace::received(&trace::Receipt {
                key: &key,
                hook: hook.as_str(),
                status: receipt.status,
                begun,
                headers: &headers,
            });
            (status, Json(receipt)).into_response()
        }
        Err(refused) => {
            let status = refused.status();
            // Names that nobody configured come from the network: they are no labels.
            let known = !matches!(refused, Refused::UnknownHook);
            let (instance, hook) = if known {
                (instance.as_str(), hook.as_str())
            } else {
                ("unknown", "unknown")
            };
            metrics.received(instance, hook, refused.word());
            let cause = std::error::Error::source(&refused).map(ToString::to_string);
            if status.is_server_error() {
                tracing::error!(hook, error = %refused, cause, "a delivery was not taken in");
            } else {
                tracing::warn!(
                    hook,
                    reason = refused.word(),
                    "a request to a hook was turned away"
                );
            }
            let answer = serde_json::json!({ "error": refused.to_string() });
            logged((status, Json(answer)).into_response())
        }
    }
}

async fn take_in(
    receiver: &Receiver,
    instance_name: &InstanceName,
    hook_name: &HookName,
    headers: &HeaderMap,
    body: Body,
) -> Result<(StatusCode, Receipt), Refused> {
    let live = receiver.host.live();
    let instance = Arc::clone(live.instance(instance_name).ok_or(Refused::UnknownHook)?);
    let hook = instance.hook(hook_name).ok_or(Refused::UnknownHook)?;
    let announced = headers
        .get(axum::http::header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.parse::<u64>().ok());
    if announced.is_some_and(|length| length > LARGEST_BODY) {
        return Err(Refused::TooLarge);
    }
    // Who shows no credential, or a wrong one, gets no memory and no time.
    screen(&hook.keys, headers, Timestamp::now())?;
    let (body, _shares) = read(body, &receiver.budget).await?;
    let large = body.len() > LARGE;
    let check = {
        let (hook_name, headers, instance_name) =
            (hook_name.clone(), headers.clone(), instance_name.clone());
        move || accept(&instance, &instance_name, &hook_name, &headers, body)
    };
    let accepted = if large {
        tokio::task::spawn_blocking(check)
            .await
            .map_err(|_| Refused::Broken)??
    } else {
        check()?
    };
    let delivery = new_delivery(&live, &accepted);
    let appended = receiver.host.store.append(delivery).await?;
    Ok(receipt(&live, &accepted, &appended))
}

/// Reads a body, taking its share of the budget as it arrives: a request that announces much and sends nothing holds nothing.
async fn read(body: Body, budget: &ByteBudget) -> Result<(Bytes, Vec<Share>), Refused> {
    let all = async {
        let mut chunks = body.into_data_stream();
        let (mut read, mut shares) = (BytesMut::new(), Vec::new());
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|_| Refused::Broken)?;
            if (read.len() + chunk.len()) as u64 > LARGEST_BODY {
                return Err(Refused::TooLarge);
            }
            shares.push(budget.take(chunk.len() as u64).await?);
            read.extend_from_slice(&chunk);
        }
        Ok((read.freeze(), shares))
    };
    tokio::time::timeout(SLOWEST_BODY, all)
        .await
        .unwrap_or(Err(Refused::TooSlow))
}

fn accept(
    instance: &Instance,
    instance_name: &InstanceName,
    hook_name: &HookName,
    headers: &HeaderMap,
    body: Bytes,
) -> Result<Accepted, Refused> {
    let hook = instance.hook(hook_name).ok_or(Refused::UnknownHook)?;
    let verified = verify(&hook.keys, headers, body, Timestamp::now())?;
    Ok(verified.within(&hook.scope, instance_name, hook_name, &instance.redaction)?)
}

/// A delivery to be kept, of what was accepted.
pub(crate) fn new_delivery(live: &Live, accepted: &Accepted) -> NewDelivery {
    let claim = accepted.project();
    let path = claim.path.as_ref().map(|path| path.as_str());
    let tenant = path
        .and_then(|path| live.belonging(path).ok())
        .map(|found| found.tenant.name());
    NewDelivery {
        key: DeliveryKey {
            instance: accepted.instance().clone(),
            id: accepted.delivery().clone(),
        },
        hook: accepted.hook().clone(),
        event_header: accepted.event().to_owned(),
        kind: accepted.kind().to_owned(),
        headers: accepted.headers().to_vec(),
        body: accepted.body().clone(),
        body_digest: accepted.body_digest(),
        tenant,
        project: claim.id.zip(claim.path.clone()),
        lane: accepted.lane().clone(),
        received_at: Timestamp::now(),
    }
}

fn receipt(live: &Live, accepted: &Accepted, appended: &Appended) -> (StatusCode, Receipt) {
    let id = accepted.delivery();
    let config = &live.config;
    // Without the API's token nobody may follow it.
    let link = config
        .public_url
        .as_ref()
        .filter(|_| config.api_token.is_some())
        .map(|url| format!("{url}/api/v1/deliveries/{}/{id}", accepted.instance()));
    let (code, status, first, retry) = match appended {
        Appended::New { .. } => (StatusCode::ACCEPTED, "accepted", None, None),
        Appended::Duplicate { first_received_at } => (
            StatusCode::OK,
            "duplicate",
            Some(crate::text::time(*first_received_at)),
            Some(format!("penstock deliveries retry {id}")),
        ),
        Appended::SameEvent { first } => {
            (StatusCode::OK, "same-event", Some(first.to_string()), None)
        }
    };
    let receipt = Receipt {
        delivery: id.clone(),
        status,
        link,
        explain: format!("penstock explain {id}"),
        first,
        retry,
    };
    (code, receipt)
}
