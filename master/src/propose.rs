//! The one way to change the cluster: propose a command, learn what became of it.

use bramble_core::command::{Command, Rejection};
use bramble_core::event::Event;
use std::future::Future;
use std::pin::Pin;
use thiserror::Error;

/// A committed and applied command.
#[derive(Clone, Debug)]
pub struct Committed {
    /// Log index at which it was applied.
    pub index: u64,
    pub events: Vec<Event>,
}

#[derive(Debug, Error)]
pub enum ProposeError {
    /// The state machine refused it; nothing changed.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// This master does not lead now.
    #[error("this master is not the leader")]
    NotLeader,
    /// The log could not take it (disk full or read-only, for example). It may or may not be
    /// committed later; the message is for a person.
    #[error("the log did not take the command: {0}")]
    Unavailable(String),
}

pub type ProposeFuture<'a> =
    Pin<Box<dyn Future<Output = Result<Committed, ProposeError>> + Send + 'a>>;

/// Implemented by the consensus room; loops and API hold it as `Arc<dyn Propose>`.
pub trait Propose: Send + Sync + 'static {
    /// Commit `command` with the leader's clock, apply it, and give what followed.
    fn propose(&self, command: Command) -> ProposeFuture<'_>;
}
