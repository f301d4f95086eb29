//! Stands for election, once a quorum has said that it would be of use (pre-vote: Ongaro's thesis,
//! 9.6).
//!
//! openraft stands whenever its own timer runs out. A master whose links are slow to come back
//! after a restart, or that hears nobody, would then raise the term again and again, and each time
//! unseat a leader whom all others follow. So openraft's timer is off where several masters vote,
//! and whoever has not heard a leader asks first. Each wait is drawn anew, so that two who drew
//! alike once do not split every vote.

use super::log_store::LogStore;
use super::network::{self, PeerLink, RaftReply, RaftRequest};
use super::types::{LogId, Metrics, Raft, RaftId};
use bramble_core::model::NodeId;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use openraft::ServerState;
use openraft::raft::AppendEntriesResponse;
use rand::Rng;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How long to wait before standing. Each wait is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Timing {
    /// For so long after a leader's last message openraft grants nobody a vote.
    pub lease: Duration,
    /// Longest further wait; the shortest between two attempts is a quarter of it.
    pub spread: Duration,
}

/// When a leader was last followed, and whether this master may stand at all.
#[derive(Default)]
pub(super) struct Standing {
    heard: Mutex<Option<Instant>>,
    voted: Mutex<Option<Instant>>,
    abstains: AtomicBool,
}

impl Standing {
    /// A leader's message was accepted now.
    pub fn heard(&self) {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn last_heard(&self) -> Option<Instant> {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another has this master's vote: it shall have the time to win.
    pub fn voted(&self) {
        *self.voted.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn last_voted(&self) -> Option<Instant> {
        *self.voted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether to stand for no election until told otherwise.
    pub fn abstain(&self, on: bool) {
        self.abstains.store(on, Ordering::Relaxed);
    }
}

/// Stands for one engine's raft.
pub(super) struct Candidacy {
    pub own: RaftId,
    pub raft: Raft,
    pub log: LogStore,
    pub peers: Arc<dyn PeerLink>,
    pub standing: Arc<Standing>,
    pub timing: Timing,
}

impl Candidacy {
    /// Stand whenever it is time to, until raft stops.
    pub async fn run(self) {
        let metrics = self.raft.metrics();
        let mut from = Instant::now() + self.timing.lease;
        let mut wait = self.timing.draw(Duration::ZERO);
        loop {
            let led_until = self.standing.last_heard().map(|heard| heard + self.timing.lease);
            let since = [Some(from), led_until, self.standing.last_voted()];
            let due = since.into_iter().flatten().max().unwrap_or(from) + wait;
            if due > Instant::now() {
                tokio::time::sleep_until(due).await;
                continue;
            }
            let seen = metrics.borrow().clone();
            if seen.running_state.is_err() {
                return;
            }
            if self.may_stand(&seen) && self.canvass(&seen).await {
                // It only fails when raft has stopped.
                let _ = self.raft.trigger().elect().await;
            }
            from = Instant::now();
            wait = self.timing.draw(self.timing.spread / 4);
        }
    }

    fn may_stand(&self, seen: &Metrics) -> bool {
        let votes = seen.membership_config.voter_ids().any(|voter| voter == self.own);
        votes
            && seen.state != ServerState::Leader
            && !self.standing.abstains.load(Ordering::Relaxed)
    }

    /// Ask every other voter; whether a quorum would vote for this master.
    async fn canvass(&self, seen: &Metrics) -> bool {
        let quorums = seen.membership_config.membership().get_joint_config();
        let mut granted = BTreeSet::from([self.own]);
        if is_quorum(&granted, quorums) {
            return true;
        }
        let last = match self.log.last_log_id() {
            Ok(last) => last,
            Err(error) => {
                let error: &dyn std::error::Error = &error;
                tracing::warn!(error, "this master's log cannot be read to stand for election");
                return false;
            }
        };
        let voters: BTreeSet<RaftId> = quorums.iter().flatten().copied().collect();
        let others = seen.membership_config.nodes().filter(|(id, _)| **id != self.own);
        let asked = others.filter(|(id, _)| voters.contains(*id));
        let mut asked: FuturesUnordered<_> =
            asked.map(|(id, peer)| self.ask(*id, peer.id.clone(), last)).collect();
        while let Some((id, grants)) = asked.next().await {
            if grants {
                granted.insert(id);
            }
            if is_quorum(&granted, quorums) {
                return true;
            }
        }
        false
    }

    async fn ask(&self, id: RaftId, peer: NodeId, last: Option<LogId>) -> (RaftId, bool) {
        let asked = self.peers.call(&peer, RaftRequest::PreVote(last));
        let answer = tokio::time::timeout(self.timing.lease / 2, asked).await;
        (id, matches!(answer, Ok(Ok(RaftReply::PreVote(true)))))
    }
}

/// What answers the other masters: raft, and this master's own eye on who leads.
#[derive(Clone)]
pub(super) struct Elector {
    pub raft: Raft,
    pub log: LogStore,
    pub standing: Arc<Standing>,
    /// As [`Timing::lease`]; none where nobody else votes.
    pub lease: Option<Duration>,
}

impl Elector {
    /// Answer a request.
    pub async fn answer(&self, request: RaftRequest) -> RaftReply {
        let sender = match &request {
            RaftRequest::Append(append) => Some(append.vote),
            RaftRequest::Snapshot(chunk) => Some(chunk.vote),
            RaftRequest::Vote(_) | RaftRequest::PreVote(_) => None,
        };
        let reply = network::answer(&self.raft, request, |log| self.grants(log)).await;
        match &reply {
            RaftReply::Append(AppendEntriesResponse::HigherVote(_)) => {}
            RaftReply::Append(_) => self.standing.heard(),
            RaftReply::Snapshot(taken) if Some(taken.vote) == sender => self.standing.heard(),
            RaftReply::Vote(vote) if vote.vote_granted => self.standing.voted(),
            _ => {}
        }
        reply
    }

    /// Whether a candidate with this log would have this master's vote: no leader is followed
    /// here, and the candidate's log holds all that this one does.
    fn grants(&self, candidates: Option<LogId>) -> bool {
        let Some(lease) = self.lease else { return false };
        let (state, acknowledged) = {
            let metrics = self.raft.metrics();
            let seen = metrics.borrow();
            (seen.state, seen.millis_since_quorum_ack.map(Duration::from_millis))
        };
        let led = match state {
            ServerState::Leader => acknowledged.is_some_and(|ago| ago <= lease),
            _ => self.standing.last_heard().is_some_and(|heard| heard.elapsed() <= lease),
        };
        !led && self.log.last_log_id().is_ok_and(|own| candidates >= own)
    }
}

/// Whether these are a majority of every configuration.
fn is_quorum(granted: &BTreeSet<RaftId>, configurations: &[BTreeSet<RaftId>]) -> bool {
    let is_majority =
        |voters: &BTreeSet<RaftId>| voters.intersection(granted).count() * 2 > voters.len();
    configurations.iter().all(is_majority)
}

impl Timing {
    fn draw(&self, least: Duration) -> Duration {
        rand::rng().random_range(least..=self.spread)
    }
}
