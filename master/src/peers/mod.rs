//! The other masters: carries Raft's messages to them and answers theirs, and what else masters
//! need of each other (addresses, the data key, admissions that only the leader can commit).
//!
//! A master is named by its key. Whether it still belongs to the cluster is asked of the state at
//! every link; where it is, of the directory.

pub mod answer;
mod greet;
mod keyring;
mod message;

use message::{Answered, Asked};
pub use message::{PeerReply, PeerRequest};

use crate::callers::Callers;
use crate::consensus::{PeerError, PeerFuture, PeerLink, RaftReply, RaftRequest};
use crate::control::Heard;
use crate::store::Store;
use bramble_core::model::{NodeId, NodeRole};
use bramble_protocol::net::{Alpn, Farewell, LinkError, Links};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// See the module.
pub struct Peers {
    own: NodeId,
    links: Arc<Links>,
    callers: Arc<Callers>,
    /// When each last answered.
    heard: Mutex<BTreeMap<NodeId, Instant>>,
}

impl Peers {
    pub fn new(own: NodeId, links: Arc<Links>, callers: Arc<Callers>) -> Self {
        Self { own, links, callers, heard: Mutex::default() }
    }

    /// Masters that answered within this time.
    pub fn answered_within(&self, time: Duration) -> Vec<NodeId> {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.iter().filter(|(_, at)| at.elapsed() < time).map(|(id, _)| id.clone()).collect()
    }

    /// This master.
    pub fn own(&self) -> &NodeId {
        &self.own
    }

    /// Note what another master said of this node.
    pub fn judged(&self, farewell: Farewell) {
        self.links.endpoint().judged(Some(farewell));
    }

    /// Ask another master one thing.
    ///
    /// # Errors
    /// When it cannot be reached or does not answer.
    pub async fn ask(&self, node: &NodeId, request: &PeerRequest) -> Result<PeerReply, LinkError> {
        let asked = Asked { life: self.links.endpoint().life(), request };
        let answered = self.links.call::<_, Answered>(node, Alpn::Raft, &asked).await;
        let Answered { life, reply } = answered.inspect_err(|error| {
            if let LinkError::Farewell { farewell, .. } = error {
                self.links.endpoint().judged(Some(*farewell));
            }
        })?;
        let link = self.links.to(node, Alpn::Raft).await?;
        if !self.callers.is_the_one(node, life, &link).await {
            let farewell = Farewell::Cloned;
            farewell.close(&link);
            let reason = "a second machine with its key answered".to_string();
            return Err(LinkError::Unreachable { node: node.clone(), reason });
        }
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
                RaftRequest::PreVote(_) => "pre-vote",
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
