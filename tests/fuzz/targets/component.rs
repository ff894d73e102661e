//! See [`penstock_fuzz::component`].

#![no_main]

libfuzzer_sys::fuzz_target!(init: penstock_fuzz::write_seeds("component"), |data: &[u8]| penstock_fuzz::component::run(data));
