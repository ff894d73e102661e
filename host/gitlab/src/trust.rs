//! How far an event is trusted, from what GitLab said of it: the least that code, actor and confirmation allow.
//!
//! Pure. The first row that fits decides:
//!
//! | code | who | trust | confirmed |
//! |---|---|---|---|
//! | of another project (a fork) | anybody | untrusted | yes |
//! | not found on the ref or merge request it is said to be of | anybody | untrusted | no |
//! | on a protected ref, and the event itself proves that somebody could change that ref (push, tag push, release) | anybody | protected | yes |
//! | on a protected ref | somebody whom the ref's rules let change it, with access >= 30 | protected | yes |
//! | any other of the project itself, or none at all | somebody with access >= 30 | member | yes |
//! | on an unprotected tag that a release tells of, or none at all | GitLab itself: it asks for access >= 30, or nobody did it | member | yes |
//! | any | somebody with less access | untrusted | yes |
//! | any | somebody whose access GitLab does not show, or nobody who is known | untrusted | no |

use penstock_model::scope::Trust;

/// From this access level on somebody may push to branches that are not protected.
pub(crate) const DEVELOPER: u32 = 30;

/// From this access level on somebody may push to protected branches, unless rules say else.
pub(crate) const MAINTAINER: u32 = 40;

/// What GitLab said of the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// The event is about no code, or about a ref that is gone.
    None,
    /// It comes from another project.
    Foreign,
    /// It is not where the event says.
    Unconfirmed,
    /// It is of the project itself, on a ref that GitLab does not protect.
    Own,
    /// It is on a ref that GitLab protects.
    Protected,
}

/// What GitLab said of who did it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// A person or bot.
    User {
        /// None: GitLab does not show it.
        access: Option<u32>,
        /// The rules of the protected ref let them change it.
        may_change_ref: bool,
    },
    /// GitLab itself, or somebody whom GitLab let do what takes a developer.
    Gitlab,
    /// The event does not say, and its kind proves nothing.
    Unknown,
}

/// How far an event is trusted, and whether all that decided was confirmed.
///
/// `proves_ref`: the event could not be if somebody had not been let change the ref (push, tag push, release).
pub fn judge(code: Code, who: Who, proves_ref: ProvesRef) -> (Trust, bool) {
    let member = |who: Who| match who {
        Who::User {
            access: Some(access),
            ..
        } if access >= DEVELOPER => (Trust::Member, true),
        Who::User {
            access: Some(_), ..
        } => (Trust::Untrusted, true),
        Who::Gitlab => (Trust::Member, true),
        Who::User { access: None, .. } | Who::Unknown => (Trust::Untrusted, false),
    };
    match (code, who, proves_ref) {
        (Code::Foreign, ..) => (Trust::Untrusted, true),
        (Code::Unconfirmed, ..) => (Trust::Untrusted, false),
        (Code::Protected, _, ProvesRef::Yes) => (Trust::Protected, true),
        (
            Code::Protected,
            Who::User {
                access: Some(access),
                may_change_ref: true,
            },
            ProvesRef::No,
        ) if access >= DEVELOPER => (Trust::Protected, true),
        (Code::Protected | Code::Own | Code::None, who, _) => member(who),
    }
}

/// Whether the event could be if nobody had been let change the ref.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProvesRef {
    /// It could not: a push, a tag push, a release.
    Yes,
    /// It could: a comment, a merge request, a pipeline.
    No,
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODES: [Code; 5] = [
        Code::None,
        Code::Foreign,
        Code::Unconfirmed,
        Code::Own,
        Code::Protected,
    ];

    fn user(access: u32, may_change_ref: bool) -> Who {
        Who::User {
            access: Some(access),
            may_change_ref,
        }
    }

    fn everybody() -> Vec<Who> {
        let mut all = vec![Who::Gitlab, Who::Unknown];
        for may_change_ref in [false, true] {
            all.push(Who::User {
                access: None,
                may_change_ref,
            });
            all.extend([0, 10, 15, 20, 30, 40, 50].map(|access| user(access, may_change_ref)));
        }
        all
    }

    #[test]
    fn a_fork_is_never_trusted_whoever_acts() {
        for who in everybody() {
            for proves in [ProvesRef::Yes, ProvesRef::No] {
                assert_eq!(judge(Code::Foreign, who, proves), (Trust::Untrusted, true));
            }
        }
    }

    #[test]
    fn what_is_not_where_it_should_be_is_never_trusted() {
        for who in everybody() {
            for proves in [ProvesRef::Yes, ProvesRef::No] {
                assert_eq!(
                    judge(Code::Unconfirmed, who, proves),
                    (Trust::Untrusted, false)
                );
            }
        }
    }

    #[test]
    fn a_push_to_a_protected_ref_proves_itself() {
        for who in everybody() {
            assert_eq!(
                judge(Code::Protected, who, ProvesRef::Yes),
                (Trust::Protected, true)
            );
        }
    }

    #[test]
    fn a_comment_about_a_protected_ref_needs_somebody_whom_the_ref_lets() {
        let found = |who| judge(Code::Protected, who, ProvesRef::No);
        assert_eq!(found(user(40, true)), (Trust::Protected, true));
        assert_eq!(found(user(30, true)), (Trust::Protected, true));
        assert_eq!(found(user(30, false)), (Trust::Member, true));
        assert_eq!(found(user(50, false)), (Trust::Member, true));
        assert_eq!(found(user(20, true)), (Trust::Untrusted, true));
        assert_eq!(found(Who::Unknown), (Trust::Untrusted, false));
    }

    #[test]
    fn code_of_the_project_or_none_at_all_needs_a_developer() {
        for code in [Code::Own, Code::None] {
            for proves in [ProvesRef::Yes, ProvesRef::No] {
                assert_eq!(judge(code, user(30, false), proves), (Trust::Member, true));
                assert_eq!(judge(code, user(50, true), proves), (Trust::Member, true));
                assert_eq!(
                    judge(code, user(20, true), proves),
                    (Trust::Untrusted, true)
                );
                assert_eq!(
                    judge(code, user(0, false), proves),
                    (Trust::Untrusted, true)
                );
                assert_eq!(judge(code, Who::Gitlab, proves), (Trust::Member, true));
            }
        }
    }

    #[test]
    fn who_is_not_known_is_not_trusted_and_not_confirmed() {
        for code in [Code::Own, Code::None] {
            for who in [
                Who::Unknown,
                Who::User {
                    access: None,
                    may_change_ref: true,
                },
            ] {
                assert_eq!(judge(code, who, ProvesRef::No), (Trust::Untrusted, false));
            }
        }
    }

    #[test]
    fn only_protected_code_is_ever_trusted_as_protected() {
        for code in CODES {
            for who in everybody() {
                for proves in [ProvesRef::Yes, ProvesRef::No] {
                    let (trust, confirmed) = judge(code, who, proves);
                    assert!(trust != Trust::Protected || code == Code::Protected);
                    assert!(confirmed || trust == Trust::Untrusted);
                }
            }
        }
    }
}
