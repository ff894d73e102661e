//! From a request on the wire to an answer: who asks, ordered faults, limits, the lock of statuses, the journal.

use std::{sync::Arc, time::Duration};

use axum::body::Body;
use bytes::Bytes;
use http::Response;
use http_body_util::BodyExt;
use serde_json::json;

use super::{
    Shared, admin,
    answer::{Answer, ApiError},
    call::Call,
    faults::{Break, Heard},
    graphql,
    hooks::{self, Owner, Trigger},
    rest,
    send::{self, Force},
    tokens::{self, Need},
};
use crate::wire::{Cut, Received};

/// Answers one request, by fault or by rule, and writes it into the journal.
pub(crate) async fn answer(shared: Arc<Shared>, received: Received) -> Result<Response<Body>, Cut> {
    if received.path.starts_with("/_double/") {
        return Ok(admin::answer(&shared, &received).await);
    }
    let target = match received.query.as_str() {
        "" => received.path.clone(),
        query => format!("{}?{query}", received.path),
    };
    let method = received.method.as_str();
    let identity = {
        let mut world = shared.world();
        let found = tokens::identify(
            &mut world,
            &received.headers,
            &received.query,
            Need::of(method, &received.path),
        );
        let name = found
            .as_ref()
            .ok()
            .map(|who| world.users[&who.user].username.clone());
        let heard = Heard {
            at: world.now(),
            method: method.to_owned(),
            path: target.clone(),
            body: received.body.clone(),
            user: name,
            status: None,
        };
        (found, heard)
    };
    let (identity, heard) = identity;
    let (number, fault, latency) = {
        let mut desk = shared.desk();
        desk.journal.push(heard);
        (
            desk.journal.len() - 1,
            desk.fault_for(method, &target),
            desk.latency,
        )
    };
    shared.heard.send_modify(|count| *count += 1);
    if !latency.is_zero() {
        tokio::time::sleep(latency).await;
    }
    let work = async {
        match identity {
            Ok(who) => match respond(&shared, &received, who).await {
                Ok(response) => response,
                Err(error) => error.into_response(),
            },
            Err(error) => error.into_response(),
        }
    };
    let response = match fault {
        None => work.await,
        Some(Break::Status(status)) => broken(status),
        Some(Break::RateLimited(after)) => ApiError::retry_later(after).into_response(),
        Some(Break::Hang) => std::future::pending().await,
        Some(Break::Cut) => return Err(Cut),
        Some(Break::LoseAnswer) => {
            work.await;
            return Err(Cut);
        }
        Some(Break::SlowBody(milliseconds)) => slowly(work.await, milliseconds).await,
        Some(Break::Late(milliseconds)) => {
            tokio::time::sleep(Duration::from_millis(milliseconds)).await;
            work.await
        }
    };
    if let Some(heard) = shared.desk().journal.get_mut(number) {
        heard.status = Some(response.status().as_u16());
    }
    shared.heard.send_modify(|count| *count += 1);
    Ok(response)
}

async fn respond(
    shared: &Shared,
    received: &Received,
    who: tokens::Identity,
) -> Result<Response<Body>, ApiError> {
    let graphql = received.path == "/api/graphql";
    if !graphql && !received.path.starts_with("/api/v4/") {
        return Err(ApiError::error(404, "404 Not Found"));
    }
    let call = Call::new(received, who)?;
    {
        let mut world = shared.world();
        let limit = world.limits.calls_a_minute;
        if limit.is_some_and(|limit| !world.within("calls", call.who.user, 0, limit)) {
            return Err(ApiError::retry_later(Some(60)));
        }
    }
    if graphql {
        let answer = graphql::answer(&shared.world(), &call)?;
        let base = shared.world().base.clone();
        return answer.into_response(&call, &base);
    }
    let path: Vec<&str> = call.segments.iter().map(String::as_str).collect();
    let answer = match (call.method.as_str(), path.as_slice()) {
        ("POST", ["projects", _, "statuses", _]) => in_turn(shared, &call).await?,
        (
            "POST",
            [
                kind @ ("projects" | "groups"),
                owner,
                "hooks",
                hook,
                rest @ ..,
            ],
        ) if !rest.is_empty() => send_again(shared, &call, kind, owner, hook, rest).await?,
        _ => rest::answer(&mut shared.world(), &call)?,
    };
    let base = shared.world().base.clone();
    answer.into_response(&call, &base)
}

/// One status call at a time for each project and commit; the others wait, and get 409 if that takes too long.
async fn in_turn(shared: &Shared, call: &Call) -> Result<Answer, ApiError> {
    let (project, wait, takes) = {
        let world = shared.world();
        let project = rest::find_project(&world, &call.segments[1], call.who.user)?;
        (
            project,
            world.limits.status_lock_wait,
            world.limits.status_takes,
        )
    };
    let key = (project, call.segments[3].clone());
    let lock = Arc::clone(shared.locks().entry(key).or_default());
    let Ok(_turn) = tokio::time::timeout(wait, lock.lock()).await else {
        return Err(ApiError::message(
            409,
            "Another update to this commit status is in progress",
        ));
    };
    if !takes.is_zero() {
        tokio::time::sleep(takes).await;
    }
    rest::answer(&mut shared.world(), call)
}

/// `hooks/:id/events/:event/resend` and `hooks/:id/test/:trigger`.
async fn send_again(
    shared: &Shared,
    call: &Call,
    kind: &str,
    owner: &str,
    hook: &str,
    path: &[&str],
) -> Result<Answer, ApiError> {
    let (delivery, force) = {
        let mut world = shared.world();
        // The listing of the hook's events asks for the same rights.
        let look = Call {
            method: "GET".to_owned(),
            segments: [kind, owner, "hooks", hook].map(str::to_owned).to_vec(),
            query: Vec::new(),
            body: serde_json::Map::new(),
            path: call.path.clone(),
            who: call.who.clone(),
        };
        rest::answer(&mut world, &look)?;
        let hook = world.hooks[&hook.parse::<u64>().map_err(|_| ApiError::not_found(""))?].clone();
        let scope = match hook.owner {
            Owner::Project(id) | Owner::Group(id) => id,
        };
        hooks::find(&world, hook.owner, &hook.id.to_string())?;
        let limit = world.limits.resends_a_minute;
        if !world.within("resend", call.who.user, scope, limit) {
            return Err(ApiError::too_often());
        }
        match path {
            ["events", event, "resend"] => {
                let row = hook.log.iter().find(|row| row.id.to_string() == *event);
                let row = row.ok_or_else(|| ApiError::not_found(""))?;
                if row.url != hook.url {
                    return Err(ApiError::message(
                        422,
                        "The hook URL has changed. This log entry cannot be retried.",
                    ));
                }
                let key = Some(row.key.clone());
                (
                    send::prepare(&world, hook.id, row.trigger, row.body.clone(), key),
                    Force::No,
                )
            }
            ["test", trigger] => {
                let found = Trigger::ALL
                    .into_iter()
                    .find(|known| known.flag() == *trigger);
                let found = found.ok_or_else(|| {
                    ApiError::parameter("trigger does not have a valid value".to_owned())
                })?;
                let sample = hook
                    .log
                    .iter()
                    .rev()
                    .find(|row| row.trigger == found)
                    .map(|row| row.body.clone());
                // For these two GitLab makes something up, or takes the newest push; for the others there must be something to tell of.
                let made_up = || match found {
                    Trigger::Push => sample_push(&world, hook.owner),
                    Trigger::AccessToken => sample_token(&world, hook.owner),
                    _ => None,
                };
                let body = sample.or_else(made_up);
                let body = body.ok_or_else(|| {
                    ApiError::message(422, "Ensure the project has events of this kind.")
                })?;
                (
                    send::prepare(&world, hook.id, found, body, None),
                    Force::Yes,
                )
            }
            _ => return Err(ApiError::not_found("")),
        }
    };
    let resent = force == Force::No;
    let sent = send::deliver(shared, delivery, force).await;
    match sent.status {
        _ if sent.disabled => Err(ApiError::message(422, "Hook disabled")),
        None if resent => Ok(Answer::created(
            json!({ "response_status": "internal error" }),
        )),
        Some(status) if resent => Ok(Answer::created(json!({ "response_status": status }))),
        Some(200..=399) => Ok(Answer::created(json!({ "message": "201 Created" }))),
        _ => Err(ApiError::message(
            422,
            if sent.body.is_empty() {
                "internal error".to_owned()
            } else {
                sent.body
            },
        )),
    }
}

/// A token that is about to expire: what a test of `resource_access_token_events` sends.
fn sample_token(world: &super::World, owner: Owner) -> Option<Bytes> {
    let token = world.tokens.first()?;
    let of = match owner {
        Owner::Project(id) => Ok(world.projects.get(&id)?),
        Owner::Group(id) => Err(world.groups.get(&id)?),
    };
    let mut body = super::payloads::access_token(world, of, token);
    body["object_attributes"]["id"] = json!(1);
    body["object_attributes"]["name"] = json!("pat_for_webhook_event");
    Some(Bytes::from(body.to_string()))
}

/// The last commit of the default branch as a push: what a test of `push_events` sends.
fn sample_push(world: &super::World, owner: Owner) -> Option<Bytes> {
    let of = match owner {
        Owner::Project(id) => world.projects.get(&id)?,
        Owner::Group(id) => {
            let prefix = format!("{}/", world.groups.get(&id)?.path);
            world
                .projects
                .values()
                .find(|project| project.path.starts_with(&prefix))?
        }
    };
    let tip = world
        .objects
        .commit(of.refs.branches.get(&of.default_branch)?)?;
    let before = tip.parents.first().map_or(super::ZERO, String::as_str);
    let by = world.users.keys().next().copied()?;
    let name = format!("refs/heads/{}", of.default_branch);
    let moved = super::payloads::Moved {
        of,
        by,
        name: &name,
        before,
        after: &tip.id,
        commits: vec![tip],
        message: None,
    };
    Some(Bytes::from(
        super::payloads::push(world, &moved).to_string(),
    ))
}

fn broken(status: u16) -> Response<Body> {
    let body = match status {
        500 => json!({ "message": "500 Internal Server Error" }).to_string(),
        502 => "<html><body><h1>502 Bad Gateway</h1></body></html>".to_owned(),
        other => json!({ "message": format!("{other} by order") }).to_string(),
    };
    Response::builder()
        .status(status)
        .body(Body::from(body))
        .expect("a response")
}

/// Sends the head at once and the body in two halves, the second after a while.
async fn slowly(response: Response<Body>, milliseconds: u64) -> Response<Body> {
    let (head, body) = response.into_parts();
    let bytes = body
        .collect()
        .await
        .map(|body| body.to_bytes())
        .unwrap_or_default();
    let mut first = bytes;
    let second = first.split_off(first.len() / 2);
    let parts = futures_util::stream::unfold(vec![second, first], move |mut left| async move {
        let part = left.pop()?;
        if left.is_empty() {
            tokio::time::sleep(Duration::from_millis(milliseconds)).await;
        }
        Some((Ok::<_, std::convert::Infallible>(part), left))
    });
    Response::from_parts(head, Body::from_stream(parts))
}
