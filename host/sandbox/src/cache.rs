//! Compiled code on disk.
//!
//! Running compiled code that somebody else wrote is running their program, so a file is used only if its MAC holds, with a key that lies elsewhere; it is
//! read once into memory and used from there, so nothing can change it in between. A file that is missing, cut, forged, of another component or of
//! another wasmtime is no error: the component is compiled again.

use std::fmt;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use hmac::{Hmac, KeyInit as _, Mac as _};
use penstock_model::id::Digest;
use sha2::Sha256;

/// Where compiled code is kept.
#[derive(Clone, Debug)]
pub struct CacheSettings {
    /// A folder of this process alone; made if it is missing, with mode 0700.
    pub dir: PathBuf,
    /// Key of the MACs. It must not lie in `dir`.
    pub key: CacheKey,
}

/// Key of the MACs. It prints as `[redacted]`.
#[derive(Clone)]
pub struct CacheKey(zeroize::Zeroizing<[u8; 32]>);

impl CacheKey {
    /// Takes a key in.
    pub fn new(key: [u8; 32]) -> Self {
        Self(zeroize::Zeroizing::new(key))
    }
}

impl fmt::Debug for CacheKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Why there is no cache.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// The folder can't be made or looked at.
    #[error("the folder `{}` for compiled plugins can't be used", dir.display())]
    Unusable {
        /// The folder.
        dir: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Others may write there.
    #[error("others may write to the folder `{}` for compiled plugins: run `chmod 700` on it or name another", dir.display())]
    Open {
        /// The folder.
        dir: PathBuf,
    },
}

/// Bytes of a MAC.
const MAC: usize = 32;

/// The folder, checked.
#[derive(Debug)]
pub(crate) struct Cache {
    settings: CacheSettings,
}

impl Cache {
    pub(crate) fn open(settings: CacheSettings) -> Result<Self, CacheError> {
        let dir = &settings.dir;
        let unusable = |source| CacheError::Unusable {
            dir: dir.clone(),
            source,
        };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(unusable)?;
        let found = fs::metadata(dir).map_err(unusable)?;
        let ours = found.uid() == rustix::process::geteuid().as_raw();
        if !ours || found.permissions().mode() & 0o022 != 0 {
            return Err(CacheError::Open { dir: dir.clone() });
        }
        Ok(Self { settings })
    }

    /// Compiled code that this cache wrote for this component and engine.
    pub(crate) fn read(&self, wasm: Digest, engine: Digest) -> Option<Vec<u8>> {
        let path = self.path(wasm, engine);
        let mut bytes = fs::read(&path).ok()?;
        let mac = bytes.get(..MAC)?;
        let code = bytes.get(MAC..)?;
        if self.mac(wasm, engine, code).verify_slice(mac).is_err() {
            tracing::warn!(path = %path.display(), "compiled code was not written by this host: compiling again");
            return None;
        }
        bytes.drain(..MAC);
        Some(bytes)
    }

    /// Keeps compiled code. What goes wrong costs time at the next start and nothing else.
    pub(crate) fn write(&self, wasm: Digest, engine: Digest, code: &[u8]) {
        let path = self.path(wasm, engine);
        if let Err(error) = self.put(&path, wasm, engine, code) {
            tracing::warn!(path = %path.display(), %error, "compiled code was not kept");
        }
    }

    fn put(&self, path: &Path, wasm: Digest, engine: Digest, code: &[u8]) -> std::io::Result<()> {
        let mac = self.mac(wasm, engine, code).finalize().into_bytes();
        let mut file = tempfile::NamedTempFile::new_in(&self.settings.dir)?;
        file.write_all(&mac)?;
        file.write_all(code)?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    }

    fn path(&self, wasm: Digest, engine: Digest) -> PathBuf {
        let engine: String = engine.hex().chars().take(16).collect();
        self.settings
            .dir
            .join(format!("{}-{engine}.cwasm", wasm.hex()))
    }

    /// Over all that a file stands for, so that none can be put in another's place.
    #[expect(
        clippy::expect_used,
        reason = "HMAC takes a key of any length, so 32 bytes are never refused"
    )]
    fn mac(&self, wasm: Digest, engine: Digest, code: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.settings.key.0.as_slice())
            .expect("any length is a key");
        mac.update(b"penstock compiled component 1\0");
        mac.update(wasm.as_bytes());
        mac.update(engine.as_bytes());
        mac.update(code);
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODE: &[u8] = b"compiled code, as far as this cache knows";

    fn cache(dir: &Path, key: u8) -> Cache {
        Cache::open(CacheSettings {
            dir: dir.to_owned(),
            key: CacheKey::new([key; 32]),
        })
        .unwrap()
    }

    fn digest(name: &str) -> Digest {
        Digest::of(name.as_bytes())
    }

    #[test]
    fn what_was_written_is_read_by_whoever_has_the_key() {
        let home = tempfile::tempdir().unwrap();
        let (wasm, engine) = (digest("wasm"), digest("engine"));
        cache(home.path(), 1).write(wasm, engine, CODE);
        let kept = cache(home.path(), 1).read(wasm, engine);
        assert_eq!(kept.as_deref(), Some(CODE));
        assert_eq!(cache(home.path(), 2).read(wasm, engine), None);
    }

    #[test]
    fn no_single_bit_may_be_another_and_no_byte_may_be_missing_or_too_many() {
        let home = tempfile::tempdir().unwrap();
        let (wasm, engine) = (digest("wasm"), digest("engine"));
        let cache = cache(home.path(), 1);
        cache.write(wasm, engine, CODE);
        let path = cache.path(wasm, engine);
        let good = fs::read(&path).unwrap();
        let refused = |bytes: &[u8], what: &str| {
            fs::write(&path, bytes).unwrap();
            assert_eq!(cache.read(wasm, engine), None, "{what}");
        };
        for bit in 0..good.len() * 8 {
            let mut forged = good.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            refused(&forged, "a bit is another");
        }
        for end in 0..good.len() {
            refused(&good[..end], "it is cut");
        }
        let mut longer = good.clone();
        longer.push(0);
        refused(&longer, "it is longer");
        fs::write(&path, &good).unwrap();
        assert!(cache.read(wasm, engine).is_some());
    }

    #[test]
    fn a_file_is_good_for_its_own_component_and_its_own_engine_alone() {
        let home = tempfile::tempdir().unwrap();
        let cache = cache(home.path(), 1);
        let mine = (digest("wasm"), digest("engine"));
        cache.write(mine.0, mine.1, CODE);
        for other in [
            (digest("another wasm"), mine.1),
            (mine.0, digest("another engine")),
            (mine.1, mine.0),
        ] {
            fs::copy(cache.path(mine.0, mine.1), cache.path(other.0, other.1)).unwrap();
            assert_eq!(cache.read(other.0, other.1), None, "{other:?}");
        }
        // Where the names are told apart by a part of the digest, the MAC still is over all of it.
        let near = |last: u8| {
            let text = format!("sha256:{}{last:02x}", "ab".repeat(31));
            Digest::parse(&text).unwrap()
        };
        cache.write(mine.0, near(1), CODE);
        assert_eq!(cache.path(mine.0, near(1)), cache.path(mine.0, near(2)));
        assert_eq!(cache.read(mine.0, near(2)), None);
        assert!(cache.read(mine.0, near(1)).is_some());
    }

    #[test]
    fn a_file_that_cannot_be_written_is_no_error() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("code");
        let cache = cache(&dir, 1);
        fs::remove_dir(&dir).unwrap();
        cache.write(digest("wasm"), digest("engine"), CODE);
        assert_eq!(cache.read(digest("wasm"), digest("engine")), None);
    }
}
