//! Admission: who knows the join secret becomes a node, by a committed command.
//!
//! Any master answers a joiner; the leader decides. The others pass on what they have verified.

use crate::authority::Authority;
use crate::consensus::Leadership;
use crate::peers::{PeerReply, PeerRequest, Peers};
use crate::propose::{Propose, ProposeError};
use crate::provisional::Provisional;
use crate::store::Store;
use bramble_core::command::Command;
use bramble_core::model::{Node, NodeId};
use bramble_protocol::net::{Admit, AdmitFuture, Refusal};
use std::sync::Arc;
use tokio::sync::watch;

/// See the module.
pub struct Admission {
    pub own: NodeId,
    pub store: Arc<Store>,
    pub propose: Arc<dyn Propose>,
    pub authority: Arc<Authority>,
    pub peers: Arc<Peers>,
    pub leadership: watch::Receiver<Leadership>,
    /// Whether the cluster could still be given up: no more, once another node is let in.
    pub provisional: Arc<Provisional>,
}

impl Admission {
    async fn decide(&self, node: Node, secret_sha256: String) -> Result<Vec<u8>, Refusal> {
        let leader = self.leadership.borrow().leader.clone();
        let Some(leader) = leader else { return Err(Refusal::NotNow(NO_LEADER.into())) };
        if leader == self.own {
            return self.decide_here(node, secret_sha256).await;
        }
        match self.peers.ask(&leader, &PeerRequest::Admit { node, secret_sha256 }).await {
            Ok(PeerReply::Admitted { certificate }) => Ok(certificate),
            Ok(PeerReply::NotAdmitted(refusal)) => Err(refusal),
            Ok(PeerReply::Refused(reason)) => Err(Refusal::NotNow(reason)),
            Ok(_) => Err(Refusal::NotNow("the leader answered something else".into())),
            Err(error) => Err(Refusal::NotNow(format!("{NO_LEADER} ({error})"))),
        }
    }

    /// Decide as the leader.
    ///
    /// # Errors
    /// Why not, for whoever wants to join.
    pub async fn decide_here(&self, node: Node, secret_sha256: String) -> Result<Vec<u8>, Refusal> {
        let expected =
            self.store.read(|s| s.cluster.as_ref().map(|c| c.join_secret_sha256.clone()));
        if expected.as_deref() != Some(secret_sha256.as_str()) {
            tracing::warn!(node_id = %node.id, name = %node.name, "a wrong join secret");
            let reason = "the join token is not this cluster's current one; \
                ask a node of it for `bramble token`";
            return Err(Refusal::Never(reason.into()));
        }
        let authority = self.authority.ca().map_err(|error| Refusal::NotNow(error.to_string()))?;
        let certificate = authority
            .issue(&node.public_key, &node.id, node.role)
            .map_err(|error| Refusal::Never(error.to_string()))?;
        self.provisional.settle().map_err(|error| {
            tracing::error!(%error, "a node is not admitted: the founding cannot be settled");
            Refusal::NotNow(error.to_string())
        })?;
        tracing::info!(node_id = %node.id, name = %node.name, role = ?node.role,
            "a node is admitted");
        match self.propose.propose(Command::AdmitNode { node }).await {
            Ok(_) => Ok(certificate),
            Err(ProposeError::Rejected(rejection)) => Err(Refusal::Never(rejection.to_string())),
            Err(error) => Err(Refusal::NotNow(error.to_string())),
        }
    }
}

/// What a joiner is told that comes during an election.
const NO_LEADER: &str = "the cluster has no leader at this moment: try again";

impl Admit for Admission {
    fn admit(&self, node: Node, secret_sha256: String) -> AdmitFuture<'_> {
        Box::pin(self.decide(node, secret_sha256))
    }
}
