//! What a test asks of a person: a push, a merge request.

use bytes::Bytes;

/// A push to one branch: commits on top of what is there, or on top of another start.
///
/// ```
/// use penstock_doubles::gitlab::Push;
/// let push = Push::new("acme/api", "feature", "alice").write("src/a.rs", "fn a() {}").delete("old.rs").message("Add a");
/// # let _ = push;
/// ```
#[derive(Clone, Debug)]
pub struct Push {
    pub(crate) project: String,
    pub(crate) branch: String,
    pub(crate) author: String,
    pub(crate) from: Option<String>,
    pub(crate) commits: Vec<Written>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Written {
    pub(crate) message: String,
    pub(crate) files: Vec<(String, Option<Bytes>)>,
}

impl Push {
    /// A push by `author`; a branch that is not there yet begins at the default branch.
    #[must_use]
    pub fn new(project: &str, branch: &str, author: &str) -> Self {
        let (project, branch, author) = (project.to_owned(), branch.to_owned(), author.to_owned());
        Self {
            project,
            branch,
            author,
            from: None,
            commits: Vec::new(),
        }
    }

    /// Writes a file in the current commit.
    #[must_use]
    pub fn write(mut self, path: &str, content: impl Into<Bytes>) -> Self {
        self.current()
            .files
            .push((path.to_owned(), Some(content.into())));
        self
    }

    /// Deletes a file in the current commit.
    #[must_use]
    pub fn delete(mut self, path: &str) -> Self {
        self.current().files.push((path.to_owned(), None));
        self
    }

    /// Sets the current commit's message.
    #[must_use]
    pub fn message(mut self, message: &str) -> Self {
        message.clone_into(&mut self.current().message);
        self
    }

    /// Begins another commit of the same push.
    #[must_use]
    pub fn then(mut self) -> Self {
        self.commits.push(Written::default());
        self
    }

    /// Starts from this commit, branch or tag and not from the branch's head: a force-push if it leaves commits behind.
    #[must_use]
    pub fn from(mut self, start: &str) -> Self {
        self.from = Some(start.to_owned());
        self
    }

    fn current(&mut self) -> &mut Written {
        if self.commits.is_empty() {
            self.commits.push(Written::default());
        }
        self.commits.last_mut().expect("a commit")
    }
}

/// A merge request to open.
#[derive(Clone, Debug)]
pub struct Proposal {
    pub(crate) target: String,
    pub(crate) source: Option<String>,
    pub(crate) branch: String,
    pub(crate) into: Option<String>,
    pub(crate) author: String,
    pub(crate) title: String,
    pub(crate) description: String,
    pub(crate) labels: Vec<String>,
    pub(crate) approvals: usize,
}

impl Proposal {
    /// From `branch` into the default branch of the same project.
    #[must_use]
    pub fn new(project: &str, branch: &str, author: &str) -> Self {
        Self {
            target: project.to_owned(),
            source: None,
            branch: branch.to_owned(),
            into: None,
            author: author.to_owned(),
            title: format!("Change {branch}"),
            description: String::new(),
            labels: Vec::new(),
            approvals: 0,
        }
    }

    /// The branch is in this fork.
    #[must_use]
    pub fn from_fork(mut self, fork: &str) -> Self {
        self.source = Some(fork.to_owned());
        self
    }

    /// Into this branch.
    #[must_use]
    pub fn into(mut self, branch: &str) -> Self {
        self.into = Some(branch.to_owned());
        self
    }

    /// Its title; one that begins with `Draft:` makes it a draft.
    #[must_use]
    pub fn title(mut self, title: &str) -> Self {
        title.clone_into(&mut self.title);
        self
    }

    /// Its labels.
    #[must_use]
    pub fn labels(mut self, labels: &[&str]) -> Self {
        self.labels = labels.iter().map(|label| (*label).to_owned()).collect();
        self
    }

    /// How many approvals it needs.
    #[must_use]
    pub fn approvals(mut self, count: usize) -> Self {
        self.approvals = count;
        self
    }
}
