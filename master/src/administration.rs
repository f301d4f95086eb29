//! What users change of the cluster itself: they remove nodes and rotate the join token. Decided
//! by the leader; another master passes it on.

use crate::authority::{Authority, AuthorityRoomError};
use crate::consensus::Leadership;
use crate::membership::Membership;
use crate::peers::{PeerReply, PeerRequest, Peers};
use crate::propose::{Propose, ProposeError};
use crate::store::Store;
use bramble_core::autopilot::{Change, Standing};
use bramble_core::command::{Command, Rejection};
use bramble_core::model::{Node, NodeId, NodeRole};
use bramble_protocol::native::RemovedNode;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::sync::watch;

/// Longest wait of a leader that is to be removed for another to lead.
const OTHER_LEADER_MAX: Duration = Duration::from_secs(10);

#[derive(Debug, Error)]
pub enum AdministrationError {
    #[error("node '{0}' does not exist")]
    Unknown(String),
    #[error("'{name}' could be any of: {}", candidates.join(", "))]
    Ambiguous { name: String, candidates: Vec<String> },
    #[error("there is no leader at this moment: try again")]
    NoLeader,
    #[error("no other master can lead: wait until `bramble masters` shows one that is ready")]
    NoHeir,
    #[error("the leader refuses: {0}")]
    Refused(String),
    #[error(transparent)]
    Propose(#[from] ProposeError),
    #[error(transparent)]
    Authority(#[from] AuthorityRoomError),
}

/// See the module.
pub struct Administration {
    pub own: NodeId,
    pub store: Arc<Store>,
    pub propose: Arc<dyn Propose>,
    pub authority: Arc<Authority>,
    pub membership: Arc<dyn Membership>,
    pub peers: Arc<Peers>,
    pub leadership: watch::Receiver<Leadership>,
}

impl Administration {
    /// Remove the node of this name, id, or start of an id, whoever leads.
    ///
    /// # Errors
    /// There is no such node, it is the last master, or nobody can decide now.
    pub async fn remove(&self, name: &str) -> Result<RemovedNode, AdministrationError> {
        let node_id = self.find(name)?.id;
        if node_id == self.own && self.leadership.borrow().here {
            self.hand_over().await?;
        }
        let leader = self.leadership.borrow().leader.clone();
        let leader = leader.ok_or(AdministrationError::NoLeader)?;
        if leader == self.own {
            return self.remove_here(&node_id).await;
        }
        match self.peers.ask(&leader, &PeerRequest::Remove { node_id }).await {
            Ok(PeerReply::Removed(removed)) => Ok(removed),
            Ok(PeerReply::Refused(reason)) => Err(AdministrationError::Refused(reason)),
            Ok(_) => Err(AdministrationError::Refused("it answered something else".into())),
            Err(error) => Err(AdministrationError::Refused(error.to_string())),
        }
    }

    /// Remove a node as the leader.
    ///
    /// # Errors
    /// As [`Administration::remove`].
    pub async fn remove_here(&self, node_id: &NodeId) -> Result<RemovedNode, AdministrationError> {
        if *node_id == self.own {
            // It would have to be the one to take its own word for it.
            return Err(AdministrationError::NoLeader);
        }
        let (node, tasks) = self.store.read(|state| {
            let tasks = state.tasks_on(&node_id.agent()).count() as u64;
            (state.nodes.get(node_id).cloned(), tasks)
        });
        let node = node.ok_or_else(|| AdministrationError::Unknown(node_id.to_string()))?;
        let (token, sealed) = self.authority.new_token().await?;
        let join_secret_sha256 = token.secret_sha256();
        let command = Command::RemoveNode {
            node_id: node_id.clone(),
            join_secret_sha256,
            sealed: Some(sealed),
        };
        self.propose.propose(command).await?;
        tracing::warn!(%node_id, name = %node.name, tasks, "a node was removed from the cluster");
        let master = node.role != NodeRole::Agent;
        Ok(RemovedNode { id: node_id.to_string(), name: node.name, master, tasks })
    }

    /// Draw another join token; whoever leads makes it the cluster's.
    ///
    /// # Errors
    /// Nobody can decide now.
    pub async fn rotate_token(&self) -> Result<String, AdministrationError> {
        let leader = self.leadership.borrow().leader.clone();
        let leader = leader.ok_or(AdministrationError::NoLeader)?;
        if leader == self.own {
            return Ok(self.authority.rotate_token().await?.to_string());
        }
        match self.peers.ask(&leader, &PeerRequest::RotateToken).await {
            Ok(PeerReply::Token(token)) => {
                let text = String::from_utf8(token.expose().to_vec());
                text.map_err(|error| AdministrationError::Refused(error.to_string()))
            }
            Ok(PeerReply::Refused(reason)) => Err(AdministrationError::Refused(reason)),
            Ok(_) => Err(AdministrationError::Refused("it answered something else".into())),
            Err(error) => Err(AdministrationError::Refused(error.to_string())),
        }
    }

    fn find(&self, name: &str) -> Result<Node, AdministrationError> {
        self.store.read(|state| {
            if let Some(node) = state.nodes.get(&NodeId::new(name)) {
                return Ok(node.clone());
            }
            // The name of an agent is the one it last said; that of its admission may be older.
            let named_so = |node: &&Node| {
                let agent = state.agents.get(&node.id.agent());
                agent.map_or(node.name.as_str(), |agent| agent.name.as_str()) == name
            };
            let begun = |node: &&Node| node.id.as_str().starts_with(name);
            let named: Vec<&Node> = state.nodes.values().filter(named_so).collect();
            let found = match named.is_empty() {
                true => state.nodes.values().filter(begun).collect(),
                false => named,
            };
            match found.as_slice() {
                [] => Err(AdministrationError::Unknown(name.into())),
                [one] => Ok((*one).clone()),
                several => Err(AdministrationError::Ambiguous {
                    name: name.into(),
                    candidates: several.iter().map(|node| node.id.to_string()).collect(),
                }),
            }
        })
    }

    /// Give this leader's vote to others, so that one of them leads and can remove it.
    async fn hand_over(&self) -> Result<(), AdministrationError> {
        let masters = self
            .store
            .read(|state| state.nodes.values().filter(|node| node.role != NodeRole::Agent).count());
        if masters < 2 {
            let last = ProposeError::Rejected(Rejection::LastMaster(self.own.clone()));
            return Err(last.into());
        }
        let members = self.membership.members();
        let of = |standing| {
            let others = members.iter().filter(|m| m.id != self.own && m.standing == standing);
            others.map(|m| m.id.clone()).collect::<BTreeSet<NodeId>>()
        };
        let mut voters = of(Standing::Voter);
        // An even rest is as good as one fewer, so a learner takes the place where there is one.
        if voters.len() % 2 == 0 {
            voters.extend(of(Standing::Learner).into_iter().next());
        }
        if voters.is_empty() {
            return Err(AdministrationError::NoHeir);
        }
        tracing::warn!(?voters, "this leader gives up its vote: it is to be removed");
        let changed = self.membership.change(Change::SetVoters(voters)).await;
        changed.map_err(|error| AdministrationError::Refused(error.to_string()))?;
        let mut leadership = self.leadership.clone();
        let other = leadership
            .wait_for(|seen| seen.leader.as_ref().is_some_and(|leader| *leader != self.own));
        match tokio::time::timeout(OTHER_LEADER_MAX, other).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(AdministrationError::NoLeader),
        }
    }
}
