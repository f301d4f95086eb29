//! Frames between a master and an agent.
//!
//! The agent dials the leader and opens one bidirectional stream, the *session*. It sends
//! [`ToMaster`] and reads [`ToAgent`]. For what streams (logs, exec, images), the master opens
//! further bidirectional streams on the same connection: one [`StreamRequest`] frame, one
//! [`StreamReply`] frame back, then as each kind says.

use crate::secret::Secret;
use bramble_core::model::{
    Agent, Assignment, NodeId, NodeRole, Offer, TaskId, TaskStatus, VolumeId,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// Images an agent tells of, the latest first.
pub const HELD_IMAGES_MAX: usize = 1000;

/// What an agent says on its session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToMaster {
    /// First frame. The master commits the agent before it answers [`ToAgent::Welcome`].
    Hello {
        agent: Agent,
        /// Drawn by each process at its start: two at once with one key are a cloned disk. 0 = not
        /// told.
        #[serde(default)]
        life: u64,
    },
    /// Replaces the agent's earlier offer.
    Offer(Offer),
    /// Re-sent on every new session until acknowledged.
    Statuses(Vec<TaskStatus>),
    /// An incremental set did not follow on the agent's: send a complete one.
    Resync,
    /// The data of these volumes is gone.
    VolumesRemoved(Vec<VolumeId>),
    /// Tasks here need a lease. `asked_ms` is the moment on the agent's own clock.
    Renew { asked_ms: u64 },
    /// The images other nodes can get from this one: the whole list, whenever it changed. At most
    /// [`HELD_IMAGES_MAX`].
    Images(Vec<HeldImage>),
    /// Who else holds an image? Answered by [`ToAgent::Holders`].
    WhoHolds {
        /// Chosen by the agent, repeated in the answer.
        inquiry: u64,
        /// Normalised, with a tag or a digest.
        reference: String,
        /// Of a reference by digest.
        digest: Option<String>,
    },
}

/// What the leader says on a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToAgent {
    Welcome,
    Assignments(AssignmentSet),
    /// These reports are committed: the agent may drop them from its ledger.
    Acknowledge(Vec<StatusKey>),
    /// Volumes that were given up, the whole list: remove their data. A volume that is not named
    /// here is never removed.
    RemoveVolumes(Vec<VolumeId>),
    /// Answers [`ToMaster::Renew`], and only from a leader that has proven after it was asked that it
    /// leads: tasks that need a lease may run until `asked_ms + ttl_ms` on the agent's clock.
    Lease {
        asked_ms: u64,
        ttl_ms: u64,
    },
    /// The nodes that hold an image, those first whose image came last. Without an address where
    /// the leader knows none that leads there: its own node, which the agent has dialled.
    Holders {
        inquiry: u64,
        holders: Vec<Sighting>,
    },
    /// In the place of a welcome: this master does not lead. The stream ends with it.
    NotLeading {
        /// Who does, as far as it knows.
        leader: Option<NodeId>,
        /// Where the masters are, as far as it has seen.
        masters: Vec<Sighting>,
    },
    /// Where the masters are: whom to ask when this one is gone.
    Masters(Vec<Sighting>),
    /// Who belongs to the cluster, as far as an agent must know.
    Members {
        /// Every master: believed by its key, whoever certified it.
        masters: Vec<NodeId>,
        /// Every node that was removed: answer it nothing.
        removed: Vec<NodeId>,
    },
    /// This agent's certificate by the present CA, and that CA's own, DER.
    Identity {
        certificate: Vec<u8>,
        ca: Vec<u8>,
    },
}

/// An image that an agent can give to others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldImage {
    /// Normalised.
    pub reference: String,
    /// Of the image and, if it came out of one, of the multi-platform index.
    pub digests: Vec<String>,
    /// Seconds since 1970 when it came into the cluster.
    pub created_unix_s: u64,
}

/// A node and where it was seen, most recently seen address first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sighting {
    pub node_id: NodeId,
    pub role: NodeRole,
    pub addresses: Vec<SocketAddr>,
}

/// The tasks of one agent, complete or as a difference.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssignmentSet {
    /// Log index this set was computed at. An agent refuses an older one.
    pub generation: u64,
    /// `None`: `put` is everything. Else: a difference against that generation.
    pub base: Option<u64>,
    pub put: Vec<Assignment>,
    /// Tasks the cluster no longer knows (their end is committed).
    pub remove: Vec<TaskId>,
    /// Values of the secrets that `put` names, each once; one that is not there is missing.
    #[serde(default)]
    pub secrets: BTreeMap<String, Secret>,
}

/// Names one report of one task.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StatusKey {
    pub task_id: TaskId,
    pub sequence: u32,
}

/// First frame of a stream the master opens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StreamRequest {
    /// After the reply: raw bytes of the log until the end (or for ever with `follow`, until the
    /// task's files are gone or the reader stops).
    Logs {
        task_id: TaskId,
        stderr: bool,
        follow: bool,
        /// Only the last this many lines; `None` = all that is kept.
        tail_lines: Option<u32>,
    },
    /// After the reply: [`ExecInput`] frames from the master, [`ExecOutput`] frames back.
    Exec { task_id: TaskId, command: Vec<String>, tty: bool, rows: u16, columns: u16 },
    /// After the reply: raw bytes of an archive from the master until it finishes its side; the
    /// agent sends [`LoadProgress`] frames, the last of which is `Done` or `Failed`.
    LoadImage,
    /// The reply is followed by one `Vec<ImageSummary>` frame.
    ListImages,
    /// The reply is followed by one `Vec<VolumeSummary>` frame.
    ListVolumes,
    /// Look for another node; the reply is followed by one `net::Probed` frame.
    Probe(Sighting),
    /// Ask the image the node runs from; the reply is followed by one [`OsReply`] frame.
    Os(OsRequest),
    /// As [`StreamRequest::LoadImage`], with an update file for the node's spare slot.
    StageOs,
}

/// What a node that runs from an image can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OsRequest {
    Slots,
    /// Boot the spare slot, once. `alone`: nobody will confirm it from outside, so the node does
    /// once its cluster sees it, and is opened for tasks again.
    Try {
        alone: bool,
    },
    /// Keep the running slot.
    Confirm,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OsReply {
    Done,
    Slots(OsSlots),
    /// Why not.
    Refused(String),
}

/// The two systems of a node; slots are `a` and `b`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OsSlots {
    pub board: String,
    /// Of the running slot.
    pub version: String,
    /// The running one.
    pub slot: String,
    /// Booted when nothing else is asked for.
    pub lasting: String,
    pub spare_version: Option<String>,
    /// Until the node goes back to the lasting slot, where the running one is on trial.
    pub trial_seconds_left: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StreamReply {
    Ready,
    /// No such task or image here.
    NotFound(String),
    Failed(String),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExecInput {
    Stdin(Vec<u8>),
    StdinClosed,
    Resize { rows: u16, columns: u16 },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExecOutput {
    Stdout(Vec<u8>),
    Stderr(Vec<u8>),
    /// Last frame. 128 + signal when a signal ended it.
    Exited(i32),
    /// Last frame: it could not be started.
    Failed(String),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LoadProgress {
    /// Bytes of the archive read so far.
    Read(u64),
    /// One line for the user: what is being unpacked.
    Note(String),
    Done(Vec<ImageSummary>),
    Failed(String),
}

/// A volume's directory on an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeSummary {
    pub id: VolumeId,
    /// What its files take on disk.
    pub size_bytes: u64,
}

/// An image an agent holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageSummary {
    /// Normalised reference with tag: `docker.io/library/nginx:latest`.
    pub reference: String,
    /// `sha256:...` of the image's manifest or, for docker-save archives, its config.
    pub digest: String,
    /// `linux/amd64` and so on.
    pub platform: String,
    /// Unpacked bytes on disk (layers shared with other images counted in full).
    pub size_bytes: u64,
    /// Seconds since 1970 when it was loaded or pulled, here or at the node it was fetched from.
    pub created_unix_s: u64,
}
