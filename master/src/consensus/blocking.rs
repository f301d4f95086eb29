//! Work on files, off the reactor's threads. Owns the choice of where it runs, nothing else.
//!
//! A simulation has one thread and a clock of its own: there the work is done in place.

#[cfg(not(feature = "simulation"))]
pub(super) use tokio::fs::File as SnapshotFile;

#[cfg(feature = "simulation")]
pub(super) use in_place::SnapshotFile;

use tokio::task::JoinError;

/// Run `work` where it may block.
///
/// # Errors
/// It panicked.
pub(super) async fn run<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JoinError> {
    #[cfg(feature = "simulation")]
    if super::simulated::is_on() {
        return Ok(work());
    }
    tokio::task::spawn_blocking(work).await
}

#[cfg(feature = "simulation")]
mod in_place {
    use std::io::{self, Read, Seek, SeekFrom, Write};
    use std::path::Path;
    use std::pin::Pin;
    use std::task::{Context, Poll};
    use tokio::io::{AsyncRead, AsyncSeek, AsyncWrite, ReadBuf};

    /// tokio's file, or one that is read and written in place.
    pub enum SnapshotFile {
        Real(tokio::fs::File),
        InPlace { file: std::fs::File, at: u64 },
    }

    impl SnapshotFile {
        pub fn from_std(file: std::fs::File) -> Self {
            match super::super::simulated::is_on() {
                true => SnapshotFile::InPlace { file, at: 0 },
                false => SnapshotFile::Real(tokio::fs::File::from_std(file)),
            }
        }

        pub async fn open(path: impl AsRef<Path>) -> io::Result<Self> {
            match super::super::simulated::is_on() {
                true => std::fs::File::open(path).map(Self::from_std),
                false => tokio::fs::File::open(path).await.map(SnapshotFile::Real),
            }
        }
    }

    impl AsyncRead for SnapshotFile {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            match &mut *self {
                SnapshotFile::Real(file) => Pin::new(file).poll_read(cx, buf),
                SnapshotFile::InPlace { file, .. } => {
                    let count = file.read(buf.initialize_unfilled())?;
                    buf.advance(count);
                    Poll::Ready(Ok(()))
                }
            }
        }
    }

    impl AsyncWrite for SnapshotFile {
        fn poll_write(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &[u8],
        ) -> Poll<io::Result<usize>> {
            match &mut *self {
                SnapshotFile::Real(file) => Pin::new(file).poll_write(cx, buf),
                SnapshotFile::InPlace { file, .. } => Poll::Ready(file.write(buf)),
            }
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            match &mut *self {
                SnapshotFile::Real(file) => Pin::new(file).poll_flush(cx),
                SnapshotFile::InPlace { .. } => Poll::Ready(Ok(())),
            }
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            match &mut *self {
                SnapshotFile::Real(file) => Pin::new(file).poll_shutdown(cx),
                SnapshotFile::InPlace { .. } => Poll::Ready(Ok(())),
            }
        }
    }

    impl AsyncSeek for SnapshotFile {
        fn start_seek(mut self: Pin<&mut Self>, position: SeekFrom) -> io::Result<()> {
            match &mut *self {
                SnapshotFile::Real(file) => Pin::new(file).start_seek(position),
                SnapshotFile::InPlace { file, at } => file.seek(position).map(|now| *at = now),
            }
        }

        fn poll_complete(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<u64>> {
            match &mut *self {
                SnapshotFile::Real(file) => Pin::new(file).poll_complete(cx),
                SnapshotFile::InPlace { at, .. } => Poll::Ready(Ok(*at)),
            }
        }
    }
}
