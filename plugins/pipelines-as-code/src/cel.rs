//! Expressions: `on-cel-expression`, the filters of params, `{{ cel: … }}` and
//! `{{ body.… }}`.
//!
//! What an expression does not name is not asked for: a body can be 25 MB, and changed
//! paths cost a call to GitLab.

use std::cell::OnceCell;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use cel::extractors::This;
use cel::parser::PrattParser;
use cel::{Context, Env, ExecutionError, Value};
use penstock_reading::fault::Fault;
use penstock_reading::functions;
use penstock_reading::read::{shortened, without_mappings};
use serde_json::{Value as Json, json};

use crate::facts::Facts;
use crate::glob::Glob;
use crate::variables::BUILT_IN;
use crate::world::{Changes, World};

/// More than this is no condition.
const MAX_NODES: usize = 10_000;

/// Compiles expressions.
pub(crate) struct Compiler {
    environment: Arc<Env>,
}

impl Compiler {
    pub(crate) fn new() -> Result<Self, String> {
        let environment = functions::environment().map_err(|error| error.to_string())?;
        Ok(Self { environment })
    }

    /// Compiles an expression.
    ///
    /// # Errors
    /// The first mistake and its place.
    #[expect(
        clippy::unused_self,
        reason = "what is compiled is meant for this environment"
    )]
    pub(crate) fn compile(&self, source: &str) -> Result<cel::parser::Expression, Fault> {
        let parser = PrattParser::new().max_expression_node_count(MAX_NODES);
        parser.parse(source).map_err(|errors| {
            let Some(error) = errors.errors.into_iter().next() else {
                return Fault::new("is not CEL");
            };
            let first = error.msg.lines().next().unwrap_or(&error.msg);
            let number = |it: isize| u32::try_from(it).unwrap_or(1).max(1);
            Fault {
                place: Some((number(error.pos.0), number(error.pos.1))),
                message: format!("is not CEL: {first}"),
            }
        })
    }
}

/// Why an expression has no value.
#[derive(Debug, PartialEq)]
pub(crate) enum Failure {
    /// It is no expression.
    Syntax(Fault),
    /// This event's body has no such key: for a condition that is a no.
    NoKey(String),
    /// Anything else.
    Other(String),
}

impl Failure {
    pub(crate) fn message(&self) -> String {
        match self {
            Self::Syntax(fault) => fault.message.clone(),
            Self::NoKey(key) => format!("there is no key `{key}` in this event"),
            Self::Other(why) => why.clone(),
        }
    }
}

/// What an expression is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    /// A value, for a template or a filter.
    Value,
    /// A condition.
    Condition,
    /// A condition that is asked again as if a path that GitLab left out were the one.
    ConditionOfUnseenPath,
}

/// Where expressions are evaluated: one event.
pub(crate) struct Evaluator<'a> {
    compiler: Compiler,
    facts: &'a Facts<'a>,
    world: &'a dyn World,
    body: OnceCell<Result<Value, String>>,
    headers: OnceCell<Result<Value, String>>,
    changes: OnceCell<Result<Changed, String>>,
    /// Params by name; of a secret nothing is known.
    params: OnceCell<BTreeMap<String, Option<String>>>,
}

/// The changed paths, once as they are and once as CEL has them.
struct Changed {
    truncated: bool,
    all: Arc<Vec<String>>,
    value: Value,
}

impl<'a> Evaluator<'a> {
    pub(crate) fn new(facts: &'a Facts<'a>, world: &'a dyn World) -> Result<Self, String> {
        Ok(Self {
            compiler: Compiler::new()?,
            facts,
            world,
            body: OnceCell::new(),
            headers: OnceCell::new(),
            changes: OnceCell::new(),
            params: OnceCell::new(),
        })
    }

    /// Lets conditions name the params of this event; the first word holds.
    pub(crate) fn know_params(&self, params: BTreeMap<String, Option<String>>) {
        self.params.get_or_init(|| params);
    }

    fn unknown(&self, name: &str) -> String {
        match self.params.get().and_then(|it| it.get(name)) {
            Some(None) => format!(
                "`{name}` is a Secret or has no value in this event: an expression can't ask for it"
            ),
            _ => format!("there is no variable or function `{name}`"),
        }
    }

    /// All changed paths, each once, and whether GitLab left some out.
    ///
    /// # Errors
    /// Why they are not to be had.
    pub(crate) fn changed(&self) -> Result<(&[String], bool), String> {
        self.changes().map(|it| (it.all.as_slice(), it.truncated))
    }

    fn changes(&self) -> Result<&Changed, String> {
        let ask = || {
            let changes = self.world.changes();
            changes.map(Changed::new).map_err(|error| {
                format!("the changed paths are not to be had: {}", error.describe())
            })
        };
        self.changes.get_or_init(ask).as_ref().map_err(Clone::clone)
    }

    /// The value of a condition: `target_branch` of a tag is its full name there. Where
    /// GitLab left changed paths out it is enough if it holds with one of those: a run too
    /// many is better than one that is missing.
    pub(crate) fn condition(&self, source: &str) -> Result<Json, Failure> {
        let value = self.evaluate(source, Use::Condition)?;
        let cut = || self.changed().is_ok_and(|(_, truncated)| truncated);
        if value == Json::Bool(false) && source.contains("pathChanged") && cut() {
            return self.evaluate(source, Use::ConditionOfUnseenPath);
        }
        Ok(value)
    }

    /// The value of an expression in a template or a filter.
    pub(crate) fn value(&self, source: &str) -> Result<Json, Failure> {
        self.evaluate(source, Use::Value)
    }

    fn evaluate(&self, source: &str, what: Use) -> Result<Json, Failure> {
        let parsed = self.compiler.compile(source).map_err(Failure::Syntax)?;
        let context = self.context(source, what).map_err(Failure::Other)?;
        let value = context.resolve(&parsed).map_err(|error| match error {
            ExecutionError::NoSuchKey(key) => Failure::NoKey(key.to_string()),
            ExecutionError::UndeclaredReference(name) => Failure::Other(self.unknown(&name)),
            ExecutionError::FunctionError { function, message } => {
                Failure::Other(format!("`{function}` failed: {}", shortened(&message)))
            }
            other => Failure::Other(without_mappings(&other)),
        })?;
        functions::to_json(&value).map_err(Failure::Other)
    }

    fn context<'v>(&self, source: &str, what: Use) -> Result<Context<'static, 'v>, String> {
        let condition = what != Use::Value;
        let mut context = Context::with_env(Arc::clone(&self.compiler.environment));
        functions::add(&mut context).map_err(|error| error.to_string())?;
        let variables = self.facts.variables();
        let text = |name: &str| {
            let tag = condition && self.facts.tag().is_some();
            match name {
                "target_branch" if tag => self.facts.target_ref.clone(),
                "source_branch" if tag => self.facts.source_ref.clone(),
                _ => variables.get(name).cloned().unwrap_or_default(),
            }
        };
        let mut pac = HashMap::new();
        for name in BUILT_IN {
            let value = Value::from(text(name).as_str());
            pac.insert(cel::objects::Key::from(name), value.clone());
            context.add_variable_from_value(name, value);
        }
        context.add_variable_from_value("pac", Value::from(pac));
        let params = self.params.get().filter(|_| condition);
        for (name, value) in params.into_iter().flatten() {
            if let Some(value) = value {
                context.add_variable_from_value(name.as_str(), Value::from(value.as_str()));
            }
        }
        if source.contains("body") {
            let read = || {
                let text = self.world.payload().map_err(|error| error.describe())?;
                let json: Json = serde_json::from_str(&text).map_err(|error| error.to_string())?;
                Ok(functions::from_json(&json))
            };
            let body = self.body.get_or_init(read);
            let body = body
                .clone()
                .map_err(|why| format!("the body is not to be had: {why}"))?;
            context.add_variable_from_value("body", body);
        }
        if source.contains("headers") {
            let read = || {
                let headers = self.world.headers().map_err(|error| error.describe())?;
                Ok(functions::from_json(&named(headers)))
            };
            let headers = self.headers.get_or_init(read).clone();
            let headers = headers.map_err(|why| format!("the headers are not to be had: {why}"))?;
            context.add_variable_from_value("headers", headers);
        }
        if source.contains("files") {
            context.add_variable_from_value("files", self.changes()?.value.clone());
        }
        if source.contains("pathChanged") {
            let all = Arc::clone(&self.changes()?.all);
            let changed = move |This(pattern): This<Arc<String>>| {
                let glob = Glob::new(&pattern)
                    .map_err(|why| ExecutionError::function_error("pathChanged", why))?;
                let hit =
                    what == Use::ConditionOfUnseenPath || all.iter().any(|path| glob.matches(path));
                Ok::<_, ExecutionError>(Value::Bool(hit))
            };
            context
                .add_function("pathChanged", changed)
                .map_err(|error| error.to_string())?;
        }
        Ok(context)
    }
}

/// Headers by their names, in lower case and as HTTP writes them.
fn named(headers: Vec<(String, String)>) -> Json {
    let both = headers.into_iter().flat_map(|(name, value)| {
        let written = functions::canonical(&name);
        [(name.to_lowercase(), value.clone()), (written, value)]
    });
    both.map(|(name, value)| (name, Json::from(value)))
        .collect()
}

impl Changed {
    fn new(changes: Changes) -> Self {
        let before = changes.renamed.iter().map(|it| &it.before);
        let after: Vec<&String> = changes.renamed.iter().map(|it| &it.after).collect();
        let mut all: Vec<String> = changes
            .added
            .iter()
            .chain(&changes.modified)
            .chain(&changes.deleted)
            .chain(before)
            .chain(after.iter().copied())
            .cloned()
            .collect();
        all.sort();
        all.dedup();
        let value = functions::from_json(&json!({
            "all": all, "added": changes.added, "modified": changes.modified,
            "deleted": changes.deleted, "renamed": after,
        }));
        Self {
            truncated: changes.truncated,
            all: Arc::new(all),
            value,
        }
    }
}
