//! When the store may be read as the cluster's: once a quorum has said, after the reader asked,
//! that it still follows this leader.
//!
//! No lease is believed: clocks that drift, or a process that was held up, would turn one into
//! stale answers. Instead readers that wait together share one round of heartbeats.

use super::Consensus;
use super::types::{Raft, RaftId};
use crate::masters::{ReadError, ReadFuture, ReadGate};
use openraft::ServerState;
use openraft::error::{CheckIsLeaderError, RaftError};
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Mutex;

/// How long a quorum may take to answer.
const ROUND_TIME_MAX: Duration = Duration::from_secs(1);

/// The rounds of one voter, one at a time.
#[derive(Default)]
pub(super) struct Rounds {
    /// Orders arrivals and beginnings of rounds.
    moment: AtomicU64,
    /// When the last round began, and what it found.
    last: Mutex<Option<(u64, Result<(), ReadError>)>>,
}

impl Rounds {
    /// Wait for a round that began after this call, or be the one that begins it.
    async fn join<F>(&self, round: impl FnOnce() -> F) -> Result<(), ReadError>
    where
        F: Future<Output = Result<(), ReadError>>,
    {
        let arrived = self.moment.fetch_add(1, Ordering::SeqCst);
        let mut last = self.last.lock().await;
        if let Some((begun, found)) = &*last
            && *begun > arrived
        {
            return found.clone();
        }
        let begun = self.moment.fetch_add(1, Ordering::SeqCst);
        let found = round().await;
        *last = Some((begun, found.clone()));
        found
    }
}

impl ReadGate for Consensus {
    fn fresh(&self) -> ReadFuture<'_> {
        Box::pin(async move {
            if !self.is_leader() {
                return Err(ReadError::NotLeader);
            }
            let Ok(raft) = self.raft() else { return Err(ReadError::NotLeader) };
            if is_alone(&raft, self.id) {
                return Ok(());
            }
            self.rounds.join(|| ask_quorum(raft)).await
        })
    }
}

/// Whether this is the only voter: nobody else can lead then, and there is nobody to ask.
fn is_alone(raft: &Raft, id: RaftId) -> bool {
    let metrics = raft.metrics();
    let seen = metrics.borrow();
    let mut voters = seen.membership_config.voter_ids();
    seen.state == ServerState::Leader && voters.all(|voter| voter == id)
}

async fn ask_quorum(raft: Raft) -> Result<(), ReadError> {
    match tokio::time::timeout(ROUND_TIME_MAX, raft.ensure_linearizable()).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(RaftError::APIError(CheckIsLeaderError::ForwardToLeader(_)))) => {
            Err(ReadError::NotLeader)
        }
        Ok(Err(_)) | Err(_) => Err(ReadError::NoQuorum),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::future::join_all;
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use tokio::sync::Semaphore;

    #[tokio::test]
    async fn readers_that_wait_together_share_a_round_that_began_after_them() {
        let rounds = Arc::new(Rounds::default());
        let (begun, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
        let read = || {
            let (rounds, begun, gate) = (rounds.clone(), begun.clone(), gate.clone());
            tokio::spawn(async move {
                let round = || async {
                    begun.fetch_add(1, Ordering::SeqCst);
                    gate.acquire().await.unwrap().forget();
                    Ok(())
                };
                rounds.join(round).await
            })
        };
        let first = read();
        while begun.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        // These came while the first round was under way: it proves nothing to them.
        let later: Vec<_> = (0..50).map(|_| read()).collect();
        tokio::task::yield_now().await;
        gate.add_permits(1);
        first.await.unwrap().unwrap();
        while begun.load(Ordering::SeqCst) == 1 {
            tokio::task::yield_now().await;
        }
        gate.add_permits(1);
        for read in join_all(later).await {
            read.unwrap().unwrap();
        }
        assert_eq!(begun.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn a_reader_that_leaves_takes_its_round_along() {
        let rounds = Rounds::default();
        let endless = rounds.join(std::future::pending);
        let left = tokio::time::timeout(Duration::from_millis(1), endless).await;
        assert!(left.is_err());
        assert_eq!(
            rounds.join(|| async { Err(ReadError::NoQuorum) }).await,
            Err(ReadError::NoQuorum)
        );
        assert_eq!(rounds.join(|| async { Ok(()) }).await, Ok(()), "found anew each time");
    }
}
