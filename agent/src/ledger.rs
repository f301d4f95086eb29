//! The agent's memory on disk: assignments, unacknowledged statuses, facts of each task.
//!
//! The only module here that knows sled. One thread owns the database; it takes whatever writes
//! have gathered, applies them as one batch and makes them durable with one fsync. It never
//! decides anything: what to write is the reconciler's business.

mod record;
#[cfg(feature = "simulation")]
pub mod simulated;
mod writer;

pub use record::{Change, Contents, TaskFacts};

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::thread::JoinHandle;
use thiserror::Error;
use tokio::sync::oneshot;
use writer::{Request, Writer};

/// Writes waiting for the ledger's thread; beyond it the writer of one waits.
const REQUESTS_MAX: usize = 1024;

#[derive(Debug, Error)]
pub enum LedgerError {
    #[error("opening the ledger at {}", path.display())]
    Open {
        path: PathBuf,
        #[source]
        source: sled::Error,
    },
    #[error("opening {} for fsync", path.display())]
    OpenForSync {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("reading the ledger")]
    Read(#[source] sled::Error),
    #[error("a record of the ledger has a key of {0} bytes that is none of ours")]
    ForeignKey(usize),
    #[error("a record of the ledger cannot be decoded")]
    Decode(#[source] bramble_protocol::codec::CodecError),
    #[error("a record of the ledger cannot be encoded")]
    Encode(#[source] bramble_protocol::codec::CodecError),
    #[error("writing {changes} changes to the ledger")]
    Write {
        changes: usize,
        #[source]
        source: sled::Error,
    },
    #[error("fsync of {}", path.display())]
    Sync {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("starting the ledger's thread")]
    Thread(#[source] std::io::Error),
    #[error("the ledger is closed")]
    Closed,
    /// The cause is logged where it happened; several writes may share it.
    #[error("the ledger did not take the write: {0}")]
    Refused(Arc<LedgerError>),
}

/// A handle to the ledger's thread. The database closes when it is dropped.
pub struct Ledger {
    requests: Option<Requests>,
    thread: Option<JoinHandle<()>>,
}

/// The way to whoever writes.
enum Requests {
    Thread(SyncSender<Request>),
    #[cfg(feature = "simulation")]
    Task(tokio::sync::mpsc::UnboundedSender<Request>),
}

impl Ledger {
    /// Open or create the ledger in `directory` and read everything it holds.
    ///
    /// # Errors
    /// When the database cannot be opened (also when another process has it), or holds what this
    /// version does not understand.
    pub fn open(directory: &Path) -> Result<(Ledger, Contents), LedgerError> {
        let writer = Writer::open(directory)?;
        let contents = writer.read()?;
        let (requests, incoming) = std::sync::mpsc::sync_channel(REQUESTS_MAX);
        let thread = std::thread::Builder::new()
            .name("ledger".into())
            .spawn(move || writer.serve(&incoming))
            .map_err(LedgerError::Thread)?;
        let requests = Some(Requests::Thread(requests));
        Ok((Ledger { requests, thread: Some(thread) }, contents))
    }

    /// Write changes together; they are durable when this resolves.
    ///
    /// # Errors
    /// When the disk did not take them: then nothing of them is kept.
    pub async fn write(&self, changes: Vec<Change>) -> Result<(), LedgerError> {
        if changes.is_empty() {
            return Ok(());
        }
        let (done, result) = oneshot::channel();
        self.send(Request::Try { changes, done })?;
        result.await.map_err(|_| LedgerError::Closed)?.map_err(LedgerError::Refused)
    }

    /// Write changes that must not be lost, however long the disk refuses; `durable` runs on the
    /// ledger's thread once they are, in the order of the calls.
    pub fn keep(
        &self,
        changes: Vec<Change>,
        durable: impl FnOnce() + Send + 'static,
    ) -> Result<(), LedgerError> {
        self.send(Request::Must { changes, durable: Box::new(durable) })
    }

    fn send(&self, request: Request) -> Result<(), LedgerError> {
        let requests = self.requests.as_ref().ok_or(LedgerError::Closed)?;
        match requests {
            Requests::Thread(requests) => requests.send(request).map_err(|_| LedgerError::Closed),
            #[cfg(feature = "simulation")]
            Requests::Task(requests) => requests.send(request).map_err(|_| LedgerError::Closed),
        }
    }
}

impl Drop for Ledger {
    /// Close the database before returning, so that it can be opened again at once.
    fn drop(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            // A panic there was already printed by its own thread.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
#[path = "ledger/tests.rs"]
mod tests;
