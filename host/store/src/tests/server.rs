//! A Postgres server for the test process: Debian's binaries on loopback in a temporary folder, ended with the process.
//!
//! `PENSTOCK_TEST_POSTGRES` may name a server instead (a URL with the right to make databases and roles).

use std::hash::{BuildHasher as _, RandomState};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use postgres::{Client, NoTls};

/// Held for the whole process. Its standard input ends with the process, whatever ends it, and that ends the server.
struct Server {
    url: String,
    _supervisor: Option<Child>,
}

static SERVER: OnceLock<Server> = OnceLock::new();
static DATABASES: AtomicU32 = AtomicU32::new(0);

/// Makes a database and gives its URL. Blocks.
pub(crate) fn database() -> String {
    let server = SERVER.get_or_init(start);
    let number = DATABASES.fetch_add(1, Ordering::Relaxed);
    let name = format!("penstock_test_{}_{number}", std::process::id());
    admin(&server.url)
        .batch_execute(&format!("CREATE DATABASE {name}"))
        .unwrap();
    with_database(&server.url, &name)
}

/// A session for the test itself.
pub(crate) fn admin(url: &str) -> Client {
    Client::connect(url, NoTls).unwrap()
}

fn with_database(url: &str, name: &str) -> String {
    let (base, query) = url.split_once('?').unwrap_or((url, ""));
    let (server, _) = base.rsplit_once('/').unwrap();
    match query {
        "" => format!("{server}/{name}"),
        query => format!("{server}/{name}?{query}"),
    }
}

fn start() -> Server {
    if let Ok(url) = std::env::var("PENSTOCK_TEST_POSTGRES") {
        return Server {
            url,
            _supervisor: None,
        };
    }
    let Some(bin) = binaries() else {
        panic!(
            "the store's tests need Postgres: install Debian's `postgresql` package, or name a server in PENSTOCK_TEST_POSTGRES"
        );
    };
    // Another program may take the port between its choice and the start.
    (0..5)
        .find_map(|_| start_with(&bin))
        .expect("a Postgres that starts")
}

/// None: the port is somebody else's.
fn start_with(bin: &Path) -> Option<Server> {
    let folder = tempfile::Builder::new()
        .prefix("penstock-postgres-")
        .tempdir()
        .unwrap()
        .keep();
    let owner = postgres_user();
    if let Some((uid, gid)) = owner {
        chown(&folder, Some(uid), Some(gid)).unwrap();
    }
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700)).unwrap();
    let data = folder.join("data");
    let made = command(owner.is_some(), &bin.join("initdb"))
        .args([
            "-A",
            "trust",
            "-U",
            "penstock",
            "-E",
            "UTF8",
            "--locale=C",
            "--no-sync",
            "-D",
        ])
        .arg(&data)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(made.status.success(), "initdb failed: {made:?}");

    let port = free_port();
    let script = format!(
        "trap '' HUP INT TERM; '{bin}/postgres' -D '{data}' -c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories='' \
         -c max_connections=400 >'{folder}/log' 2>&1 & P=$!; cat >/dev/null; kill -INT $P; wait $P; rm -rf '{folder}'",
        bin = bin.display(),
        data = data.display(),
        folder = folder.display(),
    );
    let supervisor = command(owner.is_some(), Path::new("sh"))
        .arg("-c")
        .arg(script)
        .current_dir("/")
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let server = Server {
        url: format!("postgres://penstock@127.0.0.1:{port}/postgres"),
        _supervisor: Some(supervisor),
    };
    let until = Instant::now() + Duration::from_secs(120);
    loop {
        if let Ok(mut client) = Client::connect(&server.url, NoTls) {
            let row = client.query_one("SHOW data_directory", &[]).unwrap();
            let ours = Path::new(row.get::<_, &str>(0)) == data;
            return ours.then_some(server);
        }
        let said = std::fs::read_to_string(folder.join("log")).unwrap_or_default();
        if said.contains("could not create any TCP/IP sockets") {
            return None;
        }
        assert!(Instant::now() < until, "Postgres did not start: {said}");
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

/// Below those that the kernel gives to outgoing connections, which are many in tests.
fn free_port() -> u16 {
    let random = RandomState::new();
    (0..1_000_u32)
        .map(|n| 20_000 + u16::try_from(random.hash_one(n) % 12_000).unwrap())
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a free port")
}

/// The newest of Debian's versions.
fn binaries() -> Option<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .filter(|bin| bin.join("initdb").exists() && bin.join("postgres").exists())
        .collect();
    found.sort();
    found.pop()
}

/// Postgres refuses to run as root: then the account that its package makes.
fn postgres_user() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let accounts = std::fs::read_to_string("/etc/passwd").unwrap();
    let line = accounts
        .lines()
        .find(|line| line.starts_with("postgres:"))
        .expect("run as root, the store's tests need the account `postgres`");
    let mut fields = line
        .split(':')
        .skip(2)
        .map(|field| field.parse().unwrap_or(0));
    Some((fields.next().unwrap(), fields.next().unwrap()))
}

fn command(as_postgres: bool, program: &Path) -> Command {
    if as_postgres {
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--"]).arg(program);
        command
    } else {
        Command::new(program)
    }
}
