#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| transload_nbd::properties::nbd_server(bytes));
