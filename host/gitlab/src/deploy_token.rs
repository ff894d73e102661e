//! Deploy tokens of a project: the credentials with which runs clone.
//!
//! GitLab tells a token's value once, in the answer that made it; a token whose answer was lost is found again by its name alone, and can only be revoked.
//! There is no call that rotates one.

use penstock_model::id::{ProjectId, ProjectPath, Timestamp};
use penstock_model::secret::Secret;
use serde::Deserialize;
use serde_json::json;

use crate::call::Call;
use crate::client::Client;
use crate::error::ApiError;

/// Pages of a project's deploy tokens that are looked through.
const MOST_PAGES: usize = 20;

/// A deploy token that was just made.
#[derive(Debug)]
pub struct DeployToken {
    /// GitLab's id.
    pub id: u64,
    /// The user name that goes with it.
    pub username: String,
    /// Its value.
    pub value: Secret,
}

#[derive(Deserialize)]
struct Made {
    id: u64,
    username: String,
    token: String,
}

#[derive(Deserialize)]
struct Row {
    id: u64,
    name: String,
    #[serde(default)]
    revoked: bool,
}

impl Client {
    /// Makes a token that reads the project's repository and nothing else, and ends by itself.
    ///
    /// # Errors
    /// GitLab refuses or has no answer: then it is not known whether there is a token of this name.
    pub async fn make_deploy_token(
        &self,
        project: ProjectId,
        name: &str,
        expires_at: Timestamp,
    ) -> Result<DeployToken, ApiError> {
        let id = project.to_string();
        let path = ["projects", &id, "deploy_tokens"];
        let call = Call::new(http::Method::POST, "deploy-token.make", &path)
            .json(json!({
                "name": name,
                "expires_at": rfc3339(expires_at),
                "scopes": ["read_repository"],
            }))
            .of(project);
        let made: Made = self.now(&call).await?;
        Ok(DeployToken {
            id: made.id,
            username: made.username,
            value: Secret::new(made.token),
        })
    }

    /// Ids of the project's living tokens of this name.
    ///
    /// # Errors
    /// GitLab does not say.
    pub async fn deploy_tokens_named(
        &self,
        project: ProjectId,
        name: &str,
    ) -> Result<Vec<u64>, ApiError> {
        let id = project.to_string();
        let path = ["projects", &id, "deploy_tokens"];
        let call = Call::get("deploy-token.list", &path)
            .with("active", "true")
            .of(project);
        let rows = self.pages::<Row>(&call, MOST_PAGES).await?.rows;
        let ours = rows.into_iter().filter(|it| it.name == name && !it.revoked);
        Ok(ours.map(|it| it.id).collect())
    }

    /// Revokes a token; one that is gone already is revoked.
    ///
    /// # Errors
    /// GitLab refuses or has no answer.
    pub async fn revoke_deploy_token(
        &self,
        project: ProjectId,
        token: u64,
    ) -> Result<(), ApiError> {
        let (id, token) = (project.to_string(), token.to_string());
        let path = ["projects", &id, "deploy_tokens", &token];
        let call = Call::new(http::Method::DELETE, "deploy-token.revoke", &path).of(project);
        match self.send(&call).await {
            Ok(_) | Err(ApiError::NotFound(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// GitLab's id of a project, by its path.
    ///
    /// # Errors
    /// GitLab does not show one, or has no answer.
    pub async fn project_at(&self, path: &ProjectPath) -> Result<ProjectId, ApiError> {
        #[derive(Deserialize)]
        struct Found {
            id: u64,
        }
        let path = ["projects", path.as_str()];
        let found: Found = self.recent(&Call::get("project", &path)).await?;
        Ok(ProjectId(found.id))
    }
}

fn rfc3339(at: Timestamp) -> String {
    let millis = i64::try_from(at.0).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(millis).map_or_else(|_| String::new(), |at| at.to_string())
}
