//! See [`penstock_fuzz::config`].

#![no_main]

libfuzzer_sys::fuzz_target!(init: penstock_fuzz::write_seeds("config"), |data: &[u8]| penstock_fuzz::config::run(data));
