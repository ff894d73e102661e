//! Measurements of the goals in DESIGN.md: what is measured, with what, and how it is written.
//!
//! The host is the release binary. The cluster is the real one, in a process of its own; nothing here runs on its core. Every ratio is of two
//! halves of one run, one after the other.

mod answer;
mod direct;
mod disk;
mod feed;
mod figure;
mod kill;
mod memory;
mod pac;
mod plane;
mod process;
mod start;
mod sustained;

use std::path::Path;

pub use figure::{Figure, Report};
pub use plane::OURS;

/// Which goals are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Name {
    /// Webhook to PipelineRun, CPU time and bytes for each delivery, time to 2xx.
    Load,
    /// Deliveries lost and runs doubled over many kills.
    Kill,
    /// Memory with 50 plugins, idle and in a burst.
    Memory,
    /// Time to accepting hooks with 50 plugins.
    Start,
    /// A decision about a `.tekton` folder of 50 files: time, and calls to GitLab.
    Pac,
}

/// Measures, with this binary `penstock`.
///
/// # Panics
/// If it can't be measured.
pub async fn measure(name: Name, penstock: &Path) -> Vec<Figure> {
    match name {
        Name::Load => {
            let mut figures = sustained::measure(penstock, plane::Webhooks::InPlace).await;
            figures.extend(sustained::measure(penstock, plane::Webhooks::Absent).await);
            figures.extend(answer::measure(penstock).await);
            figures
        }
        Name::Kill => kill::measure(penstock).await,
        Name::Memory => memory::measure(penstock).await,
        Name::Start => start::measure(penstock).await,
        Name::Pac => pac::measure(penstock).await,
    }
}
