//! Every target runs over its seeds, whole and cut, as a plain test.

#![allow(clippy::indexing_slicing, reason = "a test may panic")]

use penstock_fuzz::TARGETS;

#[test]
fn every_target_takes_its_seeds_and_what_is_left_of_them_when_they_are_cut() {
    for target in &TARGETS {
        let seeds = (target.seeds)();
        assert!(!seeds.is_empty(), "{} has no seeds", target.name);
        for seed in seeds {
            (target.run)(&seed);
            (target.run)(&seed[..seed.len() / 2]);
            (target.run)(&seed[seed.len() / 3..]);
        }
    }
}
