//! See [`penstock_fuzz::tekton`].

#![no_main]

libfuzzer_sys::fuzz_target!(init: penstock_fuzz::write_seeds("tekton"), |data: &[u8]| penstock_fuzz::tekton::run(data));
