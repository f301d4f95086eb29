//! Joins an asynchronous stream to work that reads it on a blocking thread.
//!
//! Owns the two channels between them: bytes down, lines of progress up, both bounded. The work
//! sees an error, not an end, when the stream's side goes away before the stream has ended.

use super::{ImageError, Progress};
use bytes::{Buf, Bytes, BytesMut};
use std::io::{self, Read};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::mpsc;

/// Bytes of one piece handed over.
const PIECE_BYTES: usize = 64 * 1024;
/// Pieces that wait for the disk.
const PIECES_MAX: usize = 16;
/// Lines that wait to be shown; the work waits when it is ahead by more.
const NOTES_MAX: usize = 64;

enum Piece {
    Bytes(Bytes),
    /// The stream ended: what makes an end different from a lost connection.
    End,
    Failed(io::Error),
}

/// The blocking end of the stream.
pub(super) struct Feed {
    pieces: mpsc::Receiver<Piece>,
    current: Bytes,
    ended: bool,
}

/// Sends lines of progress from a blocking thread.
pub(super) struct Notes(mpsc::Sender<String>);

impl Notes {
    pub(super) fn send(&self, line: String) {
        // Nobody left to read it is no reason to stop.
        let _ = self.0.blocking_send(line);
    }
}

impl Read for Feed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() && !self.ended {
            match self.pieces.blocking_recv() {
                Some(Piece::Bytes(bytes)) => self.current = bytes,
                Some(Piece::End) => self.ended = true,
                Some(Piece::Failed(error)) => return Err(error),
                None => {
                    let text = "the sender went away in the middle";
                    return Err(io::Error::new(io::ErrorKind::ConnectionAborted, text));
                }
            }
        }
        let count = self.current.len().min(buffer.len());
        self.current.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}

/// Runs `work` on a blocking thread, feeding it `reader` and passing on its lines of progress.
pub(super) async fn through<T: Send + 'static>(
    reader: impl AsyncRead,
    progress: Progress<'_>,
    work: impl FnOnce(Feed, Notes) -> Result<T, ImageError> + Send + 'static,
) -> Result<T, ImageError> {
    let (pieces, received) = mpsc::channel(PIECES_MAX);
    let (notes, mut lines) = mpsc::channel(NOTES_MAX);
    let feed = Feed { pieces: received, current: Bytes::new(), ended: false };
    let mut job = tokio::task::spawn_blocking(move || work(feed, Notes(notes)));
    let feeding = pump(reader, pieces);
    tokio::pin!(feeding);
    let mut fed = false;
    loop {
        tokio::select! {
            () = &mut feeding, if !fed => fed = true,
            Some(line) = lines.recv() => progress(line),
            done = &mut job => {
                while let Ok(line) = lines.try_recv() {
                    progress(line);
                }
                return done.map_err(|_| ImageError::Stopped)?;
            }
        }
    }
}

/// Ends early when the work has ended: it does not read what it does not need.
async fn pump(reader: impl AsyncRead, pieces: mpsc::Sender<Piece>) {
    tokio::pin!(reader);
    loop {
        let mut buffer = BytesMut::with_capacity(PIECE_BYTES);
        let piece = match reader.read_buf(&mut buffer).await {
            Ok(0) => Piece::End,
            Ok(_) => Piece::Bytes(buffer.freeze()),
            Err(error) => Piece::Failed(error),
        };
        let last = !matches!(piece, Piece::Bytes(_));
        if pieces.send(piece).await.is_err() || last {
            return;
        }
    }
}
