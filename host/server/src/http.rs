//! What is served over HTTP: the hooks, the metrics, the two questions of an orchestrator, the pages of runs, and the deliveries for whoever holds the API's token.

pub(crate) mod request_id;

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use penstock_model::id::{DeliveryId, InstanceName};
use penstock_model::secret::Secret;
use penstock_store::DeliveryFilter;
use serde::Deserialize;
use tower_http::trace::TraceLayer;

use crate::budget::ByteBudget;
use crate::explain;
use crate::host::Host;
use crate::page;
use crate::receive::{Receiver, receive};

/// Everything that this process serves; hooks only if it receives.
pub fn router(host: Arc<Host>, receives: bool) -> Router {
    let mut router = Router::new()
        .route("/healthz", get(async || "ok"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/api/v1/deliveries", get(deliveries))
        .route("/api/v1/deliveries/{instance}/{delivery}", get(delivery))
        .route("/runs/{effect}", get(page::run))
        .with_state(Arc::clone(&host));
    if receives {
        let budget = ByteBudget::new(host.live().config.body_budget);
        let hooks = Router::new()
            .route("/hooks/gitlab/{instance}/{hook}", post(receive))
            .layer(axum::extract::DefaultBodyLimit::disable())
            .with_state(Receiver {
                host: Arc::clone(&host),
                budget,
            });
        let requests = Router::new()
            .route("/incoming", post(crate::incoming::incoming))
            .with_state(host);
        router = router.merge(hooks).merge(requests);
    }
    router
        .layer(TraceLayer::new_for_http().make_span_with(span))
        .layer(axum::middleware::from_fn(request_id::identify))
}

/// A request in the log, without its query: that of a page holds a pass.
fn span(request: &axum::extract::Request) -> tracing::Span {
    tracing::debug_span!("request", method = %request.method(), path = request.uri().path())
}

/// Ready means that a delivery could be taken in: the store is writable and a configuration is in force. Plugins, clusters and GitLab have no part in it.
async fn ready(State(host): State<Arc<Host>>) -> Response {
    match host.looks.ready(&host.store).await {
        Ok(()) => "ok".into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, why.to_string()).into_response(),
    }
}

async fn metrics(State(host): State<Arc<Host>>) -> Response {
    match host.looks.standing(&host.store).await {
        Ok(standing) => {
            let text = host.metrics.render(&standing, &host.live().budgets());
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, why.to_string()).into_response(),
    }
}

/// The API is served to whoever holds its token, and to nobody where none is configured.
fn authorize(host: &Host, headers: &HeaderMap) -> Result<(), Box<Response>> {
    let refuse = |status: StatusCode, why: &str| {
        Box::new((status, Json(serde_json::json!({ "error": why }))).into_response())
    };
    let live = host.live();
    let Some(wanted) = &live.config.api_token else {
        return Err(refuse(
            StatusCode::FORBIDDEN,
            "the API is not served: set `api-token`, or use `penstock explain` on the host",
        ));
    };
    if bearer(headers).as_ref() == Some(wanted) {
        Ok(())
    } else {
        Err(refuse(
            StatusCode::UNAUTHORIZED,
            "send the API's token as `Authorization: Bearer …`",
        ))
    }
}

fn bearer(headers: &HeaderMap) -> Option<Secret> {
    headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "))
        .map(Secret::new)
}

/// Whether a request comes from whoever holds the API's token; nobody does where none is configured.
pub(crate) fn holds_api_token(host: &Host, headers: &HeaderMap) -> bool {
    let live = host.live();
    live.config
        .api_token
        .as_ref()
        .is_some_and(|wanted| bearer(headers).as_ref() == Some(wanted))
}

fn store_failed(error: &penstock_store::StoreError) -> Response {
    tracing::warn!(%error, "the store did not answer a request of the API");
    let answer = serde_json::json!({ "error": "the store does not answer" });
    request_id::logged((StatusCode::SERVICE_UNAVAILABLE, Json(answer)).into_response())
}

#[derive(Debug, Deserialize)]
struct ListQuery {
    project: Option<String>,
    limit: Option<u32>,
}

async fn deliveries(
    State(host): State<Arc<Host>>,
    headers: HeaderMap,
    Query(query): Query<ListQuery>,
) -> Response {
    if let Err(refused) = authorize(&host, &headers) {
        return *refused;
    }
    let filter = DeliveryFilter {
        project: query.project,
        limit: query.limit.unwrap_or(50).min(1_000),
        ..DeliveryFilter::default()
    };
    match host.store.deliveries(filter).await {
        Ok(found) => Json(explain::list(&found)).into_response(),
        Err(error) => store_failed(&error),
    }
}

async fn delivery(
    State(host): State<Arc<Host>>,
    headers: HeaderMap,
    Path((instance, delivery)): Path<(String, String)>,
) -> Response {
    if let Err(refused) = authorize(&host, &headers) {
        return *refused;
    }
    let (instance, delivery) = (InstanceName::new(instance), DeliveryId::new(delivery));
    match host.store.explain(Some(&instance), &delivery).await {
        Ok(Some(explained)) => match explain::Explanation::of(&host.store, explained).await {
            Ok(explanation) => Json(explain::explanation(&explanation)).into_response(),
            Err(error) => store_failed(&error),
        },
        Ok(None) => {
            let answer = serde_json::json!({ "error": "there is no such delivery" });
            (StatusCode::NOT_FOUND, Json(answer)).into_response()
        }
        Err(error) => store_failed(&error),
    }
}
