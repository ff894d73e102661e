//! A library that is put before the C library of the host under test, and so stands between it and its disk and clock.
//!
//! It takes back, after a kill, what no fsync made durable ([`Shim::cut_power`]); it lets the disk be full or read-only; it steps the wall
//! clock. The library is `preload/shim.c`, compiled when first needed by the C compiler that SQLite needs too. The product knows nothing of it.

mod power;

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

pub use power::{Cut, Forget};

use crate::scene::Builder;

const SOURCE: &str = include_str!("preload/shim.c");

/// The shim of one host, with the folder that it watches: the host's disk.
pub struct Shim {
    home: TempDir,
    disk: TempDir,
    told: File,
}

/// Where a word of the shim's orders stands; the same layout is in shim.c.
#[derive(Clone, Copy)]
enum At {
    Clock = 0,
    Full = 8,
    ReadOnly = 12,
    Lie = 16,
    Slow = 20,
}

impl Shim {
    /// A shim that does nothing yet but keep its journal.
    ///
    /// # Panics
    /// If the library can't be compiled or a folder can't be made.
    #[must_use]
    pub fn new() -> Self {
        let folder = |prefix| tempfile::Builder::new().prefix(prefix).tempdir();
        let home = folder("penstock-shim-").expect("a folder");
        std::fs::create_dir(home.path().join("graveyard")).expect("a folder");
        let told = File::create(home.path().join("told")).expect("a file");
        told.write_all_at(&[0; 24], 0).expect("a file");
        Self {
            disk: folder("penstock-disk-").expect("a folder"),
            home,
            told,
        }
    }

    /// Keeps the host's SQLite on the watched disk, and puts the library before it.
    #[must_use]
    pub fn under(&self, builder: Builder) -> Builder {
        let store = self.disk.path().join("penstock.db");
        self.clock_of(builder)
            .environment("PENSTOCK_SHIM_UNDER", &text(self.disk.path()))
            .edit(move |config| config["store"] = serde_json::json!({ "sqlite": store }))
    }

    /// Puts the library before the host for its clock alone.
    #[must_use]
    pub fn clock_of(&self, builder: Builder) -> Builder {
        builder
            .environment("LD_PRELOAD", &text(library()))
            .environment("PENSTOCK_SHIM", &text(self.home.path()))
    }

    /// The folder that is watched.
    #[must_use]
    pub fn disk(&self) -> &Path {
        self.disk.path()
    }

    /// Lets each sync take this long.
    pub fn slow_syncs(&self, each: Duration) {
        self.tell(At::Slow, i32::try_from(each.as_micros()).expect("short"));
    }

    /// Lets syncs do nothing and say that they did: all that `synchronous=OFF` does, which leaves them out.
    pub fn drop_syncs(&self, drop: bool) {
        self.tell(At::Lie, i32::from(drop));
    }

    /// Lets writes fail for want of space.
    pub fn fill_disk(&self, full: bool) {
        self.tell(At::Full, i32::from(full));
    }

    /// Lets writes fail as after a remount as read-only.
    pub fn read_only(&self, read_only: bool) {
        self.tell(At::ReadOnly, i32::from(read_only));
    }

    /// Sets the host's wall clock this many seconds off, either way.
    ///
    /// # Panics
    /// If the shim's file can't be written.
    pub fn step_clock(&self, seconds: i64) {
        let off = (seconds * 1_000_000_000).to_ne_bytes();
        self.told
            .write_all_at(&off, At::Clock as u64)
            .expect("the shim's file");
    }

    /// What a power cut does, after the host was killed: what no sync made durable is forgotten.
    ///
    /// # Panics
    /// If the journal can't be read, or says that nothing was ever written: then the library was not in place.
    #[must_use]
    pub fn cut_power(&self, forget: Forget) -> Cut {
        power::cut(self.home.path(), self.disk.path(), forget)
    }

    fn tell(&self, at: At, value: i32) {
        self.told
            .write_all_at(&value.to_ne_bytes(), at as u64)
            .expect("the shim's file");
    }
}

impl Default for Shim {
    fn default() -> Self {
        Self::new()
    }
}

fn text(path: &Path) -> String {
    path.to_str().expect("a path in UTF-8").to_owned()
}

/// Compiles the library, once for each version of its source.
fn library() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let name = hex::encode(&Sha256::digest(SOURCE)[..8]);
        let user = rustix::process::getuid().as_raw();
        let folder = std::env::temp_dir();
        let built = folder.join(format!("penstock-shim-{user}-{name}.so"));
        if built.exists() {
            return built;
        }
        let half = folder.join(format!("penstock-shim-{user}-{}.so", uuid::Uuid::new_v4()));
        let source = half.with_extension("c");
        std::fs::write(&source, SOURCE).expect("a file");
        let said = Command::new("cc")
            .args(["-shared", "-fPIC", "-O2", "-pthread", "-o"])
            .arg(&half)
            .arg(&source)
            .arg("-ldl")
            .output()
            .expect("a C compiler, which building SQLite needs too");
        assert!(
            said.status.success(),
            "shim.c does not compile: {}",
            String::from_utf8_lossy(&said.stderr)
        );
        let _ = std::fs::remove_file(&source);
        // Others may do the same at this moment: the last one stands, and all are equal.
        std::fs::rename(&half, &built).expect("a library");
        built
    })
}
