//! The processes: restart, audit log, and their end.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    time::Duration,
};

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::{
    Api,
    api::{ListParams, PostParams},
};
use penstock_control_plane::{ControlPlane, Options, TestPlace, place::CREATOR, shared, wait};
use serde_json::{Value, json};

use crate::run;

/// Only Kubernetes, which is up in seconds.
fn kubernetes_alone() -> Options {
    Options {
        tekton: false,
        tekton_webhook: false,
        kubelet: false,
        ..Options::default()
    }
}

#[tokio::test]
async fn the_api_server_comes_back_on_the_same_port_with_its_data() {
    let plane = ControlPlane::start(kubernetes_alone()).await.unwrap();
    let maps: Api<ConfigMap> = Api::namespaced(plane.client().await.unwrap(), "default");
    let map =
        serde_json::from_value(json!({ "metadata": { "name": "kept" }, "data": { "a": "b" } }))
            .unwrap();
    maps.create(&PostParams::default(), &map).await.unwrap();
    let url = plane.server_url().to_owned();

    plane.restart_api_server().await.unwrap();
    assert_eq!(plane.server_url(), url);
    assert_eq!(maps.get("kept").await.unwrap().data.unwrap()["a"], "b");
}

#[tokio::test]
async fn a_dropped_control_plane_leaves_no_process_and_no_folder() {
    let plane = ControlPlane::start(kubernetes_alone()).await.unwrap();
    let folder = plane.kubeconfig_path().parent().unwrap().to_owned();
    assert!(!processes(&folder).is_empty());
    drop(plane);
    assert!(!folder.exists());
    assert_eq!(processes(&folder), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn a_pinned_control_plane_stays_on_its_core() {
    let options = Options {
        pin_to_core: Some(0),
        ..kubernetes_alone()
    };
    let plane = ControlPlane::start(options).await.unwrap();
    let folder = plane.kubeconfig_path().parent().unwrap();
    // Until it becomes the program itself, a process is `setpriv`, and then the `taskset` that pins it; and in the
    // moment in which it becomes another, it has no command line by which it could be found.
    let programs = async || {
        let before = ["Name:\tsetpriv", "Name:\ttaskset"];
        let statuses: Vec<String> = processes(folder)
            .iter()
            .filter_map(|process| std::fs::read_to_string(process.join("status")).ok())
            .filter(|status| !before.iter().any(|name| status.starts_with(name)))
            .collect();
        Ok((statuses.len() == 3).then_some(statuses))
    };
    let statuses = wait::until(
        "three processes to become their programs",
        Duration::from_secs(60),
        programs,
    )
    .await
    .unwrap();
    for status in statuses {
        assert!(status.contains("Cpus_allowed_list:\t0\n"), "{status}");
    }
}

#[tokio::test]
async fn two_control_planes_run_side_by_side() {
    let first = shared().await.unwrap();
    let second = ControlPlane::start(Options::default()).await.unwrap();
    assert_ne!(first.server_url(), second.server_url());
    let place = TestPlace::create(second.access(), "second").await.unwrap();
    let runs = place.pipeline_runs(place.client_as(CREATOR).await.unwrap());
    let stored = runs
        .create(&PostParams::default(), &run("second", "true"))
        .await
        .unwrap();
    assert!(
        stored.data.pointer("/spec/timeouts/pipeline").is_some(),
        "its webhook has set the defaults"
    );
}

#[tokio::test]
async fn the_audit_log_tells_who_created_a_run() {
    let cluster = shared().await.unwrap();
    let Some(log) = cluster.audit_log() else {
        panic!("the shared control plane keeps an audit log");
    };
    let place = TestPlace::create(cluster, "audited").await.unwrap();
    let runs = place.pipeline_runs(place.client_as(CREATOR).await.unwrap());
    runs.create(&PostParams::default(), &run("audited", "true"))
        .await
        .unwrap();

    let user = wait::until("the audit event", crate::LIMIT, async || {
        let text = std::fs::read_to_string(&log)?;
        let events = text
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let mut ours = events.filter(|event| {
            event["verb"] == "create"
                && event["objectRef"]["resource"] == "pipelineruns"
                && event["objectRef"]["namespace"] == place.namespace()
        });
        Ok(ours.next().map(|event| event["user"]["username"].clone()))
    })
    .await
    .unwrap();
    assert_eq!(
        user,
        format!("system:serviceaccount:{}:creator", place.namespace())
    );
}

#[tokio::test]
async fn without_a_kubelet_a_pod_stays_without_a_node() {
    let plane = ControlPlane::start(Options {
        kubelet: false,
        tekton_webhook: false,
        ..Options::default()
    })
    .await
    .unwrap();
    let place = TestPlace::create(plane.access(), "lonely").await.unwrap();
    let client = plane.client().await.unwrap();
    place
        .pipeline_runs(client.clone())
        .create(&PostParams::default(), &run("lonely", "true"))
        .await
        .unwrap();
    let pods: Api<Pod> = Api::namespaced(client, place.namespace());
    let pod = wait::until("a pod", crate::LIMIT, async || {
        Ok(pods.list(&ListParams::default()).await?.items.pop())
    })
    .await
    .unwrap();
    assert_eq!(pod.spec.unwrap().node_name, None);
}

#[tokio::test]
async fn nothing_listens_beyond_loopback() {
    let cluster = shared().await.unwrap();
    let folder = cluster.kubeconfig_path().parent().unwrap();
    // etcd, API server, controller manager and Tekton's two; not each listens as soon as it runs.
    let listening = wait::until("five processes to listen", crate::LIMIT, async || {
        let found = listening(&processes(folder));
        Ok((found.len() >= 5).then_some(found))
    })
    .await
    .unwrap();
    for (table, address) in listening {
        // The kernel writes addresses with their last byte first. Nothing may use IPv6.
        let ip = address.split(':').next().unwrap();
        assert!(
            table == "/proc/net/tcp" && ip.ends_with("7F"),
            "{address} in {table}"
        );
    }
}

/// The addresses at which these processes listen, each after the kernel's table that names it.
fn listening(processes: &[PathBuf]) -> Vec<(&'static str, String)> {
    let sockets: HashSet<String> = processes
        .iter()
        .flat_map(|process| sockets_of(process))
        .collect();
    let mut found = Vec::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        for line in std::fs::read_to_string(table).unwrap().lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (address, state, inode) = (fields[1], fields[3], fields[9]);
            if state == "0A" && sockets.contains(inode) {
                found.push((table, address.to_owned()));
            }
        }
    }
    found
}

/// The inodes of a process's sockets.
fn sockets_of(process: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(process.join("fd"))
        .into_iter()
        .flatten()
        .flatten()
    {
        let target = std::fs::read_link(entry.path()).unwrap_or_default();
        let inode = target
            .to_str()
            .and_then(|name| name.strip_prefix("socket:[")?.strip_suffix(']'));
        found.extend(inode.map(String::from));
    }
    found
}

/// The folders in `/proc` of processes whose command line names `folder`.
fn processes(folder: &Path) -> Vec<PathBuf> {
    let folder = folder.to_str().unwrap();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if String::from_utf8_lossy(&line).contains(folder) {
            found.push(entry.path());
        }
    }
    found
}
