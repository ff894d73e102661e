//! Real files, a real watch.

use std::time::Duration;

use super::*;

const LIMIT: Duration = Duration::from_secs(90);

fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("secrets")).unwrap();
    std::fs::write(folder.path().join("secrets/token"), "one").unwrap();
    let path = folder.path().join("penstock.yaml");
    std::fs::write(
        &path,
        "listen: 127.0.0.1:1\napi-token: { file: secrets/token }\n",
    )
    .unwrap();
    (folder, path)
}

async fn next(changes: &mut Changes) -> Result<Config, Problems> {
    tokio::time::timeout(LIMIT, changes.next())
        .await
        .expect("a change in time")
        .expect("is watched")
}

#[tokio::test]
async fn a_change_is_told_with_the_new_configuration_or_what_is_wrong_with_it() {
    let (_folder, path) = folder();
    let mut changes = watch(path.clone()).unwrap();
    std::fs::write(&path, "listen: 127.0.0.1:2\n").unwrap();
    assert_eq!(next(&mut changes).await.unwrap().listen.port(), 2);
    std::fs::write(&path, "listne: 127.0.0.1:3\n").unwrap();
    let problems = next(&mut changes).await.unwrap_err();
    assert!(
        problems.to_string().contains("did you mean `listen`?"),
        "{problems}"
    );
    std::fs::write(&path, "listen: 127.0.0.1:3\n").unwrap();
    assert_eq!(next(&mut changes).await.unwrap().listen.port(), 3);
}

#[tokio::test]
async fn a_secret_that_changes_is_a_change() {
    let (folder, path) = folder();
    let mut changes = watch(path).unwrap();
    std::fs::write(folder.path().join("secrets/token"), "two").unwrap();
    let config = next(&mut changes).await.unwrap();
    assert_eq!(config.api_token.unwrap().reveal(), "two");
}

#[tokio::test]
async fn a_file_that_is_replaced_is_still_watched() {
    let (folder, path) = folder();
    let mut changes = watch(path.clone()).unwrap();
    for port in [2, 3] {
        let fresh = folder.path().join("fresh");
        std::fs::write(&fresh, format!("listen: 127.0.0.1:{port}\n")).unwrap();
        std::fs::rename(&fresh, &path).unwrap();
        assert_eq!(next(&mut changes).await.unwrap().listen.port(), port);
    }
}

#[tokio::test]
async fn a_file_that_says_the_same_is_no_change() {
    let (folder, path) = folder();
    let mut changes = watch(path.clone()).unwrap();
    let same = std::fs::read(&path).unwrap();
    std::fs::write(&path, same).unwrap();
    std::fs::write(folder.path().join("unrelated"), "x").unwrap();
    // The next thing that is told is the next thing that changed, though the untouched was looked at before.
    changes.poll = Duration::from_millis(1);
    let quiet = tokio::time::timeout(Duration::from_millis(300), changes.next()).await;
    assert!(quiet.is_err());
    std::fs::write(&path, "listen: 127.0.0.1:9\n").unwrap();
    assert_eq!(next(&mut changes).await.unwrap().listen.port(), 9);
}

#[tokio::test]
async fn without_any_hint_a_change_is_found_by_looking() {
    let (_folder, path) = folder();
    let mut changes = watch(path.clone()).unwrap();
    for folder in std::mem::take(&mut changes.watched) {
        changes.watcher.unwatch(&folder).unwrap();
    }
    changes.poll = Duration::from_millis(20);
    std::fs::write(&path, "listen: 127.0.0.1:5\n").unwrap();
    assert_eq!(next(&mut changes).await.unwrap().listen.port(), 5);
}

#[tokio::test]
async fn a_file_that_the_configuration_does_not_name_is_nobody_s_concern() {
    let (folder, path) = folder();
    let mut changes = watch(path.clone()).unwrap();
    let told = |name: &str| {
        let event = notify::Event::new(notify::EventKind::Any);
        changes
            .names
            .concerns(&event.add_path(folder.path().join(name)))
    };
    assert!(!told("penstock.db") && !told("penstock.db-wal") && !told("secrets/other"));
    assert!(told("penstock.yaml") && told("new.yaml") && told("secrets/token") && told("..data"));
    std::fs::write(folder.path().join("penstock.db"), "x").unwrap();
    std::fs::write(&path, "listen: 127.0.0.1:2\n").unwrap();
    assert_eq!(next(&mut changes).await.unwrap().listen.port(), 2);
    assert!(
        !changes
            .names
            .0
            .read()
            .unwrap()
            .contains(OsStr::new("token"))
    );
}
