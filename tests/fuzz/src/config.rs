//! A configuration's text: it is read or all that is wrong with it is told; what is read once is read the same again.

use std::path::PathBuf;
use std::sync::LazyLock;

use penstock_server::config::Config;
use tempfile::TempDir;

struct Folder {
    _folder: TempDir,
    file: PathBuf,
}

/// In memory where there is such a place; what the seeds refer to lies in it.
static FOLDER: LazyLock<Folder> = LazyLock::new(|| {
    let memory = PathBuf::from("/dev/shm");
    let folder = if memory.is_dir() {
        TempDir::new_in(memory)
    } else {
        TempDir::new()
    };
    let folder = folder.unwrap();
    for name in ["kubeconfig", "gitlab-token", "hook-token", "api-token"] {
        std::fs::write(folder.path().join(name), "a text of a file").unwrap();
    }
    let file = folder.path().join("penstock.yaml");
    Folder {
        _folder: folder,
        file,
    }
});

/// Runs it.
pub fn run(data: &[u8]) {
    let file = &FOLDER.file;
    std::fs::write(file, data).unwrap();
    match Config::load(file) {
        Ok(config) => assert_eq!(Ok(config), Config::load(file).map_err(|_| ())),
        Err(problems) => {
            let told = problems.to_string();
            assert!(told.contains("error: "), "{told}");
        }
    }
}
