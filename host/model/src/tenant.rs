//! Whose project it is, and where its runs may live.
//!
//! A tenant matches projects by a pattern over the whole path. The most exact pattern wins; two that are equally exact are refused, never drawn.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::id::{ClusterName, PlaceName, TenantName};
use crate::pattern::{Captures, Pattern};
use crate::scope::Trust;

/// Which provenance may use a place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum When {
    /// Members' branches, tags and merge requests, and protected refs.
    #[default]
    Member,
    /// Protected refs alone.
    Protected,
    /// Forks and what could not be confirmed, alone.
    Fork,
}

impl When {
    /// An event of this trust may use the place.
    pub fn allows(self, trust: Trust) -> bool {
        match self {
            Self::Member => matches!(trust, Trust::Member | Trust::Protected),
            Self::Protected => trust == Trust::Protected,
            Self::Fork => trust == Trust::Untrusted,
        }
    }
}

/// Who can see a project in GitLab; later ones are seen by more people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Visibility {
    /// Its members alone.
    Private,
    /// Everybody with an account.
    Internal,
    /// Everybody.
    Public,
}

impl Visibility {
    /// GitLab's word. None: a word that GitLab does not use.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "private" => Some(Self::Private),
            "internal" => Some(Self::Internal),
            "public" => Some(Self::Public),
            _ => None,
        }
    }
}

/// What a place lets a run have beyond the plain: nothing, unless the operator writes it. A place for forks has no pod templates, Secrets, existing
/// claims, host paths, CSI drivers, tokens, resolvers, security contexts that widen, labels and annotations of its own, or accounts of their own, whatever stands here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct PlacePolicy {
    /// `podTemplate` of the run and of its tasks may be set.
    pub pod_template: bool,
    /// Names of Secrets that volumes, workspaces, environment and parameters of steps may name; `*` within a name stands for any characters.
    pub secrets: Vec<String>,
    /// Names of ConfigMaps, likewise. None: all of them, and none at all in a place for forks.
    pub config_maps: Option<Vec<String>>,
    /// Names of PersistentVolumeClaims that may be mounted, likewise. None: all of them. `volumeClaimTemplate` and `emptyDir` need nothing.
    pub volume_claims: Option<Vec<String>>,
    /// Paths of the host that may be mounted, each with all below it.
    pub host_paths: Vec<String>,
    /// CSI drivers that may be used.
    pub csi_drivers: Vec<String>,
    /// Audiences of projected service account tokens.
    pub token_audiences: Vec<String>,
    /// Remote resolvers that may be used: `git`, `bundles`, `hub`, `http`, `cluster`. What they fetch is not judged: who allows one trusts what it reaches.
    pub resolvers: Vec<String>,
    /// Images that steps and sidecars may use, as patterns such as `registry.example.com/ci/**`. None: all.
    pub images: Option<Vec<String>>,
    /// Steps and sidecars may be privileged, or set other security contexts.
    pub security_context: bool,
    /// Greatest `timeouts.pipeline`, in seconds; a run without one gets this. None: Tekton's own default holds.
    pub timeout: Option<u64>,
    /// Greatest number of finished runs of a pipeline that a run may ask to `keep`; a run that asks for none gets this. None: as many as it asks for.
    pub keep_runs: Option<u32>,
    /// `serviceAccountName` of a task, beside `run-as`.
    pub service_accounts: Vec<String>,
    /// Keys of labels that a manifest may set, of the run, its tasks and claims; `*` stands for any characters but `/`, `**` for any. Tekton copies them to
    /// pods, where controllers, Services and network policies go by them.
    pub labels: Vec<String>,
    /// Keys of annotations, likewise.
    pub annotations: Vec<String>,
    /// A run may ask for credentials that clone its project.
    #[serde(default)]
    pub clone: bool,
    /// The end of a failed step's log is shown for projects that are seen by no more people than this. None: no log is read.
    pub log_excerpts: Option<Visibility>,
}

/// A place as the configuration writes it: its names may hold the tenant's variables.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaceTemplate {
    /// The cluster.
    pub cluster: ClusterName,
    /// The namespace, such as `ci-{team}`.
    pub namespace: String,
    /// The account that creates runs.
    pub creator: String,
    /// The account that pods of a run get.
    pub run_as: String,
    /// Which provenance may use it.
    pub when: When,
    /// What a run may have.
    pub policy: PlacePolicy,
}

/// A place of a tenant, its variables filled in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Its name in the tenant.
    pub name: PlaceName,
    /// The cluster.
    pub cluster: ClusterName,
    /// The namespace.
    pub namespace: String,
    /// The account that creates runs.
    pub creator: String,
    /// The account that pods of a run get.
    pub run_as: String,
    /// Which provenance may use it.
    pub when: When,
    /// What a run may have.
    pub policy: PlacePolicy,
}

/// A tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tenant {
    /// Which projects are its own.
    pub pattern: Pattern,
    /// Where runs may live.
    pub places: BTreeMap<PlaceName, PlaceTemplate>,
}

impl Tenant {
    /// The tenant's name: its pattern.
    pub fn name(&self) -> TenantName {
        TenantName::new(self.pattern.as_str())
    }

    /// Its places for one project's path, variables filled in.
    ///
    /// # Errors
    /// A name that is no DNS label after the variables were filled in.
    pub fn places(&self, captures: &Captures) -> Result<Vec<Place>, PlaceError> {
        self.places
            .iter()
            .map(|(name, template)| template.fill(name, captures))
            .collect()
    }
}

/// Why a place can't be used for a project.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    /// A variable that the tenant's pattern does not have.
    #[error(
        "place `{place}` names the variable `{{{variable}}}`, which the tenant's pattern does not have"
    )]
    UnknownVariable {
        /// The place.
        place: PlaceName,
        /// The variable.
        variable: String,
    },
    /// No DNS label.
    #[error(
        "place `{place}`: `{value}` is no name that Kubernetes accepts (lower-case letters, digits and `-`, at most 63); write a place of its own for this project"
    )]
    NoName {
        /// The place.
        place: PlaceName,
        /// What came out.
        value: String,
    },
}

impl PlaceTemplate {
    fn fill(&self, name: &PlaceName, captures: &Captures) -> Result<Place, PlaceError> {
        let fill = |template: &str| fill(name, template, captures);
        Ok(Place {
            name: name.clone(),
            cluster: self.cluster.clone(),
            namespace: fill(&self.namespace)?,
            creator: fill(&self.creator)?,
            run_as: fill(&self.run_as)?,
            when: self.when,
            policy: self.policy.clone(),
        })
    }
}

/// Fills variables in. A value is never changed to fit: two teams whose paths differ must never meet in one namespace.
fn fill(place: &PlaceName, template: &str, captures: &Captures) -> Result<String, PlaceError> {
    let mut value = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        let (variable, tail) = after.split_once('}').unwrap_or((after, ""));
        let stood_for = captures
            .get(variable)
            .ok_or_else(|| PlaceError::UnknownVariable {
                place: place.clone(),
                variable: variable.to_owned(),
            })?;
        value.push_str(before);
        value.push_str(stood_for);
        rest = tail;
    }
    value.push_str(rest);
    if is_dns_label(&value) {
        Ok(value)
    } else {
        Err(PlaceError::NoName {
            place: place.clone(),
            value,
        })
    }
}

/// RFC 1123: lower-case letters, digits and `-`, at most 63, beginning and ending with a letter or digit.
pub fn is_dns_label(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&text.len())
        && text.bytes().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// Whose project it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Belonging<'a> {
    /// The tenant.
    pub tenant: &'a Tenant,
    /// What its variables stand for.
    pub captures: Captures,
}

/// Why no tenant is found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoTenant {
    /// None matches.
    #[error("no tenant matches `{path}`: add one with `match:` to the configuration")]
    Unmatched {
        /// The project's or group's path.
        path: String,
    },
    /// Two match equally well.
    #[error(
        "`{path}` belongs to the tenants `{one}` and `{other}` alike: make one of the patterns more exact"
    )]
    Ambiguous {
        /// The project's or group's path.
        path: String,
        /// A tenant.
        one: TenantName,
        /// Another.
        other: TenantName,
    },
}

/// Finds the tenant of a project or group: the most exact pattern over its whole path wins.
///
/// # Errors
/// None matches, or two do equally well.
pub fn belonging<'a>(
    tenants: impl IntoIterator<Item = &'a Tenant>,
    path: &str,
) -> Result<Belonging<'a>, NoTenant> {
    let mut best: Option<Belonging<'a>> = None;
    let mut rival: Option<&'a Tenant> = None;
    for tenant in tenants {
        let Some(captures) = tenant.pattern.matches(path) else {
            continue;
        };
        let exactness = tenant.pattern.exactness();
        match best.as_ref().map(|held| held.tenant.pattern.exactness()) {
            Some(held) if held > exactness => {}
            Some(held) if held == exactness => rival = Some(tenant),
            _ => {
                best = Some(Belonging { tenant, captures });
                rival = None;
            }
        }
    }
    match (best, rival) {
        (None, _) => Err(NoTenant::Unmatched {
            path: path.to_owned(),
        }),
        (Some(best), Some(rival)) => Err(NoTenant::Ambiguous {
            path: path.to_owned(),
            one: best.tenant.name(),
            other: rival.name(),
        }),
        (Some(best), None) => Ok(best),
    }
}

/// Why no place fits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoPlace {
    /// The plugin named one that the tenant hasn't.
    #[error("the tenant has no place `{name}`; it has {known}")]
    Unknown {
        /// What was named.
        name: PlaceName,
        /// What there is.
        known: String,
    },
    /// The named place does not take events of this trust.
    #[error("place `{name}` does not take events that are {trust}", trust = trust.as_str())]
    NotAllowed {
        /// What was named.
        name: PlaceName,
        /// The event's trust.
        trust: Trust,
    },
    /// No place takes events of this trust.
    #[error("no place of the tenant takes events that are {trust}; it has {known}", trust = trust.as_str())]
    NoneFits {
        /// The event's trust.
        trust: Trust,
        /// What there is.
        known: String,
    },
    /// Several fit equally well.
    #[error("the places {fitting} all take events that are {trust}: let the plugin name one", trust = trust.as_str())]
    Several {
        /// The event's trust.
        trust: Trust,
        /// Which.
        fitting: String,
    },
}

/// Chooses a place: the named one if the trust allows it; else the one that fits, one for protected refs alone before a general one.
///
/// # Errors
/// None, or several, fit.
pub fn choose_place<'a>(
    places: &'a [Place],
    named: Option<&PlaceName>,
    trust: Trust,
) -> Result<&'a Place, NoPlace> {
    let list = |places: &mut dyn Iterator<Item = &Place>| {
        let names: Vec<String> = places.map(|place| format!("`{}`", place.name)).collect();
        if names.is_empty() {
            "none".to_owned()
        } else {
            names.join(", ")
        }
    };
    if let Some(name) = named {
        let place = places
            .iter()
            .find(|place| place.name == *name)
            .ok_or_else(|| NoPlace::Unknown {
                name: name.clone(),
                known: list(&mut places.iter()),
            })?;
        return if place.when.allows(trust) {
            Ok(place)
        } else {
            Err(NoPlace::NotAllowed {
                name: name.clone(),
                trust,
            })
        };
    }
    let fitting: Vec<&Place> = places
        .iter()
        .filter(|place| place.when.allows(trust))
        .collect();
    let exact: Vec<&Place> = fitting
        .iter()
        .copied()
        .filter(|place| place.when != When::Member)
        .collect();
    let candidates = if exact.is_empty() { fitting } else { exact };
    match candidates.as_slice() {
        [] => Err(NoPlace::NoneFits {
            trust,
            known: list(&mut places.iter()),
        }),
        [one] => Ok(one),
        several => Err(NoPlace::Several {
            trust,
            fitting: list(&mut several.iter().copied()),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(pattern: &str, namespace: &str) -> Tenant {
        let template = PlaceTemplate {
            cluster: "prod".into(),
            namespace: namespace.to_owned(),
            creator: "penstock".to_owned(),
            run_as: "ci".to_owned(),
            when: When::Member,
            policy: PlacePolicy::default(),
        };
        Tenant {
            pattern: Pattern::parse(pattern).unwrap(),
            places: [("ci".into(), template)].into(),
        }
    }

    fn place(name: &str, when: When) -> Place {
        Place {
            name: name.into(),
            cluster: "prod".into(),
            namespace: "ns".into(),
            creator: "penstock".into(),
            run_as: "ci".into(),
            when,
            policy: PlacePolicy::default(),
        }
    }

    #[test]
    fn the_most_exact_tenant_wins_in_any_order() {
        let general = tenant("acme/**", "ci");
        let exact = tenant("acme/payments/**", "ci");
        for tenants in [[&general, &exact], [&exact, &general]] {
            let found = belonging(tenants, "acme/payments/api").unwrap();
            assert_eq!(found.tenant.name().as_str(), "acme/payments/**");
        }
    }

    #[test]
    fn two_tenants_that_match_equally_are_refused() {
        let (one, other) = (tenant("acme/{a}/**", "ci"), tenant("acme/{b}/**", "ci"));
        assert!(matches!(
            belonging([&one, &other], "acme/x/y"),
            Err(NoTenant::Ambiguous { .. })
        ));
        let exact = tenant("acme/x/**", "ci");
        assert!(belonging([&one, &other, &exact], "acme/x/y").is_ok());
    }

    #[test]
    fn a_name_that_kubernetes_refuses_is_never_bent_to_fit() {
        let tenant = tenant("acme/{team}/**", "ci-{team}");
        let places = |path: &str| tenant.places(&tenant.pattern.matches(path).unwrap());
        assert_eq!(places("acme/pay/api").unwrap()[0].namespace, "ci-pay");
        assert!(matches!(
            places("acme/pay_ments/api"),
            Err(PlaceError::NoName { .. })
        ));
        assert!(matches!(
            places("acme/Pay/api"),
            Err(PlaceError::NoName { .. })
        ));
    }

    #[test]
    fn a_fork_finds_only_a_place_for_forks() {
        let places = [place("ci", When::Member), place("release", When::Protected)];
        assert!(matches!(
            choose_place(&places, None, Trust::Untrusted),
            Err(NoPlace::NoneFits { .. })
        ));
        assert!(matches!(
            choose_place(&places, Some(&"ci".into()), Trust::Untrusted),
            Err(NoPlace::NotAllowed { .. })
        ));
        let places = [place("ci", When::Member), place("forks", When::Fork)];
        let found = choose_place(&places, None, Trust::Untrusted).unwrap();
        assert_eq!(found.name.as_str(), "forks");
    }

    #[test]
    fn a_protected_ref_prefers_its_own_place_and_a_member_never_gets_it() {
        let places = [place("ci", When::Member), place("release", When::Protected)];
        let found = |trust| choose_place(&places, None, trust).unwrap().name.to_string();
        assert_eq!(found(Trust::Protected), "release");
        assert_eq!(found(Trust::Member), "ci");
    }

    #[test]
    fn several_places_that_fit_are_not_drawn_from() {
        let places = [place("a", When::Member), place("b", When::Member)];
        assert!(matches!(
            choose_place(&places, None, Trust::Member),
            Err(NoPlace::Several { .. })
        ));
        assert!(choose_place(&places, Some(&"b".into()), Trust::Member).is_ok());
    }
}
