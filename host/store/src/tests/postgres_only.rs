//! What is special to Postgres: durable sessions, several servers, lost connections.

use std::time::Duration;

use penstock_model::secret::Secret;

use super::bed::{Bed, TTL};
use super::server;
use super::world::{delivery, of_tenant};
use crate::backend::value::params;
use crate::{Caps, OpenError, Queue, Store, StoreError, Target};

fn url(bed: &Bed) -> String {
    match &bed.target {
        Target::Postgres { url } => url.reveal().to_owned(),
        Target::Sqlite { .. } => panic!("not Postgres"),
    }
}

/// Runs SQL as the test itself.
async fn sql(url: &str, sql: String) {
    let url = url.to_owned();
    tokio::task::spawn_blocking(move || server::admin(&url).batch_execute(&sql).unwrap())
        .await
        .unwrap();
}

fn as_role(url: &str, role: &str) -> Target {
    let (scheme, rest) = url.split_once("://").unwrap();
    let (_, host) = rest.split_once('@').unwrap();
    Target::Postgres {
        url: Secret::new(format!("{scheme}://{role}@{host}")),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_whose_commits_are_not_durable_is_refused() {
    let bed = Bed::postgres().await;
    let url = url(&bed);
    let role = format!("careless_{}", std::process::id());
    sql(
        &url,
        format!(
            "CREATE ROLE {role} LOGIN SUPERUSER; ALTER ROLE {role} SET synchronous_commit = off"
        ),
    )
    .await;
    let error = Store::open(as_role(&url, &role)).await.unwrap_err();
    assert!(
        matches!(&error, OpenError::NotDurable { setting, .. } if setting == "synchronous_commit"),
        "{error:?}"
    );
    assert!(error.to_string().contains("synchronous_commit"), "{error}");
    sql(&url, format!("ALTER ROLE {role} RESET synchronous_commit")).await;
    Store::open(as_role(&url, &role))
        .await
        .unwrap()
        .close()
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_share_the_lanes_and_the_caps() {
    let bed = Bed::postgres().await;
    let other = Store::open(bed.target.clone()).await.unwrap();
    for project in 0..20 {
        bed.append_this(of_tenant(
            &format!("d{project}"),
            "a",
            100 + project,
            bed.now(),
        ))
        .await;
    }
    let caps = Caps { per_tenant: 12 };
    let tasks: Vec<_> = (0..10)
        .map(|worker| {
            let store = if worker % 2 == 0 {
                bed.store.clone()
            } else {
                other.clone()
            };
            let now = bed.now();
            tokio::spawn(async move {
                let worker = format!("worker-{worker}");
                store
                    .claim(Queue::Dispatch, &worker, TTL, caps, 3, now)
                    .await
                    .unwrap()
            })
        })
        .collect();
    let mut lanes = Vec::new();
    for task in tasks {
        lanes.extend(task.await.unwrap().into_iter().map(|claim| claim.lane));
    }
    assert_eq!(lanes.len(), 12);
    lanes.sort();
    lanes.dedup();
    assert_eq!(lanes.len(), 12, "no lane is held twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_start_together_migrate_once() {
    let url = tokio::task::spawn_blocking(server::database).await.unwrap();
    let opening: Vec<_> = (0..4)
        .map(|_| {
            tokio::spawn(Store::open(Target::Postgres {
                url: Secret::new(url.clone()),
            }))
        })
        .collect();
    for opening in opening {
        opening.await.unwrap().unwrap().close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_that_the_server_ends_are_made_again() {
    let bed = Bed::postgres().await;
    bed.append("d1").await;
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
               WHERE datname = current_database() AND pid <> pg_backend_pid()";
    sql(&url(&bed), end.to_owned()).await;
    bed.append("d2").await;
    assert_eq!(bed.claim_all(Queue::Dispatch).await.len(), 1);
    assert!(
        bed.store
            .delivery(None, &"d1".into())
            .await
            .unwrap()
            .is_some()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_away_is_unavailable_and_its_url_is_never_shown() {
    // A port that is the near end of a connection, as long as that lasts: nobody listens at it, and nobody else can.
    let somebody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let connection = std::net::TcpStream::connect(somebody.local_addr().unwrap()).unwrap();
    let port = connection.local_addr().unwrap().port();
    for url in [
        format!("postgres://penstock:hunter2@127.0.0.1:{port}/penstock"),
        "postgres://penstock:hunter2@[nonsense".to_owned(),
    ] {
        let target = Target::Postgres {
            url: Secret::new(url),
        };
        assert!(!format!("{target:?}").contains("hunter2"));
        let error = Store::open(target).await.unwrap_err();
        assert!(
            !format!("{error} {error:?}").contains("hunter2"),
            "{error:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_body_through_two_hooks_at_once_decides_once() {
    let bed = Bed::postgres().await;
    let other = Store::open(bed.target.clone()).await.unwrap();
    for round in 0..20 {
        let tasks: Vec<_> = [(&bed.store, "project"), (&other, "group")]
            .into_iter()
            .map(|(store, hook)| {
                let mut new = delivery(&format!("d{round}"), bed.now());
                new.key.id = format!("d{round}-{hook}").into();
                new.hook = hook.into();
                let store = store.clone();
                tokio::spawn(async move { store.append(new).await.unwrap() })
            })
            .collect();
        let mut new = 0;
        for task in tasks {
            if matches!(task.await.unwrap(), crate::Appended::New { .. }) {
                new += 1;
            }
        }
        assert_eq!(new, 1, "in round {round}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_decide_and_cancel_at_the_same_time() {
    use super::world::{cancel, lane, ordering, start};
    use penstock_model::effect::CancelScope;

    let bed = Bed::postgres().await;
    let other = Store::open(bed.target.clone()).await.unwrap();
    let mut claims = Vec::new();
    for number in 0..16 {
        let mut new = delivery(&format!("d{number}"), bed.now());
        new.lane = lane(1, &format!("b{number}"));
        claims.push(bed.routed(new, &["r"]).await);
    }
    // Each starts a run and cancels all runs of the same commit: transactions meet on the same rows.
    let tasks: Vec<_> = claims
        .into_iter()
        .enumerate()
        .map(|(number, claim)| {
            let store = if number % 2 == 0 {
                bed.store.clone()
            } else {
                other.clone()
            };
            let now = bed.now();
            tokio::spawn(async move {
                let (id, branch) = (format!("d{number}"), format!("b{number}"));
                let scope = CancelScope::Commit(super::world::commit('a'));
                let orders = vec![
                    cancel(&id, scope, &branch, None),
                    start(&id, "run", 'a', &branch),
                ];
                store
                    .commit(&claim, ordering(&id, "r", orders), now)
                    .await
                    .unwrap()
            })
        })
        .collect();
    let mut withdrawn = Vec::new();
    for task in tasks {
        withdrawn.extend(
            tokio::time::timeout(Duration::from_secs(60), task)
                .await
                .unwrap()
                .unwrap()
                .withdrawn,
        );
    }
    let all = withdrawn.len();
    withdrawn.sort_unstable();
    withdrawn.dedup();
    assert_eq!(withdrawn.len(), all, "no run is withdrawn twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_transactions_that_wait_for_each_other_are_both_done() {
    let bed = Bed::postgres().await;
    for id in ["one", "other"] {
        bed.append(id).await;
    }
    // Each takes the row that the other wants next, and neither goes on before both have one.
    let met = std::sync::Arc::new(std::sync::Barrier::new(2));
    let cross = |first: &'static str, second: &'static str| {
        let met = std::sync::Arc::clone(&met);
        let mut tries = 0;
        bed.store.write(move |tx| {
            tries += 1;
            let mut touch = |id: &str| {
                tx.execute(
                    "UPDATE deliveries SET tries = tries + 1 WHERE id = ?1",
                    params![id],
                )
            };
            touch(first)?;
            if tries == 1 {
                met.wait();
            }
            touch(second)?;
            Ok::<_, StoreError>(tries)
        })
    };
    let (left, right) = tokio::join!(cross("one", "other"), cross("other", "one"));
    let tries = [left.unwrap(), right.unwrap()];
    assert!(
        tries.iter().any(|tries| *tries > 1),
        "one of them was done again: {tries:?}"
    );
}
