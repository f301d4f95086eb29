//! A session over any pair of byte streams, for the simulation.

use super::{SessionError, speak};
use crate::hardware::Hardware;
use crate::images::Exchange;
use crate::reconciler::Reconciling;
use bramble_core::model::Agent;
use bramble_protocol::net::Directory;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

/// Greet the leader and speak with it until the stream ends. `welcomed` is called in between.
///
/// # Errors
/// Why the session ended; it always does.
pub async fn converse(
    agent: &Agent,
    reconciling: &Reconciling,
    directory: &Directory,
    mut send: impl AsyncWrite + Unpin,
    mut receive: impl AsyncRead + Unpin,
    welcomed: impl FnOnce(),
) -> Result<(), SessionError> {
    // Nobody tells processes apart here.
    speak::greet(agent, 0, &mut send, &mut receive).await?;
    welcomed();
    reconciling.led(true).await;
    // Nobody has images here.
    let images = Exchange::default();
    let (_, hardware) = watch::channel(Arc::<Hardware>::default());
    let heard = speak::Heard {
        reconciling,
        directory,
        images: &images,
        endpoint: None,
        hardware: &hardware,
        bare: agent,
    };
    speak::speak(agent, heard, send, receive).await
}
