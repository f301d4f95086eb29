//! Sessions over any pair of byte streams, for the simulation.

use super::Dispatcher;
use super::line::Line;
use bramble_core::model::NodeId;
use bramble_protocol::net::write_frame;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

impl Dispatcher {
    /// Serve a session of the node `peer` as [`Dispatcher::serve`] does one over a link; `packets`
    /// counts what arrives on it.
    pub async fn serve_streams(
        &self,
        peer: &NodeId,
        mut send: impl AsyncWrite + Unpin,
        receive: impl AsyncRead + Unpin,
        packets: Arc<AtomicU64>,
    ) {
        if !self.leadership.borrow().here {
            // An agent that has gone meanwhile asks another.
            let _ = write_frame(&mut send, &self.who_leads()).await;
            return;
        }
        let line = Line::Memory { ended: CancellationToken::new(), packets };
        self.hold(Some(peer), line, std::future::ready(Ok((send, receive)))).await;
    }
}
