//! A real Kubernetes control plane with Tekton, for tests, the demo and measurements.
//!
//! Owns the processes etcd, kube-apiserver, kube-controller-manager and Tekton's webhook and
//! controller, all built from the Go modules beside this crate, plus a stand-in for the kubelet.
//! Never part of the product: nothing in `host/` depends on it.
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use penstock_control_plane::{TestPlace, shared};
//!
//! let cluster = shared().await?;                                  // one for the whole test run
//! let place = TestPlace::create(cluster, "my-test").await?;       // a namespace with its accounts
//! let penstock = place.host_kubeconfig();                         // what Penstock itself is given
//! # let _ = penstock;
//! # Ok(())
//! # }
//! ```
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        reason = "a test may panic"
    )
)]

pub mod access;
pub mod apply;
pub mod build;
pub mod control_plane;
pub mod kubelet;
pub mod place;
pub mod ports;
pub mod shared;
pub mod wait;

mod kubernetes;
mod pki;
mod process;
mod tekton;

pub use access::Access;
pub use control_plane::{ControlPlane, Options};
pub use kubelet::Kubelet;
pub use place::TestPlace;
pub use shared::{KUBECONFIG_VARIABLE, shared};
pub use tekton::{pipeline_run_resource, task_run_resource};
