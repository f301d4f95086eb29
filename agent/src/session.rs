//! The session with the leader: dial, say hello, then statuses and offers up, assignments down.
//!
//! Owns the connection and nothing that must outlive it: a new session sends again whatever is
//! not acknowledged. Without a master it waits and dials; nothing else of the agent waits for it.

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

/// Where the leader is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leader {
    pub node_id: NodeId,
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

/// Keep a session with whoever leads, until told to leave.
pub(crate) async fn keep(
    endpoint: Arc<Endpoint>,
    speaker: Speaker,
    mut leaders: watch::Receiver<Option<Leader>>,
    leave: CancellationToken,
) {
    let mut pause = REDIAL_MIN;
    loop {
        let Some(leader) = next_leader(&mut leaders, &leave).await else { return };
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
        }
        if let Err(error) = ended {
            let error: &dyn std::error::Error = &error;
            tracing::info!(leader = %leader.node_id, address = %leader.address, error,
                "no session with the leader");
        }
        tokio::select! {
            () = leave.cancelled() => return,
            () = changed(&mut leaders, &leader) => pause = REDIAL_MIN,
            () = tokio::time::sleep(jittered(pause)) => pause = (pause * 2).min(REDIAL_MAX),
        }
    }
}

/// Wait for a leader; `None` when it is time to leave.
async fn next_leader(
    leaders: &mut watch::Receiver<Option<Leader>>,
    leave: &CancellationToken,
) -> Option<Leader> {
    let named = async {
        let named = leaders.wait_for(Option::is_some).await;
        named.ok().and_then(|leader| leader.clone())
    };
    tokio::select! {
        () = leave.cancelled() => None,
        Some(leader) = named => Some(leader),
        // Nobody will ever name one: the node is going down.
        else => None,
    }
}

/// Resolve when another leader, or another address of it, is named. An unknown leader is no
/// reason to leave one that still answers.
async fn changed(leaders: &mut watch::Receiver<Option<Leader>>, now: &Leader) {
    let other = |next: &Option<Leader>| next.as_ref().is_some_and(|next| next != now);
    if leaders.wait_for(other).await.is_err() {
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
        .connect(leader.address, Alpn::Agent, Some(&leader.node_id))
        .await
        .map_err(SessionError::Dial)?;
    let connection = Closing(link.connection.clone());
    let (mut send, mut receive) = connection.0.open_bi().await.map_err(SessionError::Open)?;
    speak::greet(&speaker.agent, &mut send, &mut receive).await?;
    *welcomed = true;
    tracing::info!(leader = %leader.node_id, address = %leader.address, "session with the leader");
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
