//! How fast raft beats. Owns every number openraft is configured with.

use super::candidacy::Timing;
use super::error::ConsensusError;
use super::types::{Peer, RaftId};
use openraft::{Config, Membership, SnapshotPolicy};
use std::sync::Arc;
use std::time::Duration;

/// Bytes of one chunk of a snapshot on its way to a follower: well under a frame's 8 MiB.
const SNAPSHOT_CHUNK_BYTES: u64 = 1024 * 1024;
/// Time for a follower to write and install a whole snapshot on a slow card, in milliseconds.
const SNAPSHOT_INSTALL_MS: u64 = 30_000;
/// Entries in one message to a follower.
const PAYLOAD_ENTRIES_MAX: u64 = 300;

/// Timing of heartbeats and elections.
///
/// openraft takes it once, when raft starts: before the first member is added to a voter that is
/// alone, raft has to be started anew with [`Profile::Fast`], or the others would miss its
/// heartbeats and take its place again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// The only voter: nobody listens to heartbeats and no election is ever contested, so the
    /// timer only wakes the processor.
    Alone,
    /// Several voters on a good network and disks.
    Fast,
    /// Several voters, some with disks or links that measure slow: fewer needless elections, a
    /// longer pause when a leader really dies.
    Slow,
}

impl Profile {
    /// The timing for `membership` as seen by `me`, when nothing else was measured. Without any
    /// member, a node that does not found waits to be added to what others lead.
    pub(super) fn fitting(membership: &Membership<RaftId, Peer>, me: RaftId, founds: bool) -> Self {
        let mut members = membership.nodes().map(|(id, _)| *id);
        match (members.next(), members.next()) {
            (None, _) if founds => Profile::Alone,
            (Some(only), None) if only == me => Profile::Alone,
            _ => Profile::Fast,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Profile::Alone => "alone",
            Profile::Fast => "fast",
            Profile::Slow => "slow",
        }
    }

    /// When to stand for election; `None`: openraft's own timer decides, as nobody contests it.
    pub(super) fn candidacy(self) -> Option<Timing> {
        let (_, least, most) = self.timing_ms();
        let timing = Timing {
            lease: Duration::from_millis(most),
            spread: Duration::from_millis(most - least),
        };
        (self != Profile::Alone).then_some(timing)
    }

    /// Heartbeat, shortest and longest election timeout, in milliseconds.
    ///
    /// openraft wakes once every one and a half heartbeats, whatever else happens.
    fn timing_ms(self) -> (u64, u64, u64) {
        match self {
            Profile::Alone => (2_000, 4_000, 8_000),
            Profile::Fast => (50, 200, 400),
            Profile::Slow => (250, 1_000, 2_000),
        }
    }

    /// openraft's configuration for this timing.
    pub(super) fn config(self, snapshot_every: u64) -> Result<Arc<Config>, ConsensusError> {
        let (heartbeat, election_min, election_max) = self.timing_ms();
        #[cfg(feature = "simulation")]
        let (election_min, election_max) = super::simulated::pinned(election_min, election_max);
        let config = Config {
            cluster_name: "bramble".to_string(),
            heartbeat_interval: heartbeat,
            election_timeout_min: election_min,
            election_timeout_max: election_max,
            install_snapshot_timeout: SNAPSHOT_INSTALL_MS,
            max_payload_entries: PAYLOAD_ENTRIES_MAX,
            snapshot_max_chunk_size: SNAPSHOT_CHUNK_BYTES,
            // The log reaches back two snapshots; further behind, a snapshot is the way.
            replication_lag_threshold: snapshot_every.saturating_mul(2),
            // Ours decides: by bytes as well as entries, never onto a full disk, and never
            // purging what the older snapshot would need.
            snapshot_policy: SnapshotPolicy::Never,
            max_in_snapshot_log_to_keep: u64::MAX,
            // Not `Config::default()`: that parses the process's environment and can exit it.
            purge_batch_size: 1,
            enable_tick: true,
            enable_heartbeat: true,
            enable_elect: self.candidacy().is_none(),
            #[allow(deprecated, reason = "the field has to be given; 0 is its off")]
            send_snapshot_timeout: 0,
        };
        let config = config.validate().map_err(|error| {
            let source = Box::new(error);
            ConsensusError::Timing { profile: self.name(), source }
        })?;
        Ok(Arc::new(config))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};

    #[test]
    fn every_profile_is_one_openraft_accepts() {
        for profile in [Profile::Alone, Profile::Fast, Profile::Slow] {
            profile.config(5_000).expect("valid");
        }
    }

    #[test]
    fn others_decide_the_profile() {
        let cases: [(&[u64], &[u64], bool, Profile); 5] = [
            (&[], &[], true, Profile::Alone),
            (&[], &[], false, Profile::Fast),
            (&[1], &[1], false, Profile::Alone),
            (&[1], &[1, 2], true, Profile::Fast),
            (&[1, 2, 3], &[1, 2, 3], true, Profile::Fast),
        ];
        for (voters, nodes, founds, expected) in cases {
            let nodes: BTreeMap<u64, Peer> = nodes.iter().map(|n| (*n, Peer::default())).collect();
            let voters: BTreeSet<u64> = voters.iter().copied().collect();
            let membership = Membership::new(vec![voters], nodes);
            assert_eq!(Profile::fitting(&membership, 1, founds), expected);
        }
    }
}
