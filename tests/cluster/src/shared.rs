//! One control plane for a whole test run.
//!
//! `cargo xtask test` starts the binary `control-plane` and sets [`KUBECONFIG_VARIABLE`]; every test
//! process then uses that one. Without it each test process starts one of its own when first asked.

use std::path::Path;

use anyhow::{Result, anyhow};
use tokio::sync::OnceCell;

use crate::{
    access::Access,
    control_plane::{ControlPlane, Options},
};

/// Names the administrator's kubeconfig of a control plane that already runs.
pub const KUBECONFIG_VARIABLE: &str = "PENSTOCK_TEST_KUBECONFIG";

enum Shared {
    Found(Access),
    Started(ControlPlane),
    /// Kept, so that a hundred tests do not each wait for the same failure.
    Failed(String),
}

static SHARED: OnceCell<Shared> = OnceCell::const_new();

/// The options of a shared control plane: everything, with an audit log and a quick Tekton.
#[must_use]
pub fn shared_options() -> Options {
    Options {
        audit: true,
        tekton_qps: Some(200),
        ..Options::default()
    }
}

/// The control plane of this test run. Tests must not restart or fill it; one that wants to starts
/// its own with [`ControlPlane::start`].
///
/// # Errors
/// If there is none and none can be started.
pub async fn shared() -> Result<&'static Access> {
    match SHARED.get_or_init(find_or_start).await {
        Shared::Found(access) => Ok(access),
        Shared::Started(plane) => Ok(plane.access()),
        Shared::Failed(why) => Err(anyhow!("no control plane: {why}")),
    }
}

async fn find_or_start() -> Shared {
    let found = match std::env::var_os(KUBECONFIG_VARIABLE).filter(|path| !path.is_empty()) {
        Some(path) => Access::from_kubeconfig(Path::new(&path)).map(Shared::Found),
        None => ControlPlane::start(shared_options())
            .await
            .map(Shared::Started),
    };
    found.unwrap_or_else(|error| Shared::Failed(format!("{error:#}")))
}
