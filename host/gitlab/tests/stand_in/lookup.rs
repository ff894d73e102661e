//! Answers to plugins.

mod changes;

use std::sync::Arc;

use penstock_doubles::gitlab::{Access, Break, Change, Fault, Proposal, Push};
use penstock_gitlab::{EventContext, lookup};
use penstock_model::event::Event;
use penstock_model::id::{Timestamp, UserId};
use penstock_model::lookup::{Answer, Lookup, LookupError, Source};

use crate::scene::{API, FORK, Scene, commit};

const MOST: u64 = 1 << 20;

async fn event(scene: &Scene, change: &Change) -> Event {
    let confirmed = scene.confirm(change).await;
    Event {
        delivery: "d1".into(),
        received_at: Timestamp(0),
        instance: "main".into(),
        instance_url: scene.client.base_url().to_owned(),
        tenant: "acme/**".into(),
        scope: confirmed.scope,
        actor: confirmed.actor,
        provenance: confirmed.provenance,
        ref_name: confirmed.ref_name,
        commit: confirmed.commit,
        kind: confirmed.kind,
    }
}

async fn context(scene: &Scene, change: &Change, most: u64) -> EventContext {
    let event = event(scene, change).await;
    EventContext::new(Arc::new(event), Arc::new(scene.own.clone()), most)
}

async fn ask(
    scene: &Scene,
    context: &EventContext,
    question: Lookup,
) -> Result<Answer, LookupError> {
    lookup(&scene.client, context, &question).await.unwrap()
}

fn folder(source: Source, path: &str) -> Lookup {
    Lookup::Folder {
        source,
        path: path.to_owned(),
    }
}

fn files(source: Source, paths: &[&str]) -> Lookup {
    Lookup::Files {
        source,
        paths: paths.iter().map(|path| (*path).to_owned()).collect(),
    }
}

#[tokio::test]
async fn a_folder_is_one_listing_and_its_files_in_order_and_then_nothing_is_asked_again() {
    let scene = Scene::new().await;
    let change = scene.push(API, "feature", "alice");
    let context = context(&scene, &change, MOST).await;
    for _ in 0..2 {
        let found = ask(&scene, &context, folder(Source::Event, ".tekton/"))
            .await
            .unwrap();
        let Answer::Folder(files) = found else {
            panic!()
        };
        let shown: Vec<_> = files
            .iter()
            .map(|file| (file.path.as_str(), file.content.0.as_slice()))
            .collect();
        assert_eq!(
            shown,
            [
                (".tekton/deep/more.yaml", b"more: 1\n".as_slice()),
                (".tekton/push.yaml", b"push: 1\n")
            ]
        );
        assert!(files.iter().all(|file| file.blob.len() == 40));
    }
    assert_eq!(scene.gitlab.calls_to("GET", "/repository/tree").len(), 1);
    assert_eq!(scene.gitlab.calls_to("POST", "/api/graphql").len(), 1);
    assert_eq!(scene.gitlab.calls_to("GET", "/repository/blobs/").len(), 0);
}

#[tokio::test]
async fn what_graphql_does_not_give_byte_for_byte_is_read_by_itself() {
    let scene = Scene::new().await;
    let odd: [(&str, &[u8]); 4] = [
        ("ci/binary", b"a\0b"),
        ("ci/latin-1", b"caf\xe9\n"),
        ("ci/lines", b"one\r\ntwo\r\n"),
        ("ci/mark", b"\xef\xbb\xbfa: 1\n"),
    ];
    let mut push = Push::new(API, "feature", "alice");
    for (path, content) in odd {
        push = push.write(path, content.to_vec());
    }
    let context = context(&scene, &scene.gitlab.push(push), MOST).await;
    let paths: Vec<&str> = odd.iter().map(|(path, _)| *path).collect();
    for question in [folder(Source::Event, "ci"), files(Source::Event, &paths)] {
        let found = match ask(&scene, &context, question).await.unwrap() {
            Answer::Folder(files) => files,
            Answer::Files(files) => files.into_iter().map(Result::unwrap).collect(),
            other => panic!("{other:?}"),
        };
        let found: Vec<_> = found
            .iter()
            .map(|file| (file.path.as_str(), file.content.0.as_slice()))
            .collect();
        assert_eq!(found, odd);
    }
    assert_eq!(scene.gitlab.calls_to("POST", "/api/graphql").len(), 2);
    assert_eq!(scene.gitlab.calls_to("GET", "/repository/blobs/").len(), 2);
    assert_eq!(scene.gitlab.calls_to("GET", "/repository/files/").len(), 2);
}

#[tokio::test]
async fn a_gitlab_without_graphql_gives_its_files_one_by_one_and_is_asked_once() {
    let scene = Scene::new().await;
    scene
        .gitlab
        .order(Fault::new("POST", "/api/graphql", Break::Status(404)));
    for number in 0..2 {
        let mut push = Push::new(API, "feature", "alice");
        for file in 0..3 {
            push = push.write(&format!("ci/{file}.yaml"), format!("n: {number}{file}"));
        }
        let context = context(&scene, &scene.gitlab.push(push), MOST).await;
        let found = ask(&scene, &context, folder(Source::Event, "ci")).await;
        assert!(matches!(found, Ok(Answer::Folder(files)) if files.len() == 3));
    }
    assert_eq!(scene.gitlab.calls_to("POST", "/api/graphql").len(), 1);
    assert_eq!(scene.gitlab.calls_to("GET", "/repository/blobs/").len(), 6);
}

#[tokio::test]
async fn a_new_folder_of_fifty_files_is_two_calls() {
    let scene = Scene::new().await;
    let mut push = Push::new(API, "feature", "alice");
    for number in 0..50 {
        push = push.write(&format!("ci/{number:02}/run.yaml"), format!("n: {number}"));
    }
    let context = context(&scene, &scene.gitlab.push(push), MOST).await;
    let before = scene.gitlab.calls().len();
    let found = ask(&scene, &context, folder(Source::Event, "ci")).await;
    assert!(matches!(found, Ok(Answer::Folder(files)) if files.len() == 50));
    assert_eq!(scene.gitlab.calls().len() - before, 2);
}

#[tokio::test]
async fn a_folder_of_more_than_a_hundred_files_is_whole() {
    let scene = Scene::new().await;
    let mut push = Push::new(API, "many", "alice");
    for number in 0..230 {
        push = push.write(&format!("many/{number:03}.txt"), format!("{number}"));
    }
    let change = scene.gitlab.push(push);
    let context = context(&scene, &change, MOST).await;
    let Answer::Folder(files) = ask(&scene, &context, folder(Source::Event, "many"))
        .await
        .unwrap()
    else {
        panic!()
    };
    assert_eq!(files.len(), 230);
    assert_eq!(scene.gitlab.calls_to("POST", "/api/graphql").len(), 5);
    assert!(files.is_sorted_by_key(|file| file.path.clone()));
}

#[tokio::test]
async fn an_unchanged_folder_of_fifty_files_is_two_calls_at_most_at_a_new_commit() {
    let scene = Scene::new().await;
    let mut push = Push::new(API, "feature", "alice");
    for number in 0..50 {
        push = push.write(&format!("ci/{number:02}/run.yaml"), format!("n: {number}"));
    }
    let change = scene.gitlab.push(push);
    let first = context(&scene, &change, MOST).await;
    let whole = ask(&scene, &first, folder(Source::Event, "ci")).await;
    let change = scene
        .gitlab
        .push(Push::new(API, "feature", "alice").write("src/main.rs", "fn main() {}"));
    let second = context(&scene, &change, MOST).await;
    let before = scene.gitlab.calls().len();
    let again = ask(&scene, &second, folder(Source::Event, "ci")).await;
    let calls = scene.gitlab.calls().len() - before;
    assert_eq!(again, whole);
    assert!(calls <= 2, "{calls} calls");
}

#[tokio::test]
async fn what_is_not_there_too_large_or_malformed_is_told_apart() {
    let scene = Scene::new().await;
    let change = scene
        .gitlab
        .push(Push::new(API, "feature", "alice").write("big.bin", vec![7_u8; 5000]));
    let context = context(&scene, &change, 1000).await;
    assert_eq!(
        ask(&scene, &context, folder(Source::Event, "nowhere")).await,
        Err(LookupError::NotFound)
    );
    assert!(matches!(
        ask(&scene, &context, folder(Source::Event, "../x")).await,
        Err(LookupError::Invalid(_))
    ));
    assert!(
        matches!(ask(&scene, &context, folder(Source::Event, "")).await, Err(LookupError::TooLarge(size)) if size > 1000)
    );
    let question = files(Source::Event, &["src/main.rs", "nope", "/abs", "big.bin"]);
    let Answer::Files(found) = ask(&scene, &context, question).await.unwrap() else {
        panic!()
    };
    assert_eq!(found[0].as_ref().unwrap().content.0, b"fn main() {}\n");
    assert_eq!(found[1], Err(LookupError::NotFound));
    assert!(
        matches!(found[2], Err(LookupError::Invalid(_))),
        "{:?}",
        found[2]
    );
    assert_eq!(found[3], Err(LookupError::TooLarge(5000)));
}

#[tokio::test]
async fn a_file_is_asked_for_once_while_nothing_about_it_can_change() {
    let scene = Scene::new().await;
    let context = context(&scene, &scene.push(API, "feature", "alice"), MOST).await;
    for _ in 0..3 {
        ask(&scene, &context, files(Source::Event, &["src/main.rs"]))
            .await
            .unwrap();
    }
    assert_eq!(scene.gitlab.calls_to("GET", "/repository/files/").len(), 1);
}

#[tokio::test]
async fn a_gitlab_that_is_away_ends_the_call() {
    let scene = Scene::new().await;
    let context = context(&scene, &scene.push(API, "feature", "alice"), MOST).await;
    scene
        .gitlab
        .order(Fault::new("GET", "/repository/files/", Break::Status(503)).times(1));
    let question = files(Source::Event, &["src/main.rs"]);
    assert!(lookup(&scene.client, &context, &question).await.is_err());
    scene
        .gitlab
        .order(Fault::new("GET", "/repository/files/", Break::RateLimited(Some(0))).times(1));
    let fault = lookup(&scene.client, &context, &question)
        .await
        .unwrap_err();
    assert_eq!(fault.retry_after, Some(0));
    assert!(
        lookup(&scene.client, &context, &question)
            .await
            .unwrap()
            .is_ok()
    );
}

#[tokio::test]
async fn a_name_stays_the_commit_that_it_was_for_the_whole_call() {
    let scene = Scene::new().await;
    let change = scene.push(API, "feature", "alice");
    let context = context(&scene, &change, MOST).await;
    let before = scene
        .gitlab
        .edit(|world| world.commit_id(API, "main"))
        .unwrap();
    let default = Lookup::Resolve(Source::DefaultBranch);
    assert_eq!(
        ask(&scene, &context, default.clone()).await,
        Ok(Answer::CommitId(commit(&before)))
    );
    let _ = scene.push(API, "main", "maya");
    assert_eq!(
        ask(&scene, &context, default).await,
        Ok(Answer::CommitId(commit(&before)))
    );
}

#[tokio::test]
async fn sources_of_every_kind_are_resolved() {
    let scene = Scene::new().await;
    let head = scene.push(API, "feature", "alice").commit;
    let change = scene.gitlab.propose(Proposal::new(API, "feature", "alice"));
    let _ = scene
        .gitlab
        .tag(API, "v1", "main", Some("annotated"), "maya");
    let main = scene
        .gitlab
        .edit(|world| world.commit_id(API, "main"))
        .unwrap();
    let context = context(&scene, &change, MOST).await;
    for (source, wanted) in [
        (Source::Event, &head),
        (Source::Commit(commit(&main)), &main),
        (Source::TargetBranch, &main),
        (Source::DefaultBranch, &main),
        (Source::Ref("refs/heads/feature".into()), &head),
        (Source::Ref("refs/tags/v1".into()), &main),
        (
            Source::Elsewhere {
                project: FORK.into(),
                revision: "main".into(),
            },
            &main,
        ),
    ] {
        let found = ask(&scene, &context, Lookup::Resolve(source.clone())).await;
        assert_eq!(found, Ok(Answer::CommitId(commit(wanted))), "{source:?}");
    }
    for (source, wanted) in [
        (
            Source::Commit(commit(&"e".repeat(40))),
            LookupError::NotFound,
        ),
        (Source::Ref("refs/heads/nope".into()), LookupError::NotFound),
        (
            Source::Elsewhere {
                project: "no/such".into(),
                revision: "main".into(),
            },
            LookupError::NotFound,
        ),
    ] {
        assert_eq!(
            ask(&scene, &context, Lookup::Resolve(source)).await,
            Err(wanted)
        );
    }
    let short = ask(
        &scene,
        &context,
        Lookup::Resolve(Source::Ref("main".into())),
    )
    .await;
    assert!(matches!(short, Err(LookupError::Invalid(_))), "{short:?}");
}

#[tokio::test]
async fn merge_requests_are_found_and_a_forks_branch_of_the_same_name_is_not_ours() {
    let scene = Scene::new().await;
    let head = scene.push(API, "feature", "alice").commit;
    let _ = scene.push(FORK, "feature", "mallory");
    let change = scene
        .gitlab
        .propose(Proposal::new(API, "feature", "alice").labels(&["urgent"]));
    let _ = scene
        .gitlab
        .propose(Proposal::new(API, "feature", "mallory").from_fork(FORK));
    let context = context(&scene, &change, MOST).await;
    let Answer::MergeRequest(found) =
        ask(&scene, &context, Lookup::FindMergeRequest(change.number))
            .await
            .unwrap()
    else {
        panic!()
    };
    assert_eq!(
        (
            found.head.as_str(),
            found.state.as_str(),
            found.labels.as_slice()
        ),
        (head.as_str(), "opened", ["urgent".to_owned()].as_slice())
    );
    let Answer::MergeRequests(open) = ask(
        &scene,
        &context,
        Lookup::OpenMergeRequests("feature".into()),
    )
    .await
    .unwrap() else {
        panic!()
    };
    assert_eq!(
        open.iter().map(|it| it.iid).collect::<Vec<_>>(),
        [change.number]
    );
    assert_eq!(
        ask(&scene, &context, Lookup::FindMergeRequest(99)).await,
        Err(LookupError::NotFound)
    );
}

#[tokio::test]
async fn approvals_come_with_who_gave_them() {
    let scene = Scene::new().await;
    let _ = scene.push(API, "feature", "alice");
    let change = scene
        .gitlab
        .propose(Proposal::new(API, "feature", "alice").approvals(1));
    let _ = scene.gitlab.approve(API, change.number, "maya");
    let context = context(&scene, &change, MOST).await;
    let Answer::Approvals(found) = ask(
        &scene,
        &context,
        Lookup::MergeRequestApprovals(change.number),
    )
    .await
    .unwrap() else {
        panic!()
    };
    assert_eq!(found.len(), 1);
    assert_eq!(
        (found[0].by.username.as_str(), found[0].by.access),
        ("maya", Some(40))
    );
    assert!(
        found[0].at.is_some_and(|at| at.0 > 1_600_000_000_000),
        "{:?}",
        found[0].at
    );
}

#[tokio::test]
async fn users_and_their_levels_are_found() {
    let scene = Scene::new().await;
    let context = context(&scene, &scene.push(API, "feature", "alice"), MOST).await;
    let Answer::User(found) = ask(&scene, &context, Lookup::FindUser("maya".into()))
        .await
        .unwrap()
    else {
        panic!()
    };
    assert_eq!((found.id, found.access), (scene.user("maya"), Some(40)));
    assert_eq!(
        ask(&scene, &context, Lookup::FindUser("nobody".into())).await,
        Err(LookupError::NotFound)
    );
    for (name, level) in [("alice", 30), ("rita", 20), ("stranger", 0)] {
        assert_eq!(
            ask(&scene, &context, Lookup::Access(scene.user(name))).await,
            Ok(Answer::Access(level)),
            "{name}"
        );
    }
    assert_eq!(
        ask(&scene, &context, Lookup::Access(UserId(99_999))).await,
        Ok(Answer::Access(0))
    );
}

#[tokio::test]
async fn a_groups_level_is_inherited_and_a_missing_group_is_not_a_level() {
    let scene = Scene::new().await;
    let _ = scene.gitlab.join("acme/sub", "stranger", Access::Developer);
    let context = context(&scene, &scene.push(API, "feature", "alice"), MOST).await;
    let question = |user: &str, group: &str| Lookup::GroupAccess {
        user: scene.user(user),
        group: group.to_owned(),
    };
    assert_eq!(
        ask(&scene, &context, question("maya", "acme/sub")).await,
        Ok(Answer::Access(40))
    );
    assert_eq!(
        ask(&scene, &context, question("stranger", "acme/sub")).await,
        Ok(Answer::Access(30))
    );
    assert_eq!(
        ask(&scene, &context, question("stranger", "acme")).await,
        Ok(Answer::Access(0))
    );
    assert_eq!(
        ask(&scene, &context, question("maya", "no/such")).await,
        Err(LookupError::NotFound)
    );
}

#[tokio::test]
async fn a_commit_is_found_with_what_it_says_of_its_author() {
    let scene = Scene::new().await;
    let change = scene.gitlab.push(
        Push::new(API, "feature", "alice")
            .write("a", "a")
            .message("One\n\nTwo"),
    );
    let context = context(&scene, &change, MOST).await;
    let Answer::Commit(found) = ask(&scene, &context, Lookup::FindCommit(commit(&change.commit)))
        .await
        .unwrap()
    else {
        panic!()
    };
    assert_eq!(
        (found.message.as_str(), found.author.email.as_str()),
        ("One\n\nTwo", "alice@example.com")
    );
    assert_eq!(
        ask(
            &scene,
            &context,
            Lookup::FindCommit(commit(&"e".repeat(40)))
        )
        .await,
        Err(LookupError::NotFound)
    );
}

#[tokio::test]
async fn a_question_for_somebody_else_is_invalid() {
    let scene = Scene::new().await;
    let context = context(&scene, &scene.push(API, "feature", "alice"), MOST).await;
    assert!(matches!(
        ask(&scene, &context, Lookup::Places).await,
        Err(LookupError::Invalid(_))
    ));
}
