//! Giving out images: of what they are made, and their blobs.

use super::PeerError;
use crate::images::Images;
use bramble_protocol::net::write_frame;
use bramble_protocol::peer::PeerReply;
use std::io::SeekFrom;
use std::time::Duration;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

/// Bytes read from the disk and handed to the link at once.
const PIECE_BYTES: usize = 128 * 1024;
/// Longest time the other node may take for one piece; a place among the few is given up for it.
const PIECE_MAX: Duration = Duration::from_secs(20);

/// What an image is made of, if all of it is here.
pub(super) async fn describe(images: &Images, name: &str, reference: &str) -> PeerReply {
    match images.parts(reference, name).await {
        Ok(Some(image)) => PeerReply::Image(image),
        Ok(None) => PeerReply::NotHeld,
        Err(error) => PeerReply::Failed(error.reason()),
    }
}

/// Send a blob from `offset` to its end.
pub(super) async fn send(
    images: &Images,
    digest: &str,
    offset: u64,
    send: &mut (impl AsyncWrite + Unpin),
) -> Result<(), PeerError> {
    let (file, size) = match images.blob(digest).await {
        Ok(Some(found)) => found,
        Ok(None) => return Ok(write_frame(send, &PeerReply::NotHeld).await?),
        Err(error) => return Ok(write_frame(send, &PeerReply::Failed(error.reason())).await?),
    };
    if offset > size {
        let reason = format!("the blob has {size} bytes, it was asked for from byte {offset} on");
        return Ok(write_frame(send, &PeerReply::Failed(reason)).await?);
    }
    write_frame(send, &PeerReply::Blob { size }).await?;
    let mut file = File::from_std(file);
    file.seek(SeekFrom::Start(offset)).await.map_err(PeerError::Read)?;
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let count = file.read(&mut piece).await.map_err(PeerError::Read)?;
        if count == 0 {
            return Ok(());
        }
        let written = timeout(PIECE_MAX, send.write_all(&piece[..count])).await;
        written.map_err(|_| PeerError::Stalled)?.map_err(PeerError::Send)?;
    }
}
