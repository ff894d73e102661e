//! The page of a run, for whoever follows the link of a commit status: `GET /runs/{effect}?pass=…`.
//!
//! Rendered here, without scripts, from what `explain` tells; every text is escaped. It shows no body and no header, and of a log the end of a failed step where it
//! may be shown. The pass in the link is for this
//! one run; whoever holds the API's token needs none. Without either, a run that is there and one that is not look the same.

use std::sync::Arc;

use axum::extract::{Extension, Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use maud::{DOCTYPE, Markup, html};
use penstock_model::id::EffectId;
use penstock_store::{Explained, ExplainedRoute, StoreError, StoredRun};
use serde::Deserialize;

use crate::excerpt;
use crate::host::Host;
use crate::http::holds_api_token;
use crate::http::request_id::{RequestId, logged};
use crate::text;

/// What a page may load: its own style, and nothing else from anywhere.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color-scheme:light dark}\
 dl{display:grid;grid-template-columns:max-content 1fr;gap:.2rem 1rem}dt{opacity:.7}dd{margin:0;overflow-wrap:anywhere}\
 table{border-collapse:collapse}pre{overflow-x:auto;border:1px solid #8886;padding:.5rem}td,th{text-align:left;padding:.2rem 1rem .2rem 0;vertical-align:top}";

/// What stands after the `?`.
#[derive(Debug, Deserialize)]
pub(crate) struct Pass {
    #[serde(default)]
    pass: String,
}

/// Answers with the page, or with a refusal that says what to do.
pub(crate) async fn run(
    State(host): State<Arc<Host>>,
    Extension(request): Extension<RequestId>,
    headers: HeaderMap,
    Path(effect): Path<String>,
    Query(Pass { pass }): Query<Pass>,
) -> Response {
    let live = host.live();
    let allowed = EffectId::parse(&effect)
        .ok()
        .filter(|id| live.keys.is_pass(id, &pass) || holds_api_token(&host, &headers));
    let Some(id) = allowed else {
        let said = "This link does not open a page: follow the one in the commit's status, or send the API's token as `Authorization: Bearer …`.";
        return answer(StatusCode::FORBIDDEN, &notice(said, &request));
    };
    match find(&host, &id).await {
        Ok(Some((mut run, explained))) => {
            if run.log_excerpt.is_some() && !excerpt::may_show(&live, &run).await {
                run.log_excerpt = None;
            }
            let gitlab = live
                .instance(&run.of.instance)
                .map(|instance| instance.client.base_url().to_owned());
            answer(StatusCode::OK, &page(&run, &explained, gitlab.as_deref()))
        }
        Ok(None) => answer(
            StatusCode::NOT_FOUND,
            &notice("What was known of this run has expired.", &request),
        ),
        Err(error) => {
            tracing::warn!(%error, "the store did not answer a request for a page");
            let said = "The store does not answer; try again in a moment.";
            logged(answer(
                StatusCode::SERVICE_UNAVAILABLE,
                &notice(said, &request),
            ))
        }
    }
}

async fn find(host: &Host, id: &EffectId) -> Result<Option<(StoredRun, Explained)>, StoreError> {
    let Some(run) = host.store.run(id).await? else {
        return Ok(None);
    };
    let explained = host
        .store
        .explain(Some(&run.delivery.instance), &run.delivery.id)
        .await?;
    Ok(explained.map(|explained| (run, explained)))
}

fn answer(status: StatusCode, page: &Markup) -> Response {
    let headers = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        // The pass stands in the address: it goes to nobody else and is kept nowhere.
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (
            header::HeaderName::from_static("x-robots-tag"),
            "noindex, nofollow",
        ),
    ];
    (status, headers, Html(page.0.clone())).into_response()
}

fn frame(title: &str, inside: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width";
                title { (title) }
                style { (maud::PreEscaped(STYLE)) }
            }
            body { (inside) }
        }
    }
}

fn notice(text: &str, RequestId(request): &RequestId) -> Markup {
    frame(
        "Penstock",
        &html! { h1 { "Penstock" } p { (text) } p { small { "request " (request) } } },
    )
}

fn page(run: &StoredRun, explained: &Explained, gitlab: Option<&str>) -> Markup {
    let title = format!("{}: {}", run.run.pipeline, run.run.state.as_str());
    let inside = html! {
        h1 { (run.run.pipeline) ": " (run.run.state.as_str()) }
        @if !run.run.reason.is_empty() { p { (run.run.reason) } }
        (facts(run, gitlab))
        @if let Some(excerpt) = &run.log_excerpt {
            h2 { "The end of the failed step's log" }
            pre { (excerpt) }
        }
        @if !run.run.results.is_empty() {
            h2 { "Results" }
            dl { @for (name, value) in &run.run.results { dt { (name) } dd { (value) } } }
        }
        h2 { "Why it started" }
        dl {
            dt { "delivery" } dd { (explained.delivery.key.id) }
            dt { "event" } dd { (explained.delivery.kind) ", received " (text::time(explained.delivery.received_at)) }
            dt { "plugin" } dd { (run.run.plugin) " (" (run.plugin_digest) ")" }
            dt { "trusted as" } dd { (run.trust.as_str()) }
        }
        @for route in explained.routes.iter().filter(|it| it.route == run.route) { (decision(route)) }
        @if explained.runs.len() > 1 { (siblings(run, explained)) }
    };
    frame(&title, &inside)
}

fn facts(run: &StoredRun, gitlab: Option<&str>) -> Markup {
    let of_project = gitlab.map(|base| format!("{base}/{}", run.of.path));
    let commit = of_project
        .as_ref()
        .map(|project| format!("{project}/-/commit/{}", run.run.commit));
    let times = [
        ("decided", Some(run.run.created_at)),
        ("started", run.run.started_at),
        ("ended", run.run.finished_at),
    ];
    html! {
        dl {
            dt { "project" } dd { (linked(of_project.as_deref(), run.of.path.as_str())) }
            dt { "commit" } dd { (linked(commit.as_deref(), run.run.commit.as_str())) }
            @if let Some(name) = &run.run.ref_name { dt { "ref" } dd { (name) } }
            @if let Some(iid) = run.run.merge_request { dt { "merge request" } dd { "!" (iid) } }
            @for (what, at) in times {
                @if let Some(at) = at { dt { (what) } dd { (text::time(at)) } }
            }
            @if let Some(took) = took(run) { dt { "took" } dd { (took) } }
            @if let Some(task) = &run.failed_task { dt { "failed task" } dd { (task) } }
            dt { "PipelineRun" } dd { (run.namespace) "/" (run.name) " on " (run.cluster) }
            dt { "accounts" } dd { "created by " (run.creator) ", its pods run as " (run.run_as) }
        }
    }
}

fn took(run: &StoredRun) -> Option<String> {
    let (started, finished) = (run.run.started_at?, run.run.finished_at?);
    Some(text::duration(finished.since(started)))
}

/// Only addresses of the web are made links: what a name holds must not become a script.
fn linked(address: Option<&str>, words: &str) -> Markup {
    let of_the_web = address.filter(|it| it.starts_with("https://") || it.starts_with("http://"));
    html! {
        @match of_the_web {
            Some(address) => a href=(address) rel="noreferrer" { (words) },
            None => (words),
        }
    }
}

fn decision(route: &ExplainedRoute) -> Markup {
    html! {
        h3 { "Attempt " (route.attempt) ": " (route.outcome.as_str()) }
        @if let Some(why) = &route.why { p { (why) } }
        @if !route.reasons.is_empty() {
            ul { @for reason in &route.reasons { li { (reason) } } }
        }
        @if !route.warnings.is_empty() {
            p { "Warnings: " (crate::plugins::list(&route.warnings)) }
        }
        @if !route.refused.is_empty() {
            p { "Not done:" }
            ul {
                @for refusal in &route.refused {
                    li { (refusal.key) " " (refusal.path) ": " (refusal.rule) ". " (refusal.remedy) }
                }
            }
        }
    }
}

fn siblings(run: &StoredRun, explained: &Explained) -> Markup {
    html! {
        h2 { "Runs of the same event" }
        table {
            tr { th { "pipeline" } th { "state" } th { "PipelineRun" } }
            @for other in explained.runs.iter().filter(|it| it.run.id != run.run.id) {
                tr {
                    td { (other.run.pipeline) }
                    td { (other.run.state.as_str()) }
                    td { (other.namespace) "/" (other.name) }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_the_web_are_links_and_texts_are_escaped() {
        let odd = "<script>alert(1)</script>";
        let shown = linked(Some("javascript:alert(1)"), odd).0;
        assert_eq!(shown, "&lt;script&gt;alert(1)&lt;/script&gt;");
        let shown = linked(Some("https://gitlab.example.com/\" onload=x"), "y").0;
        assert!(!shown.contains("\" onload"), "{shown}");
        let shown = notice(odd, &RequestId("7".to_owned())).0;
        assert!(!shown.contains(odd) && shown.contains("&lt;script&gt;"));
    }
}
