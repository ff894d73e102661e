//! Errors, limits and pages of the client itself.

use std::time::Duration;

use penstock_doubles::gitlab::{Break, Fault};
use penstock_gitlab::ApiError;

use crate::scene::Scene;

#[tokio::test]
async fn a_limit_of_the_whole_token_stops_all_calls_until_its_time() {
    let scene = Scene::new().await;
    scene
        .gitlab
        .order(Fault::new("GET", "/user$", Break::RateLimited(Some(300))).times(1));
    let first = scene.client.own_user().await.unwrap_err();
    assert_eq!(first.retry_after(), Some(Duration::from_secs(300)));
    let asked = scene.gitlab.calls().len();
    let second = scene.client.own_user().await.unwrap_err();
    assert!(
        second
            .retry_after()
            .is_some_and(|wait| wait > Duration::from_secs(200)),
        "{second:?}"
    );
    assert_eq!(
        scene.gitlab.calls().len(),
        asked,
        "it was called all the same"
    );
}

#[tokio::test]
async fn a_429_is_followed_by_success() {
    let scene = Scene::new().await;
    scene
        .gitlab
        .order(Fault::new("GET", "/user$", Break::RateLimited(Some(0))).times(1));
    assert!(scene.client.own_user().await.is_err());
    assert_eq!(
        scene.client.own_user().await.unwrap().username,
        "project_1_bot_penstock"
    );
}

#[tokio::test]
async fn a_token_that_is_revoked_or_expired_is_told_apart_from_everything_else() {
    let scene = Scene::new().await;
    scene.gitlab.edit(|world| {
        world.revoke("glpat-ours");
    });
    for client in [scene.client.clone(), scene.client_of("glpat-unknown")] {
        let error = client.own_user().await.unwrap_err();
        assert!(matches!(error, ApiError::Unauthorized(_)), "{error:?}");
        assert!(!error.to_string().contains("glpat"), "{error}");
    }
}

#[tokio::test]
async fn broken_connections_name_neither_address_nor_token() {
    let scene = Scene::new().await;
    scene.gitlab.order(Fault::new("GET", "/user$", Break::Cut));
    let error = scene.client.own_user().await.unwrap_err();
    let ApiError::Unavailable { what, .. } = &error else {
        panic!("{error:?}")
    };
    assert!(
        !what.contains("127.0.0.1") && !what.contains("glpat"),
        "{what}"
    );
}

#[tokio::test]
async fn every_call_is_reported_by_its_class() {
    let scene = Scene::new().await;
    scene
        .gitlab
        .order(Fault::new("GET", "/user$", Break::Cut).times(1));
    scene
        .gitlab
        .order(Fault::new("GET", "/user$", Break::Status(503)).times(1));
    for _ in 0..3 {
        let _ = scene.client.own_user().await;
    }
    let calls = scene.calls.0.lock().unwrap();
    let seen: Vec<_> = calls.iter().map(|call| (call.class, call.status)).collect();
    assert_eq!(
        seen,
        [
            ("user.self", None),
            ("user.self", Some(503)),
            ("user.self", Some(200))
        ]
    );
}
