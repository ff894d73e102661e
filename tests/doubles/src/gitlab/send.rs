//! Sends webhooks: which hooks an event reaches, the headers of each GitLab version, signatures, and the log.

use std::time::{Duration, Instant};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use sha2::Sha256;
use uuid::Uuid;

use super::{
    Shared,
    hooks::{Hook, Logged, Owner, Trigger},
    project::wildcard,
    world::World,
};

/// GitLab keeps this much of an answer.
const KEPT_ANSWER: usize = 8 * 1024;

/// One webhook call, made but not sent.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The hook's id.
    pub hook: u64,
    /// Where it goes.
    pub url: String,
    /// All headers, signature and token with them.
    pub headers: HeaderMap,
    /// The body, as signed.
    pub body: Bytes,
    pub(crate) trigger: Trigger,
    pub(crate) key: String,
}

/// What came of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The hook's id.
    pub hook: u64,
    /// The answer's status; `None` if there was no answer, or if the hook is disabled and nothing was sent.
    pub status: Option<u16>,
    /// The answer's body, up to 8 KiB.
    pub body: String,
    /// The hook is disabled: nothing was sent and its log has no row.
    pub disabled: bool,
    /// The row in the hook's log.
    pub event: Option<u64>,
    /// `Idempotency-Key`, and from 19.0 on also `webhook-id`.
    pub key: String,
}

/// A body that GitLab wants to send, before it is known to which hooks.
#[derive(Clone, Debug)]
pub(crate) struct Notice {
    pub(crate) trigger: Trigger,
    pub(crate) project: Option<u64>,
    pub(crate) group: Option<u64>,
    pub(crate) body: Value,
}

/// The hooks that an event reaches: the project's own, and those of every group above.
pub(crate) fn reached(world: &World, notice: &Notice) -> Vec<u64> {
    let path = match (notice.project, notice.group) {
        (Some(project), _) => world.projects[&project].path.clone(),
        (None, Some(group)) => format!("{}/", world.groups[&group].path),
        (None, None) => return Vec::new(),
    };
    let above: Vec<u64> = world
        .ancestors(&path)
        .into_iter()
        .map(|group| group.id)
        .collect();
    let fits = |hook: &&Hook| {
        let reaches = match hook.owner {
            Owner::Project(id) => notice.project == Some(id),
            Owner::Group(id) => above.contains(&id),
        };
        let git_ref = notice.body["ref"].as_str().unwrap_or_default();
        let branch = git_ref.strip_prefix("refs/heads/").unwrap_or_default();
        let wanted = notice.trigger != Trigger::Push
            || hook.branch_filter.is_empty()
            || wildcard(&hook.branch_filter, branch);
        reaches && wanted && hook.triggers.contains(&notice.trigger)
    };
    world
        .hooks
        .values()
        .filter(fits)
        .map(|hook| hook.id)
        .collect()
}

/// (major, minor) of the version that the instance claims.
fn version(world: &World) -> (u32, u32) {
    let mut parts = world
        .version
        .split(['.', '-'])
        .map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

/// Makes the call that this instance's version would send to a hook.
pub(crate) fn prepare(
    world: &World,
    hook: u64,
    trigger: Trigger,
    body: Bytes,
    key: Option<String>,
) -> Delivery {
    let hook = &world.hooks[&hook];
    let key = key.unwrap_or_else(|| Uuid::new_v4().to_string());
    let version = version(world);
    let mut headers = HeaderMap::new();
    let mut set = |name: &str, value: &str| {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a header's name");
        headers.insert(
            name,
            HeaderValue::from_str(value).expect("a header's value"),
        );
    };
    set("content-type", "application/json");
    set("user-agent", &format!("GitLab/{}", world.version));
    set("x-gitlab-event", trigger.header());
    set("x-gitlab-webhook-uuid", &Uuid::new_v4().to_string());
    set("x-gitlab-instance", &world.base);
    set("x-gitlab-event-uuid", &Uuid::new_v4().to_string());
    if version >= (17, 4) {
        set("idempotency-key", &key);
    }
    if let Some(token) = &hook.token {
        set("x-gitlab-token", token);
    }
    if version >= (19, 0) {
        let stamp = world.now().as_second().to_string();
        set("webhook-id", &key);
        set("webhook-timestamp", &stamp);
        if let Some(token) = &hook.signing_token {
            set("webhook-signature", &sign(token, &key, &stamp, &body));
        }
    }
    Delivery {
        hook: hook.id,
        url: hook.url.clone(),
        headers,
        body,
        trigger,
        key,
    }
}

/// `v1,` and the base64 of the HMAC over id, timestamp and body.
///
/// # Panics
/// If the token is not `whsec_` and base64.
#[must_use]
pub fn sign(signing_token: &str, id: &str, timestamp: &str, body: &[u8]) -> String {
    let key = signing_token
        .strip_prefix("whsec_")
        .expect("a signing token begins with whsec_");
    let key = BASE64_STANDARD
        .decode(key)
        .expect("a signing token is base64");
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("a key of any length");
    mac.update(format!("{id}.{timestamp}.").as_bytes());
    mac.update(body);
    format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes()))
}

/// Sends one delivery, logs it and counts the hook's failures; a disabled hook sends and logs nothing unless `forced`.
pub(crate) async fn deliver(shared: &Shared, delivery: Delivery, forced: Force) -> Sent {
    let timeout = {
        let world = shared.world();
        let executable = world
            .hooks
            .get(&delivery.hook)
            .is_some_and(|hook| hook.alert_status(world.now()) == "executable");
        if !executable && forced == Force::No {
            let (hook, key) = (delivery.hook, delivery.key);
            return Sent {
                hook,
                status: None,
                body: String::new(),
                disabled: true,
                event: None,
                key,
            };
        }
        world.limits.hook_timeout
    };
    let began = Instant::now();
    let answer = post(shared, &delivery, timeout).await;
    let mut world = shared.world();
    let (now, event) = (world.now(), world.next_id());
    let (status, body) =
        answer.map_or((None, String::new()), |(status, body)| (Some(status), body));
    let named = delivery.headers.iter();
    let headers = named
        .map(|(name, value)| {
            (
                name.to_string(),
                value.to_str().unwrap_or_default().to_owned(),
            )
        })
        .collect();
    if let Some(hook) = world.hooks.get_mut(&delivery.hook) {
        hook.went(
            status.is_some_and(|status| (200..400).contains(&status)),
            now,
        );
        hook.log.push(Logged {
            id: event,
            trigger: delivery.trigger,
            url: delivery.url,
            key: delivery.key.clone(),
            headers,
            body: delivery.body,
            status: status.map_or_else(|| "internal error".to_owned(), |status| status.to_string()),
            response: body.clone(),
            seconds: began.elapsed().as_secs_f64(),
            at: now,
        });
    }
    Sent {
        hook: delivery.hook,
        status,
        body,
        disabled: false,
        event: Some(event),
        key: delivery.key,
    }
}

/// Whether a disabled hook is called all the same, as a person's test does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Force {
    No,
    Yes,
}

async fn post(shared: &Shared, delivery: &Delivery, timeout: Duration) -> Option<(u16, String)> {
    let request = shared
        .client
        .post(&delivery.url)
        .headers(delivery.headers.clone())
        .body(delivery.body.clone())
        .timeout(timeout);
    let response = request.send().await.ok()?;
    let status = response.status().as_u16();
    let mut body = response.text().await.ok()?;
    let mut end = body.len().min(KEPT_ANSWER);
    while !body.is_char_boundary(end) {
        end -= 1;
    }
    body.truncate(end);
    Some((status, body))
}
