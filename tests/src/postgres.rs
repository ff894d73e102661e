//! A Postgres server on loopback for a test, with a password, stopped and started at will.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::scene::free_port;
use crate::wait::until;

/// A server with one empty database.
pub struct Postgres {
    bin: PathBuf,
    folder: TempDir,
    port: u16,
    password: String,
    encrypted: bool,
    child: Option<Child>,
}

impl Postgres {
    /// Makes a database cluster and starts the server.
    ///
    /// # Panics
    /// If Postgres is not installed or does not start.
    pub async fn start() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("penstock-postgres-")
            .tempdir()
            .expect("a folder");
        let password = uuid::Uuid::new_v4().simple().to_string();
        let mut postgres = Self {
            bin: bin(),
            folder,
            port: free_port(),
            password,
            encrypted: false,
            child: None,
        };
        let secret = postgres.folder.path().join("password");
        std::fs::write(&secret, &postgres.password).expect("a file");
        postgres.own();
        let data = postgres.data();
        let made = postgres
            .command("initdb")
            .args([
                "--auth=scram-sha-256",
                "--username=penstock",
                "--no-sync",
                "--pgdata",
            ])
            .arg(&data)
            .arg(format!("--pwfile={}", secret.display()))
            .stdout(Stdio::null())
            .status()
            .expect("initdb starts");
        assert!(made.success(), "initdb failed");
        postgres.resume().await;
        postgres
    }

    /// The URL of the database, with its password.
    #[must_use]
    pub fn url(&self) -> String {
        let mode = if self.encrypted {
            "?sslmode=require"
        } else {
            ""
        };
        format!(
            "postgres://penstock:{}@127.0.0.1:{}/postgres{mode}",
            self.password, self.port
        )
    }

    /// From now on the server takes connections over TLS alone, with this certificate and key (PEM).
    ///
    /// # Panics
    /// If its files can't be written or it does not start again.
    pub async fn encrypt(&mut self, certificate: &str, key: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        self.stop();
        let data = self.data();
        let write = |name: &str, text: &str| {
            let path = data.join(name);
            std::fs::write(&path, text).expect("a file of the server");
            let mode = std::fs::Permissions::from_mode(0o600);
            std::fs::set_permissions(&path, mode).expect("a file of the server");
        };
        write("server.crt", certificate);
        write("server.key", key);
        let settings = std::fs::read_to_string(data.join("postgresql.conf")).expect("settings");
        write("postgresql.conf", &format!("{settings}\nssl = on\n"));
        write(
            "pg_hba.conf",
            "hostssl all all 127.0.0.1/32 scram-sha-256\n",
        );
        self.own();
        self.encrypted = true;
        self.resume().await;
    }

    /// The password: a secret of the scene.
    #[must_use]
    pub fn password(&self) -> &str {
        &self.password
    }

    /// Runs a statement as its administrator.
    ///
    /// # Panics
    /// If it fails.
    pub fn sql(&self, statement: &str) {
        let said = Command::new(self.bin.join("psql"))
            .args([
                "--no-psqlrc",
                "--quiet",
                "--set=ON_ERROR_STOP=1",
                "--command",
                statement,
            ])
            .arg(self.url())
            .stdin(Stdio::null())
            .output()
            .expect("psql starts");
        let why = String::from_utf8_lossy(&said.stderr);
        assert!(said.status.success(), "{statement}: {why}");
    }

    /// Asks for one number, as a superuser would in psql.
    ///
    /// # Panics
    /// If it is refused, or is no number.
    #[must_use]
    pub fn number(&self, query: &str) -> u64 {
        let said = Command::new(self.bin.join("psql"))
            .args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align"])
            .args(["--set=ON_ERROR_STOP=1", "--command", query])
            .arg(self.url())
            .stdin(Stdio::null())
            .output()
            .expect("psql starts");
        let why = String::from_utf8_lossy(&said.stderr);
        assert!(said.status.success(), "{query}: {why}");
        let text = String::from_utf8_lossy(&said.stdout);
        text.trim().parse().expect("a number")
    }

    /// Starts the server again.
    ///
    /// # Panics
    /// If it does not start.
    pub async fn resume(&mut self) {
        let data = self.data();
        let log = std::fs::File::create(self.folder.path().join("log")).expect("a log file");
        let child = self
            .command("postgres")
            .arg("-D")
            .arg(&data)
            .args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-k", ""])
            .args(["-c", "shared_buffers=32MB", "-c", "max_connections=60"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("postgres starts");
        self.child = Some(child);
        let port = self.port.to_string();
        let ready = until("a ready Postgres", async || {
            let asked = Command::new(self.bin.join("pg_isready"))
                .args(["-q", "-h", "127.0.0.1", "-p", &port])
                .status()
                .expect("pg_isready starts");
            asked.success().then_some(())
        });
        ready.await;
    }

    /// Ends the server as a crash would.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // SIGQUIT is Postgres' own crash: no checkpoint, no farewell, and the next start recovers. A kill of the parent alone
            // would leave its workers to hold the data for a moment.
            if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
                let _ = kill_process(pid, Signal::QUIT);
            }
            let _ = child.wait();
        }
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Postgres refuses to run as root: the folder belongs to its own account then.
    fn own(&self) {
        if rustix::process::getuid().is_root() {
            let done = Command::new("chown")
                .args(["-R", "postgres"])
                .arg(self.folder.path())
                .status();
            assert!(
                done.is_ok_and(|status| status.success()),
                "there is no account `postgres`"
            );
        }
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("setpriv");
        if rustix::process::getuid().is_root() {
            command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
        }
        // After the change of account, which would clear it.
        command
            .args(["setpriv", "--pdeathsig", "KILL"])
            .arg(self.bin.join(program));
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop();
    }
}

fn bin() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten();
    versions
        .map(|version| version.path().join("bin"))
        .find(|bin| bin.join("postgres").is_file())
        .expect("Postgres is installed: run `cargo xtask test`, which sees to it, or `apt-get install postgresql`")
}
