#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| transload_image::properties::parallels_open(bytes));
