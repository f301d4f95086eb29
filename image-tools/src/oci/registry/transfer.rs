//! Requests of a pull: documents into memory, blobs into staging files.
//!
//! Owns trying again: a bounded number of times, resuming a blob where it broke off. Network is
//! read on the runtime, disks are written on a thread that may block.

use super::error::PullError;
use super::{ACCEPTED, Pull};
use crate::oci::model::Descriptor;
use crate::oci::store::{BlobWriter, Staged, StoreError};
use bytes::Bytes;
use futures_util::StreamExt;
use oci_client::client::{BlobResponse, SizedStream};
use oci_client::errors::DigestError;
use oci_client::{Reference, RegistryOperation};
use std::io;
use std::time::Duration;
use tokio::sync::mpsc;

/// Tries of one request, the first included.
pub(super) const TRIES_MAX: u32 = 4;
/// Doubled after each try.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// Pieces of a body (some 16 KiB each) between network and disk.
const PIECES_MAX: usize = 32;

/// Counts tries and pauses between them.
struct Tries {
    left: u32,
    pause: Duration,
}

impl Tries {
    fn new() -> Tries {
        Tries { left: TRIES_MAX - 1, pause: FIRST_PAUSE }
    }

    /// Waits before the next try, or gives the error back: it is final, or tries are used up.
    async fn after(&mut self, error: PullError) -> Result<(), PullError> {
        if self.left == 0 || !error.is_transient() {
            return Err(error);
        }
        tracing::debug!(error = %error, left = self.left, "request to registry failed: again");
        tokio::time::sleep(self.pause).await;
        self.left -= 1;
        self.pause *= 2;
        Ok(())
    }
}

/// Fetches a manifest or an index.
pub(super) async fn fetch_document(pull: &Pull, remote: &Reference) -> Result<Vec<u8>, PullError> {
    let mut tries = Tries::new();
    loop {
        // Explicitly, since the client's own attempt at a token swallows its errors.
        let token = pull.client.auth(remote, &pull.auth, RegistryOperation::Pull).await;
        let fetched = match token {
            Ok(_) => pull.client.pull_manifest_raw(remote, &pull.auth, &ACCEPTED).await,
            Err(error) => Err(error),
        };
        match fetched {
            Ok((bytes, _)) => return Ok(bytes.to_vec()),
            Err(error) => tries.after(PullError::of(error, &pull.name)).await?,
        }
    }
}

/// Fetches a blob into the session's directory and holds it against its descriptor.
pub(super) async fn fetch_blob(
    pull: &Pull,
    descriptor: &Descriptor,
    what: &str,
) -> Result<Staged, PullError> {
    let mut tries = Tries::new();
    let mut writer = new_writer(pull).await?;
    let staged = loop {
        let stream = match open(pull, descriptor, writer.size()).await {
            Ok(BlobResponse::Partial(stream)) if writer.size() > 0 => stream,
            Ok(BlobResponse::Full(stream) | BlobResponse::Partial(stream)) => {
                if writer.size() > 0 {
                    writer = new_writer(pull).await?;
                }
                stream
            }
            Err(error) => {
                tries.after(error).await?;
                continue;
            }
        };
        let (written, result) = copy(pull, writer, stream, descriptor.size, what).await?;
        writer = written;
        match result {
            Ok(()) => break writer.finish(),
            Err(error) => tries.after(error).await?,
        }
    };
    staged.check(what, &descriptor.digest, Some(descriptor.size))?;
    Ok(staged)
}

async fn open(pull: &Pull, blob: &Descriptor, offset: u64) -> Result<BlobResponse, PullError> {
    let digest = blob.digest.to_string();
    let opened = if offset == 0 {
        pull.client.pull_blob_stream(&pull.remote, digest.as_str()).await.map(BlobResponse::Full)
    } else {
        pull.client.pull_blob_stream_partial(&pull.remote, digest.as_str(), offset, None).await
    };
    opened.map_err(|error| PullError::of(error, &pull.name))
}

async fn new_writer(pull: &Pull) -> Result<BlobWriter, PullError> {
    pull.work(|session| Ok(session.stage()?)).await
}

/// Copies until the end of the stream. The outer error is final; with the inner one the writer
/// holds what came before it.
async fn copy(
    pull: &Pull,
    mut writer: BlobWriter,
    mut stream: SizedStream,
    size: u64,
    what: &str,
) -> Result<(BlobWriter, Result<(), PullError>), PullError> {
    let (pieces, mut received) = mpsc::channel::<Bytes>(PIECES_MAX);
    let mut bytes = writer.size();
    let writing = pull.work(move |session| {
        while let Some(piece) = received.blocking_recv() {
            writer.write(&piece, session.budget())?;
        }
        Ok(writer)
    });
    let reading = async move {
        while let Some(piece) = stream.next().await {
            let piece = match piece {
                Ok(piece) => piece,
                // The client's own verdict at the end; ours follows and names both digests.
                Err(error) if is_digest_error(&error) => break,
                Err(source) => {
                    return Err(PullError::Transfer { what: what.to_owned(), source });
                }
            };
            bytes += piece.len() as u64;
            if bytes > size {
                // Never more than was promised: an endless body would fill the disk.
                let what = what.to_owned();
                let error = StoreError::SizeMismatch { what, expected: size, actual: bytes };
                return Err(error.into());
            }
            if pieces.send(piece).await.is_err() {
                break;
            }
        }
        Ok(())
    };
    // The reading side owns the sender: when it ends, the writing side does.
    let (written, read) = tokio::join!(writing, reading);
    Ok((written?, read))
}

fn is_digest_error(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<DigestError>())
}
