//! A whole cluster in one thread, on a clock and a network of its own: openraft, the core, masters
//! with their loops and dispatcher, agents with their reconciler. One seed decides all.
//!
//! ```text
//! main (a process for each seed) -> run -> world -> master, agent (a runtime each)
//!                                            |-> net, faults, client
//!                                            `-> invariants look at what the nodes let see
//! ```
//!
//! Every node is a tokio runtime on a paused clock: a crash drops it, with every task of it. The
//! world lets one node after the other live through the same few milliseconds, then delivers what
//! they sent.
//!
//! What is real: openraft, log store, snapshots (files), proposer, supervisor, control loops,
//! dispatcher, core, reconciler, ledger records, the conversation between both, all codecs. What
//! is not: sled (a map that forgets what was not synced), QUIC and its dialling, the HTTP API,
//! containers, the wiring of `master::server`.

mod agent;
mod client;
pub mod fate;
mod faults;
mod invariants;
mod machine;
mod master;
mod net;
mod planted;
mod port;
mod run;
mod trace;
mod world;

pub use planted::Planted;
pub use run::{Outcome, run};
