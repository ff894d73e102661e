//! Keeps Tekton's processes on loopback.
//!
//! Tekton and the library under it listen on every address and have no setting for that. A test run
//! must not open ports to the network, so copies of the two modules are made in the cache with
//! nothing but the addresses changed, and the build is told to use those.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use super::{TEKTON_MODULE, go};
use crate::tekton::WEBHOOK_ADDRESS;

const KNATIVE_MODULE: &str = "knative.dev/pkg";

/// One address in one file.
struct Change {
    module: &'static str,
    file: &'static str,
    from: &'static str,
    to: String,
}

fn changes() -> Vec<Change> {
    let change = |module, file, from, to: &str| Change {
        module,
        file,
        from,
        to: to.into(),
    };
    vec![
        change(
            KNATIVE_MODULE,
            "webhook/webhook.go",
            r#"fmt.Sprint(":", wh.Options.Port)"#,
            &format!(r#"fmt.Sprint("{WEBHOOK_ADDRESS}:", wh.Options.Port)"#),
        ),
        change(
            KNATIVE_MODULE,
            "observability/runtime/pprof.go",
            r#"":" + port"#,
            r#""127.0.0.1:" + port"#,
        ),
        // Its port is fixed; nobody asks there, so it can be any.
        change(
            KNATIVE_MODULE,
            "injection/health_check.go",
            r#"":" + strconv.Itoa(port)"#,
            r#""127.0.0.1:" + strconv.Itoa(0*port)"#,
        ),
        change(
            TEKTON_MODULE,
            "cmd/controller/main.go",
            r#"":"+port"#,
            r#""127.0.0.1:"+port"#,
        ),
        change(
            TEKTON_MODULE,
            "cmd/webhook/main.go",
            r#"":"+port"#,
            r#""127.0.0.1:"+port"#,
        ),
    ]
}

/// What the changes are, for the stamp of what is built with them.
pub(super) fn stamp() -> String {
    changes()
        .iter()
        .map(|change| format!("{} {} {}\n", change.module, change.file, change.to))
        .collect()
}

/// Makes the changed copies below `cache` and gives the go.mod that uses them in place of the
/// modules that `folder`'s go.mod names.
pub(super) fn changed_modules(folder: &Path, cache: &Path) -> Result<PathBuf> {
    let copies = cache.join("loopback");
    if copies.exists() {
        fs::remove_dir_all(&copies)
            .with_context(|| format!("can't remove {}", copies.display()))?;
    }
    let mut go_mod =
        fs::read_to_string(folder.join("go.mod")).context("can't read Tekton's go.mod")?;
    for (module, name) in [(KNATIVE_MODULE, "knative"), (TEKTON_MODULE, "tekton")] {
        let source = super::module_source(folder, module)?;
        let copy = copies.join(name);
        copy_folder(&source, &copy)?;
        for change in changes().iter().filter(|change| change.module == module) {
            apply(change, &copy)?;
        }
        go_mod.push_str(&format!("\nreplace {module} => {}\n", copy.display()));
    }
    let path = copies.join("go.mod");
    fs::write(&path, go_mod).with_context(|| format!("can't write {}", path.display()))?;
    fs::copy(folder.join("go.sum"), copies.join("go.sum")).context("can't copy Tekton's go.sum")?;
    // Tidies nothing: it only proves that the copies satisfy the same requirements.
    go(
        folder,
        &["list", "-m", &format!("-modfile={}", path.display())],
    )?;
    Ok(path)
}

fn apply(change: &Change, copy: &Path) -> Result<()> {
    let path = copy.join(change.file);
    let text =
        fs::read_to_string(&path).with_context(|| format!("can't read {}", path.display()))?;
    if text.matches(change.from).count() != 1 {
        bail!(
            "{} of {} listens elsewhere than expected; look for `{}`",
            change.file,
            change.module,
            change.from
        );
    }
    fs::write(&path, text.replace(change.from, &change.to))
        .with_context(|| format!("can't write {}", path.display()))
}

/// Copies the files, not their modes: the module cache is read-only.
fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("can't create {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("can't read {}", from.display()))? {
        let entry = entry.context("can't read a module's folder")?;
        let target = to.join(entry.file_name());
        if entry
            .file_type()
            .context("can't read a module's folder")?
            .is_dir()
        {
            copy_folder(&entry.path(), &target)?;
        } else {
            let bytes = fs::read(entry.path())
                .with_context(|| format!("can't read {}", entry.path().display()))?;
            fs::write(&target, bytes)
                .with_context(|| format!("can't write {}", target.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_that_listens_elsewhere_is_not_built_unchanged() {
        let copy = tempfile::tempdir().unwrap();
        let change = Change {
            module: "example.com/m",
            file: "main.go",
            from: "\":\"+port",
            to: "\"127.0.0.1:\"+port".into(),
        };
        fs::write(copy.path().join("main.go"), "serve(\":\"+port)").unwrap();
        apply(&change, copy.path()).unwrap();
        assert_eq!(
            fs::read_to_string(copy.path().join("main.go")).unwrap(),
            "serve(\"127.0.0.1:\"+port)"
        );

        let error = apply(&change, copy.path()).unwrap_err().to_string();
        assert!(error.contains("listens elsewhere than expected"), "{error}");
    }
}
