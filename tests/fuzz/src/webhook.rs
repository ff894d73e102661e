//! A request as the network brings it: headers, an empty line, a body.
//!
//! Without a credential of the hook nothing is verified, whatever the headers say. With one, the body is held against the hook's scope and read; what comes
//! out of that stays within the scope.

use std::sync::LazyLock;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use penstock_gitlab::{Accepted, HookScope, Keys, Redaction, ScopeClaim, parse, verify};
use penstock_model::id::{ProjectId, Timestamp};
use penstock_model::secret::Secret;

/// Nobody guesses them.
const TOKEN: &str = "3e3cfd4b-64a5-4c1c-8f8e-0c7c9f1b2f61";
const SIGNING: &str = "whsec_qO3Zb3o1u9r0m7mJxv7k8s2a4c6e8g0i2k4m6o8q0s0=";
const NOW: Timestamp = Timestamp(1_800_000_000_000);

static KEYS: LazyLock<Keys> = LazyLock::new(|| {
    Keys::new(vec![Secret::new(TOKEN)], vec![Secret::new(SIGNING)]).expect("keys")
});

/// Runs it.
pub fn run(data: &[u8]) {
    let (headers, body) = split(data);
    let body = Bytes::copy_from_slice(body);
    assert!(
        verify(&KEYS, &headers, body.clone(), NOW).is_err(),
        "verified without a credential: {headers:?}"
    );
    let mut known = headers;
    for header in [
        "webhook-signature",
        "x-gitlab-token",
        "webhook-id",
        "webhook-timestamp",
        "idempotency-key",
    ] {
        known.remove(header);
    }
    known.insert("x-gitlab-token", HeaderValue::from_static(TOKEN));
    let scopes = [
        HookScope::Instance,
        HookScope::Group("acme".to_owned()),
        HookScope::Project("acme/payments/api".to_owned()),
        HookScope::ProjectId(ProjectId(7)),
    ];
    for scope in scopes {
        let verified = verify(&KEYS, &known, body.clone(), NOW).expect("it carries the token");
        let within = verified.within(
            &scope,
            &"main".into(),
            &"hook".into(),
            &Redaction::default(),
        );
        if let Ok(accepted) = within {
            holds(&scope, &accepted);
        }
    }
}

/// What is promised of a body that was taken in.
fn holds(scope: &HookScope, accepted: &Accepted) {
    for (name, value) in accepted.headers() {
        assert!(
            name != "x-gitlab-token" && name != "webhook-signature" && value != TOKEN,
            "a credential is kept: {name}"
        );
    }
    // What comes back from the store is what was put there.
    let again = Accepted::restore(
        accepted.instance().clone(),
        accepted.hook().clone(),
        accepted.delivery().clone(),
        accepted.headers().to_vec(),
        accepted.body().clone(),
    );
    let again = again.expect("what was taken in is read again");
    assert_eq!(again.lane(), accepted.lane());
    assert_eq!(again.kind(), accepted.kind());
    assert_eq!(again.project(), accepted.project());
    assert_eq!(again.body_digest(), accepted.body_digest());
    let parsed = parse(accepted);
    assert_eq!(parsed, parse(&again));
    let Ok(parsed) = parsed else {
        return;
    };
    match parsed.scope {
        ScopeClaim::Project { id, path } => assert!(
            scope.contains_project(id, path.as_str())
                || (path.as_str().is_empty() && !matches!(scope, HookScope::ProjectId(_))),
            "{scope} speaks for {id} `{path}`"
        ),
        ScopeClaim::Group { path, .. } => {
            if let Some(path) = path {
                assert!(
                    scope.contains(&path),
                    "{scope} speaks for the group `{path}`"
                );
            }
        }
        ScopeClaim::Instance => {}
    }
}

fn split(data: &[u8]) -> (HeaderMap, &[u8]) {
    let mut headers = HeaderMap::new();
    let mut rest = data;
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        let (line, after) = rest.split_at(end);
        rest = &after[1..];
        if line.is_empty() {
            break;
        }
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            continue;
        };
        if let (Ok(name), Ok(value)) = (
            HeaderName::from_bytes(&line[..colon]),
            HeaderValue::from_bytes(&line[colon + 1..]),
        ) {
            headers.append(name, value);
        }
    }
    (headers, rest)
}
