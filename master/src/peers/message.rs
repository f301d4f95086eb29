//! What masters say to each other on Raft links: one request, one reply, a stream each.

use crate::consensus::{RaftReply, RaftRequest};
use bramble_core::model::{Node, NodeId, Sealed};
use bramble_protocol::message::Sighting;
use bramble_protocol::net::Refusal;
use bramble_protocol::secret::Secret;
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize)]
pub enum PeerRequest {
    Raft(RaftRequest),
    /// Here I am; these are the nodes I have seen.
    Greet {
        sightings: Vec<Sighting>,
    },
    /// Share the cluster's data key, for a copy of my own.
    DataKey,
    /// Keep my sealed copy of the data key (to the leader).
    KeepCopy {
        id: String,
        copy: Sealed,
    },
    /// Admit a node that proved its key to me (to the leader).
    Admit {
        node: Node,
        secret_sha256: String,
    },
}

#[derive(Debug, Serialize, Deserialize)]
pub enum PeerReply {
    Raft(RaftReply),
    Greeted {
        leader: Option<NodeId>,
        sightings: Vec<Sighting>,
    },
    /// `None`: there is none yet.
    DataKey(Option<(String, Secret)>),
    Done,
    /// The node's certificate, DER.
    Admitted {
        certificate: Vec<u8>,
    },
    NotAdmitted(Refusal),
    /// Why not, for a person.
    Refused(String),
}
