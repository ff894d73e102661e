//! Fuzz targets: whatever the network, a guest or an operator brings, nothing panics and what is promised holds.
//!
//! Each target is a function over bytes. With the feature `libfuzzer` there is a program for each, which `cargo xtask fuzz TARGET` builds and runs; without it
//! the targets run over their seeds as plain tests. The seeds come from what the tests of this repository use: see [`seeds`].

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a fuzz target may panic: that is how it tells"
)]

pub mod admit;
pub mod component;
pub mod config;
pub mod lift;
pub mod rules;
pub mod seeds;
pub mod tekton;
pub mod webhook;

/// A target: its name, what it runs, and its seeds.
pub struct Target {
    /// The name on the command line.
    pub name: &'static str,
    /// Runs it over one input.
    pub run: fn(&[u8]),
    /// Inputs to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All targets.
pub const TARGETS: [Target; 7] = [
    Target {
        name: "webhook",
        run: webhook::run,
        seeds: seeds::webhook,
    },
    Target {
        name: "component",
        run: component::run,
        seeds: seeds::component,
    },
    Target {
        name: "lift",
        run: lift::run,
        seeds: seeds::lift,
    },
    Target {
        name: "config",
        run: config::run,
        seeds: seeds::config,
    },
    Target {
        name: "rules",
        run: rules::run,
        seeds: seeds::rules,
    },
    Target {
        name: "tekton",
        run: tekton::run,
        seeds: seeds::tekton,
    },
    Target {
        name: "admit",
        run: admit::run,
        seeds: seeds::admit,
    },
];

/// Names the folder that a fuzz program writes its seeds into before it begins.
pub const SEEDS: &str = "PENSTOCK_FUZZ_SEEDS";

/// Writes a target's seeds into the folder that [`SEEDS`] names, if it names one.
pub fn write_seeds(name: &str) {
    let Some(folder) = std::env::var_os(SEEDS).map(std::path::PathBuf::from) else {
        return;
    };
    let target = TARGETS.iter().find(|it| it.name == name).unwrap();
    for (n, seed) in (target.seeds)().iter().enumerate() {
        std::fs::write(folder.join(format!("seed-{n}")), seed).unwrap();
    }
}
