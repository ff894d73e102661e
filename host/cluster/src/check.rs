//! Whether a cluster and a place are as they should be. Asks the API server's own authorizer and changes nothing.

use futures_util::future::join_all;
use penstock_model::tenant::Place;

use crate::{
    Cluster,
    create::creator_remedy,
    left_over::task_runs_remedy,
    log::logs_remedy,
    names::TEKTON,
    observe::Call,
    read::{HOST_REMEDY, ReadError},
    review::{Act, NoReview},
    secret::secrets_remedy,
    status::text,
    token::{Account, TokenError},
    wire::Ask,
};

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What should hold, in a sentence.
    pub what: String,
    /// Whether it does.
    pub verdict: Verdict,
    /// What was found; may be empty.
    pub detail: String,
    /// What to do about it.
    pub remedy: Option<String>,
}

/// Whether something holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It does.
    Good,
    /// It works, but somebody may do more than is needed.
    Weak,
    /// It does not.
    Bad,
    /// It can't be shown from here.
    Unknown,
}

impl Check {
    /// Nothing is known to stand in the way.
    pub fn ok(&self) -> bool {
        self.verdict != Verdict::Bad
    }

    fn new(what: impl Into<String>, verdict: Verdict, detail: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            verdict,
            detail: detail.into(),
            remedy: None,
        }
    }

    fn with_remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }
}

/// What a creator needs.
const CREATOR_NEEDS: [Act<'static>; 3] = [
    Act::tekton("create", "pipelineruns"),
    Act::tekton("get", "pipelineruns"),
    Act::tekton("patch", "pipelineruns"),
];
/// What a creator needs where runs clone, beside that.
const CLONING_NEEDS: [Act<'static>; 2] = [
    Act::core("create", "secrets"),
    Act::core("delete", "secrets"),
];
/// What a creator needs to stop what Tekton left behind.
const STOP_NEEDS: [Act<'static>; 1] = [Act::tekton("patch", "taskruns")];
/// What a creator needs where finished runs are deleted.
const KEEPING_NEEDS: [Act<'static>; 1] = [Act::tekton("delete", "pipelineruns")];
/// What a creator needs where logs are shown.
const LOG_NEEDS: [Act<'static>; 1] = [Act::core_sub("get", "pods", "log")];
/// What a creator has no use for: each of these reaches past what `admit` allows.
const CREATOR_EXCESS: [Act<'static>; 3] = [
    Act::core("create", "pods"),
    Act::core("get", "secrets"),
    Act::tekton("create", "taskruns"),
];
/// What would let a pod start runs or change them.
const RUN_AS_NEVER: [Act<'static>; 7] = [
    Act::tekton("create", "pipelineruns"),
    Act::tekton("update", "pipelineruns"),
    Act::tekton("patch", "pipelineruns"),
    Act::tekton("delete", "pipelineruns"),
    Act::tekton("create", "taskruns"),
    Act::tekton("create", "customruns"),
    Act::core("create", "pods"),
];

impl Cluster {
    /// Whether the API server answers, has Tekton, and lets the host watch runs.
    pub async fn check_cluster(&self) -> Vec<Check> {
        let mut checks = Vec::new();
        let what = format!("cluster `{}` answers", self.name);
        match self
            .read(Ask::get(Call::Discover, "/version".to_owned()))
            .await
        {
            Ok(version) => {
                let version = version.unwrap_or_default();
                let version = text(&version, "gitVersion").unwrap_or("of an unknown version");
                checks.push(Check::new(
                    what,
                    Verdict::Good,
                    format!("Kubernetes {version}"),
                ));
            }
            Err(error) => {
                checks.push(Check::new(what, Verdict::Bad, error.to_string()).with_remedy(
                    "see that the kubeconfig names the right server and that it can be reached from here",
                ));
                return checks;
            }
        }
        checks.push(self.check_tekton().await);
        let reads = [
            Act::tekton("list", "pipelineruns"),
            Act::tekton("watch", "pipelineruns"),
            Act::tekton("list", "taskruns"),
        ];
        checks.extend(join_all(reads.iter().map(|act| self.check_host_reads(act))).await);
        let what = "the host itself can't create runs";
        checks.push(match self.host_may(&Act::tekton("create", "pipelineruns"), "").await {
            Ok(false) => Check::new(what, Verdict::Good, ""),
            Ok(true) => Check::new(what, Verdict::Weak, "its account may create PipelineRuns in any namespace").with_remedy(
                "give the host an account with the rights of examples/cluster/penstock.yaml alone: a run is created with its place's own account",
            ),
            Err(error) => Check::new(what, Verdict::Unknown, error.to_string()),
        });
        checks
    }

    async fn check_tekton(&self) -> Check {
        let what = "Tekton Pipelines is installed";
        let install = "install Tekton Pipelines, with the API `tekton.dev/v1`";
        let resources = match self.read(Ask::get(Call::Discover, TEKTON.to_owned())).await {
            Ok(resources) => resources,
            Err(error) => return Check::new(what, Verdict::Unknown, error.to_string()),
        };
        let has = |name: &str| {
            let list = resources
                .as_ref()
                .and_then(|list| list.get("resources")?.as_array());
            list.into_iter()
                .flatten()
                .any(|resource| text(resource, "name") == Some(name))
        };
        if !has("pipelineruns") || !has("taskruns") {
            return Check::new(
                what,
                Verdict::Bad,
                "the API server knows no `tekton.dev/v1`",
            )
            .with_remedy(install);
        }
        // Tekton lets everybody read this one.
        let info = "/api/v1/namespaces/tekton-pipelines/configmaps/pipelines-info".to_owned();
        let version = self
            .read(Ask::get(Call::Discover, info))
            .await
            .ok()
            .flatten();
        let version = version
            .as_ref()
            .and_then(|info| text(info.get("data")?, "version"));
        Check::new(
            what,
            Verdict::Good,
            version.map_or_else(
                || "tekton.dev/v1".to_owned(),
                |version| format!("Tekton {version}"),
            ),
        )
    }

    async fn check_host_reads(&self, act: &Act<'_>) -> Check {
        let what = format!("the host may {} in all namespaces", act.shown());
        match self.host_may(act, "").await {
            Ok(true) => Check::new(what, Verdict::Good, ""),
            Ok(false) => Check::new(what, Verdict::Bad, "").with_remedy(HOST_REMEDY),
            Err(error) => Check::new(what, Verdict::Unknown, error.to_string()),
        }
    }

    /// Whether runs can be created in a place by its creator, and by nothing that runs there.
    pub async fn check_place(&self, place: &Place) -> Vec<Check> {
        let Place {
            namespace,
            creator,
            run_as,
            ..
        } = place;
        let mut checks = vec![{
            let what = format!(
                "`creator` and `run-as` of place `{}` are two accounts",
                place.name
            );
            if creator == run_as {
                Check::new(
                    what,
                    Verdict::Bad,
                    format!("both are `{creator}`: whatever runs there could start runs"),
                )
                .with_remedy("give the place a `run-as` account of its own, without rights")
            } else {
                Check::new(what, Verdict::Good, "")
            }
        }];
        checks.extend(self.check_creator(namespace, creator).await);
        let remedy = task_runs_remedy(namespace, creator);
        checks.extend(
            self.check_needs(namespace, creator, &STOP_NEEDS, &remedy)
                .await,
        );
        if place.policy.clone {
            let remedy = secrets_remedy(namespace, creator);
            checks.extend(
                self.check_needs(namespace, creator, &CLONING_NEEDS, &remedy)
                    .await,
            );
        }
        if place.policy.keep_runs.is_some() {
            let remedy = format!(
                "grant account `{creator}` in namespace `{namespace}` the rule `apiGroups: [tekton.dev], resources: [pipelineruns], verbs: [create, get, patch, delete]` with a Role and a RoleBinding (examples/cluster/place.yaml has both), or take `keep-runs` off the place: finished runs are deleted with it"
            );
            checks.extend(
                self.check_needs(namespace, creator, &KEEPING_NEEDS, &remedy)
                    .await,
            );
        }
        if place.policy.log_excerpts.is_some() {
            let remedy = logs_remedy(namespace, creator);
            checks.extend(
                self.check_needs(namespace, creator, &LOG_NEEDS, &remedy)
                    .await,
            );
        }
        checks.push(self.check_run_as(namespace, run_as).await);
        checks
    }

    async fn check_creator(&self, namespace: &str, creator: &str) -> Vec<Check> {
        let account = Account {
            namespace: namespace.to_owned(),
            name: creator.to_owned(),
        };
        let what =
            format!("the host gets tokens of account `{creator}` in namespace `{namespace}`");
        let needs = join_all(
            CREATOR_NEEDS
                .iter()
                .map(|act| self.account_may(&account, act)),
        )
        .await;
        let refused = needs.iter().find_map(|may| match may {
            Err(NoReview::Token(error)) => Some(error),
            _ => None,
        });
        if let Some(error) = refused {
            let verdict = match error {
                TokenError::Unavailable { .. } => Verdict::Unknown,
                _ => Verdict::Bad,
            };
            let check = Check::new(what, verdict, error.to_string());
            return vec![match error.remedy() {
                Some(remedy) => check.with_remedy(remedy),
                None => check,
            }];
        }
        let mut checks = vec![Check::new(what, Verdict::Good, "")];
        for (act, may) in CREATOR_NEEDS.iter().zip(needs) {
            let what = format!(
                "account `{creator}` may {} in namespace `{namespace}`",
                act.shown()
            );
            checks.push(match may {
                Ok(true) => Check::new(what, Verdict::Good, ""),
                Ok(false) => Check::new(what, Verdict::Bad, "")
                    .with_remedy(creator_remedy(namespace, creator)),
                Err(error) => Check::new(what, Verdict::Unknown, error.to_string()),
            });
        }
        let excess = join_all(
            CREATOR_EXCESS
                .iter()
                .map(|act| self.account_may(&account, act)),
        )
        .await;
        let what =
            format!("account `{creator}` may do no more than runs in namespace `{namespace}` need");
        checks.push(verdict_of_excess(
            what,
            Verdict::Weak,
            &CREATOR_EXCESS,
            &excess,
            creator,
        ));
        checks
    }

    /// What only some places need.
    async fn check_needs(
        &self,
        namespace: &str,
        creator: &str,
        needs: &[Act<'_>],
        remedy: &str,
    ) -> Vec<Check> {
        let account = Account {
            namespace: namespace.to_owned(),
            name: creator.to_owned(),
        };
        let asked = join_all(needs.iter().map(|act| self.account_may(&account, act))).await;
        let found = needs.iter().zip(asked).map(|(act, may)| {
            let what = format!(
                "account `{creator}` may {} in namespace `{namespace}`",
                act.shown()
            );
            match may {
                Ok(true) => Check::new(what, Verdict::Good, ""),
                Ok(false) => Check::new(what, Verdict::Bad, "").with_remedy(remedy),
                Err(error) => Check::new(what, Verdict::Unknown, error.to_string()),
            }
        });
        found.collect()
    }

    async fn check_run_as(&self, namespace: &str, run_as: &str) -> Check {
        let what =
            format!("account `{run_as}` can't start or change anything in namespace `{namespace}`");
        let asked = join_all(
            RUN_AS_NEVER
                .iter()
                .map(|act| self.other_may(namespace, run_as, act)),
        )
        .await;
        let denied = asked.iter().find_map(|may| match may {
            Err(NoReview::Read(error @ ReadError::Denied { .. })) => Some(error),
            _ => None,
        });
        match denied {
            Some(error) => Check::new(what, Verdict::Unknown, format!("the host may not ask: {error}")).with_remedy(format!(
                "grant the host's account `create` on `subjectaccessreviews` (examples/cluster/penstock.yaml), or ask as an administrator: kubectl auth can-i create pipelineruns --as system:serviceaccount:{namespace}:{run_as} -n {namespace}"
            )),
            None => verdict_of_excess(what, Verdict::Bad, &RUN_AS_NEVER, &asked, run_as),
        }
    }
}

/// Good if none of the acts is allowed.
fn verdict_of_excess(
    what: String,
    verdict: Verdict,
    acts: &[Act<'_>],
    may: &[Result<bool, NoReview>],
    account: &str,
) -> Check {
    let allowed: Vec<String> = acts
        .iter()
        .zip(may)
        .filter(|(_, may)| matches!(may, Ok(true)))
        .map(|(act, _)| act.shown())
        .collect();
    if !allowed.is_empty() {
        return Check::new(what, verdict, format!("it may {}", allowed.join(", "))).with_remedy(format!(
            "find the RoleBindings and ClusterRoleBindings that name account `{account}` or a group it is in, and take these rights away"
        ));
    }
    match may.iter().find_map(|may| may.as_ref().err()) {
        Some(error) => Check::new(what, Verdict::Unknown, error.to_string()),
        None => Check::new(what, Verdict::Good, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_allowed_outweighs_what_is_not_known() {
        let acts = [Act::core("create", "pods"), Act::core("get", "secrets")];
        let unknown = || Err(NoReview::Unclear("x".into()));
        let check = |may: [Result<bool, NoReview>; 2]| {
            verdict_of_excess("w".into(), Verdict::Bad, &acts, &may, "run-as")
        };
        assert_eq!(check([Ok(false), Ok(false)]).verdict, Verdict::Good);
        assert_eq!(check([unknown(), Ok(false)]).verdict, Verdict::Unknown);
        let bad = check([unknown(), Ok(true)]);
        assert_eq!(
            (bad.verdict, bad.detail.as_str()),
            (Verdict::Bad, "it may get secrets")
        );
        assert!(!bad.ok() && bad.remedy.is_some());
    }
}
