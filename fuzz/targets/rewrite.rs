//! A frame that is parsed, and edited with any addresses and ports.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| switcher_fuzz::fuzz::rewrite(data));
