//! What changed, by the paths that a plugin is told.

use std::sync::Arc;

use penstock_doubles::gitlab::{Proposal, Push};
use penstock_gitlab::EventContext;
use penstock_model::event::{EventKind, Sweep};
use penstock_model::id::CommitId;
use penstock_model::lookup::{Answer, Lookup};

use super::{MOST, ask, context, event};
use crate::scene::{API, Scene};

#[tokio::test]
async fn the_whole_push_is_compared() {
    let scene = Scene::new().await;
    let _ = scene.push(API, "feature", "alice");
    let change = scene.gitlab.push(
        Push::new(API, "feature", "alice")
            .write("a.txt", "a")
            .then()
            .write("src/main.rs", "fn main() { }\n")
            .then()
            .delete("README.md"),
    );
    let context = context(&scene, &change, MOST).await;
    let Answer::Changes(found) = ask(&scene, &context, Lookup::ChangedPaths).await.unwrap() else {
        panic!()
    };
    assert_eq!(found.added, ["a.txt"]);
    assert_eq!(found.modified, ["src/main.rs"]);
    assert_eq!(found.deleted, ["README.md"]);
    assert!(!found.truncated);
}

/// Three pushes of which no delivery told, and then one after whose predecessor GitLab lacks.
#[tokio::test]
async fn a_swept_branch_is_compared_from_what_was_decided_last() {
    let scene = Scene::new().await;
    let before = scene.push(API, "feature", "alice").commit;
    let mut last = None;
    for name in ["a.txt", "b.txt", "c.txt"] {
        last = Some(
            scene
                .gitlab
                .push(Push::new(API, "feature", "alice").write(name, name)),
        );
    }
    let change = last.unwrap();
    for (last_decided, added, truncated) in [
        (
            Some(before.as_str()),
            &["a.txt", "b.txt", "c.txt"][..],
            false,
        ),
        (
            Some("00000000000000000000000000000000000000aa"),
            &["c.txt"],
            true,
        ),
    ] {
        let mut event = event(&scene, &change).await;
        event.kind = EventKind::Sweep(Sweep {
            ref_name: "refs/heads/feature".into(),
            merge_request: None,
            last_decided: last_decided.map(|it| CommitId::parse(it).unwrap()),
            found: event.commit.clone(),
        });
        let context = EventContext::new(Arc::new(event), Arc::new(scene.own.clone()), MOST);
        let Answer::Changes(found) = ask(&scene, &context, Lookup::ChangedPaths).await.unwrap()
        else {
            panic!()
        };
        assert_eq!(
            (found.added.as_slice(), found.truncated),
            (
                added
                    .iter()
                    .map(|it| (*it).to_owned())
                    .collect::<Vec<_>>()
                    .as_slice(),
                truncated
            )
        );
    }
}

#[tokio::test]
async fn a_new_branch_is_compared_from_where_it_left_the_default_branch() {
    let scene = Scene::new().await;
    let change = scene.gitlab.push(
        Push::new(API, "feature", "alice")
            .write("a.txt", "a")
            .then()
            .write("b.txt", "b"),
    );
    let _ = scene.push(API, "main", "maya");
    let context = context(&scene, &change, MOST).await;
    let Answer::Changes(found) = ask(&scene, &context, Lookup::ChangedPaths).await.unwrap() else {
        panic!()
    };
    assert_eq!(found.added, ["a.txt", "b.txt"]);
    assert!(!found.truncated);
}

#[tokio::test]
async fn a_merge_request_of_more_than_a_hundred_files_is_read_whole() {
    let scene = Scene::new().await;
    let mut push = Push::new(API, "many", "alice");
    for number in 0..150 {
        push = push.write(&format!("{number:03}.txt"), format!("{number}"));
    }
    let _ = scene.gitlab.push(push);
    let change = scene.gitlab.propose(Proposal::new(API, "many", "alice"));
    let first = context(&scene, &change, MOST).await;
    let Answer::Changes(found) = ask(&scene, &first, Lookup::ChangedPaths).await.unwrap() else {
        panic!()
    };
    assert_eq!((found.added.len(), found.truncated), (150, false));
    // The merge request moves on: the event's own commit is still what is told.
    let _ = scene
        .gitlab
        .push(Push::new(API, "many", "alice").write("later.txt", "x"));
    let again = context(&scene, &change, MOST).await;
    let Answer::Changes(found) = ask(&scene, &again, Lookup::ChangedPaths).await.unwrap() else {
        panic!()
    };
    assert_eq!(found.added.len(), 150);
}
