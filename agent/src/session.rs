//! The session with the leader: dial, say hello, then statuses and offers up, assignments down.
//!
//! Owns the connection and nothing that must outlive it: a new session sends again whatever is
//! not acknowledged. Without a master it waits and dials; nothing else of the agent waits for it.

#[cfg(feature = "simulation")]
pub mod simulated;
mod speak;

use crate::reconciler::Reconciling;
use crate::streams::Streams;
use bramble_core::model::{Agent, NodeId};
use bramble_protocol::net::{Alpn, Endpoint, EndpointError, FrameError};
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
const REDIAL_MAX: Duration = Duration::from_secs(5);
/// Codes with which this side closes a connection.
const CLOSE_LEAVING: u32 = 0;
const CLOSE_FAILED: u32 = 1;

/// Where a leader may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leader {
    /// `None`: any master of the cluster will do.
    pub node_id: Option<NodeId>,
    pub address: SocketAddr,
}

#[derive(Debug, Error)]
pub enum SessionError {
    #[error("dialling the leader")]
    Dial(#[source] EndpointError),
    #[error("opening the session's stream")]
    Open(#[source] quinn::ConnectionError),
    #[error("a frame of the session")]
    Frame(#[from] FrameError),
    #[error("the leader did not welcome this agent in time")]
    NotWelcomed,
    #[error("the leader spoke before its welcome")]
    OutOfTurn,
    #[error("the leader ended the session")]
    Ended,
    #[error("the connection was lost")]
    Lost(#[source] quinn::ConnectionError),
    #[error("an assignment set was not taken")]
    Reconcile(#[from] crate::reconciler::ReconcileError),
}

/// What a session speaks for.
pub(crate) struct Speaker {
    pub agent: Agent,
    pub reconciling: Reconciling,
    pub streams: Arc<Streams>,
}

/// Keep a session with one of `leaders`, until told to leave. They are tried in order, each
/// failure moving on to the next.
pub(crate) async fn keep(
    endpoint: Arc<Endpoint>,
    speaker: Speaker,
    mut leaders: watch::Receiver<Vec<Leader>>,
    leave: CancellationToken,
) {
    let mut pause = REDIAL_MIN;
    let mut turn = 0;
    loop {
        let Some(leader) = next_leader(&mut leaders, turn, &leave).await else { return };
        let mut welcomed = false;
        let ended = tokio::select! {
            () = leave.cancelled() => return,
            ended = session(&endpoint, &speaker, &leader, &mut welcomed) => ended,
            () = changed(&mut leaders, &leader) => {
                pause = REDIAL_MIN;
                continue;
            }
        };
        if welcomed {
            pause = REDIAL_MIN;
        } else {
            turn += 1;
        }
        if let Err(error) = ended {
            let error: &dyn std::error::Error = &error;
            tracing::info!(address = %leader.address, error,
                "no session with the leader");
        }
        tokio::select! {
            () = leave.cancelled() => return,
            () = changed(&mut leaders, &leader) => pause = REDIAL_MIN,
            () = tokio::time::sleep(jittered(pause)) => pause = (pause * 2).min(REDIAL_MAX),
        }
    }
}

/// Wait for a leader, and take the one whose turn it is; `None` when it is time to leave.
async fn next_leader(
    leaders: &mut watch::Receiver<Vec<Leader>>,
    turn: usize,
    leave: &CancellationToken,
) -> Option<Leader> {
    let named = async {
        let named = leaders.wait_for(|leaders| !leaders.is_empty()).await.ok()?;
        named.get(turn % named.len()).cloned()
    };
    tokio::select! {
        () = leave.cancelled() => None,
        Some(leader) = named => Some(leader),
        // Nobody will ever name one: the node is going down.
        else => None,
    }
}

/// Resolve when others are named and this one no longer is. Knowing none is no reason to leave one
/// that still answers.
async fn changed(leaders: &mut watch::Receiver<Vec<Leader>>, now: &Leader) {
    let others = |named: &Vec<Leader>| !named.is_empty() && !named.contains(now);
    if leaders.wait_for(others).await.is_err() {
        std::future::pending::<()>().await;
    }
}

fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(rand::rng().random_range(0.5..1.0))
}

/// One session, from dialling to its end.
async fn session(
    endpoint: &Endpoint,
    speaker: &Speaker,
    leader: &Leader,
    welcomed: &mut bool,
) -> Result<(), SessionError> {
    let link = endpoint
        .connect(leader.address, Alpn::Agent, leader.node_id.as_ref())
        .await
        .map_err(SessionError::Dial)?;
    let connection = Closing(link.connection.clone());
    let (mut send, mut receive) = connection.0.open_bi().await.map_err(SessionError::Open)?;
    speak::greet(&speaker.agent, &mut send, &mut receive).await?;
    *welcomed = true;
    tracing::info!(address = %leader.address, "session with the leader");
    let ended = tokio::select! {
        ended = speak::speak(&speaker.agent, &speaker.reconciling, send, receive) => ended,
        lost = serve_streams(&connection.0, &speaker.streams) => Err(SessionError::Lost(lost)),
    };
    if let Err(error) = &ended {
        connection.0.close(CLOSE_FAILED.into(), error.to_string().as_bytes());
    }
    ended
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
