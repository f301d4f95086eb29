//! Answers what other masters ask.

use super::message::{Answered, Asked, PeerReply, PeerRequest};
use crate::administration::Administration;
use crate::admission::Admission;
use crate::callers::Callers;
use crate::consensus::Consensus;
use crate::propose::Propose;
use crate::store::Store;
use crate::vault::Vault;
use bramble_core::command::Command;
use bramble_core::model::{NodeId, NodeRole};
use bramble_protocol::net::{Directory, Farewell, Link, read_frame, write_frame};
use bramble_protocol::secret::Secret;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// What answers are made from.
pub struct Answering {
    pub store: Arc<Store>,
    pub consensus: Arc<Consensus>,
    pub vault: Arc<Vault>,
    pub admission: Arc<Admission>,
    pub directory: Arc<Directory>,
    pub administration: Arc<Administration>,
    pub callers: Arc<Callers>,
    /// This process: see [`Callers`].
    pub life: u64,
}

impl Answering {
    /// Answer on one master's link until it ends.
    pub async fn serve(self: Arc<Self>, link: Link, stop: CancellationToken) {
        let Some(peer) = link.peer.as_ref().map(|peer| peer.node_id.clone()) else { return };
        if self.role(&peer) == Some(NodeRole::Agent) {
            tracing::warn!(node_id = %peer, "an agent spoke as a master and was turned away");
            link.connection.close(1u32.into(), b"this node is no master of the cluster");
            return;
        }
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                accepted = link.connection.accept_bi() => accepted,
            };
            // QUIC's limit of open streams bounds the number of tasks.
            let (mut send, mut receive) = match accepted {
                Ok(streams) => streams,
                Err(error) => {
                    if let Some(farewell) = Farewell::of(&error) {
                        self.admission.peers.judged(farewell);
                    }
                    return;
                }
            };
            let (answering, peer) = (self.clone(), peer.clone());
            let connection = link.connection.clone();
            tokio::spawn(async move {
                let asked = read_frame::<Asked<PeerRequest>>(&mut receive).await;
                let Ok(Some(Asked { life, request })) = asked else { return };
                if !answering.callers.is_the_one(&peer, life, &connection).await {
                    Farewell::Cloned.close(&connection);
                    return;
                }
                let reply = answering.reply(&peer, request).await;
                let answered = Answered { life: answering.life, reply };
                // Whoever went away wants no answer.
                if write_frame(&mut send, &answered).await.is_ok() {
                    let _ = send.finish();
                }
            });
        }
    }

    /// A node's role by this master's state, which may be behind: the leader may be a master that
    /// it has yet to hear of. Raft's own messages need the certificate only, or it never would.
    fn role(&self, node: &NodeId) -> Option<NodeRole> {
        self.store.read(|state| state.nodes.get(node).map(|known| known.role))
    }

    /// Whether a master has a copy of the data key of this id.
    fn has_copy(&self, master: &NodeId, id: &str) -> bool {
        self.store.read(|state| {
            let key = state.data_key.as_ref().filter(|key| key.id == id);
            key.is_some_and(|key| key.copies.contains_key(master))
        })
    }

    async fn reply(&self, peer: &NodeId, request: PeerRequest) -> PeerReply {
        match request {
            PeerRequest::Raft(request) => PeerReply::Raft(self.consensus.handle(request).await),
            PeerRequest::Greet { sightings } => {
                sightings.iter().for_each(|sighting| self.directory.hear(sighting));
                let leader = self.consensus.leadership().borrow().leader.clone();
                PeerReply::Greeted { leader, sightings: self.directory.gossip() }
            }
            _ if self.role(peer).is_none_or(|role| role == NodeRole::Agent) => {
                PeerReply::Refused("this master is not admitted to the cluster".into())
            }
            PeerRequest::DataKey => match self.vault.share() {
                Ok(key) => PeerReply::DataKey(key),
                Err(error) => PeerReply::Refused(error.to_string()),
            },
            // It asks again until it sees its own copy, and it may be far behind.
            PeerRequest::KeepCopy { id, .. } if self.has_copy(peer, &id) => PeerReply::Done,
            PeerRequest::KeepCopy { id, copy } => {
                let command = Command::KeepDataKey { id, node_id: peer.clone(), copy };
                match self.consensus.propose(command).await {
                    Ok(_) => PeerReply::Done,
                    Err(error) => PeerReply::Refused(error.to_string()),
                }
            }
            PeerRequest::Admit(candidate) => match self.admission.decide_here(candidate).await {
                Ok(admitted) => PeerReply::Admitted(admitted),
                Err(refusal) => PeerReply::NotAdmitted(refusal),
            },
            PeerRequest::SealKey { id, key } => match self.vault.copy(&id, &key) {
                Ok(copy) => PeerReply::Copy(copy),
                Err(error) => PeerReply::Refused(error.to_string()),
            },
            PeerRequest::Remove { node_id } => {
                match self.administration.remove_here(&node_id).await {
                    Ok(removed) => PeerReply::Removed(removed),
                    Err(error) => PeerReply::Refused(error.to_string()),
                }
            }
            PeerRequest::RotateToken => match self.admission.authority.rotate_token().await {
                Ok(token) => PeerReply::Token(Secret::new(token.to_string().into_bytes())),
                Err(error) => PeerReply::Refused(error.to_string()),
            },
            PeerRequest::Certify => match self.admission.authority.certify(peer) {
                Ok((certificate, ca)) => PeerReply::Certified { certificate, ca },
                Err(error) => PeerReply::Refused(error.to_string()),
            },
        }
    }
}
