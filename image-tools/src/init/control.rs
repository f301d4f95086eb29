//! PID 1's socket: who may speak there is root. Each connection is one line and one answer.

use super::console::say;
use crate::node::control::{LINE_BYTES_MAX, Reply, Request};
use crate::node::layout::SOCKET;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::time::Duration;

/// Connections at once; one more is closed unheard.
const CONNECTIONS_MAX: usize = 8;
/// A line comes at once, from this machine.
const READ_MAX: Duration = Duration::from_secs(5);
/// Requests that wait for the main loop.
const WAITING_MAX: usize = CONNECTIONS_MAX;

/// A request, and where its answer goes.
pub struct Asked {
    pub request: Request,
    pub reply: Sender<Reply>,
}

/// Begin to listen. `wake` is written to when the main loop has something to read.
///
/// # Errors
/// The socket cannot be made.
pub fn listen(wake: io::PipeWriter) -> io::Result<Receiver<Asked>> {
    let _ = fs::remove_file(SOCKET);
    let listener = UnixListener::bind(SOCKET)?;
    fs::set_permissions(SOCKET, fs::Permissions::from_mode(0o600))?;
    let (sender, receiver) = sync_channel(WAITING_MAX);
    let wake = Arc::new(wake);
    let open = Arc::new(AtomicUsize::new(0));
    let accept = move || {
        for stream in listener.incoming().flatten() {
            if open.fetch_add(1, Ordering::SeqCst) >= CONNECTIONS_MAX {
                open.fetch_sub(1, Ordering::SeqCst);
                continue;
            }
            let (sender, wake, open) = (sender.clone(), Arc::clone(&wake), Arc::clone(&open));
            let counted = Arc::clone(&open);
            let serve = move || {
                serve(&stream, &sender, &wake);
                open.fetch_sub(1, Ordering::SeqCst);
            };
            if spawn(serve).is_err() {
                counted.fetch_sub(1, Ordering::SeqCst);
            }
        }
    };
    spawn(accept)?;
    Ok(receiver)
}

fn spawn(run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    std::thread::Builder::new().stack_size(128 << 10).spawn(run).map(|_| ())
}

fn serve(stream: &UnixStream, sender: &SyncSender<Asked>, wake: &io::PipeWriter) {
    let answer = match read(stream) {
        Ok(request) => {
            let (reply, answer) = channel();
            let sent = sender.send(Asked { request, reply }).is_ok();
            let mut wake = wake;
            if !sent || wake.write_all(&[1]).is_err() {
                return;
            }
            // The sender is dropped where the machine goes down unasked.
            answer.recv().unwrap_or(Reply::Refused("the node goes down".into()))
        }
        Err(error) => Reply::Refused(error.to_string()),
    };
    let mut line = serde_json::to_vec(&answer).unwrap_or_default();
    line.push(b'\n');
    let mut stream = stream;
    if let Err(error) = stream.write_all(&line) {
        say(&format!("answering on {SOCKET}: {error}"));
    }
}

fn read(stream: &UnixStream) -> io::Result<Request> {
    stream.set_read_timeout(Some(READ_MAX))?;
    let mut line = String::new();
    BufReader::new(stream.take(LINE_BYTES_MAX as u64)).read_line(&mut line)?;
    serde_json::from_str(&line).map_err(io::Error::other)
}
