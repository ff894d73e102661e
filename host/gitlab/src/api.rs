//! The few resources of GitLab's API that are read, each by one function.
//!
//! Rows hold only the fields that are used. What is `recent` may be up to a minute old; heads of refs and merge requests never are.

use penstock_model::event::MergeRequest;
use penstock_model::id::{CommitId, ProjectId, ProjectPath, UserId};
use penstock_model::scope::{Actor, Group, Project};
use serde::{Deserialize, Deserializer};

use crate::call::Call;
use crate::client::Client;
use crate::confirm::OwnUsers;
use crate::error::ApiError;

/// Pages of rules that are read: nobody has thousands.
const MOST_RULE_PAGES: usize = 10;

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
        Self { id: row.id, path: row.full_path, web_url: row.web_url }
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
struct MemberRow {
    access_level: u32,
    #[serde(default)]
    state: Option<String>,
    #[serde(default)]
    membership_state: Option<String>,
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
        let mut levels = self.push_access_levels.iter().chain(&self.merge_access_levels).chain(&self.create_access_levels);
        levels.any(|level| match (level.user_id, level.group_id) {
            (Some(id), _) => id == user.0,
            (None, Some(_)) => false,
            (None, None) => level.access_level.is_some_and(|wanted| wanted > 0 && access >= wanted),
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

    /// Head of the target branch that GitLab compares with.
    pub(crate) fn start(&self) -> Option<&str> {
        self.diff_refs.as_ref().and_then(|refs| refs.start_sha.as_deref())
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
pub(crate) fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
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

impl Client {
    pub(crate) async fn project(&self, id: ProjectId) -> Result<Project, ApiError> {
        let text = id.to_string();
        let row: ProjectRow = self.recent(&Call::get("project", &["projects", &text]).of(id)).await?;
        Ok(row.into())
    }

    /// A project that bears this very path now: GitLab also answers to paths that a project bore before.
    pub(crate) async fn project_by_path(&self, path: &str) -> Result<Project, ApiError> {
        let row: ProjectRow = self.recent(&Call::get("project", &["projects", path])).await?;
        if row.path_with_namespace.eq_ignore_ascii_case(path) {
            Ok(row.into())
        } else {
            Err(ApiError::NotFound("the project has moved".to_owned()))
        }
    }

    pub(crate) async fn group(&self, id_or_path: &str) -> Result<Group, ApiError> {
        let path = ["groups", id_or_path];
        let call = Call::get("group", &path).with("with_projects", "false");
        let row: GroupRow = self.recent(&call).await?;
        Ok(row.into())
    }

    /// Access level in the project, inherited ones too; 0: not a member, or one who may not act now.
    pub(crate) async fn access(&self, project: ProjectId, user: UserId) -> Result<u32, ApiError> {
        let (project_text, user) = (project.to_string(), user.to_string());
        let path = ["projects", &project_text, "members", "all", &user];
        level(self.recent(&Call::get("member", &path).of(project)).await)
    }

    /// The same in a group.
    pub(crate) async fn group_access(&self, group: u64, user: UserId) -> Result<u32, ApiError> {
        let (group, user) = (group.to_string(), user.to_string());
        let path = ["groups", &group, "members", "all", &user];
        level(self.recent(&Call::get("member", &path)).await)
    }

    pub(crate) async fn user(&self, id: UserId) -> Result<UserRow, ApiError> {
        self.recent(&Call::get("user", &["users", &id.to_string()])).await
    }

    /// A user with the access level in a project; the level is none where GitLab does not show members.
    pub(crate) async fn actor(&self, project: ProjectId, id: UserId, own: &OwnUsers) -> Result<Actor, ApiError> {
        let user = self.user(id).await?;
        let access = match self.access(project, id).await {
            Ok(access) => Some(access),
            Err(error) if error.is_denial() => None,
            Err(error) => return Err(error),
        };
        Ok(to_actor(&user, access, own))
    }

    pub(crate) async fn branch(&self, project: ProjectId, name: &str) -> Result<BranchRow, ApiError> {
        let id = project.to_string();
        let path = ["projects", &id, "repository", "branches", name];
        self.now(&Call::get("branch", &path).of(project)).await
    }

    pub(crate) async fn tag(&self, project: ProjectId, name: &str) -> Result<TagRow, ApiError> {
        let id = project.to_string();
        let path = ["projects", &id, "repository", "tags", name];
        self.now(&Call::get("tag", &path).of(project)).await
    }

    /// The commit that a branch, tag, full or short id leads to.
    pub(crate) async fn commit(&self, project: ProjectId, revision: &str) -> Result<CommitId, ApiError> {
        let id = project.to_string();
        let path = ["projects", &id, "repository", "commits", revision];
        let call = Call::get("commit", &path).with("stats", "false").of(project);
        let row: IdRow = self.now(&call).await?;
        Ok(row.id)
    }

    pub(crate) async fn merge_request(&self, project: ProjectId, iid: u64) -> Result<MergeRequestRow, ApiError> {
        let (id, iid) = (project.to_string(), iid.to_string());
        let path = ["projects", &id, "merge_requests", &iid];
        self.now(&Call::get("merge_request", &path).of(project)).await
    }

    /// `commit` is `head` or one of its ancestors.
    pub(crate) async fn is_ancestor(&self, project: ProjectId, commit: &str, head: &CommitId) -> Result<bool, ApiError> {
        if commit == head.as_str() {
            return Ok(true);
        }
        let id = project.to_string();
        let path = ["projects", &id, "repository", "merge_base"];
        let call = Call::get("merge_base", &path).with("refs[]", commit).with("refs[]", head.as_str()).of(project);
        match self.now::<IdRow>(&call).await {
            Ok(base) => Ok(base.id.as_str() == commit),
            // Unrelated, or one of them is unknown: GitLab says 404 or 400.
            Err(ApiError::NotFound(_) | ApiError::Refused { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Some branch or tag of the project holds the commit: one of a fork can be read here too, but no ref of ours leads to it.
    pub(crate) async fn is_on_some_ref(&self, project: ProjectId, commit: &CommitId) -> Result<bool, ApiError> {
        let id = project.to_string();
        let path = ["projects", &id, "repository", "commits", commit.as_str(), "refs"];
        let call = Call::get("commit.refs", &path).with("type", "all").with("per_page", "1").of(project);
        let rows: Vec<serde_json::Value> = self.now(&call).await?;
        Ok(!rows.is_empty())
    }

    /// Rules that protect branches; none: the token's user may not see them.
    pub(crate) async fn branch_rules(&self, project: ProjectId) -> Result<Option<Vec<RuleRow>>, ApiError> {
        self.rules(project, "protected_branches").await
    }

    /// Rules that protect tags; none: the token's user may not see them.
    pub(crate) async fn tag_rules(&self, project: ProjectId) -> Result<Option<Vec<RuleRow>>, ApiError> {
        self.rules(project, "protected_tags").await
    }

    async fn rules(&self, project: ProjectId, kind: &str) -> Result<Option<Vec<RuleRow>>, ApiError> {
        let id = project.to_string();
        let path = ["projects", &id, kind];
        match self.pages(&Call::get("protected_refs", &path).of(project), MOST_RULE_PAGES).await {
            Ok(found) => Ok(Some(found.rows)),
            Err(error) if error.is_denial() => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn level(found: Result<MemberRow, ApiError>) -> Result<u32, ApiError> {
    match found {
        Ok(member) => {
            let active = |state: &Option<String>| state.as_deref().is_none_or(|state| state == "active");
            let may_act = active(&member.state) && active(&member.membership_state);
            Ok(if may_act { member.access_level } else { 0 })
        }
        Err(ApiError::NotFound(_)) => Ok(0),
        Err(error) => Err(error),
    }
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
        let rest = name.strip_prefix(prefix).and_then(|rest| rest.split_once("_bot"));
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
        let nobody: RuleRow = serde_json::from_str(r#"{"name":"main","push_access_levels":[{"access_level":0}]}"#).unwrap();
        assert!(!nobody.lets(UserId(1), 50));
    }
}
