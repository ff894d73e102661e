//! Reads typed values out of the tree and notes every mistake on the way.
//!
//! A value that can't be read is `None` and has been told; the walk goes on.

use std::cell::RefCell;
use std::str::FromStr;

use super::problem::Collector;
use super::tree::{Key, Node, Spot, Value};

/// A value of the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Item<'t> {
    pub(super) collector: &'t Collector,
    pub(super) node: &'t Node,
}

/// A mapping whose keys are asked for one after the other.
pub(super) struct Reader<'t> {
    pub(super) collector: &'t Collector,
    /// What the mapping is, for messages, such as `a hook`.
    what: &'static str,
    spot: Spot,
    entries: &'t [(Key, Node)],
    asked: RefCell<Vec<&'static str>>,
}

impl<'t> Item<'t> {
    /// Where it stands.
    pub(super) fn spot(self) -> Spot {
        self.node.spot
    }

    /// Notes that another shape is wanted.
    pub(super) fn wanted<T>(self, what: &str) -> Option<T> {
        let found = self.node.word();
        self.collector.hidden(
            self.spot(),
            format!("{what} is wanted here, not {found}"),
            None,
        );
        None
    }

    /// Notes what is wrong with a value that may be shown.
    pub(super) fn wrong<T>(
        self,
        message: impl Into<String>,
        help: impl Into<Option<String>>,
    ) -> Option<T> {
        self.collector.open(self.spot(), message, help.into());
        None
    }

    /// Text.
    pub(super) fn text(self) -> Option<&'t str> {
        match &self.node.value {
            Value::Text(text) if !text.is_empty() => Some(text),
            Value::Text(_) => self.wanted("a text that is not empty"),
            Value::Number(_) | Value::Bool(_) => {
                let found = self.node.word();
                self.collector.open(
                    self.spot(),
                    format!("text is wanted here, not {found}"),
                    Some("put it in quotes".to_owned()),
                );
                None
            }
            _ => self.wanted("text"),
        }
    }

    /// A truth value.
    pub(super) fn truth(self) -> Option<bool> {
        match self.node.value {
            Value::Bool(on) => Some(on),
            _ => self.wanted("`true` or `false`"),
        }
    }

    /// A whole number of at least 1.
    pub(super) fn count<T: TryFrom<u64>>(self) -> Option<T> {
        let number = match &self.node.value {
            Value::Number(number) => number.as_u64().filter(|n| *n > 0),
            _ => return self.wanted("a whole number"),
        };
        let fits = number.and_then(|n| T::try_from(n).ok());
        fits.or_else(|| {
            self.wrong(
                "the number is out of bounds",
                "write a whole number of 1 or more".to_owned(),
            )
        })
    }

    /// Text read by `FromStr`-like functions whose message may be shown.
    pub(super) fn parsed<T>(self, read: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let text = self.text()?;
        read(text).map_or_else(|message| self.wrong(message, None), Some)
    }

    /// A time or a size: a bare number lacks its unit, which its reader tells better than 'text is wanted'.
    pub(super) fn quantity<T>(self, read: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        match &self.node.value {
            Value::Number(number) => {
                read(&number.to_string()).map_or_else(|message| self.wrong(message, None), Some)
            }
            _ => self.parsed(read),
        }
    }

    /// Text read by `FromStr`.
    pub(super) fn of_type<T: FromStr>(self, what: &str) -> Option<T> {
        self.parsed(|text| {
            text.parse()
                .map_err(|_| format!("`{}` is not {what}", cut(text)))
        })
    }

    /// One of these words.
    pub(super) fn one_of<T: Copy>(self, words: &[(&'static str, T)]) -> Option<T> {
        let text = self.text()?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Some(*value);
        }
        let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let help =
            nearest(text, &known).unwrap_or_else(|| format!("it is one of {}", listed(&known)));
        self.wrong(format!("`{}` is not known here", cut(text)), help)
    }

    /// A list; a single value is no list.
    pub(super) fn list(self) -> Option<Vec<Self>> {
        match &self.node.value {
            Value::List(items) => Some(
                items
                    .iter()
                    .map(|node| Item {
                        collector: self.collector,
                        node,
                    })
                    .collect(),
            ),
            _ => self.wanted("a list"),
        }
    }

    /// A list of texts.
    pub(super) fn texts(self) -> Option<Vec<String>> {
        let items = self.list()?;
        let read: Vec<Option<&str>> = items.into_iter().map(Self::text).collect();
        read.into_iter()
            .map(|text| text.map(str::to_owned))
            .collect()
    }

    /// A mapping.
    pub(super) fn map(self, what: &'static str) -> Option<Reader<'t>> {
        match &self.node.value {
            Value::Map(entries) => Some(Reader::new(self.collector, what, self.spot(), entries)),
            _ => self.wanted("a mapping"),
        }
    }

    /// A mapping with keys of the operator's choosing.
    pub(super) fn entries(self) -> Option<Vec<(&'t Key, Self)>> {
        match &self.node.value {
            Value::Map(entries) => {
                tell_twice(self.collector, entries);
                let item = |(key, node): &'t (Key, Node)| {
                    (
                        key,
                        Item {
                            collector: self.collector,
                            node,
                        },
                    )
                };
                Some(entries.iter().map(item).collect())
            }
            _ => self.wanted("a mapping"),
        }
    }
}

impl<'t> Reader<'t> {
    fn new(
        collector: &'t Collector,
        what: &'static str,
        spot: Spot,
        entries: &'t [(Key, Node)],
    ) -> Self {
        tell_twice(collector, entries);
        // The mapping itself is told of at its first key: that is where people look.
        let spot = entries.first().map_or(spot, |(key, _)| key.spot);
        Self {
            collector,
            what,
            spot,
            entries,
            asked: RefCell::new(Vec::new()),
        }
    }

    /// Where the mapping begins.
    pub(super) fn spot(&self) -> Spot {
        self.spot
    }

    /// The key's value, if it is there and not empty.
    pub(super) fn optional(&self, key: &'static str) -> Option<Item<'t>> {
        self.asked.borrow_mut().push(key);
        self.collector.knows(key);
        let (_, node) = self.entries.iter().find(|(known, _)| known.text == key)?;
        match node.value {
            Value::Null => None,
            _ => Some(Item {
                collector: self.collector,
                node,
            }),
        }
    }

    /// The key's value; its absence is told.
    pub(super) fn required(&self, key: &'static str) -> Option<Item<'t>> {
        let found = self.optional(key);
        if found.is_none() {
            self.collector
                .open(self.spot, format!("{} needs `{key}`", self.what), None);
        }
        found
    }

    /// `optional`, read. A value that can't be read gives `None` in the outer option.
    pub(super) fn or<T>(
        &self,
        key: &'static str,
        default: T,
        read: impl FnOnce(Item<'t>) -> Option<T>,
    ) -> Option<T> {
        match self.optional(key) {
            Some(item) => read(item),
            None => Some(default),
        }
    }

    /// `optional`, read, none where it is absent.
    pub(super) fn maybe<T>(
        &self,
        key: &'static str,
        read: impl FnOnce(Item<'t>) -> Option<T>,
    ) -> Option<Option<T>> {
        self.or(key, None, |item| read(item).map(Some))
    }

    /// `optional`, read as a list of `one`; absent is empty.
    pub(super) fn each<T>(
        &self,
        key: &'static str,
        one: impl Fn(Item<'t>) -> Option<T>,
    ) -> Option<Vec<T>> {
        let items = match self.optional(key) {
            Some(item) => item.list()?,
            None => Vec::new(),
        };
        // All are read before one that failed ends it, so that each is told.
        let read: Vec<Option<T>> = items.into_iter().map(one).collect();
        read.into_iter().collect()
    }

    /// Tells keys that nobody asked for.
    pub(super) fn finish(self) {
        let asked = self.asked.into_inner();
        for (key, _) in self.entries {
            if asked.contains(&key.text.as_str()) {
                continue;
            }
            let help =
                nearest(&key.text, &asked).unwrap_or_else(|| format!("it has {}", listed(&asked)));
            let message = format!("{} has no key `{}`", self.what, cut(&key.text));
            self.collector.open(key.spot, message, Some(help));
        }
    }
}

fn tell_twice(collector: &Collector, entries: &[(Key, Node)]) {
    for (n, (key, _)) in entries.iter().enumerate() {
        let before = entries
            .iter()
            .take(n)
            .find(|(other, _)| other.text == key.text);
        if let Some((first, _)) = before {
            let line = first.spot.line;
            collector.open(
                key.spot,
                format!("the key `{}` stands here twice", cut(&key.text)),
                Some(format!("it stands in line {line} already")),
            );
        }
    }
}

/// `did you mean …`, where one of them is near.
pub(super) fn nearest(text: &str, known: &[&str]) -> Option<String> {
    let lower = text.to_ascii_lowercase().replace('_', "-");
    let near = known
        .iter()
        .map(|word| (strsim::damerau_levenshtein(&lower, word), word));
    let (distance, word) = near.min_by_key(|(distance, _)| *distance)?;
    let length = text.chars().count();
    (distance <= 1 + length / 4 && distance < length).then(|| format!("did you mean `{word}`?"))
}

/// `a`, `b` and `c`, in quotes.
pub(super) fn listed(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    match quoted.split_last() {
        None => "nothing".to_owned(),
        Some((only, [])) => only.clone(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
    }
}

/// A text of the file as it stands in a message.
pub(super) fn cut(text: &str) -> String {
    text.chars().take(80).flat_map(char::escape_debug).collect()
}
