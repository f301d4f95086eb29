//! The dispatcher: the only room that talks to agents.
//!
//! One session per agent: assignments go down as complete sets or differences, statuses come up
//! and are acknowledged only once they are committed. Streams (logs, exec, images) are opened on
//! the same connection when the API asks.

mod assignments;
mod holders;
mod inquiry;
mod lease;
mod line;
mod liveness;
mod session;
#[cfg(feature = "simulation")]
mod simulated;

use crate::authority::Authority;
use crate::callers::Callers;
use crate::consensus::Leadership;
use crate::holders::HolderBook;
use crate::offers::OfferBook;
use crate::proof::Proof;
use crate::propose::{Propose, ProposeError};
use crate::store::Store;
use crate::streams::{AgentStream, OpenStream, StreamError, StreamFuture};
use crate::vault::Vault;
use bramble_core::model::{Agent, AgentId, NodeId, NodeRole};
use bramble_protocol::message::{StreamReply, StreamRequest, ToAgent};
use bramble_protocol::net::{self as frame, Directory, Endpoint, Farewell, FrameError, Link};
use lease::Prover;
use line::Line;
use session::Down;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

/// Codes with which the master closes a connection.
const TURNED_AWAY: u32 = 1;
const REPLACED: u32 = 2;
const NOT_LEADING: u32 = 3;
/// Longest wait for an agent to take the word that this master does not lead.
const NOT_LEADING_MAX: Duration = Duration::from_secs(2);

#[derive(Debug, Error)]
pub enum DispatchError {
    #[error("the peer showed no certificate of this cluster")]
    Unidentified,
    #[error("node {0} is not admitted to this cluster, or was removed from it")]
    NotAdmitted(NodeId),
    #[error("node {0} was admitted as a master only")]
    NotAnAgent(NodeId),
    #[error("node {node} spoke as agent {agent}")]
    WrongAgent { node: NodeId, agent: AgentId },
    #[error("the agent's first frame was no hello")]
    NoHello,
    #[error("the agent said no hello in time")]
    NoHelloInTime,
    #[error("{}", Farewell::Cloned.reason())]
    Cloned,
    #[error(
        "a node named {name} is connected already ({other}), and constraints by hostname could \
         not tell the two apart: give this one another --name"
    )]
    NameTaken { name: String, other: AgentId },
    #[error("the session's stream")]
    Stream(#[from] quinn::ConnectionError),
    #[error("a frame of the session")]
    Frame(#[from] FrameError),
    #[error("a command of the session")]
    Propose(#[from] ProposeError),
}

/// Sessions by agent.
pub struct Dispatcher {
    store: Arc<Store>,
    propose: Arc<dyn Propose>,
    offers: Arc<OfferBook>,
    holders: HolderBook,
    vault: Arc<Vault>,
    prover: Prover,
    leadership: watch::Receiver<Leadership>,
    directory: Arc<Directory>,
    callers: Arc<Callers>,
    /// What agents are certified anew by.
    authority: Option<Arc<Authority>>,
    /// What agents are looked for with.
    endpoint: Option<Arc<Endpoint>>,
    /// The node of this master, whose agent needs no watching: it would die with it.
    own: Option<NodeId>,
    sessions: Mutex<BTreeMap<AgentId, Session>>,
    /// Agents whose last session ended with a goodbye.
    left: Mutex<BTreeSet<AgentId>>,
    next_session: AtomicU64,
    /// A level trigger: moves whenever a session began or ended.
    changed: watch::Sender<u64>,
}

struct Session {
    number: u64,
    line: Line,
}

impl Session {
    /// Packets received on it so far.
    fn packets(&self) -> u64 {
        self.line.packets()
    }
}

impl Dispatcher {
    pub fn new(
        store: Arc<Store>,
        propose: Arc<dyn Propose>,
        offers: Arc<OfferBook>,
        vault: Arc<Vault>,
        proof: Arc<dyn Proof>,
        leadership: watch::Receiver<Leadership>,
        directory: Arc<Directory>,
    ) -> Self {
        let (sessions, next_session) = (Mutex::default(), AtomicU64::new(1));
        Self {
            store,
            propose,
            offers,
            holders: HolderBook::default(),
            vault,
            prover: Prover::new(proof),
            leadership,
            directory,
            callers: Arc::default(),
            authority: None,
            endpoint: None,
            own: None,
            sessions,
            left: Mutex::default(),
            next_session,
            changed: watch::Sender::new(0),
        }
    }

    /// Share the book of who speaks to this master, and certify agents anew.
    pub fn certifying_with(mut self, authority: Arc<Authority>, callers: Arc<Callers>) -> Self {
        (self.authority, self.callers) = (Some(authority), callers);
        self
    }

    /// Look for silent agents with this endpoint, as the master of node `own`.
    pub fn looking_with(mut self, endpoint: Arc<Endpoint>, own: NodeId) -> Self {
        (self.endpoint, self.own) = (Some(endpoint), Some(own));
        self
    }

    fn is_own(&self, agent_id: &AgentId) -> bool {
        self.own.as_ref().is_some_and(|own| own.as_str() == agent_id.as_str())
    }

    fn left(&self) -> MutexGuard<'_, BTreeSet<AgentId>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sessions(&self) -> MutexGuard<'_, BTreeMap<AgentId, Session>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// End every session: this master leads no more, and its agents shall look for who does.
    pub fn dismiss(&self) {
        for session in self.sessions().values() {
            session.line.close(NOT_LEADING, "this master does not lead any more");
        }
    }

    fn present_ca(&self) -> Option<Vec<u8>> {
        self.store.read(|state| state.cluster.as_ref().map(|c| c.ca_certificate.clone()))
    }

    fn certify(&self, agent_id: &AgentId) -> Result<(Vec<u8>, Vec<u8>), String> {
        let node_id = NodeId::new(agent_id.as_str());
        let authority = self.authority.as_ref().ok_or("no authority is here")?;
        authority.certify(&node_id).map_err(|error| error.to_string())
    }

    /// End the session of one agent.
    pub fn end(&self, agent_id: &AgentId, farewell: Farewell) {
        if let Some(link) = self.sessions().get(agent_id).and_then(|s| s.line.connection()) {
            farewell.close(link);
        }
    }

    /// Say who leads instead of this master.
    async fn turn_away(&self, connection: &quinn::Connection) -> Result<(), DispatchError> {
        let (mut send, _receive) = connection.accept_bi().await?;
        frame::write_frame(&mut send, &self.who_leads()).await?;
        // The agent closes once it has read this; closing first could overtake it.
        let _ = send.finish();
        connection.closed().await;
        Ok(())
    }

    fn who_leads(&self) -> ToAgent {
        let leader = self.leadership.borrow().leader.clone();
        ToAgent::NotLeading { leader, masters: self.directory.gossip_of_masters() }
    }

    /// Serve one agent's link until it ends. A newer session of the same agent ends the older.
    pub async fn serve(&self, link: Link) {
        let line = Line::Link(link.connection.clone());
        if !self.leadership.borrow().here {
            let told = tokio::time::timeout(NOT_LEADING_MAX, self.turn_away(&link.connection));
            if !matches!(told.await, Ok(Ok(()))) {
                line.close(NOT_LEADING, "this master does not lead");
            }
            return;
        }
        let peer = link.peer.as_ref().map(|peer| &peer.node_id);
        let accepted = async { Ok(link.connection.accept_bi().await?) };
        self.hold(peer, line, accepted).await;
    }

    /// Hold a session of `peer` on the streams that `accepted` gives, until it ends.
    async fn hold<S: AsyncWrite + Unpin, R: AsyncRead + Unpin>(
        &self,
        peer: Option<&NodeId>,
        line: Line,
        accepted: impl Future<Output = Result<(S, R), DispatchError>>,
    ) {
        let agent_id = match self.admitted(peer) {
            Ok(agent_id) => agent_id,
            Err(error) => {
                tracing::warn!(%error, "an agent was turned away");
                line.close(TURNED_AWAY, &error.to_string());
                return;
            }
        };
        let opened = match session::open(self, &agent_id, &line, accepted).await {
            Ok(opened) => opened,
            Err(error) => {
                tracing::warn!(%agent_id, %error, "an agent was turned away");
                turn_out(&line, &error);
                return;
            }
        };
        let number = self.enter(&agent_id, &line);
        let ended = session::run(self, &agent_id, &line, opened).await;
        if line.was_left() {
            self.left().insert(agent_id.clone());
        }
        match ended {
            Ok(()) => tracing::info!(%agent_id, "an agent's session ended"),
            Err(error) => {
                tracing::info!(%agent_id, %error, "an agent's session ended");
                turn_out(&line, &error);
            }
        }
        self.leave(&agent_id, number);
    }

    /// Another agent of this name that is connected now.
    fn namesake(&self, agent: &Agent) -> Option<AgentId> {
        // Taken before the state is: whoever holds one of the two locks waits for no other.
        let connected: BTreeSet<AgentId> = self.sessions().keys().cloned().collect();
        self.store.read(|state| {
            // One that has this name already keeps it: the other is at fault.
            if state.agents.get(&agent.id).is_some_and(|known| known.name == agent.name) {
                return None;
            }
            let mut others = state.agents.values().filter(|other| other.name == agent.name);
            let other = others.find(|o| o.id != agent.id && connected.contains(&o.id));
            other.map(|other| other.id.clone())
        })
    }

    /// Who speaks, if the membership list has it as an agent.
    fn admitted(&self, peer: Option<&NodeId>) -> Result<AgentId, DispatchError> {
        let node_id = peer.ok_or(DispatchError::Unidentified)?;
        let role = self.store.read(|state| state.nodes.get(node_id).map(|node| node.role));
        match role {
            None => Err(DispatchError::NotAdmitted(node_id.clone())),
            Some(NodeRole::Master) => Err(DispatchError::NotAnAgent(node_id.clone())),
            Some(NodeRole::Full | NodeRole::Agent) => Ok(node_id.agent()),
        }
    }

    fn enter(&self, agent_id: &AgentId, line: &Line) -> u64 {
        let number = self.next_session.fetch_add(1, Ordering::Relaxed);
        let session = Session { number, line: line.clone() };
        self.left().remove(agent_id);
        let older = self.sessions().insert(agent_id.clone(), session);
        self.changed.send_modify(|n| *n += 1);
        if let Some(older) = older {
            older.line.close(REPLACED, "a newer session of this agent began");
        }
        number
    }

    fn leave(&self, agent_id: &AgentId, number: u64) {
        {
            let mut sessions = self.sessions();
            if sessions.get(agent_id).is_none_or(|session| session.number != number) {
                return;
            }
            sessions.remove(agent_id);
        }
        self.offers.close(agent_id);
        self.holders.close(agent_id);
        // Whether it is away is for `liveness` to say: it may be back in a moment.
        self.changed.send_modify(|n| *n += 1);
    }

    /// Forget an agent's session: nothing is heard on it.
    fn drop_session(&self, agent_id: &AgentId) {
        let session = self.sessions().get(agent_id).map(|s| (s.number, s.line.clone()));
        if let Some((number, line)) = session {
            line.close(REPLACED, "nothing was heard of this agent");
            self.leave(agent_id, number);
        }
    }

    async fn open_stream(
        &self,
        agent_id: AgentId,
        request: StreamRequest,
    ) -> Result<AgentStream, StreamError> {
        let connection = self
            .sessions()
            .get(&agent_id)
            .and_then(|session| session.line.connection().cloned())
            .ok_or_else(|| StreamError::AgentAway(agent_id.clone()))?;
        let failed = |what: &dyn std::fmt::Display| StreamError::Failed(what.to_string());
        let (mut send, mut receive) = connection.open_bi().await.map_err(|e| failed(&e))?;
        frame::write_frame(&mut send, &request).await.map_err(|e| failed(&e))?;
        match frame::read_frame(&mut receive).await.map_err(|e| failed(&e))? {
            Some(StreamReply::Ready) => Ok(AgentStream { send, receive }),
            Some(StreamReply::NotFound(what)) => Err(StreamError::NotFound(what)),
            Some(StreamReply::Failed(what)) => Err(StreamError::Failed(what)),
            None => Err(failed(&"the agent closed the stream without an answer")),
        }
    }
}

fn turn_out(line: &Line, error: &DispatchError) {
    match (error, line.connection()) {
        (DispatchError::Cloned, Some(connection)) => Farewell::Cloned.close(connection),
        (error, _) => line.close(TURNED_AWAY, &error.to_string()),
    }
}

impl OpenStream for Dispatcher {
    fn open(&self, agent: &AgentId, request: StreamRequest) -> StreamFuture<'_> {
        Box::pin(self.open_stream(agent.clone(), request))
    }

    fn connected(&self) -> Vec<AgentId> {
        self.sessions().keys().cloned().collect()
    }
}
