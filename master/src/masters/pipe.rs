//! Both halves of a QUIC stream as one connection.

use quinn::{RecvStream, SendStream, VarInt};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Code of a stream that was dropped before its end.
const BROKEN: VarInt = VarInt::from_u32(1);

/// Dropped before it was shut down, it breaks at the other side: quinn alone would end it there as
/// if all had been said.
pub(super) struct QuicPipe {
    send: SendStream,
    receive: RecvStream,
    ended: bool,
}

impl QuicPipe {
    pub(super) fn new(send: SendStream, receive: RecvStream) -> Self {
        Self { send, receive, ended: false }
    }
}

impl AsyncRead for QuicPipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        AsyncRead::poll_read(Pin::new(&mut self.receive), cx, buffer)
    }
}

impl AsyncWrite for QuicPipe {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        AsyncWrite::poll_write(Pin::new(&mut self.send), cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_flush(Pin::new(&mut self.send), cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.ended = true;
        AsyncWrite::poll_shutdown(Pin::new(&mut self.send), cx)
    }
}

impl Drop for QuicPipe {
    fn drop(&mut self) {
        if !self.ended {
            // Fails only for a stream that is over.
            let _ = self.send.reset(BROKEN);
        }
    }
}
