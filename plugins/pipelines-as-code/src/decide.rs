//! What an event asks for.

use std::collections::BTreeMap;

use penstock_sdk::events::{
    EventKind, MergeRequest, MergeRequestEvent, Push, Request, Sweep, TagPush,
};
use penstock_sdk::types::Project;
use penstock_sdk::{CancelRuns, CancelScope, Event, Plan, PluginError, Scope};

use crate::choice::Choice;
use crate::facts::{Facts, Trigger};
use crate::finished;
use crate::glob::matches_ref;
use crate::settings::Settings;
use crate::skip;
use crate::start::{Scene, start};
use crate::tell;
use crate::world::World;

mod note;

/// Decides an event.
///
/// # Errors
/// [`PluginError::Other`] where the host does not give what is needed.
pub fn decide(settings: &Settings, event: &Event, world: &dyn World) -> Result<Plan, PluginError> {
    let Scope::Project(project) = &event.scope else {
        return Ok(Plan::nothing("the event is of no project"));
    };
    if let EventKind::RunFinished(finished) = &event.kind {
        return Ok(finished::decide(settings, event, finished, world));
    }
    if event.actor.as_ref().is_some_and(|it| it.host) {
        return Ok(Plan::nothing("the host itself did it"));
    }
    let decision = Decision {
        settings,
        event,
        project,
        world,
    };
    match &event.kind {
        EventKind::Push(push) => decision.push(push),
        EventKind::TagPush(push) => decision.tag_push(push),
        EventKind::MergeRequest(it) => decision.merge_request(it),
        EventKind::Note(note) => decision.note(note),
        EventKind::Sweep(sweep) => decision.sweep(sweep),
        EventKind::Request(request) => decision.request(request),
        _ => Ok(Plan::nothing("this plugin is not for such events")),
    }
}

struct Decision<'a> {
    settings: &'a Settings,
    event: &'a Event,
    project: &'a Project,
    world: &'a dyn World,
}

type Answer = Result<Plan, PluginError>;

impl<'a> Decision<'a> {
    fn facts(&self, trigger: Trigger, commit: &'a str, ref_name: &str) -> Facts<'a> {
        Facts {
            event: self.event,
            project: self.project,
            trigger,
            event_type: trigger.word(),
            commit,
            target_ref: ref_name.to_owned(),
            source_ref: ref_name.to_owned(),
            merge_request: None,
            comment: None,
            title: String::new(),
            arguments: BTreeMap::new(),
        }
    }

    fn merge_request_facts(&self, merge_request: &'a MergeRequest, commit: &'a str) -> Facts<'a> {
        Facts {
            target_ref: format!("refs/heads/{}", merge_request.target_branch),
            source_ref: format!("refs/heads/{}", merge_request.source_branch),
            merge_request: Some(merge_request),
            title: merge_request.title.clone(),
            ..self.facts(Trigger::PullRequest, commit, "")
        }
    }

    fn scene<'f>(&'f self, facts: &'f Facts<'f>) -> Scene<'f> {
        Scene {
            settings: self.settings,
            world: self.world,
            facts,
        }
    }

    fn start(&self, facts: &Facts<'_>, choice: &Choice, plan: Plan) -> Answer {
        start(self.scene(facts), choice, plan)
    }

    fn skipped(&self, facts: &Facts<'_>, plan: Plan) -> Plan {
        tell::skipped(self.scene(facts), plan)
    }

    fn commit(&self) -> Option<&'a str> {
        self.event.commit.as_deref()
    }

    fn push(&self, push: &'a Push) -> Answer {
        if push.after.is_none() {
            return Ok(deleted(&push.ref_name));
        }
        let Some(commit) = self.commit() else {
            return Ok(Plan::nothing(
                "GitLab does not have the commit on this branch",
            ));
        };
        let message = push.commits.iter().find(|it| it.id == commit);
        let text = match message {
            Some(found) => Ok(found.message.clone()),
            // A new branch lists no commits.
            None => self.world.message(commit).map_err(|it| it.describe()),
        };
        let mut facts = self.facts(Trigger::Push, commit, &push.ref_name);
        if let Some(plan) = skip::marked(text.as_deref()) {
            return Ok(self.skipped(&facts, plan));
        }
        facts.title = skip::title(text.as_deref().unwrap_or_default());
        self.start(&facts, &Choice::matching(), Plan::new())
    }

    fn tag_push(&self, push: &'a TagPush) -> Answer {
        if push.after.is_none() {
            return Ok(Plan::nothing("the tag was deleted"));
        }
        let Some(commit) = self.commit() else {
            return Ok(Plan::nothing("GitLab does not have the tag's commit"));
        };
        let text = self.world.message(commit).map_err(|it| it.describe());
        let mut facts = self.facts(Trigger::Push, commit, &push.ref_name);
        if let Some(plan) = skip::marked(text.as_deref()) {
            return Ok(self.skipped(&facts, plan));
        }
        facts.title = skip::title(text.as_deref().unwrap_or_default());
        self.start(&facts, &Choice::matching(), Plan::new())
    }

    fn merge_request(&self, it: &'a MergeRequestEvent) -> Answer {
        let merge_request = &it.merge_request;
        let iid = merge_request.iid;
        let cancel = |why: &str| {
            Plan::because(why).cancel_runs(
                "cancel",
                CancelRuns::new(CancelScope::MergeRequest(iid), why),
            )
        };
        let changed = |name: &str| it.changed.iter().any(|field| field == name);
        let (choice, plan) = match it.action.as_str() {
            "close" => return Ok(cancel("the merge request was closed")),
            "merge" => return Ok(cancel("the merge request was merged")),
            "open" | "reopen" => (Choice::matching(), Plan::new()),
            "update" if changed("target_branch") => (
                Choice::matching(),
                cancel("the merge request has another target branch"),
            ),
            "update" if it.old_head.is_some() => (Choice::matching(), Plan::new()),
            // With labels or without: all is asked.
            "update" if changed("draft") || changed("title") || changed("work_in_progress") => (
                Choice::only_new(),
                Plan::because("the title or the draft state changed"),
            ),
            "update" if changed("labels") => {
                let choice = Choice {
                    labels: true,
                    ..Choice::only_new()
                };
                (choice, Plan::because("labels changed"))
            }
            action => {
                return Ok(Plan::nothing(format!(
                    "`{action}` changes nothing that runs are about"
                )));
            }
        };
        if merge_request.state != "opened" {
            return Ok(plan.reason("the merge request is not open"));
        }
        let Some(commit) = self.commit() else {
            return Ok(plan.reason("GitLab does not have the merge request's commit"));
        };
        let text = match self.world.part("/object_attributes/last_commit/message") {
            Ok(Some(text)) => serde_json::from_str(&text).map_err(|error| error.to_string()),
            // Without the payload, or without a message in it, GitLab is asked.
            Ok(None) | Err(_) => self.world.message(commit).map_err(|it| it.describe()),
        };
        let facts = self.merge_request_facts(merge_request, commit);
        if let Some(skipped) = skip::marked(text.as_deref().map_err(|it: &String| it)) {
            return Ok(skip::both(plan, self.skipped(&facts, skipped)));
        }
        self.start(&facts, &choice, plan)
    }

    /// A head that no delivery told of: what has a run already does not run again.
    fn sweep(&self, sweep: &'a Sweep) -> Answer {
        let plan = Plan::because("the host found what no delivery told of");
        match (&sweep.merge_request, &sweep.found) {
            (Some(merge_request), None) => {
                let why = "the merge request is no longer open";
                let scope = CancelScope::MergeRequest(merge_request.iid);
                Ok(plan.cancel_runs("cancel", CancelRuns::new(scope, why)))
            }
            (None, None) if sweep.ref_name.starts_with("refs/tags/") => {
                Ok(plan.reason("the tag was deleted"))
            }
            (None, None) => Ok(deleted(&sweep.ref_name)),
            (merge_request, Some(_)) => {
                let Some(commit) = self.commit() else {
                    return Ok(plan.reason("GitLab does not have the commit"));
                };
                let text = self.world.message(commit).map_err(|it| it.describe());
                let facts = match merge_request {
                    Some(merge_request) => self.merge_request_facts(merge_request, commit),
                    None => Facts {
                        title: skip::title(text.as_deref().unwrap_or_default()),
                        ..self.facts(Trigger::Push, commit, &sweep.ref_name)
                    },
                };
                if let Some(plan) = skip::marked(text.as_deref()) {
                    return Ok(self.skipped(&facts, plan));
                }
                self.start(&facts, &Choice::only_new(), plan)
            }
        }
    }

    /// A request from outside. The host has checked who asks, for which branch and with which
    /// parameters; rules in the settings can only narrow that.
    fn request(&self, request: &'a Request) -> Answer {
        let plan = Plan::because(format!("asked for by `{}`", request.source));
        let Some(commit) = self.commit() else {
            return Ok(plan.reason("GitLab does not have the commit"));
        };
        let mut facts = self.facts(Trigger::Incoming, commit, &request.ref_name);
        let rules = &self.settings.incoming;
        let for_ref = |targets: &[String]| {
            let mut targets = targets.iter();
            targets.any(|it| matches_ref(it, &request.ref_name).unwrap_or_default())
        };
        // Without targets a rule is for every branch; without rules what the host let through is.
        let rule = rules
            .iter()
            .find(|it| it.targets.is_empty() || for_ref(&it.targets));
        let mut plan = plan;
        if rule.is_none() && !rules.is_empty() && request.source == "incoming" {
            return Ok(plan.reason(format!(
                "no rule of `repository.incoming` is for `{}`",
                request.ref_name
            )));
        }
        for (name, value) in &request.parameters {
            if rules.is_empty() || rule.is_some_and(|it| it.params.contains(name)) {
                facts.arguments.insert(name.clone(), value.clone());
            } else {
                plan = plan.reason(format!(
                    "the parameter `{name}` is not taken: `repository.incoming` does not name it"
                ));
            }
        }
        let choice = match &request.name {
            // Whoever holds the secret starts what is meant for such requests, nothing else.
            Some(name) => Choice {
                names: [name.trim_end_matches('-').to_owned()].into(),
                named_match: request.source == "incoming",
                ..Choice::default()
            },
            None => Choice::matching(),
        };
        self.start(&facts, &choice, plan)
    }
}

fn deleted(ref_name: &str) -> Plan {
    let why = "the branch was deleted";
    // Of the event's own lane: an event about what is gone has little trust.
    Plan::because(format!("`{ref_name}` was deleted"))
        .cancel_runs("cancel", CancelRuns::new(CancelScope::Earlier, why))
}
