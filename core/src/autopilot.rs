//! Who votes: which masters become learners, voters, or leave, decided from what the leader sees.
//!
//! 1 -> 3 -> 5 voters as masters come. Two masters are one voter and one learner, four are three
//! and one: an even voter more would only be one more that must answer. A voter that is gone for
//! good gives its vote to a live learner; where there is none it keeps it.

use crate::model::NodeId;
use std::collections::BTreeSet;

/// Voters at most: more would slow every write and survive little more.
pub const VOTERS_MAX: u32 = 5;

/// What a master is in Raft now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Not known to Raft yet.
    Outside,
    Learner,
    Voter,
}

/// How far a master is to be relied upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Liveness {
    /// It answers, its log is nearly as long as the leader's, and it has the data key.
    Ready,
    /// It answers, or has until a moment ago; it may vote but is not to be given a vote now.
    Unsure,
    /// It has not answered for so long that its vote may go to another.
    Gone,
}

/// A master as the leader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub id: NodeId,
    pub standing: Standing,
    pub liveness: Liveness,
    /// Whether the cluster still has it as a master.
    pub admitted: bool,
}

/// The next change of Raft's membership. One at a time: the next is decided on what it led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Replicate to it, without a vote.
    AddLearner(NodeId),
    /// Let exactly these vote. Who loses its vote stays a learner.
    SetVoters(BTreeSet<NodeId>),
    /// Forget a learner.
    Remove(NodeId),
}

/// Decide the next change as the leader `own`; `None` when all is as it should be.
pub fn next(own: &NodeId, masters: &[Seen]) -> Option<Change> {
    let voters = ids(masters, |m| m.standing == Standing::Voter);
    if let Some(change) = part(own, masters, &voters) {
        return Some(change);
    }
    let outside = masters.iter().find(|m| m.admitted && m.standing == Standing::Outside);
    if let Some(fresh) = outside {
        return Some(Change::AddLearner(fresh.id.clone()));
    }
    let ready = candidates(masters);
    let gone = ids(masters, |m| m.standing == Standing::Voter && m.liveness == Liveness::Gone);
    if let Some(lost) = gone.iter().find(|id| *id != own) {
        return replace(&voters, lost, &ready).or_else(|| shrink(&voters, &gone));
    }
    let more = grown(voters.len() + ready.len()).saturating_sub(voters.len());
    if more == 0 {
        return None;
    }
    Some(Change::SetVoters(voters.into_iter().chain(ready.into_iter().take(more)).collect()))
}

/// Part with masters that were removed: first from their vote, then from the log.
fn part(own: &NodeId, masters: &[Seen], voters: &BTreeSet<NodeId>) -> Option<Change> {
    let parting = masters.iter().find(|m| !m.admitted && m.standing != Standing::Outside)?;
    if parting.standing == Standing::Learner {
        return Some(Change::Remove(parting.id.clone()));
    }
    let ready = candidates(masters);
    if let Some(change) = replace(voters, &parting.id, &ready) {
        return Some(change);
    }
    let mut left = voters.clone();
    left.remove(&parting.id);
    // An even rest is one that needs a voter more for the same; the leader is not the one to go.
    if left.len().is_multiple_of(2) && left.len() > 1 {
        let spare =
            masters.iter().filter(|m| left.contains(&m.id) && m.id != *own).max_by_key(|m| {
                (m.liveness == Liveness::Gone, m.liveness == Liveness::Unsure, &m.id)
            })?;
        left.remove(&spare.id);
    }
    (!left.is_empty()).then_some(Change::SetVoters(left))
}

/// Give the vote of `lost` to the first candidate.
fn replace(voters: &BTreeSet<NodeId>, lost: &NodeId, ready: &[NodeId]) -> Option<Change> {
    let heir = ready.first()?;
    let others = voters.iter().filter(|id| *id != lost).cloned();
    Some(Change::SetVoters(others.chain([heir.clone()]).collect()))
}

/// Go on without voters that are gone, where the rest then bears more failures than before.
fn shrink(voters: &BTreeSet<NodeId>, gone: &BTreeSet<NodeId>) -> Option<Change> {
    let left: BTreeSet<NodeId> = voters.difference(gone).cloned().collect();
    let borne_now = left.len().checked_sub(voters.len() / 2 + 1)?;
    let borne_then = left.len().saturating_sub(1) / 2;
    (!left.len().is_multiple_of(2) && borne_then > borne_now).then_some(Change::SetVoters(left))
}

/// The largest odd number of voters that so many masters can be.
fn grown(masters: usize) -> usize {
    let most = masters.min(VOTERS_MAX as usize);
    if most.is_multiple_of(2) { most.saturating_sub(1) } else { most }
}

fn candidates(masters: &[Seen]) -> Vec<NodeId> {
    let ready =
        |m: &Seen| m.admitted && m.standing == Standing::Learner && m.liveness == Liveness::Ready;
    ids(masters, ready).into_iter().collect()
}

fn ids(masters: &[Seen], wanted: impl Fn(&Seen) -> bool) -> BTreeSet<NodeId> {
    masters.iter().filter(|m| wanted(m)).map(|m| m.id.clone()).collect()
}

#[cfg(test)]
#[path = "autopilot_tests.rs"]
mod tests;
