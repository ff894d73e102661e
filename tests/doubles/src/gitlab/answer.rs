//! What a REST function gives back, in GitLab's shapes: objects, pages with their links, and errors of three kinds.

use axum::body::Body;
use bytes::Bytes;
use http::Response;
use serde_json::{Value, json};

use super::call::Call;

/// Past this many rows GitLab leaves totals out.
const COUNTED_ROWS: usize = 10_000;

/// A success.
#[derive(Debug)]
pub(crate) enum Answer {
    /// One object.
    One(u16, Value),
    /// Rows to be paged by `page` and `per_page`.
    Rows(Vec<Value>),
    /// Of so many rows those on the page that the call asks for.
    Page(usize, Vec<Value>),
    /// Rows that may also be paged by key; each with its key.
    KeyedRows(Vec<(String, Value)>),
    /// Bytes as they are, with further headers.
    Raw(Bytes, Vec<(&'static str, String)>),
    /// 204.
    Nothing,
}

/// A refusal.
#[derive(Debug)]
pub(crate) struct ApiError {
    pub(crate) status: u16,
    body: Refusal,
    headers: Vec<(&'static str, String)>,
}

#[derive(Debug)]
enum Refusal {
    Json(Value),
    Plain(&'static str),
}

impl ApiError {
    fn json(status: u16, body: Value) -> Self {
        Self {
            status,
            body: Refusal::Json(body),
            headers: Vec::new(),
        }
    }

    /// `{"message": "404 Project Not Found"}`.
    pub(crate) fn not_found(what: &str) -> Self {
        let message = if what.is_empty() {
            "404 Not Found".to_owned()
        } else {
            format!("404 {what} Not Found")
        };
        Self::json(404, json!({ "message": message }))
    }

    /// `{"message": "403 Forbidden"}`.
    pub(crate) fn forbidden() -> Self {
        Self::json(403, json!({ "message": "403 Forbidden" }))
    }

    /// `{"message": …}` with any status.
    pub(crate) fn message(status: u16, message: impl Into<String>) -> Self {
        Self::json(status, json!({ "message": message.into() }))
    }

    /// `{"message": {field: [problem]}}`.
    pub(crate) fn invalid(field: &str, problem: &str) -> Self {
        Self::json(400, json!({ "message": { field: [problem] } }))
    }

    /// `{"error": …}`, as the parameter checks answer.
    pub(crate) fn parameter(problem: String) -> Self {
        Self::json(400, json!({ "error": problem }))
    }

    /// `{"error": …}` with any status.
    pub(crate) fn error(status: u16, problem: &str) -> Self {
        Self::json(status, json!({ "error": problem }))
    }

    /// `{"error", "error_description"}`, as the token checks answer.
    pub(crate) fn oauth(status: u16, error: &str, description: &str) -> Self {
        Self::json(
            status,
            json!({ "error": error, "error_description": description }),
        )
    }

    /// `insufficient_scope`, which also names the scopes that would do.
    pub(crate) fn scope(wanted: &str) -> Self {
        Self::json(
            403,
            json!({
                "error": "insufficient_scope",
                "error_description": "The request requires higher privileges than provided by the access token.",
                "scope": wanted,
            }),
        )
    }

    /// 429 with the plain body that GitLab's outer limiter sends.
    pub(crate) fn retry_later(after: Option<u64>) -> Self {
        let mut headers = Vec::new();
        if let Some(seconds) = after {
            headers.push(("retry-after", seconds.to_string()));
            headers.push(("ratelimit-limit", "2000".to_owned()));
            headers.push(("ratelimit-remaining", "0".to_owned()));
            headers.push((
                "ratelimit-reset",
                (jiff::Timestamp::now().as_second() + seconds as i64).to_string(),
            ));
            headers.push(("ratelimit-name", "throttle_authenticated_api".to_owned()));
        }
        Self {
            status: 429,
            body: Refusal::Plain("Retry later\n"),
            headers,
        }
    }

    /// 429 of a single endpoint's own limit, in JSON.
    pub(crate) fn too_often() -> Self {
        let said = "This endpoint has been requested too many times. Try again later.";
        let mut error = Self::json(429, json!({ "message": { "error": said } }));
        error.headers.push(("retry-after", "60".to_owned()));
        error
    }

    pub(crate) fn into_response(self) -> Response<Body> {
        let mut builder = Response::builder().status(self.status);
        for (name, value) in self.headers {
            builder = builder.header(name, value);
        }
        let (kind, body) = match self.body {
            Refusal::Json(value) => ("application/json", value.to_string()),
            Refusal::Plain(text) => ("text/plain", text.to_owned()),
        };
        builder
            .header("content-type", kind)
            .body(Body::from(body))
            .expect("a response")
    }
}

impl Answer {
    /// 200 with an object.
    pub(crate) fn ok(value: Value) -> Self {
        Self::One(200, value)
    }

    /// 201 with an object.
    pub(crate) fn created(value: Value) -> Self {
        Self::One(201, value)
    }

    /// The page of these rows that the call asks for; the others are counted and not shown.
    pub(crate) fn page<T>(
        call: &Call,
        rows: impl IntoIterator<Item = T>,
        show: impl FnMut(T) -> Value,
    ) -> Result<Self, ApiError> {
        let (per_page, page) = (rows_per_page(call)?, number_of_page(call)?);
        let rows: Vec<T> = rows.into_iter().collect();
        let total = rows.len();
        let from = (page - 1).saturating_mul(per_page);
        let shown = rows.into_iter().skip(from).take(per_page).map(show);
        Ok(Self::Page(total, shown.collect()))
    }

    /// Renders the answer; pages need the call to make their links.
    pub(crate) fn into_response(self, call: &Call, base: &str) -> Result<Response<Body>, ApiError> {
        let builder = Response::builder().header("content-type", "application/json");
        let response = match self {
            Self::One(status, value) => builder.status(status).body(Body::from(value.to_string())),
            Self::Nothing => Response::builder().status(204).body(Body::empty()),
            Self::Raw(bytes, headers) => {
                let mut builder =
                    Response::builder().header("content-type", "application/octet-stream");
                for (name, value) in headers {
                    builder = builder.header(name, value);
                }
                builder.body(Body::from(bytes))
            }
            Self::Rows(rows) => {
                return Self::page(call, rows, |row| row)?.into_response(call, base);
            }
            Self::Page(total, shown) => return by_offset(total, shown, call, base),
            Self::KeyedRows(rows) if call.text("pagination").as_deref() == Some("keyset") => {
                return by_key(rows, call, base);
            }
            Self::KeyedRows(rows) => {
                return Self::page(call, rows, |(_, row)| row)?.into_response(call, base);
            }
        };
        Ok(response.expect("a response"))
    }
}

fn rows_per_page(call: &Call) -> Result<usize, ApiError> {
    let asked = call.number("per_page")?.unwrap_or(20) as usize;
    if asked == 0 {
        return Err(ApiError::parameter(
            "per_page does not have a valid value".to_owned(),
        ));
    }
    Ok(asked.min(100))
}

fn number_of_page(call: &Call) -> Result<usize, ApiError> {
    Ok(call.number("page")?.unwrap_or(1).max(1) as usize)
}

/// The call's own address with some parameters replaced.
fn link(call: &Call, base: &str, replace: &[(&str, String)]) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    for (name, value) in &call.query {
        if name != "private_token" && !replace.iter().any(|(replaced, _)| replaced == name) {
            query.append_pair(name, value);
        }
    }
    for (name, value) in replace {
        query.append_pair(name, value);
    }
    format!("{base}{}?{}", call.path, query.finish())
}

fn by_offset(
    total: usize,
    shown: Vec<Value>,
    call: &Call,
    base: &str,
) -> Result<Response<Body>, ApiError> {
    let (per_page, page) = (rows_per_page(call)?, number_of_page(call)?);
    let pages = total.div_ceil(per_page).max(1);
    let at = |number: usize| {
        link(
            call,
            base,
            &[
                ("page", number.to_string()),
                ("per_page", per_page.to_string()),
            ],
        )
    };
    let mut links = Vec::new();
    if page > 1 {
        links.push(format!("<{}>; rel=\"prev\"", at(page - 1)));
    }
    if page < pages {
        links.push(format!("<{}>; rel=\"next\"", at(page + 1)));
    }
    links.push(format!("<{}>; rel=\"first\"", at(1)));
    let mut builder = Response::builder()
        .header("content-type", "application/json")
        .header("x-page", page.to_string())
        .header("x-per-page", per_page.to_string())
        .header(
            "x-next-page",
            if page < pages {
                (page + 1).to_string()
            } else {
                String::new()
            },
        )
        .header(
            "x-prev-page",
            if page > 1 {
                (page - 1).to_string()
            } else {
                String::new()
            },
        );
    if total <= COUNTED_ROWS {
        links.push(format!("<{}>; rel=\"last\"", at(pages)));
        builder = builder
            .header("x-total", total.to_string())
            .header("x-total-pages", pages.to_string());
    }
    let body = Body::from(Value::Array(shown).to_string());
    Ok(builder
        .header("link", links.join(", "))
        .body(body)
        .expect("a response"))
}

fn by_key(rows: Vec<(String, Value)>, call: &Call, base: &str) -> Result<Response<Body>, ApiError> {
    let per_page = rows_per_page(call)?;
    let start = match call.text("page_token") {
        None => 0,
        Some(token) => match rows.iter().position(|(key, _)| *key == token) {
            Some(position) => position + 1,
            None => {
                return Err(ApiError::message(
                    404,
                    "404 invalid revision or path Not Found",
                ));
            }
        },
    };
    let more = start + per_page < rows.len();
    let shown: Vec<(String, Value)> = rows.into_iter().skip(start).take(per_page).collect();
    let mut builder = Response::builder()
        .header("content-type", "application/json")
        .header("x-per-page", per_page.to_string());
    if let (true, Some((last, _))) = (more, shown.last()) {
        let next = link(
            call,
            base,
            &[
                ("page_token", last.clone()),
                ("per_page", per_page.to_string()),
            ],
        );
        builder = builder.header("link", format!("<{next}>; rel=\"next\""));
    }
    let body = Value::Array(shown.into_iter().map(|(_, row)| row).collect());
    Ok(builder
        .body(Body::from(body.to_string()))
        .expect("a response"))
}
