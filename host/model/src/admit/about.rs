//! What an event is about: the only things that a plan's effects may speak of.

use super::{Context, ProjectOf};
use crate::id::{CommitId, ProjectId};
use crate::lane::Subject;

/// The event's project, commits and merge request.
pub(super) struct About<'a> {
    pub(super) of: ProjectOf,
    commits: [Option<&'a CommitId>; 2],
    pub(super) merge_request: Option<u64>,
    /// Where the code comes from, if not from the event's project.
    pub(super) source_project: Option<ProjectId>,
}

impl<'a> About<'a> {
    /// None: the event is of no project.
    pub(super) fn new(context: Context<'a>) -> Option<Self> {
        let event = context.event;
        let project = event.scope.project()?;
        let merge_request = event.kind.merge_request_iid();
        let of_lane = match context.lane.subject {
            Subject::MergeRequest(iid) => Some(iid),
            Subject::Ref(_) | Subject::Group(_) | Subject::Whole => None,
        };
        let source = event.provenance.source_project.as_ref().map(|it| it.id);
        Some(Self {
            of: ProjectOf {
                instance: event.instance.clone(),
                project: project.id,
                path: project.path.clone(),
                tenant: event.tenant.clone(),
            },
            commits: [event.commit.as_ref(), context.head],
            merge_request: merge_request.or(of_lane),
            source_project: source.filter(|source| *source != project.id),
        })
    }

    /// The commit is the event's, or the head as GitLab confirmed it.
    pub(super) fn is_commit(&self, commit: &CommitId) -> bool {
        self.commits.iter().flatten().any(|known| *known == commit)
    }
}
