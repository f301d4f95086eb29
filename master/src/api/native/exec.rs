//! A command inside a running task: an HTTP upgrade whose bytes are relayed unchanged.

use super::name::find;
use super::{open, stream_permit};
use crate::api::dispatch::Call;
use crate::api::error::ApiError;
use crate::api::limits::LINGER_MAX;
use crate::api::reply::{self, Reply};
use crate::streams::AgentStream;
use bramble_protocol::message::StreamRequest;
use bramble_protocol::native::EXEC_UPGRADE;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

/// Size of a terminal whose client did not say.
const ROWS: u16 = 24;
const COLUMNS: u16 = 80;
/// Bytes of input carried at a time.
const INPUT_BYTES: usize = 16 * 1024;

/// `POST tasks/{name}/exec?arg=...&tty=&rows=&columns=`.
pub(super) async fn exec(
    call: &Call,
    name: &str,
    upgrade: Option<OnUpgrade>,
) -> Result<Reply, ApiError> {
    let upgrade = upgrade
        .filter(|_| asks_for_exec(&call.headers))
        .ok_or(ApiError::UpgradeNeeded(EXEC_UPGRADE))?;
    let command: Vec<String> = call.query.all("arg").map(str::to_string).collect();
    if command.is_empty() {
        return Err(ApiError::Argument("give the command as one or more arg= values".into()));
    }
    let permit = stream_permit(&call.shared)?;
    let found = call.shared.api.store.read(|state| find(state, name))?;
    if !found.running {
        return Err(ApiError::NotRunning(found.task_id.to_string()));
    }
    let request = StreamRequest::Exec {
        task_id: found.task_id.clone(),
        command,
        tty: call.query.flag("tty", false),
        rows: call.query.number("rows").unwrap_or(ROWS),
        columns: call.query.number("columns").unwrap_or(COLUMNS),
    };
    let stream = open(&call.shared, &found.agent_id, request).await?;
    let stop = call.shared.shutdown.clone();
    tokio::spawn(async move {
        let _permit = permit;
        match upgrade.await {
            Ok(upgraded) => {
                let ended = relay(TokioIo::new(upgraded), stream, stop).await;
                tracing::debug!(task_id = %found.task_id, ?ended, "an exec session ended");
            }
            Err(error) => {
                tracing::debug!(task_id = %found.task_id, %error, "an exec upgrade failed");
            }
        }
    });
    let mut answer = reply::empty(StatusCode::SWITCHING_PROTOCOLS);
    let headers = answer.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static(EXEC_UPGRADE));
    Ok(answer)
}

fn asks_for_exec(headers: &HeaderMap) -> bool {
    let has = |name, token: &str| {
        headers
            .get_all(name)
            .iter()
            .filter_map(|v| v.to_str().ok())
            .any(|value| value.split(',').any(|item| item.trim().eq_ignore_ascii_case(token)))
    };
    has(header::CONNECTION, "upgrade") && has(header::UPGRADE, EXEC_UPGRADE)
}

/// Copy both ways until the command has ended or the client is gone. A client that is gone must
/// end the command too, so its end of file is not held as a mere half-close: there is a frame for
/// that.
async fn relay(
    client: impl AsyncRead + AsyncWrite,
    mut agent: AgentStream,
    stop: CancellationToken,
) -> io::Result<()> {
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let ended = {
        let input = carry_input(&mut from_client, &mut agent.send);
        tokio::pin!(input);
        tokio::select! {
            () = stop.cancelled() => Ok(()),
            () = &mut input => Ok(()),
            down = tokio::io::copy(&mut agent.receive, &mut to_client) => {
                to_client.shutdown().await?;
                // Closing a socket with input unread resets it, and the reset would overtake the
                // exit code: read on until the client has seen it and leaves.
                let _ = tokio::time::timeout(LINGER_MAX, input).await;
                down.map(drop)
            }
        }
    };
    // Both fail only when the stream is closed already, which is what they are for.
    let _ = agent.send.finish();
    let _ = agent.receive.stop(0u32.into());
    ended
}

/// Carry what the client sends to the command; resolves once the client is gone.
async fn carry_input(
    client: &mut (impl AsyncRead + Unpin),
    command: &mut (impl AsyncWrite + Unpin),
) {
    let mut buffer = vec![0; INPUT_BYTES];
    let mut taken = true;
    while let Ok(count @ 1..) = client.read(&mut buffer).await {
        // A command that has ended takes no more. What it said before is still on its way.
        taken = taken && command.write_all(&buffer[..count]).await.is_ok();
    }
}
