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
use bramble_core::model::{NodeId, NodeRole, Removed, State};
use bramble_protocol::native::RemovedNode;
use bramble_protocol::net::{Farewell, LinkError};
use std::collections::{BTreeMap, BTreeSet};
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
    #[error("it is the only master that votes: wait until `bramble masters` shows another voter")]
    OnlyVoter,
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
        let node_id = match (self.find(name), self.removed(name)) {
            // Its answer may have been lost with the node that was to pass it on.
            (Err(AdministrationError::Unknown(_)), Some(removed)) => return Ok(removed),
            (found, _) => found?,
        };
        if node_id != self.own {
            return self.remove_other(node_id).await;
        }
        let removed = async {
            if self.leadership.borrow().here {
                self.hand_over().await?;
            }
            self.remove_other(node_id).await
        };
        let removed = removed.await;
        if removed.is_err() {
            self.membership.stand_again();
        }
        removed
    }

    async fn remove_other(&self, node_id: NodeId) -> Result<RemovedNode, AdministrationError> {
        let leader = self.leadership.borrow().leader.clone();
        let leader = leader.ok_or(AdministrationError::NoLeader)?;
        if leader == self.own {
            return self.remove_here(&node_id).await;
        }
        let (name, master, tasks) = self.about(&node_id);
        let request = PeerRequest::Remove { node_id: node_id.clone() };
        match self.peers.ask(&leader, &request).await {
            // The leader has ended its links with this node before it could answer.
            Err(LinkError::Farewell { farewell: Farewell::Removed, .. }) if node_id == self.own => {
                let name = name.unwrap_or_default();
                Ok(RemovedNode { id: node_id.to_string(), name, master, tasks })
            }
            Ok(PeerReply::Removed(removed)) => Ok(removed),
            Ok(PeerReply::Refused(reason)) => Err(AdministrationError::Refused(reason)),
            Ok(_) => Err(AdministrationError::Refused("it answered something else".into())),
            Err(error) => Err(AdministrationError::Refused(error.to_string())),
        }
    }

    /// A node's name if it is known, whether it is a master, and how many tasks it has.
    fn about(&self, node_id: &NodeId) -> (Option<String>, bool, u64) {
        self.store.read(|state| {
            let tasks = state.tasks_on(&node_id.agent()).count() as u64;
            let node = state.nodes.get(node_id);
            let master = node.is_some_and(|node| node.role != NodeRole::Agent);
            (names(state).remove(node_id), master, tasks)
        })
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
        if self.only_voter().is_some_and(|voter| voter == *node_id) {
            return Err(AdministrationError::OnlyVoter);
        }
        let (known, master, tasks) = self.about(node_id);
        let name = known.ok_or_else(|| AdministrationError::Unknown(node_id.to_string()))?;
        let (token, sealed) = self.authority.new_token().await?;
        let join_secret_sha256 = token.secret_sha256();
        let command = Command::RemoveNode {
            node_id: node_id.clone(),
            join_secret_sha256,
            sealed: Some(sealed),
        };
        self.propose.propose(command).await?;
        tracing::warn!(%node_id, %name, tasks, "a node was removed from the cluster");
        Ok(RemovedNode { id: node_id.to_string(), name, master, tasks })
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

    /// What was removed before under this name or id.
    fn removed(&self, name: &str) -> Option<RemovedNode> {
        self.store.read(|state| {
            let (id, removed) = state
                .removed
                .iter()
                .filter(|(id, removed)| id.as_str() == name || removed.name == name)
                .max_by_key(|(_, removed)| removed.at)?;
            let Removed { name, master, .. } = removed.clone();
            Some(RemovedNode { id: id.to_string(), name, master, tasks: 0 })
        })
    }

    fn find(&self, name: &str) -> Result<NodeId, AdministrationError> {
        let names = self.store.read(names);
        if names.contains_key(&NodeId::new(name)) {
            return Ok(NodeId::new(name));
        }
        let named = names.iter().filter(|(_, known)| *known == name).map(|(id, _)| id);
        let mut found: Vec<&NodeId> = named.collect();
        if found.is_empty() {
            found = names.keys().filter(|id| id.as_str().starts_with(name)).collect();
        }
        match found.as_slice() {
            [] => Err(AdministrationError::Unknown(name.into())),
            [one] => Ok((*one).clone()),
            several => Err(AdministrationError::Ambiguous {
                name: name.into(),
                candidates: several.iter().map(|id| id.to_string()).collect(),
            }),
        }
    }

    /// Let another voter lead, or the learner where there is no other voter, so that it can remove
    /// this one.
    async fn hand_over(&self) -> Result<(), AdministrationError> {
        let masters = self
            .store
            .read(|state| state.nodes.values().filter(|node| node.role != NodeRole::Agent).count());
        if masters < 2 {
            let last = ProposeError::Rejected(Rejection::LastMaster(self.own.clone()));
            return Err(last.into());
        }
        if self.membership.hand_over(OTHER_LEADER_MAX).await {
            return Ok(());
        }
        let heir = self.heir().await.ok_or(AdministrationError::NoHeir)?;
        tracing::warn!(%heir, "this leader gives up its vote: it is to be removed");
        let given = self.membership.change(Change::SetVoters(BTreeSet::from([heir]))).await;
        given.map_err(|error| AdministrationError::Refused(error.to_string()))?;
        // It leads on without a vote, until it is made to go.
        if self.membership.hand_over(OTHER_LEADER_MAX).await || self.other_leads().await {
            return Ok(());
        }
        self.membership.stand_again();
        let take = Change::SetVoters(BTreeSet::from([self.own.clone()]));
        if let Err(error) = self.membership.change(take).await {
            tracing::warn!(%error, "this leader has not its vote back yet");
        }
        Err(AdministrationError::NoLeader)
    }

    /// The one whose vote alone counts: not this leader's, where it has given up its own.
    fn only_voter(&self) -> Option<NodeId> {
        let members = self.membership.members();
        let mut voters = members.into_iter().filter(|m| m.standing == Standing::Voter);
        voters.next().filter(|_| voters.next().is_none()).map(|voter| voter.id)
    }

    /// The learner that knows most, once it has its copy of the data key as well: a new master is
    /// in the log's membership a moment before that.
    async fn heir(&self) -> Option<NodeId> {
        let learners = || {
            let members = self.membership.members();
            let others = members.into_iter().filter(|m| m.id != self.own);
            let learners = others.filter(|m| m.standing == Standing::Learner);
            let mut known: Vec<_> = learners.filter_map(|m| Some((m.lag?, m.id))).collect();
            known.sort();
            known
        };
        let able = |(_, id): &(u64, NodeId)| self.store.read(|state| state.holds_data_key(id));
        let mut changes = self.store.watch();
        let wait = async {
            loop {
                changes.mark_unchanged();
                let learners = learners();
                let nobody = learners.is_empty();
                let heir = learners.into_iter().find(able);
                if heir.is_some() || nobody || changes.changed().await.is_err() {
                    return heir.map(|(_, id)| id);
                }
            }
        };
        tokio::time::timeout(OTHER_LEADER_MAX, wait).await.ok().flatten()
    }

    /// Wait until another leads.
    async fn other_leads(&self) -> bool {
        let mut leadership = self.leadership.clone();
        let other = leadership
            .wait_for(|seen| seen.leader.as_ref().is_some_and(|leader| *leader != self.own));
        matches!(tokio::time::timeout(OTHER_LEADER_MAX, other).await, Ok(Ok(_)))
    }
}

/// Every node that can be removed, with the name it last said: that of its admission may be
/// older, and a restored cluster knows agents that were never admitted to it.
fn names(state: &State) -> BTreeMap<NodeId, String> {
    let agents = state.agents.values();
    let said = agents.map(|agent| (NodeId::new(agent.id.as_str()), agent.name.clone()));
    let admitted = state.nodes.values().map(|node| (node.id.clone(), node.name.clone()));
    admitted.chain(said).collect()
}
