//! Each request has an id of this host's making: in the answer's header, in every log line of it, and in the body of every error.
//!
//! An id that the request brings is dropped: what stands in our log is not for the network to choose.

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use serde_json::{Value, json};
use tracing::Instrument as _;

pub(crate) const HEADER: HeaderName = HeaderName::from_static("x-request-id");
/// An error of ours is a few sentences.
const LONGEST_ERROR: usize = 64 * 1024;

/// The id of a request, for whoever answers with a page.
#[derive(Clone, Debug)]
pub(crate) struct RequestId(pub(crate) String);

/// On an answer: whoever made it has logged it already.
#[derive(Clone, Copy, Debug)]
struct Logged;

/// Marks an answer that stands in the log already.
pub(crate) fn logged(mut response: Response) -> Response {
    response.extensions_mut().insert(Logged);
    response
}

/// Gives the request its id.
pub(super) async fn identify(mut request: Request, next: Next) -> Response {
    let id = new();
    request.headers_mut().remove(HEADER);
    request.extensions_mut().insert(RequestId(id.clone()));
    let span = span(&id);
    let answer = async {
        let response = next.run(request).await;
        let status = response.status();
        if !status.is_client_error() && !status.is_server_error() {
            return response;
        }
        if response.extensions().get::<Logged>().is_none() {
            log(status);
        }
        told(response, &id).await
    };
    let mut response = answer.instrument(span).await;
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(HEADER, value);
    }
    response
}

/// The id of what no request could be read from, and the body of its error. It is in the log then.
pub(crate) fn unread(status: StatusCode, why: &str) -> (String, String) {
    let id = new();
    span(&id).in_scope(|| log(status));
    let body = with_id(status, why.as_bytes(), &id);
    (id, body)
}

fn new() -> String {
    uuid::Uuid::new_v4().to_string()
}

fn span(id: &str) -> tracing::Span {
    tracing::info_span!("request", request.id = %id)
}

fn log(status: StatusCode) {
    tracing::info!(
        status = status.as_u16(),
        "a request was answered with an error"
    );
}

/// Puts the id into the body of an error.
async fn told(response: Response, id: &str) -> Response {
    let (mut head, body) = response.into_parts();
    let kind = head.headers.get(header::CONTENT_TYPE);
    if kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/html")) {
        // A page for people, which holds it already.
        return Response::from_parts(head, body);
    }
    let bytes = to_bytes(body, LONGEST_ERROR).await.unwrap_or_default();
    let said = with_id(head.status, &bytes, id);
    head.headers.remove(header::CONTENT_LENGTH);
    head.headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    Response::from_parts(head, Body::from(said))
}

/// What an error says, with the id: one that is JSON stays what it is, a text becomes its `error`.
fn with_id(status: StatusCode, body: &[u8], id: &str) -> String {
    let mut said = match serde_json::from_slice::<Value>(body) {
        Ok(said) if said.is_object() => said,
        _ => {
            let text = String::from_utf8_lossy(body);
            let text = text.trim();
            let word = status.canonical_reason().unwrap_or("error");
            json!({ "error": if text.is_empty() { word } else { text } })
        }
    };
    if let Some(fields) = said.as_object_mut() {
        fields.insert("request".to_owned(), json!(id));
    }
    said.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: &str, expect: Value) {
        let said = with_id(StatusCode::NOT_FOUND, body.as_bytes(), "7");
        assert_eq!(serde_json::from_str::<Value>(&said).unwrap(), expect);
    }

    #[test]
    fn an_error_keeps_what_it_says_and_gains_the_id() {
        check(
            r#"{"error":"no such hook","more":1}"#,
            json!({"error": "no such hook", "more": 1, "request": "7"}),
        );
        check(
            "plain words\n",
            json!({"error": "plain words", "request": "7"}),
        );
        check("", json!({"error": "Not Found", "request": "7"}));
        check("[1]", json!({"error": "[1]", "request": "7"}));
    }
}
