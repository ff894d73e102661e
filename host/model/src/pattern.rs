//! Patterns over GitLab's full paths, such as `acme/{team}/**`.
//!
//! A pattern is made of segments between slashes. `**` stands for any number of segments, none among them; `*` within a
//! segment for any characters of it; `{name}` for a whole segment or a part of one, and keeps what it stood for.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

/// What a pattern's variables stood for.
pub type Captures = BTreeMap<String, String>;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Any,
    Variable(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    AnyNumber,
    Parts(Vec<Part>),
}

/// A pattern that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    segments: Vec<Segment>,
}

/// Why a text is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// It begins or ends with a slash, or has two in a row, or is empty.
    #[error("the pattern `{pattern}` has an empty segment: write it like `acme/{{team}}/**`")]
    EmptySegment {
        /// The whole pattern.
        pattern: String,
    },
    /// A `{` without its `}`, an empty name, or a name with other characters than letters, digits, `-` and `_`.
    #[error(
        "the pattern `{pattern}` has a malformed variable in `{segment}`: write it like `{{team}}`"
    )]
    Variable {
        /// The whole pattern.
        pattern: String,
        /// The segment.
        segment: String,
    },
    /// The same variable twice.
    #[error("the pattern `{pattern}` names the variable `{name}` twice")]
    Twice {
        /// The whole pattern.
        pattern: String,
        /// The variable.
        name: String,
    },
    /// Two variables or stars with nothing between them.
    #[error(
        "the pattern `{pattern}` has two placeholders side by side in `{segment}`: put a character between them"
    )]
    SideBySide {
        /// The whole pattern.
        pattern: String,
        /// The segment.
        segment: String,
    },
}

/// How exact a pattern is; the greater wins. Text counts first: whole literal segments, then literal characters; then having no `**`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Exactness {
    literal_segments: usize,
    literal_characters: usize,
    bounded: bool,
    segments: usize,
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// Says what is wrong and how it is written.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let mut seen = Vec::new();
        let mut segments = Vec::new();
        for segment in text.split('/') {
            if segment.is_empty() {
                return Err(PatternError::EmptySegment {
                    pattern: text.to_owned(),
                });
            }
            segments.push(if segment == "**" {
                Segment::AnyNumber
            } else {
                Segment::Parts(parts(text, segment, &mut seen)?)
            });
        }
        Ok(Self {
            text: text.to_owned(),
            segments,
        })
    }

    /// The text that it was read from.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The segments before the first that holds a placeholder: each path that matches begins with them, in whatever case.
    pub fn lead(&self) -> String {
        let text = |segment: &Segment| match segment {
            Segment::Parts(parts) => match parts.as_slice() {
                [Part::Text(text)] => Some(text.clone()),
                _ => None,
            },
            Segment::AnyNumber => None,
        };
        let lead: Vec<String> = self.segments.iter().map_while(text).collect();
        lead.join("/")
    }

    /// Names of its variables.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        self.segments
            .iter()
            .flat_map(|segment| match segment {
                Segment::AnyNumber => &[],
                Segment::Parts(parts) => parts.as_slice(),
            })
            .filter_map(|part| match part {
                Part::Variable(name) => Some(name.as_str()),
                Part::Text(_) | Part::Any => None,
            })
    }

    /// Matches a whole path; GitLab's paths ignore case. What the variables stood for is given as the path writes it.
    pub fn matches(&self, path: &str) -> Option<Captures> {
        let path: Vec<&str> = path.split('/').collect();
        let mut captures = Captures::new();
        match_segments(&self.segments, &path, &mut captures).then_some(captures)
    }

    /// How exact it is.
    pub fn exactness(&self) -> Exactness {
        let mut exactness = Exactness {
            literal_segments: 0,
            literal_characters: 0,
            bounded: true,
            segments: self.segments.len(),
        };
        for segment in &self.segments {
            match segment {
                Segment::AnyNumber => exactness.bounded = false,
                Segment::Parts(parts) => {
                    let literal = |part: &Part| match part {
                        Part::Text(text) => Some(text.len()),
                        Part::Any | Part::Variable(_) => None,
                    };
                    exactness.literal_characters += parts.iter().filter_map(literal).sum::<usize>();
                    exactness.literal_segments +=
                        usize::from(parts.iter().all(|part| literal(part).is_some()));
                }
            }
        }
        exactness
    }
}

fn parts(pattern: &str, segment: &str, seen: &mut Vec<String>) -> Result<Vec<Part>, PatternError> {
    let malformed = || PatternError::Variable {
        pattern: pattern.to_owned(),
        segment: segment.to_owned(),
    };
    let mut parts: Vec<Part> = Vec::new();
    let mut rest = segment;
    while let Some(first) = rest.chars().next() {
        let part = match first {
            '*' => {
                rest = &rest[1..];
                Part::Any
            }
            '{' => {
                let (name, after) = rest[1..].split_once('}').ok_or_else(malformed)?;
                let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
                if name.is_empty() || !name.chars().all(plain) {
                    return Err(malformed());
                }
                if seen.iter().any(|known| known == name) {
                    return Err(PatternError::Twice {
                        pattern: pattern.to_owned(),
                        name: name.to_owned(),
                    });
                }
                seen.push(name.to_owned());
                rest = after;
                Part::Variable(name.to_owned())
            }
            '}' => return Err(malformed()),
            _ => {
                let end = rest.find(['*', '{', '}']).unwrap_or(rest.len());
                let (text, after) = rest.split_at(end);
                rest = after;
                Part::Text(text.to_owned())
            }
        };
        let placeholder = |part: &Part| !matches!(part, Part::Text(_));
        if placeholder(&part) && parts.last().is_some_and(placeholder) {
            return Err(PatternError::SideBySide {
                pattern: pattern.to_owned(),
                segment: segment.to_owned(),
            });
        }
        parts.push(part);
    }
    Ok(parts)
}

fn match_segments(pattern: &[Segment], path: &[&str], captures: &mut Captures) -> bool {
    let Some((first, rest)) = pattern.split_first() else {
        return path.is_empty();
    };
    match first {
        Segment::AnyNumber => (0..=path.len()).any(|n| {
            path.get(n..)
                .is_some_and(|tail| match_segments(rest, tail, captures))
        }),
        Segment::Parts(parts) => {
            let Some((segment, tail)) = path.split_first() else {
                return false;
            };
            let mut own = captures.clone();
            let fits =
                match_parts(parts, segment, &mut own) && match_segments(rest, tail, &mut own);
            if fits {
                *captures = own;
            }
            fits
        }
    }
}

fn match_parts(parts: &[Part], text: &str, captures: &mut Captures) -> bool {
    let Some((first, rest)) = parts.split_first() else {
        return text.is_empty();
    };
    match first {
        Part::Text(literal) => text
            .get(..literal.len())
            .filter(|head| head.eq_ignore_ascii_case(literal))
            .and_then(|_| text.get(literal.len()..))
            .is_some_and(|tail| match_parts(rest, tail, captures)),
        Part::Any | Part::Variable(_) => {
            // The longest that lets the rest match; a variable stands for one character at least.
            let least = usize::from(matches!(first, Part::Variable(_)));
            (least..=text.len()).rev().any(|n| {
                let (Some(taken), Some(tail)) = (text.get(..n), text.get(n..)) else {
                    return false;
                };
                if !match_parts(rest, tail, captures) {
                    return false;
                }
                if let Part::Variable(name) = first {
                    captures.insert(name.clone(), taken.to_owned());
                }
                true
            })
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for Pattern {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, path: &str, expect: Option<&[(&str, &str)]>) {
        let found = Pattern::parse(pattern).unwrap().matches(path);
        let expect = expect.map(|pairs| {
            pairs
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect()
        });
        assert_eq!(found, expect, "{pattern} on {path}");
    }

    #[test]
    fn a_pattern_matches_the_whole_path() {
        check("acme/api", "acme/api", Some(&[]));
        check("acme/api", "acme/api/x", None);
        check("acme/api", "evil/acme/api", None);
        check("acme/**", "acme", Some(&[]));
        check("acme/**", "acme/a/b/c", Some(&[]));
        check("acme/**", "acme-evil/a", None);
        check("acme/*", "acme/a/b", None);
        check("acme/*-api", "acme/pay-api", Some(&[]));
        check("**/api", "acme/x/api", Some(&[]));
    }

    #[test]
    fn a_variable_keeps_what_it_stood_for() {
        check(
            "acme/{team}/**",
            "acme/payments/api",
            Some(&[("team", "payments")]),
        );
        check("acme/{team}/**", "acme", None);
        check(
            "acme/team-{team}/{app}",
            "acme/team-x/y",
            Some(&[("team", "x"), ("app", "y")]),
        );
        check("acme/team-{team}", "acme/team-", None);
    }

    #[test]
    fn case_is_ignored_as_gitlab_does() {
        check("Acme/{team}", "aCME/Pay", Some(&[("team", "Pay")]));
    }

    #[test]
    fn a_malformed_pattern_says_what_is_wrong() {
        for pattern in [
            "",
            "/acme",
            "acme/",
            "a//b",
            "a/{",
            "a/{}",
            "a/}",
            "a/{x}{y}",
            "a/{x}/{x}",
            "a/{x y}",
        ] {
            assert!(Pattern::parse(pattern).is_err(), "{pattern}");
        }
    }

    #[test]
    fn more_text_is_more_exact() {
        let exactness = |text: &str| Pattern::parse(text).unwrap().exactness();
        assert!(exactness("acme/api") > exactness("acme/*"));
        assert!(exactness("acme/payments/**") > exactness("acme/{team}/**"));
        assert!(exactness("acme/{team}") > exactness("acme/**"));
        assert_eq!(exactness("acme/{a}/**"), exactness("acme/{b}/**"));
    }

    proptest::proptest! {
        #[test]
        fn any_text_reads_or_is_refused_and_never_panics(pattern in ".{0,40}", path in ".{0,40}") {
            if let Ok(pattern) = Pattern::parse(&pattern) {
                let _ = pattern.matches(&path);
            }
        }
    }
}
