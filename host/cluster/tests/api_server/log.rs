//! Logs are read with the creator's right and with no other.

use futures_util::StreamExt as _;
use k8s_openapi::api::rbac::v1::Role;
use kube::{Api, api::PostParams};
use penstock_cluster::{Cluster, FailedTask, LogAt, LogEnd, LogError, RunSeen, Verdict};
use penstock_control_plane::{TestPlace, place::CREATOR, shared, wait};
use penstock_model::run::RunState;
use penstock_model::tenant::Visibility;

use crate::check::model_place;
use crate::{LIMIT, effect, order, place, spec};

async fn failed(place: &TestPlace, cluster: &Cluster, script: &str) -> FailedTask {
    let effect = effect(place, "run");
    let order = order(place, effect, spec(script));
    cluster.create_run(&order, effect).await.unwrap();
    let mut watch = cluster.watch().boxed();
    let run = tokio::time::timeout(LIMIT, async {
        loop {
            match watch.next().await {
                Some(RunSeen::Changed(run))
                    if run.effect == effect && run.state == RunState::Failed =>
                {
                    return run;
                }
                Some(_) => {}
                None => panic!("the watch ended"),
            }
        }
    });
    let run = run.await.unwrap();
    cluster.failed_task(&run).await.unwrap().unwrap()
}

fn at<'a>(place: &'a TestPlace, failed: &'a FailedTask) -> LogAt<'a> {
    let (pod, container) = failed.log.as_ref().unwrap();
    LogAt {
        namespace: place.namespace(),
        creator: CREATOR,
        pod,
        container,
    }
}

/// Takes rights of the creator's role away.
async fn strip(place: &TestPlace, resource: &str, verb: &str) {
    let client = shared().await.unwrap().client().await.unwrap();
    let roles: Api<Role> = Api::namespaced(client, place.namespace());
    let mut role = roles.get("creator").await.unwrap();
    for rule in role.rules.iter_mut().flatten() {
        if rule.resources.iter().flatten().any(|it| it == resource) {
            rule.verbs.retain(|it| it != verb);
        }
    }
    let whole = |rule: &k8s_openapi::api::rbac::v1::PolicyRule| !rule.verbs.is_empty();
    role.rules.get_or_insert_default().retain(whole);
    roles
        .replace("creator", &PostParams::default(), &role)
        .await
        .unwrap();
}

#[tokio::test]
async fn the_last_lines_of_a_failed_step_are_read_and_no_more_than_is_asked_for() {
    let (place, cluster) = place("log").await;
    let lines: String = (0..300).map(|line| format!("echo line {line}\n")).collect();
    let failed = failed(&place, &cluster, &format!("{lines}exit 3")).await;
    let LogEnd { text, cut } = cluster.log_end(at(&place, &failed)).await.unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        (lines.len(), lines[0], lines[199], cut),
        (200, "line 100", "line 299", false)
    );
    let gone = LogAt {
        pod: "is-not-there",
        ..at(&place, &failed)
    };
    assert_eq!(cluster.log_end(gone).await, Err(LogError::Gone));
}

#[tokio::test]
async fn without_the_right_no_log_is_read_and_check_says_which_rule_is_missing() {
    let (place, cluster) = place("log-denied").await;
    let failed = failed(&place, &cluster, "echo no; exit 3").await;
    strip(&place, "pods/log", "get").await;
    let remedy = wait::until("a denial", LIMIT, async || {
        Ok(match cluster.log_end(at(&place, &failed)).await {
            Err(LogError::Denied { remedy, .. }) => Some(remedy),
            _ => None,
        })
    });
    assert!(
        remedy
            .await
            .unwrap()
            .contains("resources: [pods/log], verbs: [get]")
    );

    // Only who shows logs needs it.
    let mut wanted = model_place(&place);
    let checks = cluster.check_place(&wanted).await;
    assert!(
        checks.iter().all(|check| check.verdict == Verdict::Good),
        "{checks:#?}"
    );
    wanted.policy.log_excerpts = Some(Visibility::Private);
    let checks = cluster.check_place(&wanted).await;
    let bad: Vec<_> = checks
        .iter()
        .filter(|it| it.verdict == Verdict::Bad)
        .collect();
    assert_eq!(bad.len(), 1, "{checks:#?}");
    assert!(bad[0].what.contains("get pods/log"), "{bad:#?}");
}

#[tokio::test]
async fn where_finished_runs_are_kept_in_number_the_right_to_delete_them_is_looked_for() {
    let (place, cluster) = place("keep-right").await;
    let mut keeping = model_place(&place);
    keeping.policy.keep_runs = Some(5);
    let checks = cluster.check_place(&keeping).await;
    assert!(
        checks.iter().all(|check| check.verdict == Verdict::Good),
        "{checks:#?}"
    );
    strip(&place, "pipelineruns", "delete").await;
    let bad = wait::until("a finding", LIMIT, async || {
        let checks = cluster.check_place(&keeping).await;
        Ok(checks.into_iter().find(|it| it.verdict == Verdict::Bad))
    });
    let bad = bad.await.unwrap();
    assert!(bad.what.contains("delete pipelineruns"), "{bad:#?}");
    assert!(bad.remedy.unwrap().contains("keep-runs"));
    let plain = cluster.check_place(&model_place(&place)).await;
    assert!(
        plain.iter().all(|check| check.verdict == Verdict::Good),
        "{plain:#?}"
    );
}
