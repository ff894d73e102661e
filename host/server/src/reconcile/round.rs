//! One instance's round: its hooks, and then its projects one after the other.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use penstock_gitlab::{ApiError, Client, HookScope, OpenRequest};
use penstock_model::admit::ProjectOf;
use penstock_model::id::{InstanceName, ProjectId, ProjectPath, Timestamp};
use penstock_store::{StatusesOf, StoreError};

use super::Memory;
use super::known::Compared;
use super::sweep::Seen;
use crate::config::GitlabConfig;
use crate::host::Host;
use crate::live::{Instance, Live, OwnUsersError, scope};
use crate::statuses::{self, NotRepeated};

/// Statuses of older commits are not looked after.
const STATUSES_MATTER: Duration = Duration::from_secs(24 * 60 * 60);
/// Projects in a row that GitLab had no answer about, after which the round is cut short.
const ENOUGH: u32 = 3;

/// One instance's round.
pub(super) struct Round<'a> {
    pub(super) host: &'a Arc<Host>,
    pub(super) live: &'a Live,
    pub(super) name: &'a InstanceName,
    pub(super) instance: &'a Instance,
    /// Its calls give way.
    pub(super) client: Client,
    /// What can't be made up for as things stand.
    pub(super) lost: Vec<String>,
    pub(super) config: &'a GitlabConfig,
}

/// Why something is not looked at to its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum Cut {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("GitLab: {0}")]
    Gitlab(#[from] ApiError),
}

impl From<NotRepeated> for Cut {
    fn from(error: NotRepeated) -> Self {
        match error {
            NotRepeated::Gitlab(error) => Self::Gitlab(error),
            NotRepeated::Store(error) => Self::Store(error),
        }
    }
}

impl From<OwnUsersError> for Cut {
    fn from(error: OwnUsersError) -> Self {
        match error {
            OwnUsersError::Gitlab(error) => Self::Gitlab(error),
            OwnUsersError::Store(error) => Self::Store(error),
        }
    }
}

impl<'a> Round<'a> {
    pub(super) fn new(
        host: &'a Arc<Host>,
        live: &'a Live,
        config: &'a GitlabConfig,
        instance: &'a Instance,
    ) -> Self {
        Self {
            host,
            live,
            name: &config.name,
            instance,
            client: instance.client.background(),
            lost: Vec::new(),
            config,
        }
    }

    /// Looks at everything, and says what can't be made up for.
    pub(super) async fn whole(mut self, memory: &mut Memory) {
        if let Err(error) = self.all(memory).await {
            tracing::warn!(%error, instance = %self.name, "a round of reconciling was cut short; the next goes on");
            self.lost
                .push(format!("the last round was cut short: {error}"));
        }
        self.report().await;
    }

    async fn all(&mut self, memory: &mut Memory) -> Result<(), Cut> {
        let projects = self.projects().await?;
        memory.unsettled.only_projects(self.name, &projects);
        for hook in &self.config.hooks {
            self.hook(hook, &projects, memory).await?;
        }
        // Where the last round was cut short this one goes on, or the last projects would never be looked at.
        let first = memory.cut_at.remove(self.name).unwrap_or(ProjectId(0));
        let (before, after): (Vec<_>, Vec<_>) = projects.iter().partition(|(id, _)| **id < first);
        let mut in_vain = 0;
        for (id, path) in after.into_iter().chain(before) {
            match self.project(*id, path, memory).await {
                Ok(()) => in_vain = 0,
                Err(Cut::Gitlab(error)) if error.is_denial() => {
                    memory.unsettled.forget(self.name, *id);
                    self.lost
                        .push(format!("`{path}` is not shown to Penstock's user: {error}"));
                }
                Err(Cut::Gitlab(error)) if in_vain + 1 < ENOUGH => {
                    in_vain += 1;
                    tracing::warn!(%error, project = %path, "a project is looked at in the next round");
                    self.lost
                        .push(format!("`{path}` could not be looked at: {error}"));
                }
                Err(error) => {
                    memory.cut_at.insert(self.name.clone(), *id);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Looks again at the heads of projects in which a difference was seen, and at nothing else. What can't be looked at is said by a whole round.
    pub(super) async fn heads(mut self, memory: &mut Memory) {
        let mut in_vain = 0;
        for (id, path) in memory.unsettled.projects(self.name) {
            let Some((of, compared)) = self.compared(id, &path) else {
                memory.unsettled.forget(self.name, id);
                continue;
            };
            match self.compare(&of, compared, memory).await {
                Ok(_) => in_vain = 0,
                Err(Cut::Gitlab(error)) if error.is_denial() => {
                    memory.unsettled.forget(self.name, id);
                }
                Err(error) => {
                    in_vain += 1;
                    tracing::warn!(%error, project = %path, "a difference is looked at again later");
                    if in_vain == ENOUGH {
                        return;
                    }
                }
            }
        }
    }

    /// Projects that a hook speaks for.
    async fn projects(&mut self) -> Result<BTreeMap<ProjectId, ProjectPath>, Cut> {
        let mut all = BTreeMap::new();
        // Of these GitLab lists none: those that something was decided about are gone through.
        let mut unlisted = Vec::new();
        for hook in &self.config.hooks {
            let scope = scope(&hook.scope);
            match penstock_gitlab::projects_of(&self.client, &scope).await {
                Ok(Some(found)) => {
                    all.extend(found.rows.into_iter().map(|it| (it.id, it.path)));
                    if !found.complete {
                        self.lost.push(format!(
                            "{scope} of the hook `{}` has too many projects to list them all: the others are looked at once something was decided about them",
                            hook.name
                        ));
                        unlisted.push(scope);
                    }
                }
                Ok(None) => unlisted.push(scope),
                Err(error) if error.is_denial() => {
                    self.lost.push(format!(
                        "the projects of the hook `{}` ({scope}) are not shown: {error}",
                        hook.name
                    ));
                    unlisted.push(scope);
                }
                Err(error) => return Err(error.into()),
            }
        }
        if !unlisted.is_empty() {
            let within = |id, path: &ProjectPath| {
                let mut scopes = unlisted.iter();
                scopes.any(|scope: &HookScope| scope.contains_project(id, path.as_str()))
            };
            for known in self.host.store.known_projects(self.name).await? {
                if within(known.id, &known.path) {
                    all.entry(known.id).or_insert(known.path);
                }
            }
        }
        Ok(all)
    }

    /// Heads, statuses and comments of one project.
    async fn project(
        &mut self,
        id: ProjectId,
        path: &ProjectPath,
        memory: &mut Memory,
    ) -> Result<(), Cut> {
        let Some((of, compared)) = self.compared(id, path) else {
            memory.unsettled.forget(self.name, id);
            return Ok(());
        };
        let (found, seen) = self.compare(&of, compared, memory).await?;
        for list in &found.cut {
            self.lost
                .push(format!("`{path}` has too many {list} to compare them all"));
        }
        for open in &found.merge_requests {
            self.statuses(&of, open).await?;
        }
        if compared.comments {
            let first = !seen.compared.comments;
            self.comments(&of, &found.merge_requests, first).await?;
        }
        if seen.compared.comments != compared.comments {
            self.note_look(&of, &Seen { compared, ..seen }).await?;
        }
        Ok(())
    }

    /// Whose a project is, and what of it is compared; none: nobody's, or nothing of it leads anywhere.
    fn compared(&self, id: ProjectId, path: &ProjectPath) -> Option<(ProjectOf, Compared)> {
        let live = self.live;
        let tenant = live.belonging(path.as_str()).ok()?.tenant;
        let takes = |kinds: &[&str]| {
            let mut kinds = kinds.iter();
            kinds.any(|kind| !live.routes(tenant, kind).is_empty())
        };
        let compared = Compared {
            branches: takes(&["push", "sweep"]),
            tags: takes(&["tag_push", "sweep"]),
            merge_requests: takes(&["merge_request", "sweep"]),
            comments: takes(&["note"]),
        };
        let of = ProjectOf {
            instance: self.name.clone(),
            project: id,
            path: path.clone(),
            tenant: tenant.name(),
        };
        (compared != Compared::default()).then_some((of, compared))
    }

    /// Gives the head pipeline of a merge request the statuses that it has not got.
    async fn statuses(&self, of: &ProjectOf, open: &OpenRequest) -> Result<(), Cut> {
        let request = &open.request;
        let about = StatusesOf {
            instance: of.instance.clone(),
            tenant: of.tenant.clone(),
            code: request.source_project.unwrap_or(of.project),
            commit: request.head.clone(),
        };
        let since = Timestamp::now().minus(STATUSES_MATTER);
        if self.host.store.has_statuses(about, since).await? {
            let of_request = (of.project, request.iid);
            statuses::repeat(self.host, &self.client, self.name, &of.tenant, of_request).await?;
        }
        Ok(())
    }
}
