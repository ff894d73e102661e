//! See [`penstock_fuzz::rules`].

#![no_main]

libfuzzer_sys::fuzz_target!(init: penstock_fuzz::write_seeds("rules"), |data: &[u8]| penstock_fuzz::rules::run(data));
