//! What GitLab's API answers, as far as it is used: rows, and what is made of them.
//!
//! A field may be missing or null wherever some supported release leaves it out.

use penstock_model::event::MergeRequest;
use penstock_model::id::{CommitId, ProjectId, ProjectPath, UserId};
use penstock_model::scope::{Actor, Group, Project};
use serde::{Deserialize, Deserializer};

use crate::confirm::OwnUsers;

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct ProjectRow {
    pub(crate) id: u64,
    pub(crate) path_with_namespace: String,
    #[serde(default)]
    pub(crate) default_branch: Option<String>,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) web_url: String,
    #[serde(default)]
    pub(crate) visibility: Option<String>,
}

impl From<ProjectRow> for Project {
    fn from(row: ProjectRow) -> Self {
        Self {
            id: ProjectId(row.id),
            path: ProjectPath::from(row.path_with_namespace),
            default_branch: row.default_branch,
            web_url: row.web_url,
            visibility: row.visibility.unwrap_or_else(|| "private".to_owned()),
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct GroupRow {
    pub(crate) id: u64,
    pub(crate) full_path: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) web_url: String,
}

impl From<GroupRow> for Group {
    fn from(row: GroupRow) -> Self {
        Self {
            id: row.id,
            path: row.full_path,
            web_url: row.web_url,
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct UserRow {
    pub(crate) id: u64,
    pub(crate) username: String,
    #[serde(default)]
    pub(crate) bot: Option<bool>,
    #[serde(default)]
    pub(crate) public_email: Option<String>,
    #[serde(default)]
    pub(crate) email: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct MemberRow {
    pub(super) access_level: u32,
    #[serde(default)]
    pub(super) state: Option<String>,
    #[serde(default)]
    pub(super) membership_state: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct IdRow {
    pub(crate) id: CommitId,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct BranchRow {
    pub(crate) commit: IdRow,
    #[serde(default)]
    pub(crate) protected: Option<bool>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct TagRow {
    /// Id of the tag object of an annotated tag, else of the commit.
    pub(crate) target: String,
    pub(crate) commit: IdRow,
    #[serde(default)]
    pub(crate) protected: Option<bool>,
}

#[derive(Clone, Debug, Deserialize)]
struct LevelRow {
    #[serde(default)]
    access_level: Option<u32>,
    #[serde(default)]
    user_id: Option<u64>,
    #[serde(default)]
    group_id: Option<u64>,
}

/// A protected branch or tag, or a wildcard for several.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct RuleRow {
    name: String,
    #[serde(default, deserialize_with = "or_default")]
    push_access_levels: Vec<LevelRow>,
    #[serde(default, deserialize_with = "or_default")]
    merge_access_levels: Vec<LevelRow>,
    #[serde(default, deserialize_with = "or_default")]
    create_access_levels: Vec<LevelRow>,
}

impl RuleRow {
    pub(crate) fn covers(&self, name: &str) -> bool {
        wildcard(&self.name, name)
    }

    /// Lets somebody change what the ref's pipelines say. Rules for whole groups are not looked into and let nobody through.
    pub(crate) fn lets(&self, user: UserId, access: u32) -> bool {
        let mut levels = self
            .push_access_levels
            .iter()
            .chain(&self.merge_access_levels)
            .chain(&self.create_access_levels);
        levels.any(|level| match (level.user_id, level.group_id) {
            (Some(id), _) => id == user.0,
            (None, Some(_)) => false,
            (None, None) => level
                .access_level
                .is_some_and(|wanted| wanted > 0 && access >= wanted),
        })
    }
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct PipelineRow {
    pub(crate) id: u64,
    #[serde(default)]
    pub(crate) project_id: Option<u64>,
    pub(crate) sha: String,
    #[serde(rename = "ref")]
    pub(crate) git_ref: String,
}

#[derive(Clone, Debug, Deserialize)]
struct DiffRefs {
    #[serde(default)]
    start_sha: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct MergeRequestRow {
    pub(crate) iid: u64,
    #[serde(default, deserialize_with = "or_default")]
    title: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) state: String,
    #[serde(default, deserialize_with = "or_default")]
    draft: bool,
    #[serde(default)]
    pub(crate) source_project_id: Option<u64>,
    pub(crate) source_branch: String,
    pub(crate) target_branch: String,
    #[serde(default)]
    pub(crate) sha: Option<CommitId>,
    author: AuthorRow,
    /// When anything of it last changed.
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) updated_at: String,
    #[serde(default, deserialize_with = "or_default")]
    labels: Vec<String>,
    #[serde(default, deserialize_with = "or_default")]
    web_url: String,
    #[serde(default)]
    pub(crate) head_pipeline: Option<PipelineRow>,
    #[serde(default)]
    diff_refs: Option<DiffRefs>,
    /// Such as `12` or `1000+`.
    #[serde(default)]
    pub(crate) changes_count: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
struct AuthorRow {
    id: u64,
    #[serde(default, deserialize_with = "or_default")]
    username: String,
}

impl MergeRequestRow {
    /// None: it has no commit yet.
    pub(crate) fn to_model(&self) -> Option<MergeRequest> {
        Some(MergeRequest {
            iid: self.iid,
            title: self.title.clone(),
            state: self.state.clone(),
            draft: self.draft,
            source_project: self.source_project_id.map(ProjectId),
            source_branch: self.source_branch.clone(),
            target_branch: self.target_branch.clone(),
            head: self.sha.clone()?,
            author: self.author(),
            labels: self.labels.clone(),
            web_url: self.web_url.clone(),
        })
    }

    pub(crate) fn author(&self) -> UserId {
        UserId(self.author.id)
    }

    /// GitLab's name of who opened it.
    pub(crate) fn author_name(&self) -> &str {
        &self.author.username
    }

    /// Head of the target branch that GitLab compares with.
    pub(crate) fn start(&self) -> Option<&str> {
        self.diff_refs
            .as_ref()
            .and_then(|refs| refs.start_sha.as_deref())
    }
}

/// A row of a tree.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct TreeRow {
    pub(crate) id: String,
    pub(crate) path: String,
    /// `blob`, `tree` or `commit` (a submodule).
    #[serde(rename = "type")]
    pub(crate) kind: String,
}

/// A missing or null value is the type's default.
pub(crate) fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// GitLab's `*` stands for any characters, slashes too.
pub(crate) fn wildcard(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else {
        return false;
    };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    true
}

pub(crate) fn to_actor(user: &UserRow, access: Option<u32>, own: &OwnUsers) -> Actor {
    let id = UserId(user.id);
    Actor {
        id,
        bot: user.bot.unwrap_or(false) || is_bot_name(&user.username),
        host: own.contains(&id),
        username: user.username.clone(),
        access,
    }
}

/// Names that GitLab gives to users of project and group tokens and of service accounts. Only administrators are shown the flag.
fn is_bot_name(name: &str) -> bool {
    let token_bot = |prefix: &str| {
        let rest = name
            .strip_prefix(prefix)
            .and_then(|rest| rest.split_once("_bot"));
        rest.is_some_and(|(id, _)| !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit()))
    };
    token_bot("project_") || token_bot("group_") || name.starts_with("service_account_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_of_protected_refs_cross_slashes() {
        for (pattern, name, fits) in [
            ("main", "main", true),
            ("main", "mainly", false),
            ("release/*", "release/1/2", true),
            ("release/*", "prerelease/1", false),
            ("*-stable", "10-stable", true),
            ("*-stable", "10-stable-x", false),
            ("v*.*-rc*", "v1.2-rc3", true),
            ("v*.*-rc*", "v12-rc3", false),
            ("*", "anything/at/all", true),
            ("a*a", "a", false),
        ] {
            assert_eq!(wildcard(pattern, name), fits, "{pattern} {name}");
        }
    }

    #[test]
    fn bots_are_known_by_name_where_gitlab_does_not_say() {
        for (name, bot) in [
            ("project_17_bot", true),
            ("project_17_bot_4ffca233d8298ea1", true),
            ("group_3_bot1", true),
            ("service_account_5", true),
            ("project_x_bot", false),
            ("robot", false),
            ("alice", false),
        ] {
            assert_eq!(is_bot_name(name), bot, "{name}");
        }
    }

    #[test]
    fn a_rule_lets_by_level_or_by_user_and_nobody_is_nobody() {
        let rule: RuleRow = serde_json::from_str(
            r#"{"name":"main","push_access_levels":[{"access_level":0}],
                "merge_access_levels":[{"access_level":40},{"access_level":null,"user_id":7},{"access_level":30,"group_id":3}]}"#,
        )
        .unwrap();
        assert!(rule.lets(UserId(1), 40));
        assert!(!rule.lets(UserId(1), 30));
        assert!(rule.lets(UserId(7), 30));
        let nobody: RuleRow =
            serde_json::from_str(r#"{"name":"main","push_access_levels":[{"access_level":0}]}"#)
                .unwrap();
        assert!(!nobody.lets(UserId(1), 50));
    }
}
