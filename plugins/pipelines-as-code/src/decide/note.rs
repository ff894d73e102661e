//! What a comment asks for.

use penstock_sdk::events::{MergeRequest, Note, NoteTarget};
use penstock_sdk::{CancelRuns, CancelScope, Plan};

use super::{Answer, Decision};
use crate::authorization::{self, Deed};
use crate::choice::Choice;
use crate::commands::Commands;
use crate::facts::{Facts, Trigger};
use crate::memory;
use crate::settings::ParamValue;
use crate::world::Source;

impl<'a> Decision<'a> {
    pub(super) fn note(&self, note: &'a Note) -> Answer {
        if !note.created {
            return Ok(Plan::nothing("a comment that is edited asks for nothing"));
        }
        if note.system {
            return Ok(Plan::nothing("GitLab wrote it, not a person"));
        }
        match &note.target {
            NoteTarget::MergeRequest(merge_request) => self.merge_request_note(note, merge_request),
            NoteTarget::Commit(_) => self.commit_note(note),
            NoteTarget::Other(_) => Ok(Plan::nothing("the comment is on no code")),
        }
    }

    fn merge_request_note(&self, note: &'a Note, merge_request: &'a MergeRequest) -> Answer {
        let commands = Commands::read(&note.text, self.settings.prefix.as_deref());
        let mut plan = Plan::new();
        if commands.cancels() {
            plan = self.cancel(
                &commands,
                CancelScope::MergeRequest(merge_request.iid),
                plan,
            );
        }
        if merge_request.state != "opened" {
            return Ok(plan.reason("the merge request is not open"));
        }
        let Some(commit) = self.commit() else {
            return Ok(plan.reason("GitLab does not have the merge request's commit"));
        };
        let mut facts = self.merge_request_facts(merge_request, commit);
        facts.comment = Some(&note.text);
        if let Some(beginning) = &commands.ok_to_test {
            return self.approve(beginning.as_deref(), merge_request, facts, &commands, plan);
        }
        self.asked(commands, facts, plan)
    }

    /// `/ok-to-test`: of the commit that was there when it was written, which is the event's.
    fn approve(
        &self,
        beginning: Option<&str>,
        merge_request: &MergeRequest,
        facts: Facts<'a>,
        commands: &Commands,
        plan: Plan,
    ) -> Answer {
        let policy = &self.settings.policy;
        let actor = self.event.actor.as_ref();
        if let Err(why) = authorization::check(actor, Deed::OkToTest, policy, self.world) {
            return Ok(plan.reason(why));
        }
        if let Some(beginning) = beginning {
            let whole = beginning.len() >= 7 && beginning.bytes().all(|it| it.is_ascii_hexdigit());
            if !whole || !facts.commit.starts_with(beginning) {
                return Ok(plan.reason(format!(
                    "`{beginning}` is not the beginning (7 digits or more) of `{}`, the commit at which it was written",
                    facts.commit
                )));
            }
        }
        let by = actor.map_or("", |it| it.username.as_str());
        let mut plan = plan.reason(format!("`{by}` allows the runs of `{}`", facts.commit));
        if let Err(why) = memory::approve(self.world, merge_request.iid, facts.commit, by) {
            plan = plan.reason(format!("that is not kept: {why}"));
        }
        let choice = Choice {
            approval: true,
            failed: commands.retest,
            names: commands.names.clone(),
            ..Choice::only_new()
        };
        self.start(&facts, &choice, plan)
    }

    /// `/test`, `/retest`, or a comment that `on-comment` may be for.
    fn asked(&self, commands: Commands, facts: Facts<'a>, plan: Plan) -> Answer {
        let mut facts = facts;
        let mut plan = plan;
        if !commands.starts() {
            if !commands.is_empty() {
                return Ok(plan);
            }
            facts.event_type = "on-comment";
            let choice = Choice {
                comment: true,
                ..Choice::default()
            };
            return self.start(&facts, &choice, plan);
        }
        for (name, value) in commands.arguments {
            match self.settings.params.iter().find(|it| it.name == name) {
                Some(param) if matches!(param.value, ParamValue::Text(_) | ParamValue::Unset) => {
                    facts.arguments.insert(name, value);
                }
                Some(_) => {
                    plan = plan.reason(format!("`{name}` is a secret: a comment does not set it"))
                }
                None => {
                    plan = plan.reason(format!(
                        "`{name}` is no param of the settings: a comment sets nothing else"
                    ))
                }
            }
        }
        let choice = Choice {
            matching: commands.test,
            failed: commands.retest,
            names: commands.names,
            ..Choice::default()
        };
        self.start(&facts, &choice, plan)
    }

    fn commit_note(&self, note: &'a Note) -> Answer {
        let commands = Commands::read(&note.text, self.settings.prefix.as_deref());
        let Some(commit) = self.commit() else {
            return Ok(Plan::nothing(
                "no branch or tag of the project has the commit",
            ));
        };
        let mut plan = Plan::new();
        if commands.cancels() {
            plan = self.cancel(&commands, CancelScope::Commit(commit.to_owned()), plan);
        }
        if commands.ok_to_test.is_some() {
            return Ok(plan.reason("`/ok-to-test` is for merge requests"));
        }
        let default = self
            .project
            .default_branch
            .as_ref()
            .map(|it| format!("refs/heads/{it}"));
        let Some(ref_name) = commands.ref_name.clone().or(default) else {
            return Ok(plan.reason("the project has no default branch: name one by `branch:`"));
        };
        let head = self.world.resolve(&Source::Ref(ref_name.clone()));
        match head {
            Ok(head) if head == commit => {}
            Ok(_) => return Ok(plan.reason(format!("the commit is not the head of `{ref_name}`"))),
            Err(error) => return Ok(plan.reason(format!("`{ref_name}`: {}", error.describe()))),
        }
        let mut facts = self.facts(Trigger::Push, commit, &ref_name);
        facts.comment = Some(&note.text);
        self.asked(commands, facts, plan)
    }

    fn cancel(&self, commands: &Commands, scope: CancelScope, plan: Plan) -> Plan {
        let actor = self.event.actor.as_ref();
        if let Err(why) = authorization::check(actor, Deed::Run, &self.settings.policy, self.world)
        {
            return plan.reason(why);
        }
        let by = actor.map_or("", |it| it.username.as_str());
        let why = format!("`{by}` wrote `/cancel`");
        let mut plan = plan.reason(&why);
        if commands.cancel {
            return plan.cancel_runs("cancel", CancelRuns::new(scope, why));
        }
        for name in &commands.cancel_names {
            let pipeline = crate::run::pipeline(name);
            let cancel = CancelRuns::new(scope.clone(), &why).pipeline(&pipeline);
            plan = plan.cancel_runs(format!("cancel/{pipeline}"), cancel);
        }
        plan
    }
}
