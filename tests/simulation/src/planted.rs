//! Bugs that can be switched on, to prove that the invariants see them. Each has its counterpart
//! as a patch of the real code beside this (`planted/*.patch`).

use bramble_agent::reconciler::Reconciling;
use bramble_core::command::{Command, Entry, Rejection};
use bramble_core::event::Event;
use bramble_core::machine;
use bramble_core::model::State;
use bramble_master::consensus::simulated::ApplyEntry;
use bramble_master::offers::OfferBook;
use bramble_master::propose::{Committed, Propose, ProposeFuture};
use bramble_protocol::message::ToAgent;
use bramble_protocol::net::{read_frame, write_frame};
use std::sync::Arc;
use tokio::io::{DuplexStream, copy, duplex, split};

/// Bytes on their way through [`forget_removals`].
const PIPE_BYTES: usize = 16 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    /// A vote is answered before it is synced.
    UnsyncedVote,
    /// The placer, and who checks it, believe an offer that others have been placed on.
    StaleOffer,
    /// An agent that returns keeps what the cluster gave to another meanwhile.
    RunTwice,
    /// A status is acknowledged before it is committed.
    EarlyAcknowledgement,
}

impl Planted {
    pub const ALL: [Planted; 4] = [
        Planted::UnsyncedVote,
        Planted::StaleOffer,
        Planted::RunTwice,
        Planted::EarlyAcknowledgement,
    ];

    /// Its name, also of its patch.
    pub fn name(self) -> &'static str {
        match self {
            Planted::UnsyncedVote => "unsynced-vote",
            Planted::StaleOffer => "stale-offer",
            Planted::RunTwice => "run-twice",
            Planted::EarlyAcknowledgement => "early-acknowledgement",
        }
    }

    /// The invariants that it breaks.
    pub fn breaks(self) -> &'static [&'static str] {
        match self {
            Planted::UnsyncedVote => &[
                "one leader per term",
                "log matching",
                "no acknowledged write is lost",
                "raft's own assertions",
            ],
            Planted::StaleOffer => &["no overcommit"],
            Planted::RunTwice => &["no task on two agents", "converges"],
            Planted::EarlyAcknowledgement => &["converges"],
        }
    }

    pub fn named(name: &str) -> Option<Planted> {
        Planted::ALL.into_iter().find(|planted| planted.name() == name)
    }
}

/// The state machine.
pub fn apply(planted: Option<Planted>) -> ApplyEntry {
    match planted {
        Some(Planted::StaleOffer) => apply_trusting,
        _ => machine::apply,
    }
}

/// Takes every agent for ten times as large while it checks where tasks fit.
fn apply_trusting(state: &mut State, entry: &Entry) -> Result<Vec<Event>, Rejection> {
    if !matches!(entry.command, Command::Assign { .. }) {
        return machine::apply(state, entry);
    }
    let agents = state.agents.clone();
    for agent in state.agents.values_mut() {
        agent.total.cpus_milli *= 10;
        agent.total.mem_bytes *= 10;
    }
    let result = machine::apply(state, entry);
    state.agents = agents;
    result
}

/// The book of offers.
pub fn offers(planted: Option<Planted>) -> OfferBook {
    match planted {
        Some(Planted::StaleOffer) => OfferBook::trusting(),
        _ => OfferBook::default(),
    }
}

/// What the dispatcher proposes through.
pub fn statuses(planted: Option<Planted>, propose: &Arc<dyn Propose>) -> Arc<dyn Propose> {
    match planted {
        Some(Planted::EarlyAcknowledgement) => Arc::new(Early(propose.clone())),
        _ => propose.clone(),
    }
}

struct Early(Arc<dyn Propose>);

impl Propose for Early {
    fn propose(&self, command: Command) -> ProposeFuture<'_> {
        if !matches!(command, Command::RecordStatus { .. }) {
            return self.0.propose(command);
        }
        let propose = self.0.clone();
        tokio::spawn(async move { propose.propose(command).await });
        let told = Committed { index: 0, events: Vec::new() };
        Box::pin(std::future::ready(Ok(told)))
    }
}

/// The master's side of a session, such that what a complete set leaves out stays.
pub fn forget_removals(master: DuplexStream, reconciling: Reconciling) -> DuplexStream {
    let (near, far) = duplex(PIPE_BYTES);
    tokio::spawn(async move {
        let (mut from_master, mut to_master) = split(master);
        let (mut from_agent, mut to_agent) = split(far);
        let down = async {
            while let Ok(Some(mut said)) = read_frame::<ToAgent>(&mut from_master).await {
                if let ToAgent::Assignments(set) = &mut said
                    && set.base.is_none()
                {
                    set.base = Some(reconciling.held.borrow().generation);
                }
                if write_frame(&mut to_agent, &said).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            biased;
            () = down => {}
            _ = copy(&mut from_agent, &mut to_master) => {}
        }
    });
    near
}
