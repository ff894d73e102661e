//! Every name that an expression may use, and a check of those it does.

use std::collections::BTreeSet;

use cel::common::ast::{EntryExpr, Expr, IdedExpr};
use serde_json::Value;

use crate::event;
use crate::fault::hint;

/// Variables of every expression.
pub(crate) const VARIABLES: [&str; 7] = [
    "event",
    "body",
    "header",
    "headers",
    "changes",
    "context",
    "extensions",
];

/// Types that CEL knows by name.
const TYPES: [&str; 10] = [
    "bool",
    "bytes",
    "double",
    "dyn",
    "int",
    "list",
    "map",
    "null_type",
    "string",
    "uint",
];

/// Functions of CEL's standard library, its string, list and encoder extensions,
/// and those of Tekton's interceptor.
pub(crate) const FUNCTIONS: [&str; 54] = [
    "base64.decode",
    "base64.encode",
    "bool",
    "bytes",
    "canonical",
    "charAt",
    "contains",
    "decodeb64",
    "distinct",
    "double",
    "dyn",
    "endsWith",
    "first",
    "flatten",
    "format",
    "hasValue",
    "indexOf",
    "int",
    "join",
    "last",
    "lastIndexOf",
    "lists.range",
    "lowerAscii",
    "marshalJSON",
    "match",
    "matches",
    "optional.none",
    "optional.of",
    "optional.ofNonZeroValue",
    "or",
    "orValue",
    "parseJSON",
    "parseYAML",
    "replace",
    "reverse",
    "size",
    "slice",
    "sort",
    "split",
    "startsWith",
    "string",
    "strings.quote",
    "substring",
    "translate",
    "trim",
    "truncate",
    "type",
    "uint",
    "upperAscii",
    "value",
    "has",
    "all",
    "exists",
    "exists_one",
];

/// What an expression takes from outside.
#[derive(Debug, Default)]
pub(crate) struct Uses {
    pub(crate) variables: BTreeSet<String>,
    /// Names of `let`.
    pub(crate) extensions: BTreeSet<String>,
    /// Names that are unknown, and what is wrong with each.
    pub(crate) unknown: Vec<(String, String)>,
}

/// Looks at every name of an expression.
pub(crate) fn uses(expression: &IdedExpr) -> Uses {
    let mut walk = Walk {
        uses: Uses::default(),
        bound: Vec::new(),
        sample: event::sample(),
    };
    walk.node(expression);
    walk.uses
}

/// Whether an event can have a value below these names.
pub(crate) fn check_event(names: &[String]) -> Result<(), String> {
    check_below(&event::sample(), names.iter().map(String::as_str))
}

fn check_below<'n>(sample: &Value, names: impl Iterator<Item = &'n str>) -> Result<(), String> {
    let mut at = sample;
    let mut path = String::from("event");
    for name in names {
        at = match at {
            Value::Null => return Ok(()),
            Value::Object(known) => match known.get(name) {
                Some(below) => below,
                None => {
                    let hint = hint(name, known.keys().map(String::as_str));
                    return Err(format!("no event has `{path}.{name}`{hint}"));
                }
            },
            _ => {
                return Err(format!(
                    "`{path}` has nothing below it, so there is no `{path}.{name}`"
                ));
            }
        };
        path = format!("{path}.{name}");
    }
    Ok(())
}

struct Walk {
    uses: Uses,
    /// Names that a macro such as `exists` binds.
    bound: Vec<String>,
    sample: Value,
}

impl Walk {
    fn node(&mut self, node: &IdedExpr) {
        match &node.expr {
            Expr::Unspecified | Expr::Literal(_) => {}
            Expr::Ident(name) => self.variable(name),
            Expr::Select(select) => {
                self.selection(node);
                self.node(&select.operand);
            }
            Expr::Call(call) => {
                let namespace = call.target.as_deref().and_then(|it| match &it.expr {
                    Expr::Ident(name) => Some(format!("{name}.{}", call.func_name)),
                    _ => None,
                });
                match namespace.filter(|it| FUNCTIONS.contains(&it.as_str())) {
                    Some(_) => {}
                    None => {
                        self.function(&call.func_name);
                        if let Some(target) = &call.target {
                            self.node(target);
                        }
                    }
                }
                for argument in &call.args {
                    self.node(argument);
                }
            }
            Expr::List(list) => {
                for element in &list.elements {
                    self.node(element);
                }
            }
            Expr::Map(map) => {
                for entry in &map.entries {
                    self.entry(&entry.expr);
                }
            }
            Expr::Struct(it) => {
                self.uses.unknown.push((
                    it.type_name.clone(),
                    format!("there is no type `{}`", it.type_name),
                ));
                for entry in &it.entries {
                    self.entry(&entry.expr);
                }
            }
            Expr::Comprehension(it) => {
                self.node(&it.iter_range);
                self.node(&it.accu_init);
                let before = self.bound.len();
                self.bound.push(it.iter_var.clone());
                self.bound.extend(it.iter_var2.clone());
                self.bound.push(it.accu_var.clone());
                self.node(&it.loop_cond);
                self.node(&it.loop_step);
                self.node(&it.result);
                self.bound.truncate(before);
            }
        }
    }

    fn entry(&mut self, entry: &EntryExpr) {
        match entry {
            EntryExpr::StructField(field) => self.node(&field.value),
            EntryExpr::MapEntry(entry) => {
                self.node(&entry.key);
                self.node(&entry.value);
            }
        }
    }

    fn variable(&mut self, name: &str) {
        if name.starts_with('@') || self.bound.iter().any(|it| it == name) || TYPES.contains(&name)
        {
            return;
        }
        if VARIABLES.contains(&name) {
            self.uses.variables.insert(name.to_owned());
            return;
        }
        let known = VARIABLES
            .iter()
            .copied()
            .chain(self.bound.iter().map(String::as_str));
        let message = format!("there is no variable `{name}`{}", hint(name, known));
        self.uses.unknown.push((name.to_owned(), message));
    }

    fn function(&mut self, name: &str) {
        // Operators have names that no one can write.
        if !name.starts_with(|it: char| it.is_ascii_alphabetic()) || FUNCTIONS.contains(&name) {
            return;
        }
        let message = match name {
            "compareSecret" => "`compareSecret` is not here: a plugin never sees a secret, and the host has verified the webhook before any rule is asked".to_owned(),
            "timestamp" | "duration" | "parseURL" => format!("`{name}` is not here"),
            _ => format!("there is no function `{name}`{}", hint(name, FUNCTIONS)),
        };
        self.uses.unknown.push((name.to_owned(), message));
    }

    /// A chain such as `event.push.after`, seen from its end.
    fn selection(&mut self, node: &IdedExpr) {
        let mut names = Vec::new();
        let mut at = node;
        while let Expr::Select(select) = &at.expr {
            names.push(select.field.as_str());
            at = &select.operand;
        }
        names.reverse();
        let Expr::Ident(root) = &at.expr else { return };
        if self.bound.contains(root) {
            return;
        }
        match (root.as_str(), names.split_last()) {
            ("extensions", Some(_)) => {
                self.uses
                    .extensions
                    .extend(names.first().map(|it| (*it).to_owned()));
            }
            // What is before the last name is looked at when the walk gets there.
            ("event", Some((last, before))) => {
                let sample = &self.sample;
                if check_below(sample, before.iter().copied()).is_ok()
                    && let Err(message) = check_below(sample, names.iter().copied())
                {
                    self.uses.unknown.push(((*last).to_owned(), message));
                }
            }
            _ => {}
        }
    }
}
