//! The session with the leader: dial, say hello, then statuses and offers up, assignments down.
//!
//! Owns the connection and nothing that must outlive it: a new session sends again whatever is
//! not acknowledged. Without a master it waits and dials; nothing else of the agent waits for it.

mod doubters;
#[cfg(feature = "simulation")]
pub mod simulated;
mod speak;

use crate::hardware::Hardware;
use crate::reconciler::Reconciling;
use crate::streams::Streams;
use bramble_core::model::{Agent, NodeId};
use bramble_protocol::message::{AssignmentSet, Sighting};
use bramble_protocol::net::{Alpn, Directory, Endpoint, EndpointError, Farewell, FrameError, Link};
use doubters::Doubters;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use rand::Rng;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Shortest and longest pause before dialling again; jittered, because after an outage all agents
/// come at once.
const REDIAL_MIN: Duration = Duration::from_millis(50);
const REDIAL_MAX: Duration = Duration::from_secs(2);
/// Pause where the cluster does not want this node: only a person changes that.
const REDIAL_UNWANTED: Duration = Duration::from_secs(30);
/// Head start of an address over the next one.
const STAGGER: Duration = Duration::from_millis(100);
/// How often a session is looked at, and after how many looks in a row that found nothing new its
/// leader is left: it answers every keep-alive, of which there is one each second.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const SILENT_LOOKS_MAX: u64 = 3;
/// Codes with which this side closes a connection.
const CLOSE_LEAVING: u32 = 0;
const CLOSE_FAILED: u32 = 1;

#[derive(Debug, Error)]
pub enum SessionError {
    #[error("no master is known")]
    NobodyKnown,
    #[error("dialling the masters")]
    Dial(#[source] EndpointError),
    #[error("opening the session's stream")]
    Open(#[source] quinn::ConnectionError),
    #[error("a frame of the session")]
    Frame(#[from] FrameError),
    #[error("the leader did not welcome this agent in time")]
    NotWelcomed,
    #[error("this master does not lead")]
    NotLeading { leader: Option<NodeId>, masters: Vec<Sighting> },
    #[error("the leader spoke before its welcome")]
    OutOfTurn,
    #[error("the leader ended the session")]
    Ended,
    #[error("the agent has other attributes by now, and says hello anew")]
    Changed,
    #[error("nothing was heard of the leader for {} s", LOOK_EVERY.as_secs() * SILENT_LOOKS_MAX)]
    Silent,
    #[error("the connection was lost")]
    Lost(#[source] quinn::ConnectionError),
    #[error("{}", .0.reason())]
    Farewell(Farewell),
    #[error("master {0} has heard that this node was removed from the cluster")]
    TurnedAway(NodeId),
    #[error("an assignment set was not taken")]
    Reconcile(#[from] crate::reconciler::ReconcileError),
}

/// What a session speaks for.
pub(crate) struct Speaker {
    /// Without what its hardware says of itself.
    pub agent: Agent,
    pub hardware: watch::Receiver<Arc<Hardware>>,
    pub reconciling: Reconciling,
    pub streams: Arc<Streams>,
    /// Where masters are looked up, and what is heard of them is noted.
    pub directory: Arc<Directory>,
}

/// Keep a session with whichever master leads, until told to leave.
pub(crate) async fn keep(endpoint: Arc<Endpoint>, speaker: Speaker, leave: CancellationToken) {
    let mut pause = REDIAL_MIN;
    let mut preferred: Option<NodeId> = None;
    let mut doubters = Doubters::default();
    let mut addresses = speaker.directory.changes();
    loop {
        addresses.mark_unchanged();
        let mut welcomed = false;
        let first = preferred.take();
        let ended = tokio::select! {
            () = leave.cancelled() => return,
            ended = session(&endpoint, &speaker, first.as_ref(), &doubters, &mut welcomed) => ended,
        };
        if welcomed {
            speaker.reconciling.led(false).await;
            (pause, doubters) = (REDIAL_MIN, Doubters::default());
        }
        // What one master has heard is final once the leader has said it, to any part of the node.
        let removed = *endpoint.verdict().borrow() == Some(Farewell::Removed);
        let ended = match ended {
            Err(SessionError::TurnedAway(_)) if removed => {
                Err(SessionError::Farewell(Farewell::Removed))
            }
            ended => ended,
        };
        match ended {
            // Another word at once: who leads was just heard. Its own word is the last, so this
            // does not go round in circles without a pause.
            Err(SessionError::NotLeading { leader, masters }) => {
                masters.iter().for_each(|sighting| speaker.directory.hear(sighting));
                tracing::debug!(?leader, "this master does not lead");
                if leader.is_some() {
                    pause = REDIAL_MIN;
                }
                preferred = leader;
            }
            Err(SessionError::Farewell(farewell)) => {
                unwanted(&endpoint, &speaker, farewell).await;
                tokio::select! {
                    () = leave.cancelled() => return,
                    () = tokio::time::sleep(jittered(REDIAL_UNWANTED)) => continue,
                }
            }
            Err(SessionError::TurnedAway(master)) => doubters.heard(master),
            Err(error) => {
                let error: &dyn std::error::Error = &error;
                tracing::info!(error, "no session with the leader");
            }
            Ok(()) => {}
        }
        tokio::select! {
            () = leave.cancelled() => return,
            _ = addresses.changed() => {}
            () = tokio::time::sleep(jittered(pause)) => pause = (pause * 2).min(REDIAL_MAX),
        }
    }
}

/// Stop what runs here: the cluster has replaced it elsewhere, or it belongs to another machine.
async fn unwanted(endpoint: &Endpoint, speaker: &Speaker, farewell: Farewell) {
    endpoint.judged(Some(farewell));
    let generation = speaker.reconciling.held.borrow().generation;
    let nothing = AssignmentSet { generation, base: None, ..AssignmentSet::default() };
    if let Err(error) = speaker.reconciling.follow(nothing).await {
        tracing::error!(%error, "the tasks of this node were not stopped");
    }
}

fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(rand::rng().random_range(0.5..1.0))
}

/// Dial every address of a master, each a little after the one before; the first that answers is
/// taken. With `preferred`, its addresses come first, and those of `doubters` last.
async fn dial(
    endpoint: &Endpoint,
    directory: &Directory,
    preferred: Option<&NodeId>,
    doubters: &Doubters,
) -> Result<Link, SessionError> {
    let mut places = directory.masters();
    // A stable sort: what was seen last stays first among equals.
    places.sort_by_key(|(id, _)| {
        (doubters.contains(id.as_ref()), preferred.is_some() && id.as_ref() != preferred)
    });
    let dials = places.into_iter().enumerate().map(|(turn, (id, address))| async move {
        tokio::time::sleep(STAGGER * u32::try_from(turn).unwrap_or(u32::MAX)).await;
        // Any master will do, also one that took another's place at its address.
        let expected = id.as_ref().filter(|id| preferred == Some(*id));
        endpoint.connect(address, Alpn::Agent, expected).await
    });
    let mut dials: FuturesUnordered<_> = dials.collect();
    let mut last = SessionError::NobodyKnown;
    while let Some(dialled) = dials.next().await {
        match dialled {
            Ok(link) => return Ok(link),
            Err(error) => last = SessionError::Dial(error),
        }
    }
    Err(last)
}

/// One session, from dialling to its end.
async fn session(
    endpoint: &Endpoint,
    speaker: &Speaker,
    preferred: Option<&NodeId>,
    doubters: &Doubters,
    welcomed: &mut bool,
) -> Result<(), SessionError> {
    let link = dial(endpoint, &speaker.directory, preferred, doubters).await?;
    let connection = Closing(link.connection.clone());
    let address: SocketAddr = link.connection.remote_address();
    if let Some(peer) = &link.peer {
        speaker.directory.note(&peer.node_id, peer.role, address);
    }
    let told = |error| {
        let Some(reason) = connection.0.close_reason() else { return error };
        match (Farewell::of(&reason), &link.peer) {
            (Some(farewell), _) => SessionError::Farewell(farewell),
            (None, Some(peer)) if Farewell::is_hearsay(&reason) => {
                SessionError::TurnedAway(peer.node_id.clone())
            }
            _ => error,
        }
    };
    let agent = speak::with_hardware(&speaker.agent, &speaker.hardware.borrow());
    let opened = connection.0.open_bi().await.map_err(SessionError::Open);
    let (mut send, mut receive) = opened.map_err(told)?;
    let greeted = speak::greet(&agent, endpoint.life(), &mut send, &mut receive).await;
    greeted.map_err(told)?;
    *welcomed = true;
    endpoint.judged(None);
    speaker.reconciling.led(true).await;
    tracing::info!(%address, "session with the leader");
    let Speaker { agent: bare, reconciling, directory, streams, hardware } = speaker;
    let (images, endpoint) = (streams.images.exchange(), Some(endpoint));
    let heard = speak::Heard { reconciling, directory, images, endpoint, hardware, bare };
    let ended = tokio::select! {
        ended = speak::speak(&agent, heard, send, receive) => ended,
        lost = serve_streams(&connection.0, streams) => Err(SessionError::Lost(lost)),
        () = silence(&connection.0) => Err(SessionError::Silent),
    };
    if let Err(error) = &ended {
        connection.0.close(CLOSE_FAILED.into(), error.to_string().as_bytes());
    }
    ended.map_err(told)
}

/// Resolves once nothing was received for too long. QUIC itself waits longer before it gives up a
/// link; here another master may be there to serve this agent.
async fn silence(connection: &quinn::Connection) {
    let packets = || connection.stats().udp_rx.datagrams;
    let (mut silent, mut last) = (0, packets());
    // Looks are counted, not time: a machine that stood still for a while heard nobody in it, and
    // that is not the leader's silence.
    while silent < SILENT_LOOKS_MAX {
        tokio::time::sleep(LOOK_EVERY).await;
        let now = packets();
        silent = if now == last { silent + 1 } else { 0 };
        last = now;
    }
}

/// Closes a connection when its session is dropped half way.
struct Closing(quinn::Connection);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close(CLOSE_LEAVING.into(), b"leaving");
    }
}

/// Serve what the master opens on the connection; they all end with it.
async fn serve_streams(
    connection: &quinn::Connection,
    streams: &Arc<Streams>,
) -> quinn::ConnectionError {
    let mut serving = JoinSet::new();
    loop {
        tokio::select! {
            accepted = connection.accept_bi() => match accepted {
                // QUIC's limit of open streams bounds their number.
                Ok((send, receive)) => {
                    let streams = Arc::clone(streams);
                    serving.spawn(async move { streams.serve(send, receive).await });
                }
                Err(error) => return error,
            },
            Some(_) = serving.join_next() => {}
        }
    }
}
