//! A node's end of the network: which answer belongs to which request, which bytes to which
//! stream. Lives and dies with the node's runtime.

use crate::net::{Net, Packet, Place};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex, split};
use tokio::sync::{mpsc, oneshot};

/// Bytes a stream holds on its way between the network and who reads it.
const PIPE_BYTES: usize = 16 * 1024;
/// Pause after which a stream says that it lives, as `protocol::net` has it.
const KEEP_ALIVE: Duration = Duration::from_secs(1);

pub struct Port {
    pub net: Net,
    pub me: Place,
    pending: Mutex<Pending>,
    lines: Mutex<BTreeMap<u64, Near>>,
}

/// The near end of a stream.
struct Near {
    bytes: mpsc::UnboundedSender<Option<Vec<u8>>>,
    /// Counts what arrived.
    packets: Arc<AtomicU64>,
}

#[derive(Default)]
struct Pending {
    next: u64,
    waiting: BTreeMap<u64, oneshot::Sender<Vec<u8>>>,
}

/// Forgets a request whose asker no longer waits.
struct Asked<'a>(&'a Port, u64);

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.0.pending().waiting.remove(&self.1);
    }
}

impl Port {
    pub fn new(net: Net, me: Place) -> Arc<Self> {
        Arc::new(Self { net, me, pending: Mutex::default(), lines: Mutex::default() })
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ask another master; never resolves when the answer is lost.
    pub async fn ask(&self, to: Place, body: Vec<u8>) -> Vec<u8> {
        let (sender, answer) = oneshot::channel();
        let id = {
            let mut pending = self.pending();
            pending.next += 1;
            let id = pending.next;
            pending.waiting.insert(id, sender);
            id
        };
        let _asked = Asked(self, id);
        self.net.send(self.me, to, Packet::Request { from: self.me, id, body });
        match answer.await {
            Ok(body) => body,
            Err(_) => std::future::pending().await,
        }
    }

    /// Dial `to`.
    pub fn dial(self: &Arc<Self>, to: Place) -> DuplexStream {
        let line = self.net.open(self.me, to);
        self.attach(line).0
    }

    /// Give the near end of a stream, and a count of what arrives on it. It ends when that is
    /// dropped, or by the network.
    pub fn attach(self: &Arc<Self>, line: u64) -> (DuplexStream, Arc<AtomicU64>) {
        let (near, far) = duplex(PIPE_BYTES);
        let (sender, incoming) = mpsc::unbounded_channel();
        let packets = Arc::new(AtomicU64::new(0));
        let end = Near { bytes: sender, packets: packets.clone() };
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).insert(line, end);
        tokio::spawn(self.clone().carry(line, far, incoming));
        (near, packets)
    }

    async fn carry(
        self: Arc<Self>,
        line: u64,
        far: DuplexStream,
        mut incoming: mpsc::UnboundedReceiver<Option<Vec<u8>>>,
    ) {
        let (mut read, mut write) = split(far);
        let outward = async {
            let mut bytes = vec![0; PIPE_BYTES];
            loop {
                match tokio::time::timeout(KEEP_ALIVE, read.read(&mut bytes)).await {
                    Ok(Ok(count @ 1..)) => self.net.write(line, self.me, &bytes[..count]),
                    Ok(_) => return,
                    Err(_) => self.net.write(line, self.me, &[]),
                }
            }
        };
        let inward = async {
            while let Some(Some(bytes)) = incoming.recv().await {
                if write.write_all(&bytes).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            biased;
            () = outward => {}
            () = inward => {}
        }
        self.net.finish(line, self.me);
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).remove(&line);
    }

    /// Take what belongs to a request or stream of this node; gives back what does not.
    pub fn take(&self, packet: Packet) -> Option<Packet> {
        let (line, bytes) = match packet {
            Packet::Reply { id, body } => {
                let waiting = self.pending().waiting.remove(&id);
                if let Some(waiting) = waiting {
                    // Whoever asked may have given up meanwhile.
                    let _ = waiting.send(body);
                }
                return None;
            }
            Packet::Bytes { line, body } => (line, Some(body)),
            Packet::End { line } => (line, None),
            other => return Some(other),
        };
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(near) = lines.get(&line) {
            near.packets.fetch_add(1, Ordering::Relaxed);
            // A stream that has just ended takes nothing more.
            let _ = near.bytes.send(bytes);
        }
        None
    }
}
