//! The agent: runs what the cluster assigned to this machine and reports what became of it.
//!
//! The session brings assignments in; the ledger makes them durable before anything acts on them;
//! the reconciler brings what runs towards what is wanted; statuses wait in the ledger until the
//! master has committed them. No master is no reason to stop.

mod agent;
pub mod checks;
pub mod clock;
pub mod config;
pub mod executor;
pub mod fetch;
pub mod hardware;
pub mod images;
pub mod inventory;
pub mod ledger;
pub mod machine;
pub mod network;
mod offers;
pub mod peers;
pub mod reconciler;
pub mod runtime;
pub mod sandboxes;
pub mod secrets;
pub mod session;
pub mod streams;
mod volumes;

pub use agent::{Agent, AgentError, AgentHandle, check_run_dir};
pub use config::AgentConfig;
pub use reconciler::OwnTask;

#[cfg(test)]
mod samples;
