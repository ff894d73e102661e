//! Where build output lies: in a folder that survives between clean checkouts.

use std::path::PathBuf;
use std::{env, fs};

use anyhow::{Context, Result};

/// `$PENSTOCK_CACHE`, or `~/.cache/penstock`; made if it is not there.
///
/// # Errors
/// Neither `PENSTOCK_CACHE` nor `HOME` is set, or the folder can't be made.
pub fn folder() -> Result<PathBuf> {
    let folder = match env::var_os("PENSTOCK_CACHE") {
        Some(named) => PathBuf::from(named),
        None => {
            let home = env::var_os("HOME")
                .context("set PENSTOCK_CACHE: there is no HOME to keep build output in")?;
            PathBuf::from(home).join(".cache/penstock")
        }
    };
    fs::create_dir_all(&folder)
        .with_context(|| format!("can't make the cache folder {}", folder.display()))?;
    Ok(folder)
}

/// Where cargo builds: `$CARGO_TARGET_DIR`, or `target` in the cache folder.
///
/// # Errors
/// As [`folder`].
pub fn target() -> Result<PathBuf> {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(named) => Ok(PathBuf::from(named)),
        None => Ok(folder()?.join("target")),
    }
}
