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
