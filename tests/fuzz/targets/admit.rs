//! See [`penstock_fuzz::admit`].

#![no_main]

libfuzzer_sys::fuzz_target!(init: penstock_fuzz::write_seeds("admit"), |data: &[u8]| penstock_fuzz::admit::run(data));
