//! Takes the power out of a comment's text: a plugin wrote it, and GitLab would do what it says.
//!
//! A line that begins with `/word` is a quick action (`/merge`, `/approve`) of Penstock's own user; `@name` sends mail. A zero-width
//! space before the slash or after the sign ends both and shows nowhere, in code blocks neither: a backslash would show there, and where a
//! code block really ends is GitLab's to say, not ours to guess.

const NOTHING: char = '\u{200b}';

/// Mentions that a comment may make; the others stay as text.
const MOST_MENTIONS: usize = 10;

/// The text without quick actions, with few mentions and none of everybody.
pub(crate) fn neutral(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    let mut line_start = true;
    let mut mentions = 0;
    let mut before = '\n';
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        if c == '/'
            && line_start
            && rest
                .peek()
                .is_some_and(|next| next.is_alphanumeric() || *next == '_')
        {
            out.push(NOTHING);
        }
        out.push(c);
        let names = rest
            .peek()
            .is_some_and(|next| next.is_alphanumeric() || *next == '_' || *next == '.');
        if c == '@' && names && !before.is_alphanumeric() {
            mentions += 1;
            let name: String = rest
                .clone()
                .take_while(|next| next.is_alphanumeric() || "_-.".contains(*next))
                .take(4)
                .collect();
            if mentions > MOST_MENTIONS || name.eq_ignore_ascii_case("all") {
                out.push(NOTHING);
            }
        }
        line_start = match c {
            '\n' | '\r' | '\u{2028}' | '\u{2029}' | '\u{85}' | '\u{b}' | '\u{c}' => true,
            // What GitLab's pattern takes for the margin of a line.
            c if c.is_whitespace() || matches!(c, '>' | NOTHING | '\u{feff}') => line_start,
            _ => false,
        };
        before = c;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn acts(text: &str) -> bool {
        let mut lines = text.split(['\n', '\r']);
        lines.any(|line| {
            let word = line
                .trim_start_matches(|c: char| c.is_whitespace() || c == '>')
                .strip_prefix('/');
            word.is_some_and(|word| word.starts_with(|c: char| c.is_ascii_alphabetic()))
        })
    }

    #[test]
    fn quick_actions_lose_their_power_wherever_a_line_begins() {
        for text in [
            "/merge",
            "ok\n/approve",
            "ok\r/approve",
            "  /close",
            "\t/close",
            "```\n/merge\n```\n/merge",
            "> /merge",
            "<!-- -->\n/merge",
        ] {
            assert!(acts(text), "{text:?} is a bad example");
            let safe = neutral(text);
            assert!(!acts(&safe), "{safe:?}");
            assert_eq!(safe.replace(NOTHING, ""), text);
        }
    }

    #[test]
    fn other_text_stays_as_it_is() {
        for text in [
            "a/b",
            "see https://x.example/a",
            "/ alone",
            "//",
            "a@example.com",
            "hello @alice",
            "| a /b |",
        ] {
            assert_eq!(neutral(text), text);
        }
    }

    #[test]
    fn everybody_is_never_mentioned_and_others_at_most_ten_times() {
        assert_eq!(neutral("@all @ALL"), format!("@{NOTHING}all @{NOTHING}ALL"));
        assert_eq!(neutral("@allison"), "@allison");
        let many = "@a ".repeat(30);
        assert_eq!(neutral(&many).matches(NOTHING).count(), 20);
    }

    proptest! {
        #[test]
        fn no_text_acts(text in "[ \t\r\n/>a-z@`<!-]{0,80}") {
            prop_assert!(!acts(&neutral(&text)));
        }
    }
}
