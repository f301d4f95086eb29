//! The agent: runs what the cluster assigned to this machine and reports what became of it.
//!
//! The session brings assignments in; the ledger makes them durable before anything acts on them;
//! the reconciler brings what runs towards what is wanted; statuses wait in the ledger until the
//! master has committed them. No master is no reason to stop.

pub mod checks;
pub mod clock;
pub mod executor;
pub mod images;
pub mod inventory;
pub mod ledger;
pub mod network;
pub mod reconciler;
pub mod sandboxes;
pub mod streams;
pub mod runtime;

#[cfg(test)]
mod samples;
