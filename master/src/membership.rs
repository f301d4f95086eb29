//! Raft's membership as the loops see it: who is in it, how far each is, and the one way to change
//! it. Implemented by the consensus room.

use bramble_core::autopilot::{Change, Standing};
use bramble_core::model::NodeId;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;
use thiserror::Error;

/// A member as the leader's raft knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub id: NodeId,
    pub standing: Standing,
    /// Entries it is behind the leader's log; `None` where nothing was heard of it.
    pub lag: Option<u64>,
}

#[derive(Debug, Error)]
pub enum MembershipError {
    #[error("this master does not lead")]
    NotLeading,
    #[error("the masters did not agree in time")]
    TimedOut,
    #[error("the membership was not changed: {0}")]
    Refused(String),
}

pub type ChangeFuture<'a> = Pin<Box<dyn Future<Output = Result<(), MembershipError>> + Send + 'a>>;

/// Whether another master leads now.
pub type HandOver<'a> = Pin<Box<dyn Future<Output = bool> + Send + 'a>>;

/// See the module.
pub trait Membership: Send + Sync + 'static {
    /// Every member, by id; empty where this master does not lead.
    fn members(&self) -> Vec<Member>;

    /// Every member as this master knows it, whoever leads; what they lack only the leader knows.
    fn known(&self) -> Vec<Member>;

    /// Make one change and wait until it holds.
    fn change(&self, change: Change) -> ChangeFuture<'_>;

    /// Let another voter lead, and wait for that no longer than `most`. This master stands for no
    /// election until it is to [`Membership::stand_again`].
    fn hand_over(&self, most: Duration) -> HandOver<'_>;

    /// Be ready to lead again.
    fn stand_again(&self);
}
