//! Expressions in CEL: compiled with every mistake at its place, evaluated with
//! errors that a person can read.
//!
//! They are parsed by `cel`'s Pratt parser. Its default, made by ANTLR, takes 1.2 ms
//! for the first expression of a process, against 20 µs, and a plugin is a fresh
//! process for each event; it also makes the component a sixth larger. The Pratt
//! parser keeps no offsets, so the place of an unknown name is looked up in the text.

use std::collections::BTreeSet;
use std::sync::Arc;

use cel::common::ast::{Expr, operators};
use cel::parser::PrattParser;
use cel::{Context, Env, ExecutionError};
use serde_json::Value;

use crate::facts::{Facts, Needs};
use crate::fault::Fault;
use crate::functions;
use crate::names::{self, Uses};
use crate::read::{shortened, without_mappings};

/// More than this is no rule.
const MAX_NODES: usize = 10_000;

/// An expression that compiled and names only what there is.
#[derive(Debug)]
pub(crate) struct Expression {
    source: String,
    parsed: cel::parser::Expression,
    uses: Uses,
}

/// Compiles expressions.
pub(crate) struct Compiler {
    environment: Arc<Env>,
}

impl Compiler {
    pub(crate) fn new() -> Result<Self, String> {
        let environment = functions::environment().map_err(|error| error.to_string())?;
        Ok(Self { environment })
    }

    /// Compiles an expression. Extensions are the names that `let` gives.
    pub(crate) fn compile<'n>(
        &self,
        source: &str,
        extensions: impl IntoIterator<Item = &'n str>,
    ) -> Result<Expression, Vec<Fault>> {
        let parser = PrattParser::new().max_expression_node_count(MAX_NODES);
        let parsed = parser.parse(source).map_err(|errors| {
            let faults = errors.errors.into_iter();
            faults
                .map(|error| syntax_fault(source, error.pos, &error.msg))
                .collect::<Vec<_>>()
        })?;
        let mut uses = names::uses(&parsed);
        let known: Vec<&str> = extensions.into_iter().collect();
        let mut faults: Vec<Fault> = std::mem::take(&mut uses.unknown)
            .into_iter()
            .map(|(name, message)| match word_at(source, &name) {
                Some(offset) => Fault::at(source, offset, message),
                None => Fault::new(message),
            })
            .collect();
        for name in uses
            .extensions
            .iter()
            .filter(|it| !known.contains(&it.as_str()))
        {
            let hint = crate::fault::hint(name, known.iter().copied());
            let message = format!("`extensions.{name}` is not in `let`{hint}");
            faults.push(Fault::at(
                source,
                word_at(source, name).unwrap_or_default(),
                message,
            ));
        }
        if faults.is_empty() {
            Ok(Expression {
                source: source.to_owned(),
                parsed,
                uses,
            })
        } else {
            Err(faults)
        }
    }

    /// The parts of a condition that must all hold, each an expression of its own,
    /// so that the one that fails can be named.
    pub(crate) fn conjuncts(&self, whole: Expression, extensions: &[&str]) -> Vec<Expression> {
        let is_and = matches!(&whole.parsed.expr, Expr::Call(call) if call.func_name == operators::LOGICAL_AND);
        if !is_and {
            return vec![whole];
        }
        let parts: Result<Vec<_>, _> = split_at_and(&whole.source)
            .into_iter()
            .map(|part| self.compile(part, extensions.iter().copied()))
            .collect();
        parts.unwrap_or_else(|_| vec![whole])
    }

    /// What expressions are evaluated in. `let` is added for each rule.
    pub(crate) fn context<'v>(&self, facts: &Facts) -> Result<Context<'static, 'v>, String> {
        let mut context = Context::with_env(Arc::clone(&self.environment));
        functions::add(&mut context).map_err(|error| error.to_string())?;
        let mut variable = |name: &str, value: &Value| {
            context.add_variable_from_value(name, functions::from_json(value));
        };
        variable("event", &facts.event);
        variable("body", &facts.body);
        variable("headers", &facts.headers);
        variable("header", &facts.canonical_headers());
        variable("context", &facts.context);
        if let Some(Ok(changes)) = &facts.changes {
            variable("changes", changes);
        }
        Ok(context)
    }
}

impl Expression {
    pub(crate) fn source(&self) -> &str {
        self.source.trim()
    }

    /// Names of `let` that it uses.
    pub(crate) fn extensions(&self) -> &BTreeSet<String> {
        &self.uses.extensions
    }

    pub(crate) fn needs(&self) -> Needs {
        let uses = |name| self.uses.variables.contains(name);
        Needs {
            body: uses("body"),
            headers: uses("header") || uses("headers"),
            changes: uses("changes"),
        }
    }

    /// Its value.
    ///
    /// # Errors
    /// Why it has none, for a person.
    pub(crate) fn evaluate(
        &self,
        context: &Context<'_, '_>,
        facts: &Facts,
    ) -> Result<Value, String> {
        if let Some(Err(why)) = &facts.changes
            && self.needs().changes
        {
            return Err(format!("the changed paths are not to be had: {why}"));
        }
        let value = context
            .resolve(&self.parsed)
            .map_err(|error| explained(&error))?;
        functions::to_json(&value)
    }
}

fn explained(error: &ExecutionError) -> String {
    match error {
        ExecutionError::NoSuchKey(key) => format!("there is no key `{key}` in this event"),
        ExecutionError::FunctionError { function, message } => {
            format!("`{function}` failed: {}", shortened(message))
        }
        other => without_mappings(other),
    }
}

fn syntax_fault(source: &str, (line, column): (isize, isize), message: &str) -> Fault {
    let line = u32::try_from(line).unwrap_or(1).max(1);
    let column = u32::try_from(column).unwrap_or(1).max(1);
    let first = message.lines().next().unwrap_or(message);
    Fault {
        place: (!source.is_empty()).then_some((line, column)),
        message: format!("is not CEL: {first}"),
    }
}

/// Where a word stands, in no string and not as a part of another word.
fn word_at(source: &str, word: &str) -> Option<usize> {
    let bytes = source.as_bytes();
    let inside = |at: usize| {
        bytes
            .get(at)
            .is_some_and(|it| it.is_ascii_alphanumeric() || *it == b'_')
    };
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        if matches!(byte, b'\'' | b'"') {
            let raw = at > 0 && matches!(bytes.get(at - 1), Some(b'r' | b'R'));
            at = string_end(source, at, raw);
            continue;
        }
        let starts = at == 0 || !inside(at - 1);
        if starts && bytes.get(at..)?.starts_with(word.as_bytes()) && !inside(at + word.len()) {
            return Some(at);
        }
        at += 1;
    }
    None
}

/// The texts between `&&` that are in no bracket and no string.
fn split_at_and(source: &str) -> Vec<&str> {
    let bytes = source.as_bytes();
    let mut parts = Vec::new();
    let mut depth = 0_i32;
    let mut start = 0;
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth -= 1,
            b'\'' | b'"' => {
                let raw = at > 0 && matches!(bytes.get(at - 1), Some(b'r' | b'R'));
                at = string_end(source, at, raw);
                continue;
            }
            b'&' if depth == 0 && bytes.get(at + 1) == Some(&b'&') => {
                parts.extend(source.get(start..at));
                at += 2;
                start = at;
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    parts.extend(source.get(start..));
    parts
}

/// Where a string ends that begins with a quote at this place.
fn string_end(source: &str, at: usize, raw: bool) -> usize {
    let rest = source.get(at..).unwrap_or_default();
    let single = rest.get(..1).unwrap_or_default();
    let triple = single.repeat(3);
    let quote = if rest.starts_with(&triple) {
        triple.as_str()
    } else {
        single
    };
    let mut end = quote.len();
    while let Some(tail) = rest.get(end..).filter(|it| !it.is_empty()) {
        if tail.starts_with(quote) {
            return at + end + quote.len();
        }
        let mut characters = tail.chars();
        let first = characters.next().map_or(1, char::len_utf8);
        end += first;
        if !raw && tail.starts_with('\\') {
            end += characters.next().map_or(0, char::len_utf8);
        }
    }
    source.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compile(source: &str) -> Result<Expression, Vec<Fault>> {
        Compiler::new().unwrap().compile(source, ["version"])
    }

    fn fault(source: &str) -> Fault {
        compile(source).expect_err(source).remove(0)
    }

    fn check_fault(source: &str, place: (u32, u32), message: &str) {
        let fault = fault(source);
        assert_eq!(fault.place, Some(place), "{source}: {fault:?}");
        assert!(
            fault.message.contains(message),
            "{source}: {}",
            fault.message
        );
    }

    #[test]
    fn a_mistake_has_its_line_and_column() {
        check_fault("event.branch = 'main'", (1, 14), "is not CEL");
        check_fault("1 +", (1, 4), "expecting expression");
        check_fault(
            "event.branch == 'main' &&\n  (body.x",
            (2, 10),
            "is not CEL",
        );
        check_fault("evnt.branch == ''", (1, 1), "did you mean `event`?");
        check_fault(
            "true &&\n event.brnch == ''",
            (2, 8),
            "did you mean `branch`?",
        );
        check_fault(
            "event.merge_request.targt_branch == ''",
            (1, 21),
            "target_branch",
        );
        check_fault(
            "event.branch.startWith('x')",
            (1, 14),
            "did you mean `startsWith`?",
        );
        check_fault(
            "'brnch ä' == event.brnch",
            (1, 20),
            "did you mean `branch`?",
        );
    }

    #[test]
    fn names_that_macros_bind_are_known() {
        assert!(compile("body.commits.exists(c, c.added.exists(f, f.startsWith('src/')))").is_ok());
        assert!(compile("body.commits.all(event, event.anything)").is_ok());
        assert!(compile("c == 1 || body.commits.exists(c, true)").is_err());
    }

    #[test]
    fn secrets_can_not_be_compared_and_the_message_says_why() {
        let fault = fault("header.canonical('X').compareSecret('token', 'name')");
        assert!(
            fault.message.contains("never sees a secret"),
            "{}",
            fault.message
        );
    }

    #[test]
    fn extensions_must_be_given_by_let() {
        assert!(compile("extensions.version == ''").is_ok());
        assert!(
            fault("extensions.verson == ''")
                .message
                .contains("did you mean `version`?")
        );
    }

    #[test]
    fn conditions_are_split_where_all_must_hold() {
        fn check(source: &str, expect: &[&str]) {
            let parts: Vec<_> = split_at_and(source).into_iter().map(str::trim).collect();
            assert_eq!(parts, expect, "{source}");
        }
        check("a && b", &["a", "b"]);
        check("a && (b && c) && [d && e]", &["a", "(b && c)", "[d && e]"]);
        check(
            "x == '&&' && y == \"a\\\"&&\"",
            &["x == '&&'", "y == \"a\\\"&&\""],
        );
        check("x == r'\\' && y", &["x == r'\\'", "y"]);
        check("x == '''it's && ''' && y", &["x == '''it's && '''", "y"]);
    }

    #[test]
    fn a_condition_with_or_stays_whole() {
        let compiler = Compiler::new().unwrap();
        let whole = compiler
            .compile("event.branch == 'a' || event.fork && event.protected", [])
            .unwrap();
        assert_eq!(compiler.conjuncts(whole, &[]).len(), 1);
        let both = compiler
            .compile("(event.branch == 'a' || event.fork) && event.protected", [])
            .unwrap();
        assert_eq!(compiler.conjuncts(both, &[]).len(), 2);
    }

    #[test]
    fn every_function_that_is_named_exists() {
        let compiler = Compiler::new().unwrap();
        let facts = Facts {
            event: Value::Null,
            body: Value::Null,
            headers: serde_json::json!({}),
            context: Value::Null,
            changes: None,
            no_body: None,
            no_headers: None,
        };
        let context = compiler.context(&facts).unwrap();
        for name in names::FUNCTIONS {
            if ["has", "all", "exists", "exists_one"].contains(&name) {
                continue;
            }
            let unknown = |call: String| {
                let answer = context.resolve(&PrattParser::new().parse(&call).unwrap());
                matches!(answer, Err(ExecutionError::UndeclaredReference(_)))
            };
            let global = unknown(format!("{name}(1)"));
            assert!(!global || !unknown(format!("'x'.{name}(1)")), "{name}");
        }
    }
}
