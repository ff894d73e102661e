//! One commit, with the users behind the addresses that it names.

use penstock_model::id::{CommitId, ProjectId, UserId};
use penstock_model::lookup::CommitInfo;
use penstock_model::scope::Author;
use serde::Deserialize;

use super::{Asked, Failure};
use crate::api::{UserRow, or_default};
use crate::call::Call;

#[derive(Deserialize)]
struct CommitRow {
    id: CommitId,
    #[serde(default, deserialize_with = "or_default")]
    message: String,
    #[serde(default, deserialize_with = "or_default")]
    author_name: String,
    #[serde(default, deserialize_with = "or_default")]
    author_email: String,
    #[serde(default, deserialize_with = "or_default")]
    committer_name: String,
    #[serde(default, deserialize_with = "or_default")]
    committer_email: String,
    #[serde(default, deserialize_with = "or_default")]
    web_url: String,
}

impl Asked<'_> {
    pub(super) async fn find_commit(self, id: &CommitId) -> Result<CommitInfo, Failure> {
        let project = self.project()?.id;
        let text = project.to_string();
        let path = ["projects", &text, "repository", "commits", id.as_str()];
        let call = Call::get("commit", &path)
            .with("stats", "false")
            .of(project);
        let row: CommitRow = self.client.now(&call).await?;
        let author = self
            .author(project, row.author_name, row.author_email)
            .await?;
        let committer = if author.email == row.committer_email && author.name == row.committer_name
        {
            author.clone()
        } else {
            self.author(project, row.committer_name, row.committer_email)
                .await?
        };
        Ok(CommitInfo {
            id: row.id,
            message: row.message,
            author,
            committer,
            web_url: row.web_url,
        })
    }

    /// An address is whatever the commit says. GitLab finds a user by a whole address even where it does not show it, so
    /// an answer counts if it is the only one and shows no other address.
    async fn author(
        self,
        project: ProjectId,
        name: String,
        email: String,
    ) -> Result<Author, Failure> {
        let mut user = None;
        if email.contains('@') {
            let path = ["users"];
            let rows: Vec<UserRow> = self
                .client
                .recent(&Call::get("users", &path).with("search", &email))
                .await?;
            let shown = |row: &UserRow| {
                let shown = [row.public_email.as_deref(), row.email.as_deref()];
                let mut shown = shown
                    .into_iter()
                    .flatten()
                    .filter(|shown| !shown.is_empty())
                    .peekable();
                shown.peek().is_none() || shown.any(|shown| shown.eq_ignore_ascii_case(&email))
            };
            if let [row] = rows.as_slice()
                && shown(row)
            {
                user = Some(
                    self.client
                        .actor(project, UserId(row.id), &self.context.own)
                        .await?,
                );
            }
        }
        Ok(Author { name, email, user })
    }
}
