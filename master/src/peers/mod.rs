//! The other masters: carries Raft's messages to them and answers theirs, and what else masters
//! need of each other (addresses, the data key, admissions that only the leader can commit).
//!
//! A master is named by its key. Whether it still belongs to the cluster is asked of the state at
//! every link; where it is, of the directory.

pub mod answer;
mod greet;
mod keyring;
mod message;

pub use message::{PeerReply, PeerRequest};

use crate::consensus::{PeerError, PeerFuture, PeerLink, RaftReply, RaftRequest};
use crate::control::Heard;
use crate::store::Store;
use bramble_core::model::{NodeId, NodeRole};
use bramble_protocol::net::{Alpn, LinkError, Links};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::time::Instant;

/// See the module.
pub struct Peers {
    own: NodeId,
    links: Arc<Links>,
    /// When each last answered.
    heard: Mutex<BTreeMap<NodeId, Instant>>,
}

impl Peers {
    pub fn new(own: NodeId, links: Arc<Links>) -> Self {
        Self { own, links, heard: Mutex::default() }
    }

    /// Ask another master one thing.
    ///
    /// # Errors
    /// When it cannot be reached or does not answer.
    pub async fn ask(&self, node: &NodeId, request: &PeerRequest) -> Result<PeerReply, LinkError> {
        let reply = self.links.call(node, Alpn::Raft, request).await?;
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.insert(node.clone(), Instant::now());
        Ok(reply)
    }
}

impl PeerLink for Peers {
    fn call<'a>(&'a self, peer: &'a NodeId, request: RaftRequest) -> PeerFuture<'a> {
        Box::pin(async move {
            let asked = match &request {
                RaftRequest::Append(_) => "append",
                RaftRequest::Vote(_) => "vote",
                RaftRequest::Snapshot(_) => "snapshot",
            };
            match self.ask(peer, &PeerRequest::Raft(request)).await {
                Ok(PeerReply::Raft(reply)) => Ok::<RaftReply, _>(reply),
                Ok(PeerReply::Refused(reason)) => {
                    Err(PeerError::Call { peer: peer.clone(), source: reason.into() })
                }
                Ok(_) => Err(PeerError::WrongReply { peer: peer.clone(), asked }),
                Err(error) => Err(PeerError::Call { peer: peer.clone(), source: error.into() }),
            }
        })
    }
}

/// Masters of the cluster besides `own`, as far as this one's state knows them.
fn others(store: &Store, own: &NodeId) -> Vec<NodeId> {
    store.read(|state| {
        let masters = state.nodes.values().filter(|node| node.role != NodeRole::Agent);
        masters.filter(|node| node.id != *own).map(|node| node.id.clone()).collect()
    })
}

impl Heard for Peers {
    fn of(&self, node: &NodeId) -> Option<Instant> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).get(node).copied()
    }
}
