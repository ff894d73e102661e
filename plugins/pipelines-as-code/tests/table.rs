//! The table of every key in docs/pipelines-as-code.md is true: a row that says yes names
//! a test or a folder of the corpus, one that says no says why.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may panic"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

const PAGE: &str = include_str!("../../../docs/pipelines-as-code.md");

/// Rows of the tables after `## Every key`: key, yes or no, and the rest.
fn rows() -> Vec<(String, String, String)> {
    let (_, tables) = PAGE.split_once("## Every key").unwrap();
    tables
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
            assert_eq!(cells.len(), 3, "{line}");
            (
                cells[0].trim_matches('`').to_owned(),
                cells[1].to_owned(),
                cells[2].trim().to_owned(),
            )
        })
        .collect()
}

fn sources(folder: &Path, found: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|it| it == "rs") {
            found.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
}

fn texts(folder: &Path, found: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            texts(&path, found);
        } else {
            found.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
}

/// What a key is called where it is used: the last of its names.
fn word(key: &str) -> &str {
    let key = key.trim_end_matches(".*").trim_end_matches("[..]");
    let key = key.rsplit('.').next().unwrap_or(key);
    key.split([' ', ':']).next().unwrap_or(key)
}

#[test]
fn every_row_that_says_yes_is_shown_by_a_test_of_that_name() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut code = String::new();
    sources(&root.join("src"), &mut code);
    for file in ["decide.rs", "settings.rs"] {
        code.push_str(&fs::read_to_string(root.join("tests").join(file)).unwrap());
    }
    for (key, here, shown) in rows() {
        match here.as_str() {
            "yes" => {
                let test = code.contains(&format!("#[test]\nfn {shown}()"))
                    || code.contains(&format!("    #[test]\n    fn {shown}()"));
                let folder = root.join("tests/corpus").join(&shown);
                assert!(
                    test || folder.join("given.yaml").is_file(),
                    "{key}: nothing is called {shown}"
                );
                if !test {
                    let mut text = String::new();
                    texts(&folder, &mut text);
                    let snapshot = root.join(format!("tests/snapshots/{shown}.snap"));
                    text.push_str(&fs::read_to_string(snapshot).unwrap());
                    assert!(text.contains(word(&key)), "{key} does not stand in {shown}");
                }
            }
            "no" => assert!(shown.len() > 5, "{key}: why not?"),
            other => panic!("{key}: {other}"),
        }
    }
}

/// What the types and constants of Pipelines-as-Code have, as far as it is not GitHub's own.
#[test]
fn no_key_is_missing() {
    let keys: BTreeSet<String> = rows().into_iter().map(|it| it.0).collect();
    let annotations = "on-event on-target-branch on-path-change on-path-change-ignore on-label on-comment on-cel-expression \
        target-namespace max-keep-runs cancel-in-progress task pipeline controller-info url-org url-repository sha sender \
        event-type branch source-branch repository git-provider state sha-title sha-url repo-url source-repo-url pull-request \
        installation-id ghe-url source-project-id target-project-id original-prname git-auth-secret check-run-id log-url \
        execution-order scm-reporting-plr-started status-comment-id";
    let variables = "revision repo_url repo_owner repo_name source_branch target_branch source_url sender event event_type \
        git_tag git_auth_secret pull_request_number pull_request_labels target_namespace trigger_comment body.* headers[..] files.*";
    let repository = "concurrency_limit url git_provider params[].value params[].filter params[].secret_ref incoming[].targets \
        incoming[].params incoming[].secret settings.pipelinerun_provenance settings.policy settings.gitops_command_prefix \
        settings.gitlab.comment_strategy settings.github settings.github_app_token_scope_repos settings.ai";
    let commands = "/test /retest /cancel /ok-to-test";
    for key in [annotations, variables, repository, commands]
        .iter()
        .flat_map(|it| it.split_whitespace())
    {
        assert!(keys.contains(key), "{key} has no row");
    }
}

/// Every corpus folder shows something for itself, and the snapshot of one that is gone goes too.
#[test]
fn each_folder_has_its_snapshot_and_each_snapshot_its_folder() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let names = |folder: &str| -> BTreeSet<String> {
        let entries = fs::read_dir(root.join(folder)).unwrap();
        let name = |it: fs::DirEntry| it.path().file_stem().unwrap().to_str().unwrap().to_owned();
        entries
            .map(|it| name(it.unwrap()))
            .filter(|it| !it.contains("__"))
            .collect()
    };
    assert_eq!(names("corpus"), names("snapshots"));
}
