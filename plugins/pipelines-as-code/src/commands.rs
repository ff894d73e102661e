//! Commands in comments: `/test`, `/retest`, `/cancel`, `/ok-to-test`.

use std::collections::{BTreeMap, BTreeSet};

/// What the lines of a comment ask for.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Commands {
    /// `/test` alone: all that match.
    pub(crate) test: bool,
    /// `/retest` alone: all that failed.
    pub(crate) retest: bool,
    /// Pipelines named by `/test` or `/retest`: they run whatever their annotations say.
    pub(crate) names: BTreeSet<String>,
    /// `/cancel` alone.
    pub(crate) cancel: bool,
    /// Pipelines named by `/cancel`.
    pub(crate) cancel_names: BTreeSet<String>,
    /// `/ok-to-test`, with the beginning of a commit's id if one was written.
    pub(crate) ok_to_test: Option<Option<String>>,
    /// `branch:x` or `tag:x` as a full ref name.
    pub(crate) ref_name: Option<String>,
    /// `key=value`.
    pub(crate) arguments: BTreeMap<String, String>,
}

impl Commands {
    /// Reads a comment. A command stands at the beginning of a line.
    pub(crate) fn read(text: &str, prefix: Option<&str>) -> Self {
        let mut commands = Self::default();
        let mut arguments = false;
        for line in text.lines() {
            let Some(rest) = line.strip_prefix('/') else {
                continue;
            };
            let mut words = rest.split_whitespace();
            let mut word = words.next();
            if let Some(prefix) = prefix {
                if word != Some(prefix) {
                    continue;
                }
                word = words.next();
            }
            let Some(word) = word else { continue };
            let words: Vec<&str> = words.collect();
            arguments |= commands.line(word, &words);
        }
        if arguments {
            commands.arguments = arguments_of(text);
        }
        commands
    }

    /// Whether it asks for anything.
    pub(crate) fn is_empty(&self) -> bool {
        !(self.starts() || self.cancels() || self.ok_to_test.is_some())
    }

    pub(crate) fn starts(&self) -> bool {
        self.test || self.retest || !self.names.is_empty()
    }

    pub(crate) fn cancels(&self) -> bool {
        self.cancel || !self.cancel_names.is_empty()
    }

    /// One line; whether it is a command that takes arguments.
    fn line(&mut self, word: &str, words: &[&str]) -> bool {
        if word == "ok-to-test" {
            let commit = words.first().map(|it| (*it).to_lowercase());
            self.ok_to_test = Some(commit);
            return false;
        }
        if !matches!(word, "test" | "retest" | "cancel") {
            return false;
        }
        let mut name = None;
        for it in words {
            if let Some(branch) = it.strip_prefix("branch:") {
                self.ref_name = Some(full(branch, "refs/heads/"));
            } else if let Some(tag) = it.strip_prefix("tag:") {
                self.ref_name = Some(full(tag, "refs/tags/"));
            } else if it.contains('=') || it.contains('"') {
                break;
            } else if name.is_none() {
                name = Some((*it).to_owned());
            }
        }
        match (word, name) {
            ("test", None) => self.test = true,
            ("retest", None) => self.retest = true,
            ("cancel", None) => self.cancel = true,
            ("cancel", Some(name)) => drop(self.cancel_names.insert(name)),
            (_, Some(name)) => drop(self.names.insert(name)),
            _ => {}
        }
        word != "cancel"
    }
}

fn full(name: &str, prefix: &str) -> String {
    if name.starts_with(prefix) {
        name.to_owned()
    } else {
        format!("{prefix}{name}")
    }
}

/// All `key=value` and `key="some value"` of a comment.
fn arguments_of(text: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut rest = text;
    while let Some(at) = rest.find('=') {
        let (before, after) = rest.split_at(at);
        let after = after.strip_prefix('=').unwrap_or_default();
        let is_key = |it: char| it.is_ascii_alphanumeric() || it == '_' || it == '-';
        let start = before.rfind(|it| !is_key(it)).map_or(0, |it| {
            it + before
                .get(it..)
                .and_then(|rest| rest.chars().next())
                .map_or(1, char::len_utf8)
        });
        let key = before.get(start..).unwrap_or_default();
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted_value(quoted),
            None => {
                let end = after.find(char::is_whitespace).unwrap_or(after.len());
                let (value, after) = after.split_at(end);
                (value.to_owned(), after)
            }
        };
        if !key.is_empty() {
            found.insert(key.to_owned(), value);
        }
        rest = after;
    }
    found
}

/// A value in double quotes, in which `\"` is a quote.
fn quoted_value(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, it)) = characters.next() {
        match it {
            '"' => return (value, text.get(at + 1..).unwrap_or_default()),
            '\\' => value.extend(characters.next().map(|(_, it)| it)),
            it => value.push(it),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Commands {
        Commands::read(text, None)
    }

    #[test]
    fn a_command_stands_at_the_beginning_of_a_line() {
        assert!(read("Roses are red.\n\n/test").test);
        assert!(read("/retest \r\nthanks").retest);
        assert_eq!(read("/test unit\n/test lint").names.len(), 2);
        assert!(read("/cancel").cancel);
        assert!(read("/cancel unit").cancel_names.contains("unit"));
        for nothing in [
            "please /test",
            " /test",
            "/testing",
            "/approve",
            "//test",
            "/",
        ] {
            assert!(read(nothing).is_empty(), "{nothing}");
        }
    }

    #[test]
    fn an_approval_may_name_its_commit() {
        assert_eq!(read("/ok-to-test").ok_to_test, Some(None));
        assert_eq!(
            read("/ok-to-test ABCDEF12").ok_to_test,
            Some(Some("abcdef12".to_owned()))
        );
    }

    #[test]
    fn refs_are_named_by_their_kind() {
        let check =
            |text: &str, expect: &str| assert_eq!(read(text).ref_name.as_deref(), Some(expect));
        check("/test branch:nightly", "refs/heads/nightly");
        check("/retest unit branch:a/b", "refs/heads/a/b");
        check("/test tag:v1", "refs/tags/v1");
        check("/cancel branch:refs/heads/x", "refs/heads/x");
    }

    #[test]
    fn arguments_may_have_spaces_and_lines() {
        let commands = read("/test unit a=1 b=\"two words\" c=\"x \\\"y\\\"\"\nd=\"over\nlines\"");
        let expect = [
            ("a", "1"),
            ("b", "two words"),
            ("c", "x \"y\""),
            ("d", "over\nlines"),
        ];
        let expect: BTreeMap<String, String> = expect
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into();
        assert_eq!(commands.arguments, expect);
        assert!(commands.names.contains("unit") && !commands.test);
        assert!(read("/test a=1").test);
        assert_eq!(read("x=1\n/cancel").arguments, BTreeMap::new());
    }

    #[test]
    fn a_prefix_hides_the_bare_commands() {
        let commands = Commands::read("/test\n/pac retest\n/pac cancel unit", Some("pac"));
        assert!(!commands.test && commands.retest && commands.cancel_names.contains("unit"));
    }

    proptest! {
        #[test]
        fn any_comment_is_read(text in any::<String>()) {
            let _ = read(&text);
            let _ = read(&format!("/test {text}"));
        }
    }
}
