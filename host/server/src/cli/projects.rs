//! `penstock projects`: projects are pinned to the tenant under which they were first seen.

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Subcommand;
use penstock_model::id::{InstanceName, ProjectId, ProjectPath, TenantName, Timestamp};
use penstock_model::tenant::belonging;
use serde::Serialize;
use serde_json::json;

use super::{Shared, load, open_beside, output};
use crate::config::Config;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Lets a project that was renamed or transferred, or all projects of a tenant whose `match` was changed, belong to the tenant that their path leads to now.
    Repin {
        /// GitLab's id of the project.
        #[arg(required_unless_present = "tenant")]
        id: Option<u64>,
        /// Its full path now.
        #[arg(required_unless_present = "tenant")]
        path: Option<String>,
        /// Name of the GitLab instance; may be left out where there is one.
        #[arg(long)]
        instance: Option<String>,
        /// All projects that are pinned to this tenant: its `match` as it stood before.
        #[arg(long, value_name = "OLD MATCH", conflicts_with_all = ["id", "path"])]
        tenant: Option<String>,
        /// Says what would be done, and changes nothing.
        #[arg(long, requires = "tenant")]
        dry_run: bool,
    },
}

pub(super) async fn run(command: Command, shared: &Shared) -> Result<ExitCode> {
    let Command::Repin {
        id,
        path,
        instance,
        tenant,
        dry_run,
    } = command;
    let config = load(&shared.config)?;
    match (id, path, tenant) {
        (Some(id), Some(path), _) => repin_one(shared, &config, id, path, instance).await,
        (_, _, Some(tenant)) => {
            let from = TenantName::new(tenant);
            repin_tenant(shared, &config, &from, instance, dry_run).await
        }
        _ => anyhow::bail!("name a project by its id and path, or a tenant with `--tenant`"),
    }
}

/// What becomes of a project of a tenant that is no more.
#[derive(Serialize)]
struct Moved {
    instance: String,
    project: u64,
    path: String,
    /// None: no tenant's `match` leads to it.
    tenant: Option<TenantName>,
    why: Option<String>,
}

async fn repin_tenant(
    shared: &Shared,
    config: &Config,
    from: &TenantName,
    instance: Option<String>,
    dry_run: bool,
) -> Result<ExitCode> {
    if let Some(tenant) = config.tenants.iter().find(|it| it.name() == *from) {
        anyhow::bail!(
            "the configuration still has the tenant `{}`: change its `match` first",
            tenant.name()
        );
    }
    let store = open_beside(shared).await?;
    let mut pinned = store.pinned_to(from).await?;
    if let Some(only) = instance {
        pinned.retain(|it| it.instance.as_str() == only);
    }
    let (mut moves, mut told) = (Vec::new(), Vec::new());
    for project in pinned {
        let found = belonging(&config.tenants, project.path.as_str());
        told.push(Moved {
            instance: project.instance.to_string(),
            project: project.project.0,
            path: project.path.to_string(),
            tenant: found.as_ref().ok().map(|it| it.tenant.name()),
            why: found.as_ref().err().map(ToString::to_string),
        });
        if let Ok(found) = found {
            moves.push((project, found.tenant.name()));
        }
    }
    let moved = match dry_run {
        true => 0,
        false => store.repin_each(from, moves, Timestamp::now()).await?,
    };
    store.close().await;
    let json = json!({ "from": from, "repinned": moved, "dry_run": dry_run, "projects": told });
    output::answer(shared.output, &json, || {
        if told.is_empty() {
            return format!("no project is pinned to `{from}`");
        }
        let rows = told.iter().map(|it| {
            let to = it.tenant.as_ref().map(ToString::to_string);
            [
                it.path.clone(),
                it.project.to_string(),
                to.or_else(|| it.why.clone()).unwrap_or_default(),
            ]
        });
        let table = output::table(["PROJECT", "ID", "BELONGS TO"], rows);
        let last = match dry_run {
            true => "nothing was changed: leave `--dry-run` out to do it".to_owned(),
            false => format!(
                "{moved} repinned; `penstock deliveries list --outcome failed` shows what came to nothing meanwhile, and `penstock deliveries retry` decides it anew"
            ),
        };
        format!("{table}\n{last}")
    });
    Ok(ExitCode::SUCCESS)
}

async fn repin_one(
    shared: &Shared,
    config: &Config,
    id: u64,
    path: String,
    instance: Option<String>,
) -> Result<ExitCode> {
    let instance = match (instance, config.gitlab.as_slice()) {
        (Some(name), _) => InstanceName::new(name),
        (None, [only]) => only.name.clone(),
        (None, _) => anyhow::bail!(
            "the configuration has several GitLab instances: name one with `--instance`"
        ),
    };
    let tenant = belonging(&config.tenants, &path)
        .with_context(|| format!("`{path}` can't be pinned"))?
        .tenant
        .name();
    let store = open_beside(shared).await?;
    store
        .repin(
            &instance,
            ProjectId(id),
            &ProjectPath::new(&*path),
            &tenant,
            Timestamp::now(),
        )
        .await?;
    store.close().await;
    let json = json!({ "project": id, "path": path, "tenant": tenant });
    output::answer(shared.output, &json, || {
        format!("{path} (project {id}) belongs to the tenant `{tenant}` now")
    });
    Ok(ExitCode::SUCCESS)
}
