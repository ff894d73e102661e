//! Blanks what must never be stored: values of CI variables, and fields that the operator names.
//!
//! Works on the bytes: what is not blanked stays as GitLab sent it, to the byte. What is blanked reads `"[redacted]"`.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

const BLANK: &str = "\"[redacted]\"";

/// Which fields are blanked. Values of CI variables always are.
///
/// All hooks of an instance share one: the same event through two hooks must stay the same bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redaction {
    paths: Vec<(Vec<String>, End)>,
}

/// What is blanked where a path ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// All of it.
    Whole,
    /// CI variables: everything but their names.
    Variables,
}

/// Why a pointer can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{pointer}` is no JSON pointer: write it like `/object_attributes/description`, `*` for every item of a list"
)]
pub struct RedactionError {
    /// What was given.
    pub pointer: String,
}

impl Default for Redaction {
    fn default() -> Self {
        let variables = [
            "/variables",
            "/object_attributes/variables",
            "/build/variables",
            "/builds/*/variables",
            "/source_pipeline/variables",
        ];
        let paths = variables.iter().filter_map(|pointer| tokens(pointer));
        Self {
            paths: paths.map(|path| (path, End::Variables)).collect(),
        }
    }
}

impl Redaction {
    /// Blanks these fields too: RFC 6901 pointers, in which `*` stands for every item of a list or member of an object.
    ///
    /// # Errors
    /// One is malformed.
    pub fn new(pointers: &[String]) -> Result<Self, RedactionError> {
        let mut all = Self::default();
        for pointer in pointers {
            let path = tokens(pointer).ok_or_else(|| RedactionError {
                pointer: pointer.clone(),
            })?;
            all.paths.push((path, End::Whole));
        }
        Ok(all)
    }

    /// Blanks a body that is JSON; none: there was nothing to blank, and the body stays what it is.
    pub(crate) fn apply(&self, body: &Bytes) -> Option<Bytes> {
        let text = std::str::from_utf8(body).ok()?;
        let whole: &RawValue = serde_json::from_str(text).ok()?;
        let alive: Vec<(&[String], End)> = self
            .paths
            .iter()
            .map(|(path, end)| (path.as_slice(), *end))
            .collect();
        let mut blanks = Vec::new();
        walk(text, whole, &alive, &mut blanks);
        if blanks.is_empty() {
            return None;
        }
        blanks.sort_by_key(|range| range.start);
        let mut out = String::with_capacity(text.len());
        let mut done = 0;
        for range in blanks {
            // A field within one that is blanked already.
            if range.start < done {
                continue;
            }
            out.push_str(text.get(done..range.start)?);
            out.push_str(BLANK);
            done = range.end;
        }
        out.push_str(text.get(done..)?);
        Some(Bytes::from(out))
    }
}

fn tokens(pointer: &str) -> Option<Vec<String>> {
    let path = pointer.strip_prefix('/')?;
    path.split('/')
        .map(|token| {
            let plain = token.replace("~1", "/").replace("~0", "~");
            let escapes_well = token.matches('~').count()
                == token.matches("~0").count() + token.matches("~1").count();
            (escapes_well && !plain.is_empty()).then_some(plain)
        })
        .collect()
}

/// Descends only where a path still leads: a hostile depth is never followed.
fn walk(text: &str, value: &RawValue, alive: &[(&[String], End)], blanks: &mut Vec<Range<usize>>) {
    for (path, end) in alive {
        if path.is_empty() {
            match end {
                End::Whole => blank(text, value, blanks),
                End::Variables => blank_variables(text, value, blanks),
            }
        }
    }
    let deeper: Vec<_> = alive.iter().filter(|(path, _)| !path.is_empty()).collect();
    if deeper.is_empty() {
        return;
    }
    for (name, member) in members(value) {
        let next: Vec<(&[String], End)> = deeper
            .iter()
            .filter_map(|(path, end)| {
                let (first, rest) = path.split_first()?;
                (first == "*" || name.matches(first)).then_some((rest, *end))
            })
            .collect();
        if !next.is_empty() {
            walk(text, member, &next, blanks);
        }
    }
}

/// A list of `{key, value}`, or an object of names and values: only the names stay.
fn blank_variables(text: &str, value: &RawValue, blanks: &mut Vec<Range<usize>>) {
    for (_, member) in members(value) {
        if member.get().starts_with('{') {
            for (name, part) in members(member) {
                if !name.matches("key") {
                    blank(text, part, blanks);
                }
            }
        } else {
            blank(text, member, blanks);
        }
    }
}

fn blank(text: &str, value: &RawValue, blanks: &mut Vec<Range<usize>>) {
    if value.get() == "null" || value.get() == BLANK {
        return;
    }
    // `value` borrows from `text`, so its place is the distance of their beginnings.
    let start = (value.get().as_ptr() as usize).saturating_sub(text.as_ptr() as usize);
    blanks.push(start..start + value.get().len());
}

enum Name<'a> {
    Key(Cow<'a, str>),
    Position(usize),
}

impl Name<'_> {
    fn matches(&self, token: &str) -> bool {
        match self {
            Self::Key(key) => key == token,
            Self::Position(position) => token.parse() == Ok(*position),
        }
    }
}

/// Members of an object, repeated names and all, or items of a list.
fn members(value: &RawValue) -> Vec<(Name<'_>, &RawValue)> {
    let text = value.get();
    if text.starts_with('{') {
        let pairs: Result<Pairs<'_>, _> = serde_json::from_str(text);
        let pairs = pairs.map(|pairs| pairs.0).unwrap_or_default();
        pairs
            .into_iter()
            .map(|(key, value)| (Name::Key(key), value))
            .collect()
    } else if text.starts_with('[') {
        let items: Vec<&RawValue> = serde_json::from_str(text).unwrap_or_default();
        items
            .into_iter()
            .enumerate()
            .map(|(position, item)| (Name::Position(position), item))
            .collect()
    } else {
        Vec::new()
    }
}

struct Pairs<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Pairs<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Pairs<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some(key) = map.next_key::<String>()? {
                    pairs.push((Cow::Owned(key), map.next_value::<&'de RawValue>()?));
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn apply(pointers: &[&str], body: &str) -> Option<String> {
        let pointers: Vec<String> = pointers.iter().map(|text| (*text).to_owned()).collect();
        let redaction = Redaction::new(&pointers).unwrap();
        let blanked = redaction.apply(&Bytes::from(body.to_owned()))?;
        Some(String::from_utf8(blanked.to_vec()).unwrap())
    }

    #[test]
    fn values_of_variables_are_blanked_and_the_rest_stays_to_the_byte() {
        let body = r#"{ "object_attributes":{"id": 1.10,"variables": [{"key":"A","value":"s3cret"},{"key":"B","value":null}]}, "x" : "v" }"#;
        let wanted = r#"{ "object_attributes":{"id": 1.10,"variables": [{"key":"A","value":"[redacted]"},{"key":"B","value":null}]}, "x" : "v" }"#;
        assert_eq!(apply(&[], body).as_deref(), Some(wanted));
    }

    #[test]
    fn variables_of_any_shape_and_name_escapes_are_found() {
        for body in [
            r#"{"variables":{"A":"s3cret"}}"#,
            r#"{"variables":["s3cret"]}"#,
            r#"{"variables":[{"key":"A","value":{"deep":"s3cret"}}]}"#,
            r#"{"variables":[{"key":"A","value":"x","value":"s3cret"}]}"#,
            r#"{"\u0076ariables":{"A":"s3cret"}}"#,
            r#"{"builds":[{},{"variables":[{"key":"A","secret_value":"s3cret"}]}]}"#,
        ] {
            let blanked = apply(&[], body).unwrap();
            assert!(!blanked.contains("s3cret"), "{blanked}");
            assert!(
                serde_json::from_str::<serde_json::Value>(&blanked).is_ok(),
                "{blanked}"
            );
        }
    }

    #[test]
    fn configured_fields_are_blanked_whole() {
        let body = r#"{"a":{"b~/":[{"c":[1,2]},{"c":3}]},"d":4}"#;
        assert_eq!(
            apply(&["/a/b~0~1/*/c"], body).as_deref(),
            Some(r#"{"a":{"b~/":[{"c":"[redacted]"},{"c":"[redacted]"}]},"d":4}"#)
        );
        assert_eq!(
            apply(&["/a", "/a/b~0~1/0"], body).as_deref(),
            Some(r#"{"a":"[redacted]","d":4}"#)
        );
        assert_eq!(apply(&["/nothing/here"], body), None);
    }

    #[test]
    fn what_is_no_pointer_is_refused() {
        for pointer in ["", "a", "/a//b", "/~2"] {
            assert!(Redaction::new(&[pointer.to_owned()]).is_err(), "{pointer}");
        }
    }

    #[test]
    fn blanking_twice_changes_nothing_more() {
        let once = apply(&[], r#"{"variables":{"A":"s3cret"}}"#).unwrap();
        assert_eq!(apply(&[], &once), None);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".{0,200}") {
            let _ = apply(&["/a/*/b"], &text);
        }
    }
}
