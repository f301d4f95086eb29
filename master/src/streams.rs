//! Streams to agents, as the API needs them (logs, exec, images), without knowing the dispatcher.

use bramble_core::model::AgentId;
use bramble_protocol::message::StreamRequest;
use std::future::Future;
use std::pin::Pin;
use thiserror::Error;

/// Both directions of a stream whose request was answered with `StreamReply::Ready`.
pub struct AgentStream {
    pub send: quinn::SendStream,
    pub receive: quinn::RecvStream,
}

#[derive(Debug, Error)]
pub enum StreamError {
    #[error("agent {0} is not connected")]
    AgentAway(AgentId),
    #[error("{0}")]
    NotFound(String),
    #[error("{0}")]
    Failed(String),
}

pub type StreamFuture<'a> =
    Pin<Box<dyn Future<Output = Result<AgentStream, StreamError>> + Send + 'a>>;

/// Implemented by the dispatcher; the API holds it as `Arc<dyn OpenStream>`.
pub trait OpenStream: Send + Sync + 'static {
    /// Ask `agent` for a stream; resolves once the agent said it is ready.
    fn open(&self, agent: &AgentId, request: StreamRequest) -> StreamFuture<'_>;

    /// Agents with a standing session, in id order.
    fn connected(&self) -> Vec<AgentId>;
}
