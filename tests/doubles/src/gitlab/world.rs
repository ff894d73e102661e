//! Everything the instance holds, and the calls that seed it.

use std::{collections::BTreeMap, time::Duration};

use jiff::{SignedDuration, Timestamp};

use super::{
    deploy_tokens::DeployToken,
    hooks::{Hook, Logged, Trigger},
    project::{Access, Project, ProjectSeed, Protected, Visibility},
    repository::Objects,
    tokens::Token,
};

/// A person or a bot.
#[derive(Clone, Debug)]
pub(crate) struct User {
    pub(crate) id: u64,
    pub(crate) username: String,
    pub(crate) name: String,
    pub(crate) state: &'static str,
    pub(crate) bot: bool,
    pub(crate) admin: bool,
}

/// A group; a subgroup's path begins with its parent's.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) id: u64,
    pub(crate) path: String,
    pub(crate) members: BTreeMap<u64, Access>,
}

/// Limits that the instance keeps.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Calls a minute for each user; `None` is no limit. GitLab.com has 2,000.
    pub calls_a_minute: Option<usize>,
    /// Notes that a user may create in a minute.
    pub notes_a_minute: usize,
    /// Resends and tests of hooks a minute for each user and each project or group.
    pub resends_a_minute: usize,
    /// How long a status call waits for another one on the same project and commit before it answers 409.
    pub status_lock_wait: Duration,
    /// How long a status call holds that lock.
    pub status_takes: Duration,
    /// How long the sender of webhooks waits for an answer.
    pub hook_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            calls_a_minute: None,
            notes_a_minute: 60,
            resends_a_minute: 5,
            status_lock_wait: Duration::from_secs(10),
            status_takes: Duration::ZERO,
            hook_timeout: Duration::from_secs(10),
        }
    }
}

/// The state of the instance.
///
/// People, groups and projects are named by username and full path here; their numeric ids are given out in order.
/// Every call panics on a name that is not there: a test's seed is wrong then.
#[derive(Debug)]
pub struct World {
    pub(crate) version: String,
    pub(crate) base: String,
    pub(crate) ahead: SignedDuration,
    pub(crate) users: BTreeMap<u64, User>,
    pub(crate) groups: BTreeMap<u64, Group>,
    pub(crate) projects: BTreeMap<u64, Project>,
    pub(crate) tokens: Vec<Token>,
    pub(crate) hooks: BTreeMap<u64, Hook>,
    pub(crate) deploy_tokens: Vec<DeployToken>,
    pub(crate) objects: Objects,
    /// What the instance refuses for being too often.
    pub limits: Limits,
    pub(crate) recent: BTreeMap<(String, u64, u64), Vec<Timestamp>>,
    last_id: u64,
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

impl World {
    /// An empty instance of version 19.1.0 with the administrator `root`.
    #[must_use]
    pub fn new() -> Self {
        let mut world = Self {
            version: "19.1.0-ee".to_owned(),
            base: "http://127.0.0.1".to_owned(),
            ahead: SignedDuration::ZERO,
            users: BTreeMap::new(),
            groups: BTreeMap::new(),
            projects: BTreeMap::new(),
            tokens: Vec::new(),
            hooks: BTreeMap::new(),
            deploy_tokens: Vec::new(),
            objects: Objects::default(),
            limits: Limits::default(),
            recent: BTreeMap::new(),
            last_id: 0,
        };
        world.add_user("root", false, true);
        world
    }

    /// Sets the version, like `17.3.2` or `19.1.0-ee`: it decides the webhooks' headers.
    pub fn version(&mut self, version: &str) -> &mut Self {
        version.clone_into(&mut self.version);
        self
    }

    /// Adds a person.
    pub fn user(&mut self, username: &str) -> &mut Self {
        self.add_user(username, false, false);
        self
    }

    /// Adds a bot, as project and group access tokens have.
    pub fn bot(&mut self, username: &str) -> &mut Self {
        self.add_user(username, true, false);
        self
    }

    /// Blocks a person: the account stays, its tokens and rights end.
    pub fn block(&mut self, username: &str) -> &mut Self {
        let id = self.user_id(username);
        self.users.get_mut(&id).expect("a user").state = "blocked";
        self
    }

    /// Adds a group; a parent like `acme` in `acme/web` must be there already.
    pub fn group(&mut self, path: &str) -> &mut Self {
        if let Some((parent, _)) = path.rsplit_once('/') {
            let _ = self.group_id(parent);
        }
        let id = self.next_id();
        self.groups.insert(
            id,
            Group {
                id,
                path: path.to_owned(),
                members: BTreeMap::new(),
            },
        );
        self
    }

    /// Makes a user a member of a group or project, or changes the level.
    pub fn member(&mut self, path: &str, username: &str, access: Access) -> &mut Self {
        let user = self.user_id(username);
        if let Some(group) = self.groups.values_mut().find(|group| group.path == path) {
            group.members.insert(user, access);
        } else {
            self.project_mut(path).members.insert(user, access);
        }
        self
    }

    /// Takes a user out of a group or project.
    pub fn remove_member(&mut self, path: &str, username: &str) -> &mut Self {
        let user = self.user_id(username);
        if let Some(group) = self.groups.values_mut().find(|group| group.path == path) {
            group.members.remove(&user);
        } else {
            self.project_mut(path).members.remove(&user);
        }
        self
    }

    /// Adds a project.
    pub fn project(&mut self, seed: ProjectSeed) -> &mut Self {
        let id = self.next_id();
        let project = Project::plant(self, id, seed);
        self.projects.insert(id, project);
        self
    }

    /// Renames a project or transfers it to another group: its id stays.
    ///
    /// # Panics
    /// If there is no such project.
    pub fn move_project(&mut self, path: &str, to: &str) -> &mut Self {
        to.clone_into(&mut self.project_mut(path).path);
        self
    }

    /// Lets other people see a project.
    ///
    /// # Panics
    /// If there is no such project.
    pub fn visibility(&mut self, path: &str, visibility: Visibility) -> &mut Self {
        self.project_mut(path).visibility = visibility;
        self
    }

    /// Forks a project into another namespace, with all its branches and tags; `owner` becomes its maintainer.
    pub fn fork(&mut self, source: &str, path: &str, owner: &str) -> &mut Self {
        let owner = self.user_id(owner);
        let id = self.next_id();
        let mut fork = self.project_named(source).fork(id, path);
        fork.members.insert(owner, Access::Maintainer);
        self.projects.insert(id, fork);
        self
    }

    /// Protects a branch, or branches by a wildcard; a rule of the same name is replaced.
    pub fn protect(&mut self, project: &str, mut rule: Protected) -> &mut Self {
        rule.id = self.next_id();
        let rules = &mut self.project_mut(project).protected_branches;
        rules.retain(|old| old.name != rule.name);
        rules.push(rule);
        self
    }

    /// Ends a branch's protection.
    pub fn unprotect(&mut self, project: &str, name: &str) -> &mut Self {
        self.project_mut(project)
            .protected_branches
            .retain(|rule| rule.name != name);
        self
    }

    /// Protects tags; `push` of the rule says who may create them.
    pub fn protect_tags(&mut self, project: &str, rule: Protected) -> &mut Self {
        self.project_mut(project).protected_tags.push(rule);
        self
    }

    /// Adds an access token.
    pub fn token(&mut self, mut token: Token) -> &mut Self {
        let _ = self.user_id(&token.user);
        token.id = self.next_id();
        token.created_at = self.now();
        self.tokens.push(token);
        self
    }

    /// Revokes a token.
    pub fn revoke(&mut self, secret: &str) -> &mut Self {
        for token in self
            .tokens
            .iter_mut()
            .filter(|token| token.secret == secret)
        {
            token.revoked = true;
        }
        self
    }

    /// Registers a webhook and gives its id.
    pub fn hook(&mut self, hook: Hook) -> u64 {
        let id = self.next_id();
        let hook = hook.registered(id, self);
        self.hooks.insert(id, hook);
        id
    }

    /// Takes a webhook away.
    pub fn remove_hook(&mut self, hook: u64) -> &mut Self {
        self.hooks.remove(&hook);
        self
    }

    /// Writes a failed call into a hook's log that GitLab never made.
    ///
    /// # Panics
    /// If there is no such hook.
    pub fn log_failure(&mut self, hook: u64, trigger: Trigger, body: &[u8]) -> u64 {
        let (id, at) = (self.next_id(), self.now());
        let hook = self.hooks.get_mut(&hook).expect("a hook");
        hook.log
            .push(Logged::failure(id, hook.url.clone(), trigger, body, at));
        id
    }

    /// Takes the `Idempotency-Key` out of a hook's log, as that of an old GitLab has none: its calls can only be sent again.
    ///
    /// # Panics
    /// There is no such hook.
    pub fn forget_keys(&mut self, hook: u64) {
        let hook = self.hooks.get_mut(&hook).expect("a hook");
        for row in &mut hook.log {
            row.headers
                .retain(|(name, _)| !name.eq_ignore_ascii_case("Idempotency-Key"));
        }
    }

    /// The numeric id of a project.
    #[must_use]
    pub fn project_id(&self, path: &str) -> u64 {
        self.project_named(path).id
    }

    /// The numeric id of a group.
    #[must_use]
    pub fn group_id(&self, path: &str) -> u64 {
        let found = self.groups.values().find(|group| group.path == path);
        found
            .unwrap_or_else(|| panic!("there is no group `{path}`"))
            .id
    }

    /// The numeric id of a user.
    #[must_use]
    pub fn user_id(&self, username: &str) -> u64 {
        self.user_named(username)
            .unwrap_or_else(|| panic!("there is no user `{username}`"))
            .id
    }

    /// The stand-in's clock: the real one, put forward by `GitLab::advance`.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        Timestamp::now() + self.ahead
    }

    /// The commit that a branch, tag or id leads to.
    #[must_use]
    pub fn commit_id(&self, project: &str, name: &str) -> Option<String> {
        let project = self.project_named(project);
        project.refs.resolve(name, &project.default_branch)
    }

    pub(crate) fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    fn add_user(&mut self, username: &str, bot: bool, admin: bool) {
        let id = self.next_id();
        let mut name = username.replace(['_', '-', '.'], " ");
        if let Some(first) = name.get_mut(0..1) {
            first.make_ascii_uppercase();
        }
        self.users.insert(
            id,
            User {
                id,
                username: username.to_owned(),
                name,
                state: "active",
                bot,
                admin,
            },
        );
    }

    pub(crate) fn user_named(&self, username: &str) -> Option<&User> {
        self.users.values().find(|user| user.username == username)
    }

    pub(crate) fn project_named(&self, path: &str) -> &Project {
        let found = self.projects.values().find(|project| project.path == path);
        found.unwrap_or_else(|| panic!("there is no project `{path}`"))
    }

    pub(crate) fn project_mut(&mut self, path: &str) -> &mut Project {
        let found = self
            .projects
            .values_mut()
            .find(|project| project.path == path);
        found.unwrap_or_else(|| panic!("there is no project `{path}`"))
    }

    /// Groups that hold `path`, the nearest first.
    pub(crate) fn ancestors(&self, path: &str) -> Vec<&Group> {
        let mut found: Vec<&Group> = self
            .groups
            .values()
            .filter(|group| {
                path.strip_prefix(&group.path)
                    .is_some_and(|rest| rest.starts_with('/'))
            })
            .collect();
        found.sort_by_key(|group| std::cmp::Reverse(group.path.len()));
        found
    }

    /// A user's level in a group with what comes from above it.
    pub(crate) fn level_in_group(&self, user: u64, group: &Group) -> u8 {
        if self.users.get(&user).is_some_and(|user| user.admin) {
            return Access::Owner as u8;
        }
        let own = group.members.get(&user).map_or(0, |access| *access as u8);
        let above = self
            .ancestors(&group.path)
            .into_iter()
            .filter_map(|group| group.members.get(&user));
        above
            .map(|access| *access as u8)
            .max()
            .unwrap_or(0)
            .max(own)
    }

    /// Counts one use of a limited endpoint; false if that is one too many within a minute.
    pub(crate) fn within(&mut self, what: &str, user: u64, scope: u64, limit: usize) -> bool {
        let now = self.now();
        let uses = self
            .recent
            .entry((what.to_owned(), user, scope))
            .or_default();
        uses.retain(|at| now.duration_since(*at) < SignedDuration::from_secs(60));
        if uses.len() >= limit {
            return false;
        }
        uses.push(now);
        true
    }
}
