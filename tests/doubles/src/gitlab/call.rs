//! One REST call, decoded: path segments, parameters from query and body, and who asks.

use bytes::Bytes;
use http::HeaderMap;
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

use super::{answer::ApiError, tokens::Identity};
use crate::wire::Received;

/// What a REST function is given.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) method: String,
    /// Decoded one by one, so `acme%2Fapi` is one segment, `acme/api`.
    pub(crate) segments: Vec<String>,
    pub(crate) query: Vec<(String, String)>,
    pub(crate) body: Map<String, Value>,
    /// Path as sent and query, for the links of a page.
    pub(crate) path: String,
    pub(crate) who: Identity,
}

impl Call {
    /// Reads parameters as GitLab's Grape does: query, JSON body and form body are one namespace.
    pub(crate) fn new(received: &Received, who: Identity) -> Result<Self, ApiError> {
        let path = received
            .path
            .trim_start_matches("/api/v4")
            .trim_matches('/');
        let segments = path
            .split('/')
            .map(|part| percent_decode_str(part).decode_utf8_lossy().into_owned())
            .collect();
        let query = form_urlencoded::parse(received.query.as_bytes())
            .into_owned()
            .collect();
        Ok(Self {
            // The server sends no body after a HEAD; all else is the same.
            method: received.method.as_str().replace("HEAD", "GET"),
            segments,
            query,
            body: read_body(&received.headers, &received.body)?,
            path: received.path.clone(),
            who,
        })
    }

    /// A text, number or flag as text; empty texts count as given.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        match self.body.get(name) {
            Some(Value::String(text)) => Some(text.clone()),
            Some(Value::Null) | None => self
                .query
                .iter()
                .rev()
                .find(|(key, _)| key == name)
                .map(|(_, value)| value.clone()),
            Some(other) => Some(other.to_string()),
        }
    }

    /// A text that must be there.
    pub(crate) fn required(&self, name: &str) -> Result<String, ApiError> {
        self.text(name)
            .ok_or_else(|| ApiError::parameter(format!("{name} is missing")))
    }

    /// A whole number; anything else is GitLab's `is invalid`.
    pub(crate) fn number(&self, name: &str) -> Result<Option<u64>, ApiError> {
        self.text(name)
            .map(|text| {
                text.parse()
                    .map_err(|_| ApiError::parameter(format!("{name} is invalid")))
            })
            .transpose()
    }

    /// `true`, `1`, `yes` and `on` in any case are true: clients send `True` too.
    pub(crate) fn flag(&self, name: &str) -> Option<bool> {
        let text = self.text(name)?.to_lowercase();
        Some(matches!(
            text.as_str(),
            "true" | "1" | "yes" | "y" | "on" | "t"
        ))
    }

    /// `name[]=a&name[]=b`, or a JSON array.
    pub(crate) fn list(&self, name: &str) -> Vec<String> {
        if let Some(Value::Array(items)) = self.body.get(name) {
            return items
                .iter()
                .map(|item| {
                    item.as_str()
                        .map_or_else(|| item.to_string(), str::to_owned)
                })
                .collect();
        }
        let bracketed = format!("{name}[]");
        self.query
            .iter()
            .filter(|(key, _)| key == name || *key == bracketed)
            .map(|(_, value)| value.clone())
            .collect()
    }
}

fn read_body(headers: &HeaderMap, body: &Bytes) -> Result<Map<String, Value>, ApiError> {
    if body.is_empty() {
        return Ok(Map::new());
    }
    let kind = headers
        .get("content-type")
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    if kind.starts_with("application/x-www-form-urlencoded") {
        return Ok(form_urlencoded::parse(body)
            .map(|(key, value)| (key.into_owned(), Value::String(value.into_owned())))
            .collect());
    }
    if !kind.starts_with("application/json") {
        return Err(ApiError::error(
            415,
            "The provided content-type is not supported.",
        ));
    }
    match serde_json::from_slice(body) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Ok(Map::new()),
        Err(_) => Err(ApiError::parameter("Invalid JSON".to_owned())),
    }
}
