//! Asks every import once and says what came back.

use std::fmt::Debug;

use penstock_sdk::imports::cluster_read::RunFilter;
use penstock_sdk::imports::gitlab_read::Source;
use penstock_sdk::imports::{cluster_read, config, delivery, fetch, gitlab_read, history, state};
use penstock_sdk::{Event, Plan};

/// One reason for each function: `interface.function: answer`.
pub(crate) fn ask_everything(event: Option<&Event>) -> Plan {
    let commit = event.and_then(|it| it.commit.clone()).unwrap_or_default();
    let user = event.and_then(|it| it.actor.as_ref()).map_or(0, |it| it.id);
    penstock_sdk::info!("asks everything"; commit = commit);
    let put_one = state::put("echo/one", b"1", Some(1));
    let put_two = state::put("echo/two", b"2", None);
    let deleted = state::delete("echo/two");
    let filter = RunFilter {
        commit: None,
        merge_request: None,
        ref_name: None,
        pipeline: None,
    };
    let readme = ["README.md".to_owned(), "missing.txt".to_owned()];
    [
        told("config.settings", config::settings()),
        told("delivery.payload", delivery::payload().map(|it| it.len())),
        told("delivery.at", delivery::at("/object_kind")),
        told("delivery.headers", delivery::headers()),
        told(
            "gitlab-read.folder",
            gitlab_read::folder(&Source::Event, ".tekton"),
        ),
        told(
            "gitlab-read.files",
            gitlab_read::files(&Source::Event, &readme),
        ),
        told(
            "gitlab-read.resolve",
            gitlab_read::resolve(&Source::DefaultBranch),
        ),
        told("gitlab-read.find-commit", gitlab_read::find_commit(&commit)),
        told("gitlab-read.changed-paths", gitlab_read::changed_paths()),
        told(
            "gitlab-read.find-merge-request",
            gitlab_read::find_merge_request(1),
        ),
        told(
            "gitlab-read.open-merge-requests",
            gitlab_read::open_merge_requests("feature"),
        ),
        told(
            "gitlab-read.merge-request-approvals",
            gitlab_read::merge_request_approvals(1),
        ),
        told("gitlab-read.find-user", gitlab_read::find_user("ada")),
        told("gitlab-read.access", gitlab_read::access(user)),
        told(
            "gitlab-read.group-access",
            gitlab_read::group_access(user, "acme"),
        ),
        told("cluster-read.places", cluster_read::places()),
        told("cluster-read.runs", cluster_read::runs(&filter, 10)),
        told("history.summarize", history::summarize("build", 30)),
        told("fetch.get", fetch::get("https://example.com/tasks.yaml")),
        told("state.put", (put_one, put_two)),
        told("state.delete", deleted),
        told("state.get", state::get("echo/one")),
        told("state.keys", state::keys("echo/", 10)),
    ]
    .into_iter()
    .fold(Plan::new(), Plan::reason)
}

/// One reason for each address: `address: answer`.
pub(crate) fn fetch_all(urls: &[String]) -> Plan {
    urls.iter().fold(Plan::new(), |plan, url| {
        plan.reason(told(url, fetch::get(url)))
    })
}

fn told(function: &str, answer: impl Debug) -> String {
    format!("{function}: {answer:?}")
}
