//! Serving an image load: an archive comes in, progress goes back.

use super::StreamError;
use crate::images::Images;
use bramble_protocol::message::LoadProgress;
use bramble_protocol::net::write_frame;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

/// Pause between two tellings of how much was read.
pub(super) const TELL_PAUSE: Duration = Duration::from_millis(200);
/// Lines of progress waiting for the reader; more are dropped, the last word never.
const NOTES_MAX: usize = 64;

pub(super) async fn load(
    images: &Images,
    receive: impl AsyncRead,
    send: &mut (impl AsyncWrite + Unpin),
) -> Result<(), StreamError> {
    let (notes, mut lines) = mpsc::channel(NOTES_MAX);
    let progress = move |line| {
        let _ = notes.try_send(line);
    };
    let (counted, read) = Counted::new(receive);
    let loading = images.load(counted, &progress);
    tokio::pin!(loading);
    let mut ticks = tokio::time::interval(TELL_PAUSE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told = 0;
    let last = loop {
        tokio::select! {
            loaded = &mut loading => break match loaded {
                Ok(images) => LoadProgress::Done(images),
                Err(error) => LoadProgress::Failed(error.reason()),
            },
            Some(line) = lines.recv() => write_frame(send, &LoadProgress::Note(line)).await?,
            _ = ticks.tick() => {
                let now = read.load(Ordering::Relaxed);
                if now != told {
                    told = now;
                    write_frame(send, &LoadProgress::Read(now)).await?;
                }
            }
        }
    };
    while let Ok(line) = lines.try_recv() {
        write_frame(send, &LoadProgress::Note(line)).await?;
    }
    write_frame(send, &LoadProgress::Read(read.load(Ordering::Relaxed))).await?;
    Ok(write_frame(send, &last).await?)
}

/// Counts what goes through it.
pub(super) struct Counted<R> {
    inner: Pin<Box<R>>,
    read: Arc<AtomicU64>,
}

impl<R> Counted<R> {
    pub(super) fn new(inner: R) -> (Self, Arc<AtomicU64>) {
        let read = Arc::new(AtomicU64::new(0));
        (Counted { inner: Box::pin(inner), read: Arc::clone(&read) }, read)
    }
}

impl<R: AsyncRead> AsyncRead for Counted<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buffer.filled().len();
        ready!(self.inner.as_mut().poll_read(cx, buffer))?;
        let count = buffer.filled().len() - before;
        self.read.fetch_add(count as u64, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images::ImagesConfig;
    use bramble_protocol::net::read_frame;
    use tokio::io::AsyncWriteExt;

    #[tokio::test]
    async fn a_bad_archive_is_told_in_the_last_frame() {
        let directory = tempfile::tempdir().unwrap();
        let images = Images::open(directory.path(), ImagesConfig::default()).unwrap();
        let (mut archive, receive) = tokio::io::duplex(1024);
        let (mut send, mut frames) = tokio::io::duplex(64 * 1024);
        let loading = async {
            load(&images, receive, &mut send).await.unwrap();
            drop(send);
        };
        let sending = async {
            // The load may stop reading early.
            let _ = archive.write_all(&[7; 4096]).await;
            drop(archive);
        };
        tokio::join!(loading, sending);
        let mut last = None;
        while let Some(frame) = read_frame::<LoadProgress>(&mut frames).await.unwrap() {
            last = Some(frame);
        }
        assert!(matches!(last, Some(LoadProgress::Failed(_))), "{last:?}");
        assert!(images.list().is_empty());
    }
}
