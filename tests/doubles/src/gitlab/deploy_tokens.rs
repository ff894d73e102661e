//! Deploy tokens of projects: made with a value that is told once, listed without it, deleted; never rotated.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    answer::{Answer, ApiError},
    call::Call,
    project::Access,
    world::World,
};

/// What GitLab lets a deploy token be for.
const SCOPES: [&str; 8] = [
    "read_repository",
    "read_registry",
    "write_registry",
    "read_package_registry",
    "write_package_registry",
    "read_virtual_registry",
    "write_virtual_registry",
    "read_dependency_proxy",
];

/// A deploy token. Deleted, its row stays and says `revoked`.
#[derive(Clone)]
pub(crate) struct DeployToken {
    pub(crate) id: u64,
    pub(crate) project: u64,
    name: String,
    username: String,
    secret: String,
    expires_at: Option<Timestamp>,
    scopes: Vec<String>,
    revoked: bool,
}

impl std::fmt::Debug for DeployToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeployToken")
            .field("id", &self.id)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl DeployToken {
    fn expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }

    fn show(&self, now: Timestamp) -> Value {
        json!({
            "id": self.id,
            "name": self.name,
            "username": self.username,
            "expires_at": self.expires_at.map(|at| at.to_string()),
            "scopes": self.scopes,
            "revoked": self.revoked,
            "expired": self.expired(now),
        })
    }
}

/// Answers `/projects/:id/deploy_tokens…`.
pub(crate) fn answer(
    world: &mut World,
    call: &Call,
    project: u64,
    level: u8,
    path: &[&str],
) -> Result<Answer, ApiError> {
    if level < Access::Maintainer as u8 {
        return Err(ApiError::forbidden());
    }
    let now = world.now();
    match (call.method.as_str(), path) {
        ("GET", []) => {
            let only_active = call.flag("active").unwrap_or(false);
            let rows = world.deploy_tokens.iter().filter(|token| {
                token.project == project && !(only_active && (token.revoked || token.expired(now)))
            });
            Ok(Answer::Rows(rows.map(|token| token.show(now)).collect()))
        }
        ("POST", []) => make(world, call, project),
        ("GET", [id]) => Ok(Answer::ok(find(world, project, id)?.show(now))),
        ("DELETE", [id]) => {
            find(world, project, id)?.revoked = true;
            Ok(Answer::Nothing)
        }
        _ => Err(ApiError::error(404, "404 Not Found")),
    }
}

fn find<'w>(world: &'w mut World, project: u64, id: &str) -> Result<&'w mut DeployToken, ApiError> {
    let found = world
        .deploy_tokens
        .iter_mut()
        .find(|token| token.project == project && token.id.to_string() == id && !token.revoked);
    found.ok_or_else(|| ApiError::not_found("Deploy Token"))
}

fn make(world: &mut World, call: &Call, project: u64) -> Result<Answer, ApiError> {
    let name = call.required("name")?;
    let scopes = call.list("scopes");
    if scopes.is_empty() {
        return Err(ApiError::parameter("scopes is missing".to_owned()));
    }
    if scopes.iter().any(|scope| !SCOPES.contains(&scope.as_str())) {
        return Err(ApiError::parameter(
            "scopes does not have a valid value".to_owned(),
        ));
    }
    let expires_at = match call.text("expires_at").filter(|text| !text.is_empty()) {
        None => None,
        Some(text) => Some(read_time(&text)?),
    };
    let id = world.next_id();
    let username = call
        .text("username")
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| format!("gitlab+deploy-token-{id}"));
    let token = DeployToken {
        id,
        project,
        name,
        username,
        secret: format!("gldt-{}", uuid::Uuid::new_v4().simple()),
        expires_at,
        scopes,
        revoked: false,
    };
    let mut shown = token.show(world.now());
    shown["token"] = json!(token.secret);
    world.deploy_tokens.push(token);
    Ok(Answer::One(201, shown))
}

/// A moment, or a day.
fn read_time(text: &str) -> Result<Timestamp, ApiError> {
    let moment = text.parse().ok();
    let day = || format!("{}T00:00:00Z", text.get(..10)?).parse().ok();
    moment
        .or_else(day)
        .ok_or_else(|| ApiError::parameter("expires_at is invalid".to_owned()))
}

impl World {
    /// Whether this user name and value read the repository of the project now, as a clone over HTTPS would find out.
    #[must_use]
    pub fn clones(&self, project: &str, username: &str, secret: &str) -> bool {
        let project = self.project_id(project);
        let now = self.now();
        self.deploy_tokens.iter().any(|token| {
            token.project == project
                && token.username == username
                && token.secret == secret
                && !token.revoked
                && !token.expired(now)
                && token.scopes.iter().any(|scope| scope == "read_repository")
        })
    }

    /// All deploy tokens that a project ever had, as the API shows them.
    #[must_use]
    pub fn deploy_tokens(&self, project: &str) -> Vec<Value> {
        let (project, now) = (self.project_id(project), self.now());
        let of = self
            .deploy_tokens
            .iter()
            .filter(|token| token.project == project);
        of.map(|token| token.show(now)).collect()
    }
}
