//! What this node answers other nodes of the cluster, on links they dial.
//!
//! One request per stream. Owns the bounds of what is served at once, so that no number of askers
//! takes the node's disk or memory. That an asker is of this cluster, its link has proven.

mod blobs;

use crate::images::Images;
use bramble_protocol::net::{FrameError, Link, read_frame_within, write_frame};
use bramble_protocol::peer::{PEER_REQUEST_BYTES_MAX, PeerReply, PeerRequest};
use quinn::{RecvStream, SendStream};
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Requests of all links that are looked at or wait for their turn at the same time.
const REQUESTS_MAX: usize = 256;
/// Blobs being sent at the same time: more would only share the same disk and cable.
const BLOBS_MAX: usize = 8;
/// Longest wait of a request for its turn to be sent a blob.
const TURN_MAX: Duration = Duration::from_secs(5);
/// Longest wait for a request on a stream that was opened for it.
const REQUEST_MAX: Duration = Duration::from_secs(10);
/// QUIC's error code of a stream that is not served.
const REFUSED: u32 = 1;

#[derive(Debug, Error)]
enum PeerError {
    #[error("a frame of the stream")]
    Frame(#[from] FrameError),
    #[error("no request came in time")]
    Late,
    #[error("the blob cannot be read")]
    Read(#[source] std::io::Error),
    #[error("the blob cannot be sent")]
    Send(#[source] std::io::Error),
    #[error("the other node does not take what it is sent")]
    Stalled,
}

/// Answers other nodes.
pub struct Peers {
    images: Arc<Images>,
    /// This node's name, for people.
    name: String,
    requests: Arc<Semaphore>,
    blobs: Semaphore,
}

impl Peers {
    pub fn new(images: Arc<Images>, name: String) -> Self {
        let requests = Arc::new(Semaphore::new(REQUESTS_MAX));
        Self { images, name, requests, blobs: Semaphore::new(BLOBS_MAX) }
    }

    /// Answer one link's requests until it ends.
    pub async fn serve(self: &Arc<Self>, link: Link) {
        let mut serving = JoinSet::new();
        loop {
            tokio::select! {
                accepted = link.connection.accept_bi() => {
                    let Ok((mut send, receive)) = accepted else { return };
                    let Ok(permit) = Arc::clone(&self.requests).try_acquire_owned() else {
                        // Fails only where the stream is gone already.
                        let _ = send.reset(REFUSED.into());
                        continue;
                    };
                    let peers = Arc::clone(self);
                    serving.spawn(async move {
                        if let Err(error) = peers.answer(&mut send, receive).await {
                            let error: &dyn std::error::Error = &error;
                            tracing::debug!(error, "a request of another node broke off");
                            // Not an end: what came must not be taken for all.
                            let _ = send.reset(REFUSED.into());
                        } else {
                            let _ = send.finish();
                        }
                        drop(permit);
                    });
                }
                Some(_) = serving.join_next() => {}
            }
        }
    }

    async fn answer(
        &self,
        send: &mut SendStream,
        mut receive: RecvStream,
    ) -> Result<(), PeerError> {
        let request = read_frame_within(&mut receive, PEER_REQUEST_BYTES_MAX);
        let request = match timeout(REQUEST_MAX, request).await.map_err(|_| PeerError::Late)? {
            Ok(Some(request)) => request,
            Ok(None) => return Err(PeerError::Late),
            // A later version asks what this one does not know.
            Err(FrameError::Codec(_)) => {
                return Ok(write_frame(send, &PeerReply::NotUnderstood).await?);
            }
            Err(error) => return Err(error.into()),
        };
        match request {
            PeerRequest::Image { reference } => {
                let reply = blobs::describe(&self.images, &self.name, &reference).await;
                Ok(write_frame(send, &reply).await?)
            }
            PeerRequest::Blob { digest, offset } => {
                let Ok(turn) = timeout(TURN_MAX, self.blobs.acquire()).await else {
                    return Ok(write_frame(send, &PeerReply::Busy).await?);
                };
                let sent = blobs::send(&self.images, &digest, offset, send).await;
                drop(turn);
                sent
            }
        }
    }
}

#[cfg(test)]
mod tests;
