//! The proof that this master leads, for leases.

use super::Consensus;
use crate::proof::{Proof, ProofFuture};
use std::time::Duration;

/// Longest wait for a quorum to say that this master leads; a lease is asked for more often than
/// it has to be.
const PROOF_MAX: Duration = Duration::from_secs(2);

impl Proof for Consensus {
    /// A round of heartbeats that begins now and is answered by a quorum, then whatever it says is
    /// committed is applied (Raft, section 6.4).
    fn prove(&self) -> ProofFuture<'_> {
        Box::pin(async {
            let Ok(raft) = self.raft() else { return false };
            let proven = tokio::time::timeout(PROOF_MAX, raft.ensure_linearizable());
            matches!(proven.await, Ok(Ok(_))) && self.is_leader()
        })
    }
}
