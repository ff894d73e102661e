//! What is wrong with a configuration, told as a compiler tells it.
//!
//! A line of the file is shown with every value hidden but the one that the problem is about, and that one only if it can't be a secret: an
//! operator pastes such output into a chat.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;

use super::tree::{Node, Spot, Value};

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file.
    pub file: PathBuf,
    /// From 1; 0: the file as a whole.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
    line_shown: Option<Shown>,
}

/// A line of a file as it may be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Shown {
    text: String,
    before: usize,
    marked: usize,
}

/// All that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl std::error::Error for Problems {}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.0 {
            writeln!(f, "{problem}")?;
        }
        match self.0.len() {
            1 => f.write_str("1 problem in the configuration"),
            n => write!(f, "{n} problems in the configuration"),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "error: {}", self.message)?;
        let margin = self.line.to_string().len();
        if self.line == 0 {
            writeln!(f, "{:margin$}--> {}", "", self.file.display())?;
        } else {
            writeln!(
                f,
                "{:margin$}--> {}:{}:{}",
                "",
                self.file.display(),
                self.line,
                self.column
            )?;
        }
        if let Some(shown) = &self.line_shown {
            writeln!(f, "{:margin$} |", "")?;
            writeln!(f, "{} | {}", self.line, shown.text)?;
            writeln!(
                f,
                "{:margin$} | {:before$}{:^<marked$}",
                "",
                "",
                "",
                before = shown.before,
                marked = shown.marked
            )?;
        }
        if let Some(help) = &self.help {
            writeln!(f, "{:margin$} = help: {help}", "")?;
        }
        Ok(())
    }
}

/// A file that was read.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) path: PathBuf,
    pub(super) text: String,
}

/// Takes problems in while the files are walked.
#[derive(Debug, Default)]
pub(super) struct Collector {
    pub(super) sources: Vec<Source>,
    faults: RefCell<Vec<Fault>>,
    /// Keys that the schema has: they are no secrets.
    known: RefCell<BTreeSet<&'static str>>,
}

#[derive(Clone, Debug)]
struct Fault {
    spot: Spot,
    message: String,
    help: Option<String>,
    /// What stands there may be shown.
    open: bool,
}

impl Collector {
    /// Notes a problem whose spot may hold a secret.
    pub(super) fn hidden(&self, spot: Spot, message: impl Into<String>, help: Option<String>) {
        self.note(spot, message.into(), help, false);
    }

    /// Notes a problem whose spot may be shown.
    pub(super) fn open(&self, spot: Spot, message: impl Into<String>, help: Option<String>) {
        self.note(spot, message.into(), help, true);
    }

    fn note(&self, spot: Spot, message: String, help: Option<String>, open: bool) {
        self.faults.borrow_mut().push(Fault {
            spot,
            message,
            help,
            open,
        });
    }

    /// A key that the schema has.
    pub(super) fn knows(&self, key: &'static str) {
        self.known.borrow_mut().insert(key);
    }

    /// Nothing was noted.
    pub(super) fn is_empty(&self) -> bool {
        self.faults.borrow().is_empty()
    }

    /// Where something stands, for a message about something elsewhere.
    pub(super) fn place(&self, spot: Spot) -> String {
        let path = self
            .sources
            .get(spot.file)
            .map(|source| source.path.display().to_string());
        format!("{}:{}:{}", path.unwrap_or_default(), spot.line, spot.column)
    }

    /// All problems in the order of the files.
    pub(super) fn problems(&self, roots: &[Option<Node>]) -> Problems {
        let mut faults = self.faults.borrow().clone();
        faults.sort_by_key(|fault| (fault.spot.file, fault.spot.line, fault.spot.column));
        let problem = |fault: Fault| Problem {
            file: self
                .sources
                .get(fault.spot.file)
                .map(|source| source.path.clone())
                .unwrap_or_default(),
            line: fault.spot.line,
            column: fault.spot.column,
            line_shown: self.show(&fault, roots.get(fault.spot.file).and_then(Option::as_ref)),
            message: fault.message,
            help: fault.help,
        };
        Problems(faults.into_iter().map(problem).collect())
    }

    fn show(&self, fault: &Fault, root: Option<&Node>) -> Option<Shown> {
        let root = root?;
        let source = self.sources.get(fault.spot.file)?;
        let line = source.text.lines().nth(fault.spot.line.checked_sub(1)?)?;
        let first = fault
            .spot
            .start
            .checked_sub(fault.spot.column.checked_sub(1)?)?;
        let mut words = Vec::new();
        collect(root, &self.known.borrow(), &mut words);
        let mut text = String::new();
        let (mut before, mut marked) = (0, 0);
        let mut hiding = false;
        for (n, c) in line.chars().enumerate() {
            let at = first + n;
            let own = at >= fault.spot.start && at < fault.spot.start + fault.spot.length.max(1);
            let word = words.iter().find(|word| at >= word.start && at < word.end);
            let shown = match word {
                _ if own && fault.open => true,
                Some(word) => word.known,
                None => matches!(
                    c,
                    ' ' | '\t' | '{' | '}' | '[' | ']' | ',' | ':' | '-' | '"' | '\''
                ),
            };
            if !own && at < fault.spot.start {
                before += usize::from(shown || !hiding);
            } else if own {
                marked += usize::from(shown || marked == 0);
            }
            // What is hidden is one character, however long it is; what is marked has one of its own.
            let begins = at == fault.spot.start;
            if shown {
                text.push(c);
            } else if !hiding || begins {
                text.push('…');
            }
            hiding = !shown;
        }
        Some(Shown {
            text,
            before,
            marked: marked.max(1),
        })
    }
}

/// A key or a value of the file: characters from `start` to `end`.
struct Word {
    start: usize,
    end: usize,
    known: bool,
}

fn collect(node: &Node, known: &BTreeSet<&'static str>, words: &mut Vec<Word>) {
    let word = |spot: Spot, known: bool| Word {
        start: spot.start,
        end: spot.start + spot.length,
        known,
    };
    match &node.value {
        Value::List(items) => items.iter().for_each(|item| collect(item, known, words)),
        Value::Map(entries) => {
            for (key, value) in entries {
                words.push(word(key.spot, known.contains(key.text.as_str())));
                collect(value, known, words);
            }
        }
        _ => words.push(word(node.spot, false)),
    }
}
