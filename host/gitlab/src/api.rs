//! The few resources of GitLab's API that are read, each by one function.
//!
//! What is asked by `recent` may be up to a minute old; heads of refs and merge requests never are.

use penstock_model::id::{CommitId, ProjectId, UserId};
use penstock_model::scope::{Actor, Group, Project};
use serde::Deserialize;

use crate::call::Call;
use crate::client::Client;
use crate::confirm::OwnUsers;
use crate::error::ApiError;

mod rows;

use rows::MemberRow;
pub(crate) use rows::{
    BranchRow, GroupRow, IdRow, MergeRequestRow, ProjectRow, RuleRow, TagRow, TreeRow, UserRow,
    or_default, to_actor,
};

/// Pages of rules that are read: nobody has thousands.
const MOST_RULE_PAGES: usize = 10;

impl Client {
    pub(crate) async fn project(&self, id: ProjectId) -> Result<Project, ApiError> {
        let text = id.to_string();
        let row: ProjectRow = self
            .recent(&Call::get("project", &["projects", &text]).of(id))
            .await?;
        Ok(row.into())
    }

    /// GitLab's word for who can see the project; none: it does not say.
    pub(crate) async fn visibility(&self, id: ProjectId) -> Result<Option<String>, ApiError> {
        let text = id.to_string();
        let row: ProjectRow = self
            .recent(&Call::get("project", &["projects", &text]).of(id))
            .await?;
        Ok(row.visibility)
    }

    /// A project that bears this very path now: GitLab also answers to paths that a project bore before.
    pub(crate) async fn project_by_path(&self, path: &str) -> Result<Project, ApiError> {
        let row: ProjectRow = self
            .recent(&Call::get("project", &["projects", path]))
            .await?;
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
        self.recent(&Call::get("user", &["users", &id.to_string()]))
            .await
    }

    /// A user with the access level in a project; the level is none where GitLab does not show members.
    pub(crate) async fn actor(
        &self,
        project: ProjectId,
        id: UserId,
        own: &OwnUsers,
    ) -> Result<Actor, ApiError> {
        let user = self.user(id).await?;
        let access = match self.access(project, id).await {
            Ok(access) => Some(access),
            Err(error) if error.is_denial() => None,
            Err(error) => return Err(error),
        };
        Ok(to_actor(&user, access, own))
    }

    pub(crate) async fn branch(
        &self,
        project: ProjectId,
        name: &str,
    ) -> Result<BranchRow, ApiError> {
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
    pub(crate) async fn commit(
        &self,
        project: ProjectId,
        revision: &str,
    ) -> Result<CommitId, ApiError> {
        let id = project.to_string();
        let path = ["projects", &id, "repository", "commits", revision];
        let call = Call::get("commit", &path)
            .with("stats", "false")
            .of(project);
        let row: IdRow = self.now(&call).await?;
        Ok(row.id)
    }

    pub(crate) async fn merge_request(
        &self,
        project: ProjectId,
        iid: u64,
    ) -> Result<MergeRequestRow, ApiError> {
        let (id, iid) = (project.to_string(), iid.to_string());
        let path = ["projects", &id, "merge_requests", &iid];
        self.now(&Call::get("merge_request", &path).of(project))
            .await
    }

    /// `commit` is `head` or one of its ancestors.
    pub(crate) async fn is_ancestor(
        &self,
        project: ProjectId,
        commit: &str,
        head: &CommitId,
    ) -> Result<bool, ApiError> {
        if commit == head.as_str() {
            return Ok(true);
        }
        let id = project.to_string();
        let path = ["projects", &id, "repository", "merge_base"];
        let call = Call::get("merge_base", &path)
            .with("refs[]", commit)
            .with("refs[]", head.as_str())
            .of(project);
        match self.now::<IdRow>(&call).await {
            Ok(base) => Ok(base.id.as_str() == commit),
            // Unrelated, or one of them is unknown: GitLab says 404 or 400.
            Err(ApiError::NotFound(_) | ApiError::Refused { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Some branch or tag of the project holds the commit: one of a fork can be read here too, but no ref of ours leads to it.
    pub(crate) async fn is_on_some_ref(
        &self,
        project: ProjectId,
        commit: &CommitId,
    ) -> Result<bool, ApiError> {
        Ok(!self.refs_that_hold(project, commit, 1).await?.is_empty())
    }

    /// Short names of branches and tags that hold the commit: so many at most, which is no more than a hundred.
    pub(crate) async fn refs_that_hold(
        &self,
        project: ProjectId,
        commit: &CommitId,
        most: u8,
    ) -> Result<Vec<String>, ApiError> {
        #[derive(Deserialize)]
        struct Ref {
            name: String,
        }
        let (id, most) = (project.to_string(), most.to_string());
        let path = [
            "projects",
            &id,
            "repository",
            "commits",
            commit.as_str(),
            "refs",
        ];
        let call = Call::get("commit.refs", &path)
            .with("type", "all")
            .with("per_page", &most)
            .of(project);
        let refs: Vec<Ref> = self.now(&call).await?;
        Ok(refs.into_iter().map(|it| it.name).collect())
    }

    /// Rules that protect branches; none: the token's user may not see them.
    pub(crate) async fn branch_rules(
        &self,
        project: ProjectId,
    ) -> Result<Option<Vec<RuleRow>>, ApiError> {
        self.rules(project, "protected_branches").await
    }

    /// Rules that protect tags; none: the token's user may not see them.
    pub(crate) async fn tag_rules(
        &self,
        project: ProjectId,
    ) -> Result<Option<Vec<RuleRow>>, ApiError> {
        self.rules(project, "protected_tags").await
    }

    async fn rules(
        &self,
        project: ProjectId,
        kind: &str,
    ) -> Result<Option<Vec<RuleRow>>, ApiError> {
        let id = project.to_string();
        let path = ["projects", &id, kind];
        match self
            .pages(
                &Call::get("protected_refs", &path).of(project),
                MOST_RULE_PAGES,
            )
            .await
        {
            Ok(found) => Ok(Some(found.rows)),
            Err(error) if error.is_denial() => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn level(found: Result<MemberRow, ApiError>) -> Result<u32, ApiError> {
    match found {
        Ok(member) => {
            let active =
                |state: &Option<String>| state.as_deref().is_none_or(|state| state == "active");
            let may_act = active(&member.state) && active(&member.membership_state);
            Ok(if may_act { member.access_level } else { 0 })
        }
        Err(ApiError::NotFound(_)) => Ok(0),
        Err(error) => Err(error),
    }
}
