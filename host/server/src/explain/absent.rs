//! Why nothing came: what stands between a change in GitLab and a delivery, in the order in which it can fail.
//!
//! Reads the configuration and asks GitLab as it is now. Decides nothing and changes nothing.

use penstock_gitlab::{
    ApiError, HookScope, MOST_REFS_TOLD, Sought, WantedHook, Webhook, Whereabouts, whereabouts,
};
use penstock_model::id::InstanceName;

use crate::check::{Finding, Verdict, not_there, wanted_hook, who_reads_hooks};
use crate::config::{GitlabConfig, HookConfig};
use crate::live::{Instance, Live, scope};
use crate::reconcile::Unrecovered;
use crate::text;

/// Words in a commit's message by which plugins skip, as far as they follow the custom.
const SKIPS: [&str; 4] = ["[skip ci]", "[ci skip]", "[skip tkn]", "[tkn skip]"];
/// Pushes of many refs that are told of.
const BULK_TOLD: usize = 3;
/// Things that could not be made up for that are told of.
const LOST_TOLD: usize = 10;

/// Goes through everything that could stand in the way of an event about something in a project; of one instance, or of all.
pub async fn absent(
    live: &Live,
    instance: Option<&InstanceName>,
    project: &str,
    sought: &Sought,
) -> Vec<Finding> {
    let mut all = vec![of_tenant(live, project, sought)];
    let asked = |config: &&GitlabConfig| instance.is_none_or(|it| *it == config.name);
    let mut elsewhere = Vec::new();
    let mut known = false;
    for config in live.config.gitlab.iter().filter(asked) {
        let Some(client) = live.instance(&config.name) else {
            continue;
        };
        let found = whereabouts(&client.client, project, sought).await;
        if matches!(&found, Ok(found) if found.project.is_none()) {
            elsewhere.push(no_project(config, project));
            continue;
        }
        known = true;
        all.extend(of_hooks(live, config, client, project, sought).await);
        all.extend(of_gitlab(config.name.as_str(), sought, found));
    }
    if !known {
        all.extend(elsewhere);
    }
    if all.iter().all(|finding| finding.verdict == Verdict::Good) {
        all.push(
            Finding::new(
                Verdict::Unknown,
                "the call itself",
                "nothing that can be seen from here stands in the way",
            )
            .remedy("look at the recent events of the webhook in GitLab: whether it was sent, and what was answered; `Resend` brings it"),
        );
    }
    all
}

fn of_tenant(live: &Live, project: &str, sought: &Sought) -> Finding {
    let what = format!("tenant of `{project}`");
    let belonging = match live.belonging(project) {
        Ok(belonging) => belonging,
        Err(none) => {
            return Finding::new(Verdict::Bad, what, none.to_string())
                .remedy("add the project to the `match` of a tenant");
        }
    };
    let kinds: &[&str] = match sought {
        Sought::Commit(_) => &["push", "tag_push", "merge_request"],
        Sought::MergeRequest(_) => &["merge_request", "note"],
    };
    let name = belonging.tenant.name();
    if let Some(why) = live.rests(&name) {
        return Finding::new(Verdict::Bad, what, why);
    }
    let taken: Vec<&str> = kinds
        .iter()
        .filter(|kind| !live.routes(belonging.tenant, kind).is_empty())
        .copied()
        .collect();
    if taken.is_empty() {
        return Finding::new(
            Verdict::Bad,
            what,
            format!("no route of `{name}` takes {}", kinds.join(" or ")),
        )
        .remedy("add the kind to `on` of a route");
    }
    Finding::new(
        Verdict::Good,
        what,
        format!("`{name}`, whose routes take {}", taken.join(" and ")),
    )
}

/// What reconciling could not make up for: what names the project first.
pub fn of_unrecovered(instance: &InstanceName, project: &str, found: &Unrecovered) -> Vec<Finding> {
    let named = format!("`{project}");
    let (of_project, others): (Vec<&String>, Vec<&String>) =
        found.all.iter().partition(|what| what.contains(&named));
    let what = format!("what `{instance}` did not tell");
    let mut all: Vec<Finding> = of_project
        .into_iter()
        .chain(others)
        .take(LOST_TOLD)
        .map(|lost| {
            let detail = format!("can't be made up for: {lost}");
            Finding::new(Verdict::Unknown, what.clone(), detail)
        })
        .collect();
    if let Some(more) = found.all.len().checked_sub(LOST_TOLD + 1) {
        let detail = format!(
            "{} other things could not be made up for at {}; the log names them",
            more + 1,
            text::time(found.at)
        );
        all.push(Finding::new(Verdict::Unknown, what, detail));
    }
    all
}

/// By a path alone nobody can say whether it is the project of an id.
fn speaks(hook: &HookConfig, project: &str) -> bool {
    let scope = scope(&hook.scope);
    matches!(scope, HookScope::ProjectId(_)) || scope.contains(project)
}

async fn of_hooks(
    live: &Live,
    config: &GitlabConfig,
    instance: &Instance,
    project: &str,
    sought: &Sought,
) -> Vec<Finding> {
    let speaking: Vec<&HookConfig> = config
        .hooks
        .iter()
        .filter(|hook| speaks(hook, project))
        .collect();
    if speaking.is_empty() {
        let detail = format!("none of them speaks for `{project}`");
        return vec![
            Finding::new(Verdict::Bad, format!("hooks of `{}`", config.name), detail)
                .remedy("add a hook of its group or project to `hooks`, and the webhook in GitLab"),
        ];
    }
    let base = live.config.public_url.as_deref();
    let wanted: Vec<WantedHook> = speaking
        .iter()
        .map(|hook| wanted_hook(base, config, hook))
        .collect();
    let health = penstock_gitlab::check(&instance.client, &wanted).await;
    let of = speaking.iter().zip(&wanted).zip(&health.hooks);
    of.map(|((hook, wanted), found)| {
        let what = format!("hook `{}` of `{}`", hook.name, config.name);
        match (base, found) {
            (None, _) => Finding::new(Verdict::Unknown, what, "its address is not known")
                .remedy("set `public-url`, so that hooks can be looked for by their address"),
            (_, Err(error)) => Finding::new(Verdict::Unknown, what, error.to_string())
                .remedy(who_reads_hooks(&wanted.scope)),
            (_, Ok(found)) => of_hook(what, wanted, found.as_ref(), sought),
        }
    })
    .collect()
}

fn of_hook(what: String, wanted: &WantedHook, found: Option<&Webhook>, sought: &Sought) -> Finding {
    let none = not_there(wanted, found);
    let Some(found) = found.filter(|_| none.is_none()) else {
        return Finding::new(Verdict::Bad, what, none.unwrap_or_default())
            .remedy("add the webhook in GitLab");
    };
    if let Some(until) = found.state.stopped() {
        let detail = format!("GitLab has disabled it {until}");
        return Finding::new(Verdict::Bad, what, detail)
            .remedy("see in GitLab why its calls failed, then send a test event from its page; a success enables it again");
    }
    let event = match sought {
        Sought::Commit(_) => "push",
        Sought::MergeRequest(_) => "merge_requests",
    };
    if !found.events.iter().any(|it| it == event) {
        let detail = format!("it does not send {event} events");
        return Finding::new(Verdict::Bad, what, detail)
            .remedy("switch them on in the webhook's settings in GitLab");
    }
    if matches!(sought, Sought::Commit(_)) && !found.branch_filter.is_empty() {
        let detail = format!(
            "it sends pushes of branches that fit `{}` alone",
            found.branch_filter
        );
        return Finding::new(Verdict::Unknown, what, detail);
    }
    Finding::new(
        Verdict::Good,
        what,
        format!("is there, enabled, and sends {event} events"),
    )
}

fn no_project(config: &GitlabConfig, project: &str) -> Finding {
    let detail = format!("shows no project `{project}` to Penstock's user");
    Finding::new(Verdict::Bad, format!("GitLab `{}`", config.name), detail)
        .remedy("look at the path, or give Penstock's user access")
}

fn of_gitlab(name: &str, sought: &Sought, found: Result<Whereabouts, ApiError>) -> Vec<Finding> {
    let what = format!("GitLab `{name}`");
    let found = match found {
        Ok(found) => found,
        Err(error) => return vec![Finding::new(Verdict::Unknown, what, error.to_string())],
    };
    let mut all = vec![of_sought(&what, sought, &found)];
    let skip = found
        .commit
        .as_ref()
        .and_then(|commit| SKIPS.iter().find(|word| commit.message.contains(**word)));
    if let Some(word) = skip {
        all.push(Finding::new(
            Verdict::Unknown,
            what.clone(),
            format!(
                "the commit's message holds `{word}`: plugins that follow the custom start nothing"
            ),
        ));
    }
    for push in found.bulk_pushes.iter().take(BULK_TOLD) {
        let detail = format!(
            "`{}` pushed {} refs at once at {}; GitLab sends no event for a push of more than {MOST_REFS_TOLD}",
            push.by,
            push.refs,
            text::time(push.at)
        );
        all.push(
            Finding::new(Verdict::Unknown, what.clone(), detail)
                .remedy("if it was this one: push the refs again, a few at a time"),
        );
    }
    all
}

fn of_sought(what: &str, sought: &Sought, found: &Whereabouts) -> Finding {
    match (sought, &found.commit) {
        (Sought::Commit(sha), None) => Finding::new(
            Verdict::Bad,
            what,
            format!("the project has no commit {sha}"),
        ),
        (Sought::Commit(_), Some(_)) if found.refs.is_empty() => Finding::new(
            Verdict::Bad,
            what,
            "no branch and no tag holds the commit: it was never pushed to one, or the branch has moved away from it",
        ),
        (Sought::Commit(_), Some(commit)) => Finding::new(
            Verdict::Good,
            what,
            format!("{} is on {}", commit.id, found.refs.join(", ")),
        ),
        (Sought::MergeRequest(iid), None) => Finding::new(
            Verdict::Bad,
            what,
            format!("the project has no merge request !{iid} that Penstock's user sees"),
        ),
        (Sought::MergeRequest(iid), Some(commit)) => {
            Finding::new(Verdict::Good, what, format!("!{iid} is at {}", commit.id))
        }
    }
}

#[cfg(test)]
mod tests {
    use penstock_model::id::Timestamp;

    use super::*;

    #[test]
    fn what_was_lost_of_the_project_is_told_of_first_and_all_is_counted() {
        let mut all: Vec<String> = (0..20).map(|count| format!("`acme/web` {count}")).collect();
        all.push("comment 7 of `acme/api!4` was edited".to_owned());
        let found = Unrecovered {
            all,
            at: Timestamp(0),
        };
        let told = of_unrecovered(&"main".into(), "acme/api", &found);
        assert_eq!(told.len(), LOST_TOLD + 1);
        assert!(told[0].detail.contains("comment 7"), "{told:?}");
        let last = &told[LOST_TOLD].detail;
        assert!(last.starts_with("11 other things"), "{last}");
        let few = Unrecovered {
            all: vec!["a".to_owned()],
            at: Timestamp(0),
        };
        assert_eq!(of_unrecovered(&"main".into(), "acme/api", &few).len(), 1);
    }
}
