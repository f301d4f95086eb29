//! What can go wrong when a voter is opened, founded or asked.

use super::disk::DiskError;
use super::lock::LockError;
use super::log_store::LogError;
use super::snapshot::SnapshotError;
use super::types::{RaftId, StorageError};
use bramble_core::model::NodeId;
use openraft::error::Fatal;
use std::io;
use std::path::PathBuf;
use std::time::Duration;
use thiserror::Error;

#[derive(Debug, Error)]
pub enum ConsensusError {
    #[error("node id '{0}' is not the hex of a key hash")]
    NodeIdMalformed(NodeId),
    #[error("creating the directory {path}")]
    CreateDir {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error("opening the log")]
    OpenLog(#[source] DiskError),
    #[error("reading the log")]
    ReadLog(#[source] LogError),
    #[error("opening the snapshots")]
    OpenSnapshots(#[source] SnapshotError),
    /// Entries up to `purged` left the log because a snapshot held them, and none is left that
    /// does. Starting would lose acknowledged changes.
    #[error(
        "the log begins after index {purged}, but the newest readable snapshot in {dir} ends at \
         {snapshot:?}: restore a snapshot, or remove the data of this node and join anew"
    )]
    SnapshotMissing { dir: PathBuf, purged: u64, snapshot: Option<u64> },
    #[error("the timing of profile {profile} is not one raft accepts")]
    Timing {
        profile: &'static str,
        #[source]
        source: Box<openraft::ConfigError>,
    },
    #[error("reading the stored membership")]
    ReadMembership(#[source] Box<StorageError>),
    #[error("starting raft from its log")]
    Start(#[source] Box<Fatal<RaftId>>),
    #[error("founding the cluster")]
    Found(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the state of the cluster")]
    Image(#[source] SnapshotError),
    #[error("{dir} holds a log already")]
    NotEmpty { dir: PathBuf },
    #[error("{dir} holds no state of a cluster: this node never was a master of one")]
    Empty { dir: PathBuf },
    #[error(
        "node {0} is no master of the cluster its log tells of: it was removed, and what it holds \
         is out of date; recover on another master, or restore a backup"
    )]
    NotAMaster(NodeId),
    #[error("this node is the only master already: start it with `bramble up`")]
    AloneAlready,
    #[error("reading or writing the log")]
    Storage(#[source] Box<StorageError>),
    #[error("writing the snapshot")]
    WriteSnapshot(#[source] SnapshotError),
    #[error("no leader within {0:?}")]
    NoLeader(Duration),
    #[error("raft stopped: {0}")]
    Failed(String),
}
