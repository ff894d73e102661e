//! Globs as Pipelines-as-Code has them: those of Go's `gobwas/glob` without a
//! separator, so `*` takes slashes too and `**` and `***` mean the same.
//!
//! A glob becomes a regular expression that is matched in linear time: the pattern
//! comes from the repository.

use regex_lite::Regex;

/// A pattern.
#[derive(Debug)]
pub(crate) struct Glob(Regex);

impl Glob {
    /// Reads a pattern.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn new(pattern: &str) -> Result<Self, String> {
        let text = translate(pattern).map_err(|why| format!("`{pattern}` is no glob: {why}"))?;
        Regex::new(&text)
            .map(Self)
            .map_err(|error| format!("`{pattern}` is no glob: {error}"))
    }

    /// Whether it stands for the whole text.
    pub(crate) fn matches(&self, text: &str) -> bool {
        self.0.is_match(text)
    }
}

fn translate(pattern: &str) -> Result<String, &'static str> {
    let mut regex = String::from("(?s)^(?:");
    let mut depth = 0_u32;
    let mut rest = pattern.chars().peekable();
    while let Some(it) = rest.next() {
        match it {
            '*' => {
                while rest.next_if_eq(&'*').is_some() {}
                regex.push_str(".*");
            }
            '?' => regex.push('.'),
            '{' => {
                depth += 1;
                regex.push_str("(?:");
            }
            '}' if depth > 0 => {
                depth -= 1;
                regex.push(')');
            }
            ',' if depth > 0 => regex.push('|'),
            '[' => {
                regex.push('[');
                if rest.next_if_eq(&'!').is_some() {
                    regex.push('^');
                }
                let mut empty = true;
                loop {
                    match rest.next() {
                        None => return Err("a `[` is not closed"),
                        Some(']') if !empty => break,
                        Some('-') => regex.push('-'),
                        Some(it) => push_literal(&mut regex, it),
                    }
                    empty = false;
                }
                regex.push(']');
            }
            '\\' => match rest.next() {
                Some(it) => push_literal(&mut regex, it),
                None => return Err("it ends in a `\\`"),
            },
            it => push_literal(&mut regex, it),
        }
    }
    if depth > 0 {
        return Err("a `{` is not closed");
    }
    regex.push_str(")$");
    Ok(regex)
}

fn push_literal(regex: &mut String, it: char) {
    if it.is_ascii_punctuation() && it != '_' {
        regex.push('\\');
    }
    regex.push(it);
}

/// Whether a pattern of `on-target-branch` stands for a full ref name. A short
/// pattern is one of branches.
pub(crate) fn matches_ref(pattern: &str, full: &str) -> Result<bool, String> {
    let pattern = if pattern.starts_with("refs/heads/") || pattern.starts_with("refs/tags/") {
        pattern.to_owned()
    } else {
        format!("refs/heads/{pattern}")
    };
    Ok(pattern == full || Glob::new(&pattern)?.matches(full))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(pattern: &str, yes: &[&str], no: &[&str]) {
        let glob = Glob::new(pattern).unwrap();
        for text in yes {
            assert!(glob.matches(text), "{pattern} must match {text}");
        }
        for text in no {
            assert!(!glob.matches(text), "{pattern} must not match {text}");
        }
    }

    #[test]
    fn the_documented_globs_match_as_documented() {
        check(
            "docs/**.md",
            &["docs/a.md", "docs/a/b.md"],
            &["docs/a.rst", "x/docs/a.md"],
        );
        check("docs/*.md", &["docs/a.md", "docs/a/b.md"], &["docs/a.txt"]);
        check(
            "docs/***",
            &["docs/a", "docs/generated/b"],
            &["doc/a", "docs"],
        );
        check("***.go", &["main.go", "a/b.go"], &["go.mod"]);
        check("manual/**.rst", &["manual/a/b.rst"], &["manual/a.md"]);
        check("{src,lib}/?.rs", &["src/a.rs", "lib/b.rs"], &["src/ab.rs"]);
        check("v[0-9].[!x]", &["v1.0"], &["vx.0", "v1.x"]);
        check(r"a\*b.c", &["a*b.c"], &["axb.c", "a*bxc"]);
        check("a+b(c)", &["a+b(c)"], &["aab(c)"]);
    }

    #[test]
    fn a_short_branch_pattern_never_stands_for_a_tag() {
        let check = |pattern: &str, full: &str, expect: bool| {
            assert_eq!(matches_ref(pattern, full), Ok(expect), "{pattern} {full}");
        };
        check("main", "refs/heads/main", true);
        check("main", "refs/heads/feature/main", false);
        check("refs/heads/main", "refs/heads/main", true);
        check("refs/heads/*", "refs/heads/a/b", true);
        check("release-*", "refs/heads/release-1", true);
        check("*", "refs/tags/1.0", false);
        check("refs/tags/1.*", "refs/tags/1.0", true);
        check("refs/tags/1.*", "refs/heads/1.0", false);
    }

    #[test]
    fn a_broken_glob_says_what_is_wrong() {
        assert!(Glob::new("a[b").unwrap_err().contains("not closed"));
        assert!(Glob::new("a{b").unwrap_err().contains("not closed"));
        assert!(Glob::new("a\\").unwrap_err().contains("ends in"));
    }

    proptest! {
        #[test]
        fn any_pattern_is_read_or_refused(pattern in ".{0,40}", text in ".{0,40}") {
            if let Ok(glob) = Glob::new(&pattern) {
                let _ = glob.matches(&text);
            }
        }

        #[test]
        fn a_text_without_signs_stands_for_itself(text in "[a-z/.]{1,20}") {
            prop_assert!(Glob::new(&text).unwrap().matches(&text));
        }
    }
}
