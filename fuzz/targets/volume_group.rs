#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| transload_volume::properties::volume_group(bytes));
