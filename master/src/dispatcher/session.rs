//! One agent's session: what comes up is committed before it is acknowledged, what goes down
//! follows the state.

use super::assignments::Told;
use super::line::Line;
use super::{DispatchError, Dispatcher, holders, lease};
use bramble_core::command::Command;
use bramble_core::model::{Agent, AgentId, NodeId, NodeRole, State, VolumeId};
use bramble_protocol::message::{StatusKey, ToAgent, ToMaster};
use bramble_protocol::net as frame;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

/// Frames waiting to go down besides assignment sets (acknowledgements, resync requests).
const OUTBOX_FRAMES_MAX: usize = 64;
/// Longest wait for an agent to say who it is.
const HELLO_MAX: Duration = Duration::from_secs(10);
/// Requests for a lease that wait: the next one comes soon enough.
const LEASES_MAX: usize = 1;
/// Volumes named by one order to remove them; the next are told when these are gone.
const VOLUMES_TOLD_MAX: usize = 1000;

pub(super) enum Down {
    Say(ToAgent),
    Resync,
}

/// A session whose agent has said who it is.
pub(super) struct Opened<S, R> {
    send: S,
    receive: R,
    agent: Agent,
}

/// Hear who speaks. Nothing of an earlier session is touched before it may.
pub(super) async fn open<S, R: AsyncRead + Unpin>(
    dispatcher: &Dispatcher,
    agent_id: &AgentId,
    line: &Line,
    accepted: impl Future<Output = Result<(S, R), DispatchError>>,
) -> Result<Opened<S, R>, DispatchError> {
    let said = async {
        let (send, mut receive) = accepted.await?;
        let (agent, life) = hello(agent_id, &mut receive).await?;
        Ok::<_, DispatchError>((Opened { send, receive, agent }, life))
    };
    let (opened, life) =
        tokio::time::timeout(HELLO_MAX, said).await.map_err(|_| DispatchError::NoHelloInTime)??;
    let node_id = NodeId::new(agent_id.as_str());
    if let Some(link) = line.connection()
        && !dispatcher.callers.is_the_one(&node_id, life, link).await
    {
        return Err(DispatchError::Cloned);
    }
    if let Some(other) = dispatcher.namesake(&opened.agent) {
        return Err(DispatchError::NameTaken { name: opened.agent.name, other });
    }
    Ok(opened)
}

pub(super) async fn run<S: AsyncWrite + Unpin, R: AsyncRead + Unpin>(
    dispatcher: &Dispatcher,
    agent_id: &AgentId,
    line: &Line,
    opened: Opened<S, R>,
) -> Result<(), DispatchError> {
    let Opened { mut send, receive, agent } = opened;
    tracing::info!(%agent_id, name = %agent.name, "an agent's session began");
    let floor = dispatcher.propose.propose(Command::RegisterAgent { agent }).await?.index;
    dispatcher.offers.open(agent_id, floor);
    frame::write_frame(&mut send, &ToAgent::Welcome).await?;
    let issuer = issuer(dispatcher, line);
    let (outbox, inbox) = mpsc::channel(OUTBOX_FRAMES_MAX);
    let (asks, asked) = mpsc::channel(LEASES_MAX);
    tokio::select! {
        () = lease::grant(dispatcher, agent_id, asked, outbox.clone()) => Ok(()),
        ended = listen(dispatcher, agent_id, receive, outbox, asks) => ended,
        ended = tell(dispatcher, agent_id, send, inbox, issuer) => ended,
        closed = line.closed() => Err(closed),
    }
}

/// The authority that certified this link, as far as it is the present one; else nothing, and
/// the agent is certified anew. What is no link has no certificate to replace.
fn issuer(dispatcher: &Dispatcher, line: &Line) -> Vec<u8> {
    let present = dispatcher.present_ca().unwrap_or_default();
    let current = line.connection().is_none_or(|link| frame::issued_by(link, &present));
    if current { present } else { Vec::new() }
}

async fn hello(
    agent_id: &AgentId,
    receive: &mut (impl AsyncRead + Unpin),
) -> Result<(Agent, u64), DispatchError> {
    let Some(ToMaster::Hello { agent, life }) = frame::read_frame(receive).await? else {
        return Err(DispatchError::NoHello);
    };
    if agent.id != *agent_id {
        let node = NodeId::new(agent_id.as_str());
        return Err(DispatchError::WrongAgent { node, agent: agent.id });
    }
    Ok((agent, life))
}

/// Read the agent's frames until it closes its side.
async fn listen(
    dispatcher: &Dispatcher,
    agent_id: &AgentId,
    mut receive: impl AsyncRead + Unpin,
    outbox: mpsc::Sender<Down>,
    asks: mpsc::Sender<u64>,
) -> Result<(), DispatchError> {
    while let Some(said) = frame::read_frame(&mut receive).await? {
        match said {
            ToMaster::Hello { .. } => return Err(DispatchError::NoHello),
            ToMaster::Offer(offer) if offer.agent_id == *agent_id => dispatcher.offers.put(offer),
            ToMaster::Offer(offer) => {
                tracing::warn!(%agent_id, other = %offer.agent_id, "an offer for another agent");
            }
            ToMaster::Statuses(statuses) => {
                let keys = statuses
                    .iter()
                    .map(|s| StatusKey { task_id: s.task_id.clone(), sequence: s.sequence })
                    .collect();
                dispatcher.propose.propose(Command::RecordStatus { statuses }).await?;
                if outbox.send(Down::Say(ToAgent::Acknowledge(keys))).await.is_err() {
                    return Ok(());
                }
            }
            ToMaster::VolumesRemoved(ids) => {
                tracing::info!(%agent_id, volumes = ids.len(), "given up volumes are gone");
                let agent_id = agent_id.clone();
                dispatcher.propose.propose(Command::ForgetVolumes { agent_id, ids }).await?;
            }
            ToMaster::Renew { asked_ms } => {
                // One that waits already is as good.
                let _ = asks.try_send(asked_ms);
            }
            ToMaster::Images(images) => dispatcher.holders.put(agent_id, images),
            ToMaster::WhoHolds { inquiry, reference, digest } => {
                let holders = holders::of(dispatcher, agent_id, &reference, digest.as_deref());
                if outbox.send(Down::Say(ToAgent::Holders { inquiry, holders })).await.is_err() {
                    return Ok(());
                }
            }
            ToMaster::Resync => {
                if outbox.send(Down::Resync).await.is_err() {
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

/// Follow the state: send what changed for this agent, and what the reader wants said.
async fn tell(
    dispatcher: &Dispatcher,
    agent_id: &AgentId,
    mut send: impl AsyncWrite + Unpin,
    mut inbox: mpsc::Receiver<Down>,
    mut issuer: Vec<u8>,
) -> Result<(), DispatchError> {
    let mut changes = dispatcher.store.watch();
    let mut addresses = dispatcher.directory.changes();
    let mut told = Told::default();
    let mut told_given_up = Vec::new();
    let mut told_masters = Vec::new();
    let mut told_members = None;
    loop {
        changes.mark_unchanged();
        addresses.mark_unchanged();
        let masters = dispatcher.directory.gossip_of_masters();
        if masters != told_masters {
            frame::write_frame(&mut send, &ToAgent::Masters(masters.clone())).await?;
            told_masters = masters;
        }
        let members = dispatcher.store.read(members);
        if told_members.as_ref() != Some(&members) {
            frame::write_frame(&mut send, &members).await?;
            told_members = Some(members);
        }
        if dispatcher.present_ca().is_some_and(|ca| ca != issuer) {
            match dispatcher.certify(agent_id) {
                Ok((certificate, ca)) => {
                    issuer.clone_from(&ca);
                    frame::write_frame(&mut send, &ToAgent::Identity { certificate, ca }).await?;
                }
                // The authority is not in this master's hands yet; the next change tries again.
                Err(error) => tracing::info!(%agent_id, error, "not certified anew yet"),
            }
        }
        let vault = &dispatcher.vault;
        if let Some(set) = dispatcher.store.read(|state| told.next(state, agent_id, vault)) {
            tracing::debug!(%agent_id, generation = set.generation, put = set.put.len(),
                remove = set.remove.len(), "assignments go down");
            frame::write_frame(&mut send, &ToAgent::Assignments(set)).await?;
        }
        // After the assignments: a task that used such a volume is known to be over.
        let given_up = dispatcher.store.read(|state| given_up(state, agent_id));
        if given_up != told_given_up {
            if !given_up.is_empty() {
                tracing::info!(%agent_id, volumes = ?given_up, "volumes are given up");
                frame::write_frame(&mut send, &ToAgent::RemoveVolumes(given_up.clone())).await?;
            }
            told_given_up = given_up;
        }
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return Ok(()) },
            changed = addresses.changed() => if changed.is_err() { return Ok(()) },
            down = inbox.recv() => match down {
                Some(Down::Say(frame)) => frame::write_frame(&mut send, &frame).await?,
                Some(Down::Resync) => told.forget(),
                None => return Ok(()),
            },
        }
    }
}

fn members(state: &State) -> ToAgent {
    let masters = state.nodes.values().filter(|node| node.role != NodeRole::Agent);
    ToAgent::Members {
        masters: masters.map(|node| node.id.clone()).collect(),
        removed: state.removed.keys().cloned().collect(),
    }
}

/// Volumes that this agent has yet to remove.
fn given_up(state: &State, agent_id: &AgentId) -> Vec<VolumeId> {
    let volumes = state.given_up.get(agent_id);
    volumes.into_iter().flat_map(|v| v.keys()).take(VOLUMES_TOLD_MAX).cloned().collect()
}
