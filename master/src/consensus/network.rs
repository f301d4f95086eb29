//! Raft's messages between masters, over whatever carries them.
//!
//! Peers are named by their keys; finding and authenticating them is the link's matter. The link
//! keeps its connections: openraft asks for a new client at every vote and every leader check.

use super::portion::Portion;
use super::snapshot::Octets;
use super::types::{LogId, Peer, Raft, RaftId, SnapshotMeta, TypeConfig, Vote};
use bramble_core::model::NodeId;
use openraft::error::{
    Fatal, InstallSnapshotError, NetworkError, RPCError, RaftError, RemoteError, SnapshotMismatch,
    Unreachable,
};
use openraft::network::{Backoff, RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
    VoteRequest, VoteResponse,
};
use serde::{Deserialize, Serialize};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::time::Instant;

/// Pause before a peer that could not be reached is tried again.
const UNREACHABLE_PAUSE: Duration = Duration::from_millis(200);

/// What one master asks of another.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum RaftRequest {
    Append(AppendEntriesRequest<TypeConfig>),
    Vote(VoteRequest<RaftId>),
    Snapshot(SnapshotChunk),
    /// Whether a vote would be granted to who has a log up to here; changes nothing.
    PreVote(Option<LogId>),
}

/// Part of a snapshot on its way.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SnapshotChunk {
    pub vote: Vote,
    pub meta: SnapshotMeta,
    /// Position in bytes of `data` in the snapshot.
    pub offset: u64,
    pub data: Octets,
    /// Whether this is the last one.
    pub done: bool,
}

/// The answer, of the kind of its request.
#[derive(Debug, Serialize, Deserialize)]
pub enum RaftReply {
    Append(AppendEntriesResponse<RaftId>),
    Vote(VoteResponse<RaftId>),
    Snapshot(InstallSnapshotResponse<RaftId>),
    /// The chunk does not continue what was received: begin anew.
    SnapshotMismatch(SnapshotMismatch),
    PreVote(bool),
    /// The other master's raft has stopped.
    Stopped(Fatal<RaftId>),
}

/// Why a call to a peer gave no answer.
#[derive(Debug, Error)]
pub enum PeerError {
    #[error("there is no link to {0}")]
    NoLink(NodeId),
    #[error("calling {peer}")]
    Call {
        peer: NodeId,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("{peer} answered a {asked} with something else")]
    WrongReply { peer: NodeId, asked: &'static str },
}

pub type PeerFuture<'a> = Pin<Box<dyn Future<Output = Result<RaftReply, PeerError>> + Send + 'a>>;

/// Carries one request to a peer and its answer back.
pub trait PeerLink: Send + Sync + 'static {
    /// Ask `peer`. May be dropped at any time, when the answer no longer matters.
    fn call<'a>(&'a self, peer: &'a NodeId, request: RaftRequest) -> PeerFuture<'a>;
}

/// The link of a master that has no peers.
#[derive(Clone, Copy, Debug)]
pub struct NoPeers;

impl PeerLink for NoPeers {
    fn call<'a>(&'a self, peer: &'a NodeId, _request: RaftRequest) -> PeerFuture<'a> {
        Box::pin(std::future::ready(Err(PeerError::NoLink(peer.clone()))))
    }
}

/// Answer a peer's request; `grants` says whether a candidate with such a log would get a vote.
pub(super) async fn answer(
    raft: &Raft,
    request: RaftRequest,
    grants: impl FnOnce(Option<LogId>) -> bool,
) -> RaftReply {
    match request {
        RaftRequest::Append(request) => match raft.append_entries(request).await {
            Ok(response) => RaftReply::Append(response),
            Err(error) => stopped(error),
        },
        RaftRequest::Vote(request) => match raft.vote(request).await {
            Ok(response) => RaftReply::Vote(response),
            Err(error) => stopped(error),
        },
        RaftRequest::Snapshot(chunk) => {
            let SnapshotChunk { vote, meta, offset, data, done } = chunk;
            let request = InstallSnapshotRequest { vote, meta, offset, data: data.0, done };
            match raft.install_snapshot(request).await {
                Ok(response) => RaftReply::Snapshot(response),
                Err(RaftError::APIError(InstallSnapshotError::SnapshotMismatch(mismatch))) => {
                    RaftReply::SnapshotMismatch(mismatch)
                }
                Err(RaftError::Fatal(fatal)) => RaftReply::Stopped(fatal),
            }
        }
        RaftRequest::PreVote(candidates) => RaftReply::PreVote(grants(candidates)),
    }
}

fn stopped(error: RaftError<RaftId>) -> RaftReply {
    match error {
        RaftError::Fatal(fatal) => RaftReply::Stopped(fatal),
        RaftError::APIError(never) => match never {},
    }
}

/// Makes a [`PeerNetwork`] for each peer openraft names.
pub(super) struct Network {
    link: Arc<dyn PeerLink>,
}

impl Network {
    pub fn new(link: Arc<dyn PeerLink>) -> Self {
        Self { link }
    }
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = PeerNetwork;

    async fn new_client(&mut self, target: RaftId, node: &Peer) -> PeerNetwork {
        let (link, peer) = (self.link.clone(), node.id.clone());
        PeerNetwork { link, target, peer, portion: Portion::default() }
    }
}

/// One peer, as openraft calls it.
pub(super) struct PeerNetwork {
    link: Arc<dyn PeerLink>,
    target: RaftId,
    peer: NodeId,
    portion: Portion,
}

type CallError<E> = RPCError<RaftId, Peer, RaftError<RaftId, E>>;

impl PeerNetwork {
    async fn call<E: std::error::Error>(
        &self,
        request: RaftRequest,
    ) -> Result<RaftReply, CallError<E>> {
        match self.link.call(&self.peer, request).await {
            Ok(RaftReply::Stopped(fatal)) => {
                let error = RemoteError::new(self.target, RaftError::Fatal(fatal));
                Err(RPCError::RemoteError(error))
            }
            Ok(reply) => Ok(reply),
            Err(error) => Err(RPCError::Unreachable(Unreachable::new(&error))),
        }
    }

    fn wrong_reply<E: std::error::Error>(&self, asked: &'static str) -> CallError<E> {
        let error = PeerError::WrongReply { peer: self.peer.clone(), asked };
        RPCError::Network(NetworkError::new(&error))
    }
}

impl RaftNetwork<TypeConfig> for PeerNetwork {
    async fn append_entries(
        &mut self,
        mut rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<RaftId>, CallError<openraft::error::Infallible>> {
        let asked = rpc.entries.len();
        rpc.entries.truncate(self.portion.of(asked));
        let sent = rpc.entries.len();
        let last = rpc.entries.last().map(|entry| entry.log_id);
        let begun = Instant::now();
        // Dropped here where it takes too long.
        let reply = self.call(RaftRequest::Append(rpc)).await?;
        self.portion.answered(begun.elapsed(), option.hard_ttl());
        match reply {
            RaftReply::Append(AppendEntriesResponse::Success) if sent < asked => {
                Ok(AppendEntriesResponse::PartialSuccess(last))
            }
            RaftReply::Append(response) => Ok(response),
            _ => Err(self.wrong_reply("append")),
        }
    }

    async fn install_snapshot(
        &mut self,
        rpc: InstallSnapshotRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<InstallSnapshotResponse<RaftId>, CallError<InstallSnapshotError>> {
        let InstallSnapshotRequest { vote, meta, offset, data, done } = rpc;
        let chunk = SnapshotChunk { vote, meta, offset, data: Octets(data), done };
        match self.call(RaftRequest::Snapshot(chunk)).await? {
            RaftReply::Snapshot(response) => Ok(response),
            RaftReply::SnapshotMismatch(mismatch) => {
                let error = RaftError::APIError(InstallSnapshotError::SnapshotMismatch(mismatch));
                Err(RPCError::RemoteError(RemoteError::new(self.target, error)))
            }
            _ => Err(self.wrong_reply("snapshot")),
        }
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<RaftId>,
        _option: RPCOption,
    ) -> Result<VoteResponse<RaftId>, CallError<openraft::error::Infallible>> {
        match self.call(RaftRequest::Vote(rpc)).await? {
            RaftReply::Vote(response) => Ok(response),
            _ => Err(self.wrong_reply("vote")),
        }
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(UNREACHABLE_PAUSE))
    }
}
