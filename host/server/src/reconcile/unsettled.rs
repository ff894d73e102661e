//! Differences that were seen and may yet be told of, and when they are looked at again.
//!
//! Pure. What leaves the configuration, GitLab's list or a tenant is forgotten here, or it would be looked at for ever.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use penstock_model::admit::ProjectOf;
use penstock_model::id::{InstanceName, ProjectId, ProjectPath};
use penstock_store::Head;

/// Differences by instance and project.
#[derive(Default)]
pub(super) struct Unsettled(HashMap<InstanceName, BTreeMap<ProjectId, Differences>>);

/// Those of one project.
struct Differences {
    path: ProjectPath,
    /// What was found of each subject, and since when.
    found: BTreeMap<String, (Head, Instant)>,
}

impl Unsettled {
    /// Nothing waits for a second look.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Projects of an instance in which something does.
    pub(super) fn projects(&self, instance: &InstanceName) -> Vec<(ProjectId, ProjectPath)> {
        let all = self.0.get(instance).into_iter().flatten();
        all.map(|(id, project)| (*id, project.path.clone()))
            .collect()
    }

    /// Notes what was found of a subject; true: the same was found `settle` ago or earlier.
    pub(super) fn stands(
        &mut self,
        of: &ProjectOf,
        subject: &str,
        found: &Head,
        now: Instant,
        settle: Duration,
    ) -> bool {
        let projects = self.0.entry(of.instance.clone()).or_default();
        let project = projects.entry(of.project).or_insert_with(|| Differences {
            path: of.path.clone(),
            found: BTreeMap::new(),
        });
        project.path = of.path.clone();
        match project.found.get(subject) {
            Some((seen, since)) if seen == found => now.duration_since(*since) >= settle,
            _ => {
                let new = (found.clone(), now);
                project.found.insert(subject.to_owned(), new);
                false
            }
        }
    }

    /// A subject is as it should be, or was told of.
    pub(super) fn settled(&mut self, of: &ProjectOf, subject: &str) {
        self.in_project(&of.instance, of.project, |project| {
            project.found.remove(subject);
        });
    }

    /// Only of these subjects of a project there is a difference any more.
    pub(super) fn only_subjects(&mut self, of: &ProjectOf, subjects: &BTreeSet<&str>) {
        self.in_project(&of.instance, of.project, |project| {
            project
                .found
                .retain(|subject, _| subjects.contains(subject.as_str()));
        });
    }

    /// A project is looked at no more.
    pub(super) fn forget(&mut self, instance: &InstanceName, project: ProjectId) {
        self.in_project(instance, project, |project| project.found.clear());
    }

    /// An instance has only these projects any more.
    pub(super) fn only_projects(
        &mut self,
        instance: &InstanceName,
        projects: &BTreeMap<ProjectId, ProjectPath>,
    ) {
        if let Some(known) = self.0.get_mut(instance) {
            known.retain(|id, _| projects.contains_key(id));
        }
        self.sweep_out();
    }

    /// There are only these instances any more.
    pub(super) fn only_instances(&mut self, there: impl Fn(&InstanceName) -> bool) {
        self.0.retain(|instance, _| there(instance));
    }

    fn in_project(
        &mut self,
        instance: &InstanceName,
        project: ProjectId,
        change: impl FnOnce(&mut Differences),
    ) {
        let known = self.0.get_mut(instance);
        if let Some(project) = known.and_then(|known| known.get_mut(&project)) {
            change(project);
        }
        self.sweep_out();
    }

    /// A project without differences must not be looked at again for it.
    fn sweep_out(&mut self) {
        for projects in self.0.values_mut() {
            projects.retain(|_, project| !project.found.is_empty());
        }
        self.0.retain(|_, projects| !projects.is_empty());
    }
}

/// What a round is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Everything.
    Whole,
    /// The heads of projects with differences.
    Heads,
    /// Nothing yet.
    In(Duration),
}

/// When rounds were made.
#[derive(Clone, Copy, Default)]
pub(super) struct Rounds {
    /// The last whole round began.
    pub whole: Option<Instant>,
    /// The last round of either kind was over.
    pub over: Option<Instant>,
}

impl Rounds {
    /// What is to be done now. A difference is looked at again `settle` after the end of the look that saw it: then it is old enough to be believed.
    pub(super) fn due(
        self,
        now: Instant,
        every: Duration,
        settle: Duration,
        something: bool,
    ) -> Due {
        let left = |since: Option<Instant>, time: Duration| {
            since.map_or(Duration::ZERO, |since| {
                time.saturating_sub(now.duration_since(since))
            })
        };
        let whole = left(self.whole, every);
        let heads = left(self.over, settle);
        if whole.is_zero() {
            Due::Whole
        } else if !something {
            Due::In(whole)
        } else if heads.is_zero() {
            Due::Heads
        } else {
            Due::In(heads.min(whole))
        }
    }
}

#[cfg(test)]
mod tests {
    use penstock_model::id::CommitId;

    use super::*;

    const SETTLE: Duration = Duration::from_secs(60);
    const EVERY: Duration = Duration::from_secs(900);

    fn of(instance: &str, project: u64) -> ProjectOf {
        ProjectOf {
            instance: instance.into(),
            project: ProjectId(project),
            path: "acme/api".into(),
            tenant: "acme".into(),
        }
    }

    fn head(c: char) -> Head {
        Some(CommitId::parse(&c.to_string().repeat(40)).unwrap())
    }

    fn seen(all: &[(&str, u64)]) -> Unsettled {
        let mut unsettled = Unsettled::default();
        for (instance, project) in all {
            let of = of(instance, *project);
            assert!(!unsettled.stands(&of, "a", &head('a'), Instant::now(), SETTLE));
        }
        unsettled
    }

    #[test]
    fn a_difference_stands_that_was_the_same_for_long_enough() {
        let mut unsettled = Unsettled::default();
        let (of, begun) = (of("main", 1), Instant::now());
        for (after, found, expect) in [
            (0, 'a', false),
            (59, 'a', false),
            (60, 'a', true),
            (61, 'b', false),
            (120, 'b', false),
            (121, 'b', true),
        ] {
            let now = begun + Duration::from_secs(after);
            let stands = unsettled.stands(&of, "refs/heads/main", &head(found), now, SETTLE);
            assert_eq!(stands, expect, "{after} s");
        }
        assert_eq!(
            unsettled.projects(&of.instance),
            [(ProjectId(1), "acme/api".into())]
        );
        unsettled.settled(&of, "refs/heads/main");
        assert!(unsettled.is_empty());
    }

    #[test]
    fn nothing_is_left_of_what_is_gone() {
        let main = InstanceName::from("main");
        let mut unsettled = seen(&[("main", 1), ("main", 2), ("old", 3)]);
        unsettled.only_instances(|it| *it == main);
        assert!(unsettled.projects(&"old".into()).is_empty());
        unsettled.only_projects(&main, &BTreeMap::from([(ProjectId(2), "acme/web".into())]));
        assert_eq!(
            unsettled.projects(&main),
            [(ProjectId(2), "acme/api".into())]
        );
        unsettled.forget(&main, ProjectId(2));
        assert!(unsettled.is_empty());
        let mut unsettled = seen(&[("main", 1)]);
        unsettled.only_subjects(&of("main", 1), &BTreeSet::from(["b"]));
        assert!(unsettled.is_empty());
    }

    #[test]
    fn heads_are_looked_at_again_once_in_the_time_that_a_difference_must_stand() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let due =
            |rounds: Rounds, seconds, something| rounds.due(at(seconds), EVERY, SETTLE, something);
        assert_eq!(due(Rounds::default(), 0, false), Due::Whole);
        let rounds = Rounds {
            whole: Some(at(0)),
            over: Some(at(10)),
        };
        let secs = Duration::from_secs;
        assert_eq!(due(rounds, 25, false), Due::In(secs(875)));
        assert_eq!(due(rounds, 25, true), Due::In(secs(45)));
        assert_eq!(due(rounds, 69, true), Due::In(secs(1)));
        assert_eq!(due(rounds, 70, true), Due::Heads);
        let again = Rounds {
            over: Some(at(71)),
            ..rounds
        };
        assert_eq!(due(again, 85, true), Due::In(secs(46)));
        assert_eq!(due(again, 899, true), Due::Heads);
        assert_eq!(due(again, 900, true), Due::Whole);
        let late = Rounds {
            over: Some(at(880)),
            ..rounds
        };
        assert_eq!(due(late, 880, true), Due::In(secs(20)));
    }
}
