//! Every contract between bramble's processes: frames between master and agent, between nodes, between
//! agent and executor, and the REST JSON of the Marathon-compatible API.
//!
//! Feature `net` adds what touches a network: QUIC, identity, the join token, mDNS.

pub mod codec;
pub mod executor;
pub mod message;
pub mod native;
pub mod peer;
pub mod rest;
pub mod secret;
pub mod timestamp;

#[cfg(feature = "net")]
pub mod net;
