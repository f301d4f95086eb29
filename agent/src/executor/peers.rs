//! Connections of the agent to this executor. Owns the listening socket and frames; must never
//! let a slow or hostile peer hold up the container.

use super::error::ExecutorError;
use bramble_protocol::codec::{self, FRAME_HEAD_BYTES};
use bramble_protocol::executor::{FromExecutor, SOCKET_FILE, ToExecutor};
use nix::sys::stat::{Mode, umask};
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

/// Most connections at once; an agent needs one, a restarted one another.
pub const PEERS_MAX: usize = 16;
/// Largest frame an executor accepts, in bytes; requests are tiny.
const REQUEST_BYTES_MAX: usize = 4096;
/// Longest time one write to a peer may take.
const WRITE_LIMIT: Duration = Duration::from_secs(1);

struct Peer {
    stream: UnixStream,
    buffer: Vec<u8>,
}

pub struct Peers {
    listener: UnixListener,
    connected: Vec<Peer>,
}

impl Peers {
    /// Bind `<task dir>/socket`, readable by root only.
    ///
    /// # Errors
    /// The run directory cannot be written.
    pub fn bind(task_dir: &Path) -> Result<Self, ExecutorError> {
        let path = task_dir.join(SOCKET_FILE);
        let failed = |source| ExecutorError::Write { path: path.clone(), source };
        let _absent = fs::remove_file(&path);
        // A relative name: the whole path may be longer than a socket address.
        std::env::set_current_dir(task_dir).map_err(failed)?;
        let before = umask(Mode::S_IRWXG | Mode::S_IRWXO);
        let bound = UnixListener::bind(SOCKET_FILE);
        umask(before);
        std::env::set_current_dir("/").map_err(failed)?;
        let listener = bound.map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        Ok(Self { listener, connected: Vec::new() })
    }

    /// Descriptors to watch: the listener first, then every peer in order.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        std::iter::once(self.listener.as_fd())
            .chain(self.connected.iter().map(|p| p.stream.as_fd()))
    }

    /// Take waiting connections; each hears the state first.
    pub fn accept(&mut self, state: &FromExecutor) {
        while let Ok((stream, _)) = self.listener.accept() {
            if self.connected.len() == PEERS_MAX {
                // The oldest is the likeliest to belong to an agent that died.
                self.connected.remove(0);
            }
            let usable = stream.set_nonblocking(false).is_ok()
                && stream.set_write_timeout(Some(WRITE_LIMIT)).is_ok();
            let mut peer = Peer { stream, buffer: Vec::new() };
            if usable && peer.send(state) {
                self.connected.push(peer);
            }
        }
    }

    /// Read what peers have sent; those that closed or misbehave are dropped.
    pub fn requests(&mut self) -> Vec<ToExecutor> {
        let mut requests = Vec::new();
        self.connected.retain_mut(|peer| peer.receive(&mut requests));
        requests
    }

    /// Tell every peer.
    pub fn tell(&mut self, state: &FromExecutor) {
        self.connected.retain_mut(|peer| peer.send(state));
    }
}

impl Peer {
    fn send(&mut self, state: &FromExecutor) -> bool {
        codec::to_frame(state).is_ok_and(|frame| self.stream.write_all(&frame).is_ok())
    }

    fn receive(&mut self, requests: &mut Vec<ToExecutor>) -> bool {
        let open = self.fill();
        while let Some(frame) = self.next_frame() {
            match frame {
                Ok(request) => requests.push(request),
                Err(_misbehaves) => return false,
            }
        }
        open
    }

    fn fill(&mut self) -> bool {
        let mut chunk = [0u8; 512];
        if self.stream.set_nonblocking(true).is_err() {
            return false;
        }
        let open = loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => break false,
                Ok(count) => self.buffer.extend_from_slice(&chunk[..count]),
                Err(e) if e.kind() == ErrorKind::WouldBlock => break true,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(_) => break false,
            }
            if self.buffer.len() > REQUEST_BYTES_MAX {
                break false;
            }
        };
        open && self.stream.set_nonblocking(false).is_ok()
    }

    fn next_frame(&mut self) -> Option<Result<ToExecutor, codec::CodecError>> {
        let head: [u8; FRAME_HEAD_BYTES] = self.buffer.get(..FRAME_HEAD_BYTES)?.try_into().ok()?;
        let length = match codec::body_length(&head) {
            Ok(length) => length,
            Err(e) => return Some(Err(e)),
        };
        let end = FRAME_HEAD_BYTES + length;
        let request = codec::from_bytes(self.buffer.get(FRAME_HEAD_BYTES..end)?);
        self.buffer.drain(..end);
        Some(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_hear_the_state_and_may_ask_in_pieces() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let mut peers = Peers::bind(dir.path()).expect("binds");
        let mut agent = UnixStream::connect(dir.path().join(SOCKET_FILE)).expect("connects");
        let state = FromExecutor::Failed { message: "no".into() };
        peers.accept(&state);
        let mut head = [0; FRAME_HEAD_BYTES];
        agent.read_exact(&mut head).expect("a head");
        let mut body = vec![0; codec::body_length(&head).expect("good head")];
        agent.read_exact(&mut body).expect("a body");
        assert_eq!(codec::from_bytes::<FromExecutor>(&body).expect("decodes"), state);

        let mut bytes = codec::to_frame(&ToExecutor::Start).expect("encodes");
        bytes.extend(codec::to_frame(&ToExecutor::Stop { grace_ms: 7 }).expect("encodes"));
        agent.write_all(&bytes[..7]).expect("sends a piece");
        assert_eq!(peers.requests(), []);
        agent.write_all(&bytes[7..]).expect("sends the rest");
        assert_eq!(peers.requests(), [ToExecutor::Start, ToExecutor::Stop { grace_ms: 7 }]);
    }

    #[test]
    fn nonsense_closes_the_connection() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let mut peers = Peers::bind(dir.path()).expect("binds");
        let mut agent = UnixStream::connect(dir.path().join(SOCKET_FILE)).expect("connects");
        peers.accept(&FromExecutor::Failed { message: String::new() });
        agent.write_all(&[0xff; 64]).expect("sends");
        assert_eq!(peers.requests(), []);
        assert_eq!(peers.descriptors().count(), 1, "only the listener is left");
    }
}
