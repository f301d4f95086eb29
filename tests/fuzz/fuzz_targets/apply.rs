//! Any commands, in any order, applied to the replicated state.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bramble_fuzz::apply(data));
