//! Changes of raft's membership, one at a time. Decides nothing: that is the autopilot's.

use super::Consensus;
use super::profile::Profile;
use super::types::{Metrics, Peer, Raft, raft_id};
use crate::membership::{ChangeFuture, HandOver, Member, Membership, MembershipError};
use bramble_core::autopilot::{Change, Standing};
use openraft::{ChangeMembers, ServerState};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// Longest wait for a change: two entries on a quorum of slow disks, and a candidate catching up.
const CHANGE_MAX: Duration = Duration::from_secs(30);

/// The membership of a running voter.
pub struct Members(pub Arc<Consensus>);

impl Membership for Members {
    fn members(&self) -> Vec<Member> {
        self.0.metrics().filter(leads).map(|seen| listed(&seen)).unwrap_or_default()
    }

    fn known(&self) -> Vec<Member> {
        self.0.metrics().map(|seen| listed(&seen)).unwrap_or_default()
    }

    fn hand_over(&self, most: Duration) -> HandOver<'_> {
        Box::pin(self.0.leave(most))
    }

    fn stand_again(&self) {
        self.0.abstain(false);
    }

    fn change(&self, change: Change) -> ChangeFuture<'_> {
        let consensus = self.0.clone();
        // In a task of its own: a change of timing must not be left half done by a caller that
        // stops waiting.
        let changing = tokio::spawn(async move { make(&consensus, change).await });
        Box::pin(async move {
            match tokio::time::timeout(CHANGE_MAX, changing).await {
                Ok(Ok(changed)) => changed,
                Ok(Err(panic)) => Err(MembershipError::Refused(panic.to_string())),
                Err(_) => Err(MembershipError::TimedOut),
            }
        })
    }
}

fn leads(seen: &Metrics) -> bool {
    seen.state == ServerState::Leader
}

fn listed(seen: &Metrics) -> Vec<Member> {
    let last = seen.last_log_index.unwrap_or_default();
    let membership = seen.membership_config.membership();
    let voters: BTreeSet<u64> = membership.voter_ids().collect();
    let member = |(id, peer): (&u64, &Peer)| {
        let matched = seen.replication.as_ref().and_then(|all| all.get(id).copied());
        let lag = match (*id == seen.id, matched.flatten()) {
            (true, _) => leads(seen).then_some(0),
            (false, matched) => matched.map(|log| last.saturating_sub(log.index)),
        };
        let votes = voters.contains(id);
        let standing = if votes { Standing::Voter } else { Standing::Learner };
        Member { id: peer.id.clone(), standing, lag }
    };
    membership.nodes().map(member).collect()
}

async fn make(consensus: &Consensus, change: Change) -> Result<(), MembershipError> {
    let refused = |what: &dyn std::fmt::Display| MembershipError::Refused(what.to_string());
    if let Change::AddLearner(_) = change
        && consensus.profile() == Some(Profile::Alone)
    {
        // The new leader, most likely this one again, decides anew.
        return consensus.set_profile(Profile::Fast).await.map_err(|e| refused(&e));
    }
    let raft: Raft = consensus.raft().map_err(|_| MembershipError::NotLeading)?;
    let id = |node| raft_id(node).map_err(|e| refused(&e));
    match change {
        Change::AddLearner(node) => {
            let peer = Peer { id: node.clone() };
            raft.add_learner(id(&node)?, peer, false).await.map_err(|e| refused(&e))?;
        }
        Change::SetVoters(nodes) => {
            let voters = nodes.iter().map(id).collect::<Result<BTreeSet<u64>, _>>()?;
            raft.change_membership(voters, true).await.map_err(|e| refused(&e))?;
        }
        Change::Remove(node) => {
            let gone = ChangeMembers::RemoveNodes(BTreeSet::from([id(&node)?]));
            raft.change_membership(gone, true).await.map_err(|e| refused(&e))?;
        }
    }
    Ok(())
}
