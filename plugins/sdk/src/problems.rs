//! Problems with a place in a file, and how other errors become a plugin's error.

use crate::contract::penstock::plugin::types::{LookupError, PluginError, Problem};

impl Problem {
    /// A problem of a file of the repository (`.tekton/build.yaml`) or of a setting
    /// (`rules[2].when`). The message says what is wrong and what to do.
    #[must_use]
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            line: None,
            column: None,
            message: message.into(),
        }
    }

    /// At a line and a column, both from 1.
    #[must_use]
    pub fn at(mut self, line: u32, column: u32) -> Self {
        self.line = Some(line);
        self.column = Some(column);
        self
    }

    /// The line and column, from 1 and in characters, of a byte offset in a text.
    /// An offset past the end is the end.
    #[must_use]
    pub fn position(text: &str, offset: usize) -> (u32, u32) {
        let mut end = offset.min(text.len());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let (before, _) = text.split_at(end);
        let line = before.matches('\n').count() + 1;
        let column = before
            .rsplit('\n')
            .next()
            .map_or(0, |last| last.chars().count())
            + 1;
        (
            u32::try_from(line).unwrap_or(u32::MAX),
            u32::try_from(column).unwrap_or(u32::MAX),
        )
    }
}

impl PluginError {
    /// A fault of a file in the repository.
    #[must_use]
    pub fn source(problem: Problem) -> Self {
        Self::Source(vec![problem])
    }

    /// A lookup that failed, with what was asked for.
    #[must_use]
    pub fn lookup(asked: &str, error: &LookupError) -> Self {
        Self::Other(format!("{asked}: {}", error.describe()))
    }
}

impl LookupError {
    /// What happened, for a person.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::NotFound => "there is no such thing".to_owned(),
            Self::Denied(why) => format!("denied: {why}"),
            Self::TooLarge(size) => format!("it has {size} bytes, more than the plugin may read"),
            Self::Invalid(why) => format!("malformed question: {why}"),
        }
    }
}

impl From<String> for PluginError {
    fn from(message: String) -> Self {
        Self::Other(message)
    }
}

impl From<&str> for PluginError {
    fn from(message: &str) -> Self {
        Self::Other(message.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, offset: usize, expect: (u32, u32)) {
        assert_eq!(
            Problem::position(text, offset),
            expect,
            "{text:?} at {offset}"
        );
    }

    #[test]
    fn positions_count_characters_from_one() {
        check("", 0, (1, 1));
        check("abc", 2, (1, 3));
        check("a\nbc", 2, (2, 1));
        check("a\nbc", 3, (2, 2));
        check("ä\nöx", 3, (2, 1));
        check("ä\nöx", 5, (2, 2));
        check("öx", 1, (1, 1));
        check("a\n", 99, (2, 1));
    }
}
