#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| transload_filesystem::properties::any_bytes(bytes));
