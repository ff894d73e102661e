//! Texts in the settings with `$(…)`: what a TriggerBinding writes.
//!
//! `$(event.commit)`, `$(body.user.name)`, `$(header.X-Gitlab-Event)`,
//! `$(extensions.version)`, `$(context.eventID)`. `$$(` stands for `$(`.

use serde_json::Value;

use crate::facts::{Facts, Root};
use crate::fault::{Fault, hint};
use crate::jsonpath::Path;
use crate::names;

/// A text, read.
#[derive(Clone, Debug)]
pub(crate) struct Text {
    parts: Vec<Part>,
}

#[derive(Clone, Debug)]
enum Part {
    Literal(String),
    Reference(Reference),
}

#[derive(Clone, Debug)]
struct Reference {
    /// As written, without `$(` and `)`.
    written: String,
    root: Root,
    path: Path,
}

impl Text {
    /// Reads a text. Extensions are the names that `let` gives.
    pub(crate) fn parse<'n>(
        source: &str,
        extensions: impl IntoIterator<Item = &'n str> + Clone,
    ) -> Result<Self, Vec<Fault>> {
        let mut parts = Vec::new();
        let mut faults = Vec::new();
        let mut rest = 0;
        while let Some((literal, start)) = next(source, rest) {
            parts.push(Part::Literal(literal));
            let inside = source.get(start + 2..).unwrap_or_default();
            let Some(length) = closing(inside) else {
                faults.push(Fault::at(source, start, "`$(` is not closed"));
                return Err(faults);
            };
            let written = inside.get(..length).unwrap_or_default();
            match Reference::parse(written, extensions.clone()) {
                Ok(reference) => parts.push(Part::Reference(reference)),
                Err(message) => faults.push(Fault::at(
                    source,
                    start,
                    format!("`$({written})` {message}"),
                )),
            }
            rest = start + 2 + length + 1;
        }
        parts.push(Part::Literal(
            source.get(rest..).unwrap_or_default().replace("$$(", "$("),
        ));
        if faults.is_empty() {
            Ok(Self { parts })
        } else {
            Err(faults)
        }
    }

    /// Whether it takes something from there.
    pub(crate) fn uses(&self, root: Root) -> bool {
        self.parts
            .iter()
            .any(|part| matches!(part, Part::Reference(reference) if reference.root == root))
    }

    /// The text with its values. Each is shaped by `insert`.
    ///
    /// # Errors
    /// Which reference has no value.
    pub(crate) fn render(
        &self,
        facts: &Facts,
        extensions: &Value,
        insert: impl Fn(String) -> String,
    ) -> Result<String, String> {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Literal(literal) => text.push_str(literal),
                Part::Reference(reference) => {
                    let root = match reference.root {
                        Root::Extensions => extensions,
                        root => facts.root(root),
                    };
                    let value = reference.path.find(root).ok_or_else(|| {
                        format!("`$({})` has no value in this event", reference.written)
                    })?;
                    text.push_str(&insert(as_text(value)));
                }
            }
        }
        Ok(text)
    }
}

impl Reference {
    fn parse<'n>(
        written: &str,
        extensions: impl IntoIterator<Item = &'n str>,
    ) -> Result<Self, String> {
        let end = written.find(['.', '[']).unwrap_or(written.len());
        let (name, path) = written.split_at(end);
        let root = Root::named(name)
            .ok_or_else(|| format!("begins with no known name{}", hint(name, Root::NAMES)))?;
        // Headers are found whatever the case: their names are kept in lower case.
        let path = match root {
            Root::Headers => Path::parse(&path.to_ascii_lowercase())?,
            _ => Path::parse(path)?,
        };
        match root {
            Root::Event => names::check_event(&path.names)?,
            Root::Extensions => {
                let known: Vec<&str> = extensions.into_iter().collect();
                if let Some(name) = path
                    .names
                    .first()
                    .filter(|it| !known.contains(&it.as_str()))
                {
                    return Err(format!("names nothing in `let`{}", hint(name, known)));
                }
            }
            Root::Body | Root::Headers | Root::Context => {}
        }
        Ok(Self {
            written: written.to_owned(),
            root,
            path,
        })
    }
}

/// A string as it is, anything else as JSON: as Tekton Triggers has it.
pub(crate) fn as_text(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

/// The literal up to the next `$(`, and where that is.
fn next(source: &str, from: usize) -> Option<(String, usize)> {
    let mut search = from;
    loop {
        let found = search + source.get(search..)?.find("$(")?;
        if found > from && source.get(..found)?.ends_with('$') {
            search = found + 2;
            continue;
        }
        return Some((source.get(from..found)?.replace("$$(", "$("), found));
    }
}

/// Length up to the `)` that closes, over brackets and quotes.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0_u32;
    let mut brackets = 0_u32;
    let mut quote = None;
    for (at, character) in text.char_indices() {
        match (quote, character) {
            (Some(open), _) if open == character => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') if brackets > 0 => quote = Some(character),
            (None, '[') => brackets += 1,
            (None, ']') => brackets = brackets.saturating_sub(1),
            (None, '(') => depth += 1,
            (None, ')') if depth == 0 => return Some(at),
            (None, ')') => depth -= 1,
            (None, _) => {}
        }
    }
    None
}
