//! Standing links to other nodes, by their ids: dialled when first needed, kept while they live.
//!
//! Callers come and go by the millisecond (a vote, a forwarded request) and may be dropped at any
//! time, so a dial runs in a task of its own and whoever waits shares its outcome.

use super::directory::Directory;
use super::endpoint::{Alpn, Endpoint, EndpointError};
use super::farewell::Farewell;
use super::frame::{FrameError, read_frame, write_frame};
use bramble_core::model::NodeId;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use quinn::{Connection, ConnectionError, RecvStream, SendStream};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::Instant;

/// Head start of an address over the next one.
const STAGGER: Duration = Duration::from_millis(100);
/// Pause after every address of a node has failed, unless new ones turn up.
const DIAL_AGAIN: Duration = Duration::from_millis(250);

#[derive(Clone, Debug, Error)]
pub enum LinkError {
    #[error("no address of node {0} is known")]
    NoAddress(NodeId),
    #[error("node {node} cannot be reached: {reason}")]
    Unreachable { node: NodeId, reason: String },
    #[error("the link to node {node}")]
    Stream {
        node: NodeId,
        #[source]
        source: ConnectionError,
    },
    #[error("a frame on the link to node {node}: {reason}")]
    Frame { node: NodeId, reason: String },
    #[error("node {0} ended the stream without an answer")]
    NoAnswer(NodeId),
    #[error("node {node} says: {}", farewell.reason())]
    Farewell { node: NodeId, farewell: Farewell },
}

/// Links of one endpoint, by node and purpose.
pub struct Links {
    endpoint: Arc<Endpoint>,
    directory: Arc<Directory>,
    /// By node and protocol.
    slots: Mutex<BTreeMap<(NodeId, &'static str), Shared>>,
}

/// A slot, and word of its changes.
type Shared = Arc<watch::Sender<Slot>>;

#[derive(Clone, Debug)]
enum Slot {
    Idle,
    Dialling,
    Up(Connection),
    Down { since: Instant, book: u64, error: LinkError },
}

impl Links {
    pub fn new(endpoint: Arc<Endpoint>, directory: Arc<Directory>) -> Self {
        Self { endpoint, directory, slots: Mutex::default() }
    }

    /// Where nodes are looked up.
    pub fn directory(&self) -> &Arc<Directory> {
        &self.directory
    }

    /// The endpoint that dials.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// A standing link to `node`, dialled if there is none.
    ///
    /// # Errors
    /// When none of its addresses answers as that node.
    pub async fn to(&self, node: &NodeId, alpn: Alpn) -> Result<Connection, LinkError> {
        let slot = self.slot(node, alpn);
        let mut seen = slot.subscribe();
        loop {
            let now = seen.borrow_and_update().clone();
            match now {
                Slot::Up(link) => match link.close_reason() {
                    None => return Ok(link),
                    Some(reason) => {
                        self.parted(node, &slot, &reason)?;
                        self.dial(node, alpn, &slot);
                    }
                },
                Slot::Dialling => {}
                Slot::Down { since, book, error } => {
                    let news = *self.directory.changes().borrow() != book;
                    if !news && since.elapsed() < DIAL_AGAIN {
                        return Err(error);
                    }
                    self.dial(node, alpn, &slot);
                }
                Slot::Idle => self.dial(node, alpn, &slot),
            }
            // The sender is in our hands: it cannot be gone.
            let _ = seen.changed().await;
            if let Slot::Down { error, .. } = &*seen.borrow() {
                return Err(error.clone());
            }
        }
    }

    /// Pass on a verdict with which a link has ended, once: who asks again dials again.
    fn parted(
        &self,
        node: &NodeId,
        slot: &Shared,
        reason: &ConnectionError,
    ) -> Result<(), LinkError> {
        let Some(farewell) = Farewell::of(reason) else { return Ok(()) };
        self.endpoint.judged(Some(farewell));
        slot.send_if_modified(|now| {
            let ended = matches!(now, Slot::Up(link) if link.close_reason().is_some());
            if ended {
                *now = Slot::Idle;
            }
            ended
        });
        Err(LinkError::Farewell { node: node.clone(), farewell })
    }

    /// Open a stream to `node`.
    ///
    /// # Errors
    /// As [`Links::to`], and when the link breaks twice.
    pub async fn open(
        &self,
        node: &NodeId,
        alpn: Alpn,
    ) -> Result<(SendStream, RecvStream), LinkError> {
        // A link may have died unnoticed: the second one is fresh.
        if let Ok(streams) = self.to(node, alpn).await?.open_bi().await {
            return Ok(streams);
        }
        let fresh = self.to(node, alpn).await?;
        fresh.open_bi().await.map_err(|source| LinkError::Stream { node: node.clone(), source })
    }

    /// Ask `node` one thing on a stream of its own: a frame there, a frame back.
    ///
    /// # Errors
    /// As [`Links::open`], and when no answer comes that is understood.
    pub async fn call<Q: Serialize, A: DeserializeOwned>(
        &self,
        node: &NodeId,
        alpn: Alpn,
        question: &Q,
    ) -> Result<A, LinkError> {
        let link = self.to(node, alpn).await?;
        let streams = match link.open_bi().await {
            Ok(streams) => Ok(streams),
            // A link may have died unnoticed; one that was ended with a word did not.
            Err(error) if Farewell::of(&error).is_none() => self.open(node, alpn).await,
            Err(source) => Err(LinkError::Stream { node: node.clone(), source }),
        };
        let told = || link.close_reason().as_ref().and_then(Farewell::of);
        let spoken = |error| match told() {
            Some(farewell) => LinkError::Farewell { node: node.clone(), farewell },
            None => error,
        };
        let (mut send, mut receive) = streams.map_err(spoken)?;
        let failed = |error: FrameError| {
            spoken(LinkError::Frame { node: node.clone(), reason: error.to_string() })
        };
        write_frame(&mut send, question).await.map_err(failed)?;
        // The answer says more than a failure to finish would.
        let _ = send.finish();
        let answer = read_frame(&mut receive).await.map_err(failed)?;
        answer.ok_or_else(|| spoken(LinkError::NoAnswer(node.clone())))
    }

    /// Close every link to `node`, as after its removal.
    pub fn drop_links(&self, node: &NodeId, reason: &str) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.retain(|(known, _), slot| {
            if known != node {
                return true;
            }
            if let Slot::Up(link) = &*slot.borrow() {
                link.close(1u32.into(), reason.as_bytes());
            }
            false
        });
    }

    fn slot(&self, node: &NodeId, alpn: Alpn) -> Shared {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = slots.entry((node.clone(), alpn.as_str()));
        slot.or_insert_with(|| Arc::new(watch::Sender::new(Slot::Idle))).clone()
    }

    /// Begin to dial, unless somebody else has.
    fn dial(&self, node: &NodeId, alpn: Alpn, slot: &Shared) {
        let begun = slot.send_if_modified(|now| {
            let idle = match now {
                Slot::Dialling => false,
                Slot::Up(link) => link.close_reason().is_some(),
                Slot::Idle | Slot::Down { .. } => true,
            };
            if idle {
                *now = Slot::Dialling;
            }
            idle
        });
        if !begun {
            return;
        }
        let (endpoint, directory) = (self.endpoint.clone(), self.directory.clone());
        let (node, slot) = (node.clone(), slot.clone());
        tokio::spawn(async move {
            let book = *directory.changes().borrow();
            let outcome = race(&endpoint, &directory.addresses(&node), &node, alpn).await;
            slot.send_replace(match outcome {
                Ok((link, role)) => {
                    directory.note(&node, role, link.remote_address());
                    Slot::Up(link)
                }
                Err(error) => Slot::Down { since: Instant::now(), book, error },
            });
        });
    }
}

/// Dial all addresses, each a little after the one before; the first that is the node wins.
async fn race(
    endpoint: &Endpoint,
    addresses: &[SocketAddr],
    node: &NodeId,
    alpn: Alpn,
) -> Result<(Connection, bramble_core::model::NodeRole), LinkError> {
    let dial = |(turn, address): (usize, &SocketAddr)| {
        let address = *address;
        let wait = STAGGER * u32::try_from(turn).unwrap_or(u32::MAX);
        async move {
            tokio::time::sleep(wait).await;
            endpoint.connect(address, alpn, Some(node)).await
        }
    };
    let mut dials: FuturesUnordered<_> = addresses.iter().enumerate().map(dial).collect();
    let mut reasons = Vec::new();
    while let Some(outcome) = dials.next().await {
        match outcome {
            Ok(link) => {
                // A dialled link always has a peer: without one the handshake fails.
                let Some(peer) = link.peer else { continue };
                return Ok((link.connection, peer.role));
            }
            Err(error) => reasons.push(chain(&error)),
        }
    }
    match reasons.is_empty() {
        true => Err(LinkError::NoAddress(node.clone())),
        false => Err(LinkError::Unreachable { node: node.clone(), reason: reasons.join("; ") }),
    }
}

fn chain(error: &EndpointError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests;
