//! A YAML document as a tree that remembers where everything stands.
//!
//! A reader that stops at the first mistake would make an operator mend a file one line at a time; so the file is read into this tree
//! first, and the tree is walked to the end.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{DuplicateKeyPolicy, Location, Spanned};

/// Where something stands in a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Spot {
    /// Which of the files.
    pub(super) file: usize,
    /// From 1; 0: the file as a whole.
    pub(super) line: usize,
    /// From 1, in characters.
    pub(super) column: usize,
    /// Characters before it in the file.
    pub(super) start: usize,
    /// Characters of it.
    pub(super) length: usize,
}

/// A node and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) spot: Spot,
    pub(super) value: Value,
}

/// What a node is.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Number(serde_json::Number),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

/// A key and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Key {
    pub(super) spot: Spot,
    pub(super) text: String,
}

/// Why a text is no YAML.
pub(super) struct NotYaml {
    pub(super) spot: Spot,
    pub(super) message: String,
}

/// Bytes of a configuration file that are read.
pub(super) const MAX_FILE: u64 = 4 * 1024 * 1024;

/// Reads one document. Nothing of the text is repeated in the error: it may hold a secret that somebody pasted.
pub(super) fn read(text: &str, file: usize) -> Result<Node, NotYaml> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_depth: 48, max_nodes: 200_000, max_documents: 1 },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: 100_000 },
        // A key that stands there twice is told with both places, not as the end of the file.
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        with_snippet: false,
    };
    if text.trim().is_empty() {
        return Ok(Node {
            spot: Spot {
                file,
                ..Spot::default()
            },
            value: Value::Map(Vec::new()),
        });
    }
    match serde_saphyr::from_str_with_options::<Spanned<Raw>>(text, options) {
        Ok(root) => Ok(root.value.place(spot(file, root.referenced), file)),
        Err(error) => {
            let spot = error.location().map_or(
                Spot {
                    file,
                    ..Spot::default()
                },
                |at| spot(file, at),
            );
            Err(NotYaml {
                spot,
                message: without_quotes(&error.without_snippet().to_string()),
            })
        }
    }
}

/// A parser's message without what it quotes.
fn without_quotes(message: &str) -> String {
    let mut plain = String::new();
    let mut open = None;
    for c in message.lines().next().unwrap_or_default().chars() {
        match (open, c) {
            (None, '`' | '"') => {
                open = Some(c);
                plain.push('…');
            }
            (Some(quote), c) if c == quote => open = None,
            (Some(_), _) => {}
            (None, c) => plain.push(c),
        }
    }
    plain
}

fn spot(file: usize, at: Location) -> Spot {
    let number = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    Spot {
        file,
        line: number(at.line()),
        column: number(at.column()),
        start: number(at.span().offset()),
        length: number(at.span().len()),
    }
}

/// A node as serde gives it: its children know where they stand, it does not.
enum Raw {
    Null,
    Bool(bool),
    Number(serde_json::Number),
    Text(String),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<String>, Spanned<Raw>)>),
}

impl Raw {
    fn place(self, at: Spot, file: usize) -> Node {
        let value = match self {
            Self::Null => Value::Null,
            Self::Bool(on) => Value::Bool(on),
            Self::Number(number) => Value::Number(number),
            Self::Text(text) => Value::Text(text),
            Self::List(items) => {
                let place =
                    |item: Spanned<Self>| item.value.place(spot(file, item.referenced), file);
                Value::List(items.into_iter().map(place).collect())
            }
            Self::Map(entries) => {
                let place = |(key, value): (Spanned<String>, Spanned<Self>)| {
                    let key = Key {
                        spot: spot(file, key.referenced),
                        text: key.value,
                    };
                    (key, value.value.place(spot(file, value.referenced), file))
                };
                Value::Map(entries.into_iter().map(place).collect())
            }
        };
        Node { spot: at, value }
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Any)
    }
}

struct Any;

impl<'de> Visitor<'de> for Any {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E>(self, on: bool) -> Result<Raw, E> {
        Ok(Raw::Bool(on))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Raw, E> {
        Ok(Raw::Number(number.into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Raw, E> {
        Ok(Raw::Number(number.into()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Raw, E> {
        Ok(serde_json::Number::from_f64(number).map_or(Raw::Null, Raw::Number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Raw, E> {
        Ok(Raw::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Raw, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Raw::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Raw::Map(entries))
    }
}

impl Node {
    /// The value as JSON: what a plugin's settings are.
    pub(super) fn to_json(&self) -> serde_json::Value {
        match &self.value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(on) => (*on).into(),
            Value::Number(number) => number.clone().into(),
            Value::Text(text) => text.as_str().into(),
            Value::List(items) => items.iter().map(Self::to_json).collect(),
            Value::Map(entries) => {
                let entry = |(key, value): &(Key, Self)| (key.text.clone(), value.to_json());
                serde_json::Value::Object(entries.iter().map(entry).collect())
            }
        }
    }

    /// What it is, in a word.
    pub(super) fn word(&self) -> &'static str {
        match self.value {
            Value::Null => "nothing",
            Value::Bool(_) => "a truth value",
            Value::Number(_) => "a number",
            Value::Text(_) => "text",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }
}
