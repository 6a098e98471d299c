#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| transload_appliance::ova::fuzz::container(bytes));
