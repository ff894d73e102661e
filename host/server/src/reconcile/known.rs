//! Which head an event's decision is about, and which heads nothing was decided about.
//!
//! Pure.

use std::collections::{BTreeMap, BTreeSet};

use penstock_gitlab::{Heads, OpenRequest};
use penstock_model::event::Event;
use penstock_model::id::{CommitId, RefName};
use penstock_store::{DecidedHead, Head};
use serde::{Deserialize, Serialize};

use super::late::{Told, told};

/// The head that a decision about this event is about; none: the event is about none, or GitLab has a newer one by now, whose own event counts.
pub fn decided_head(event: &Event, now: Option<&CommitId>) -> Option<DecidedHead> {
    let project = event.scope.project()?.id;
    let Told::Head(subject, head) = told(&event.kind, event.commit.as_ref())? else {
        return None;
    };
    let stands = head.is_none() || head.as_ref() == now;
    stands.then_some(DecidedHead {
        project,
        subject,
        head,
    })
}

/// Which lists of a project are compared: those whose events lead anywhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Compared {
    /// Branches.
    pub branches: bool,
    /// Tags.
    pub tags: bool,
    /// Merge requests.
    pub merge_requests: bool,
    /// Comments of merge requests: they have no head.
    pub comments: bool,
}

impl Compared {
    /// Lists with heads.
    const HEADS: Self = Self {
        branches: true,
        tags: true,
        merge_requests: true,
        comments: false,
    };

    /// Those of these that the others are not.
    fn without(self, others: Self) -> Self {
        Self {
            branches: self.branches && !others.branches,
            tags: self.tags && !others.tags,
            merge_requests: self.merge_requests && !others.merge_requests,
            comments: self.comments && !others.comments,
        }
    }

    /// The subject is of one of these lists.
    fn has(self, subject: &str) -> bool {
        match subject.as_bytes().first() {
            Some(b'!') => self.merge_requests,
            _ if subject.starts_with("refs/tags/") => self.tags,
            _ => self.branches,
        }
    }
}

/// Something in GitLab that nothing was decided about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Difference {
    /// The lane's subject.
    pub subject: String,
    /// The ref: of a merge request, its source branch; none for one that is no longer open.
    pub ref_name: Option<RefName>,
    /// What was decided last.
    pub last: Head,
    /// What is there; none: it is gone or closed.
    pub found: Head,
    /// The merge request, while it is open.
    pub request: Option<OpenRequest>,
}

/// Compares what is there with what was decided. What a delivery waits for is left to it.
pub(super) fn differences(
    known: &BTreeMap<String, Head>,
    found: &Heads,
    waiting: &BTreeSet<String>,
    compared: Compared,
) -> Vec<Difference> {
    let mut all = Vec::new();
    let mut there: BTreeSet<&str> = BTreeSet::new();
    let now = subjects(found, compared);
    for (subject, ref_name, head, request) in &now {
        there.insert(subject);
        let last = known.get(subject).cloned().flatten();
        if last.as_ref() != Some(head) {
            all.push(Difference {
                subject: subject.clone(),
                ref_name: Some(ref_name.clone()),
                last,
                found: Some(head.clone()),
                request: request.cloned(),
            });
        }
    }
    for (subject, last) in known {
        let whole = compared.has(subject) && !is_cut(found, subject);
        if last.is_some() && whole && !there.contains(subject.as_str()) {
            all.push(Difference {
                subject: subject.clone(),
                ref_name: (!subject.starts_with('!')).then(|| RefName::new(subject.clone())),
                last: last.clone(),
                found: None,
                request: None,
            });
        }
    }
    all.retain(|it| !waiting.contains(&it.subject));
    all
}

/// The list of the subject was too long: what is missing in it may be there.
fn is_cut(found: &Heads, subject: &str) -> bool {
    let list = match subject.as_bytes().first() {
        Some(b'!') => "merge_requests",
        _ if subject.starts_with("refs/tags/") => "tags",
        _ => "branches",
    };
    found.cut.contains(&list)
}

type Now<'a> = (String, RefName, CommitId, Option<&'a OpenRequest>);

/// All that is there, by the lane's subject.
fn subjects(found: &Heads, compared: Compared) -> Vec<Now<'_>> {
    let mut all = Vec::new();
    let lists = [
        (compared.branches, "refs/heads/", &found.branches),
        (compared.tags, "refs/tags/", &found.tags),
    ];
    for (wanted, prefix, list) in lists {
        for (name, head) in list.iter().filter(|_| wanted) {
            let name = format!("{prefix}{name}");
            all.push((name.clone(), RefName::new(name), head.clone(), None));
        }
    }
    if compared.merge_requests {
        for open in &found.merge_requests {
            let source = format!("refs/heads/{}", open.request.source_branch);
            let subject = format!("!{}", open.request.iid);
            all.push((
                subject,
                RefName::new(source),
                open.request.head.clone(),
                Some(open),
            ));
        }
    }
    all
}

/// What is to be taken for known as it is: what was there before Penstock looked is nothing to be made up for. `before`: the lists that
/// were compared at the last look; none: there was none.
pub(super) fn at_first_sight(
    known: &BTreeMap<String, Head>,
    found: &Heads,
    before: Option<Compared>,
    now: Compared,
) -> Vec<(String, Head)> {
    let there = |lists| {
        let all = subjects(found, lists).into_iter();
        all.map(|(subject, _, head, _)| (subject, Some(head)))
    };
    let Some(before) = before else {
        // What was decided already was decided by a delivery, and a difference to it is one.
        return there(Compared::HEADS)
            .filter(|(subject, _)| !known.contains_key(subject))
            .collect();
    };
    // Nobody kept these up to date while they led nowhere.
    let new = now.without(before);
    let mut all: BTreeMap<String, Head> = known
        .iter()
        .filter(|(subject, head)| head.is_some() && new.has(subject))
        .map(|(subject, _)| (subject.clone(), None))
        .collect();
    all.extend(there(new));
    all.retain(|subject, head| known.get(subject) != Some(head));
    all.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commit(c: char) -> CommitId {
        CommitId::parse(&c.to_string().repeat(40)).unwrap()
    }

    const ALL: Compared = Compared::HEADS;

    fn branches(heads: &[(&str, char)]) -> Heads {
        Heads {
            branches: heads
                .iter()
                .map(|(name, c)| ((*name).to_owned(), commit(*c)))
                .collect(),
            ..Heads::default()
        }
    }

    fn known(heads: &[(&str, Option<char>)]) -> BTreeMap<String, Head> {
        heads
            .iter()
            .map(|(name, c)| ((*name).to_owned(), c.map(commit)))
            .collect()
    }

    fn told(known: &BTreeMap<String, Head>, found: &Heads) -> Vec<(String, Head, Head)> {
        differences(known, found, &BTreeSet::new(), ALL)
            .into_iter()
            .map(|it| (it.subject, it.last, it.found))
            .collect()
    }

    #[test]
    fn what_is_as_it_was_decided_is_no_difference() {
        let known = known(&[("refs/heads/main", Some('a')), ("refs/heads/old", None)]);
        assert_eq!(told(&known, &branches(&[("main", 'a')])), []);
    }

    #[test]
    fn a_moved_a_new_and_a_deleted_branch_are_told_of() {
        let known = known(&[
            ("refs/heads/main", Some('a')),
            ("refs/heads/gone", Some('b')),
        ]);
        let found = branches(&[("main", 'c'), ("new", 'd')]);
        assert_eq!(
            told(&known, &found),
            [
                (
                    "refs/heads/main".to_owned(),
                    Some(commit('a')),
                    Some(commit('c'))
                ),
                ("refs/heads/new".to_owned(), None, Some(commit('d'))),
                ("refs/heads/gone".to_owned(), Some(commit('b')), None),
            ]
        );
    }

    #[test]
    fn what_a_delivery_waits_for_is_left_to_it() {
        let waiting = BTreeSet::from(["refs/heads/main".to_owned()]);
        let found = branches(&[("main", 'c')]);
        assert_eq!(differences(&BTreeMap::new(), &found, &waiting, ALL), []);
    }

    #[test]
    fn a_list_that_was_cut_says_nothing_of_what_is_not_in_it() {
        let known = known(&[("refs/heads/gone", Some('b')), ("refs/tags/v1", Some('b'))]);
        let found = Heads {
            cut: vec!["branches"],
            ..Heads::default()
        };
        let all = told(&known, &found);
        assert_eq!(all, [("refs/tags/v1".to_owned(), Some(commit('b')), None)]);
    }

    #[test]
    fn lists_whose_events_lead_nowhere_are_not_compared() {
        let compared = Compared {
            branches: false,
            ..ALL
        };
        let known = known(&[("refs/heads/gone", Some('b'))]);
        let found = branches(&[("main", 'c')]);
        assert_eq!(differences(&known, &found, &BTreeSet::new(), compared), []);
    }

    #[test]
    fn at_first_sight_only_what_was_decided_can_differ() {
        let known = known(&[("refs/heads/main", Some('a'))]);
        let found = branches(&[("main", 'c'), ("new", 'd')]);
        let taken = at_first_sight(&known, &found, None, ALL);
        assert_eq!(
            taken,
            [("refs/heads/new".to_owned(), Some(commit('d')))],
            "main was decided at another commit"
        );
    }

    #[test]
    fn lists_that_lead_somewhere_only_now_are_taken_as_they_are() {
        let known = known(&[
            ("refs/heads/main", Some('a')),
            ("refs/heads/gone", Some('b')),
            ("refs/tags/v1", Some('b')),
        ]);
        let found = branches(&[("main", 'c'), ("new", 'd')]);
        let before = Compared {
            branches: false,
            ..ALL
        };
        let taken = at_first_sight(&known, &found, Some(before), ALL);
        assert_eq!(
            taken,
            [
                ("refs/heads/gone".to_owned(), None),
                ("refs/heads/main".to_owned(), Some(commit('c'))),
                ("refs/heads/new".to_owned(), Some(commit('d'))),
            ]
        );
        assert_eq!(at_first_sight(&known, &found, Some(ALL), ALL), []);
    }
}
