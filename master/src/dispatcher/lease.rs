//! Leases of tasks that must not run twice: an agent that asks is answered once this master has
//! proven, after it was asked, that it leads.
//!
//! Owns that order and the sharing of proofs. How long a lease lasts, and why a replacement is safe
//! after it, is `core::lease`.

use super::{Dispatcher, Down};
use crate::proof::Proof;
use bramble_core::lease::LEASE_MS;
use bramble_core::model::AgentId;
use bramble_protocol::message::ToAgent;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{Mutex, mpsc};

/// Proofs for all agents: those that ask while one is under way share the next.
pub(super) struct Prover {
    proof: Arc<dyn Proof>,
    begun: AtomicU64,
    last: Mutex<Proven>,
}

#[derive(Clone, Copy, Default)]
struct Proven {
    number: u64,
    leads: bool,
}

impl Prover {
    pub(super) fn new(proof: Arc<dyn Proof>) -> Self {
        Self { proof, begun: AtomicU64::new(0), last: Mutex::default() }
    }

    /// Whether this master is proven to lead by a proof that began after this call.
    pub(super) async fn prove(&self) -> bool {
        let asked = self.begun.load(Ordering::SeqCst);
        let mut last = self.last.lock().await;
        if last.number > asked {
            return last.leads;
        }
        let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let leads = self.proof.prove().await;
        *last = Proven { number, leads };
        leads
    }
}

/// Answer one agent's requests for a lease, until its session ends.
pub(super) async fn grant(
    dispatcher: &Dispatcher,
    agent_id: &AgentId,
    mut asked: mpsc::Receiver<u64>,
    outbox: mpsc::Sender<Down>,
) {
    while let Some(asked_ms) = asked.recv().await {
        // One that is recorded as away is being replaced: the session first has to say that it is
        // here again.
        let here = || dispatcher.store.read(|state| !state.away.contains_key(agent_id));
        if dispatcher.prover.prove().await && here() {
            let lease = Down::Say(ToAgent::Lease { asked_ms, ttl_ms: LEASE_MS });
            if outbox.send(lease).await.is_err() {
                return;
            }
        } else {
            tracing::debug!(%agent_id, "no lease: this master is not sure to lead");
        }
    }
    std::future::pending().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consensus::Leadership;
    use crate::offers::OfferBook;
    use crate::proof::ProofFuture;
    use crate::propose::{Propose, ProposeFuture};
    use crate::store::Store;
    use crate::vault::Vault;
    use bramble_core::command::Command;
    use bramble_core::model::{State, Time};
    use bramble_protocol::net::NodeKey;
    use futures_util::FutureExt;
    use std::sync::atomic::AtomicUsize;
    use tokio::sync::{Semaphore, watch};

    struct Sure(bool);

    impl Proof for Sure {
        fn prove(&self) -> ProofFuture<'_> {
            Box::pin(async { self.0 })
        }
    }

    struct Nothing;

    impl Propose for Nothing {
        fn propose(&self, _: Command) -> ProposeFuture<'_> {
            Box::pin(std::future::pending())
        }
    }

    #[tokio::test]
    async fn only_a_proven_leader_grants_and_only_to_an_agent_that_is_here() {
        let agent_id = AgentId::new("n1");
        for (leads, is_away, granted) in
            [(true, false, true), (false, false, false), (true, true, false)]
        {
            let mut state = State::default();
            if is_away {
                state.away.insert(agent_id.clone(), Time(1));
            }
            let store = Arc::new(Store::new(state));
            let key = NodeKey::generate().expect("a key");
            let vault = Arc::new(Vault::new(&key, store.clone(), Arc::new(Nothing)));
            let (offers, sure) = (Arc::new(OfferBook::default()), Arc::new(Sure(leads)));
            let leadership = watch::Sender::new(Leadership::default()).subscribe();
            let dispatcher = Dispatcher::new(
                store,
                Arc::new(Nothing),
                offers,
                vault,
                sure,
                leadership,
                Arc::default(),
            );
            let (asks, asked) = mpsc::channel(1);
            let (outbox, mut inbox) = mpsc::channel(1);
            asks.send(7).await.expect("taken");
            let granting = grant(&dispatcher, &agent_id, asked, outbox);
            assert!(granting.now_or_never().is_none(), "it ends with the session");
            let lease = match inbox.try_recv() {
                Ok(Down::Say(ToAgent::Lease { asked_ms, ttl_ms })) => Some((asked_ms, ttl_ms)),
                _ => None,
            };
            assert_eq!(lease, granted.then_some((7, LEASE_MS)), "{leads} {is_away}");
        }
    }

    struct Counted {
        proofs: AtomicUsize,
        gate: Semaphore,
    }

    impl Proof for Counted {
        fn prove(&self) -> ProofFuture<'_> {
            Box::pin(async {
                self.proofs.fetch_add(1, Ordering::SeqCst);
                self.gate.acquire().await.expect("open").forget();
                true
            })
        }
    }

    #[tokio::test]
    async fn a_proof_serves_those_who_asked_before_it_began() {
        let counted = Arc::new(Counted { proofs: AtomicUsize::new(0), gate: Semaphore::new(0) });
        let prover = Arc::new(Prover::new(counted.clone()));
        let ask = || {
            let prover = prover.clone();
            tokio::spawn(async move { prover.prove().await })
        };
        let first = ask();
        while counted.proofs.load(Ordering::SeqCst) < 1 {
            tokio::task::yield_now().await;
        }
        // These came while the first was under way: it says nothing about the moment they came.
        let others: Vec<_> = (0..10).map(|_| ask()).collect();
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        counted.gate.add_permits(2);
        assert!(first.await.expect("ends"));
        for other in others {
            assert!(other.await.expect("ends"));
        }
        assert_eq!(counted.proofs.load(Ordering::SeqCst), 2);
    }
}
