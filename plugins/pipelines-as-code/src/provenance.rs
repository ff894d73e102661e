//! Where the folder is read, and that nothing it names is read anywhere else.
//!
//! A setting that takes the folder from the default or the target branch would be worth
//! nothing if a reference could fetch the same file from the change itself: paths are
//! read where the folder is, and an address of the project itself may only name that
//! same branch.

use percent_encoding::percent_decode_str;

use crate::facts::{Facts, short};
use crate::settings::Provenance;
use crate::world::{Elsewhere, Source};

/// Where the project's own files are read.
pub(crate) fn source(provenance: Provenance, facts: &Facts<'_>) -> Source {
    match provenance {
        Provenance::Source => Source::Event,
        Provenance::DefaultBranch => Source::DefaultBranch,
        Provenance::TargetBranch if facts.merge_request.is_some() => Source::TargetBranch,
        Provenance::TargetBranch => Source::Event,
    }
}

/// What a reference to a remote task or pipeline means.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Target {
    /// A file of GitLab.
    File(Source, String),
    /// A public file.
    Web(String),
    /// Something of a catalog: its name, what it holds, and the version.
    Hub {
        hub: Option<String>,
        name: String,
        version: Option<String>,
    },
}

/// Reads a reference. `beside` is where the object stands that holds it, for one that
/// is relative to a remote pipeline.
///
/// # Errors
/// Why it is not followed.
pub(crate) fn target(
    reference: &str,
    beside: Option<&Target>,
    provenance: Provenance,
    facts: &Facts<'_>,
) -> Result<Target, String> {
    if reference.starts_with("https://") || reference.starts_with("http://") {
        return address(reference, provenance, facts);
    }
    if let Some((hub, rest)) = reference.split_once("://") {
        return Ok(of_hub(Some(hub), rest));
    }
    let is_path =
        reference.contains('/') || reference.ends_with(".yaml") || reference.ends_with(".yml");
    if !is_path {
        return Ok(of_hub(None, reference));
    }
    match beside {
        Some(Target::File(source, path)) => {
            Ok(Target::File(source.clone(), joined(path, reference)?))
        }
        Some(Target::Web(url)) => {
            let (_, rest) = url.split_once("://").unwrap_or(("", url));
            let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
            Ok(Target::Web(format!(
                "https://{host}/{}",
                joined(path, reference)?
            )))
        }
        Some(Target::Hub { .. }) | None => Ok(Target::File(
            source(provenance, facts),
            joined("", reference)?,
        )),
    }
}

fn of_hub(hub: Option<&str>, reference: &str) -> Target {
    let (name, version) = match reference.split_once(':') {
        Some((name, version)) => (name, Some(version.to_owned())),
        None => (reference, None),
    };
    Target::Hub {
        hub: hub.map(str::to_owned),
        name: name.to_owned(),
        version,
    }
}

/// A path that is relative to the folder of another.
fn joined(beside: &str, reference: &str) -> Result<String, String> {
    let mut parts: Vec<&str> = beside.split('/').collect();
    parts.pop();
    for part in reference.trim_start_matches('/').split('/') {
        match part {
            "" | "." => {}
            ".." => {
                if parts.pop().is_none() {
                    return Err("the path leads out of the repository".to_owned());
                }
            }
            part => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}

fn address(url: &str, provenance: Provenance, facts: &Facts<'_>) -> Result<Target, String> {
    let base = format!("{}/", facts.event.instance_url);
    let Some(rest) = url.strip_prefix(&base) else {
        return if authority(url) == authority(&base) {
            Err(format!(
                "it is an address of this GitLab: write it as `{base}…`"
            ))
        } else if url.starts_with("https://") {
            Ok(Target::Web(url.to_owned()))
        } else {
            Err("only `https://` is fetched".to_owned())
        };
    };
    let rest = rest.split(['?', '#']).next().unwrap_or(rest);
    let wrong = || {
        "an address of this GitLab must be one of a file: `…/PROJECT/-/raw/BRANCH/PATH` or `…/-/blob/…`"
            .to_owned()
    };
    let (project, file) = rest.split_once("/-/").ok_or_else(wrong)?;
    let file = file
        .strip_prefix("raw/")
        .or_else(|| file.strip_prefix("blob/"))
        .ok_or_else(wrong)?;
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let project = decoded(project);
    let same = |path: &str| path.eq_ignore_ascii_case(&project);
    // A branch of this project may have a slash in its name.
    let branches = [
        short(&facts.target_ref),
        short(&facts.source_ref),
        facts.project.default_branch.as_deref().unwrap_or_default(),
    ];
    let known = branches.into_iter().find_map(|it| {
        let path = file.strip_prefix(it)?.strip_prefix('/')?;
        (same(&facts.project.path) && it.contains('/')).then_some((it, path))
    });
    let (revision, path) = known.or_else(|| file.split_once('/')).ok_or_else(wrong)?;
    let (revision, path) = (decoded(revision), joined("", &decoded(path))?);
    if let Some(fork) = &facts.event.provenance.source_project
        && same(&fork.path)
    {
        return Err(
            "a file of the fork itself is read by its path in the repository alone".to_owned(),
        );
    }
    if same(&facts.project.path) {
        return own(&revision, path, provenance, facts);
    }
    let elsewhere = Elsewhere { project, revision };
    Ok(Target::File(Source::Elsewhere(elsewhere), path))
}

/// Host and port of an address in one spelling: however GitLab's is written, it is GitLab's.
fn authority(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let end = rest.find(['/', '\\', '?', '#']).unwrap_or(rest.len());
    let authority = rest.get(..end).unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    let host = percent_decode_str(host).decode_utf8_lossy().to_lowercase();
    let port = if scheme.eq_ignore_ascii_case("http") {
        ":80"
    } else {
        ":443"
    };
    let host = host.strip_suffix(port).unwrap_or(&host);
    host.trim_end_matches('.').to_owned()
}

/// A file of the event's own project, named by address.
fn own(
    revision: &str,
    path: String,
    provenance: Provenance,
    facts: &Facts<'_>,
) -> Result<Target, String> {
    let of_commit = |text: &str| text.len() >= 40 && text.bytes().all(|it| it.is_ascii_hexdigit());
    let default = facts.project.default_branch.as_deref();
    let trusted = match provenance {
        Provenance::Source if of_commit(revision) => {
            return Ok(Target::File(Source::Commit(revision.to_owned()), path));
        }
        Provenance::Source => {
            let full = format!("refs/heads/{revision}");
            return Ok(Target::File(Source::Ref(full), path));
        }
        Provenance::DefaultBranch => default,
        Provenance::TargetBranch => Some(short(&facts.target_ref)),
    };
    if revision == "HEAD" || Some(revision) == trusted {
        return Ok(Target::File(source(provenance, facts), path));
    }
    Err(format!(
        "the folder comes from `{}`, and so must every file of this project: name that branch, or the path alone",
        trusted.unwrap_or("the default branch")
    ))
}
