//! Commits, trees and blobs, and what is read from them: resolving names, merge bases, differences.
//!
//! Blobs have git's ids; other objects are named by the first 40 hex digits of a SHA-256 over their content: as long as git's ids and as
//! stable, but not git's. Trees hold files alone: no modes, links or submodules.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

use bytes::Bytes;
use jiff::Timestamp;
use sha2::{Digest, Sha256};

/// The id of nothing: before a branch's first push and after its last.
pub const ZERO: &str = "0000000000000000000000000000000000000000";

/// Paths to blob ids.
pub(crate) type Tree = BTreeMap<String, String>;

/// One commit.
#[derive(Clone, Debug)]
pub(crate) struct Commit {
    pub(crate) id: String,
    pub(crate) parents: Vec<String>,
    pub(crate) tree: Tree,
    pub(crate) message: String,
    pub(crate) author_name: String,
    pub(crate) author_email: String,
    pub(crate) at: Timestamp,
}

impl Commit {
    pub(crate) fn title(&self) -> &str {
        self.message.lines().next().unwrap_or_default()
    }
}

/// Every object of the instance; a fork shares its source's.
#[derive(Debug, Default)]
pub(crate) struct Objects {
    commits: HashMap<String, Commit>,
    blobs: HashMap<String, Bytes>,
}

/// The refs of one project, and which commits it holds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Refs {
    pub(crate) branches: BTreeMap<String, String>,
    pub(crate) tags: BTreeMap<String, TagRef>,
    /// `refs/merge-requests/N/head` and its like.
    pub(crate) hidden: BTreeMap<String, String>,
    /// Commits that can be read here; one that was force-pushed away stays.
    pub(crate) known: BTreeSet<String>,
}

/// A tag; annotated if it has a message.
#[derive(Clone, Debug)]
pub(crate) struct TagRef {
    pub(crate) target: String,
    pub(crate) message: Option<String>,
    pub(crate) at: Timestamp,
}

/// What happened to one path between two trees.
#[derive(Clone, Debug)]
pub(crate) struct Difference {
    pub(crate) old_path: String,
    pub(crate) new_path: String,
    pub(crate) old_blob: Option<String>,
    pub(crate) new_blob: Option<String>,
}

impl Difference {
    pub(crate) fn renamed(&self) -> bool {
        self.old_path != self.new_path
    }
}

pub(crate) fn object_id(kind: &str, content: &[u8]) -> String {
    let mut hash = Sha256::new();
    hash.update(kind.as_bytes());
    hash.update([0]);
    hash.update(content);
    hex::encode(hash.finalize())[..40].to_owned()
}

/// A blob's id is git's own: GitLab's clients may check it.
fn blob_id(content: &[u8]) -> String {
    use sha1::{Digest as _, Sha1};
    let head = format!("blob {}\0", content.len());
    hex::encode(
        Sha1::new()
            .chain_update(head)
            .chain_update(content)
            .finalize(),
    )
}

impl Objects {
    pub(crate) fn put_blob(&mut self, content: Bytes) -> String {
        let id = blob_id(&content);
        self.blobs.insert(id.clone(), content);
        id
    }

    pub(crate) fn blob(&self, id: &str) -> Option<&Bytes> {
        self.blobs.get(id)
    }

    /// Stores a commit; its id covers parents, tree, author, message and time.
    pub(crate) fn put_commit(&mut self, mut commit: Commit) -> String {
        let content = format!(
            "{:?}\n{:?}\n{} <{}> {}\n{}",
            commit.parents,
            commit.tree,
            commit.author_name,
            commit.author_email,
            commit.at,
            commit.message
        );
        commit.id = object_id("commit", content.as_bytes());
        let id = commit.id.clone();
        self.commits.insert(id.clone(), commit);
        id
    }

    pub(crate) fn commit(&self, id: &str) -> Option<&Commit> {
        self.commits.get(id)
    }

    /// `tip` and all its ancestors, newest first as far as the graph says.
    pub(crate) fn history(&self, tip: &str) -> Vec<&Commit> {
        let mut seen = HashSet::new();
        let mut queue = VecDeque::from([tip]);
        let mut found = Vec::new();
        while let Some(id) = queue.pop_front() {
            if !seen.insert(id) {
                continue;
            }
            if let Some(commit) = self.commits.get(id) {
                queue.extend(commit.parents.iter().map(String::as_str));
                found.push(commit);
            }
        }
        found
    }

    pub(crate) fn is_ancestor(&self, old: &str, new: &str) -> bool {
        self.history(new).iter().any(|commit| commit.id == old)
    }

    /// The first common ancestor that walking back from `right` meets.
    pub(crate) fn merge_base(&self, left: &str, right: &str) -> Option<String> {
        let reachable: HashSet<&str> = self
            .history(left)
            .into_iter()
            .map(|commit| commit.id.as_str())
            .collect();
        self.history(right)
            .into_iter()
            .find(|commit| reachable.contains(commit.id.as_str()))
            .map(|found| found.id.clone())
    }

    /// Commits reachable from `to` and not from `from`, oldest first.
    pub(crate) fn between(&self, from: &str, to: &str) -> Vec<&Commit> {
        let old: HashSet<&str> = self
            .history(from)
            .into_iter()
            .map(|commit| commit.id.as_str())
            .collect();
        let mut new: Vec<&Commit> = self
            .history(to)
            .into_iter()
            .filter(|commit| !old.contains(commit.id.as_str()))
            .collect();
        new.reverse();
        new
    }

    /// Paths that differ; a file that moved unchanged is one entry with two paths.
    pub(crate) fn differences(&self, old: &Tree, new: &Tree) -> Vec<Difference> {
        let paths: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        let mut found: Vec<Difference> = paths
            .into_iter()
            .filter(|path| old.get(*path) != new.get(*path))
            .map(|path| Difference {
                old_path: path.clone(),
                new_path: path.clone(),
                old_blob: old.get(path).cloned(),
                new_blob: new.get(path).cloned(),
            })
            .collect();
        let gone: Vec<Difference> = found
            .iter()
            .filter(|entry| entry.new_blob.is_none())
            .cloned()
            .collect();
        for lost in gone {
            let moved = found
                .iter_mut()
                .find(|entry| entry.old_blob.is_none() && entry.new_blob == lost.old_blob);
            if let Some(entry) = moved {
                entry.old_path.clone_from(&lost.old_path);
                entry.old_blob.clone_from(&lost.old_blob);
                found.retain(|entry| entry.new_blob.is_some() || entry.old_path != lost.old_path);
            }
        }
        found
    }

    /// A unified diff of two blobs without file headers, as GitLab shows it: one hunk.
    pub(crate) fn diff_text(&self, difference: &Difference) -> String {
        let text = |blob: &Option<String>| {
            let bytes = blob
                .as_deref()
                .and_then(|id| self.blobs.get(id))
                .cloned()
                .unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let (old, new) = (text(&difference.old_blob), text(&difference.new_blob));
        one_hunk(&old, &new)
    }
}

fn one_hunk(old: &str, new: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let head = old
        .iter()
        .zip(&new)
        .take_while(|(left, right)| left == right)
        .count();
    let tail = old[head..]
        .iter()
        .rev()
        .zip(new[head..].iter().rev())
        .take_while(|(left, right)| left == right)
        .count();
    let (old_end, new_end) = (old.len() - tail, new.len() - tail);
    if head == old_end && head == new_end {
        return String::new();
    }
    let (from, after) = (head.saturating_sub(3), tail.min(3));
    let range = |end: usize| {
        let count = end + after - from;
        format!("{},{count}", if count == 0 { from } else { from + 1 })
    };
    let mut hunk = format!("@@ -{} +{} @@\n", range(old_end), range(new_end));
    let mut lines = |mark: char, part: &[&str]| {
        for line in part {
            hunk.push(mark);
            hunk.push_str(line);
            hunk.push('\n');
        }
    };
    lines(' ', &old[from..head]);
    lines('-', &old[head..old_end]);
    lines('+', &new[head..new_end]);
    lines(' ', &old[old_end..old_end + after]);
    hunk
}

impl Refs {
    /// A commit by anything GitLab takes: a full id (which no branch of that name can shadow), a full ref, a tag, a
    /// branch, or the start of an id.
    pub(crate) fn resolve(&self, name: &str, default_branch: &str) -> Option<String> {
        let is_hex = name.len() >= 4
            && name.len() <= 40
            && name.bytes().all(|byte| byte.is_ascii_hexdigit());
        if name.len() == 40 && is_hex {
            return self.known.get(name).cloned();
        }
        if name == "HEAD" {
            return self.branches.get(default_branch).cloned();
        }
        let tag = |name: &str| self.tags.get(name).map(|tag| tag.target.clone());
        if let Some(found) = name
            .strip_prefix("refs/heads/")
            .and_then(|name| self.branches.get(name))
        {
            return Some(found.clone());
        }
        if let Some(found) = name.strip_prefix("refs/tags/").and_then(tag) {
            return Some(found);
        }
        if let Some(found) = self.hidden.get(name) {
            return Some(found.clone());
        }
        tag(name)
            .or_else(|| self.branches.get(name).cloned())
            .or_else(|| {
                let mut matching = self
                    .known
                    .iter()
                    .filter(|id| is_hex && id.starts_with(name));
                matching
                    .next()
                    .filter(|_| matching.next().is_none())
                    .cloned()
            })
    }

    /// Takes in a commit with all its ancestors.
    pub(crate) fn keep(&mut self, objects: &Objects, tip: &str) {
        self.known.extend(
            objects
                .history(tip)
                .into_iter()
                .map(|commit| commit.id.clone()),
        );
    }
}
