//! One project: who may do what in it, its refs, its merge requests, pipelines and statuses.

use std::collections::BTreeMap;

use bytes::Bytes;
use jiff::Timestamp;

use super::{
    activity::Pushed,
    merge_requests::MergeRequest,
    notes::Note,
    repository::{Commit, Refs, Tree},
    statuses::{Pipeline, Status},
    world::World,
};

/// A member's level, with GitLab's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// 10.
    Guest = 10,
    /// 15.
    Planner = 15,
    /// 20.
    Reporter = 20,
    /// 30.
    Developer = 30,
    /// 40.
    Maintainer = 40,
    /// 50.
    Owner = 50,
}

/// Who may see a project.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Visibility {
    /// Members alone.
    #[default]
    Private,
    /// Whoever has an account.
    Internal,
    /// Everyone; the stand-in still asks for a token.
    Public,
}

impl Visibility {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Private => "private",
            Self::Internal => "internal",
            Self::Public => "public",
        }
    }

    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Private => 0,
            Self::Internal => 10,
            Self::Public => 20,
        }
    }
}

/// Who a protection rule lets through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// Nobody (GitLab's level 0).
    Nobody,
    /// Everyone from this level up.
    From(Access),
    /// One user, by name.
    User(String),
}

/// A protected branch, or tag, or a wildcard for several.
#[derive(Clone, Debug)]
pub struct Protected {
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) push: Vec<Allowed>,
    pub(crate) merge: Vec<Allowed>,
    pub(crate) force_push: bool,
}

impl Protected {
    /// A rule where maintainers may push and merge.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let maintainers = vec![Allowed::From(Access::Maintainer)];
        Self {
            id: 0,
            name: name.to_owned(),
            push: maintainers.clone(),
            merge: maintainers,
            force_push: false,
        }
    }

    /// Replaces who may push (for tags: create).
    #[must_use]
    pub fn push(mut self, allowed: &[Allowed]) -> Self {
        self.push = allowed.to_vec();
        self
    }

    /// Replaces who may merge.
    #[must_use]
    pub fn merge(mut self, allowed: &[Allowed]) -> Self {
        self.merge = allowed.to_vec();
        self
    }
}

/// A project to seed: its default branch gets one commit with the given files.
#[derive(Clone, Debug)]
pub struct ProjectSeed {
    path: String,
    default_branch: String,
    visibility: Visibility,
    files: BTreeMap<String, Bytes>,
    protected: Vec<Protected>,
}

impl ProjectSeed {
    /// A private project at this full path, whose default branch `main` is protected and holds a README.
    #[must_use]
    pub fn new(path: &str) -> Self {
        let readme = Bytes::from(format!("# {path}\n"));
        Self {
            path: path.to_owned(),
            default_branch: "main".to_owned(),
            visibility: Visibility::Private,
            files: BTreeMap::from([("README.md".to_owned(), readme)]),
            protected: vec![Protected::new("main")],
        }
    }

    /// Sets who may see it.
    #[must_use]
    pub fn visibility(mut self, visibility: Visibility) -> Self {
        self.visibility = visibility;
        self
    }

    /// Adds a file.
    #[must_use]
    pub fn file(mut self, path: &str, content: impl Into<Bytes>) -> Self {
        self.files.insert(path.to_owned(), content.into());
        self
    }

    /// Renames the default branch and the rule that protects it.
    #[must_use]
    pub fn default_branch(mut self, name: &str) -> Self {
        for rule in self
            .protected
            .iter_mut()
            .filter(|rule| rule.name == self.default_branch)
        {
            name.clone_into(&mut rule.name);
        }
        name.clone_into(&mut self.default_branch);
        self
    }

    /// Leaves the default branch unprotected.
    #[must_use]
    pub fn unprotected(mut self) -> Self {
        self.protected.clear();
        self
    }
}

/// A project as the instance holds it.
#[derive(Debug)]
pub(crate) struct Project {
    pub(crate) id: u64,
    pub(crate) path: String,
    pub(crate) created_at: Timestamp,
    pub(crate) default_branch: String,
    pub(crate) visibility: Visibility,
    pub(crate) forked_from: Option<u64>,
    pub(crate) members: BTreeMap<u64, Access>,
    pub(crate) refs: Refs,
    pub(crate) protected_branches: Vec<Protected>,
    pub(crate) protected_tags: Vec<Protected>,
    pub(crate) merge_requests: BTreeMap<u64, MergeRequest>,
    pub(crate) pipelines: Vec<Pipeline>,
    pub(crate) statuses: Vec<Status>,
    pub(crate) commit_notes: Vec<(String, Note)>,
    pub(crate) activity: Vec<Pushed>,
}

impl Project {
    pub(crate) fn plant(world: &mut World, id: u64, seed: ProjectSeed) -> Self {
        let mut tree = Tree::new();
        for (path, content) in seed.files {
            tree.insert(path, world.objects.put_blob(content));
        }
        let at = world.now();
        let commit = world.objects.put_commit(Commit {
            id: String::new(),
            parents: Vec::new(),
            tree,
            message: format!("Begin {}", seed.path),
            author_name: "Administrator".to_owned(),
            author_email: "root@example.com".to_owned(),
            at,
        });
        let mut refs = Refs::default();
        refs.branches
            .insert(seed.default_branch.clone(), commit.clone());
        refs.known.insert(commit);
        let mut protected_branches = seed.protected;
        for rule in &mut protected_branches {
            rule.id = world.next_id();
        }
        Self {
            id,
            path: seed.path,
            created_at: at,
            default_branch: seed.default_branch,
            visibility: seed.visibility,
            forked_from: None,
            members: BTreeMap::new(),
            refs,
            protected_branches,
            protected_tags: Vec::new(),
            merge_requests: BTreeMap::new(),
            pipelines: Vec::new(),
            statuses: Vec::new(),
            commit_notes: Vec::new(),
            activity: Vec::new(),
        }
    }

    pub(crate) fn fork(&self, id: u64, path: &str) -> Self {
        let mut refs = self.refs.clone();
        refs.hidden.clear();
        Self {
            id,
            path: path.to_owned(),
            created_at: self.created_at,
            default_branch: self.default_branch.clone(),
            visibility: self.visibility,
            forked_from: Some(self.id),
            members: BTreeMap::new(),
            refs,
            protected_branches: vec![Protected::new(&self.default_branch)],
            protected_tags: Vec::new(),
            merge_requests: BTreeMap::new(),
            pipelines: Vec::new(),
            statuses: Vec::new(),
            commit_notes: Vec::new(),
            activity: Vec::new(),
        }
    }

    /// A user's level here: the highest of the project's own and those of all groups above.
    pub(crate) fn level(&self, world: &World, user: u64) -> u8 {
        if world.users.get(&user).is_some_and(|user| user.admin) {
            return Access::Owner as u8;
        }
        let own = self.members.get(&user).map_or(0, |access| *access as u8);
        let above = world
            .ancestors(&self.path)
            .into_iter()
            .filter_map(|group| group.members.get(&user));
        above
            .map(|access| *access as u8)
            .max()
            .unwrap_or(0)
            .max(own)
    }

    pub(crate) fn branch_rules(&self, branch: &str) -> Vec<&Protected> {
        self.protected_branches
            .iter()
            .filter(|rule| wildcard(&rule.name, branch))
            .collect()
    }

    pub(crate) fn tag_rules(&self, tag: &str) -> Vec<&Protected> {
        self.protected_tags
            .iter()
            .filter(|rule| wildcard(&rule.name, tag))
            .collect()
    }

    /// Whether a ref, full or short, is protected.
    pub(crate) fn is_protected(&self, name: &str) -> bool {
        if let Some(tag) = name.strip_prefix("refs/tags/") {
            return !self.tag_rules(tag).is_empty();
        }
        let short = name.strip_prefix("refs/heads/").unwrap_or(name);
        if self.refs.branches.contains_key(short) || !self.refs.tags.contains_key(short) {
            return !self.branch_rules(short).is_empty();
        }
        !self.tag_rules(short).is_empty()
    }

    /// Whether a user may change what a ref's pipelines say: push or merge rights.
    pub(crate) fn may_update(&self, world: &World, user: u64, name: &str) -> bool {
        let level = self.level(world, user);
        let short = name.strip_prefix("refs/heads/").unwrap_or(name);
        let tag = name.strip_prefix("refs/tags/").or_else(|| {
            (self.refs.tags.contains_key(short) && !self.refs.branches.contains_key(short))
                .then_some(short)
        });
        let rules = tag.map_or_else(|| self.branch_rules(short), |tag| self.tag_rules(tag));
        if rules.is_empty() {
            return level >= Access::Developer as u8;
        }
        let mut allowed = rules
            .iter()
            .flat_map(|rule| rule.push.iter().chain(&rule.merge));
        allowed.any(|allowed| match allowed {
            Allowed::Nobody => false,
            Allowed::From(access) => level >= *access as u8,
            Allowed::User(name) => {
                world.user_named(name).is_some_and(|found| found.id == user) && level >= 30
            }
        })
    }

    /// Whether a user may push to a branch.
    pub(crate) fn may_push(&self, world: &World, user: u64, branch: &str) -> bool {
        let level = self.level(world, user);
        let rules = self.branch_rules(branch);
        if rules.is_empty() {
            return level >= Access::Developer as u8;
        }
        rules
            .iter()
            .flat_map(|rule| &rule.push)
            .any(|allowed| match allowed {
                Allowed::Nobody => false,
                Allowed::From(access) => level >= *access as u8,
                Allowed::User(name) => {
                    world.user_named(name).is_some_and(|found| found.id == user) && level >= 30
                }
            })
    }
}

/// GitLab's wildcard for branches: `*` stands for any text, slashes too.
pub(crate) fn wildcard(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else {
        return false;
    };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else {
        return rest.is_empty();
    };
    for part in parts {
        let Some(position) = rest.find(part) else {
            return false;
        };
        rest = &rest[position + part.len()..];
    }
    rest.ends_with(last)
}
