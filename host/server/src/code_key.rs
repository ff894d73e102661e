//! The key that authenticates compiled plugins.
//!
//! It lies beside the folder of compiled code, never in it, and is its owner's (a volume of Kubernetes may give it to the pod's own group as well), and nobody else's: whoever can write one of the two can't forge what the other vouches for.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use penstock_sandbox::CacheKey;

const NAME: &str = "compiled.key";

/// The key in this folder; made, if there is none.
///
/// # Errors
/// It can't be read or made, it is not whole, or others may read or change it.
pub(crate) fn read(data: &Path) -> Result<CacheKey> {
    fs::create_dir_all(data)
        .with_context(|| format!("can't make the folder {}", data.display()))?;
    let path = data.join(NAME);
    let what = || {
        format!(
            "the key of the cache of compiled plugins, {}: delete it and the folder `compiled` beside it to start anew",
            path.display()
        )
    };
    let file = match File::open(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            make(data, &path).with_context(what)?;
            File::open(&path)
        }
        opened => opened,
    };
    taken(&file.with_context(what)?).with_context(what)
}

fn taken(mut file: &File) -> Result<CacheKey> {
    let found = file.metadata()?;
    ensure!(
        found.mode() & 0o007 == 0,
        "anybody may read or change it: if nobody did, run `chmod 600` on it"
    );
    ensure!(
        found.uid() == rustix::process::geteuid().as_raw(),
        "it belongs to another user than this process"
    );
    let mut bytes = [0; 32];
    file.read_exact(&mut bytes).context("it is not whole")?;
    Ok(CacheKey::new(bytes))
}

/// Made whole under another name first: whoever starts at the same time, or after a crash, never sees half of it.
fn make(data: &Path, path: &Path) -> Result<()> {
    let mut bytes = [0; 32];
    rand::fill(&mut bytes);
    let part = data.join(format!("{NAME}.{}", uuid::Uuid::new_v4().simple()));
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&part)
        .and_then(|mut file| {
            file.write_all(&bytes)?;
            file.sync_all()
        });
    // A link fails where there is a key already: another process was quicker, and its key counts.
    let linked = written.and_then(|()| match fs::hard_link(&part, path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        linked => linked,
    });
    let _ = fs::remove_file(&part);
    Ok(linked?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn bytes(data: &Path) -> Vec<u8> {
        fs::read(data.join(NAME)).unwrap()
    }

    #[test]
    fn it_is_made_once_lies_outside_of_the_cache_and_is_its_owners_alone() {
        let home = tempfile::tempdir().unwrap();
        let data = home.path().join("data");
        read(&data).unwrap();
        let first = bytes(&data);
        assert_eq!(first.len(), 32);
        read(&data).unwrap();
        assert_eq!(bytes(&data), first);
        assert_eq!(fs::metadata(data.join(NAME)).unwrap().mode() & 0o777, 0o600);
        assert_eq!(
            fs::read_dir(&data).unwrap().count(),
            1,
            "nothing is left over"
        );
    }

    #[test]
    fn processes_that_start_together_have_one_key() {
        let home = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            let tasks: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| read(home.path()).unwrap()))
                .collect();
            for task in tasks {
                task.join().unwrap();
            }
        });
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
    }

    #[test]
    fn one_that_others_may_read_or_that_is_cut_is_refused_with_a_remedy() {
        let home = tempfile::tempdir().unwrap();
        read(home.path()).unwrap();
        let path = home.path().join(NAME);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o604)).unwrap();
        let told = format!("{:#}", read(home.path()).unwrap_err());
        assert!(told.contains("chmod 600"), "{told}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, [1; 31]).unwrap();
        let told = format!("{:#}", read(home.path()).unwrap_err());
        assert!(
            told.contains("not whole") && told.contains("delete it"),
            "{told}"
        );
    }
}
