//! How much may go on at a time: limits on runs in flight and on creations a second.
//!
//! A run belongs to a scope of each kind: its cluster, place, tenant, project and pipeline. It is created while each of them has
//! room. Who counts is the store; this says what is counted and what the limits are.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::admit::RunOrder;
use crate::id::{ClusterName, InstanceName, PlaceName, ProjectId, TenantName};

/// What one scope may have. None: no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limit {
    /// Runs that were begun and have not ended.
    pub in_flight: Option<u32>,
    /// Runs created in a second; as many may come at once.
    pub per_second: Option<u32>,
}

impl Limit {
    /// Nothing is limited.
    pub fn is_lifted(self) -> bool {
        self == Self::default()
    }
}

/// The limits of all scopes: for each kind one that holds unless a scope has its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowLimits {
    /// Of each cluster.
    pub cluster: Limit,
    /// Of each place: by cluster, namespace and the place's name.
    pub place: Limit,
    /// Of each tenant.
    pub tenant: Limit,
    /// Of each project.
    pub project: Limit,
    /// Of each pipeline of a project.
    pub pipeline: Limit,
    /// Clusters with limits of their own.
    pub clusters: BTreeMap<ClusterName, Limit>,
    /// Tenants with limits of their own.
    pub tenants: BTreeMap<TenantName, Limit>,
    /// Places with limits of their own.
    pub places: BTreeMap<(TenantName, PlaceName), Limit>,
}

impl Default for FlowLimits {
    /// What holds if nothing is written: no tenant can fill a cluster, no project a tenant, no pipeline a project.
    fn default() -> Self {
        let limit = |in_flight, per_second| Limit {
            in_flight: Some(in_flight),
            per_second,
        };
        Self {
            cluster: limit(500, Some(20)),
            place: limit(250, None),
            tenant: limit(250, Some(10)),
            project: limit(100, Some(5)),
            pipeline: limit(50, None),
            clusters: BTreeMap::new(),
            tenants: BTreeMap::new(),
            places: BTreeMap::new(),
        }
    }
}

impl FlowLimits {
    /// No limits at all.
    pub fn lifted() -> Self {
        Self {
            cluster: Limit::default(),
            place: Limit::default(),
            tenant: Limit::default(),
            project: Limit::default(),
            pipeline: Limit::default(),
            clusters: BTreeMap::new(),
            tenants: BTreeMap::new(),
            places: BTreeMap::new(),
        }
    }

    /// The limits of the scopes that a run belongs to, the widest first.
    pub fn of(&self, run: &Flow) -> [(Scope, Limit); 5] {
        let own = |found: Option<&Limit>, general| found.copied().unwrap_or(general);
        let place = (run.tenant.clone(), run.place.clone());
        [
            (
                run.scope(Kind::Cluster),
                own(self.clusters.get(&run.cluster), self.cluster),
            ),
            (
                run.scope(Kind::Tenant),
                own(self.tenants.get(&run.tenant), self.tenant),
            ),
            (
                run.scope(Kind::Place),
                own(self.places.get(&place), self.place),
            ),
            (run.scope(Kind::Project), self.project),
            (run.scope(Kind::Pipeline), self.pipeline),
        ]
    }
}

/// Where a run is counted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Flow {
    /// Its cluster.
    pub cluster: ClusterName,
    /// Its tenant.
    pub tenant: TenantName,
    /// Its place.
    pub place: PlaceName,
    /// The place's namespace for its project.
    pub namespace: String,
    /// The GitLab instance.
    pub instance: InstanceName,
    /// The project.
    pub project: ProjectId,
    /// What kind of run it is in the project.
    pub pipeline: String,
    /// The project's queue that it asked for.
    pub queue: Option<String>,
}

impl From<&RunOrder> for Flow {
    fn from(run: &RunOrder) -> Self {
        Self {
            cluster: run.cluster.clone(),
            tenant: run.of.tenant.clone(),
            place: run.place.clone(),
            namespace: run.namespace.clone(),
            instance: run.of.instance.clone(),
            project: run.of.project,
            pipeline: run.pipeline.clone(),
            queue: run.queue.as_ref().map(|queue| queue.name.clone()),
        }
    }
}

/// A kind of scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A cluster.
    Cluster,
    /// A tenant.
    Tenant,
    /// A place.
    Place,
    /// A project.
    Project,
    /// A pipeline of a project.
    Pipeline,
    /// A queue of a project.
    Queue,
}

impl Kind {
    /// The word for people and for the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::Tenant => "tenant",
            Self::Place => "place",
            Self::Project => "project",
            Self::Pipeline => "pipeline",
            Self::Queue => "queue",
        }
    }
}

/// Something that runs are counted in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scope {
    /// Which kind.
    pub kind: Kind,
    /// Which of them: names that are joined so that two are never the same text.
    pub name: String,
}

impl fmt::Display for Scope {
    /// Such as `tenant acme/**`; the store's key too.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.as_str(), self.name)
    }
}

impl Flow {
    /// The project as the store counts it.
    pub fn project_key(&self) -> String {
        format!("{}/{}", self.instance, self.project)
    }

    /// The place as the store counts it, beside its tenant.
    pub fn place_key(&self) -> String {
        format!("{}/{}/{}", self.cluster, self.namespace, self.place)
    }

    /// The scope of this kind that the run belongs to.
    pub fn scope(&self, kind: Kind) -> Scope {
        let name = match kind {
            Kind::Cluster => self.cluster.to_string(),
            Kind::Tenant => self.tenant.to_string(),
            Kind::Place => format!("{} of {}", self.place_key(), self.tenant),
            Kind::Project => self.project_key(),
            Kind::Pipeline => format!("{}/{}", self.project_key(), self.pipeline),
            Kind::Queue => format!(
                "{}/{}",
                self.project_key(),
                self.queue.as_deref().unwrap_or_default()
            ),
        };
        Scope { kind, name }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(tenant: &str, pipeline: &str) -> Flow {
        Flow {
            cluster: "prod".into(),
            tenant: tenant.into(),
            place: "ci".into(),
            namespace: "ci-acme".to_owned(),
            instance: "main".into(),
            project: ProjectId(17),
            pipeline: pipeline.to_owned(),
            queue: None,
        }
    }

    #[test]
    fn a_scope_of_its_own_goes_before_the_general_one() {
        let mut limits = FlowLimits::default();
        let own = Limit {
            in_flight: Some(3),
            per_second: None,
        };
        limits.tenants.insert("acme/**".into(), own);
        limits
            .places
            .insert(("acme/**".into(), "ci".into()), Limit::default());
        let found: BTreeMap<Kind, Limit> = limits
            .of(&flow("acme/**", "build"))
            .into_iter()
            .map(|(scope, limit)| (scope.kind, limit))
            .collect();
        assert_eq!(found[&Kind::Tenant], own);
        assert!(found[&Kind::Place].is_lifted());
        assert_eq!(found[&Kind::Cluster], limits.cluster);
        let others = limits.of(&flow("other/**", "build"));
        assert!(
            others
                .iter()
                .all(|(_, limit)| *limit != own && !limit.is_lifted())
        );
    }

    #[test]
    fn nobody_can_take_all_of_what_is_wider_by_default() {
        let limits = FlowLimits::default();
        let wide = [
            limits.cluster,
            limits.tenant,
            limits.project,
            limits.pipeline,
        ];
        for pair in wide.windows(2) {
            assert!(pair[1].in_flight < pair[0].in_flight, "{pair:?}");
        }
    }

    #[test]
    fn lifted_means_all() {
        let limits = FlowLimits::lifted();
        assert!(
            limits
                .of(&flow("a", "b"))
                .iter()
                .all(|(_, limit)| limit.is_lifted())
        );
    }
}
