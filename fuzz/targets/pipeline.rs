//! Frames through the whole pipeline, one after the other, in the state of one of the packet cases.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| switcher_fuzz::fuzz::pipeline(data));
