//! Measurements of the goals in DESIGN.md: what is measured, with what, and how it is written.
//!
//! The host is the release binary. The cluster is the real one, in a process of its own; nothing here runs on its core. Every ratio is of two
//! halves of one run, one after the other.

mod answer;
mod direct;
mod disk;
mod fair;
mod faults;
mod feed;
mod figure;
mod hostile;
mod kill;
mod memory;
mod pac;
mod plane;
mod power;
mod process;
mod replay;
mod replicas;
mod start;
mod sustained;
mod tenants;

use std::path::Path;
use std::time::Duration;

pub use figure::{Figure, Report};
pub(crate) use process::{forget_peak, peak};

/// Which goals are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Name {
    /// Webhook to PipelineRun, CPU time and bytes for each delivery, time to 2xx.
    Load,
    /// Time to 2xx alone, as `load` has it too.
    Answer,
    /// Deliveries lost and runs doubled over many kills: with SQLite, and of two replicas on Postgres.
    Kill,
    /// The same over power cuts, where the disk forgets what was not synced.
    Power,
    /// Whether and when it converges when everything around it fails for a while.
    Faults,
    /// Memory with 50 plugins, idle and in a burst.
    Memory,
    /// Time to accepting hooks with 50 plugins.
    Start,
    /// A decision about a `.tekton` folder of 50 files: time, and calls to GitLab.
    Pac,
    /// One tenant's wait for its runs while another sends 10,000 deliveries, against alone.
    Fair,
    /// Cost of a delivery with 1,000 tenants against one.
    Tenants,
    /// Decisions run again.
    Replay,
    /// A plugin beside a hostile one.
    Hostile,
}

/// Measures, with this binary `penstock`; faults last so long.
///
/// # Panics
/// If it can't be measured.
#[expect(clippy::print_stderr, reason = "a remark of a program that measures")]
pub async fn measure(name: Name, penstock: &Path, faults: Duration) -> Vec<Figure> {
    // What is measured is the host, not what an operator lets it do: said where it is done.
    eprintln!(
        "flow limits are lifted for this: no limit on runs in flight or, where a figure does not say so, on creations a second"
    );
    if matches!(name, Name::Load | Name::Answer) {
        process::keep_to(plane::OURS);
    }
    match name {
        Name::Load => {
            let mut figures = sustained::measure(penstock, plane::Webhooks::InPlace).await;
            figures.extend(sustained::measure(penstock, plane::Webhooks::Absent).await);
            figures.extend(answer::measure(penstock).await);
            figures
        }
        Name::Answer => answer::measure(penstock).await,
        Name::Kill => {
            let mut figures = kill::measure(penstock).await;
            figures.extend(replicas::measure(penstock).await);
            figures
        }
        Name::Power => power::measure(penstock).await,
        Name::Faults => faults::measure(penstock, faults).await,
        Name::Memory => memory::measure(penstock).await,
        Name::Start => start::measure(penstock).await,
        Name::Pac => pac::measure(penstock).await,
        Name::Fair => fair::measure(penstock).await,
        Name::Tenants => tenants::measure(penstock).await,
        Name::Replay => replay::measure(penstock).await,
        Name::Hostile => hostile::measure(penstock).await,
    }
}
