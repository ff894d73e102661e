//! Configurations as operators write them: right ones, and every way to get one wrong.

use std::fmt::Write as _;
use std::time::Duration;

use penstock_model::effect::EffectKind;
use penstock_model::scope::Trust;
use penstock_model::tenant::Visibility;
use tempfile::TempDir;

use super::*;

/// A secret that must never be seen.
const PASTED: &str = "glpat-very-secret-indeed";

fn environment(name: &str) -> Option<String> {
    match name {
        "PENSTOCK_API_TOKEN" => Some("token of the API".to_owned()),
        "EMPTY" => Some(String::new()),
        _ => None,
    }
}

/// A folder with these files, and those that the examples refer to.
fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for inside in ["secrets", "plugins", "certificates"] {
        std::fs::create_dir(folder.path().join(inside)).unwrap();
    }
    let given = [
        ("secrets/gitlab-token", "glpat-1\n"),
        (
            "secrets/acme-signing-token",
            "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\n",
        ),
        (
            "secrets/acme-signing-token-next",
            "whsec_ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA=",
        ),
        ("secrets/tools-token", "tools\r\n"),
        (
            "secrets/sealing-key",
            "000102030405060708090a0b0c0d0e0f000102030405060708090a0b0c0d0e0f\n",
        ),
        ("secrets/short-key", PASTED),
        ("secrets/tools-incoming", "a secret of tools"),
        ("secrets/malformed", PASTED),
        ("secrets/empty", "\n"),
        ("kubeconfig", "apiVersion: v1\nkind: Config\n"),
    ];
    for (name, text) in given.iter().chain(files) {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn load(folder: &TempDir, name: &str) -> Result<Config, Problems> {
    read::load(&folder.path().join(name), &environment).0
}

/// What is told about one file, the folder's path taken out.
fn told(text: &str) -> String {
    let folder = folder(&[("penstock.yaml", text)]);
    let problems = load(&folder, "penstock.yaml").expect_err(text);
    told_of(&problems, &folder)
}

fn told_of(problems: &Problems, folder: &TempDir) -> String {
    let told = problems
        .to_string()
        .replace(&format!("{}/", folder.path().display()), "");
    assert!(!told.contains(PASTED), "{told}");
    assert!(!format!("{problems:?}").contains(PASTED), "{problems:?}");
    told
}

/// A small configuration that is valid; a test puts one mistake into it.
const SMALL: &str = "\
gitlab:
  - name: main
    url: https://gitlab.example.com
    token: { file: secrets/gitlab-token }
    hooks:
      - { name: acme, scope: { group: acme }, token: { file: secrets/tools-token } }
clusters:
  - name: prod
    kubeconfig: kubeconfig
tenants:
  - match: acme/{team}/**
    places:
      ci: { cluster: prod, namespace: 'ci-{team}', creator: penstock, run-as: ci }
plugins:
  - name: build
    source: file:plugins/build.wasm
    digest: sha256:0000000000000000000000000000000000000000000000000000000000000000
routes:
  - { tenant: 'acme/{team}/**', on: [push], plugin: build }
";

#[test]
fn the_example_is_valid_and_means_what_it_says() {
    let folder = folder(&[(
        "penstock.yaml",
        include_str!("../../../../examples/penstock.yaml"),
    )]);
    let config = load(&folder, "penstock.yaml").unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(
        config.public_url.as_deref(),
        Some("https://penstock.example.com")
    );
    assert_eq!(
        config.api_token.as_ref().map(Secret::reveal),
        Some("token of the API")
    );
    assert_eq!(config.body_budget, 48 << 20);
    assert_eq!(config.sealing_keys.len(), 1);
    let [incoming] = config.gitlab[0].incoming.as_slice() else {
        panic!("{:?}", config.gitlab[0].incoming)
    };
    assert_eq!((incoming.name.as_str(), incoming.project.0), ("tools", 42));
    assert_eq!(incoming.targets, ["main", "release/*"]);
    assert_eq!(
        config.store,
        StoreConfig::Sqlite(folder.path().join("data/penstock.db"))
    );
    let gitlab = &config.gitlab[0];
    assert_eq!(gitlab.token.reveal(), "glpat-1");
    assert_eq!(gitlab.hooks[0].signing_tokens.len(), 2);
    assert_eq!(gitlab.hooks[1].tokens[0].reveal(), "tools");
    assert_eq!(
        gitlab.hooks[1].scope,
        HookScope::Project("platform/tools".into())
    );
    assert_eq!(config.clusters[1].access, ClusterAccess::InCluster);
    assert_eq!(
        config.clusters[0].links,
        LinksConfig::TektonDashboard("https://tekton.example.com".into())
    );
    let release = &config.tenants[0].places[&"release".into()];
    assert_eq!(release.policy.service_accounts, ["deployer"]);
    assert!(release.policy.labels.is_empty() && release.policy.annotations.is_empty());
    let ci = &config.tenants[0].places[&"ci".into()];
    assert_eq!(ci.policy.timeout, Some(3600));
    assert_eq!(ci.policy.labels, ["example.com/*"]);
    assert_eq!(ci.policy.annotations, ["example.com/*"]);
    let plugin = &config.plugins[0];
    assert_eq!(plugin.file, folder.path().join("plugins/trigger-map.wasm"));
    assert_eq!(plugin.settings, r#"{"rules":[]}"#);
    assert_eq!(
        plugin.grants.at(Trust::Untrusted).effects,
        [EffectKind::Comment].into()
    );
    assert_eq!(plugin.limits.cpu, Duration::from_millis(500));
    assert_eq!(plugin.limits.memory, 64 << 20);
    let names: Vec<&str> = config
        .routes
        .iter()
        .map(|route| route.name.as_str())
        .collect();
    assert_eq!(names, ["acme/{team}/** build", "* trial"]);
    assert_eq!(config.routes[0].tenant, Some("acme/{team}/**".into()));
    assert_eq!(config.routes[1].mode, Mode::Observe);
}

#[test]
fn a_configuration_prints_without_its_secrets() {
    let folder = folder(&[("penstock.yaml", SMALL)]);
    let printed = format!("{:?}", load(&folder, "penstock.yaml").unwrap());
    assert!(
        !printed.contains("glpat-1") && !printed.contains("\"tools\""),
        "{printed}"
    );
}

#[test]
fn what_is_left_out_has_a_safe_default() {
    let folder = folder(&[("penstock.yaml", SMALL)]);
    let config = load(&folder, "penstock.yaml").unwrap();
    assert_eq!(config.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(
        config.store,
        StoreConfig::Sqlite(folder.path().join("data/penstock.db"))
    );
    assert_eq!(config.plugins[0].grants, Grants::default());
    assert_eq!(config.plugins[0].limits, Limits::default());
    assert_eq!(config.routes[0].mode, Mode::Act);
    assert!(config.routes[0].trust.is_empty());
    assert_eq!(config.clusters[0].links, LinksConfig::None);
}

/// One mistake each: a name, what is replaced in [`SMALL`], and by what.
const MISTAKES: &[(&str, &str, &str)] = &[
    ("no YAML", "clusters:\n", "clusters: [\n"),
    ("an unknown section", "routes:", "rotues:"),
    ("an unknown key", "    hooks:", "    hokks:"),
    (
        "an unknown key that is near to none",
        "    hooks:",
        "    verylongandstrange:",
    ),
    ("a key with an underscore", "run-as: ci", "run_as: ci"),
    (
        "a key that is there twice",
        "    kubeconfig: kubeconfig",
        "    kubeconfig: kubeconfig\n    kubeconfig: other",
    ),
    ("a missing key", "    url: https://gitlab.example.com\n", ""),
    ("an empty value", "url: https://gitlab.example.com", "url:"),
    (
        "a list where text is wanted",
        "url: https://gitlab.example.com",
        "url: [a]",
    ),
    ("a number where text is wanted", "name: prod", "name: 7"),
    ("text where a list is wanted", "on: [push]", "on: push"),
    (
        "text where a mapping is wanted",
        "ci: { cluster: prod, namespace: 'ci-{team}', creator: penstock, run-as: ci }",
        "ci: prod",
    ),
    ("a malformed name", "name: build", "name: Build it"),
    (
        "a malformed address",
        "url: https://gitlab.example.com",
        "url: gitlab.example.com",
    ),
    (
        "an address with a password",
        "url: https://gitlab.example.com",
        "url: https://me:glpat-very-secret-indeed@gitlab.example.com",
    ),
    (
        "a pasted secret",
        "token: { file: secrets/gitlab-token }",
        "token: glpat-very-secret-indeed",
    ),
    (
        "a pasted secret under a misspelt key",
        "token: { file: secrets/gitlab-token }",
        "tokne: glpat-very-secret-indeed",
    ),
    (
        "a pasted secret beside another mistake",
        "- { name: acme, scope: { group: acme }, token: { file: secrets/tools-token } }",
        "- { name: acme, token: glpat-very-secret-indeed, scpoe: { group: acme } } # glpat-very-secret-indeed",
    ),
    (
        "a pasted secret as a reference",
        "token: { file: secrets/gitlab-token }",
        "token: { glpat-very-secret-indeed: x }",
    ),
    (
        "a pasted secret as a key",
        "token: { file: secrets/gitlab-token }",
        "token: { glpat-very-secret-indeed }",
    ),
    (
        "a pasted secret in a list",
        "token: { file: secrets/tools-token }",
        "token: [glpat-very-secret-indeed]",
    ),
    (
        "a pasted secret in quotes that are not closed",
        "token: { file: secrets/gitlab-token }",
        "token: \"glpat-very-secret-indeed",
    ),
    (
        "two references",
        "token: { file: secrets/gitlab-token }",
        "token: { file: a, env: B }",
    ),
    (
        "a secret from Vault",
        "token: { file: secrets/gitlab-token }",
        "token: { vault: 'kv/gitlab#token' }",
    ),
    (
        "a secret's file that is not there",
        "secrets/gitlab-token",
        "secrets/gone",
    ),
    (
        "a secret's file that is empty",
        "secrets/gitlab-token",
        "secrets/empty",
    ),
    (
        "a secret's file that is a folder",
        "secrets/gitlab-token",
        "secrets",
    ),
    (
        "a secret's file outside of the folder",
        "secrets/gitlab-token",
        "../gitlab-token",
    ),
    ("a pasted secret as a file", "secrets/gitlab-token", PASTED),
    (
        "a pasted secret as a variable",
        "{ file: secrets/gitlab-token }",
        "{ env: glpat-very-secret-indeed }",
    ),
    (
        "a variable that is not set",
        "{ file: secrets/gitlab-token }",
        "{ env: NOT_SET }",
    ),
    (
        "a variable that is empty",
        "{ file: secrets/gitlab-token }",
        "{ env: EMPTY }",
    ),
    (
        "a hook without a key",
        ", token: { file: secrets/tools-token }",
        "",
    ),
    (
        "a malformed signing token",
        "token: { file: secrets/tools-token }",
        "signing-token: { file: secrets/malformed }",
    ),
    ("a hook without a scope", "scope: { group: acme }, ", ""),
    (
        "a hook with two scopes",
        "{ group: acme }",
        "{ group: acme, project: acme/api }",
    ),
    (
        "a hook with a pattern as its scope",
        "{ group: acme }",
        "{ group: 'acme/**' }",
    ),
    (
        "a hook for an instance that is off",
        "{ group: acme }",
        "{ instance: false }",
    ),
    (
        "a certificate that is none",
        "    hooks:",
        "    ca: secrets/tools-token\n    hooks:",
    ),
    (
        "a kubeconfig that is not there",
        "kubeconfig: kubeconfig",
        "kubeconfig: gone",
    ),
    (
        "a cluster that is reached in two ways",
        "kubeconfig: kubeconfig",
        "kubeconfig: kubeconfig\n    in-cluster: true",
    ),
    (
        "a context without a kubeconfig",
        "kubeconfig: kubeconfig",
        "in-cluster: true\n    context: prod",
    ),
    (
        "links without their address",
        "kubeconfig: kubeconfig",
        "kubeconfig: kubeconfig\n    links: tekton-dashboard",
    ),
    (
        "links to nowhere",
        "kubeconfig: kubeconfig",
        "kubeconfig: kubeconfig\n    links: tekton-dashbord",
    ),
    (
        "links to this host, which has no address",
        "kubeconfig: kubeconfig",
        "kubeconfig: kubeconfig\n    links: penstock",
    ),
    (
        "a malformed pattern",
        "match: acme/{team}/**",
        "match: acme//x",
    ),
    ("an unknown variable", "'ci-{team}'", "'ci-{taem}'"),
    (
        "a namespace that Kubernetes refuses",
        "'ci-{team}'",
        "'CI_{team}'",
    ),
    ("an unknown cluster", "cluster: prod", "cluster: prd"),
    ("one account for both", "run-as: ci", "run-as: penstock"),
    (
        "an unknown provenance of a place",
        "run-as: ci }",
        "run-as: ci, when: forks }",
    ),
    (
        "an unknown policy",
        "run-as: ci }",
        "run-as: ci, policy: { secret: [a] } }",
    ),
    (
        "a timeout without a unit",
        "run-as: ci }",
        "run-as: ci, policy: { timeout: '60' } }",
    ),
    (
        "a path of the node that climbs",
        "run-as: ci }",
        "run-as: ci, policy: { host-paths: [/data/../etc] } }",
    ),
    (
        "a plugin from a registry",
        "source: file:plugins/build.wasm",
        "source: oci://registry.example.com/build:1",
    ),
    (
        "a plugin from nowhere",
        "source: file:plugins/build.wasm",
        "source: build.wasm",
    ),
    (
        "a malformed digest",
        "digest: sha256:0000",
        "digest: sha256:zz",
    ),
    (
        "a signature that would not be checked",
        "    source:",
        "    signature: { key: { file: cosign.pub } }\n    source:",
    ),
    (
        "an unknown effect",
        "    source:",
        "    grants: { effects: [start-runs] }\n    source:",
    ),
    (
        "forks that are granted more",
        "    source:",
        "    grants: { from-fork: { effects: [start-run] } }\n    source:",
    ),
    (
        "a host that is an address",
        "    source:",
        "    grants: { fetch: ['https://hub.example.com/x'] }\n    source:",
    ),
    (
        "a limit without a unit",
        "    source:",
        "    limits: { memory: 64 }\n    source:",
    ),
    (
        "a limit of nothing",
        "    source:",
        "    limits: { host-calls: 0 }\n    source:",
    ),
    (
        "a limit with an unknown unit",
        "    source:",
        "    limits: { cpu: 5 fortnights }\n    source:",
    ),
    ("an unknown plugin", "plugin: build", "plugin: biuld"),
    (
        "an unknown tenant",
        "tenant: 'acme/{team}/**'",
        "tenant: amce/**",
    ),
    (
        "an unknown kind of event",
        "on: [push]",
        "on: [merge-request]",
    ),
    ("no kind of event", "on: [push]", "on: []"),
    (
        "an unknown mode",
        "plugin: build }",
        "plugin: build, mode: watch }",
    ),
    (
        "two routes of one name",
        "plugin: build }",
        "plugin: build }\n  - { tenant: 'acme/{team}/**', on: [note], plugin: build }",
    ),
    (
        "an event with two routes to one plugin",
        "plugin: build }",
        "plugin: build }\n  - { tenant: '*', on: [push], plugin: build }",
    ),
    (
        "two clusters of one name",
        "clusters:\n",
        "clusters:\n  - { name: prod, in-cluster: true }\n",
    ),
    (
        "two tenants of one pattern",
        "tenants:\n",
        "tenants:\n  - { match: 'acme/{team}/**', places: {} }\n",
    ),
    (
        "a malformed address to listen at",
        "gitlab:",
        "listen: here\ngitlab:",
    ),
    (
        "two stores",
        "gitlab:",
        "store: { sqlite: a, postgres: { env: PENSTOCK_API_TOKEN } }\ngitlab:",
    ),
    (
        "a pasted database password",
        "gitlab:",
        "store: { postgres: 'postgres://u:glpat-very-secret-indeed@db' }\ngitlab:",
    ),
];

#[test]
fn each_mistake_is_told_with_its_place_and_what_to_do() {
    let folder = folder(&[("penstock.yaml", SMALL)]);
    assert!(load(&folder, "penstock.yaml").is_ok());
    let mut all = String::new();
    for (name, from, to) in MISTAKES {
        assert!(SMALL.contains(from), "{name}");
        let told = told(&SMALL.replacen(from, to, 1));
        writeln!(all, "## {name}\n{told}\n").unwrap();
    }
    insta::assert_snapshot!("mistakes", all);
}

#[test]
fn all_mistakes_are_told_at_once() {
    let text = "\
listne: 1
gitlab:
  - name: main
    url: nowhere
    token: glpat-very-secret-indeed
    hooks:
      - { name: a, scope: { group: x } }
      - { name: a, scope: {}, token: { env: NOT_SET } }
clusters:
  - { name: prod, in-cluster: true, links: nowhere }
tenants:
  - match: acme/{team}/**
    places:
      ci: { cluster: pord, namespace: 'x-{taem}', creator: a, run-as: a, when: always, policy: { timeout: soon } }
plugins:
  - { name: p, source: 'https://x', digest: x, limits: { cpu: 1, mem: 2 }, grants: { effects: [all] } }
routes:
  - { tenant: none, on: [push, pish], plugin: q, mode: go }
";
    insta::assert_snapshot!("all_at_once", told(text));
}

#[test]
fn the_files_of_a_folder_are_joined_and_what_is_there_twice_names_both_places() {
    let (head, routes) = SMALL.split_once("routes:").unwrap();
    let routes = format!("routes:{routes}");
    let folder = folder(&[
        ("a.yaml", head),
        ("b.yml", &routes),
        ("notes.txt", "no: yaml: at: all"),
        (".hidden.yaml", "no"),
    ]);
    assert_eq!(load(&folder, "").unwrap().routes.len(), 1);
    std::fs::write(
        folder.path().join("c.yaml"),
        "bodies: 1MiB\nclusters: [{ name: prod, in-cluster: true }]\n",
    )
    .unwrap();
    std::fs::write(folder.path().join("d.yaml"), "bodies: 2MiB\n").unwrap();
    let problems = load(&folder, "").unwrap_err();
    insta::assert_snapshot!("twice_in_a_folder", told_of(&problems, &folder));
}

#[test]
fn a_mistake_in_one_file_does_not_hide_those_of_another() {
    let folder = folder(&[
        ("a.yaml", "clusters: ["),
        ("b.yaml", "routes: 7"),
        ("c.yaml", "listen: x"),
    ]);
    let problems = load(&folder, "").unwrap_err();
    let files: Vec<String> = problems
        .0
        .iter()
        .map(|it| it.file.file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    assert_eq!(files, ["a.yaml", "b.yaml", "c.yaml"]);
}

#[test]
fn a_configuration_that_is_not_there_says_how_to_name_one() {
    let folder = folder(&[]);
    for name in ["gone.yaml", "plugins"] {
        let problems = load(&folder, name).unwrap_err();
        assert!(problems.to_string().contains("--config"), "{problems}");
    }
}

#[test]
fn a_link_that_leads_out_of_the_folder_is_not_followed() {
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("token"), "x").unwrap();
    let folder = folder(&[(
        "penstock.yaml",
        &SMALL.replacen("secrets/gitlab-token", "secrets/linked", 1),
    )]);
    std::os::unix::fs::symlink(
        outside.path().join("token"),
        folder.path().join("secrets/linked"),
    )
    .unwrap();
    assert!(load(&folder, "penstock.yaml").is_err());
    let absolute = outside.path().join("token").display().to_string();
    std::fs::write(
        folder.path().join("penstock.yaml"),
        SMALL.replacen("secrets/gitlab-token", &absolute, 1),
    )
    .unwrap();
    assert_eq!(
        load(&folder, "penstock.yaml").unwrap().gitlab[0]
            .token
            .reveal(),
        "x"
    );
}

#[test]
fn a_pattern_of_a_route_takes_in_each_tenant_below_it() {
    let more = SMALL
        .replacen("tenants:\n", "tenants:\n  - { match: acme/tools, places: {} }\n  - { match: 'other/**', places: {} }\n", 1)
        .replacen("tenant: 'acme/{team}/**'", "tenant: 'acme/**'", 1);
    let folder = folder(&[("penstock.yaml", &more)]);
    let names: Vec<String> = load(&folder, "penstock.yaml")
        .unwrap()
        .routes
        .iter()
        .map(|route| route.name.to_string())
        .collect();
    assert_eq!(names, ["acme/tools build", "acme/{team}/** build"]);
}

#[test]
fn any_text_is_read_or_refused_without_a_panic_and_nothing_of_it_is_shown() {
    // Every prefix and every loss of one line: what an editor saves half-way.
    for end in (0..SMALL.len()).step_by(7) {
        let folder = folder(&[("penstock.yaml", &SMALL[..end])]);
        let _ = load(&folder, "penstock.yaml").map_err(|problems| problems.to_string());
    }
    for skip in 0..SMALL.lines().count() {
        let text: Vec<&str> = SMALL
            .lines()
            .enumerate()
            .filter(|(n, _)| *n != skip)
            .map(|(_, line)| line)
            .collect();
        let folder = folder(&[("penstock.yaml", &text.join("\n"))]);
        let _ = load(&folder, "penstock.yaml").map_err(|problems| problems.to_string());
    }
}

/// The small configuration, whose tenant has its own file with this text.
fn delegated(text: &str) -> Config {
    let policy = "policy: { images: [alpine, busybox], resolvers: [git], timeout: 1h, pod-template: true, log-excerpts: internal }";
    let main = SMALL
        .replace("run-as: ci }", &format!("run-as: ci, {policy} }}"))
        .replace(
            "    places:",
            "    delegated: plugins/acme.yaml\n    places:",
        );
    let folder = folder(&[("penstock.yaml", &main), ("plugins/acme.yaml", text)]);
    load(&folder, "penstock.yaml").unwrap_or_else(|problems| panic!("{problems}"))
}

fn came(config: &Config) -> &Delegated {
    config.delegated.values().next().unwrap()
}

#[test]
fn a_tenant_s_own_file_narrows_its_places_and_plugins() {
    let config = delegated("");
    assert_eq!(*came(&config), Delegated::Narrowed([].into()));
    let before = config.tenants[0]
        .places
        .values()
        .next()
        .unwrap()
        .policy
        .clone();
    assert!(before.pod_template);

    let config = delegated(
        "places:\n  ci: { policy: { images: [alpine], resolvers: [], timeout: 10m, pod-template: false, log-excerpts: private } }\n",
    );
    let policy = &config.tenants[0].places.values().next().unwrap().policy;
    assert_eq!(policy.log_excerpts, Some(Visibility::Private));
    assert_eq!(policy.images.as_deref(), Some(&["alpine".to_owned()][..]));
    assert!(policy.resolvers.is_empty() && !policy.pod_template);
    assert_eq!(policy.timeout, Some(600));

    let config = delegated("places: { ci: { policy: { log-excerpts: false } } }");
    let policy = &config.tenants[0].places.values().next().unwrap().policy;
    assert_eq!(policy.log_excerpts, None);

    let config = delegated("places: { ci: false }\nplugins: { build: { mode: observe } }\n");
    assert!(config.tenants[0].places.is_empty());
    let modes = [("build".into(), Some(Mode::Observe))].into();
    assert_eq!(*came(&config), Delegated::Narrowed(modes));
}

#[test]
fn a_tenant_s_own_file_never_widens_and_its_mistakes_are_its_own() {
    for (text, said) in [
        (
            "places: { ci: { policy: { images: [alpine, evil] } } }",
            "`images` would be more than the operator allows",
        ),
        (
            "places: { ci: { policy: { images: ['*'] } } }",
            "`images` would be more",
        ),
        (
            "places: { ci: { policy: { secrets: [ci-token] } } }",
            "`secrets` would be more",
        ),
        (
            "places: { ci: { policy: { clone: true } } }",
            "`clone` would be more",
        ),
        (
            "places: { ci: { policy: { log-excerpts: public } } }",
            "`log-excerpts` would be more",
        ),
        (
            "places: { ci: { policy: { security-context: true } } }",
            "`security-context` would be more",
        ),
        (
            "places: { ci: { policy: { timeout: 2h } } }",
            "`timeout` would be more",
        ),
        ("places: { ci: { run-as: root } }", "run-as"),
        ("places: { release: { policy: {} } }", "no place `release`"),
        ("plugins: { other: false }", "no plugin `other`"),
        ("plugins: { build: { mode: act } }", "observe"),
        ("plugins: { build: true }", "mapping"),
        ("routes: []", "routes"),
        ("places: [", "no YAML"),
    ] {
        let config = delegated(text);
        let Delegated::Wrong(why) = came(&config) else {
            panic!("{text} is taken")
        };
        assert!(
            why.contains(said) && why.contains("acme.yaml"),
            "{text}: {why}"
        );
        let policy = &config.tenants[0].places.values().next().unwrap().policy;
        assert_eq!(
            policy.images.as_ref().map(Vec::len),
            Some(2),
            "nothing of it holds"
        );
    }
}

/// The page on limits has a section for each limit and each grant, as the configuration reads them.
#[test]
fn every_limit_and_every_grant_has_a_section_in_the_documentation() {
    let docs = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/limits.md");
    let docs = std::fs::read_to_string(docs).unwrap();
    let headings: Vec<&str> = docs
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .collect();
    for section in ["limits", "grants"] {
        // What the reader says it knows, when it is given something else.
        let wrong = format!("{section}: {{ \"no such key\": 1 }}");
        let told = told(&SMALL.replacen("    digest:", &format!("    {wrong}\n    digest:"), 1));
        let (_, known) = told
            .split_once("it has ")
            .unwrap_or_else(|| panic!("the keys are not told:\n{told}"));
        let keys: Vec<&str> = known
            .lines()
            .next()
            .unwrap()
            .split('`')
            .skip(1)
            .step_by(2)
            .collect();
        assert!(keys.len() >= 8, "{told}");
        for key in keys {
            let named = headings
                .iter()
                .any(|heading| heading.contains(&format!("`{key}`")));
            assert!(
                named,
                "docs/limits.md has no section for `{key}` of {section}"
            );
        }
    }
}
