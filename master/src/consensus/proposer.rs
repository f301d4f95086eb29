//! From commands that wait to log entries. Owns the queue, the leader's clock and group commit.
//!
//! One entry is under way at a time. What arrives meanwhile shares the next one, and so its
//! fsync: the busier the cluster, the larger the entries.

use super::space;
use super::types::{Batch, Outcomes, Proposal, Raft, RaftId, TypeConfig};
use crate::propose::{Committed, ProposeError};
use crate::store::Store;
use bramble_core::command::Command;
use bramble_protocol::codec;
use openraft::error::{ClientWriteError, RaftError};
use openraft::raft::ClientWriteResponse;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Commands that may wait; further ones wait to be let in.
const COMMANDS_QUEUED_MAX: usize = 1024;
/// Commands in one entry.
const BATCH_COMMANDS_MAX: usize = 256;
/// Encoded bytes of commands in one entry, unless a single one is larger.
const BATCH_BYTES_MAX: usize = 512 * 1024;
/// Encoded bytes of one command: half a frame, so that a follower can be sent it.
const COMMAND_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long a quorum may take over an entry before its proposers are told.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(10);

struct Waiting {
    command: Command,
    bytes: usize,
    answer: oneshot::Sender<Result<Committed, ProposeError>>,
}

/// The way in.
pub(super) struct Proposer {
    queue: mpsc::Sender<Waiting>,
}

/// The other end, to be run by one task.
pub(super) struct Batcher {
    queue: mpsc::Receiver<Waiting>,
    pub raft: Raft,
    pub store: Arc<Store>,
    pub dir: PathBuf,
    pub reserve_bytes: u64,
}

impl Proposer {
    /// A queue into the log of `raft`; the batcher has to be run.
    pub fn new(raft: Raft, store: Arc<Store>, dir: PathBuf, reserve_bytes: u64) -> (Self, Batcher) {
        let (sender, queue) = mpsc::channel(COMMANDS_QUEUED_MAX);
        (Self { queue: sender }, Batcher { queue, raft, store, dir, reserve_bytes })
    }

    /// Have `command` committed and applied.
    pub async fn propose(&self, command: Command) -> Result<Committed, ProposeError> {
        let bytes = match codec::to_bytes(&command) {
            Ok(encoded) => encoded.len(),
            Err(error) => return Err(ProposeError::Unavailable(error.to_string())),
        };
        if bytes > COMMAND_BYTES_MAX {
            return Err(ProposeError::Unavailable(format!(
                "a command of {bytes} bytes is over the limit of {COMMAND_BYTES_MAX}"
            )));
        }
        let (answer, outcome) = oneshot::channel();
        self.queue.send(Waiting { command, bytes, answer }).await.map_err(|_| shut_down())?;
        outcome.await.map_err(|_| shut_down())?
    }
}

impl Batcher {
    /// Write entry after entry until the proposer is gone.
    pub async fn run(mut self) {
        let mut leftover = None;
        loop {
            let first = match leftover.take() {
                Some(waiting) => waiting,
                None => match self.queue.recv().await {
                    Some(waiting) => waiting,
                    None => return,
                },
            };
            let (commands, answers);
            ((commands, answers), leftover) = self.gather(first);
            self.commit(commands, answers).await;
        }
    }

    /// Take what waits, up to the limits of an entry; the one that no longer fits comes second.
    fn gather(&mut self, first: Waiting) -> ((Vec<Command>, Vec<Answer>), Option<Waiting>) {
        let mut bytes = first.bytes;
        let (mut commands, mut answers) = (vec![first.command], vec![first.answer]);
        while commands.len() < BATCH_COMMANDS_MAX {
            let Ok(next) = self.queue.try_recv() else { break };
            if bytes + next.bytes > BATCH_BYTES_MAX {
                return ((commands, answers), Some(next));
            }
            bytes += next.bytes;
            commands.push(next.command);
            answers.push(next.answer);
        }
        ((commands, answers), None)
    }

    async fn commit(&self, commands: Vec<Command>, answers: Vec<Answer>) {
        match self.write(commands).await {
            Ok(response) => {
                let index = response.log_id.index;
                let Outcomes(outcomes) = response.data;
                for (answer, outcome) in answers.into_iter().zip(outcomes) {
                    let outcome = outcome.map(|events| Committed { index, events });
                    // Whoever stopped waiting will see it in the store.
                    let _ = answer.send(outcome.map_err(ProposeError::Rejected));
                }
            }
            Err(failure) => {
                for answer in answers {
                    let _ = answer.send(Err(failure.to_error()));
                }
            }
        }
    }

    async fn write(
        &self,
        commands: Vec<Command>,
    ) -> Result<ClientWriteResponse<TypeConfig>, Failure> {
        space::check(&self.dir, self.reserve_bytes)
            .map_err(|e| Failure::Unavailable(e.to_string()))?;
        let now = self.store.now();
        let batch = commands.into_iter().map(|command| Proposal { now, command }).collect();
        let write = self.raft.client_write(Batch(batch));
        match tokio::time::timeout(COMMIT_TIMEOUT, write).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(Failure::from(error)),
            Err(_) => Err(Failure::Unavailable(format!(
                "no quorum of masters took it within {} s; it may still be committed",
                COMMIT_TIMEOUT.as_secs()
            ))),
        }
    }
}

/// What proposers are told once there is nobody to propose to.
pub(super) fn shut_down() -> ProposeError {
    ProposeError::Unavailable("this master is shutting down".to_string())
}

type Answer = oneshot::Sender<Result<Committed, ProposeError>>;

/// A [`ProposeError`] to be told to everyone of a batch.
enum Failure {
    NotLeader,
    Unavailable(String),
}

impl Failure {
    fn to_error(&self) -> ProposeError {
        match self {
            Failure::NotLeader => ProposeError::NotLeader,
            Failure::Unavailable(reason) => ProposeError::Unavailable(reason.clone()),
        }
    }
}

type WriteError = RaftError<RaftId, ClientWriteError<RaftId, super::types::Peer>>;

impl From<WriteError> for Failure {
    fn from(error: WriteError) -> Self {
        match error {
            RaftError::APIError(ClientWriteError::ForwardToLeader(_)) => Failure::NotLeader,
            RaftError::APIError(other) => Failure::Unavailable(other.to_string()),
            RaftError::Fatal(fatal) => Failure::Unavailable(fatal.to_string()),
        }
    }
}
