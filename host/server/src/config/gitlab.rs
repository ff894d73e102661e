//! `gitlab`: instances and their hooks.

use penstock_gitlab::{Keys, Redaction};
use penstock_model::id::{ProjectId, ProjectPath};

use super::files::Files;
use super::read::{Names, Sections, base_url, name, remember};
use super::reader::{Item, Reader};
use super::{GitlabConfig, HookConfig, HookScope, IncomingConfig};

/// Calls a minute of one token, under GitLab's own default limit of 2,000 for a user.
const CALLS_PER_MINUTE: u32 = 1_600;

/// Bytes of a bundle of certificates.
const MAX_BUNDLE: u64 = 1024 * 1024;

pub(super) fn read(sections: &Sections<'_>, files: &Files<'_>) -> Option<Vec<GitlabConfig>> {
    let mut names = Names::default();
    // One address serves all instances.
    let mut incoming = Names::default();
    let read: Vec<Option<GitlabConfig>> = sections
        .list("gitlab")
        .iter()
        .map(|item| instance(*item, files, &mut names, &mut incoming))
        .collect();
    read.into_iter().collect()
}

fn instance(
    item: Item<'_>,
    files: &Files<'_>,
    names: &mut Names,
    entries: &mut Names,
) -> Option<GitlabConfig> {
    let reader = item.map("a GitLab instance")?;
    let named = named(&reader, names, "GitLab instances");
    let url = reader.required("url").and_then(base_url);
    let token = reader.required("token").and_then(|item| files.secret(item));
    let certificate = reader.maybe("ca", |item| certificate(item, files));
    let calls_per_minute = reader.or("calls-per-minute", CALLS_PER_MINUTE, Item::count);
    let redact = reader.each("redact", |item| item.parsed(pointer));
    let mut hooks = Names::default();
    let hooks: Option<Vec<HookConfig>> = match reader.optional("hooks") {
        None => Some(Vec::new()),
        Some(list) => list.list().and_then(|items| {
            let read: Vec<Option<HookConfig>> = items
                .into_iter()
                .map(|item| hook(item, files, &mut hooks))
                .collect();
            read.into_iter().collect()
        }),
    };
    let incoming: Option<Vec<IncomingConfig>> = match reader.optional("incoming") {
        None => Some(Vec::new()),
        Some(list) => list.list().and_then(|items| {
            let read: Vec<Option<IncomingConfig>> = items
                .into_iter()
                .map(|item| incoming_entry(item, files, entries))
                .collect();
            read.into_iter().collect()
        }),
    };
    reader.finish();
    Some(GitlabConfig {
        name: named?.into(),
        url: url?,
        token: token?,
        certificate: certificate?,
        calls_per_minute: calls_per_minute?,
        redact: redact?,
        hooks: hooks?,
        incoming: incoming?,
    })
}

fn incoming_entry(item: Item<'_>, files: &Files<'_>, names: &mut Names) -> Option<IncomingConfig> {
    let reader = item.map("an entry of `incoming`")?;
    let named = named(&reader, names, "entries of `incoming`");
    let path = reader
        .required("project")
        .and_then(|item| Some(ProjectPath::new(item.text()?)));
    let project = reader.required("project-id").and_then(Item::count);
    let secrets = reader
        .required("secret")
        .and_then(|item| files.secrets(item));
    let targets = reader.required("targets").and_then(Item::texts);
    let parameters = reader.or("params", Vec::new(), Item::texts);
    reader.finish();
    Some(IncomingConfig {
        name: named?,
        project: ProjectId(project?),
        path: path?,
        secrets: secrets?,
        targets: targets?,
        parameters: parameters?,
    })
}

/// The required `name`, remembered.
pub(super) fn named(reader: &Reader<'_>, names: &mut Names, what: &str) -> Option<String> {
    let read = reader
        .required("name")
        .and_then(|item| Some((item, name(item)?)));
    match read {
        Some((item, name)) => {
            remember(names, what, &name, item);
            Some(name)
        }
        None => {
            names.lose();
            None
        }
    }
}

fn certificate(item: Item<'_>, files: &Files<'_>) -> Option<Vec<u8>> {
    let named = item.text()?;
    match files.read(named, MAX_BUNDLE) {
        Ok(bytes)
            if bytes
                .windows(27)
                .any(|part| part == b"-----BEGIN CERTIFICATE-----") =>
        {
            Some(bytes)
        }
        Ok(_) => item.wrong(format!("`{named}` holds no certificate in PEM"), None),
        Err(why) => item.wrong(why, None),
    }
}

fn pointer(text: &str) -> Result<String, String> {
    Redaction::new(&[text.to_owned()])
        .map(|_| text.to_owned())
        .map_err(|error| error.to_string())
}

fn hook(item: Item<'_>, files: &Files<'_>, names: &mut Names) -> Option<HookConfig> {
    let reader = item.map("a hook")?;
    let named = named(&reader, names, "hooks");
    let scope = reader.required("scope").and_then(scope);
    let tokens = reader.or("token", Vec::new(), |item| files.secrets(item));
    let signing_tokens = reader.or("signing-token", Vec::new(), |item| files.secrets(item));
    let spot = reader.spot();
    reader.finish();
    let (tokens, signing_tokens) = (tokens?, signing_tokens?);
    if let Err(error) = Keys::new(tokens.clone(), signing_tokens.clone()) {
        let help = "write `signing-token: { file: PATH }` (GitLab 19.0 and later) or `token: { file: PATH }`";
        item.collector
            .open(spot, error.to_string(), Some(help.to_owned()));
        return None;
    }
    Some(HookConfig {
        name: named?.into(),
        scope: scope?,
        tokens,
        signing_tokens,
    })
}

fn scope(item: Item<'_>) -> Option<HookScope> {
    let reader = item.map("the scope of a hook")?;
    let group = reader.maybe("group", |item| item.parsed(path).map(HookScope::Group));
    let project = reader.maybe("project", |item| item.parsed(path).map(HookScope::Project));
    let id = reader.maybe("project-id", |item| {
        Some(HookScope::ProjectId(ProjectId(item.count()?)))
    });
    let instance = reader.maybe("instance", |item| match item.truth()? {
        true => Some(HookScope::Instance),
        false => item.wrong("`instance` is `true` or left out", None),
    });
    let spot = reader.spot();
    reader.finish();
    let scopes: Vec<HookScope> = [group?, project?, id?, instance?]
        .into_iter()
        .flatten()
        .collect();
    <[HookScope; 1]>::try_from(scopes).map(|[scope]| scope).ok().or_else(|| {
        let help = "write one of `{ group: PATH }`, `{ project: PATH }`, `{ project-id: NUMBER }` and `{ instance: true }`";
        item.collector.open(spot, "a hook has one scope", Some(help.to_owned()));
        None
    })
}

/// A full path of a group or project.
fn path(text: &str) -> Result<String, String> {
    let fits = |part: &str| {
        let letter = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
        !part.is_empty() && part.chars().all(letter)
    };
    if text.split('/').all(fits) {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "`{}` is no full path such as `acme/payments`; patterns belong to tenants",
            super::reader::cut(text)
        ))
    }
}
