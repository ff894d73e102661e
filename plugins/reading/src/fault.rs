//! A mistake at a place in a text, before it is known which setting or file holds it.

use penstock_sdk::Problem;

/// What is wrong, and where: line and column from 1.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Fault {
    /// Line and column, from 1; none: the whole text.
    pub place: Option<(u32, u32)>,
    /// What is wrong and what to do.
    pub message: String,
}

impl Fault {
    /// A mistake of the whole text.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            place: None,
            message: message.into(),
        }
    }

    /// A mistake at a byte offset of a text.
    pub fn at(text: &str, offset: usize, message: impl Into<String>) -> Self {
        Self {
            place: Some(Problem::position(text, offset)),
            message: message.into(),
        }
    }

    /// As a problem of a setting or a file.
    pub fn of(self, path: &str) -> Problem {
        let problem = Problem::new(path, self.message);
        match self.place {
            Some((line, column)) => problem.at(line, column),
            None => problem,
        }
    }
}

/// The name of a list that is nearest to one that isn't in it, if any is near.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|it| (strsim::damerau_levenshtein(name, it), it))
        .filter(|(distance, it)| *distance <= 1 + it.len() / 4)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, it)| it)
}

/// `did you mean …?`, or nothing.
pub fn hint<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(name, known).map_or_else(String::new, |it| format!(": did you mean `{it}`?"))
}
