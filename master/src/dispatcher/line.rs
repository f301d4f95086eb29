//! What carries a session: how it is closed, and that it was closed. Knows no frame.

use super::DispatchError;
use quinn::ConnectionError;
#[cfg(feature = "simulation")]
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// The connection of one session; clones are the same one.
#[derive(Clone)]
pub(super) enum Line {
    Link(quinn::Connection),
    /// Ended by this token alone: a simulation breaks the streams themselves.
    #[cfg(feature = "simulation")]
    Memory {
        ended: tokio_util::sync::CancellationToken,
        packets: Arc<AtomicU64>,
    },
}

impl Line {
    /// Close it for both sides.
    pub fn close(&self, code: u32, reason: &str) {
        match self {
            Line::Link(connection) => connection.close(code.into(), reason.as_bytes()),
            #[cfg(feature = "simulation")]
            Line::Memory { ended, .. } => ended.cancel(),
        }
    }

    /// Resolve once it is closed, by whichever side.
    pub async fn closed(&self) -> DispatchError {
        match self {
            Line::Link(connection) => connection.closed().await.into(),
            #[cfg(feature = "simulation")]
            Line::Memory { ended, .. } => {
                ended.cancelled().await;
                ConnectionError::LocallyClosed.into()
            }
        }
    }

    /// Whether it is closed because the other side said goodbye.
    pub fn was_left(&self) -> bool {
        match self {
            Line::Link(connection) => {
                matches!(connection.close_reason(), Some(ConnectionError::ApplicationClosed(_)))
            }
            #[cfg(feature = "simulation")]
            Line::Memory { .. } => false,
        }
    }

    /// Packets received on it so far.
    pub fn packets(&self) -> u64 {
        match self {
            Line::Link(connection) => connection.stats().udp_rx.datagrams,
            #[cfg(feature = "simulation")]
            Line::Memory { packets, .. } => packets.load(Ordering::Relaxed),
        }
    }

    /// What further streams are opened on; none in a simulation.
    pub fn connection(&self) -> Option<&quinn::Connection> {
        match self {
            Line::Link(connection) => Some(connection),
            #[cfg(feature = "simulation")]
            Line::Memory { .. } => None,
        }
    }
}
