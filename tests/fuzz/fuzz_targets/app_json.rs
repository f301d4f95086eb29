//! Any bytes as the body of `POST /v2/apps` and its like.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bramble_fuzz::app_json(data));
