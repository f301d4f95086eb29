//! The master: HTTP API, replicated log, control loops, and the dispatcher that talks to agents.
//!
//! `api` and `control` read [`store::Store`] and call [`propose::Propose`]; neither knows the
//! other. `dispatcher` alone talks to agents; only `consensus` calls `core::machine::apply`.

pub mod administration;
pub mod admission;
pub mod api;
pub mod artifacts;
pub mod authority;
pub mod backup;
pub mod callers;
mod certification;
pub mod clock;
pub mod consensus;
pub mod control;
pub mod dispatcher;
mod door;
pub mod events;
pub mod founding;
pub mod holders;
pub mod levels;
pub mod masters;
pub mod membership;
pub mod normalize;
pub mod offers;
pub mod peers;
pub mod proof;
pub mod propose;
pub mod provisional;
pub mod queue_view;
pub mod relay;
mod revocation;
pub mod roster;
mod rotation;
pub mod server;
pub mod store;
pub mod streams;
pub mod vault;
