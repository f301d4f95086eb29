//! One life of raft over the log: raft itself, the queue into it, and the loop that watches it.
//!
//! openraft takes its timing once, when it starts. A change of timing therefore ends one engine
//! and starts the next over the same disk and store.

use super::candidacy::{Candidacy, Elector, Standing};
use super::disk::Disk;
use super::error::ConsensusError;
use super::log_store::LogStore;
use super::network::{Network, PeerLink};
use super::profile::Profile;
use super::proposer::Proposer;
use super::snapshot::Snapshots;
use super::state_machine::StateMachine;
use super::supervise::{Leadership, Supervisor};
use super::types::{Raft, RaftId};
use crate::store::Store;
use openraft::StorageHelper;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How long the end of an engine waits for openraft's tasks to let go of the log.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long proposals that wait hold up a change of timing.
const DRAIN_MAX: Duration = Duration::from_secs(5);
const RELEASE_POLL: Duration = Duration::from_millis(2);

/// What every engine of a voter is made from.
pub(super) struct Parts {
    pub id: RaftId,
    pub founds: bool,
    pub dir: PathBuf,
    pub disk: Arc<Disk>,
    pub snapshots: Arc<Snapshots>,
    pub store: Arc<Store>,
    pub machine: StateMachine,
    pub peers: Arc<dyn PeerLink>,
    pub standing: Arc<Standing>,
    pub leadership: watch::Sender<Leadership>,
    pub failure: watch::Sender<Option<String>>,
    pub snapshot_every: u64,
    pub disk_reserve_bytes: u64,
}

pub(super) struct Engine {
    pub raft: Raft,
    pub proposer: Arc<Proposer>,
    pub profile: Profile,
    pub elector: Elector,
    standing: Option<JoinHandle<()>>,
    batching: JoinHandle<()>,
    supervising: JoinHandle<()>,
}

impl Parts {
    /// Start raft; with no `profile`, with the one that fits the stored membership.
    pub async fn start(&self, profile: Option<Profile>) -> Result<Engine, ConsensusError> {
        let mut log = LogStore::new(self.disk.clone());
        let mut machine = self.machine.clone();
        let membership = StorageHelper::new(&mut log, &mut machine)
            .get_membership()
            .await
            .map_err(|e| ConsensusError::ReadMembership(Box::new(e)))?;
        let membership = membership.effective().membership();
        let profile = profile.unwrap_or_else(|| Profile::fitting(membership, self.id, self.founds));
        let config = profile.config(self.snapshot_every)?;
        let appended_bytes = log.appended_bytes();
        let network = Network::new(self.peers.clone());
        let raft = Raft::new(self.id, config, network, log.clone(), machine)
            .await
            .map_err(|e| ConsensusError::Start(Box::new(e)))?;
        let mut voters = membership.voter_ids();
        if voters.next() == Some(self.id) && voters.next().is_none() {
            // The first tick would do it, a heartbeat and a half later. It only fails when raft
            // has stopped, which the supervisor reports.
            let _ = raft.trigger().elect().await;
        }
        let supervisor = Supervisor {
            raft: raft.clone(),
            store: self.store.clone(),
            leadership: self.leadership.clone(),
            failure: self.failure.clone(),
            snapshots: self.snapshots.clone(),
            appended_bytes,
            snapshot_every: self.snapshot_every,
            dir: self.dir.clone(),
            reserve_bytes: self.disk_reserve_bytes,
        };
        let timing = profile.candidacy();
        let (peers, standing) = (self.peers.clone(), self.standing.clone());
        let elector = Elector {
            raft: raft.clone(),
            log: log.clone(),
            standing: standing.clone(),
            lease: timing.map(|timing| timing.lease),
        };
        let candidacy = timing.map(|timing| Candidacy {
            own: self.id,
            raft: raft.clone(),
            log,
            peers,
            standing,
            timing,
        });
        let standing = candidacy.map(|candidacy| tokio::spawn(candidacy.run()));
        let (dir, reserve) = (self.dir.clone(), self.disk_reserve_bytes);
        let (proposer, batcher) = Proposer::new(raft.clone(), self.store.clone(), dir, reserve);
        let (supervising, batching) = (tokio::spawn(supervisor.run()), tokio::spawn(batcher.run()));
        let proposer = Arc::new(proposer);
        Ok(Engine { raft, proposer, profile, elector, standing, batching, supervising })
    }

    /// Wait until nobody but the voter itself holds the log; whether that came in time.
    pub async fn released(&self) -> bool {
        // openraft's workers end on their own, a moment after their core.
        let released = async {
            while Arc::strong_count(&self.disk) > 1 {
                tokio::time::sleep(RELEASE_POLL).await;
            }
        };
        tokio::time::timeout(RELEASE_TIMEOUT, released).await.is_ok()
    }
}

impl Engine {
    /// End it. What was begun is finished; proposals that wait fail, unless it is to `drain` them
    /// first, as far as the time for that goes.
    pub async fn stop(self, drain: bool) {
        let Engine { raft, proposer, elector, standing, mut batching, supervising, .. } = self;
        drop(elector);
        if let Some(standing) = standing {
            standing.abort();
            // It holds the log until it has noticed.
            let _ = standing.await;
        }
        // With the proposer gone the batcher ends after what has reached it.
        drop(proposer);
        let most = if drain { DRAIN_MAX } else { Duration::ZERO };
        let drained = tokio::time::timeout(most, &mut batching).await.is_ok();
        if let Err(error) = raft.shutdown().await {
            tracing::warn!(error = &error as &dyn std::error::Error, "raft did not end cleanly");
        }
        drop(raft);
        // A task that panicked is over as well.
        let _ = supervising.await;
        if !drained {
            let _ = batching.await;
        }
    }
}
