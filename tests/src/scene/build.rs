//! How a scene is set up.

use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use penstock_control_plane::place::{CREATOR, RUN_AS};
use penstock_control_plane::{Access, TestPlace, shared};
use penstock_doubles::gitlab::{Access as Level, GitLab, Hook, ProjectSeed, Token, World};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::{Poster, Scene, free_port, yaml};
use crate::penstock::{Penstock, client, program};
use crate::plugin::{Plugin, Route};
use crate::postgres::Postgres;

/// The project of most tests.
pub const PROJECT: &str = "acme/api";
/// A fork of it.
pub const FORK: &str = "mallory/api";

/// Changes the configuration before it is written.
type Edit = Box<dyn FnOnce(&mut Value) + Send>;
/// Changes the stand-in's world before it starts.
type Seed = Box<dyn FnOnce(&mut World) + Send>;

/// What a scene is made of.
pub struct Builder {
    name: String,
    plugins: Vec<Plugin>,
    routes: Vec<Route>,
    loops: Vec<String>,
    postgres: Option<(String, String)>,
    access: Option<Access>,
    program: Option<PathBuf>,
    prefix: Vec<String>,
    environment: Vec<(String, String)>,
    version: Option<String>,
    forks: bool,
    data: Option<PathBuf>,
    edits: Vec<Edit>,
    seeds: Vec<Seed>,
}

impl Builder {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            plugins: Vec::new(),
            routes: Vec::new(),
            loops: Vec::new(),
            postgres: None,
            access: None,
            program: None,
            prefix: Vec::new(),
            environment: Vec::new(),
            version: None,
            forks: false,
            data: None,
            edits: Vec::new(),
            seeds: Vec::new(),
        }
    }

    /// Adds a plugin, with a route for pushes and merge requests.
    #[must_use]
    pub fn plugin(self, plugin: Plugin) -> Self {
        let route = Route::to(&plugin.name);
        self.plugin_by(plugin, route)
    }

    /// Adds a plugin with this route.
    #[must_use]
    pub fn plugin_by(mut self, plugin: Plugin, route: Route) -> Self {
        self.plugins.push(plugin);
        self.routes.push(route);
        self
    }

    /// Keeps the store in Postgres.
    #[must_use]
    pub fn postgres(mut self, server: &Postgres) -> Self {
        self.postgres = Some((server.url(), server.password().to_owned()));
        self
    }

    /// Runs these loops alone.
    #[must_use]
    pub fn loops(mut self, loops: &[&str]) -> Self {
        self.loops = loops.iter().map(|it| (*it).to_owned()).collect();
        self
    }

    /// Uses this control plane and not the shared one.
    #[must_use]
    pub fn cluster(mut self, access: &Access) -> Self {
        self.access = Some(access.clone());
        self
    }

    /// Uses this binary.
    #[must_use]
    pub fn program(mut self, program: &Path) -> Self {
        self.program = Some(program.to_owned());
        self
    }

    /// Starts the binary by these words, such as `taskset -c 1`.
    #[must_use]
    pub fn prefix(mut self, words: &[&str]) -> Self {
        self.prefix = words.iter().map(|it| (*it).to_owned()).collect();
        self
    }

    /// Sets a variable of the host's environment.
    #[must_use]
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Lets GitLab be of this version.
    #[must_use]
    pub fn gitlab_version(mut self, version: &str) -> Self {
        self.version = Some(version.to_owned());
        self
    }

    /// Gives the tenant a place for forks, in a namespace of its own.
    #[must_use]
    pub fn place_for_forks(mut self) -> Self {
        self.forks = true;
        self
    }

    /// Keeps what the host keeps beside the store here, and compiled plugins with it.
    #[must_use]
    pub fn data(mut self, folder: &Path) -> Self {
        self.data = Some(folder.to_owned());
        self
    }

    /// With a key that seals what is kept and signs links to pages.
    ///
    /// # Panics
    /// The key can't be written.
    #[must_use]
    pub fn sealed(self) -> Self {
        self.edit(|config| {
            let api = config["api-token"]["file"].as_str().expect("a file");
            let key = api.replace("api-token", "sealing-key");
            std::fs::write(&key, "0123456789abcdef0123456789abcdef\n").expect("a file");
            config["sealing-key"] = serde_json::json!({ "file": key });
        })
    }

    /// Changes the configuration before it is written.
    #[must_use]
    pub fn edit(mut self, edit: impl FnOnce(&mut Value) + Send + 'static) -> Self {
        self.edits.push(Box::new(edit));
        self
    }

    /// Changes GitLab before it starts.
    #[must_use]
    pub fn seed(mut self, seed: impl FnOnce(&mut World) + Send + 'static) -> Self {
        self.seeds.push(Box::new(seed));
        self
    }

    /// Sets everything up and starts the host.
    pub async fn start(self) -> Scene {
        let mut scene = self.prepare().await;
        scene.penstock.restart().await;
        scene
    }

    /// Sets everything up; the host is not started.
    ///
    /// # Panics
    /// If there is no control plane, or something can't be written.
    pub async fn prepare(self) -> Scene {
        let access = match self.access {
            Some(access) => access,
            None => shared().await.expect("a control plane").clone(),
        };
        let place = TestPlace::create(&access, &self.name)
            .await
            .expect("a namespace");
        let fork_place = match self.forks {
            true => Some(
                TestPlace::create(&access, &format!("{}-forks", self.name))
                    .await
                    .expect("a namespace"),
            ),
            false => None,
        };
        let folder = tempfile::Builder::new()
            .prefix("penstock-test-")
            .tempdir()
            .expect("a folder");
        std::fs::create_dir(folder.path().join("config")).expect("a folder");
        let url = format!("http://127.0.0.1:{}", free_port());
        let keys = Keys::random();
        let (world, hook, other_hook) = world(&keys, &url, self.version.as_deref(), self.seeds);
        let gitlab = GitLab::start(world).await;

        let kubeconfig = place.host_kubeconfig();
        let host_token = bearer(&kubeconfig);
        // Apart from the store: the host watches the folders of secrets, and the store changes all the time.
        let mounted = folder.path().join("secrets");
        std::fs::create_dir(&mounted).expect("a folder");
        let write = |name: &str, text: &str| secret_file(&mounted, name, text);
        let mut config = json!({
            "listen": url.trim_start_matches("http://"),
            "public-url": "https://penstock.example.com",
            "api-token": { "file": write("api-token", &keys.api) },
            "store": { "sqlite": folder.path().join("penstock.db") },
            "data": folder.path().join("data"),
            "gitlab": [{
                "name": "main",
                "url": gitlab.url(),
                "token": { "file": write("gitlab-token", &keys.gitlab) },
                "hooks": [
                    { "name": "acme", "scope": { "group": "acme" }, "signing-token": { "file": write("signing", &keys.signing) } },
                    { "name": "other", "scope": { "group": "other" }, "token": { "file": write("token", &keys.token) } },
                ],
            }],
            "clusters": [{
                "name": "prod",
                "kubeconfig": write("kubeconfig", &kubeconfig),
                "links": { "run": "https://tekton.example.com/{namespace}/{name}", "task": "https://tekton.example.com/{namespace}/{name}/{task}" },
            }],
            "tenants": [
                { "match": "acme/**", "places": { "ci": place_yaml(&place, "member") } },
                { "match": "other/**", "places": { "ci": place_yaml(&place, "member") } },
            ],
            // What is tested is seldom how much may go on at a time: whoever tests that writes limits of its own.
            "flow": lifted(),
            // Nor is what GitLab did not tell: a push that a test keeps back, or that got no answer in a burst, would be found after a minute, which a
            // busy machine may well need.
            "reconcile": { "every": "10m", "settle": "10h" },
            "plugins": self.plugins.iter().map(Plugin::yaml).collect::<Vec<_>>(),
            "routes": self.routes.iter().map(Route::yaml).collect::<Vec<_>>(),
        });
        if let Some(forks) = &fork_place {
            config["tenants"][0]["places"]["untrusted"] = place_yaml(forks, "fork");
        }
        let mut secrets = keys.named();
        secrets.push(("the host's token for the cluster", host_token));
        if let Some((postgres, password)) = self.postgres {
            config["store"] = json!({ "postgres": { "file": write("postgres-url", &postgres) } });
            secrets.push(("the password of Postgres", password));
        }
        for edit in self.edits {
            edit(&mut config);
        }
        let program = self.program.unwrap_or_else(program);
        config["data"] = json!(match self.data {
            Some(data) => data,
            None => compiled(&program, &config, folder.path()).await,
        });

        let path = folder.path().join("config");
        let mut penstock = Penstock::new(program, &path, &url)
            .loops(&self.loops.iter().map(String::as_str).collect::<Vec<_>>())
            .prefix(&self.prefix.iter().map(String::as_str).collect::<Vec<_>>())
            .log_to(&folder.path().join("penstock.log"));
        for (name, value) in &self.environment {
            penstock = penstock.environment(name, value);
        }
        let scene = Scene {
            penstock,
            gitlab,
            place,
            fork_place,
            hook,
            other_hook,
            secrets,
            access,
            config,
            url,
            poster: Poster { http: client() },
            folder,
        };
        scene.write_config(&yaml(&scene.config));
        scene
    }
}

/// The secrets of a scene.
struct Keys {
    signing: String,
    token: String,
    gitlab: String,
    api: String,
}

impl Keys {
    fn random() -> Self {
        use base64::Engine as _;
        let word = || uuid::Uuid::new_v4().simple().to_string();
        let raw: [u8; 32] = rand::random();
        Self {
            signing: format!(
                "whsec_{}",
                base64::engine::general_purpose::STANDARD.encode(raw)
            ),
            token: word(),
            gitlab: format!("glpat-{}", word()),
            api: word(),
        }
    }

    fn named(&self) -> Vec<(&'static str, String)> {
        vec![
            (
                "the signing token",
                self.signing.trim_start_matches("whsec_").to_owned(),
            ),
            ("the hook's secret token", self.token.clone()),
            ("GitLab's token", self.gitlab.clone()),
            ("the API's token", self.api.clone()),
        ]
    }
}

fn world(keys: &Keys, url: &str, version: Option<&str>, seeds: Vec<Seed>) -> (World, u64, u64) {
    let mut world = World::new();
    for user in ["alice", "maria", "mallory", "oscar"] {
        world.user(user);
    }
    world.bot("penstock").group("acme").group("other");
    for path in [PROJECT, "acme/web", "other/api"] {
        world.project(ProjectSeed::new(path));
    }
    world.fork(PROJECT, FORK, "mallory");
    world
        .member("acme", "alice", Level::Developer)
        .member("acme", "maria", Level::Maintainer);
    world.member("other", "oscar", Level::Maintainer);
    for group in ["acme", "other"] {
        world.member(group, "penstock", Level::Maintainer);
    }
    world.token(Token::new(&keys.gitlab, "penstock"));
    // GitLab gives a call up after ten: here a disk that is slow for a moment must not look like a host that takes nothing.
    world.limits.hook_timeout = std::time::Duration::from_secs(60);
    if let Some(version) = version {
        world.version(version);
    }
    for seed in seeds {
        seed(&mut world);
    }
    let hook =
        Hook::group("acme", &format!("{url}/hooks/gitlab/main/acme")).signing_token(&keys.signing);
    let other = Hook::group("other", &format!("{url}/hooks/gitlab/main/other")).token(&keys.token);
    let (hook, other) = (world.hook(hook), world.hook(other));
    (world, hook, other)
}

/// A place of the configuration.
fn place_yaml(place: &TestPlace, when: &str) -> Value {
    json!({ "cluster": "prod", "namespace": place.namespace(), "creator": CREATOR, "run-as": RUN_AS, "when": when })
}

/// Writes a secret as an operator would mount it, and gives its path.
fn secret_file(folder: &Path, name: &str, text: &str) -> PathBuf {
    use std::io::Write as _;
    let path = folder.join(name);
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)
        .expect("a file for a secret");
    file.write_all(text.as_bytes())
        .expect("a file for a secret");
    path
}

/// The configuration's `flow` without any limit.
fn lifted() -> Value {
    let none = json!({ "in-flight": "none", "per-second": "none" });
    json!({ "cluster": none, "tenant": none, "place": none, "project": none, "pipeline": none })
}

fn bearer(kubeconfig: &str) -> String {
    let value: Value = serde_json::from_str(kubeconfig).expect("a kubeconfig in JSON");
    value["users"][0]["user"]["token"]
        .as_str()
        .expect("a token")
        .to_owned()
}

/// The folder of compiled plugins, shared by all scenes of a test run since compiling takes seconds. The host fills it itself: the first scene
/// with a plugin runs `penstock check --offline`, before anything is timed.
async fn compiled(program: &Path, config: &Value, folder: &Path) -> PathBuf {
    static KEY: OnceCell<()> = OnceCell::const_new();
    let data = std::env::temp_dir().join(format!(
        "penstock-tests-data-{}",
        rustix::process::getuid().as_raw()
    ));
    let mut config = config.clone();
    config["data"] = json!(data);
    let file = folder.join("check.yaml");
    std::fs::write(&file, yaml(&config)).expect("a configuration");
    let check = async || {
        let mut command = tokio::process::Command::new(program);
        command
            .args(["check", "--offline", "--config"])
            .arg(&file)
            .stdin(Stdio::null());
        command.output().await.expect("penstock starts")
    };
    // The key of the cache is made by whoever comes first, and must be made once.
    KEY.get_or_init(async || {
        check().await;
    })
    .await;
    let said = check().await;
    assert!(
        said.status.success(),
        "`penstock check` finds fault with the scene's configuration:\n{}{}",
        String::from_utf8_lossy(&said.stdout),
        String::from_utf8_lossy(&said.stderr)
    );
    data
}
