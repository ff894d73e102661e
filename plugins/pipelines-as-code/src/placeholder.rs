//! `{{ … }}` in the text of a file, before and after it is read as YAML.
//!
//! Pipelines-as-Code replaces them in the text, so a branch name may add a field. Here
//! each becomes a mark that YAML reads as a part of a text, and values are put into the
//! parsed document: a value is never read as YAML.

use penstock_sdk::Problem;

/// Begins and ends a mark; between them stands the placeholder's number. Both are
/// characters for private use, and YAML takes them in plain text.
const OPEN: char = '\u{E000}';
const CLOSE: char = '\u{E001}';

/// One placeholder as it was written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Placeholder {
    /// With its braces.
    pub(crate) raw: String,
    /// What is between the braces.
    pub(crate) name: String,
    pub(crate) file: String,
    pub(crate) line: u32,
    pub(crate) column: u32,
    /// It is a whole value without quotes, which YAML would read as a number or a bool.
    pub(crate) plain: bool,
}

/// All placeholders of the files that were read.
#[derive(Debug, Default)]
pub(crate) struct Placeholders(Vec<Placeholder>);

/// A piece of a text.
#[derive(Debug, PartialEq)]
pub(crate) enum Piece<'t> {
    Text(&'t str),
    /// Number of a placeholder.
    Mark(usize),
}

impl Placeholders {
    pub(crate) fn get(&self, number: usize) -> Option<&Placeholder> {
        self.0.get(number)
    }

    /// The text with a mark for each placeholder. `first_line` is the text's in its file.
    pub(crate) fn mark(&mut self, file: &str, first_line: u32, text: &str) -> String {
        let mut marked = String::with_capacity(text.len());
        let mut rest = text;
        let mut line = first_line;
        let mut line_start = 0;
        while let Some((before, raw, after)) = next(rest) {
            let at = text.len() - rest.len() + before.len();
            if let Some(last) = text.get(..at).and_then(|it| it.rfind('\n')) {
                let passed = text.get(line_start..=last).unwrap_or_default();
                line += u32::try_from(passed.matches('\n').count()).unwrap_or(0);
                line_start = last + 1;
            }
            let column = text.get(line_start..at).unwrap_or_default().chars().count() + 1;
            marked.push_str(before);
            marked.push(OPEN);
            marked.push_str(&self.0.len().to_string());
            marked.push(CLOSE);
            self.0.push(Placeholder {
                raw: raw.to_owned(),
                name: raw.trim_matches(['{', '}']).trim().to_owned(),
                file: file.to_owned(),
                line,
                column: u32::try_from(column).unwrap_or(u32::MAX),
                plain: is_plain(text.get(line_start..at).unwrap_or_default(), after),
            });
            rest = after;
        }
        marked.push_str(rest);
        marked
    }

    /// The text as it was written.
    pub(crate) fn unmark(&self, text: &str) -> String {
        pieces(text)
            .into_iter()
            .map(|piece| match piece {
                Piece::Text(text) => text.to_owned(),
                Piece::Mark(number) => self
                    .get(number)
                    .map_or_else(String::new, |it| it.raw.clone()),
            })
            .collect()
    }

    /// Line and column of a marked text as those of the text as it was written, in which a
    /// placeholder is longer and may have several lines.
    pub(crate) fn place(&self, marked: &str, line: u32, column: u32) -> (u32, u32) {
        let index = |it: u32| usize::try_from(it.saturating_sub(1)).unwrap_or(0);
        let mut lines = marked.split_inclusive('\n');
        let mut before: String = lines.by_ref().take(index(line)).collect();
        before.extend(lines.next().unwrap_or_default().chars().take(index(column)));
        let written = self.unmark(&before);
        Problem::position(&written, written.len())
    }
}

/// The next placeholder: what is before it, itself, what is after it. At least two
/// characters stand between the braces, none of them `}`.
fn next(text: &str) -> Option<(&str, &str, &str)> {
    let mut from = 0;
    loop {
        let open = from + text.get(from..)?.find("{{")?;
        let inside = text.get(open + 2..)?;
        // Of `{{{ x }}` the inner braces count.
        if inside.starts_with('{') {
            from = open + 1;
            continue;
        }
        let end = inside.find('}')?;
        if end >= 2 && inside.get(end..)?.starts_with("}}") {
            let close = open + 2 + end + 2;
            return Some((
                text.get(..open)?,
                text.get(open..close)?,
                text.get(close..)?,
            ));
        }
        from = open + 2;
    }
}

fn is_plain(before: &str, after: &str) -> bool {
    let starts = before.trim_end().ends_with([':', '-']);
    let rest = after.lines().next().unwrap_or_default().trim();
    starts && (rest.is_empty() || rest.starts_with(['#', ',', '}', ']']))
}

/// A text in its pieces.
pub(crate) fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((before, found)) = rest.split_once(OPEN) {
        let Some((number, after)) = found.split_once(CLOSE) else {
            break;
        };
        let Ok(number) = number.parse() else { break };
        if !before.is_empty() {
            pieces.push(Piece::Text(before));
        }
        pieces.push(Piece::Mark(number));
        rest = after;
    }
    if !rest.is_empty() || pieces.is_empty() {
        pieces.push(Piece::Text(rest));
    }
    pieces
}

/// Whether a text has a mark.
pub(crate) fn is_marked(text: &str) -> bool {
    text.contains(OPEN)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names(text: &str) -> Vec<String> {
        let mut all = Placeholders::default();
        all.mark("f", 1, text);
        all.0.into_iter().map(|it| it.name).collect()
    }

    #[test]
    fn placeholders_are_found_as_pipelines_as_code_finds_them() {
        assert_eq!(
            names("a {{ revision }} b {{repo_url}}"),
            ["revision", "repo_url"]
        );
        assert_eq!(
            names("{{ body.a[0] }} {{ headers['x'] }}"),
            ["body.a[0]", "headers['x']"]
        );
        assert_eq!(names("{{}} {{x}} { {{ ab } }} {{ }}"), Vec::<String>::new());
        assert_eq!(names("{{{ ab }}"), ["ab"]);
        assert_eq!(
            names("{a: {{ cel: x == \"y\" ? \"1\" : \"2\" }}}"),
            ["cel: x == \"y\" ? \"1\" : \"2\""]
        );
    }

    #[test]
    fn a_placeholder_knows_its_place() {
        let mut all = Placeholders::default();
        let marked = all.mark(
            "f",
            5,
            "a: {{ one }}\nä: \"{{ two }}\" # {{ three }}\n- {{ four }} # x\n",
        );
        let places: Vec<_> = all
            .0
            .iter()
            .map(|it| (it.line, it.column, it.plain))
            .collect();
        assert_eq!(
            places,
            [(5, 4, true), (6, 5, false), (6, 18, false), (7, 3, true)]
        );
        assert_eq!(all.place(&marked, 2, 8), (2, 14));
    }

    #[test]
    fn a_placeholder_of_several_lines_moves_no_place() {
        let mut all = Placeholders::default();
        let marked = all.mark("f", 1, "a: {{ cel:\n  one +\n  two }} x\nb: 1\n");
        assert_eq!(marked.lines().count(), 2);
        assert_eq!(all.place(&marked, 2, 1), (4, 1));
        assert_eq!(all.place(&marked, 1, 8), (3, 10));
    }

    proptest! {
        #[test]
        fn marking_loses_nothing(text in "[a{} \n\"]{0,60}") {
            let mut all = Placeholders::default();
            let marked = all.mark("f", 1, &text);
            prop_assert_eq!(all.unmark(&marked), text);
        }
    }
}
