//! The pure heart of bramble: nouns, the replicated state machine, placing, deploying, converging.
//!
//! Nothing here does IO, reads a clock, draws randomness or keeps a thread: time and identifiers
//! enter inside commands, chosen by the leader, so that every replica computes the same bytes and
//! a whole cluster can be replayed from one seed. Stored types hold no float, no `usize` and no
//! hash map, because replicas of different word sizes must agree.

pub mod alone;
pub mod autopilot;
pub mod command;
pub mod converge;
pub mod deploy;
pub mod event;
pub mod health;
pub mod lease;
pub mod machine;
pub mod model;
pub mod place;
pub mod taskenv;
pub mod validate;
