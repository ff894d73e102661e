//! A rule with its expressions and texts compiled.

use std::collections::{BTreeMap, BTreeSet};

use penstock_sdk::Problem;

use crate::expression::{Compiler, Expression};
use crate::facts::{Needs, Root};
use crate::fault::{Fault, hint};
use crate::read::below;
use crate::settings::{Manifest, Rule, Source};
use crate::template::{self, Template};
use crate::text::Text;

/// A rule, compiled.
pub(crate) struct Compiled<'r> {
    pub(crate) rule: &'r Rule,
    /// Conditions, each with no `&&` at its top.
    pub(crate) when: Vec<Expression>,
    /// Names of `let` in an order in which each comes after those it uses.
    pub(crate) overlays: Vec<(&'r str, Expression)>,
    pub(crate) params: Vec<(&'r str, Value)>,
    /// None: there is none, or it is a file.
    pub(crate) template: Option<Template>,
    pub(crate) comment: Option<Text>,
}

/// Where a param's value comes from.
pub(crate) enum Value {
    Text(Text),
    Cel(Expression),
}

impl Compiled<'_> {
    /// What has to be asked for before the rule can be decided.
    pub(crate) fn needs(&self) -> Needs {
        let texts = |text: &Text| Needs {
            body: text.uses(Root::Body),
            headers: text.uses(Root::Headers),
            changes: false,
        };
        let expressions = self
            .when
            .iter()
            .chain(self.overlays.iter().map(|(_, it)| it));
        let params = self.params.iter().map(|(_, it)| match it {
            Value::Text(text) => texts(text),
            Value::Cel(expression) => expression.needs(),
        });
        expressions
            .map(Expression::needs)
            .chain(params)
            .chain(self.comment.iter().map(texts))
            .fold(Needs::default(), Needs::and)
    }
}

/// Every problem of a rule's expressions, texts and template.
pub(crate) fn problems(rule: &Rule) -> Vec<Problem> {
    match Compiler::new() {
        Ok(compiler) => compile(&compiler, rule).err().unwrap_or_default(),
        Err(message) => vec![Problem::new(&rule.path, message)],
    }
}

/// Compiles a rule.
pub(crate) fn compile<'r>(
    compiler: &Compiler,
    rule: &'r Rule,
) -> Result<Compiled<'r>, Vec<Problem>> {
    let mut problems = Vec::new();
    let names: Vec<&str> = rule.overlays.keys().map(String::as_str).collect();
    let mut keep =
        |path: &str, faults: Vec<Fault>| problems.extend(faults.into_iter().map(|it| it.of(path)));

    let mut when = Vec::new();
    for (path, source) in &rule.when {
        match compiler.compile(source, names.iter().copied()) {
            Ok(whole) => when.extend(compiler.conjuncts(whole, &names)),
            Err(faults) => keep(path, faults),
        }
    }
    let mut overlays = BTreeMap::new();
    for (name, source) in &rule.overlays {
        match compiler.compile(source, names.iter().copied()) {
            Ok(expression) => drop(overlays.insert(name.as_str(), expression)),
            Err(faults) => keep(&below(&below(&rule.path, "let"), name), faults),
        }
    }
    let mut params = Vec::new();
    for (name, param) in &rule.params {
        let compiled = match &param.source {
            Source::Text(text) => Text::parse(text, names.iter().copied()).map(Value::Text),
            Source::Cel(source) => compiler
                .compile(source, names.iter().copied())
                .map(Value::Cel),
        };
        match compiled {
            Ok(value) => params.push((name.as_str(), value)),
            Err(faults) => keep(&below(&below(&rule.path, "params"), name), faults),
        }
    }
    let comment = match rule
        .comment
        .as_deref()
        .map(|it| Text::parse(it, names.iter().copied()))
    {
        Some(Ok(text)) => Some(text),
        Some(Err(faults)) => {
            keep(&below(&rule.path, "comment"), faults);
            None
        }
        None => None,
    };
    let template = match template(rule) {
        Some(Ok(template)) => Some(template),
        Some(Err(faults)) => {
            keep(&below(&rule.path, "template"), faults);
            None
        }
        None => None,
    };
    let overlays = match ordered(overlays) {
        Ok(overlays) => overlays,
        Err(name) => {
            let message = format!("`{name}` needs its own value: break the circle");
            keep(&below(&rule.path, "let"), vec![Fault::new(message)]);
            Vec::new()
        }
    };
    if problems.is_empty() {
        Ok(Compiled {
            rule,
            when,
            overlays,
            params,
            template,
            comment,
        })
    } else {
        Err(problems)
    }
}

/// The template in the settings, with every param that it needs.
fn template(rule: &Rule) -> Option<Result<Template, Vec<Fault>>> {
    let (template, text) = match rule.manifest.as_ref()? {
        Manifest::File(_) => return None,
        Manifest::Text(text) => (Template::parse(text), text.as_str()),
        Manifest::Value(value) => (Template::from_value(value), ""),
    };
    Some(template.and_then(|it| {
        let faults = missing_params(rule, &it, text);
        if faults.is_empty() {
            Ok(it)
        } else {
            Err(faults)
        }
    }))
}

/// Faults of a template that needs params that the rule doesn't give.
pub(crate) fn missing_params(rule: &Rule, template: &Template, text: &str) -> Vec<Fault> {
    template
        .required()
        .iter()
        .filter(|name| !rule.params.contains_key(*name))
        .map(|name| {
            let hint = hint(name, rule.params.keys().map(String::as_str));
            template::unknown(text, name, &format!("is not in `params`{hint}"))
        })
        .collect()
}

/// Orders expressions so that each comes after those it uses.
fn ordered(mut left: BTreeMap<&str, Expression>) -> Result<Vec<(&str, Expression)>, String> {
    let mut done = Vec::new();
    let mut known: BTreeSet<String> = BTreeSet::new();
    while !left.is_empty() {
        let waiting: BTreeSet<String> = left.keys().map(|it| (*it).to_owned()).collect();
        let next = left
            .iter()
            .find(|(_, it)| {
                it.extensions()
                    .iter()
                    .all(|name| known.contains(name) || !waiting.contains(name))
            })
            .map(|(name, _)| *name);
        let Some((name, expression)) = next.and_then(|it| left.remove_entry(it)) else {
            return Err(waiting.into_iter().next().unwrap_or_default());
        };
        known.insert(name.to_owned());
        done.push((name, expression));
    }
    Ok(done)
}
