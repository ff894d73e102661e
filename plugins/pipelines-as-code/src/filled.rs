//! A run's annotations with values in the place of `{{ … }}`, as conditions read them.
//!
//! No value changes what a condition asks, since a stranger chooses the name of a branch: in
//! a list a comma of it parts nothing, in a regular expression it stands for itself, and
//! an expression takes only what can't end a text.

use std::cell::RefCell;
use std::collections::BTreeMap;

use penstock_sdk::Problem;

use crate::annotations;
use crate::document::Document;
use crate::fill::Filler;

/// Annotations of Pipelines-as-Code by their names without the prefix.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Filled(BTreeMap<String, String>);

impl Filled {
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

/// Puts the values in. The filler is to be this document's own: what it finds wrong is the answer.
///
/// # Errors
/// A value that an annotation can't take: a secret, or one that would change an expression.
pub(crate) fn fill(document: &Document, filler: &mut Filler<'_>) -> Result<Filled, Problem> {
    let mut filled = BTreeMap::new();
    for name in annotations::keys(&document.value) {
        let Some(text) = annotations::value(&document.value, &name) else {
            continue;
        };
        let text = match name.as_str() {
            "on-comment" => filler.text_by(&text, &|value| regex_lite::escape(&value)),
            "on-cel-expression" => expression(document, &text, filler)?,
            _ => filler.text_by(&text, &|value| value.replace(',', "&#44;")),
        };
        filled.insert(name, text);
    }
    match filler.problems.first() {
        Some(problem) => Err(problem.clone()),
        None => Ok(Filled(filled)),
    }
}

fn expression(document: &Document, text: &str, filler: &mut Filler<'_>) -> Result<String, Problem> {
    let odd = RefCell::new(None);
    let plain = |it: char| it.is_ascii_alphanumeric() || "_-./:@ ".contains(it);
    let text = filler.text_by(text, &|value| {
        if !value.chars().all(plain) {
            odd.borrow_mut().get_or_insert(value.clone());
        }
        value
    });
    match odd.into_inner() {
        None => Ok(text),
        Some(value) => Err(document.problem(
            &["on-cel-expression"],
            format!(
                "`on-cel-expression`: the value `{}` could change the expression, so it is not put in: name the variable or the param without braces",
                penstock_reading::read::shortened(&value)
            ),
        )),
    }
}
