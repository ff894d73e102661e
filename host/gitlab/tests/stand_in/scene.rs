//! One GitLab with a group, a project, a fork, people of every level and a bot of ours.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use penstock_doubles::gitlab::{
    Access, Change, GitLab, Hook, ProjectSeed, Protected, Push, Token, Visibility, World,
};
use penstock_gitlab::{
    Accepted, CallReport, Client, ClientSettings, ConfirmError, Confirmed, HookScope, Keys,
    Observer, OwnUsers, Parsed, Redaction, confirm, parse, verify,
};
use penstock_model::admit::ProjectOf;
use penstock_model::id::{CommitId, ProjectId, Timestamp, UserId};
use penstock_model::secret::Secret;

pub(crate) const API: &str = "acme/api";
pub(crate) const FORK: &str = "mallory/api";
pub(crate) const KEY: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

/// Remembers what was called.
#[derive(Default)]
pub(crate) struct Calls(pub(crate) Mutex<Vec<CallReport>>);

impl Observer for Calls {
    fn called(&self, report: &CallReport) {
        self.0.lock().unwrap().push(report.clone());
    }
}

pub(crate) struct Scene {
    pub(crate) gitlab: GitLab,
    pub(crate) hook: u64,
    pub(crate) client: Client,
    pub(crate) calls: Arc<Calls>,
    pub(crate) own: OwnUsers,
}

impl Scene {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(seed: impl FnOnce(&mut World)) -> Self {
        let mut world = World::new();
        for name in ["alice", "maya", "rita", "mallory", "stranger"] {
            world.user(name);
        }
        world
            .bot("project_1_bot_penstock")
            .group("acme")
            .group("acme/sub");
        world.project(
            ProjectSeed::new(API)
                .visibility(Visibility::Public)
                .file(".tekton/push.yaml", "push: 1\n")
                .file(".tekton/deep/more.yaml", "more: 1\n")
                .file("src/main.rs", "fn main() {}\n"),
        );
        world
            .member("acme", "alice", Access::Developer)
            .member("acme", "maya", Access::Maintainer)
            .member("acme", "rita", Access::Reporter)
            .member("acme", "project_1_bot_penstock", Access::Owner);
        world.protect_tags(API, Protected::new("v*"));
        world.fork(API, FORK, "mallory");
        world.token(Token::new("glpat-ours", "project_1_bot_penstock"));
        let hook = world.hook(Hook::group("acme", "http://127.0.0.1:9/hooks").signing_token(KEY));
        seed(&mut world);
        let own = OwnUsers::from([UserId(world.user_id("project_1_bot_penstock"))]);
        let gitlab = GitLab::start(world).await;
        let calls = Arc::new(Calls::default());
        let client = Client::new(
            settings(&gitlab, "glpat-ours"),
            Arc::clone(&calls) as Arc<dyn Observer>,
        )
        .unwrap();
        Self {
            gitlab,
            hook,
            client,
            calls,
            own,
        }
    }

    /// A client with another token.
    pub(crate) fn client_of(&self, token: &str) -> Client {
        Client::new(settings(&self.gitlab, token), Arc::new(())).unwrap()
    }

    pub(crate) fn project(&self, path: &str) -> ProjectId {
        ProjectId(self.gitlab.edit(|world| world.project_id(path)))
    }

    pub(crate) fn user(&self, name: &str) -> UserId {
        UserId(self.gitlab.edit(|world| world.user_id(name)))
    }

    pub(crate) fn of(&self) -> ProjectOf {
        ProjectOf {
            instance: "main".into(),
            project: self.project(API),
            path: API.into(),
            tenant: "acme/**".into(),
        }
    }

    pub(crate) fn accepted(&self, change: &Change) -> Accepted {
        let delivery = change.delivery(self.hook);
        let keys = Keys::new(vec![], vec![Secret::new(KEY)]).unwrap();
        let body = verify(&keys, &delivery.headers, delivery.body, Timestamp::now()).unwrap();
        body.within(
            &scope(),
            &"main".into(),
            &"acme".into(),
            &Redaction::default(),
        )
        .unwrap()
    }

    pub(crate) fn parsed(&self, change: &Change) -> Parsed {
        parse(&self.accepted(change)).unwrap()
    }

    pub(crate) async fn try_confirm(&self, parsed: &Parsed) -> Result<Confirmed, ConfirmError> {
        confirm(&self.client, parsed, &scope(), &self.own).await
    }

    pub(crate) async fn confirm(&self, change: &Change) -> Confirmed {
        self.try_confirm(&self.parsed(change)).await.unwrap()
    }

    /// Pushes one file to a branch.
    pub(crate) fn push(&self, project: &str, branch: &str, by: &str) -> Change {
        self.gitlab.push(
            Push::new(project, branch, by).write(&format!("{branch}.txt"), format!("by {by}\n")),
        )
    }
}

/// With time for the answers that take the stand-in seconds on a busy machine: megabytes, and pages out of thousands of projects.
fn settings(gitlab: &GitLab, token: &str) -> ClientSettings {
    let mut settings = ClientSettings::new(gitlab.url(), Secret::new(token));
    settings.timeout = Duration::from_secs(180);
    settings
}

pub(crate) fn scope() -> HookScope {
    HookScope::Group("acme".to_owned())
}

pub(crate) fn commit(text: &str) -> CommitId {
    CommitId::parse(text).unwrap()
}
