//! The proof of leading: the door through which the dispatcher asks consensus, beyond what either
//! believes.

use std::future::Future;
use std::pin::Pin;

/// Resolves to whether this master leads.
pub type ProofFuture<'a> = Pin<Box<dyn Future<Output = bool> + Send + 'a>>;

/// Whether this master leads, not as far as it knows but beyond doubt.
pub trait Proof: Send + Sync {
    /// Prove that this master was the leader at some moment after the call, and that its store holds
    /// all that was committed until then. `false` where it cannot.
    fn prove(&self) -> ProofFuture<'_>;
}
