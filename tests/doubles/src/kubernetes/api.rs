//! From a request to an answer: who asks and whether that is granted, and the verbs.

use std::{collections::HashMap, sync::Arc};

use axum::body::Body;
use bytes::Bytes;
use http::Response;
use jiff::{SignedDuration, Timestamp};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    Called, Shared,
    kinds::{KINDS, Kind, discovery},
    selector::Selector,
    store::{Key, Refused},
    watch::watch,
};
use crate::wire::{Cut, Received};

/// A token that TokenRequest gave out.
#[derive(Clone, Debug)]
pub(crate) struct Minted {
    pub(crate) account: String,
    pub(crate) expires: Timestamp,
}

/// A request taken apart.
pub(crate) struct Asked {
    pub(crate) kind: usize,
    pub(crate) namespace: String,
    name: Option<String>,
    subresource: Option<String>,
    pub(crate) query: HashMap<String, String>,
}

pub(crate) async fn answer(shared: Arc<Shared>, received: Received) -> Result<Response<Body>, Cut> {
    let who = identify(&shared, &received);
    let called = Called {
        method: received.method.to_string(),
        path: received.path.clone(),
        query: received.query.clone(),
        account: who.as_ref().ok().cloned().unwrap_or_default(),
        body: serde_json::from_slice(&received.body).unwrap_or(Value::Null),
        status: 0,
    };
    let number = {
        let mut journal = shared.journal.lock().expect("the journal");
        journal.push(called);
        journal.len() - 1
    };
    let response = match who.and_then(|who| respond(&shared, &received, &who)) {
        Ok(response) => response,
        Err(refused) => json_response(refused.code, &refused.show()),
    };
    shared.journal.lock().expect("the journal")[number].status = response.status().as_u16();
    Ok(response)
}

fn json_response(status: u16, value: &Value) -> Response<Body> {
    let builder = Response::builder()
        .status(status)
        .header("content-type", "application/json");
    builder
        .body(Body::from(value.to_string()))
        .expect("a response")
}

/// Without a token a caller is the administrator; an unknown or expired token is nobody.
fn identify(shared: &Shared, received: &Received) -> Result<String, Refused> {
    let header = received
        .headers
        .get("authorization")
        .and_then(|value| value.to_str().ok());
    let Some(token) = header.and_then(|value| value.strip_prefix("Bearer ")) else {
        return Ok("admin".to_owned());
    };
    let tokens = shared.tokens.lock().expect("the tokens");
    match tokens.get(token) {
        Some(minted) if minted.expires > Timestamp::now() => Ok(minted.account.clone()),
        _ => Err(Refused::new(401, "Unauthorized", "Unauthorized")),
    }
}

fn respond(
    shared: &Arc<Shared>,
    received: &Received,
    who: &str,
) -> Result<Response<Body>, Refused> {
    let segments: Vec<String> = received
        .path
        .trim_matches('/')
        .split('/')
        .map(|part| percent_decode_str(part).decode_utf8_lossy().into_owned())
        .collect();
    let path: Vec<&str> = segments.iter().map(String::as_str).collect();
    let method = received.method.as_str();
    match (method, path.as_slice()) {
        ("GET", ["version"]) => {
            return Ok(json_response(
                200,
                &json!({
                    "major": "1", "minor": "36", "gitVersion": "v1.36.1", "gitCommit": "", "gitTreeState": "clean",
                    "buildDate": "2026-05-01T00:00:00Z", "goVersion": "", "compiler": "", "platform": "",
                }),
            ));
        }
        ("GET", ["readyz" | "livez" | "healthz", ..]) => {
            return Ok(Response::new(Body::from("ok")));
        }
        (
            "POST",
            [
                "apis",
                "authorization.k8s.io",
                "v1",
                "selfsubjectaccessreviews",
            ],
        ) => {
            return Ok(json_response(201, &review(shared, who, &received.body)?));
        }
        ("GET", path) => {
            if let Some(found) = discovery(path) {
                return Ok(json_response(200, &found));
            }
        }
        _ => {}
    }
    let query = form_urlencoded::parse(received.query.as_bytes())
        .into_owned()
        .collect();
    let asked = take_apart(&path, query).ok_or_else(|| {
        Refused::new(
            404,
            "NotFound",
            "the server could not find the requested resource",
        )
    })?;
    let watching = asked
        .query
        .get("watch")
        .is_some_and(|value| value == "true" || value == "1");
    let verb = match (method, &asked.name) {
        ("GET", Some(_)) => "get",
        ("GET", None) if watching => "watch",
        ("GET", None) => "list",
        ("POST", _) => "create",
        ("PUT", _) => "update",
        ("PATCH", _) => "patch",
        ("DELETE", Some(_)) => "delete",
        _ => {
            return Err(Refused::new(
                405,
                "MethodNotAllowed",
                "the server does not allow this method on the requested resource",
            ));
        }
    };
    let kind = &KINDS[asked.kind];
    let resource = match &asked.subresource {
        Some(subresource) => format!("{}/{subresource}", kind.plural),
        None => kind.plural.to_owned(),
    };
    if !shared.allows(who, &asked.namespace, verb, &resource) {
        let named = asked
            .name
            .as_ref()
            .map(|name| format!(" \"{name}\""))
            .unwrap_or_default();
        let group = kind.group;
        let said = format!(
            "{resource}.{group}{named} is forbidden: User \"{who}\" cannot {verb} resource \"{resource}\" \
             in API group \"{group}\" in the namespace \"{}\"",
            asked.namespace
        );
        return Err(Refused::new(403, "Forbidden", said));
    }
    if watching && asked.name.is_none() {
        return watch(shared, asked);
    }
    act(shared, received, verb, asked)
}

fn take_apart(path: &[&str], query: HashMap<String, String>) -> Option<Asked> {
    let (group, version, rest) = match path {
        ["api", version, rest @ ..] => ("", *version, rest),
        ["apis", group, version, rest @ ..] => (*group, *version, rest),
        _ => return None,
    };
    let (namespace, rest) = match rest {
        ["namespaces", namespace, plural, rest @ ..]
            if Kind::find(group, version, plural).is_some() =>
        {
            ((*namespace).to_owned(), [&[*plural][..], rest].concat())
        }
        rest => (String::new(), rest.to_vec()),
    };
    let owned = |text: Option<&&str>| text.map(|text| (*text).to_owned());
    let kind = Kind::find(group, version, rest.first()?)?;
    Some(Asked {
        kind,
        namespace,
        name: owned(rest.get(1)),
        subresource: owned(rest.get(2)),
        query,
    })
}

fn act(
    shared: &Arc<Shared>,
    received: &Received,
    verb: &str,
    asked: Asked,
) -> Result<Response<Body>, Refused> {
    let Asked {
        kind,
        namespace,
        name,
        subresource,
        query,
    } = asked;
    let dry = query.contains_key("dryRun");
    let body = || {
        serde_json::from_slice::<Value>(&received.body).map_err(|error| {
            Refused::new(400, "BadRequest", format!("the body is not JSON: {error}"))
        })
    };
    let status = subresource.as_deref() == Some("status");
    let key = |name: String| -> Key { (kind, namespace.clone(), name) };
    let mut store = shared.store.lock().expect("the store");
    let answered = match (verb, name, subresource.as_deref()) {
        ("create", Some(name), Some("token")) if KINDS[kind].plural == "serviceaccounts" => {
            store.get(&key(name.clone()))?;
            drop(store);
            return Ok(json_response(
                201,
                &mint(shared, &namespace, &name, body()?)?,
            ));
        }
        ("get", Some(name), Some("log")) if KINDS[kind].plural == "pods" => {
            let pod = store.get(&key(name))?;
            let log = pod["metadata"]["annotations"][super::LOG]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            return Ok(Response::builder()
                .header("content-type", "text/plain")
                .body(Body::from(log))
                .expect("a response"));
        }
        ("get", Some(name), None | Some("status")) => json_response(200, store.get(&key(name))?),
        ("list", None, _) => {
            let selector = selector(&query)?;
            let fits = |(key, object): &(&Key, &Value)| {
                key.0 == kind
                    && (namespace.is_empty() || key.1 == namespace)
                    && selector.fits(object)
            };
            let items: Vec<&Value> = store
                .objects
                .iter()
                .filter(fits)
                .map(|(_, object)| object)
                .collect();
            json_response(
                200,
                &json!({
                    "kind": format!("{}List", KINDS[kind].kind),
                    "apiVersion": KINDS[kind].api_version(),
                    "metadata": { "resourceVersion": store.version.to_string() },
                    "items": items,
                }),
            )
        }
        ("create", None, _) => json_response(201, &store.create(kind, &namespace, body()?, dry)?),
        ("update", Some(name), None | Some("status")) => {
            json_response(200, &store.replace(&key(name), body()?, status, dry)?)
        }
        ("patch", Some(name), None | Some("status")) => {
            let how = received
                .headers
                .get("content-type")
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default();
            let applying = how.starts_with("application/apply-patch");
            let patch = body()?;
            if applying && !store.objects.contains_key(&key(name.clone())) {
                json_response(201, &store.create(kind, &namespace, patch, dry)?)
            } else {
                let mut object = store.get(&key(name.clone()))?.clone();
                let expected = patch["metadata"]["resourceVersion"].clone();
                if how.starts_with("application/json-patch") {
                    let patch: json_patch::Patch = serde_json::from_value(patch)
                        .map_err(|error| Refused::new(400, "BadRequest", error.to_string()))?;
                    json_patch::patch(&mut object, &patch)
                        .map_err(|error| Refused::new(422, "Invalid", error.to_string()))?;
                } else {
                    json_patch::merge(&mut object, &patch);
                }
                if expected.is_string() {
                    object["metadata"]["resourceVersion"] = expected;
                }
                json_response(200, &store.replace(&key(name), object, status, dry)?)
            }
        }
        ("delete", Some(name), None) => json_response(200, &store.delete(&key(name))?),
        _ => {
            return Err(Refused::new(
                404,
                "NotFound",
                "the server could not find the requested resource",
            ));
        }
    };
    let version = store.version;
    drop(store);
    shared
        .changed
        .send_if_modified(|known| std::mem::replace(known, version) != version);
    Ok(answered)
}

pub(crate) fn selector(query: &HashMap<String, String>) -> Result<Selector, Refused> {
    let text = |name: &str| query.get(name).map(String::as_str).unwrap_or_default();
    Selector::parse(text("labelSelector"), text("fieldSelector"))
}

fn mint(
    shared: &Shared,
    namespace: &str,
    name: &str,
    mut request: Value,
) -> Result<Value, Refused> {
    let seconds = request["spec"]["expirationSeconds"]
        .as_i64()
        .unwrap_or(3600);
    if seconds < 600 {
        let said = "spec.expirationSeconds: Invalid value: may not specify a duration less than 10 minutes";
        return Err(Refused::new(422, "Invalid", said));
    }
    let expires = Timestamp::now() + SignedDuration::from_secs(seconds);
    let token = format!(
        "double.{}.{}",
        Uuid::new_v4().simple(),
        Uuid::new_v4().simple()
    );
    let account = format!("system:serviceaccount:{namespace}:{name}");
    shared
        .tokens
        .lock()
        .expect("the tokens")
        .insert(token.clone(), Minted { account, expires });
    request["kind"] = json!("TokenRequest");
    request["apiVersion"] = json!("authentication.k8s.io/v1");
    request["metadata"] =
        json!({ "name": name, "namespace": namespace, "creationTimestamp": super::store::now() });
    request["spec"]["expirationSeconds"] = json!(seconds);
    let until = expires.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    request["status"] = json!({ "token": token, "expirationTimestamp": until });
    Ok(request)
}

fn review(shared: &Shared, who: &str, body: &Bytes) -> Result<Value, Refused> {
    let mut review: Value = serde_json::from_slice(body).map_err(|error| {
        Refused::new(400, "BadRequest", format!("the body is not JSON: {error}"))
    })?;
    let asked = &review["spec"]["resourceAttributes"];
    let text = |field: &str| asked[field].as_str().unwrap_or_default();
    let resource = match text("subresource") {
        "" => text("resource").to_owned(),
        subresource => format!("{}/{subresource}", text("resource")),
    };
    let allowed = shared.allows(who, text("namespace"), text("verb"), &resource);
    review["kind"] = json!("SelfSubjectAccessReview");
    review["apiVersion"] = json!("authorization.k8s.io/v1");
    review["metadata"] = json!({});
    review["status"] = json!({ "allowed": allowed, "reason": if allowed { "granted in the stand-in's table" } else { "" } });
    Ok(review)
}
