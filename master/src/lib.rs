//! The master: HTTP API, replicated log, control loops, and the dispatcher that talks to agents.
//!
//! `api` and `control` read [`store::Store`] and call [`propose::Propose`]; neither knows the
//! other. `dispatcher` alone talks to agents; only `consensus` calls `core::machine::apply`.

pub mod propose;
pub mod store;
pub mod streams;
