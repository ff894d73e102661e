//! What a tenant lets a plugin ask for. Nothing is granted that is not written.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::effect::EffectKind;
use crate::lookup::{Lookup, Source};
use crate::scope::Trust;

/// A part of `gitlab-read`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GitlabRead {
    /// Files and folders of the project.
    Files,
    /// Commits, changed paths and what a source stands for.
    Commits,
    /// Merge requests and their approvals.
    MergeRequests,
    /// Users and their access levels.
    Members,
}

/// A part of `cluster-read`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClusterRead {
    /// Places of the tenant.
    Places,
    /// The plugin's own runs of the project.
    Runs,
}

/// What may be asked for at one level of trust.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Kinds of effects.
    pub effects: BTreeSet<EffectKind>,
    /// Parts of `gitlab-read`.
    pub gitlab_read: BTreeSet<GitlabRead>,
    /// Paths of other projects whose files may be read.
    pub elsewhere: BTreeSet<String>,
    /// Parts of `cluster-read`.
    pub cluster_read: BTreeSet<ClusterRead>,
    /// The raw payload and its headers.
    pub delivery: bool,
    /// Figures of the past.
    pub history: bool,
    /// The plugin's own key-value store.
    pub state: bool,
    /// Hosts that `fetch` may get from.
    pub fetch: BTreeSet<String>,
}

/// What a plugin was granted. `from_fork` can only narrow.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grants {
    /// For events of the project's own members and of protected refs.
    pub base: Grant,
    /// For events that count as a fork; what `base` does not have is not granted by it either.
    pub from_fork: Grant,
}

impl Grants {
    /// The grant that holds at this trust.
    pub fn at(&self, trust: Trust) -> Grant {
        match trust {
            Trust::Member | Trust::Protected => self.base.clone(),
            Trust::Untrusted => self.base.meet(&self.from_fork),
        }
    }
}

impl Grant {
    /// What both grant.
    pub fn meet(&self, other: &Self) -> Self {
        fn both<T: Clone + Ord>(a: &BTreeSet<T>, b: &BTreeSet<T>) -> BTreeSet<T> {
            a.intersection(b).cloned().collect()
        }
        Self {
            effects: both(&self.effects, &other.effects),
            gitlab_read: both(&self.gitlab_read, &other.gitlab_read),
            elsewhere: both(&self.elsewhere, &other.elsewhere),
            cluster_read: both(&self.cluster_read, &other.cluster_read),
            delivery: self.delivery && other.delivery,
            history: self.history && other.history,
            state: self.state && other.state,
            fetch: both(&self.fetch, &other.fetch),
        }
    }

    /// An import of the contract by its short name, such as `gitlab-read`, has any grant at all. `log` and `config` are always there.
    pub fn covers_import(&self, interface: &str) -> bool {
        match interface {
            "log" | "config" | "types" | "events" | "effects" => true,
            "delivery" => self.delivery,
            "gitlab-read" => !self.gitlab_read.is_empty() || !self.elsewhere.is_empty(),
            "cluster-read" => !self.cluster_read.is_empty(),
            "history" => self.history,
            "fetch" => !self.fetch.is_empty(),
            "state" => self.state,
            _ => false,
        }
    }

    /// Whether the lookup is granted; if not, the words that name what is missing, for the plugin and the operator.
    pub fn allows(&self, lookup: &Lookup) -> Result<(), String> {
        let needs = |held: bool, grant: &str| {
            if held {
                Ok(())
            } else {
                Err(format!(
                    "the plugin has no grant `{grant}` for events of this trust"
                ))
            }
        };
        let gitlab = |part: GitlabRead, word: &str| {
            needs(
                self.gitlab_read.contains(&part),
                &format!("gitlab-read: [{word}]"),
            )
        };
        match lookup {
            Lookup::Payload | Lookup::PayloadAt(_) | Lookup::Headers => {
                needs(self.delivery, "delivery: true")
            }
            Lookup::Folder {
                source: Source::Elsewhere { project, .. },
                ..
            }
            | Lookup::Files {
                source: Source::Elsewhere { project, .. },
                ..
            }
            | Lookup::Resolve(Source::Elsewhere { project, .. }) => needs(
                self.elsewhere.contains(project),
                &format!("elsewhere: [{project}]"),
            ),
            Lookup::Folder { .. } | Lookup::Files { .. } => gitlab(GitlabRead::Files, "files"),
            Lookup::Resolve(_) | Lookup::FindCommit(_) | Lookup::ChangedPaths => {
                gitlab(GitlabRead::Commits, "commits")
            }
            Lookup::FindMergeRequest(_)
            | Lookup::OpenMergeRequests(_)
            | Lookup::MergeRequestApprovals(_) => {
                gitlab(GitlabRead::MergeRequests, "merge-requests")
            }
            Lookup::FindUser(_) | Lookup::Access(_) | Lookup::GroupAccess { .. } => {
                gitlab(GitlabRead::Members, "members")
            }
            Lookup::Places => needs(
                self.cluster_read.contains(&ClusterRead::Places),
                "cluster-read: [places]",
            ),
            Lookup::Runs { .. } => needs(
                self.cluster_read.contains(&ClusterRead::Runs),
                "cluster-read: [runs]",
            ),
            Lookup::History { .. } => needs(self.history, "history: true"),
            Lookup::Fetch(url) => {
                let host = url_host(url).ok_or_else(|| {
                    "only `https://` addresses without a user name can be fetched".to_owned()
                })?;
                needs(self.fetch.contains(host), &format!("fetch: [{host}]"))
            }
            Lookup::StateGet(_)
            | Lookup::StatePut(_)
            | Lookup::StateDelete(_)
            | Lookup::StateKeys { .. } => needs(self.state, "state: true"),
        }
    }
}

/// Host and port of an `https` address, as the grant must name it.
fn url_host(url: &str) -> Option<&str> {
    let rest = url.strip_prefix("https://")?;
    let authority = rest.split(['/', '?', '#', '\\']).next()?;
    let plain = !authority.is_empty() && !authority.contains(['@', '%', ' ']);
    plain.then_some(authority)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_grant_allows_nothing() {
        let grant = Grant::default();
        for lookup in [
            Lookup::Payload,
            Lookup::Places,
            Lookup::ChangedPaths,
            Lookup::StateGet("k".into()),
        ] {
            assert!(grant.allows(&lookup).is_err(), "{lookup:?}");
        }
        assert!(!grant.covers_import("gitlab-read"));
        assert!(!grant.covers_import("an-interface-of-tomorrow"));
        assert!(grant.covers_import("log"));
    }

    #[test]
    fn a_fork_never_gets_what_the_base_has_not() {
        let grants = Grants {
            base: Grant {
                effects: [EffectKind::Comment].into(),
                ..Grant::default()
            },
            from_fork: Grant {
                effects: [EffectKind::Comment, EffectKind::StartRun].into(),
                state: true,
                ..Grant::default()
            },
        };
        let grant = grants.at(Trust::Untrusted);
        assert_eq!(grant.effects, [EffectKind::Comment].into());
        assert!(!grant.state);
    }

    #[test]
    fn a_host_is_not_read_out_of_a_user_name_or_a_path() {
        let grant = Grant {
            fetch: ["hub.example.com".to_owned()].into(),
            ..Grant::default()
        };
        let ask = |url: &str| grant.allows(&Lookup::Fetch(url.to_owned()));
        assert!(ask("https://hub.example.com/a").is_ok());
        for url in [
            "http://hub.example.com/a",
            "https://hub.example.com@evil.example/a",
            "https://evil.example/?hub.example.com",
            "https://evil.example\\hub.example.com",
            "https://hub.example.com.evil.example/",
            "https:///hub.example.com",
        ] {
            assert!(ask(url).is_err(), "{url}");
        }
    }

    #[test]
    fn reading_another_project_needs_a_grant_that_names_it() {
        let grant = Grant {
            gitlab_read: [GitlabRead::Files].into(),
            ..Grant::default()
        };
        let source = Source::Elsewhere {
            project: "acme/other".into(),
            revision: "main".into(),
        };
        assert!(
            grant
                .allows(&Lookup::Folder {
                    source,
                    path: ".tekton".into()
                })
                .is_err()
        );
        assert!(
            grant
                .allows(&Lookup::Folder {
                    source: Source::Event,
                    path: ".tekton".into()
                })
                .is_ok()
        );
    }
}
