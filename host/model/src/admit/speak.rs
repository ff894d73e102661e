//! Comments, commit statuses and cancels: what a plugin may say and stop.

use super::about::About;
use super::start_run::status_name_fault;
use super::walk::Fault;
use super::{CancelOrder, CommentOrder, Context, StatusOrder};
use crate::effect::{CancelRuns, CancelScope, Comment, CommentTarget, CommitStatus};
use crate::id::{EffectId, EffectKey};
use crate::scope::Trust;

/// GitLab keeps so many characters of a description.
const DESCRIPTION: usize = 255;

/// GitLab takes so many characters of a comment; what the host adds to it needs room too.
const COMMENT: usize = 1_000_000 - 4_096;

const NOT_THE_EVENTS: &str = "let the plugin speak of the event's own commit or merge request";

/// Judges a commit status.
pub(super) fn status(
    wanted: &CommitStatus,
    about: &About<'_>,
    context: Context<'_>,
) -> Result<StatusOrder, Vec<Fault>> {
    let mut faults = Vec::new();
    if !about.is_commit(&wanted.commit) {
        faults.push(Fault::new(
            "commit",
            format!(
                "{} is not the commit of the event, nor the head that GitLab confirmed",
                wanted.commit
            ),
            NOT_THE_EVENTS,
        ));
    }
    faults.extend(status_name_fault("name", &wanted.name));
    let web = |url: &String| {
        (url.starts_with("https://") || url.starts_with("http://"))
            && url.len() <= 2_000
            && !url.contains(char::is_whitespace)
    };
    if !wanted.target_url.as_ref().is_none_or(web) {
        faults.push(Fault::new(
            "target-url",
            "a status leads to an address that begins with `https://` or `http://` and has at most 2,000 characters",
            "write such an address, or leave it out",
        ));
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    Ok(StatusOrder {
        of: about.of.clone(),
        commit: wanted.commit.clone(),
        name: wanted.name.clone(),
        state: wanted.state,
        description: wanted.description.chars().take(DESCRIPTION).collect(),
        target_url: wanted.target_url.clone(),
        ref_name: context.event.ref_name.clone(),
        merge_request: about.merge_request,
        source_project: about.source_project,
        run: None,
    })
}

/// Judges a comment.
pub(super) fn comment(
    key: &EffectKey,
    wanted: &Comment,
    about: &About<'_>,
    context: Context<'_>,
) -> Result<CommentOrder, Vec<Fault>> {
    let allowed = match &wanted.target {
        CommentTarget::MergeRequest(iid) => about.merge_request == Some(*iid),
        CommentTarget::Commit(commit) => about.is_commit(commit),
    };
    let mut faults = Vec::new();
    if !allowed {
        let what = match &wanted.target {
            CommentTarget::MergeRequest(iid) => format!("merge request {iid}"),
            CommentTarget::Commit(commit) => format!("commit {commit}"),
        };
        faults.push(Fault::new(
            "target",
            format!("{what} is not what the event is about"),
            NOT_THE_EVENTS,
        ));
    }
    let length = wanted.body.as_ref().map_or(0, |body| body.chars().count());
    if length > COMMENT {
        faults.push(Fault::new(
            "body",
            format!("the comment has {length} characters, GitLab takes {COMMENT}"),
            "let the plugin write less, and link to the rest",
        ));
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    Ok(CommentOrder {
        of: about.of.clone(),
        plugin: context.plugin.clone(),
        key: key.clone(),
        target: wanted.target.clone(),
        body: wanted.body.as_deref().map(without_commands),
    })
}

/// GitLab carries out lines such as `/merge` or `/approve` with the rights of whoever writes the comment, and that is the host. A
/// plugin may speak, not command: a backslash makes such a line text.
fn without_commands(body: &str) -> String {
    let mut quiet = String::with_capacity(body.len());
    for line in body.split_inclusive(['\n', '\r']) {
        let text = line.trim_start();
        let (blank, _) = line.split_at(line.len() - text.len());
        quiet.push_str(blank);
        if let Some(word) = text.strip_prefix('/') {
            let end = word
                .find(|c: char| !c.is_alphanumeric() && c != '_')
                .unwrap_or(word.len());
            let after = word.get(end..).unwrap_or_default();
            if end > 0 && (after.is_empty() || after.starts_with(char::is_whitespace)) {
                quiet.push('\\');
            }
        }
        quiet.push_str(text);
    }
    quiet
}

/// Judges a cancel. An event that can't be trusted stops nothing but what it replaces.
pub(super) fn cancel(
    wanted: &CancelRuns,
    about: &About<'_>,
    context: Context<'_>,
) -> Result<CancelOrder, Vec<Fault>> {
    let mut faults = Vec::new();
    let own = match &wanted.scope {
        CancelScope::Superseded | CancelScope::Earlier => true,
        CancelScope::MergeRequest(iid) => about.merge_request == Some(*iid),
        CancelScope::Commit(commit) => about.is_commit(commit),
        CancelScope::Ref(_) | CancelScope::Runs(_) => false,
    };
    if context.event.provenance.trust == Trust::Untrusted && !own {
        faults.push(Fault::new(
            "scope",
            "an event that counts as a fork's cancels only runs of its own merge request",
            "let the plugin cancel `superseded` or `earlier` runs for such events",
        ));
    }
    if let CancelScope::Runs(ids) = &wanted.scope
        && let Some(id) = ids.iter().find(|id| EffectId::parse(id).is_err())
    {
        let id: String = id.chars().take(80).flat_map(char::escape_debug).collect();
        faults.push(Fault::new(
            "scope",
            format!("`{id}` is no id of a run"),
            "name runs by the ids that `cluster-read` and `run-finished` give",
        ));
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    Ok(CancelOrder {
        of: about.of.clone(),
        plugin: context.plugin.clone(),
        scope: wanted.scope.clone(),
        pipeline: wanted.pipeline.clone(),
        reason: wanted.reason.chars().take(DESCRIPTION).collect(),
        lane: context.lane.clone(),
        head: context.head.cloned(),
        past: context.past,
    })
}

#[cfg(test)]
mod tests {
    use super::without_commands;

    #[test]
    fn a_line_that_gitlab_would_carry_out_becomes_text() {
        for (body, expect) in [
            ("/merge", "\\/merge"),
            ("hello\n/approve\n", "hello\n\\/approve\n"),
            ("a\r\n  /assign @x", "a\r\n  \\/assign @x"),
            ("a\r/close", "a\r\\/close"),
            ("/bin/sh: not found", "/bin/sh: not found"),
            ("see /merge", "see /merge"),
            ("/ x", "/ x"),
            ("", ""),
        ] {
            assert_eq!(without_commands(body), expect, "{body:?}");
        }
    }
}
