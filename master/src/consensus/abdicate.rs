//! Giving up leadership on request.
//!
//! Owns the one message by which a leader of openraft 0.9 can be made to step down: it has no call
//! for it, and ignores being asked to elect while it leads.

use super::types::{Raft, RaftId, Vote};
use openraft::ServerState;
use openraft::error::{Fatal, RaftError};
use openraft::raft::AppendEntriesRequest;
use std::time::Duration;
use thiserror::Error;

/// Longest wait for raft to follow its own message.
const STEP_DOWN_MAX: Duration = Duration::from_secs(5);

#[derive(Debug, Error)]
pub enum AbdicateError {
    #[error("this master does not lead")]
    NotLeading,
    #[error("raft did not take the message to step down")]
    Refused(#[source] Box<RaftError<RaftId>>),
    #[error("raft stopped")]
    Stopped(#[source] Box<Fatal<RaftId>>),
    #[error("raft still leads after {STEP_DOWN_MAX:?}")]
    StillLeading,
}

/// Make the leader a follower in a later term; the only voter leads again in the one after.
///
/// What makes a leader step down is word of a later term. A request for its vote would be refused
/// while its lease runs, so the word is an empty message of a leader that does not exist: it
/// carries no entry and no commit, and its id is below every member's, so that any real candidate
/// of that term outranks it.
pub(super) async fn abdicate(raft: &Raft, id: RaftId) -> Result<(), AbdicateError> {
    let seen = raft.metrics().borrow().clone();
    if seen.state != ServerState::Leader {
        return Err(AbdicateError::NotLeading);
    }
    let nobody = (0..).find(|free| seen.membership_config.nodes().all(|(node, _)| node != free));
    let nobody = nobody.expect("a membership does not hold every number");
    let word = AppendEntriesRequest {
        vote: Vote::new_committed(seen.current_term + 1, nobody),
        prev_log_id: None,
        entries: Vec::new(),
        leader_commit: None,
    };
    raft.append_entries(word).await.map_err(|error| AbdicateError::Refused(Box::new(error)))?;
    let mut metrics = raft.metrics();
    let down = metrics.wait_for(|now| now.state != ServerState::Leader);
    match tokio::time::timeout(STEP_DOWN_MAX, down).await {
        Ok(Ok(_)) => {}
        _ => return Err(AbdicateError::StillLeading),
    }
    let mut voters = seen.membership_config.voter_ids();
    if voters.all(|voter| voter == id) {
        // Nobody else will; its own timer would only do the same some seconds later.
        raft.trigger().elect().await.map_err(|e| AbdicateError::Stopped(Box::new(e)))?;
    }
    Ok(())
}
