//! Who answers for the cluster and how to get there, as the API needs both without knowing
//! consensus or network.
//!
//! The contract, and what fulfils it: [`Others`] on a master, [`Distant`] on a node that is none.

mod answer;
mod distant;
mod others;
mod pipe;

pub use answer::answer;
pub use distant::Distant;
pub use others::Others;

use bramble_core::model::NodeId;
use std::future::Future;
use std::pin::Pin;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

/// Both directions of a connection between two nodes. Dropped before its end, the other side sees
/// it break.
pub trait Pipe: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Pipe for T {}

pub type BoxPipe = Box<dyn Pipe>;

/// Who can answer for the cluster now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Lead {
    /// This node leads, in this term, and its state is up to date.
    Here { term: u64 },
    /// Another master leads.
    At(NodeId),
    /// No leader is known to this master.
    #[default]
    Nobody,
    /// This node is no master; these are, the best first.
    Masters(Vec<NodeId>),
}

impl Lead {
    /// Whether requests may go to `node`.
    pub fn is_through(&self, node: &NodeId) -> bool {
        match self {
            Lead::At(leader) => leader == node,
            Lead::Masters(masters) => masters.contains(node),
            Lead::Here { .. } | Lead::Nobody => false,
        }
    }
}

#[derive(Debug, Error)]
#[error("{node} cannot be reached")]
pub struct OpenError {
    pub node: NodeId,
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

pub type OpenFuture<'a> = Pin<Box<dyn Future<Output = Result<BoxPipe, OpenError>> + Send + 'a>>;
pub type AbsenceFuture<'a> = Pin<Box<dyn Future<Output = String> + Send + 'a>>;

/// The masters of the cluster, as this node sees them.
pub trait Masters: Send + Sync + 'static {
    /// Who leads, and word of every change.
    fn lead(&self) -> watch::Receiver<Lead>;

    /// Connect to the API of a master.
    fn open<'a>(&'a self, node: &'a NodeId) -> OpenFuture<'a>;

    /// Why nobody answers for the cluster, for a person: `no leader: 1 of 3 masters answers`.
    fn absence(&self) -> AbsenceFuture<'_>;
}

#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ReadError {
    /// Too few masters said that they still follow this one.
    #[error("this master cannot reach enough of the others to know that it still leads")]
    NoQuorum,
    #[error("this master is not the leader")]
    NotLeader,
}

pub type ReadFuture<'a> = Pin<Box<dyn Future<Output = Result<(), ReadError>> + Send + 'a>>;

/// Says when the local state may be read as the cluster's.
pub trait ReadGate: Send + Sync + 'static {
    /// Resolves once the local state holds every change that was acknowledged before the call.
    fn fresh(&self) -> ReadFuture<'_>;
}

/// A connection from another node, on its way to the API.
pub struct Relayed {
    /// Who dialled; admitted when it did.
    pub from: NodeId,
    pub pipe: BoxPipe,
}
