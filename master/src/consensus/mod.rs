//! The replicated log: one openraft voter over sled, applied to the store.
//!
//! ```text
//! propose -> proposer (queue, clock, batches) -> openraft -> log_store -> disk (sled + fsync)
//!                                                   |  \-> network -> PeerLink -> other masters
//!                                                   v
//!                       store <- state_machine <- committed entries; snapshot (files)
//! ```
//!
//! Owns the directory it is given and every write of the store. Must never be asked to read: the
//! store is there for that. Everything else in the master sees [`Consensus`] as `Propose`.
//!
//! When openraft cannot write its log it stops for good: from then on every proposal fails with
//! the reason, nothing that was acknowledged is lost, reads go on, and [`Consensus::failed`]
//! resolves so that the process can be restarted. A disk that is full or read-only is noticed
//! before that and only fails proposals until there is room.

mod abdicate;
mod blocking;
mod disk;
mod error;
mod lock;
mod log_store;
mod network;
mod profile;
mod proposer;
mod record;
#[cfg(feature = "simulation")]
pub mod simulated;
mod snapshot;
mod space;
mod state_machine;
mod supervise;
mod types;

#[cfg(test)]
mod tests;

pub use abdicate::AbdicateError;
pub use error::ConsensusError;
pub use lock::LockError;
pub use network::{
    NoPeers, PeerError, PeerFuture, PeerLink, RaftReply, RaftRequest, SnapshotChunk,
};
pub use profile::Profile;
pub use snapshot::{Octets, SnapshotError};
pub use supervise::Leadership;
pub use types::{Batch, Outcomes, Peer, Proposal, RaftId, TypeConfig, raft_id};

use crate::propose::{Propose, ProposeFuture};
use crate::store::Store;
use bramble_core::command::Command;
use bramble_core::model::{NodeId, State};
use disk::Disk;
use lock::DirLock;
use log_store::LogStore;
use network::Network;
use openraft::StorageHelper;
use proposer::Proposer;
use snapshot::Snapshots;
use state_machine::{Apply, StateMachine};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use supervise::Supervisor;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use types::Raft;

/// Entries between two snapshots.
pub const SNAPSHOT_EVERY: u64 = 5_000;
/// Free bytes of the disk below which proposals are refused: room for the writes that follow an
/// entry by themselves (a sled segment, a vote, a snapshot of a small cluster).
pub const DISK_RESERVE_BYTES: u64 = 8 * 1024 * 1024;
/// How long `shutdown` waits for openraft's tasks to let go of the log.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(5);
const RELEASE_POLL: Duration = Duration::from_millis(2);

/// Where and as whom a voter runs.
#[derive(Clone, Debug)]
pub struct ConsensusConfig {
    /// Directory of this voter alone; created if missing.
    pub dir: PathBuf,
    pub node: NodeId,
    /// `None`: what fits the stored membership.
    pub profile: Option<Profile>,
    pub snapshot_every: u64,
    pub disk_reserve_bytes: u64,
}

impl ConsensusConfig {
    /// The defaults for `node` in `dir`.
    pub fn new(dir: impl Into<PathBuf>, node: NodeId) -> Self {
        Self {
            dir: dir.into(),
            node,
            profile: None,
            snapshot_every: SNAPSHOT_EVERY,
            disk_reserve_bytes: DISK_RESERVE_BYTES,
        }
    }
}

/// A running voter.
pub struct Consensus {
    raft: Raft,
    id: RaftId,
    node: NodeId,
    proposer: Mutex<Option<Arc<Proposer>>>,
    leadership: watch::Receiver<Leadership>,
    failure: watch::Receiver<Option<String>>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    /// Released last, at shutdown.
    held: Mutex<Option<(Arc<Disk>, DirLock)>>,
}

impl Consensus {
    /// Open (or create) the voter in `config.dir`, recover its state, and start it.
    ///
    /// The store holds what was known as committed; a single voter that has led before leads at
    /// once.
    ///
    /// # Errors
    /// [`ConsensusError::Lock`] when the directory belongs to another process, and what opening
    /// log and snapshots met: nothing was changed then.
    pub async fn open(
        config: ConsensusConfig,
        peers: Arc<dyn PeerLink>,
    ) -> Result<(Arc<Self>, Arc<Store>), ConsensusError> {
        Self::open_with(config, peers, bramble_core::machine::apply).await
    }

    async fn open_with(
        config: ConsensusConfig,
        peers: Arc<dyn PeerLink>,
        apply: Apply,
    ) -> Result<(Arc<Self>, Arc<Store>), ConsensusError> {
        let id = raft_id(&config.node)?;
        disk::create_dir(&config.dir)
            .map_err(|source| ConsensusError::CreateDir { path: config.dir.clone(), source })?;
        let lock = DirLock::take(&config.dir)?;
        let Stores { disk, mut log, snapshots, store, mut machine } = open_stores(&config, apply)?;

        let membership = StorageHelper::new(&mut log, &mut machine)
            .get_membership()
            .await
            .map_err(|e| ConsensusError::ReadMembership(Box::new(e)))?;
        let membership = membership.effective().membership();
        let profile = config.profile.unwrap_or_else(|| Profile::fitting(membership, id));
        let raft_config = profile.config(config.snapshot_every)?;
        let appended_bytes = log.appended_bytes();
        let raft = Raft::new(id, raft_config, Network::new(peers), log, machine)
            .await
            .map_err(|e| ConsensusError::Start(Box::new(e)))?;
        if profile == Profile::Alone {
            // The first tick would do it, a heartbeat and a half later. It only fails when raft
            // has stopped, which the supervisor reports.
            let _ = raft.trigger().elect().await;
        }

        let (leadership, leadership_seen) = watch::channel(Leadership::default());
        let (failure, failure_seen) = watch::channel(None);
        let supervisor = Supervisor {
            raft: raft.clone(),
            leadership,
            failure,
            snapshots,
            appended_bytes,
            snapshot_every: config.snapshot_every,
            dir: config.dir.clone(),
            reserve_bytes: config.disk_reserve_bytes,
        };
        let (proposer, batcher) =
            Proposer::new(raft.clone(), store.clone(), config.dir, config.disk_reserve_bytes);
        let tasks = vec![tokio::spawn(supervisor.run()), tokio::spawn(batcher.run())];
        let consensus = Self {
            raft,
            id,
            node: config.node,
            proposer: Mutex::new(Some(Arc::new(proposer))),
            leadership: leadership_seen,
            failure: failure_seen,
            tasks: Mutex::new(tasks),
            held: Mutex::new(Some((disk, lock))),
        };
        Ok((Arc::new(consensus), store))
    }

    /// Make this node the only voter of a new log; `false` when there is a log already.
    ///
    /// # Errors
    /// [`ConsensusError::Found`] when raft does not take it.
    pub async fn found(&self) -> Result<bool, ConsensusError> {
        let initialized =
            self.raft.is_initialized().await.map_err(|e| ConsensusError::Found(Box::new(e)))?;
        if initialized {
            return Ok(false);
        }
        let members = BTreeMap::from([(self.id, Peer { id: self.node.clone() })]);
        match self.raft.initialize(members).await {
            Ok(()) => Ok(true),
            Err(error) => Err(ConsensusError::Found(Box::new(error))),
        }
    }

    /// Whether this master leads and its store is up to date.
    pub fn is_leader(&self) -> bool {
        self.leadership.borrow().here
    }

    /// Stop leading; the only voter leads again in a later term.
    ///
    /// # Errors
    /// This master does not lead, or raft did not follow.
    pub async fn abdicate(&self) -> Result<(), AbdicateError> {
        abdicate::abdicate(&self.raft, self.id).await
    }

    /// Who leads, and word of every change.
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.clone()
    }

    /// Wait until a leader is known; when it is this master, until its store is up to date.
    ///
    /// # Errors
    /// [`ConsensusError::NoLeader`] after `timeout`, [`ConsensusError::Failed`] when raft stopped.
    pub async fn wait_for_leader(&self, timeout: Duration) -> Result<NodeId, ConsensusError> {
        let mut leadership = self.leadership();
        let ready = |seen: &Leadership| {
            seen.leader.as_ref().is_some_and(|leader| seen.here || *leader != self.node)
        };
        let known = async {
            let seen = leadership.wait_for(ready).await.ok()?;
            seen.leader.clone()
        };
        tokio::select! {
            biased;
            reason = self.failed() => Err(ConsensusError::Failed(reason)),
            known = tokio::time::timeout(timeout, known) => match known {
                Ok(Some(leader)) => Ok(leader),
                Ok(None) => Err(ConsensusError::Failed("it was shut down".to_string())),
                Err(_) => Err(ConsensusError::NoLeader(timeout)),
            },
        }
    }

    /// Why raft stopped for good, if it did.
    pub fn failure(&self) -> Option<String> {
        self.failure.borrow().clone()
    }

    /// Resolves with the reason once raft has stopped for good and the process should restart;
    /// never resolves after an orderly shutdown.
    pub async fn failed(&self) -> String {
        let mut failure = self.failure.clone();
        loop {
            if let Some(reason) = failure.borrow_and_update().clone() {
                return reason;
            }
            if failure.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Answer another master's request.
    pub async fn handle(&self, request: RaftRequest) -> RaftReply {
        network::answer(&self.raft, request).await
    }

    /// Stop, and let go of the directory. Proposals that wait fail; the store stays readable.
    pub async fn shutdown(&self) {
        // With the proposer gone the batcher ends after what it has begun.
        drop(self.proposer.lock().unwrap_or_else(PoisonError::into_inner).take());
        if let Err(error) = self.raft.shutdown().await {
            tracing::warn!(error = &error as &dyn std::error::Error, "raft did not end cleanly");
        }
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        for task in tasks {
            // A task that panicked is over as well.
            let _ = task.await;
        }
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some((disk, lock)) = held else { return };
        // openraft's workers end on their own, a moment after their core.
        let released = async {
            while Arc::strong_count(&disk) > 1 {
                tokio::time::sleep(RELEASE_POLL).await;
            }
        };
        if tokio::time::timeout(RELEASE_TIMEOUT, released).await.is_err() {
            tracing::warn!("the log is still in use; its directory stays locked until exit");
            std::mem::forget(lock);
            return;
        }
        // In this order: the next owner must find the log closed.
        drop(disk);
        drop(lock);
    }
}

impl Propose for Consensus {
    fn propose(&self, command: Command) -> ProposeFuture<'_> {
        let proposer = self.proposer.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Box::pin(async move {
            match proposer {
                Some(proposer) => proposer.propose(command).await,
                None => Err(proposer::shut_down()),
            }
        })
    }
}

struct Stores {
    disk: Arc<Disk>,
    log: LogStore,
    snapshots: Arc<Snapshots>,
    store: Arc<Store>,
    machine: StateMachine,
}

fn open_stores(config: &ConsensusConfig, apply: Apply) -> Result<Stores, ConsensusError> {
    let disk = Disk::open(&config.dir.join("log")).map_err(ConsensusError::OpenLog)?;
    let disk = Arc::new(disk);
    let log = LogStore::new(disk.clone());
    let (snapshots, newest) =
        Snapshots::open(&config.dir.join("snapshots")).map_err(ConsensusError::OpenSnapshots)?;
    let snapshots = Arc::new(snapshots);

    let purged = log.purged().map_err(ConsensusError::ReadLog)?;
    let last = newest.as_ref().and_then(|contents| contents.last_applied);
    if let Some(purged) = purged.filter(|p| last < Some(*p)) {
        return Err(ConsensusError::SnapshotMissing {
            dir: config.dir.join("snapshots"),
            purged: purged.index,
            snapshot: last.map(|id| id.index),
        });
    }
    let (state, position) = match newest {
        Some(contents) => (contents.state, Some((contents.last_applied, contents.membership))),
        None => (State::default(), None),
    };
    let store = Arc::new(Store::new(state));
    let machine = StateMachine::new(store.clone(), snapshots.clone(), apply, position);
    Ok(Stores { disk, log, snapshots, store, machine })
}

#[cfg(test)]
impl Consensus {
    fn disk(&self) -> Arc<Disk> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.as_ref().expect("it runs").0.clone()
    }
}
