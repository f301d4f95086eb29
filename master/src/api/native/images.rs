//! Images on the agents: loading an archive into them, and what they hold.
//!
//! An archive is never buffered or stored here: each piece goes to every agent before the next
//! one is read, so the slowest sets the pace.

use super::{ask, open, stream_permit};
use crate::api::body;
use crate::api::dispatch::Call;
use crate::api::error::ApiError;
use crate::api::limits::{AGENT_ARRIVES_MAX, AGENT_LOOK_EVERY, LOAD_LINES_BUFFERED_MAX};
use crate::api::reply::{self, Reply};
use crate::streams::AgentStream;
use axum::body::Body;
use bramble_core::model::AgentId;
use bramble_protocol::message::{ImageSummary, LoadProgress, StreamRequest};
use bramble_protocol::native::{ImageView, LoadLine};
use bramble_protocol::net::read_frame;
use bytes::Bytes;
use futures_util::future::join_all;
use http::StatusCode;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Mutex, PoisonError};
use tokio::sync::mpsc;

/// QUIC's error code of an upload that ended early.
const ABORTED: u32 = 1;

/// `GET images`: what the connected agents hold. One that does not answer is left out.
pub(super) async fn list(call: &Call) -> Result<Reply, ApiError> {
    let agents = call.api().streams.connected();
    let held = |agent| ask::<Vec<ImageSummary>>(&call.shared, agent, StreamRequest::ListImages);
    let held = join_all(agents.iter().map(held)).await;
    let mut all = Vec::new();
    for (agent, held) in agents.iter().zip(held) {
        match held {
            Ok(images) => all.extend(images.into_iter().map(|image| (agent.clone(), image))),
            Err(error) => tracing::warn!(agent_id = %agent, %error, "an agent lists no images"),
        }
    }
    Ok(reply::json(StatusCode::OK, &merge(all)))
}

/// One item per reference, digest and platform, with everyone who holds it.
fn merge(held: Vec<(AgentId, ImageSummary)>) -> Vec<ImageView> {
    let mut merged: BTreeMap<(String, String, String), ImageView> = BTreeMap::new();
    for (agent, image) in held {
        let key = (image.reference.clone(), image.platform.clone(), image.digest.clone());
        let view = merged.entry(key).or_insert_with(|| ImageView {
            reference: image.reference,
            digest: image.digest,
            platform: image.platform,
            size_bytes: image.size_bytes,
            created_unix_s: image.created_unix_s,
            agents: Vec::new(),
        });
        view.created_unix_s = view.created_unix_s.min(image.created_unix_s);
        view.agents.push(agent.to_string());
    }
    merged.into_values().collect()
}

/// `POST images?agent=`: the answer is a line of JSON per step, while the archive still comes.
pub(super) async fn load(call: &Call, archive: Body) -> Result<Reply, ApiError> {
    let agents = match call.query.get("agent") {
        Some(agent) => vec![named(call, agent)?],
        None => arrived(call).await?,
    };
    upload(call, agents, StreamRequest::LoadImage, archive).await
}

/// Send an archive to agents while their progress comes back, line by line.
pub(super) async fn upload(
    call: &Call,
    agents: Vec<AgentId>,
    request: StreamRequest,
    archive: Body,
) -> Result<Reply, ApiError> {
    let permit = stream_permit(&call.shared)?;
    let (mut upload, mut receivers) = (Upload::default(), Vec::new());
    for agent in agents {
        let AgentStream { send, receive } = open(&call.shared, &agent, request.clone()).await?;
        upload.0.push(send);
        receivers.push((agent, receive));
    }
    let (lines, output) = mpsc::channel(LOAD_LINES_BUFFERED_MAX);
    let stop = call.shared.shutdown.clone();
    tokio::spawn(async move {
        let _permit = permit;
        tokio::select! {
            () = stop.cancelled() => {}
            // Nobody reads the progress: the client is gone, and so is its archive.
            () = lines.closed() => {}
            () = relay(archive, upload, receivers, &lines) => {}
        }
    });
    let body = futures_util::stream::unfold(output, |mut output| async {
        let line: LoadLine = output.recv().await?;
        let mut text = serde_json::to_vec(&line).unwrap_or_default();
        text.push(b'\n');
        Some((Ok::<_, Infallible>(Bytes::from(text)), output))
    });
    Ok(reply::typed(StatusCode::OK, "application/x-ndjson", Body::from_stream(body)))
}

/// The agents that are connected, once there is one.
async fn arrived(call: &Call) -> Result<Vec<AgentId>, ApiError> {
    let looking = async {
        loop {
            let agents = call.api().streams.connected();
            if !agents.is_empty() {
                return agents;
            }
            tokio::time::sleep(AGENT_LOOK_EVERY).await;
        }
    };
    tokio::time::timeout(AGENT_ARRIVES_MAX, looking).await.map_err(|_| ApiError::NoAgent)
}

/// An agent by id or by its node's name.
fn named(call: &Call, name: &str) -> Result<AgentId, ApiError> {
    let known = call.api().store.read(|state| {
        let mut agents = state.agents.values();
        agents.find(|a| a.id.as_str() == name || a.name == name).map(|a| a.id.clone())
    });
    known.ok_or_else(|| ApiError::Argument(format!("there is no agent '{name}'")))
}

/// Copy the archive to every agent while their progress comes back; the last line is the verdict.
async fn relay(
    mut archive: Body,
    mut upload: Upload,
    receivers: Vec<(AgentId, quinn::RecvStream)>,
    lines: &mpsc::Sender<LoadLine>,
) {
    let progress = Progress::new(receivers.len(), lines);
    let verdicts = join_all(receivers.into_iter().enumerate().map(|(seat, (agent, receive))| {
        let progress = &progress;
        async move { (agent, follow(seat, receive, progress).await) }
    }));
    let mut verdicts = std::pin::pin!(verdicts);
    // An agent that refuses the archive says so before it has read it all.
    let (sent, verdicts) = tokio::select! {
        verdicts = verdicts.as_mut() => (Ok(()), verdicts),
        sent = upload.copy(&mut archive) => {
            if sent.is_err() {
                upload.abort();
            }
            (sent, verdicts.await)
        }
    };
    let last = match sent {
        Ok(()) => conclude(verdicts),
        Err(reason) => LoadLine::Failed(reason),
    };
    if matches!(last, LoadLine::Failed(_)) {
        body::discard(archive).await;
    }
    let _ = lines.send(last).await;
}

/// The sending halves of an upload. What is dropped before its end is reset, where quinn alone
/// would end it well: half an archive must not look like a whole one.
#[derive(Default)]
struct Upload(Vec<quinn::SendStream>);

impl Upload {
    /// Send all of the archive to every agent, and its end.
    async fn copy(&mut self, archive: &mut Body) -> Result<(), String> {
        while let Some(chunk) = body::next(archive).await.map_err(|error| error.to_string())? {
            let writes = self.0.iter_mut().map(|send| send.write_chunk(chunk.clone()));
            for wrote in join_all(writes).await {
                // An agent that stopped reading has its reason in its own last frame.
                if let Err(error) = wrote {
                    tracing::debug!(%error, "an agent stopped reading an archive");
                }
            }
        }
        for mut send in self.0.drain(..) {
            // It fails only on a stream that the agent has closed already.
            let _ = send.finish();
        }
        Ok(())
    }

    fn abort(&mut self) {
        for mut send in self.0.drain(..) {
            let _ = send.reset(ABORTED.into());
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.abort();
    }
}

/// Relay the progress of one agent up to its verdict.
async fn follow(
    seat: usize,
    mut receive: quinn::RecvStream,
    progress: &Progress<'_>,
) -> Result<Vec<ImageSummary>, String> {
    loop {
        match read_frame(&mut receive).await {
            Ok(Some(LoadProgress::Read(bytes))) => progress.read(seat, bytes),
            Ok(Some(LoadProgress::Note(note))) => progress.say(LoadLine::Note(note)),
            Ok(Some(LoadProgress::Done(images))) => return Ok(images),
            Ok(Some(LoadProgress::Failed(reason))) => return Err(reason),
            Ok(None) => return Err("the agent broke off without a verdict".into()),
            Err(error) => return Err(format!("the agent went away: {error}")),
        }
    }
}

fn conclude(verdicts: Vec<(AgentId, Result<Vec<ImageSummary>, String>)>) -> LoadLine {
    let alone = verdicts.len() == 1;
    let mut all = Vec::new();
    for (agent, verdict) in verdicts {
        match verdict {
            Ok(images) => all.extend(images.into_iter().map(|image| (agent.clone(), image))),
            Err(reason) if alone => return LoadLine::Failed(reason),
            Err(reason) => return LoadLine::Failed(format!("agent {agent}: {reason}")),
        }
    }
    LoadLine::Done(merge(all))
}

/// Progress of all agents together. Lines that a slow reader has no room for are dropped: the
/// archive must not wait for them.
struct Progress<'a> {
    read: Mutex<Vec<u64>>,
    lines: &'a mpsc::Sender<LoadLine>,
}

impl<'a> Progress<'a> {
    fn new(agents: usize, lines: &'a mpsc::Sender<LoadLine>) -> Self {
        Self { read: Mutex::new(vec![0; agents]), lines }
    }

    fn read(&self, seat: usize, bytes: u64) {
        let (before, after) = {
            let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
            let before = read.iter().copied().min();
            read[seat] = bytes;
            (before, read.iter().copied().min())
        };
        if let Some(slowest) = after.filter(|_| after > before) {
            self.say(LoadLine::Read(slowest));
        }
    }

    fn say(&self, line: LoadLine) {
        let _ = self.lines.try_send(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(reference: &str, created: u64) -> ImageSummary {
        ImageSummary {
            reference: reference.into(),
            digest: "sha256:1".into(),
            platform: "linux/amd64".into(),
            size_bytes: 7,
            created_unix_s: created,
        }
    }

    #[test]
    fn holders_of_one_image_share_its_item() {
        let (a, b) = (AgentId::new("a"), AgentId::new("b"));
        let merged = merge(vec![
            (a.clone(), image("y", 9)),
            (a.clone(), image("x", 5)),
            (b.clone(), image("x", 4)),
        ]);
        let seen: Vec<_> = merged
            .iter()
            .map(|i| (i.reference.as_str(), i.created_unix_s, i.agents.join(",")))
            .collect();
        assert_eq!(seen, [("x", 4, "a,b".to_string()), ("y", 9, "a".to_string())]);
    }

    #[test]
    fn one_failure_fails_the_load_and_names_the_agent_among_several() {
        let (a, b) = (AgentId::new("a"), AgentId::new("b"));
        let bad = || Err("truncated".to_string());
        assert_eq!(conclude(vec![(a.clone(), bad())]), LoadLine::Failed("truncated".into()));
        let two = conclude(vec![(a, Ok(vec![image("x", 1)])), (b, bad())]);
        assert_eq!(two, LoadLine::Failed("agent b: truncated".into()));
    }

    #[test]
    fn progress_follows_the_slowest_and_never_blocks() {
        let (lines, mut output) = mpsc::channel(2);
        let progress = Progress::new(2, &lines);
        progress.read(0, 10);
        progress.read(1, 4);
        progress.read(0, 20);
        progress.read(1, 12);
        progress.say(LoadLine::Note("dropped".into()));
        assert_eq!(output.try_recv(), Ok(LoadLine::Read(4)));
        assert_eq!(output.try_recv(), Ok(LoadLine::Read(12)));
        assert!(output.try_recv().is_err());
    }
}
