//! What of a log may be shown: its last lines, as plain text, without what looks like a secret or is one.
//!
//! Pure. The log was written by whoever can push, and by tools that print what they were given.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use penstock_model::secret::Secret;
use regex::Regex;
use zeroize::Zeroizing;

/// Lines that are kept.
const LINES: usize = 30;
/// Characters of a line that are kept.
const LINE: usize = 400;
/// Characters in all.
const ALL: usize = 4_000;
/// What stands in the place of a secret.
const MASK: &str = "[redacted]";
/// A shorter text is no secret, and masking it would make holes everywhere.
const SHORTEST: usize = 6;

/// What looks like a secret: tokens of GitLab, JSON web tokens, credentials in URLs and headers, private keys.
static LOOKS: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let kinds = [
        r"\bgl[a-z]{2,8}-[A-Za-z0-9_.=-]{16,}",
        r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*",
        r"(?i)\b(?:bearer|basic)[ \t]+[A-Za-z0-9+/_.=~-]{16,}",
        r"(?i)\b(?:private|job|deploy)-token:[ \t]*\S+",
        r"://[^/\s:@]*:[^/\s@]+@",
        r"(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\z)",
    ];
    let kinds = kinds.map(|kind| format!("(?:{kind})"));
    Regex::new(&kinds.join("|")).ok()
});
/// The end of a private key whose beginning is further up.
static KEY_END: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"(?s)\A.*-----END [A-Z ]*PRIVATE KEY-----").ok());

/// The last lines of `log`, fit to be shown; none: nothing is left. `cut`: the last line is not whole, and half a secret could not be told.
pub(super) fn clean(log: &str, cut: bool, secrets: &[Secret]) -> Option<String> {
    let text = plain(log, cut);
    let text = masked(text, secrets)?;
    let mut kept: Vec<String> = Vec::new();
    let mut room = ALL;
    for line in text.trim_end().lines().rev().take(LINES) {
        let line = shortened(line.trim_end());
        let length = line.chars().count() + 1;
        if length > room {
            break;
        }
        room -= length;
        kept.push(line);
    }
    kept.reverse();
    let text = kept.join("\n");
    (!text.trim().is_empty()).then_some(text)
}

/// Without escape sequences, control characters and what turns the order of letters round; of a line that was written over, what stood there last.
fn plain(log: &str, cut: bool) -> String {
    let text = anstream::adapter::strip_str(log).to_string();
    let whole = match text.rsplit_once('\n') {
        Some((whole, _)) if cut => whole,
        _ if cut => "",
        _ => text.as_str(),
    };
    let line = |line: &str| -> String {
        let line = line.trim_end_matches('\r');
        let last = line.rsplit('\r').next().unwrap_or_default();
        last.chars().filter(|it| is_plain(*it)).collect()
    };
    whole.split('\n').map(line).collect::<Vec<_>>().join("\n")
}

fn is_plain(it: char) -> bool {
    let turns = matches!(it, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}');
    it == '\t' || !(it.is_control() || turns)
}

/// None: nothing can be masked, so nothing is shown.
fn masked(text: String, secrets: &[Secret]) -> Option<String> {
    let mut text = Zeroizing::new(text);
    for secret in secrets {
        for form in forms(secret.reveal()) {
            if text.contains(form.as_str()) {
                *text = text.replace(form.as_str(), MASK);
            }
        }
    }
    let text = LOOKS.as_ref()?.replace_all(&text, MASK);
    Some(KEY_END.as_ref()?.replace(&text, MASK).into_owned())
}

/// A secret as it is, each of its lines, and as base64 has it within a longer text, wherever it begins there.
fn forms(secret: &str) -> Vec<Zeroizing<String>> {
    let mut forms: Vec<Zeroizing<String>> = secret
        .lines()
        .map(str::trim)
        .filter(|line| line.len() >= SHORTEST)
        .map(|line| Zeroizing::new(line.to_owned()))
        .collect();
    let whole = secret.trim();
    if whole.len() >= SHORTEST * 2 {
        for before in 0..3_usize {
            let mut bytes = Zeroizing::new(vec![0; before]);
            bytes.extend_from_slice(whole.as_bytes());
            let coded = Zeroizing::new(STANDARD_NO_PAD.encode(&bytes));
            // Characters at both ends depend on what stands beside the secret, too.
            let from = [0, 2, 3].get(before).copied().unwrap_or_default();
            let to = bytes.len() * 8 / 6;
            if let Some(inner) = coded.get(from..to) {
                forms.push(Zeroizing::new(inner.to_owned()));
            }
        }
    }
    forms
}

fn shortened(line: &str) -> String {
    match line.char_indices().nth(LINE) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default()),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    fn check(log: &str, expect: &str) {
        let secrets = [
            Secret::new("hunter2-hunter2"),
            Secret::new("line one\nline two"),
            Secret::new("abc"),
        ];
        assert_eq!(
            clean(log, false, &secrets).as_deref(),
            Some(expect),
            "{log:?}"
        );
    }

    #[test]
    fn what_a_terminal_would_act_on_is_left_out() {
        check(
            "\u{1b}[31mred\u{1b}[0m \u{1b}]8;;http://evil\u{7}link\u{1b}]8;;\u{7}\n",
            "red link",
        );
        check("10%\r50%\r100%\r\ndone\r\n", "100%\ndone");
        check("a\u{0}b\u{8}c\u{202e}d\u{200b}e\tf", "abcde\tf");
        check("\u{1b}[31mhun\u{1b}[0mter2-hunter2", MASK);
    }

    #[test]
    fn a_secret_that_the_host_knows_is_masked_in_every_form() {
        check(
            "token hunter2-hunter2 and abc",
            &format!("token {MASK} and abc"),
        );
        check("line one\nline two", &format!("{MASK}\n{MASK}"));
        for before in ["", "u", "us", "use"] {
            for after in ["", "x", "xy"] {
                let coded = STANDARD.encode(format!("{before}hunter2-hunter2{after}"));
                let shown = clean(&coded, false, &[Secret::new("hunter2-hunter2")]).unwrap();
                assert!(
                    shown.contains(MASK),
                    "{before} {after}: {coded} gives {shown}"
                );
                assert!(shown.replace(MASK, "").len() <= 12, "{shown}");
            }
        }
    }

    #[test]
    fn what_looks_like_a_secret_is_masked() {
        check("glpat-0123456789abcdefghij!", &format!("{MASK}!"));
        check("gldt-0123456789abcdefghij", MASK);
        check(
            "a eyJhbGciOiJSUzI1.eyJpc3MiOiJr.c2lnbmF0dXJl b",
            &format!("a {MASK} b"),
        );
        check(
            "Authorization: Bearer 0123456789abcdef01",
            &format!("Authorization: {MASK}"),
        );
        check("PRIVATE-TOKEN: x1", MASK);
        check(
            "https://user:pass@example.com/x",
            &format!("https{MASK}example.com/x"),
        );
        check(
            "a\n-----BEGIN RSA PRIVATE KEY-----\nMII\n-----END RSA PRIVATE KEY-----\nb",
            &format!("a\n{MASK}\nb"),
        );
        check("a\n-----BEGIN PRIVATE KEY-----\nMII", &format!("a\n{MASK}"));
        check("MII\n-----END PRIVATE KEY-----\nb", &format!("{MASK}\nb"));
    }

    #[test]
    fn the_last_lines_are_kept_and_no_half_of_one() {
        let log: String = (0..100).map(|line| format!("line {line}\n")).collect();
        let shown = clean(&log, false, &[]).unwrap();
        assert_eq!(shown.lines().count(), LINES);
        assert!(shown.starts_with("line 70") && shown.ends_with("line 99"));
        assert_eq!(clean("one\nhunter2-hun", true, &[]).as_deref(), Some("one"));
        assert_eq!(clean("hunter2-hun", true, &[]), None);
        assert_eq!(clean(" \n\t\n", false, &[]), None);
        let long = clean(&"ü".repeat(5_000), false, &[]).unwrap();
        assert_eq!(long.chars().count(), LINE + 1);
        let many = clean(&format!("{}\n", "x".repeat(300)).repeat(30), false, &[]).unwrap();
        assert!(many.chars().count() <= ALL && many.lines().count() == 13);
    }
}
