//! Blobs from a node: documents into memory, layers into partial files.
//!
//! Owns the bounds of one transfer: never more bytes than were told, never a wait without end.
//! The network is read on the runtime, the disk is written on a thread that may block.

use super::{BlobSource, ImportError, Progress};
use crate::oci::reference::ImageReference;
use crate::oci::store::{Bench, Blob, Partial, Session, Staged, StoreError};
use bytes::{Bytes, BytesMut};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

/// Longest wait for the next bytes. A node that is gone is noticed sooner, by its link.
const READ_TIMEOUT: Duration = Duration::from_secs(20);
/// Bytes of one piece handed to the disk, and pieces that wait for it.
const PIECE_BYTES: usize = 64 * 1024;
const PIECES_MAX: usize = 8;
/// Pause between two words on how much came.
const WORD_EVERY: Duration = Duration::from_secs(1);

/// Counts what came of an image, and says so now and then.
pub(super) struct Meter<'a> {
    name: &'a ImageReference,
    node: &'a str,
    total: u64,
    done: AtomicU64,
    told: Mutex<Option<Instant>>,
    progress: Progress<'a>,
}

impl<'a> Meter<'a> {
    pub(super) fn new(
        name: &'a ImageReference,
        node: &'a str,
        total: u64,
        progress: Progress<'a>,
    ) -> Meter<'a> {
        Meter { name, node, total, done: AtomicU64::new(0), told: Mutex::new(None), progress }
    }

    /// Counts bytes that came now.
    fn add(&self, bytes: u64) {
        let done = self.done.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_none_or(|at| at.elapsed() >= WORD_EVERY) {
            *told = Some(Instant::now());
            let (name, node) = (self.name, self.node);
            let of = amount(done.min(self.total), self.total);
            (self.progress)(format!("{name}: fetching image from {node}: {of}"));
        }
    }

    /// Counts bytes that were here already.
    pub(super) fn skip(&self, bytes: u64) {
        self.done.fetch_add(bytes, Ordering::Relaxed);
    }

    fn take_back(&self, bytes: u64) {
        self.done.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(super) fn note(&self, note: String) {
        (self.progress)(format!("{}: {note}", self.name));
    }
}

/// `3/12 MB`, or kB where that says more.
fn amount(done: u64, total: u64) -> String {
    match total {
        0..10_000_000 => format!("{}/{} kB", done / 1000, total.div_ceil(1000)),
        _ => format!("{}/{} MB", done / 1_000_000, total.div_ceil(1_000_000)),
    }
}

/// Fetches a layer's blob into its partial file and verifies it.
///
/// What does not fit its digest is thrown away. If a part of it was from before, the node at hand
/// need not be to blame: it is asked for all of it, once.
pub(super) async fn fetch<S: BlobSource>(
    bench: &Bench,
    blob: &Blob,
    source: &S,
    meter: &Meter<'_>,
) -> Result<Staged, ImportError> {
    let digest = blob.digest.clone();
    let open =
        bench.work(move |session| Ok::<_, ImportError>(Partial::open(session.store(), &digest)?));
    let mut partial = open.await?;
    loop {
        meter.skip(partial.size());
        if partial.size() < blob.size {
            partial = continue_from(bench, partial, blob, source, meter).await?;
        }
        let digest = partial.digest();
        if digest == blob.digest {
            return Ok(partial.finish());
        }
        let resumed = partial.is_resumed();
        meter.take_back(partial.size());
        let empty = move |_: &Session| Ok::<_, ImportError>(partial.restart()?);
        partial = bench.work(empty).await?;
        if !resumed {
            let (what, expected) = (format!("layer {}", blob.digest), blob.digest.clone());
            return Err(StoreError::DigestMismatch { what, expected, actual: digest }.into());
        }
        tracing::info!(blob = %blob.digest, "a blob that came in parts does not fit its digest");
    }
}

/// Reads from where the file ends until the blob does. With an error the file stays, for the next.
async fn continue_from<S: BlobSource>(
    bench: &Bench,
    mut partial: Partial,
    blob: &Blob,
    source: &S,
    meter: &Meter<'_>,
) -> Result<Partial, ImportError> {
    let what = || format!("layer {}", blob.digest);
    let broke = |source| ImportError::Transfer { what: what(), source };
    let left = blob.size - partial.size();
    let mut reader = source.open(&blob.digest, partial.size()).await.map_err(broke)?;
    let (pieces, mut received) = mpsc::channel::<Bytes>(PIECES_MAX);
    let writing = bench.work(move |session| {
        while let Some(piece) = received.blocking_recv() {
            partial.writer().write(&piece, session.budget())?;
        }
        Ok::<_, ImportError>(partial)
    });
    let reading = async move {
        let mut left = left;
        while left > 0 {
            let piece = next(&mut reader).await?;
            let piece = piece.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
            // More than was told is not taken: an endless blob would fill the disk.
            let length = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            left -= length as u64;
            meter.add(length as u64);
            if pieces.send(piece.slice(..length)).await.is_err() {
                break;
            }
        }
        Ok(())
    };
    // The reading side owns the sender: when it ends, the writing side does.
    let (written, read) = tokio::join!(writing, reading);
    let partial = written?;
    read.map_err(broke)?;
    Ok(partial)
}

/// Reads a small blob into memory; no more than it is said to have.
pub(super) async fn read<S: BlobSource>(
    blob: &Blob,
    what: &str,
    source: &S,
) -> Result<Vec<u8>, ImportError> {
    let broke = |source| ImportError::Transfer { what: what.to_owned(), source };
    let reader = source.open(&blob.digest, 0).await.map_err(broke)?;
    let mut reader = reader.take(blob.size);
    let mut bytes = Vec::new();
    while let Some(piece) = next(&mut reader).await.map_err(broke)? {
        bytes.extend_from_slice(&piece);
    }
    if (bytes.len() as u64) < blob.size {
        return Err(broke(io::ErrorKind::UnexpectedEof.into()));
    }
    Ok(bytes)
}

async fn next(reader: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Bytes>> {
    let mut buffer = BytesMut::with_capacity(PIECE_BYTES);
    match timeout(READ_TIMEOUT, reader.read_buf(&mut buffer)).await {
        Ok(Ok(0)) => Ok(None),
        Ok(Ok(_)) => Ok(Some(buffer.freeze())),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_told_in_the_larger_unit_that_says_something() {
        let cases = [(0, 0, "0/0 kB"), (1500, 2001, "1/3 kB"), (3_400_000, 12_000_000, "3/12 MB")];
        for (done, total, told) in cases {
            assert_eq!(amount(done, total), told);
        }
    }
}
