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
mod candidacy;
mod disk;
mod engine;
mod error;
mod fresh;
mod lock;
mod log_store;
mod members;
mod network;
mod offline;
mod portion;
mod profile;
mod proof;
mod proposer;
mod record;
#[cfg(feature = "simulation")]
pub mod simulated;
mod snapshot;
mod space;
mod state_machine;
mod supervise;
mod types;
mod weather;

#[cfg(test)]
mod tests;

pub use abdicate::AbdicateError;
pub use error::ConsensusError;
pub use lock::LockError;
pub use members::Members;
pub use network::{
    NoPeers, PeerError, PeerFuture, PeerLink, RaftReply, RaftRequest, SnapshotChunk,
};
pub use offline::{Image, Recovery, plant, recover};
pub use profile::Profile;
pub use snapshot::{Octets, SnapshotError};
pub use supervise::Leadership;
pub use types::{Batch, Outcomes, Peer, Proposal, RaftId, TypeConfig, raft_id};

use crate::clock::WallClock;
use crate::propose::{Propose, ProposeFuture};
use crate::store::Store;
use bramble_core::command::Command;
use bramble_core::model::{NodeId, State};
use candidacy::Standing;
use disk::Disk;
use engine::{Engine, Parts};
use fresh::Rounds;
use lock::DirLock;
use log_store::LogStore;
use proposer::Proposer;
use snapshot::{Contents, Snapshots};
use state_machine::{Apply, Position, StateMachine};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::watch;
use types::{Metrics, Raft};

/// Entries between two snapshots.
pub const SNAPSHOT_EVERY: u64 = 5_000;
/// Free bytes of the disk below which proposals are refused: room for the writes that follow an
/// entry by themselves (a sled segment, a vote, a snapshot of a small cluster).
pub const DISK_RESERVE_BYTES: u64 = 8 * 1024 * 1024;

/// Where and as whom a voter runs.
#[derive(Clone, Debug)]
pub struct ConsensusConfig {
    /// Directory of this voter alone; created if missing.
    pub dir: PathBuf,
    pub node: NodeId,
    /// Whether this node makes the cluster if there is no log yet; otherwise it waits for others.
    pub founds: bool,
    /// `None`: what fits the stored membership.
    pub profile: Option<Profile>,
    pub snapshot_every: u64,
    pub disk_reserve_bytes: u64,
    /// What a term's time begins with; see [`crate::clock`].
    pub wall: WallClock,
}

impl ConsensusConfig {
    /// The defaults for `node` in `dir`.
    pub fn new(dir: impl Into<PathBuf>, node: NodeId) -> Self {
        Self {
            dir: dir.into(),
            node,
            founds: true,
            profile: None,
            snapshot_every: SNAPSHOT_EVERY,
            disk_reserve_bytes: DISK_RESERVE_BYTES,
            wall: WallClock::default(),
        }
    }
}

/// A running voter.
pub struct Consensus {
    id: RaftId,
    node: NodeId,
    parts: RwLock<Option<Arc<Parts>>>,
    engine: RwLock<Option<Engine>>,
    /// Held while one engine replaces another.
    switching: tokio::sync::Mutex<()>,
    rounds: Rounds,
    standing: Arc<Standing>,
    leadership: watch::Receiver<Leadership>,
    failure: watch::Receiver<Option<String>>,
    /// Released last, at shutdown.
    lock: Mutex<Option<DirLock>>,
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
        let (leadership, leadership_seen) = watch::channel(Leadership::default());
        let (failure, failure_seen) = watch::channel(None);
        let standing = Arc::new(Standing::default());
        let Stores { disk, snapshots, store, machine } = open_stores(&config, apply)?;
        let parts = Arc::new(Parts {
            id,
            founds: config.founds,
            dir: config.dir,
            disk,
            snapshots,
            store: store.clone(),
            machine,
            peers,
            standing: standing.clone(),
            leadership,
            failure,
            snapshot_every: config.snapshot_every,
            disk_reserve_bytes: config.disk_reserve_bytes,
        });
        let engine = parts.start(config.profile).await?;
        let consensus = Self {
            id,
            node: config.node,
            parts: RwLock::new(Some(parts)),
            engine: RwLock::new(Some(engine)),
            switching: tokio::sync::Mutex::default(),
            rounds: Rounds::default(),
            standing,
            leadership: leadership_seen,
            failure: failure_seen,
            lock: Mutex::new(Some(lock)),
        };
        Ok((Arc::new(consensus), store))
    }

    /// Make this node the only voter of a new log; `false` when there is a log already.
    ///
    /// # Errors
    /// [`ConsensusError::Found`] when raft does not take it.
    pub async fn found(&self) -> Result<bool, ConsensusError> {
        let raft = self.raft()?;
        let initialized =
            raft.is_initialized().await.map_err(|e| ConsensusError::Found(Box::new(e)))?;
        if initialized {
            return Ok(false);
        }
        let members = BTreeMap::from([(self.id, Peer { id: self.node.clone() })]);
        match raft.initialize(members).await {
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
        let raft = self.raft().map_err(|_| AbdicateError::NotLeading)?;
        abdicate::abdicate(&raft, self.id).await
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
            let reason = failure.borrow_and_update().clone();
            if let Some(reason) = reason {
                return reason;
            }
            if failure.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Answer another master's request.
    pub async fn handle(&self, request: RaftRequest) -> RaftReply {
        let elector = read(&self.engine).as_ref().map(|engine| engine.elector.clone());
        match elector {
            Some(elector) => elector.answer(request).await,
            None => RaftReply::Stopped(openraft::error::Fatal::Stopped),
        }
    }

    /// Stand for election now, as another master asks that is about to leave.
    pub async fn stand(&self) {
        if let Ok(raft) = self.raft() {
            // It only fails when raft has stopped, which the supervisor reports.
            let _ = raft.trigger().elect().await;
        }
    }

    /// Stand for no election, or for those to come again.
    pub fn abstain(&self, on: bool) {
        self.standing.abstain(on);
    }

    /// Hand leadership over before this master goes: it stands for no election any more, and
    /// steps down. Resolves with whether another leads, at the latest after `most`.
    pub async fn leave(&self, most: Duration) -> bool {
        let Some(seen) = self.metrics() else { return false };
        let mut voters = seen.membership_config.voter_ids();
        if !self.is_leader() || voters.all(|voter| voter == self.id) {
            return false;
        }
        self.abstain(true);
        if let Err(error) = self.abdicate().await {
            tracing::info!(%error, "leadership was not handed over");
            return false;
        }
        let mut leadership = self.leadership();
        let other = leadership
            .wait_for(|seen| seen.leader.as_ref().is_some_and(|leader| *leader != self.node));
        match tokio::time::timeout(most, other).await {
            Ok(_) => tracing::info!("leadership was handed over"),
            Err(_) => {
                tracing::warn!("no other master leads yet");
                return false;
            }
        }
        true
    }

    /// Change how fast raft beats. Whoever leads does not for a moment.
    ///
    /// # Errors
    /// Raft cannot be started again; [`Consensus::failed`] resolves then too.
    pub async fn set_profile(&self, profile: Profile) -> Result<(), ConsensusError> {
        if self.profile() == Some(profile) {
            return Ok(());
        }
        let _one_at_a_time = self.switching.lock().await;
        let Some(parts) = read(&self.parts).clone() else { return Err(shut_down()) };
        let engine = self.engine.write().unwrap_or_else(PoisonError::into_inner).take();
        let Some(engine) = engine else { return Err(shut_down()) };
        tracing::info!(from = ?engine.profile, to = ?profile, "raft changes its timing");
        engine.stop(true).await;
        let started = match parts.released().await {
            true => parts.start(Some(profile)).await,
            false => Err(ConsensusError::Failed("the log is still in use".into())),
        };
        match started {
            Ok(engine) => {
                *self.engine.write().unwrap_or_else(PoisonError::into_inner) = Some(engine);
                Ok(())
            }
            Err(error) => {
                parts.failure.send_replace(Some(error.to_string()));
                Err(error)
            }
        }
    }

    /// The bytes of a snapshot of this moment.
    ///
    /// # Errors
    /// The voter was shut down, or encoding failed.
    pub fn image(&self) -> Result<Vec<u8>, ConsensusError> {
        let Some(parts) = read(&self.parts).clone() else { return Err(shut_down()) };
        parts.machine.contents().encode().map_err(ConsensusError::Image)
    }

    /// Stop, and let go of the directory. Proposals that wait fail; the store stays readable.
    pub async fn shutdown(&self) {
        let _one_at_a_time = self.switching.lock().await;
        let engine = self.engine.write().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(engine) = engine {
            engine.stop(false).await;
        }
        let parts = self.parts.write().unwrap_or_else(PoisonError::into_inner).take();
        let lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (Some(parts), Some(lock)) = (parts, lock) else { return };
        if !parts.released().await {
            tracing::warn!("the log is still in use; its directory stays locked until exit");
            std::mem::forget(lock);
            return;
        }
        // In this order: the next owner must find the log closed.
        drop(parts);
        drop(lock);
    }

    fn raft(&self) -> Result<Raft, ConsensusError> {
        let engine = read(&self.engine);
        engine.as_ref().map(|engine| engine.raft.clone()).ok_or_else(shut_down)
    }

    /// What raft last said of itself: a copy, since whoever holds on to the original stops raft.
    fn metrics(&self) -> Option<Metrics> {
        self.raft().ok().map(|raft| raft.metrics().borrow().clone())
    }

    /// Whether this voter runs as the only one.
    pub fn is_alone(&self) -> bool {
        self.profile() == Some(Profile::Alone)
    }

    fn profile(&self) -> Option<Profile> {
        read(&self.engine).as_ref().map(|engine| engine.profile)
    }

    fn proposer(&self) -> Option<Arc<Proposer>> {
        read(&self.engine).as_ref().map(|engine| engine.proposer.clone())
    }
}

fn read<T>(lock: &RwLock<T>) -> std::sync::RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn shut_down() -> ConsensusError {
    ConsensusError::Failed("it was shut down".to_string())
}

impl Propose for Consensus {
    fn propose(&self, command: Command) -> ProposeFuture<'_> {
        Box::pin(async move {
            if let Some(proposer) = self.proposer() {
                return proposer.propose(command).await;
            }
            // A change of timing is over in a moment; only a shutdown is not.
            drop(self.switching.lock().await);
            match self.proposer() {
                Some(proposer) => proposer.propose(command).await,
                None => Err(proposer::shut_down()),
            }
        })
    }
}

struct Stores {
    disk: Arc<Disk>,
    snapshots: Arc<Snapshots>,
    store: Arc<Store>,
    machine: StateMachine,
}

fn open_stores(config: &ConsensusConfig, apply: Apply) -> Result<Stores, ConsensusError> {
    let disk = Disk::open(&config.dir.join("log")).map_err(ConsensusError::OpenLog)?;
    let disk = Arc::new(disk);
    let (snapshots, newest) =
        Snapshots::open(&config.dir.join("snapshots")).map_err(ConsensusError::OpenSnapshots)?;
    let snapshots = Arc::new(snapshots);

    let purged = LogStore::new(disk.clone()).purged().map_err(ConsensusError::ReadLog)?;
    let last = newest.as_ref().and_then(|contents| contents.last_applied);
    if let Some(purged) = purged.filter(|p| last < Some(*p)) {
        return Err(ConsensusError::SnapshotMissing {
            dir: config.dir.join("snapshots"),
            purged: purged.index,
            snapshot: last.map(|id| id.index),
        });
    }
    let (state, position) = match newest {
        Some(contents) => {
            let Contents { last_applied, membership, state } = contents;
            (state, Position { last_applied, membership })
        }
        None => (State::default(), Position::default()),
    };
    let store = Arc::new(Store::with_wall_clock(state, config.wall.clone()));
    let machine = StateMachine::new(store.clone(), snapshots.clone(), apply, position);
    Ok(Stores { disk, snapshots, store, machine })
}

#[cfg(test)]
impl Consensus {
    fn disk(&self) -> Arc<Disk> {
        read(&self.parts).as_ref().expect("it runs").disk.clone()
    }

    fn engine_raft(&self) -> Raft {
        self.raft().expect("it runs")
    }
}
