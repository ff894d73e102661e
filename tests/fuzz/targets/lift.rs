//! See [`penstock_fuzz::lift`].

#![no_main]

libfuzzer_sys::fuzz_target!(init: penstock_fuzz::write_seeds("lift"), |data: &[u8]| penstock_fuzz::lift::run(data));
