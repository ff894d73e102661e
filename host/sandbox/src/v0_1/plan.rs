//! A guest's answer, checked and turned into the model's.
//!
//! What can't be anything (an empty key, half a commit id, an unknown extra) is refused with the path of the field. What is only unfit to be shown is cut
//! after the whole was measured. Whether an effect may be done is not decided here: see `penstock_model::admit`.

use std::collections::BTreeSet;

use penstock_model::effect as model;
use penstock_model::id::{CommitId, RefName};

use super::wit::{effects as wit, types};
use crate::clamp;

/// What is wrong with an answer, beginning with the path of the field.
pub(crate) type Wrong = String;

/// Bytes of a key.
const KEY: usize = 200;
/// Bytes of a name: of a pipeline, a status, a place, a queue, a policy.
const NAME: usize = 255;
/// Bytes of a ref's name, a path or an address.
const LONG: usize = 2048;

/// A plan.
pub(crate) fn plan(plan: wit::Plan) -> Result<model::Plan, Wrong> {
    let mut effects = Vec::with_capacity(plan.effects.len());
    let mut keys = BTreeSet::new();
    for (index, effect) in plan.effects.into_iter().enumerate() {
        let at = At(index);
        let key = at.text("key", effect.key, KEY)?;
        if !keys.insert(key.clone()) {
            return Err(format!(
                "effects[{index}].key: `{key}` is the key of another effect too"
            ));
        }
        effects.push(model::Effect {
            key: key.into(),
            action: action(at, effect.action)?,
        });
    }
    Ok(model::Plan {
        effects,
        reasons: plan.reasons,
        warnings: problems(plan.warnings),
    })
}

/// A plugin's own error.
pub(crate) fn error(error: types::PluginError) -> model::PluginError {
    match error {
        types::PluginError::Settings(them) => model::PluginError::Settings(problems(them)),
        types::PluginError::Source(them) => model::PluginError::Source(problems(them)),
        types::PluginError::Other(message) => model::PluginError::Other(message),
    }
}

/// Problems.
pub(crate) fn problems(problems: Vec<types::Problem>) -> Vec<model::Problem> {
    let one = |it: types::Problem| model::Problem {
        path: it.path,
        line: it.line,
        column: it.column,
        message: it.message,
    };
    problems.into_iter().map(one).collect()
}

/// The effect that is being read: paths begin with it.
#[derive(Clone, Copy)]
struct At(usize);

impl At {
    fn wrong(self, field: &str, what: impl std::fmt::Display) -> Wrong {
        format!("effects[{}].{field}: {what}", self.0)
    }

    /// A text that names something: not empty, not long, nothing in it that does not print.
    fn text(self, field: &str, text: String, most: usize) -> Result<String, Wrong> {
        if text.is_empty() {
            return Err(self.wrong(field, "is empty"));
        }
        if text.len() > most {
            return Err(self.wrong(
                field,
                format_args!("has {} bytes and {most} are allowed", text.len()),
            ));
        }
        if text.contains(|c| clamp::is_tricky(c) || c.is_control()) {
            return Err(self.wrong(field, "holds a control character"));
        }
        Ok(text)
    }

    fn maybe(
        self,
        field: &str,
        text: Option<String>,
        most: usize,
    ) -> Result<Option<String>, Wrong> {
        text.map(|it| self.text(field, it, most)).transpose()
    }

    fn commit(self, field: &str, text: &str) -> Result<CommitId, Wrong> {
        CommitId::parse(text).map_err(|error| self.wrong(field, error))
    }

    fn ref_name(self, field: &str, text: String) -> Result<RefName, Wrong> {
        let text = self.text(field, text, LONG)?;
        if text.starts_with("refs/") {
            Ok(text.into())
        } else {
            Err(self.wrong(
                field,
                format_args!("`{text}` is no full ref name such as `refs/heads/main`"),
            ))
        }
    }

    /// No release knows an extra yet.
    fn extras(self, field: &str, extras: Vec<types::Extra>) -> Result<Vec<model::Extra>, Wrong> {
        match extras.first() {
            None => Ok(extras),
            Some((name, _)) => {
                let name = self.text(field, name.clone(), NAME)?;
                Err(self.wrong(
                    field,
                    format_args!("this host does not know `{}`", clamp::cut(&name, 80)),
                ))
            }
        }
    }

    fn pairs(
        self,
        field: &str,
        pairs: Vec<(String, String)>,
    ) -> Result<Vec<(String, String)>, Wrong> {
        for (name, _) in &pairs {
            self.text(field, name.clone(), NAME)?;
        }
        Ok(pairs)
    }
}

fn action(at: At, action: wit::Action) -> Result<model::Action, Wrong> {
    Ok(match action {
        wit::Action::StartRun(it) => model::Action::StartRun(Box::new(start_run(at, it)?)),
        wit::Action::CancelRuns(it) => model::Action::CancelRuns(model::CancelRuns {
            scope: cancel_scope(at, it.scope)?,
            pipeline: at.maybe("cancel-runs.pipeline", it.pipeline, NAME)?,
            reason: it.reason,
        }),
        wit::Action::Comment(it) => model::Action::Comment(model::Comment {
            target: match it.target {
                wit::CommentTarget::MergeRequest(iid) => model::CommentTarget::MergeRequest(iid),
                wit::CommentTarget::Commit(id) => {
                    model::CommentTarget::Commit(at.commit("comment.target.commit", &id)?)
                }
            },
            body: it.body,
        }),
        wit::Action::CommitStatus(it) => model::Action::CommitStatus(model::CommitStatus {
            commit: at.commit("commit-status.commit", &it.commit)?,
            name: at.text("commit-status.name", it.name, NAME)?,
            state: status_state(it.state),
            description: it.description,
            target_url: at.maybe("commit-status.target-url", it.target_url, LONG)?,
        }),
        wit::Action::RequestApproval(it) => {
            model::Action::RequestApproval(model::RequestApproval {
                policy: at.maybe("request-approval.policy", it.policy, NAME)?,
                title: at.text("request-approval.title", it.title, LONG)?,
                description: it.description,
                environment: at.maybe("request-approval.environment", it.environment, NAME)?,
                arguments: at.pairs("request-approval.arguments", it.arguments)?,
            })
        }
        wit::Action::Extension(it) => model::Action::Extension(model::Extension {
            kind: at.text("extension.kind", it.kind, NAME)?,
            json: it.json,
        }),
    })
}

fn start_run(at: At, it: wit::StartRun) -> Result<model::StartRun, Wrong> {
    let target = match it.target {
        None => None,
        Some(target) => Some(model::RunTarget {
            commit: at.commit("start-run.target.commit", &target.commit)?,
            ref_name: target
                .ref_name
                .map(|name| at.ref_name("start-run.target.ref-name", name))
                .transpose()?,
            merge_request: target.merge_request,
        }),
    };
    let queue = match it.queue {
        None => None,
        Some(queue) => Some(model::Queue {
            name: at.text("start-run.queue.name", queue.name, NAME)?,
            concurrency: queue.concurrency,
        }),
    };
    let mut secrets = Vec::with_capacity(it.secrets.len());
    for secret in it.secrets {
        secrets.push(model::RunSecret {
            name: at.text("start-run.secrets.name", secret.name, NAME)?,
            source: match secret.source {
                wit::SecretSource::Clone(paths) => model::SecretSource::Clone(paths),
                wit::SecretSource::Reference(text) => model::SecretSource::Reference(at.text(
                    "start-run.secrets.source.reference",
                    text,
                    LONG,
                )?),
            },
        });
    }
    Ok(model::StartRun {
        manifest: it.manifest,
        pipeline: at.text("start-run.pipeline", it.pipeline, NAME)?,
        target,
        place: at.maybe("start-run.place", it.place, NAME)?.map(Into::into),
        gate: at.maybe("start-run.gate", it.gate, KEY)?.map(Into::into),
        status_name: at.maybe("start-run.status-name", it.status_name, NAME)?,
        queue,
        keep: it.keep,
        secrets,
        extras: at.extras("start-run.extras", it.extras)?,
    })
}

fn cancel_scope(at: At, scope: wit::CancelScope) -> Result<model::CancelScope, Wrong> {
    Ok(match scope {
        wit::CancelScope::Superseded => model::CancelScope::Superseded,
        wit::CancelScope::Earlier => model::CancelScope::Earlier,
        wit::CancelScope::MergeRequest(iid) => model::CancelScope::MergeRequest(iid),
        wit::CancelScope::Ref(name) => {
            model::CancelScope::Ref(at.ref_name("cancel-runs.scope.ref", name)?)
        }
        wit::CancelScope::Commit(id) => {
            model::CancelScope::Commit(at.commit("cancel-runs.scope.commit", &id)?)
        }
        wit::CancelScope::Runs(ids) => {
            let mut runs = Vec::with_capacity(ids.len());
            for id in ids {
                runs.push(at.text("cancel-runs.scope.runs", id, NAME)?);
            }
            model::CancelScope::Runs(runs)
        }
    })
}

fn status_state(state: wit::StatusState) -> model::StatusState {
    match state {
        wit::StatusState::Pending => model::StatusState::Pending,
        wit::StatusState::Running => model::StatusState::Running,
        wit::StatusState::Success => model::StatusState::Success,
        wit::StatusState::Failed => model::StatusState::Failed,
        wit::StatusState::Canceled => model::StatusState::Canceled,
        wit::StatusState::Skipped => model::StatusState::Skipped,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> wit::StartRun {
        wit::StartRun {
            manifest: "kind: PipelineRun".to_owned(),
            pipeline: "build".to_owned(),
            target: None,
            place: None,
            gate: None,
            status_name: None,
            queue: None,
            keep: None,
            secrets: Vec::new(),
            extras: Vec::new(),
        }
    }

    fn check(key: &str, start: wit::StartRun) -> Result<model::Plan, Wrong> {
        plan(wit::Plan {
            effects: vec![wit::Effect {
                key: key.to_owned(),
                action: wit::Action::StartRun(start),
            }],
            reasons: Vec::new(),
            warnings: Vec::new(),
        })
    }

    #[test]
    fn a_name_with_a_control_character_is_refused_with_its_path() {
        assert!(check("run", start()).is_ok());
        let bad = || "a\0b".to_owned();
        let queue = wit::Queue {
            name: bad(),
            concurrency: None,
        };
        for (field, start) in [
            (
                "pipeline",
                wit::StartRun {
                    pipeline: bad(),
                    ..start()
                },
            ),
            (
                "place",
                wit::StartRun {
                    place: Some(bad()),
                    ..start()
                },
            ),
            (
                "gate",
                wit::StartRun {
                    gate: Some(bad()),
                    ..start()
                },
            ),
            (
                "status-name",
                wit::StartRun {
                    status_name: Some(bad()),
                    ..start()
                },
            ),
            (
                "queue.name",
                wit::StartRun {
                    queue: Some(queue),
                    ..start()
                },
            ),
            (
                "extras",
                wit::StartRun {
                    extras: vec![(bad(), "1".to_owned())],
                    ..start()
                },
            ),
        ] {
            let wrong = check("run", start).unwrap_err();
            let expect = format!("effects[0].start-run.{field}: holds a control character");
            assert_eq!(wrong, expect);
        }
        let wrong = check(&bad(), start()).unwrap_err();
        assert_eq!(wrong, "effects[0].key: holds a control character");
    }
}
