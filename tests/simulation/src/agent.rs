//! An agent in the world: the real reconciler and the real conversation over a ledger in memory
//! and the world's machine. Only dialling is written anew, since QUIC is not here.

use crate::machine::Machine;
use crate::net::{Net, Packet, Place};
use crate::planted::{self, Planted};
use crate::port::Port;
use bramble_agent::ledger::simulated::Paper;
use bramble_agent::reconciler::{Reconciler, Reconciling};
use bramble_agent::session::SessionError;
use bramble_agent::session::simulated::converse;
use bramble_core::model::{Agent, NodeId};
use bramble_protocol::net::Directory;
use rand::Rng;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::split;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Shortest and longest pause before dialling again, as `agent::session` has them.
const REDIAL_MIN: Duration = Duration::from_millis(50);
const REDIAL_MAX: Duration = Duration::from_secs(2);

/// What outlives the agent's process.
#[derive(Clone)]
pub struct AgentNode {
    pub record: Agent,
    pub paper: Paper,
    pub machine: Machine,
    /// What the running agent lets the world see.
    pub seen: Arc<Mutex<Option<Reconciling>>>,
}

impl AgentNode {
    pub fn new(record: Agent) -> Self {
        let (paper, machine, seen) = (Paper::default(), Machine::new(), Arc::default());
        Self { record, paper, machine, seen }
    }

    pub fn reconciling(&self) -> Option<Reconciling> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Live until the runtime is dropped.
    pub async fn live(
        self,
        net: Net,
        me: Place,
        masters: Arc<Vec<NodeId>>,
        planted: Option<Planted>,
    ) {
        let port = Port::new(net, me);
        let (sender, mut inbox) = mpsc::unbounded_channel();
        port.net.plug(me, sender);
        let (ledger, contents) = self.paper.open().expect("its own ledger is readable");
        let (performer, boot_id) = (Arc::new(self.machine.clone()), self.machine.boot_id());
        let (reconciler, reconciling) =
            Reconciler::recover(performer, ledger, contents, boot_id).await;
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(reconciling.clone());
        tokio::spawn(reconciler.run(CancellationToken::new()));
        tokio::spawn(keep(self.record, reconciling, port.clone(), masters, planted));
        while let Some(packet) = inbox.recv().await {
            if let Some(Packet::Open { line, .. }) = port.take(packet) {
                port.net.finish(line, me);
            }
        }
    }
}

/// Keep a session with some master, one after the other, as `agent::session::keep` does.
async fn keep(
    record: Agent,
    reconciling: Reconciling,
    port: Arc<Port>,
    masters: Arc<Vec<NodeId>>,
    planted: Option<Planted>,
) {
    let mut pause = REDIAL_MIN;
    let mut turn = rand::rng().random_range(0..masters.len());
    // Addresses mean nothing here; whom to dial is the world's list.
    let directory = Directory::default();
    loop {
        let mut stream = port.dial(turn);
        if planted == Some(Planted::RunTwice) {
            stream = planted::forget_removals(stream, reconciling.clone());
        }
        let (receive, send) = split(stream);
        let mut welcomed = false;
        let ended =
            converse(&record, &reconciling, &directory, send, receive, || welcomed = true).await;
        tracing::debug!(me = port.me, master = turn, welcomed, ?ended, "session ended");
        if welcomed {
            reconciling.led(false).await;
            pause = REDIAL_MIN;
        }
        turn = (turn + 1) % masters.len();
        if let Err(SessionError::NotLeading { leader: Some(leader), .. }) = ended {
            pause = REDIAL_MIN;
            turn = masters.iter().position(|id| *id == leader).unwrap_or(turn);
        }
        let jittered = pause.mul_f64(rand::rng().random_range(0.5..1.0));
        tokio::time::sleep(jittered).await;
        pause = (pause * 2).min(REDIAL_MAX);
    }
}
