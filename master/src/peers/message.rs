//! What masters say to each other on Raft links: one request, one reply, a stream each.

use crate::consensus::{RaftReply, RaftRequest};
use bramble_core::model::{NodeId, Sealed};
use bramble_protocol::message::Sighting;
use bramble_protocol::native::RemovedNode;
use bramble_protocol::net::{Admitted, Candidate, Refusal};
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
    /// Admit a machine that proved its key to me (to the leader).
    Admit(Candidate),
    /// Seal a data key that shall become the cluster's, as your own copy of it (from the leader).
    SealKey {
        id: String,
        key: Secret,
    },
    /// Remove a node, as a user asked me (to the leader).
    Remove {
        node_id: NodeId,
    },
    /// Draw another join token, as a user asked me (to the leader).
    RotateToken,
    /// My key is that of a member, my certificate is of an earlier authority: issue me one.
    Certify,
}

/// A request, and the process that makes it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Asked<R> {
    pub life: u64,
    pub request: R,
}

/// A reply, and the process that makes it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Answered {
    pub life: u64,
    pub reply: PeerReply,
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
    Admitted(Admitted),
    NotAdmitted(Refusal),
    /// Your copy of the data key.
    Copy(Sealed),
    Removed(RemovedNode),
    /// The join token.
    Token(Secret),
    /// A certificate and the CA that issued it, DER.
    Certified {
        certificate: Vec<u8>,
        ca: Vec<u8>,
    },
    /// Why not, for a person.
    Refused(String),
}
