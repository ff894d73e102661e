//! SQLite against crashes, full and read-only disks, damaged files and second servers.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use penstock_model::id::Timestamp;

use super::bed::Bed;
use super::world::delivery;
use crate::{Appended, DeliveryFilter, OpenError, Store, StoreError, Target};

const STORE: &str = "PENSTOCK_TEST_STORE";

fn at(path: &Path) -> Target {
    Target::Sqlite {
        path: path.to_owned(),
    }
}

/// The process that other tests start and kill: prints each id once it is acknowledged, for ever. By itself it appends one batch.
#[tokio::test]
async fn a_process_appends_until_it_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let named = std::env::var(STORE).map(PathBuf::from);
    let path = named
        .clone()
        .unwrap_or_else(|_| folder.path().join("penstock.db"));
    let store = Store::open(at(&path)).await.unwrap();
    let mut number = 0;
    while named.is_ok() || number == 0 {
        let batch: Vec<_> = (0..20)
            .map(|_| {
                number += 1;
                let id = format!("{}-{number}", std::process::id());
                let store = store.clone();
                tokio::spawn(async move {
                    let mut new = delivery(&id, Timestamp(1_800_000_000_000));
                    new.body = id.repeat(500).into();
                    store.append(new).await.map(|appended| (id, appended))
                })
            })
            .collect();
        for task in batch {
            // Each line in one piece: whoever is killed in the middle of one has said nothing, or all of it.
            let say = |line: String| std::io::stderr().write_all(line.as_bytes()).unwrap();
            match task.await.unwrap() {
                Ok((id, Appended::New { .. })) if named.is_ok() => {
                    say(format!("acknowledged {id}\n"));
                }
                Ok((_, Appended::New { .. })) => {}
                Ok((id, other)) => panic!("{id} was not new: {other:?}"),
                Err(error) => {
                    say(format!("failed {} {error}\n", error.is_unavailable()));
                    return;
                }
            }
        }
    }
    store.close().await;
    assert_eq!(kept(&path).await.len(), 20);
}

/// Starts the child, under a limit of the size of files if there is one (in blocks of 512 bytes).
fn child(path: &Path, file_limit: Option<u32>) -> Child {
    let limit = file_limit.map_or(String::new(), |blocks| {
        format!("trap '' XFSZ; ulimit -f {blocks}; ")
    });
    Command::new("sh")
        .arg("-c")
        .arg(format!("{limit}exec \"$@\""))
        .arg("sh")
        .arg(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "tests::durability::a_process_appends_until_it_is_killed",
        ])
        .arg("--nocapture")
        .env(STORE, path)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

async fn kept(path: &Path) -> Vec<String> {
    let store = Store::open(at(path)).await.unwrap();
    let all = DeliveryFilter {
        limit: u32::MAX,
        ..DeliveryFilter::default()
    };
    let mut ids = Vec::new();
    for delivery in store.deliveries(all).await.unwrap() {
        let whole = store
            .delivery(None, &delivery.key.id)
            .await
            .unwrap()
            .unwrap();
        let id = delivery.key.id.to_string();
        assert_eq!(whole.body, Some(id.repeat(500).into_bytes()), "{id}");
        ids.push(id);
    }
    store.close().await;
    ids
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_outlives_a_kill_at_any_moment() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("penstock.db");
    let mut acknowledged = Vec::new();
    for round in 0..6 {
        let mut child = child(&path, None);
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        // Killed after a number of acknowledgements that differs in each round; what is in the pipe by then counts too.
        let mut seen = 0;
        for line in lines {
            let line = line.unwrap();
            if let Some(id) = line.strip_prefix("acknowledged ") {
                acknowledged.push(id.to_owned());
                seen += 1;
                if seen == 17 + round * 41 {
                    child.kill().unwrap();
                }
            }
        }
        child.wait().unwrap();
        assert!(seen >= 17, "the child ended by itself after {seen}");
    }
    let kept = kept(&path).await;
    for id in &acknowledged {
        assert!(kept.contains(id), "{id} was acknowledged and is lost");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_an_error_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("penstock.db");
    let mut child = child(&path, Some(2048));
    let mut acknowledged = Vec::new();
    let mut failed = None;
    for line in BufReader::new(child.stderr.take().unwrap()).lines() {
        let line = line.unwrap();
        if let Some(id) = line.strip_prefix("acknowledged ") {
            acknowledged.push(id.to_owned());
        } else if let Some(error) = line.strip_prefix("failed ") {
            failed = Some(error.to_owned());
        }
    }
    child.wait().unwrap();
    let failed = failed.expect("the child hits the limit");
    assert!(failed.starts_with("true the store"), "{failed}");
    assert!(!acknowledged.is_empty());
    let kept = kept(&path).await;
    for id in &acknowledged {
        assert!(kept.contains(id), "{id} was acknowledged and is lost");
    }
}

#[tokio::test]
async fn a_second_server_is_kept_out_until_the_first_is_gone() {
    let bed = Bed::sqlite().await;
    let second = Store::open(bed.target.clone()).await.unwrap_err();
    assert!(matches!(second, OpenError::Held { .. }), "{second}");
    bed.store.clone().close().await;
    Store::open(bed.target.clone()).await.unwrap().close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_works_beside_a_server_that_is_busy() {
    let bed = Bed::sqlite().await;
    bed.append("d0").await;
    let claim = bed.claim(crate::Queue::Dispatch).await;
    bed.store
        .unrouted(&claim, &super::world::key("d0"), "no route", bed.now())
        .await
        .unwrap();
    let beside = Store::open_beside(bed.target.clone()).await.unwrap();
    let (store, now) = (bed.store.clone(), bed.now());
    let busy = tokio::spawn(async move {
        for number in 1..200 {
            store
                .append(delivery(&format!("d{number}"), now))
                .await
                .unwrap();
        }
    });
    let retried = beside
        .retry_delivery(None, &"d0".into(), now)
        .await
        .unwrap();
    assert!(retried.rerouted);
    busy.await.unwrap();
    beside.close().await;
    assert_eq!(
        bed.store.figures().await.unwrap().deliveries.get("waiting"),
        Some(&200)
    );
}

#[tokio::test]
async fn a_command_makes_no_store_and_changes_no_tables() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("penstock.db");
    let missing = Store::open_beside(at(&path)).await.unwrap_err();
    assert!(matches!(missing, OpenError::Missing { .. }), "{missing}");
    assert!(!path.exists());
    std::fs::write(&path, b"").unwrap();
    let empty = Store::open_beside(at(&path)).await.unwrap_err();
    assert!(matches!(empty, OpenError::NotMigrated { .. }), "{empty}");
}

#[tokio::test]
async fn garbage_is_no_store() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("penstock.db");
    std::fs::write(
        &path,
        b"this is no database, whatever its name says".repeat(100),
    )
    .unwrap();
    let error = Store::open(at(&path)).await.unwrap_err();
    assert!(
        matches!(error, OpenError::Store(StoreError::Corrupt { .. })),
        "{error:?}"
    );
    assert!(
        error.to_string().contains("restore it from a backup"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_was_cut_short_is_damaged() {
    let bed = Bed::sqlite().await;
    for number in 0..100 {
        let mut new = delivery(&format!("d{number}"), bed.now());
        new.body = (0..5000u32)
            .flat_map(|at| (at * 7919 + number).to_le_bytes())
            .collect::<Vec<u8>>()
            .into();
        bed.append_this(new).await;
    }
    bed.store.clone().close().await;
    let Target::Sqlite { path } = &bed.target else {
        panic!("not SQLite");
    };
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(file.metadata().unwrap().len() / 2 / 4096 * 4096)
        .unwrap();
    let error = match Store::open(bed.target.clone()).await {
        Err(OpenError::Store(error)) => error,
        Err(other) => panic!("{other}"),
        Ok(store) => store.figures().await.unwrap_err(),
    };
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_whose_database_was_emptied_is_not_thrown_away() {
    let bed = Bed::sqlite().await;
    bed.append("d1").await;
    let Target::Sqlite { path } = &bed.target else {
        panic!("not SQLite");
    };
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("penstock.db");
    std::fs::write(&copy, b"").unwrap();
    let log = folder.path().join("penstock.db-wal");
    std::fs::copy(path.with_extension("db-wal"), &log).unwrap();
    assert!(std::fs::metadata(&log).unwrap().len() > 0);
    let error = Store::open(at(&copy)).await.unwrap_err();
    assert!(
        matches!(error, OpenError::Store(StoreError::Corrupt { .. })),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_folder_that_is_missing_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("nowhere").join("penstock.db");
    let error = Store::open(at(&missing)).await.unwrap_err();
    assert!(matches!(error, OpenError::Path { .. }), "{error:?}");
    assert!(error.to_string().contains("nowhere"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_is_for_its_owner_alone() {
    let bed = Bed::sqlite().await;
    bed.append("d1").await;
    let Target::Sqlite { path } = &bed.target else {
        panic!("not SQLite");
    };
    for suffix in ["", "-wal", ".lock"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        let mode = std::fs::metadata(&name).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{name:?}");
    }
}
