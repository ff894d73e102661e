//! `penstock projects`: projects are pinned to the tenant under which they were first seen.

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Subcommand;
use penstock_model::id::{InstanceName, ProjectId, ProjectPath, Timestamp};
use penstock_model::tenant::belonging;
use serde_json::json;

use super::{Shared, load, open_beside, output};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Lets a project that was renamed or transferred belong to the tenant that its path leads to now.
    Repin {
        /// GitLab's id of the project.
        id: u64,
        /// Its full path now.
        path: String,
        /// Name of the GitLab instance; may be left out where there is one.
        #[arg(long)]
        instance: Option<String>,
    },
}

pub(super) async fn run(command: Command, shared: &Shared) -> Result<ExitCode> {
    let Command::Repin { id, path, instance } = command;
    let config = load(&shared.config)?;
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
