//! Streams the master opens on the session's connection: logs, exec, image loads and lists.
//!
//! One request frame, one reply frame, then as `protocol::message` says for each kind. A stream
//! that fails ends alone; it never ends the session.

mod exec;
mod images;
mod logs;
mod os;
mod reader;

pub use os::System;
pub use reader::{LogError, LogReader};

use crate::images::Images;
use crate::reconciler::Roster;
use crate::runtime::Runtime;
use crate::sandboxes::Sandboxes;
use crate::volumes::{VolumeError, Volumes};
use bramble_protocol::message::{StreamReply, StreamRequest};
use bramble_protocol::net::{Endpoint, FrameError, Probed, probe, read_frame_within, write_frame};
use quinn::{RecvStream, SendStream};
use std::sync::{Arc, OnceLock};
use thiserror::Error;

/// Largest request frame in bytes: a command line, at most.
const REQUEST_BYTES_MAX: usize = 256 * 1024;

#[derive(Debug, Error)]
pub enum StreamError {
    #[error("a frame of the stream")]
    Frame(#[from] FrameError),
    #[error("the stream ended before its request")]
    NoRequest,
    #[error("writing to the stream")]
    Write(#[source] std::io::Error),
    #[error("the log cannot be read on")]
    Log(#[from] LogError),
    #[error("the volumes cannot be listed")]
    Volumes(#[from] VolumeError),
    #[error("work of the stream was stopped, since the program ends")]
    Stopped,
}

/// What streams can reach.
pub struct Streams {
    pub runtime: Runtime,
    pub images: Arc<Images>,
    pub sandboxes: Sandboxes,
    pub volumes: Volumes,
    pub roster: Arc<Roster>,
    pub system: System,
    /// What other nodes are looked for with; set before streams are served.
    pub endpoint: OnceLock<Arc<Endpoint>>,
}

impl Streams {
    /// Serve one stream to its end.
    pub async fn serve(&self, mut send: SendStream, receive: RecvStream) {
        let served = self.answer(&mut send, receive).await;
        if let Err(error) = served {
            tracing::debug!(error = &error as &dyn std::error::Error, "a stream broke off");
        }
        // Fails where the reader has stopped reading; then there is nothing to finish.
        let _ = send.finish();
    }

    async fn answer(
        &self,
        send: &mut SendStream,
        mut receive: RecvStream,
    ) -> Result<(), StreamError> {
        let request = read_frame_within(&mut receive, REQUEST_BYTES_MAX).await?;
        match request.ok_or(StreamError::NoRequest)? {
            StreamRequest::Logs { task_id, stderr, follow, tail_lines } => {
                let name = if stderr { "stderr" } else { "stdout" };
                let wanted = logs::Wanted { task_id, name, follow, tail_lines };
                let reader_left = send.stopped();
                let serve = logs::serve(&self.sandboxes, &self.roster, wanted, send);
                tokio::select! {
                    served = serve => served,
                    // Whoever followed has seen enough.
                    _ = reader_left => Ok(()),
                }
            }
            StreamRequest::Exec { task_id, command, tty, rows, columns } => {
                let request = crate::runtime::ExecRequest { command, tty, rows, columns };
                match self.runtime.exec(task_id.as_str(), request).await {
                    Ok(session) => {
                        write_frame(send, &StreamReply::Ready).await?;
                        let reader_left = send.stopped();
                        tokio::select! {
                            served = exec::serve(session, receive, send) => served,
                            // A command without output would not notice: dropping its session
                            // kills it.
                            _ = reader_left => Ok(()),
                        }
                    }
                    Err(error) => refuse(send, &error).await,
                }
            }
            StreamRequest::LoadImage => {
                write_frame(send, &StreamReply::Ready).await?;
                images::load(&self.images, receive, send).await
            }
            StreamRequest::ListImages => {
                write_frame(send, &StreamReply::Ready).await?;
                Ok(write_frame(send, &self.images.list()).await?)
            }
            StreamRequest::ListVolumes => {
                let volumes = self.volumes.clone();
                let listed = tokio::task::spawn_blocking(move || volumes.list()).await;
                let listed = listed.map_err(|_| StreamError::Stopped)??;
                write_frame(send, &StreamReply::Ready).await?;
                Ok(write_frame(send, &listed).await?)
            }
            StreamRequest::Os(request) => {
                let answer = self.system.ask(request).await;
                write_frame(send, &StreamReply::Ready).await?;
                Ok(write_frame(send, &answer).await?)
            }
            StreamRequest::StageOs => {
                write_frame(send, &StreamReply::Ready).await?;
                os::stage(&self.system, receive, send).await
            }
            StreamRequest::Probe(sighting) => {
                write_frame(send, &StreamReply::Ready).await?;
                let seen = match self.endpoint.get() {
                    Some(own) => probe(own, &sighting.node_id, &sighting.addresses).await,
                    None => Probed::Unknown,
                };
                Ok(write_frame(send, &seen).await?)
            }
        }
    }
}

async fn refuse(
    send: &mut SendStream,
    error: &crate::runtime::RuntimeError,
) -> Result<(), StreamError> {
    let reply = match error {
        crate::runtime::RuntimeError::NoTask(_) => StreamReply::NotFound(error.to_string()),
        error => StreamReply::Failed(crate::machine::chain(error)),
    };
    Ok(write_frame(send, &reply).await?)
}
