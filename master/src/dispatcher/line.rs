//! What carries a session: how it is closed, and that it was closed. Knows no frame.

use super::DispatchError;

/// The connection of one session; clones are the same one.
#[derive(Clone)]
pub(super) enum Line {
    Link(quinn::Connection),
    /// Ended by this token alone: a simulation breaks the streams themselves.
    #[cfg(feature = "simulation")]
    Memory(tokio_util::sync::CancellationToken),
}

impl Line {
    /// Close it for both sides.
    pub fn close(&self, code: u32, reason: &str) {
        match self {
            Line::Link(connection) => connection.close(code.into(), reason.as_bytes()),
            #[cfg(feature = "simulation")]
            Line::Memory(ended) => ended.cancel(),
        }
    }

    /// Resolve once it is closed, by whichever side.
    pub async fn closed(&self) -> DispatchError {
        match self {
            Line::Link(connection) => connection.closed().await.into(),
            #[cfg(feature = "simulation")]
            Line::Memory(ended) => {
                ended.cancelled().await;
                quinn::ConnectionError::LocallyClosed.into()
            }
        }
    }

    /// What further streams are opened on; none in a simulation.
    pub fn connection(&self) -> Option<&quinn::Connection> {
        match self {
            Line::Link(connection) => Some(connection),
            #[cfg(feature = "simulation")]
            Line::Memory(_) => None,
        }
    }
}
