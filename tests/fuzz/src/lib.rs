//! What is fuzzed, as plain functions of bytes: they panic where a promise is broken.

// The master itself would bring its log, HTTP and QUIC along, all of which would be built anew
// with coverage counters; this room of it is pure.
#[path = "../../../master/src/normalize/mod.rs"]
#[allow(dead_code)]
mod normalize;

#[path = "../../../core/tests/cluster/bench.rs"]
#[allow(dead_code)]
mod bench;

mod app_json;
mod apply;
mod choices;

pub use app_json::app_json;
pub use apply::apply;
