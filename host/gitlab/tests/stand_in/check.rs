//! What `penstock check` is told.

use penstock_doubles::gitlab::{Access, Token};
use penstock_gitlab::{ApiError, HookScope, WantedHook, check};

use crate::scene::{Scene, scope};

fn wanted(path: &str) -> WantedHook {
    WantedHook {
        scope: scope(),
        base: Some("http://127.0.0.1:9".to_owned()),
        path: path.to_owned(),
    }
}

#[tokio::test]
async fn version_user_token_and_hooks_are_told() {
    let scene = Scene::new().await;
    let hooks = [wanted("/hooks"), wanted("/other")];
    let found = check(&scene.client, &hooks).await;
    assert_eq!(found.version.unwrap(), "19.1.0-ee");
    let user = found.user.unwrap();
    assert!(user.bot);
    assert_eq!(user.id, scene.user("project_1_bot_penstock"));
    let token = found.token.unwrap();
    assert_eq!(
        (token.scopes, token.active, token.expires_at),
        (vec!["api".to_owned()], true, None)
    );
    let hook = found.hooks[0].as_ref().unwrap().as_ref().unwrap();
    assert_eq!((hook.id, hook.signing_token), (scene.hook, Some(true)));
    assert!(
        hook.events.iter().any(|event| event == "merge_requests"),
        "{hook:?}"
    );
    assert!(found.hooks[1].as_ref().unwrap().is_none());
}

#[tokio::test]
async fn what_the_token_may_not_ask_does_not_hide_the_rest() {
    let scene = Scene::with(|world| {
        world.bot("weak").member("acme", "weak", Access::Developer);
        world.token(Token::new("glpat-weak", "weak").scopes(&["read_api"]));
    })
    .await;
    let hook = WantedHook {
        scope: HookScope::Group("acme".into()),
        base: None,
        path: "/hooks".to_owned(),
    };
    let found = check(&scene.client_of("glpat-weak"), &[hook]).await;
    assert!(found.version.is_ok());
    assert_eq!(found.token.unwrap().scopes, ["read_api"]);
    assert!(
        matches!(found.hooks[0], Err(ApiError::Forbidden(_))),
        "{:?}",
        found.hooks
    );
}
