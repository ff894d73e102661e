//! The API server's own account of who did what.

use penstock_control_plane::{shared, wait};
use serde_json::Value;

use crate::LIMIT;

/// Who did this in a namespace, in order; only what was allowed.
pub(crate) async fn who(
    namespace: &str,
    verb: &str,
    resource: &str,
    subresource: &str,
) -> Vec<String> {
    let log = shared()
        .await
        .unwrap()
        .audit_log()
        .expect("the shared control plane keeps an audit log");
    std::fs::read_to_string(log)
        .unwrap()
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|event| {
            let object = &event["objectRef"];
            event["verb"] == verb
                && object["namespace"] == namespace
                && object["resource"] == resource
                && object["subresource"].as_str().unwrap_or_default() == subresource
                && event["responseStatus"]["code"]
                    .as_u64()
                    .is_some_and(|code| code < 300)
        })
        .filter_map(|event| event["user"]["username"].as_str().map(str::to_owned))
        .collect()
}

/// Waits until so many did it.
pub(crate) async fn who_when(
    count: usize,
    namespace: &str,
    verb: &str,
    resource: &str,
    subresource: &str,
) -> Vec<String> {
    wait::until("the audit log", LIMIT, async || {
        let who = who(namespace, verb, resource, subresource).await;
        Ok((who.len() >= count).then_some(who))
    })
    .await
    .unwrap()
}
