//! One call of the API: how its address is written, how it is sent, how its pages are followed.
//!
//! Nothing that a payload or a plugin names can leave its segment of the path. Redirects are not followed and of a link to the
//! next page only the query is taken, so the token is sent to the configured address alone.

use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use penstock_model::id::ProjectId;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::client::{CallReport, Client, header, read};
use crate::error::{ApiError, is_whole_token_limited};

/// Unreserved characters of RFC 3986 stay as they are.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// Bytes of JSON that are taken: more than any page of the API has.
const MOST_JSON: u64 = 32 << 20;

/// Bytes of an error that are read.
const MOST_ERROR: u64 = 64 << 10;

/// Rows of a page; GitLab gives no more.
const PER_PAGE: &str = "100";

/// How long nothing is sent after GitLab refused the token as a whole and named no time.
const UNNAMED_PAUSE: std::time::Duration = std::time::Duration::from_secs(10);

/// One call.
#[derive(Clone, Debug)]
pub(crate) struct Call<'a> {
    pub(crate) class: &'static str,
    method: Method,
    /// Below the base address.
    root: &'static str,
    path: &'a [&'a str],
    query: Vec<(&'a str, &'a str)>,
    body: Option<Value>,
    project: Option<ProjectId>,
    most: u64,
}

/// A success.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// Rows of several pages.
#[derive(Debug)]
pub(crate) struct Rows<T> {
    pub(crate) rows: Vec<T>,
    /// No further page was left out.
    pub(crate) complete: bool,
}

impl<'a> Call<'a> {
    pub(crate) fn new(method: Method, class: &'static str, path: &'a [&'a str]) -> Self {
        Self {
            class,
            method,
            root: "api/v4",
            path,
            query: Vec::new(),
            body: None,
            project: None,
            most: MOST_JSON,
        }
    }

    pub(crate) fn get(class: &'static str, path: &'a [&'a str]) -> Self {
        Self::new(Method::GET, class, path)
    }

    /// A question in GraphQL; its text is ours, and what it is about stands in its variables.
    pub(crate) fn graphql(class: &'static str, body: Value) -> Self {
        Self {
            root: "api",
            ..Self::new(Method::POST, class, &["graphql"]).json(body)
        }
    }

    /// Adds a parameter to the query.
    pub(crate) fn with(mut self, name: &'a str, value: &'a str) -> Self {
        self.query.push((name, value));
        self
    }

    pub(crate) fn json(mut self, body: Value) -> Self {
        self.body = Some(body);
        self
    }

    /// Whose share of the budget it is.
    pub(crate) fn of(mut self, project: ProjectId) -> Self {
        self.project = Some(project);
        self
    }

    /// Most bytes that are taken of the answer.
    pub(crate) fn at_most(mut self, bytes: u64) -> Self {
        self.most = bytes;
        self
    }

    /// Names the answer in a cache.
    pub(crate) fn key(&self) -> String {
        format!("{}?{}", self.path_text(), self.query_text())
    }

    fn path_text(&self) -> String {
        let segments = self
            .path
            .iter()
            .map(|segment| utf8_percent_encode(segment, ESCAPED).to_string());
        segments.collect::<Vec<_>>().join("/")
    }

    fn query_text(&self) -> String {
        let escape = |text: &str| utf8_percent_encode(text, ESCAPED).to_string();
        let pairs = self
            .query
            .iter()
            .map(|(name, value)| format!("{}={}", escape(name), escape(value)));
        pairs.collect::<Vec<_>>().join("&")
    }

    fn address(&self, base: &str, query: &str) -> Result<reqwest::Url, ApiError> {
        // Nothing can be there: no more than that is to be found out, now or later.
        let wrong = || ApiError::NotFound("such a name has no address in GitLab".to_owned());
        // An empty segment, `.` and `..` would be taken out of the path and make it another resource's.
        if self
            .path
            .iter()
            .any(|segment| matches!(*segment, "" | "." | ".."))
        {
            return Err(wrong());
        }
        let mut text = format!("{base}/{}/{}", self.root, self.path_text());
        if !query.is_empty() {
            text.push('?');
            text.push_str(query);
        }
        reqwest::Url::parse(&text).map_err(|_| wrong())
    }
}

impl Client {
    /// Sends a call when its turn has come.
    pub(crate) async fn send(&self, call: &Call<'_>) -> Result<Reply, ApiError> {
        self.send_with(call, &call.query_text()).await
    }

    /// All rows of a list, or those of the first pages.
    pub(crate) async fn pages<T: DeserializeOwned>(
        &self,
        call: &Call<'_>,
        most_pages: usize,
    ) -> Result<Rows<T>, ApiError> {
        self.pages_until(call, most_pages, |_| false).await
    }

    /// All rows of a list up to a page with one that is the last, or those of the first pages.
    pub(crate) async fn pages_until<T: DeserializeOwned>(
        &self,
        call: &Call<'_>,
        most_pages: usize,
        is_last: impl Fn(&T) -> bool,
    ) -> Result<Rows<T>, ApiError> {
        let mut rows = Vec::new();
        let mut query = call.clone().with("per_page", PER_PAGE).query_text();
        for _ in 0..most_pages {
            let reply = self.send_with(call, &query).await?;
            let page: Vec<T> = read(call.class, &reply.body)?;
            let last = page.iter().any(&is_last);
            rows.extend(page);
            match next_query(&reply.headers).filter(|_| !last) {
                Some(next) => query = next,
                None => {
                    return Ok(Rows {
                        rows,
                        complete: true,
                    });
                }
            }
        }
        Ok(Rows {
            rows,
            complete: false,
        })
    }

    async fn send_with(&self, call: &Call<'_>, query: &str) -> Result<Reply, ApiError> {
        let address = call.address(&self.shared.base, query)?;
        let asked = Instant::now();
        let _permit = self.shared.budget.turn(call.project, self.priority).await?;
        let waited = asked.elapsed();
        let begun = Instant::now();
        let answer = self.transfer(call, address).await;
        let status = match &answer {
            Ok((status, ..)) => Some(status.as_u16()),
            Err(Failed { status, .. }) => status.map(|status| status.as_u16()),
        };
        let (class, latency) = (call.class, begun.elapsed());
        self.shared.observer.called(&CallReport {
            class,
            status,
            latency,
            waited,
        });
        let (status, headers, body) = answer.map_err(|failed| failed.error)?;
        if status.is_success() {
            return Ok(Reply { headers, body });
        }
        let error = ApiError::of(status, &headers, &body);
        if is_whole_token_limited(status, &body) {
            self.shared
                .budget
                .pause(error.retry_after().unwrap_or(UNNAMED_PAUSE));
        }
        Err(error)
    }

    async fn transfer(
        &self,
        call: &Call<'_>,
        address: reqwest::Url,
    ) -> Result<(StatusCode, HeaderMap, Bytes), Failed> {
        let mut request = self.shared.http.request(call.method.clone(), address);
        request = request.header("private-token", self.shared.token.clone());
        if let Some(body) = &call.body {
            request = request.json(body);
        }
        let mut response = request
            .send()
            .await
            .map_err(|error| Failed::of(None, &error))?;
        let status = response.status();
        let most = if status.is_success() {
            call.most
        } else {
            MOST_ERROR
        };
        let size = response
            .content_length()
            .filter(|size| status.is_success() && *size > most);
        let too_large = |size: u64| Failed {
            status: Some(status),
            error: ApiError::TooLarge { limit: most, size },
        };
        if let Some(size) = size {
            return Err(too_large(size));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response
            .chunk()
            .await
            .map_err(|error| Failed::of(Some(status), &error))?
        {
            let size = body.len() as u64 + chunk.len() as u64;
            if size > most {
                if status.is_success() {
                    return Err(too_large(size));
                }
                break;
            }
            body.extend_from_slice(&chunk);
        }
        Ok((status, response.headers().clone(), Bytes::from(body)))
    }
}

struct Failed {
    status: Option<StatusCode>,
    error: ApiError,
}

impl Failed {
    /// The innermost cause says it; the address is left out.
    fn of(status: Option<StatusCode>, error: &reqwest::Error) -> Self {
        let what = if error.is_timeout() {
            "it did not answer in time".to_owned()
        } else {
            let mut cause: &dyn std::error::Error = error;
            while let Some(next) = cause.source() {
                cause = next;
            }
            let kind = if error.is_connect() {
                "no connection"
            } else {
                "the connection broke"
            };
            // An error without a cause would print its address.
            if error.is_request() && std::error::Error::source(error).is_none() {
                kind.to_owned()
            } else {
                format!("{kind}: {cause}")
            }
        };
        Self {
            status,
            error: ApiError::unavailable(what),
        }
    }
}

/// The query of the next page.
fn next_query(headers: &HeaderMap) -> Option<String> {
    let mut rest = header(headers, "link")?;
    while let Some((_, after)) = rest.split_once('<') {
        let (address, after) = after.split_once('>')?;
        let parameters = after.split('<').next().unwrap_or_default();
        if parameters.contains("rel=\"next\"") || parameters.contains("rel=next") {
            let query = address.split_once('?')?.1;
            return Some(query.split('#').next().unwrap_or_default().to_owned());
        }
        rest = after;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_never_leaves_its_segment() {
        for name in ["a/b", "a b?c#d", "ü", "%2e%2e", "a%2Fb", "\\"] {
            let path = ["projects", "7", "repository", "branches", name];
            let address = Call::get("branch", &path)
                .address("https://x.example/gitlab", "")
                .unwrap();
            let segments: Vec<&str> = address.path_segments().unwrap().collect();
            assert_eq!(segments.len(), 8, "{address}");
            assert_eq!(address.query(), None, "{address}");
        }
        for name in ["", ".", ".."] {
            let path = ["projects", "7", "repository", "branches", name];
            assert!(
                matches!(
                    Call::get("branch", &path).address("https://x.example", ""),
                    Err(ApiError::NotFound(_))
                ),
                "{name}"
            );
        }
    }

    #[test]
    fn the_next_page_is_found_among_links_and_only_its_query_is_taken() {
        let next = |link: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("link", link.parse().unwrap());
            next_query(&headers)
        };
        let found = next(
            "<http://evil.example/a?page=1>; rel=\"prev\", <http://evil.example/b?page=3&x=a,b>; rel=\"next\"",
        );
        assert_eq!(found.as_deref(), Some("page=3&x=a,b"));
        assert_eq!(next("<http://x/a?page=1>; rel=\"first\""), None);
        assert_eq!(next("nonsense <"), None);
        assert_eq!(next_query(&HeaderMap::new()), None);
    }
}
