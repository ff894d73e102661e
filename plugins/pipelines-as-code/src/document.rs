//! One document of a file: its value, and where in the file something stands.

use penstock_reading::yaml;
use penstock_sdk::Problem;
use serde_json::Value;

use crate::placeholder::Placeholders;

/// A YAML document.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    /// Path or address of the file.
    pub(crate) file: String,
    /// Line of the file at which it begins, from 1.
    first_line: u32,
    /// As it was written.
    text: String,
    /// What it says; placeholders are marks.
    pub(crate) value: Value,
}

impl Document {
    pub(crate) fn text_at(&self, pointer: &str) -> &str {
        self.value
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    pub(crate) fn kind(&self) -> &str {
        self.text_at("/kind")
    }

    pub(crate) fn name(&self) -> &str {
        self.text_at("/metadata/name")
    }

    /// A problem at the place where these words stand one after the other; where a word
    /// is not to be found, the last one that was. Of several places it is the one where
    /// the last word stands nearest behind the one before it: a name may stand elsewhere
    /// too, and mean something else there.
    pub(crate) fn problem(&self, words: &[&str], message: impl Into<String>) -> Problem {
        let (way, last) = match words {
            [way @ .., holder, word] => (way, Some((holder, word))),
            way => (way, None),
        };
        let mut at = 0;
        for word in way {
            at = self.next(at, word).unwrap_or(at);
        }
        if let Some((holder, word)) = last {
            at = self.nearest(at, holder, word).unwrap_or(at);
        }
        let (line, column) = Problem::position(&self.text, at);
        Problem::new(&self.file, message).at(self.first_line + line - 1, column)
    }

    /// Where a word stands from a place on.
    fn next(&self, from: usize, word: &str) -> Option<usize> {
        Some(from + word_at(self.text.get(from..)?, word)?)
    }

    fn nearest(&self, from: usize, holder: &str, word: &str) -> Option<usize> {
        let first = self.next(from, holder);
        let mut best: Option<(usize, usize)> = None;
        let mut word_place = None;
        let mut holder_place = first;
        while let Some(holder_at) = holder_place {
            if word_place.is_none_or(|it| it < holder_at) {
                word_place = self.next(holder_at, word);
            }
            // Behind this holder there is none, and so behind no later one.
            let Some(word_at) = word_place else { break };
            let gap = word_at - holder_at;
            if best.is_none_or(|(least, _)| gap < least) {
                best = Some((gap, word_at));
            }
            holder_place = self.next(holder_at + holder.len().max(1), holder);
        }
        best.map(|(_, at)| at).or(first)
    }
}

/// Where a word stands that is not a part of another.
fn word_at(text: &str, word: &str) -> Option<usize> {
    let inside = |it: char| it.is_alphanumeric() || it == '_' || it == '-';
    let mut from = 0;
    while let Some(found) = text.get(from..)?.find(word) {
        let at = from + found;
        let before = text.get(..at)?.chars().next_back();
        let after = text.get(at + word.len()..)?.chars().next();
        if !before.is_some_and(inside) && !after.is_some_and(inside) {
            return Some(at);
        }
        from = at + word.len().max(1);
    }
    None
}

/// Reads all documents of a file; each is read for itself, so that one mistake hides no
/// other document.
pub(crate) fn read(
    file: &str,
    text: &str,
    placeholders: &mut Placeholders,
) -> (Vec<Document>, Vec<Problem>) {
    let mut documents = Vec::new();
    let mut problems = Vec::new();
    for (first_line, text) in split(text) {
        let marked = placeholders.mark(file, first_line, &text);
        match yaml::parse(&marked) {
            Ok(Value::Null) => {}
            Ok(value) => documents.push(Document {
                file: file.to_owned(),
                first_line,
                text,
                value,
            }),
            Err(fault) => {
                let problem = Problem::new(file, placeholders.unmark(&fault.message));
                problems.push(match fault.place {
                    Some((line, column)) => {
                        let (line, column) = placeholders.place(&marked, line, column);
                        problem.at(first_line + line - 1, column)
                    }
                    None => problem.at(first_line, 1),
                });
            }
        }
    }
    (documents, problems)
}

/// The documents of a file with the lines at which they begin. A line of `---` at the
/// margin ends a document wherever it stands: YAML lets no text have one.
fn split(text: &str) -> Vec<(u32, String)> {
    let mut documents = Vec::new();
    let mut current = String::new();
    let mut first = 1;
    let mut number = 0;
    let text = text.strip_prefix('\u{FEFF}').unwrap_or(text);
    for line in text.split_inclusive('\n') {
        number += 1;
        let bare = line.trim_end();
        let ends = bare == "..." || bare == "---" || bare.starts_with("--- ");
        if !ends {
            // A directive is of no use to anybody here.
            if line.starts_with('%') && current.trim().is_empty() {
                current.push('\n');
            } else {
                current.push_str(line);
            }
            continue;
        }
        documents.push((first, std::mem::take(&mut current)));
        match line.strip_prefix("---").filter(|rest| !is_blank(rest)) {
            Some(rest) => {
                first = number;
                current.push_str("   ");
                current.push_str(rest);
            }
            None => first = number + 1,
        }
    }
    documents.push((first, current));
    documents.retain(|(_, text)| !is_blank(text));
    documents
}

/// Nothing but space and comments.
fn is_blank(text: &str) -> bool {
    text.lines()
        .map(str::trim)
        .all(|line| line.is_empty() || line.starts_with('#'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> Vec<(u32, String)> {
        split(text)
    }

    #[test]
    fn documents_are_split_with_their_lines() {
        assert_eq!(
            parts("---\na: 1\n---\n# nothing\n---\nb: |\n  ---\n...\n--- {c: 1}\n"),
            [
                (2, "a: 1\n".to_owned()),
                (6, "b: |\n  ---\n".to_owned()),
                (9, "    {c: 1}\n".to_owned()),
            ]
        );
        assert_eq!(parts("%YAML 1.2\n---\na: 1\n"), [(3, "a: 1\n".to_owned())]);
        assert_eq!(parts("# only words\n\n"), []);
    }

    #[test]
    fn one_broken_document_hides_no_other() {
        let mut placeholders = Placeholders::default();
        let (documents, problems) = read(
            "a.yaml",
            "a: 1\n---\nb: {{ revision }} [\n  c: [1,\n---\nd: 1\n",
            &mut placeholders,
        );
        assert_eq!(documents.len(), 2);
        assert_eq!(problems.len(), 1);
        assert!(
            problems[0].line >= Some(3) && problems[0].line <= Some(5),
            "{problems:?}"
        );
    }

    #[test]
    fn a_mistake_behind_a_placeholder_of_several_lines_has_its_line() {
        let mut placeholders = Placeholders::default();
        let (_, problems) = read(
            "a.yaml",
            "a: 1\n---\nb: >\n  {{ cel: target_branch ==\n    'main' }}\nc: [1\n---\nd: 1\n",
            &mut placeholders,
        );
        assert_eq!(problems.len(), 1);
        assert!(problems[0].line >= Some(6), "{problems:?}");
    }

    #[test]
    fn unquoted_placeholders_are_values() {
        let mut placeholders = Placeholders::default();
        let (documents, problems) = read(
            "a.yaml",
            "a: {{ revision }}\nb: x-{{ repo_name }}-y\n",
            &mut placeholders,
        );
        assert_eq!(problems, []);
        let shown = placeholders.unmark(documents[0].text_at("/b"));
        assert_eq!(shown, "x-{{ repo_name }}-y");
    }

    #[test]
    fn words_are_found_one_after_the_other() {
        let mut placeholders = Placeholders::default();
        let (documents, _) = read(
            "a.yaml",
            "---\nname: lint\ntasks:\n  - name: lint-all\n    taskRef:\n      name: lint\n",
            &mut placeholders,
        );
        let problem = documents[0].problem(&["taskRef", "lint"], "x");
        assert_eq!((problem.line, problem.column), (Some(6), Some(13)));
        let problem = documents[0].problem(&["taskRef", "absent"], "x");
        assert_eq!(problem.line, Some(5));
        let (documents, _) = read(
            "a.yaml",
            "tasks:\n  - taskRef: { name: fetch }\n  - name: lint\n    runAfter: [lint]\n    taskRef:\n      name: lint\n",
            &mut placeholders,
        );
        let problem = documents[0].problem(&["taskRef", "lint"], "x");
        assert_eq!((problem.line, problem.column), (Some(6), Some(13)));
    }
}
