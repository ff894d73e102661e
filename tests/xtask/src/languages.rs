//! Builds plugins that are not in Rust: Python, JavaScript, Go, each by the tools that its authors use.
//!
//! A plugin is a folder with `world.wit`, which names what it imports and exports in a world `plugin` of the package `example:plugin`, and its sources. The tools
//! are got from PyPI, npm and the Go module proxy at one version each and kept in the cache folder. What was built from the same
//! sources, contract and tools is taken as it is: making a component starts the language's runtime and takes many seconds.

mod go;
mod javascript;
mod python;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::cache;

/// A plugin in another language.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Foreign {
    /// Such as `greeter-python`.
    pub(crate) name: &'static str,
    /// Its folder, below the repository's.
    folder: &'static str,
    language: Language,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Language {
    Python,
    JavaScript,
    Go,
}

/// All of them.
pub(crate) const FOREIGN: [Foreign; 6] = [
    Foreign {
        name: "greeter-python",
        folder: "examples/greeter-python",
        language: Language::Python,
    },
    Foreign {
        name: "greeter-javascript",
        folder: "examples/greeter-javascript",
        language: Language::JavaScript,
    },
    Foreign {
        name: "greeter-go",
        folder: "examples/greeter-go",
        language: Language::Go,
    },
    Foreign {
        name: "misbehave-python",
        folder: "tests/guests/python",
        language: Language::Python,
    },
    Foreign {
        name: "misbehave-javascript",
        folder: "tests/guests/javascript",
        language: Language::JavaScript,
    },
    Foreign {
        name: "misbehave-go",
        folder: "tests/guests/go",
        language: Language::Go,
    },
];

/// What one build works with.
struct Job {
    /// Folder of the plugin's sources.
    sources: PathBuf,
    /// Folder of the contract.
    contract: PathBuf,
    /// A folder of its own to work in.
    work: PathBuf,
}

impl Foreign {
    /// Builds it, unless that was done from the same sources; answers the component.
    ///
    /// # Errors
    /// A tool can't be had, or does not take the sources.
    pub(crate) fn build(&self, root: &Path, guests: &Path) -> Result<Vec<u8>> {
        let job = Job {
            sources: root.join(self.folder),
            contract: root.join("wit"),
            work: guests.join("foreign").join(self.name),
        };
        let key = self.key(&job)?;
        let (made, made_of) = (
            job.work.join("component.wasm"),
            job.work.join("component.key"),
        );
        if fs::read_to_string(&made_of).is_ok_and(|it| it == key)
            && let Ok(component) = fs::read(&made)
        {
            return Ok(component);
        }
        if job.work.exists() {
            fs::remove_dir_all(&job.work)
                .with_context(|| format!("can't empty {}", job.work.display()))?;
        }
        fs::create_dir_all(&job.work)
            .with_context(|| format!("can't make {}", job.work.display()))?;
        let component = match self.language {
            Language::Python => python::build(&job),
            Language::JavaScript => javascript::build(&job),
            Language::Go => go::build(&job),
        }
        .with_context(|| format!("{} can't be built", self.name))?;
        fs::write(&made, &component)?;
        fs::write(&made_of, key)?;
        Ok(component)
    }

    /// Stands for everything that the component is made of.
    fn key(&self, job: &Job) -> Result<String> {
        let tools = match self.language {
            Language::Python => python::TOOLS,
            Language::JavaScript => javascript::TOOLS,
            Language::Go => go::TOOLS,
        };
        let mut hasher = Sha256::new();
        hasher.update(tools);
        for folder in [&job.sources, &job.contract] {
            for path in files(folder)? {
                hasher.update(path.to_string_lossy().as_bytes());
                hasher.update(fs::read(folder.join(&path))?);
            }
        }
        Ok(hex::encode(hasher.finalize()))
    }
}

impl Job {
    /// Copies the sources, so that no tool leaves anything among them.
    fn copy(&self, to: &Path) -> Result<()> {
        for file in files(&self.sources)? {
            let to = to.join(&file);
            if let Some(parent) = to.parent() {
                fs::create_dir_all(parent)?;
            }
            fs::copy(self.sources.join(&file), to)?;
        }
        Ok(())
    }

    /// A folder with the world and the contract as a tool wants to read them.
    fn wit(&self) -> Result<PathBuf> {
        let folder = self.work.join("wit");
        let deps = folder.join("deps/penstock");
        fs::create_dir_all(&deps)?;
        fs::copy(self.sources.join("world.wit"), folder.join("world.wit"))?;
        for file in files(&self.contract)? {
            fs::copy(self.contract.join(&file), deps.join(&file))?;
        }
        Ok(folder)
    }
}

/// Folder of a tool at one version.
fn tool(name: &str) -> Result<PathBuf> {
    Ok(cache::folder()?.join("tools").join(name))
}

/// Files below a folder, in order. Python's own leavings are none.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut left = vec![PathBuf::new()];
    while let Some(below) = left.pop() {
        let here = folder.join(&below);
        let entries =
            fs::read_dir(&here).with_context(|| format!("can't read {}", here.display()))?;
        for entry in entries {
            let entry = entry?;
            let path = below.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                if entry.file_name() != "__pycache__" {
                    left.push(path);
                }
            } else {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}
