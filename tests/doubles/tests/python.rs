//! python-gitlab, written against the real GitLab, walks the stand-in: what it trips over, Penstock would trip over too.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may panic"
)]

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use axum::{Router, routing::post};
use penstock_doubles::gitlab::{
    Access, Break, Fault, GitLab, ProjectSeed, Proposal, Push, Token, World,
};

/// The client's version that the stand-in was compared with.
const PYTHON_GITLAB: &str = "python-gitlab==8.6.0";

/// The interpreter of an environment that holds python-gitlab, made if it is missing.
fn python() -> PathBuf {
    let cache = env::var_os("PENSTOCK_CACHE").map(PathBuf::from);
    let cache = cache.unwrap_or_else(|| {
        PathBuf::from(env::var_os("HOME").expect("a home")).join(".cache/penstock")
    });
    let home = cache.join("python");
    let finished = home.join(PYTHON_GITLAB);
    let interpreter = home.join("venv/bin/python");
    if !finished.exists() {
        fs::create_dir_all(&home).unwrap();
        run(Command::new("python3")
            .args(["-m", "venv", "--clear"])
            .arg(home.join("venv")));
        run(Command::new(&interpreter).args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            PYTHON_GITLAB,
        ]));
        fs::write(&finished, "").unwrap();
    }
    interpreter
}

fn run(command: &mut Command) {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?} did not start: {error}"));
    assert!(
        output.status.success(),
        "{command:?} failed:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[tokio::test]
async fn python_gitlab_finds_what_it_knows() {
    let mut world = World::new();
    world
        .user("alice")
        .user("stranger")
        .bot("penstock")
        .group("acme")
        .project(ProjectSeed::new("acme/api"));
    for number in 0..119 {
        world.user(&format!("user-{number}"));
    }
    world
        .member("acme", "alice", Access::Developer)
        .member("acme", "penstock", Access::Owner);
    world.token(Token::new("token-of-penstock", "penstock"));
    let gitlab = GitLab::start(world).await;
    let _ = gitlab.tag("acme/api", "v1", "main", None, "alice");
    let mut push = Push::new("acme/api", "feature/one", "alice").message("First");
    for number in 0..120 {
        push = push.write(&format!("many/{number:03}"), format!("{number}\n"));
    }
    let _ = gitlab.push(
        push.then()
            .message("Second")
            .write("src/deep/new.rs", "new\n"),
    );
    let _ = gitlab.propose(Proposal::new("acme/api", "feature/one", "alice"));
    gitlab.order(Fault::new("GET", "/protected_tags", Break::RateLimited(Some(1))).times(1));
    gitlab.order(
        Fault::new("GET", "/protected_tags", Break::RateLimited(None))
            .after(1)
            .times(1),
    );

    let app = Router::new().route("/hook", post(async || "thanks"));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let receiver = format!("http://{}/hook", listener.local_addr().unwrap());
    let served = tokio::spawn(async move { axum::serve(listener, app).await });

    let url = gitlab.url();
    let walk = tokio::task::spawn_blocking(move || {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/walk.py");
        Command::new(python())
            .arg(script)
            .env("GITLAB_URL", url)
            .env("GITLAB_TOKEN", "token-of-penstock")
            .env("RECEIVER_URL", receiver)
            .env("NO_PROXY", "127.0.0.1")
            .output()
            .unwrap()
    });
    let output = walk.await.unwrap();
    served.abort();
    assert!(
        output.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(
        gitlab.calls_to("GET", "/protected_tags").len(),
        3,
        "429, again, 429"
    );
}
