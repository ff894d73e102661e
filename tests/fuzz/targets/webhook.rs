//! See [`penstock_fuzz::webhook`].

#![no_main]

libfuzzer_sys::fuzz_target!(init: penstock_fuzz::write_seeds("webhook"), |data: &[u8]| penstock_fuzz::webhook::run(data));
