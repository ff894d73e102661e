//! Who may have something run.
//!
//! Developers of the project and above; where the operator wrote a policy, the members
//! of its groups instead; and in either case whom the file `OWNERS` of the default branch
//! names. A guest or a reporter may nothing of it.

use std::collections::BTreeSet;

use penstock_reading::yaml;
use penstock_sdk::Actor;
use serde_json::Value;

use crate::settings::Policy;
use crate::world::{Source, World};

/// GitLab's level from which on somebody may push.
const DEVELOPER: u32 = 30;

/// What somebody wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    /// Have pipelines run: by a merge request of the project, a label, a command.
    Run,
    /// Let a merge request of somebody else run.
    OkToTest,
}

/// Whether somebody may.
///
/// # Errors
/// Why not.
pub(crate) fn check(
    actor: Option<&Actor>,
    deed: Deed,
    policy: &Policy,
    world: &dyn World,
) -> Result<(), String> {
    let Some(actor) = actor else {
        return Err("nobody who is known asks for it".to_owned());
    };
    let groups = match deed {
        Deed::Run => policy.pull_request.as_ref(),
        Deed::OkToTest => policy.ok_to_test.as_ref(),
    };
    let by_access = match groups {
        Some(groups) => groups.iter().any(|group| {
            world
                .group_access(actor.id, group)
                .is_ok_and(|it| it >= DEVELOPER)
        }),
        None => actor.access.unwrap_or_default() >= DEVELOPER,
    };
    if by_access || is_owner(&actor.username, world) {
        return Ok(());
    }
    let name = &actor.username;
    Err(match groups {
        Some(groups) => format!(
            "`{name}` is no developer of {}, as the policy asks, and `OWNERS` does not name them",
            groups
                .iter()
                .map(|it| format!("`{it}`"))
                .collect::<Vec<_>>()
                .join(", ")
        ),
        None => format!("`{name}` is no developer of the project, and `OWNERS` does not name them"),
    })
}

fn is_owner(username: &str, world: &dyn World) -> bool {
    let paths = ["OWNERS".to_owned(), "OWNERS_ALIASES".to_owned()];
    // Always of the default branch: a change must not name its own judges.
    let Ok(files) = world.files(&Source::DefaultBranch, &paths) else {
        return false;
    };
    let mut texts = files.into_iter().map(|file| {
        let text = String::from_utf8(file.ok()?.content).ok()?;
        yaml::parse(&text).ok()
    });
    let (Some(Some(owners)), aliases) = (texts.next(), texts.next().flatten()) else {
        return false;
    };
    owners_of(&owners, &aliases.unwrap_or_default()).contains(&username.to_lowercase())
}

/// Approvers and reviewers of the whole repository, aliases resolved.
fn owners_of(owners: &Value, aliases: &Value) -> BTreeSet<String> {
    let whole = owners.pointer("/filters/.*");
    let mut names = BTreeSet::new();
    for list in [Some(owners), whole].into_iter().flatten() {
        for key in ["approvers", "reviewers"] {
            let entries = list.get(key).and_then(Value::as_array);
            for name in entries.into_iter().flatten().filter_map(Value::as_str) {
                let alias = aliases.get("aliases").and_then(|it| it.get(name));
                match alias.and_then(Value::as_array) {
                    Some(people) => names.extend(
                        people
                            .iter()
                            .filter_map(Value::as_str)
                            .map(str::to_lowercase),
                    ),
                    None => drop(names.insert(name.to_lowercase())),
                }
            }
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn owners_are_approvers_and_reviewers_with_their_aliases() {
        let owners = json!({ "approvers": ["Ada", "core"], "filters": { ".*": { "reviewers": ["bob"] }, "docs/.*": { "approvers": ["eve"] } } });
        let aliases = json!({ "aliases": { "core": ["Cleo", "dan"] } });
        let found: Vec<String> = owners_of(&owners, &aliases).into_iter().collect();
        assert_eq!(found, ["ada", "bob", "cleo", "dan"]);
    }
}
