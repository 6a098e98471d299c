#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| transload_inspect::properties::inspect_files(bytes));
