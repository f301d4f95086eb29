//! The types openraft is built over. Owns what a log entry and its answer contain.
//!
//! Nothing here knows storage or network. What is serialised here is persisted and sent between
//! versions: change it only by adding, and keep the golden fixtures passing.

use super::error::ConsensusError;
use bramble_core::command::{Command, Rejection};
use bramble_core::event::Event;
use bramble_core::model::{NodeId, Time};
use serde::{Deserialize, Serialize};

/// openraft's small, copyable name of a node: the first 8 bytes of its key hash.
///
/// 64 bits of a hash do not collide by chance among the few masters of a cluster, and the full
/// id travels in [`Peer`], which is what a peer is authenticated by.
pub type RaftId = u64;

/// Hex digits of a node id that make its [`RaftId`].
const RAFT_ID_HEX_DIGITS: usize = 16;

openraft::declare_raft_types!(
    /// The parameters of our Raft.
    pub TypeConfig:
        D = Batch,
        R = Outcomes,
        NodeId = RaftId,
        Node = Peer,
        SnapshotData = super::blocking::SnapshotFile,
);

pub(super) type Raft = openraft::Raft<TypeConfig>;
pub(super) type LogId = openraft::LogId<RaftId>;
pub(super) type Entry = openraft::Entry<TypeConfig>;
pub(super) type Vote = openraft::Vote<RaftId>;
pub(super) type StoredMembership = openraft::StoredMembership<RaftId, Peer>;
pub(super) type SnapshotMeta = openraft::SnapshotMeta<RaftId, Peer>;
pub(super) type StorageError = openraft::StorageError<RaftId>;
pub(super) type StorageIoError = openraft::StorageIOError<RaftId>;
pub(super) type Metrics = openraft::RaftMetrics<RaftId, Peer>;

/// A member as the membership stores it: a key, never an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    pub id: NodeId,
}

/// openraft demands a default; no member is ever stored with it.
impl Default for Peer {
    fn default() -> Self {
        Self { id: NodeId::new("") }
    }
}

/// One proposed command with the time its leader gave it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    pub now: Time,
    pub command: Command,
}

/// One log entry: the commands that waited while the entry before it was written.
///
/// openraft 0.9 writes entry after entry, each with its own wait for the disk; what waits
/// together has to share an entry to share an fsync.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Batch(pub Vec<Proposal>);

/// What became of each command of a [`Batch`], in its order; empty for entries without commands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Outcomes(pub Vec<Result<Vec<Event>, Rejection>>);

/// Derive the Raft id of a node.
///
/// # Errors
/// [`ConsensusError::NodeIdMalformed`] when `node` is not the lower-case hex of a hash.
pub fn raft_id(node: &NodeId) -> Result<RaftId, ConsensusError> {
    let malformed = || ConsensusError::NodeIdMalformed(node.clone());
    let digits = node.as_str().get(..RAFT_ID_HEX_DIGITS).ok_or_else(malformed)?;
    // `from_str_radix` alone would take a sign.
    if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(malformed());
    }
    RaftId::from_str_radix(digits, 16).map_err(|_| malformed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raft_ids_come_from_the_first_eight_bytes() {
        let cases = [
            ("00000000000000ff".to_string() + &"a".repeat(48), Some(255)),
            ("f".repeat(64), Some(u64::MAX)),
            ("abc".to_string(), None),
            ("+".to_string() + &"0".repeat(63), None),
            ("é".repeat(32), None),
            (String::new(), None),
        ];
        for (text, expected) in cases {
            assert_eq!(raft_id(&NodeId::new(text.clone())).ok(), expected, "{text}");
        }
    }
}
