//! Decides an event: each rule for itself, in the order of the settings.

use std::collections::BTreeMap;

use cel::Context;
use penstock_sdk::events::NoteTarget;
use penstock_sdk::{
    CancelRuns, CancelScope, Comment, Event, EventKind, Plan, PluginError, Problem, Queue, StartRun,
};
use serde_json::{Map, Value};

use crate::compile::{self, Compiled, missing_params};
use crate::event;
use crate::expression::Compiler;
use crate::facts::{Facts, Needs, World};
use crate::functions;
use crate::read::{below, shortened};
use crate::settings::{Cancel, Manifest, Rule, Settings};
use crate::template::Template;
use crate::text::as_text;

/// What the rules want done about an event, with a reason for each rule.
///
/// # Errors
/// [`PluginError::Settings`] where an expression can't be compiled,
/// [`PluginError::Source`] where a file that a matching rule names must be mended,
/// [`PluginError::Other`] where the host does not give what the rules need.
pub fn decide(settings: &Settings, event: &Event, world: &dyn World) -> Result<Plan, PluginError> {
    let kind = event::kind(event);
    let mut plan = Plan::new();
    if let EventKind::Note(note) = &event.kind
        && (!note.created || note.system)
    {
        // Whoever edits an old comment must not start again what it started.
        return Ok(
            plan.reason("no rule is asked for a comment that was edited or that GitLab wrote")
        );
    }
    let compiler = Compiler::new().map_err(PluginError::Other)?;
    let mut compiled = Vec::new();
    let mut problems = Vec::new();
    for rule in &settings.rules {
        if !rule.on.contains(kind) {
            compiled.push((rule, None));
            continue;
        }
        match compile::compile(&compiler, rule) {
            Ok(rule) => compiled.push((rule.rule, Some(rule))),
            Err(mut found) => problems.append(&mut found),
        }
    }
    if !problems.is_empty() {
        return Err(PluginError::Settings(problems));
    }
    let needs = compiled
        .iter()
        .filter_map(|(_, it)| it.as_ref())
        .map(Compiled::needs)
        .fold(Needs::default(), Needs::and);
    let facts = Facts::gather(event, world, needs)?;
    let context = compiler.context(&facts).map_err(PluginError::Other)?;
    let mut faults = Vec::new();
    for (rule, compiled) in &compiled {
        let outcome = match compiled {
            None => Err(Miss::Condition(format!("it is not for `{kind}` events"))),
            Some(it) => matched(it, event, world, &facts, &context),
        };
        let name = &rule.name;
        match outcome {
            Ok(actions) => plan = actions.add_to(plan, rule, event),
            Err(Miss::Condition(why)) => {
                plan = plan.reason(format!("rule `{name}` does not match: {why}"))
            }
            Err(Miss::Value(problem)) => {
                plan = plan
                    .reason(format!(
                        "rule `{name}` matches, but {}: {}",
                        problem.path, problem.message
                    ))
                    .warning(problem);
            }
            Err(Miss::Source(mut found)) => faults.append(&mut found),
            Err(Miss::Failed(error)) => return Err(error),
        }
    }
    if faults.is_empty() {
        Ok(plan)
    } else {
        Err(PluginError::Source(faults))
    }
}

/// Why a rule does nothing.
enum Miss {
    /// A condition does not hold.
    Condition(String),
    /// It matches, and a value that it needs is not there.
    Value(Problem),
    /// It matches, and a file in the repository must be mended.
    Source(Vec<Problem>),
    /// It can't be told.
    Failed(PluginError),
}

/// What a rule that matches wants done.
struct Actions {
    runs: Vec<Value>,
    comment: Option<String>,
}

fn matched(
    compiled: &Compiled<'_>,
    event: &Event,
    world: &dyn World,
    facts: &Facts,
    context: &Context<'_, '_>,
) -> Result<Actions, Miss> {
    let rule = compiled.rule;
    if let Some(why) = facts.withheld(compiled.needs()) {
        return Err(Miss::Condition(why));
    }
    let mut extensions = Map::new();
    let mut failed = None;
    let mut scope = context.new_inner_scope();
    for (name, expression) in &compiled.overlays {
        with_extensions(&mut scope, &extensions);
        match expression.evaluate(&scope, facts) {
            Ok(value) => drop(extensions.insert((*name).to_owned(), value)),
            Err(why) => failed = failed.or(Some(format!("`let.{name}` has no value: {why}"))),
        }
    }
    with_extensions(&mut scope, &extensions);
    for condition in &compiled.when {
        let source = shortened(condition.source());
        match condition.evaluate(&scope, facts) {
            Ok(Value::Bool(true)) => {}
            Ok(Value::Bool(false)) => return Err(Miss::Condition(format!("`{source}` is false"))),
            Ok(_) => {
                return Err(Miss::Condition(format!(
                    "`{source}` is neither true nor false"
                )));
            }
            Err(why) => return Err(Miss::Condition(format!("`{source}`: {why}"))),
        }
    }
    if let Some(why) = failed {
        return Err(Miss::Condition(why));
    }
    if rule.manifest.is_some() && event.commit.is_none() {
        return Err(Miss::Condition(
            "the event has no commit that a run could be about".to_owned(),
        ));
    }
    let extensions = Value::Object(extensions);
    let comment = match &compiled.comment {
        Some(text) => Some(
            text.render(facts, &extensions, as_code)
                .map_err(|why| Miss::Value(Problem::new(below(&rule.path, "comment"), why)))?,
        ),
        None => None,
    };
    let template = match (&compiled.template, &rule.manifest) {
        (Some(template), _) => Some(template.clone()),
        (None, Some(Manifest::File(path))) => Some(from_file(rule, path, world)?),
        (None, _) => None,
    };
    let runs = match template {
        Some(template) => {
            let params = params(compiled, &template, facts, &extensions, &scope)?;
            let uid = uid(&event.delivery, &rule.name);
            template.fill(&params, &uid).map_err(|missing| {
                Miss::Value(Problem::new(
                    below(&rule.path, "params"),
                    format!("`{missing}` has no value"),
                ))
            })?
        }
        None => Vec::new(),
    };
    Ok(Actions { runs, comment })
}

fn with_extensions(scope: &mut Context<'_, '_>, extensions: &Map<String, Value>) {
    let value = functions::from_json(&Value::Object(extensions.clone()));
    scope.add_variable_from_value("extensions", value);
}

fn from_file(rule: &Rule, path: &str, world: &dyn World) -> Result<Template, Miss> {
    let text = world.file(path).map_err(|error| match error {
        PluginError::Source(problems) => Miss::Source(problems),
        other => Miss::Failed(other),
    })?;
    let mended = |faults: Vec<crate::fault::Fault>| {
        Miss::Source(faults.into_iter().map(|it| it.of(path)).collect())
    };
    let template = Template::parse(&text).map_err(mended)?;
    match missing_params(rule, &template, &text) {
        faults if faults.is_empty() => Ok(template),
        faults => Err(mended(faults)),
    }
}

/// Values of all params that have one; those of others come from the template.
fn params(
    compiled: &Compiled<'_>,
    template: &Template,
    facts: &Facts,
    extensions: &Value,
    scope: &Context<'_, '_>,
) -> Result<BTreeMap<String, String>, Miss> {
    let rule = compiled.rule;
    let mut params = BTreeMap::new();
    for (name, value) in &compiled.params {
        let found = match value {
            compile::Value::Text(text) => text.render(facts, extensions, |it| it),
            compile::Value::Cel(expression) => expression.evaluate(scope, facts).map(as_text),
        };
        let default = rule.params.get(*name).and_then(|it| it.default.as_deref());
        match (found, default.or_else(|| template.default(name))) {
            (Ok(value), _) => drop(params.insert((*name).to_owned(), value)),
            (Err(_), Some(default)) => drop(params.insert((*name).to_owned(), default.to_owned())),
            (Err(why), None) => {
                let path = below(&below(&rule.path, "params"), name);
                return Err(Miss::Value(Problem::new(path, why)));
            }
        }
    }
    Ok(params)
}

impl Actions {
    fn add_to(self, plan: Plan, rule: &Rule, event: &Event) -> Plan {
        let name = &rule.name;
        let mut plan = plan;
        let mut done = Vec::new();
        let scope = match rule.cancel {
            Cancel::Nothing => None,
            Cancel::Superseded => Some((CancelScope::Superseded, "a newer commit takes its place")),
            Cancel::Earlier => Some((CancelScope::Earlier, "a later event takes its place")),
        };
        if let Some((scope, reason)) = scope {
            let cancel = CancelRuns::new(scope, reason).pipeline(&rule.pipeline);
            plan = plan.cancel_runs(format!("cancel/{name}"), cancel);
            done.push(format!("cancels earlier runs of `{}`", rule.pipeline));
        }
        for (index, run) in self.runs.into_iter().enumerate() {
            // The first is the rule's own; a TriggerTemplate's others are numbered from 2.
            let suffix = if index == 0 {
                String::new()
            } else {
                format!("-{}", index + 1)
            };
            let pipeline = format!("{}{suffix}", rule.pipeline);
            done.push(format!("starts `{pipeline}`"));
            let mut start = StartRun::new(pipeline, run.to_string());
            start.place.clone_from(&rule.place);
            start.status_name = rule.status_name.as_ref().map(|it| format!("{it}{suffix}"));
            start.keep = rule.keep;
            start.queue = rule
                .queue
                .clone()
                .map(|(name, concurrency)| Queue { name, concurrency });
            for (name, source) in &rule.secrets {
                start = start.secret(name, source.clone());
            }
            plan = plan.start_run(format!("run/{name}{suffix}"), start);
        }
        if let Some(body) = self.comment {
            match commented(event) {
                Some(Target::MergeRequest(iid)) => {
                    plan = plan.comment(
                        format!("comment/{name}"),
                        Comment::on_merge_request(iid, body),
                    );
                    done.push("comments".to_owned());
                }
                Some(Target::Commit(commit)) => {
                    plan =
                        plan.comment(format!("comment/{name}"), Comment::on_commit(commit, body));
                    done.push("comments".to_owned());
                }
                None => done.push("has nothing to comment on".to_owned()),
            }
        }
        plan.reason(format!("rule `{name}` matches: {}", done.join(", ")))
    }
}

enum Target<'e> {
    MergeRequest(u64),
    Commit(&'e str),
}

/// What a comment is written on: the merge request, else the commit.
fn commented(event: &Event) -> Option<Target<'_>> {
    let merge_request = match &event.kind {
        EventKind::MergeRequest(it) => Some(it.merge_request.iid),
        EventKind::Note(note) => match &note.target {
            NoteTarget::MergeRequest(it) => Some(it.iid),
            NoteTarget::Commit(_) | NoteTarget::Other(_) => None,
        },
        EventKind::Sweep(it) => it.merge_request.as_ref().map(|it| it.iid),
        EventKind::Pipeline(it) => it.merge_request,
        EventKind::RunFinished(it) => it.run.merge_request,
        _ => None,
    };
    merge_request
        .map(Target::MergeRequest)
        .or_else(|| event.commit.as_deref().map(Target::Commit))
}

/// A value in a comment, as code: so that a title can't be a quick action, mention
/// anybody or be formatted.
fn as_code(value: String) -> String {
    let plain: String = value
        .chars()
        .map(|it| match it {
            '`' => '\'',
            it if it.is_control() => ' ',
            it => it,
        })
        .collect();
    if plain.trim().is_empty() {
        String::new()
    } else {
        format!("`{}`", plain.trim())
    }
}

/// Eight characters that differ by event and rule, and are the same when it is decided again.
fn uid(delivery: &str, rule: &str) -> String {
    const DIGITS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    // FNV-1a: it has to spread, not to withstand anyone.
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in delivery.bytes().chain([0]).chain(rule.bytes()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    (0..8)
        .filter_map(|index| {
            let digit = usize::try_from((hash >> (index * 5)) & 31).ok()?;
            DIGITS.get(digit).map(|it| char::from(*it))
        })
        .collect()
}
