//! What a push or merge request changes, by path.
//!
//! Whoever lets something pass because of a path looks at `truncated`, so it is set wherever the list may be short.

use penstock_model::event::EventKind;
use penstock_model::id::{CommitId, ProjectId, RefName};
use penstock_model::lookup::Changes;
use serde::Deserialize;

use super::{Asked, Failure, invalid};
use crate::api::{MergeRequestRow, or_default};
use crate::call::Call;

/// Pages of a diff: 5,000 files, more than GitLab ever lists.
const MOST_DIFF_PAGES: usize = 50;

/// GitLab cuts comparisons after so many files, and does not say so.
const MOST_COMPARED: usize = 1000;

#[derive(Deserialize)]
struct DiffRow {
    old_path: String,
    new_path: String,
    #[serde(default, deserialize_with = "or_default")]
    new_file: bool,
    #[serde(default, deserialize_with = "or_default")]
    renamed_file: bool,
    #[serde(default, deserialize_with = "or_default")]
    deleted_file: bool,
}

#[derive(Deserialize)]
struct Comparison {
    #[serde(default, deserialize_with = "or_default")]
    diffs: Vec<DiffRow>,
    #[serde(default, deserialize_with = "or_default")]
    compare_timeout: bool,
    #[serde(default, deserialize_with = "or_default")]
    compare_same_ref: bool,
}

/// How two commits are compared.
#[derive(Clone, Copy)]
enum Compare {
    /// Tree with tree.
    Straight,
    /// From where the second left the first.
    FromMergeBase,
}

impl Asked<'_> {
    pub(super) async fn changed_paths(self) -> Result<Changes, Failure> {
        let event = &self.context.event;
        let project = self.project()?;
        let commit = event
            .commit
            .as_ref()
            .ok_or_else(|| invalid("the event has no commit"))?;
        let iid = match &event.kind {
            EventKind::Pipeline(pipeline) => pipeline.merge_request,
            kind => kind.merge_request().map(|merge_request| merge_request.iid),
        };
        if let Some(iid) = iid {
            return self.of_merge_request(project.id, iid, commit).await;
        }
        let before = match &event.kind {
            EventKind::Push(push) => push.before.as_ref(),
            // A push that no delivery told of: all since the commit that was decided last.
            EventKind::Sweep(sweep) if is_branch(&sweep.ref_name) => sweep.last_decided.as_ref(),
            _ => return self.of_commit(project.id, commit).await,
        };
        if let Some(before) = before {
            let found = self
                .compare(
                    project.id,
                    before.as_str(),
                    commit.as_str(),
                    Compare::Straight,
                )
                .await;
            match found {
                Ok(found) => {
                    return Ok(changes(
                        found.diffs,
                        found.compare_timeout,
                        Some(MOST_COMPARED),
                    ));
                }
                // What was there before a forced push is gone after a while.
                Err(Failure::World(_)) => return self.at_least_of_commit(project.id, commit).await,
                Err(error) => return Err(error),
            }
        }
        if let Some(name) = &project.default_branch {
            let found = self
                .compare(project.id, name, commit.as_str(), Compare::FromMergeBase)
                .await;
            match found {
                // The new branch is the default branch, or lies on it: only its last commit is known to be new.
                Ok(found) if found.compare_same_ref || found.diffs.is_empty() => {}
                Ok(found) => {
                    return Ok(changes(
                        found.diffs,
                        found.compare_timeout,
                        Some(MOST_COMPARED),
                    ));
                }
                Err(Failure::World(_)) => {}
                Err(error) => return Err(error),
            }
        }
        self.at_least_of_commit(project.id, commit).await
    }

    /// The commit against its parent, where others came with it.
    async fn at_least_of_commit(
        self,
        project: ProjectId,
        commit: &CommitId,
    ) -> Result<Changes, Failure> {
        let mut found = self.of_commit(project, commit).await?;
        found.truncated = true;
        Ok(found)
    }

    async fn of_merge_request(
        self,
        project: ProjectId,
        iid: u64,
        commit: &CommitId,
    ) -> Result<Changes, Failure> {
        let row = self.client.merge_request(project, iid).await?;
        if row.sha.as_ref() != Some(commit) {
            // It has moved on: what the event's commit changes is what it changes against the target.
            let from = row.start().unwrap_or(&row.target_branch);
            let found = self
                .compare(project, from, commit.as_str(), Compare::FromMergeBase)
                .await?;
            return Ok(changes(
                found.diffs,
                found.compare_timeout,
                Some(MOST_COMPARED),
            ));
        }
        let (id, iid) = (project.to_string(), iid.to_string());
        let path = ["projects", &id, "merge_requests", &iid, "diffs"];
        let call = Call::get("merge_request.diffs", &path).of(project);
        let found = self.client.pages::<DiffRow>(&call, MOST_DIFF_PAGES).await?;
        let truncated = !found.complete || !counted(&row, found.rows.len());
        Ok(changes(found.rows, truncated, None))
    }

    async fn of_commit(self, project: ProjectId, commit: &CommitId) -> Result<Changes, Failure> {
        let id = project.to_string();
        let path = [
            "projects",
            &id,
            "repository",
            "commits",
            commit.as_str(),
            "diff",
        ];
        let call = Call::get("commit.diff", &path).of(project);
        let found = self.client.pages::<DiffRow>(&call, MOST_DIFF_PAGES).await?;
        Ok(changes(found.rows, !found.complete, Some(MOST_COMPARED)))
    }

    async fn compare(
        self,
        project: ProjectId,
        from: &str,
        to: &str,
        how: Compare,
    ) -> Result<Comparison, Failure> {
        let id = project.to_string();
        let path = ["projects", &id, "repository", "compare"];
        let straight = match how {
            Compare::Straight => "true",
            Compare::FromMergeBase => "false",
        };
        let call = Call::get("compare", &path)
            .with("from", from)
            .with("to", to)
            .with("straight", straight)
            .of(project);
        Ok(self.client.now(&call).await?)
    }
}

fn is_branch(name: &RefName) -> bool {
    name.as_str().starts_with("refs/heads/")
}

/// GitLab says how many files there are, and there are as many; `1000+` is never enough.
fn counted(row: &MergeRequestRow, rows: usize) -> bool {
    let count = row.changes_count.as_deref();
    count.is_some_and(|count| count.parse() == Ok(rows)) || (count.is_none() && rows == 0)
}

fn changes(rows: Vec<DiffRow>, truncated: bool, most: Option<usize>) -> Changes {
    let truncated = truncated || most.is_some_and(|most| rows.len() >= most);
    let mut changes = Changes {
        truncated,
        ..Changes::default()
    };
    for row in rows {
        if row.deleted_file {
            changes.deleted.push(row.old_path);
        } else if row.new_file {
            changes.added.push(row.new_path);
        } else if row.renamed_file {
            changes.renamed.push((row.old_path, row.new_path));
        } else {
            changes.modified.push(row.new_path);
        }
    }
    changes
}
