//! An agent at the other end of a real QUIC connection, whose answers a test can foresee.

use super::state::AGENT;
use crate::streams::{AgentStream, OpenStream, StreamError, StreamFuture};
use bramble_core::model::{AgentId, NodeRole, VolumeId};
use bramble_protocol::message::*;
use bramble_protocol::net::{
    Alpn, ClusterCa, Endpoint, Identity, Link, NodeKey, read_frame, write_frame,
};
use std::sync::{Arc, Mutex};
use tokio::sync::mpsc;

/// What the agent sees of an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Upload {
    /// The first bytes came.
    Begun,
    /// It ended well after this many bytes.
    Whole(usize),
    Cut,
}

/// Agents that the API can open streams to: none, or the one of [`Agents::one`].
#[derive(Default)]
pub(crate) struct Agents {
    link: Option<Link>,
    _ends: Vec<Endpoint>,
    loads: Option<tokio::sync::Mutex<mpsc::UnboundedReceiver<Upload>>>,
    /// Requests the agent saw.
    pub(crate) seen: Arc<Mutex<Vec<StreamRequest>>>,
    /// Told when a followed log lost its reader.
    pub(crate) unfollowed: Arc<tokio::sync::Notify>,
}

impl Agents {
    /// One connected agent, [`AGENT`].
    pub(crate) async fn one() -> Agents {
        let ca = ClusterCa::mint("c1").unwrap();
        let (master, agent) = (end(&ca, NodeRole::Master), end(&ca, NodeRole::Agent));
        let at = master.local_addr().unwrap();
        let (dialled, link) = tokio::join!(agent.connect(at, Alpn::Agent, None), master.accept());
        let (loaded, loads) = mpsc::unbounded_channel();
        let agents = Agents {
            link,
            _ends: vec![master, agent],
            loads: Some(tokio::sync::Mutex::new(loads)),
            ..Agents::default()
        };
        let (dialled, seen, unfollowed) =
            (dialled.unwrap(), agents.seen.clone(), agents.unfollowed.clone());
        tokio::spawn(async move {
            while let Ok((send, receive)) = dialled.connection.accept_bi().await {
                let (loaded, seen) = (loaded.clone(), seen.clone());
                tokio::spawn(answer(send, receive, loaded, seen, unfollowed.clone()));
            }
        });
        agents
    }

    /// Wait for the next word of an upload.
    pub(crate) async fn upload(&self) -> Upload {
        self.loads.as_ref().unwrap().lock().await.recv().await.unwrap()
    }
}

fn end(ca: &ClusterCa, role: NodeRole) -> Endpoint {
    let key = NodeKey::generate().unwrap();
    let certificate = ca.issue(key.public_key(), &key.node_id(), role).unwrap();
    let identity = Identity::new(key, certificate, ca.certificate().to_vec()).unwrap();
    Endpoint::bind("127.0.0.1:0".parse().unwrap(), Some(identity)).unwrap()
}

impl OpenStream for Agents {
    fn open(&self, agent: &AgentId, request: StreamRequest) -> StreamFuture<'_> {
        let agent = agent.clone();
        Box::pin(async move {
            let link = self.link.as_ref().filter(|_| agent.as_str() == AGENT);
            let Some(link) = link else { return Err(StreamError::AgentAway(agent)) };
            let (mut send, mut receive) = link.connection.open_bi().await.unwrap();
            write_frame(&mut send, &request).await.unwrap();
            match read_frame(&mut receive).await.unwrap().unwrap() {
                StreamReply::Ready => Ok(AgentStream { send, receive }),
                StreamReply::NotFound(what) => Err(StreamError::NotFound(what)),
                StreamReply::Failed(why) => Err(StreamError::Failed(why)),
            }
        })
    }

    fn connected(&self) -> Vec<AgentId> {
        self.link.iter().map(|_| AgentId::new(AGENT)).collect()
    }
}

/// Input after which the agent's command reads no more, but writes this many frames of output.
pub(crate) const UNREAD: &[u8] = b"unread";
pub(crate) const UNREAD_OUTPUTS: usize = 64;

pub(crate) fn image() -> ImageSummary {
    ImageSummary {
        reference: "docker.io/library/busybox:latest".into(),
        digest: "sha256:aa".into(),
        platform: "linux/amd64".into(),
        size_bytes: 10,
        created_unix_s: 20,
    }
}

async fn answer(
    mut send: quinn::SendStream,
    mut receive: quinn::RecvStream,
    loaded: mpsc::UnboundedSender<Upload>,
    seen: Arc<Mutex<Vec<StreamRequest>>>,
    unfollowed: Arc<tokio::sync::Notify>,
) {
    let request: StreamRequest = read_frame(&mut receive).await.unwrap().unwrap();
    seen.lock().unwrap().push(request.clone());
    match request {
        StreamRequest::Logs { tail_lines: Some(0), .. } => {
            write_frame(&mut send, &StreamReply::NotFound("no log".into())).await.unwrap();
        }
        StreamRequest::Logs { follow, .. } => {
            write_frame(&mut send, &StreamReply::Ready).await.unwrap();
            send.write_all(b"one\ntwo\n").await.unwrap();
            if follow {
                let _ = send.stopped().await;
                unfollowed.notify_one();
            }
        }
        StreamRequest::Exec { .. } => exec(send, receive).await,
        StreamRequest::LoadImage => load(send, receive, loaded).await,
        StreamRequest::ListImages => {
            write_frame(&mut send, &StreamReply::Ready).await.unwrap();
            write_frame(&mut send, &vec![image()]).await.unwrap();
        }
        StreamRequest::ListVolumes => {
            let volume = |id: &str, size_bytes| VolumeSummary { id: VolumeId::new(id), size_bytes };
            write_frame(&mut send, &StreamReply::Ready).await.unwrap();
            let volumes = vec![volume("db#data#1", 5), volume("old#data#9", 7)];
            write_frame(&mut send, &volumes).await.unwrap();
        }
        StreamRequest::Os(OsRequest::Try { .. }) => {
            write_frame(&mut send, &StreamReply::Ready).await.unwrap();
            let refused = OsReply::Refused("the spare slot is empty".into());
            write_frame(&mut send, &refused).await.unwrap();
        }
        StreamRequest::Os(request) => {
            write_frame(&mut send, &StreamReply::Ready).await.unwrap();
            let slots = OsSlots { board: "x86".into(), slot: "a".into(), ..OsSlots::default() };
            let done = request == OsRequest::Confirm;
            let reply = if done { OsReply::Done } else { OsReply::Slots(slots) };
            write_frame(&mut send, &reply).await.unwrap();
        }
        StreamRequest::StageOs => load(send, receive, loaded).await,
        StreamRequest::Probe(_) => unreachable!("no request asks for a look"),
    }
}

/// Echoes standard input until it closes, or is to be left unread; then exits with 7.
async fn exec(mut send: quinn::SendStream, mut receive: quinn::RecvStream) {
    write_frame(&mut send, &StreamReply::Ready).await.unwrap();
    while let Ok(Some(input)) = read_frame(&mut receive).await {
        match input {
            ExecInput::Stdin(bytes) if bytes == UNREAD => {
                drop(receive);
                let output = ExecOutput::Stdout(vec![b'x'; 1 << 14]);
                for _ in 0..UNREAD_OUTPUTS {
                    write_frame(&mut send, &output).await.unwrap();
                }
                break;
            }
            ExecInput::Stdin(bytes) => {
                write_frame(&mut send, &ExecOutput::Stdout(bytes)).await.unwrap();
            }
            ExecInput::StdinClosed => break,
            ExecInput::Resize { .. } => {}
        }
    }
    write_frame(&mut send, &ExecOutput::Exited(7)).await.unwrap();
    send.finish().unwrap();
}

/// Takes any archive but one that starts with `bad`.
async fn load(
    mut send: quinn::SendStream,
    mut receive: quinn::RecvStream,
    loaded: mpsc::UnboundedSender<Upload>,
) {
    write_frame(&mut send, &StreamReply::Ready).await.unwrap();
    let mut total = 0;
    loop {
        let chunk = match receive.read_chunk(1 << 16, true).await {
            Ok(Some(chunk)) => chunk,
            Ok(None) => break,
            Err(_) => return loaded.send(Upload::Cut).unwrap(),
        };
        if total == 0 && chunk.bytes.starts_with(b"bad") {
            let failed = LoadProgress::Failed("not an archive".into());
            write_frame(&mut send, &failed).await.unwrap();
            return;
        }
        if total == 0 {
            loaded.send(Upload::Begun).unwrap();
        }
        total += chunk.bytes.len();
    }
    loaded.send(Upload::Whole(total)).unwrap();
    write_frame(&mut send, &LoadProgress::Read(total as u64)).await.unwrap();
    write_frame(&mut send, &LoadProgress::Note("unpacked".into())).await.unwrap();
    write_frame(&mut send, &LoadProgress::Done(vec![image()])).await.unwrap();
}
