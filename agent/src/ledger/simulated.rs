//! A ledger in memory, for the simulation: the same records, a task instead of the thread, and a
//! crash that forgets what was not yet durable.

use super::record::{Change, Reader, Written, encode, part_key};
use super::writer::Request;
use super::{Contents, Ledger, LedgerError, Requests};
use rand::Rng;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;

/// Longest write with its sync, in milliseconds; each takes its own time.
const SYNC_MS_MAX: u64 = 12;

/// What is durable; outlives the agents that write it.
#[derive(Clone, Default)]
pub struct Paper(Arc<Mutex<BTreeMap<Vec<u8>, Vec<u8>>>>);

impl Paper {
    /// Open the ledger on it, as [`Ledger::open`] opens one in a directory. Needs a runtime.
    ///
    /// # Errors
    /// It holds what this version does not understand.
    pub fn open(&self) -> Result<(Ledger, Contents), LedgerError> {
        let contents = self.read()?;
        let (sender, requests) = mpsc::unbounded_channel();
        tokio::spawn(self.clone().serve(requests));
        Ok((Ledger { requests: Some(Requests::Task(sender)), thread: None }, contents))
    }

    /// Everything it holds.
    ///
    /// # Errors
    /// As [`Paper::open`].
    pub fn read(&self) -> Result<Contents, LedgerError> {
        let mut reader = Reader::default();
        for (key, value) in self.lock().iter() {
            reader.take(key, value)?;
        }
        reader.finish()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Vec<u8>, Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn serve(self, mut requests: mpsc::UnboundedReceiver<Request>) {
        while let Some(first) = requests.recv().await {
            let mut group = vec![first];
            while let Ok(next) = requests.try_recv() {
                group.push(next);
            }
            let pause = Duration::from_millis(rand::rng().random_range(0..=SYNC_MS_MAX));
            tokio::time::sleep(pause).await;
            for request in group {
                self.commit(request);
            }
        }
    }

    fn commit(&self, request: Request) {
        match request {
            Request::Try { changes, done } => {
                let result = changes.iter().try_for_each(|change| self.write(change));
                // The asker may have given up; the write stands.
                let _ = done.send(result.map_err(Arc::new));
            }
            Request::Must { changes, durable } => {
                let written = changes.iter().try_for_each(|change| self.write(change));
                written.expect("a record of the ledger can be encoded");
                durable();
            }
        }
    }

    fn write(&self, change: &Change) -> Result<(), LedgerError> {
        let written = encode(change)?;
        let mut map = self.lock();
        match written {
            Written::Plain { key, value } => drop(map.insert(key.to_vec(), value)),
            Written::Remove { prefix } => map.retain(|key, _| !key.starts_with(&prefix)),
            Written::Put { prefix, parts } => {
                map.retain(|key, _| !key.starts_with(&prefix));
                for (part, value) in (0u16..).zip(parts) {
                    map.insert(part_key(&prefix, part), value);
                }
            }
        }
        Ok(())
    }
}
