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
use bramble_core::model::{Node, NodeId, Time};
use bramble_protocol::net::{Admit, AdmitFuture, Admitted, Candidate, Refusal};
use bramble_protocol::timestamp;
use std::collections::BTreeSet;
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
    /// Nodes that are connected to this master, as agents or masters.
    pub connected: Connected,
}

/// Names the nodes that are connected now.
pub type Connected = Arc<dyn Fn() -> BTreeSet<NodeId> + Send + Sync>;

/// Characters of an id that tell two machines of one name apart.
const SUFFIX_CHARS: usize = 4;
/// Longest name of a node (a DNS label); names are ASCII.
const NAME_BYTES_MAX: usize = 63;

impl Admission {
    async fn decide(&self, candidate: Candidate) -> Result<Admitted, Refusal> {
        let leader = self.leadership.borrow().leader.clone();
        let Some(leader) = leader else { return Err(Refusal::NotNow(NO_LEADER.into())) };
        if leader == self.own {
            return self.decide_here(candidate).await;
        }
        match self.peers.ask(&leader, &PeerRequest::Admit(candidate)).await {
            Ok(PeerReply::Admitted(admitted)) => Ok(admitted),
            Ok(PeerReply::NotAdmitted(refusal)) => Err(refusal),
            Ok(PeerReply::Refused(reason)) => Err(Refusal::NotNow(reason)),
            Ok(_) => Err(Refusal::NotNow("the leader answered something else".into())),
            Err(error) => Err(Refusal::NotNow(format!("{NO_LEADER} ({error})"))),
        }
    }

    /// Decide as the leader.
    ///
    /// # Errors
    /// The reason, for whoever wants to join.
    pub async fn decide_here(&self, candidate: Candidate) -> Result<Admitted, Refusal> {
        let Candidate { mut node, secret_sha256, default_name } = candidate;
        let expected =
            self.store.read(|s| s.cluster.as_ref().map(|c| c.join_secret_sha256.clone()));
        if expected.as_deref() != Some(secret_sha256.as_str()) {
            tracing::warn!(node_id = %node.id, name = %node.name, "a wrong join secret");
            let reason = "the join token is not this cluster's current one; \
                ask a node of it for `bramble token`";
            return Err(Refusal::Never(reason.into()));
        }
        let note = match self.namesake(&node) {
            None => None,
            Some(other) if !other.connected => Some(other.told(&node.name)),
            Some(other) if default_name => {
                let name = suffixed(&node);
                let note = format!(
                    "a node named {} is connected already ({}), so this one is called {name}; \
                    give it another name with --name",
                    node.name, other.id
                );
                node.name = name;
                Some(note)
            }
            Some(other) => {
                // For now: it may be this very machine before it was set up anew.
                return Err(Refusal::NotNow(format!(
                    "a node named {} is connected already ({}), and constraints by hostname could \
                    not tell the two apart: give this one another --name, or stop that one",
                    node.name, other.id
                )));
            }
        };
        let authority = self.authority.ca().map_err(|error| Refusal::NotNow(error.to_string()))?;
        let certificate = authority
            .issue(&node.public_key, &node.id, node.role)
            .map_err(|error| Refusal::Never(error.to_string()))?;
        self.provisional.settle().map_err(|error| {
            tracing::error!(%error, "a node is not admitted: the founding cannot be settled");
            Refusal::NotNow(error.to_string())
        })?;
        let name = node.name.clone();
        tracing::info!(node_id = %node.id, %name, role = ?node.role, note, "a node is admitted");
        match self.propose.propose(Command::AdmitNode { node }).await {
            Ok(_) => Ok(Admitted { certificate, name, note }),
            Err(ProposeError::Rejected(rejection)) => Err(Refusal::Never(rejection.to_string())),
            Err(error) => Err(Refusal::NotNow(error.to_string())),
        }
    }

    /// Another node of the same name, one that is connected first.
    fn namesake(&self, node: &Node) -> Option<Namesake> {
        let connected = (self.connected)();
        self.store.read(|state| {
            let name_of = |other: &Node| match state.agents.get(&other.id.agent()) {
                Some(agent) => agent.name.clone(),
                None => other.name.clone(),
            };
            let same = |other: &&Node| other.id != node.id && name_of(other) == node.name;
            let namesakes = state.nodes.values().filter(same).map(|other| Namesake {
                id: other.id.clone(),
                connected: other.id == self.own || connected.contains(&other.id),
                away_since: state.away.get(&other.id.agent()).copied(),
            });
            namesakes.max_by_key(|other| other.connected)
        })
    }
}

/// A node with the name that another one wants.
struct Namesake {
    id: NodeId,
    connected: bool,
    away_since: Option<Time>,
}

impl Namesake {
    fn told(&self, name: &str) -> String {
        let id = &self.id;
        let since = match self.away_since {
            Some(at) => format!(", away since {}", timestamp::format(at)),
            None => ", not connected".into(),
        };
        format!(
            "a node named {name} is known already ({id}{since}): if this is that machine set up \
            anew, remove the old one with `bramble rm-node {id}`"
        )
    }
}

/// A name of its own for a machine whose name nobody chose.
fn suffixed(node: &Node) -> String {
    let suffix: String = node.id.as_str().chars().take(SUFFIX_CHARS).collect();
    let room = NAME_BYTES_MAX - SUFFIX_CHARS - 1;
    let name: String = node.name.chars().take(room).collect();
    format!("{name}-{suffix}")
}

/// What a joiner is told that comes during an election.
const NO_LEADER: &str = "the cluster has no leader at this moment: try again";

impl Admit for Admission {
    fn admit(&self, candidate: Candidate) -> AdmitFuture<'_> {
        Box::pin(self.decide(candidate))
    }
}
