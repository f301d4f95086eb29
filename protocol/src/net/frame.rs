//! Whole frames on a byte stream, by the codec's rules.

use crate::codec::{
    CodecError, FRAME_BYTES_MAX, FRAME_HEAD_BYTES, body_length, from_bytes, to_frame,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Bytes reserved before a body arrives. More is only taken as bytes really come, so that a head
/// that claims megabytes costs nothing.
const RESERVE_BYTES_MAX: usize = 16 * 1024;

#[derive(Debug, Error)]
pub enum FrameError {
    #[error("reading a frame")]
    Read(#[source] io::Error),
    #[error("writing a frame")]
    Write(#[source] io::Error),
    #[error("the stream ended inside a frame: {got} of {want} bytes came")]
    Truncated { got: usize, want: usize },
    #[error("a frame of {bytes} bytes is over this stream's limit of {limit}")]
    OverLimit { bytes: usize, limit: usize },
    #[error("the frame is not understood")]
    Codec(#[source] CodecError),
}

/// Read the next frame; `None` when the stream ended between frames.
///
/// Not cancel-safe: a dropped call may have taken a part of a frame off the stream.
///
/// # Errors
/// When the stream fails or ends inside a frame, or the frame is not understood.
pub async fn read_frame<T: DeserializeOwned>(
    reader: &mut (impl AsyncRead + Unpin + ?Sized),
) -> Result<Option<T>, FrameError> {
    read_frame_within(reader, FRAME_BYTES_MAX).await
}

/// Like [`read_frame`], refusing bodies over `limit` bytes (for peers not yet believed).
///
/// # Errors
/// As [`read_frame`].
pub async fn read_frame_within<T: DeserializeOwned>(
    reader: &mut (impl AsyncRead + Unpin + ?Sized),
    limit: usize,
) -> Result<Option<T>, FrameError> {
    let mut head = [0; FRAME_HEAD_BYTES];
    let mut got = 0;
    while got < head.len() {
        match reader.read(&mut head[got..]).await.map_err(FrameError::Read)? {
            0 if got == 0 => return Ok(None),
            0 => return Err(FrameError::Truncated { got, want: head.len() }),
            more => got += more,
        }
    }
    let length = body_length(&head).map_err(FrameError::Codec)?;
    if length > limit {
        return Err(FrameError::OverLimit { bytes: length, limit });
    }
    let mut body = Vec::with_capacity(length.min(RESERVE_BYTES_MAX));
    reader.take(length as u64).read_to_end(&mut body).await.map_err(FrameError::Read)?;
    if body.len() < length {
        return Err(FrameError::Truncated { got: body.len(), want: length });
    }
    from_bytes(&body).map(Some).map_err(FrameError::Codec)
}

/// Write one value as one frame.
///
/// # Errors
/// When the value is too large or the stream fails.
pub async fn write_frame<T: Serialize + ?Sized>(
    writer: &mut (impl AsyncWrite + Unpin + ?Sized),
    value: &T,
) -> Result<(), FrameError> {
    let frame = to_frame(&value).map_err(FrameError::Codec)?;
    writer.write_all(&frame).await.map_err(FrameError::Write)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::FRAME_VERSION;

    #[tokio::test]
    async fn frames_follow_each_other_to_a_clean_end() {
        let mut wire = Vec::new();
        for text in ["one", "", "three"] {
            write_frame(&mut wire, &text.to_string()).await.expect("writes");
        }
        let mut reader = wire.as_slice();
        let mut read = Vec::new();
        while let Some(text) = read_frame::<String>(&mut reader).await.expect("reads") {
            read.push(text);
        }
        assert_eq!(read, ["one", "", "three"]);
    }

    #[tokio::test]
    async fn a_stream_cut_anywhere_inside_a_frame_is_an_error() {
        let mut wire = Vec::new();
        write_frame(&mut wire, &"text".to_string()).await.expect("writes");
        for cut in 1..wire.len() {
            let read = read_frame::<String>(&mut &wire[..cut]).await;
            assert!(matches!(read, Err(FrameError::Truncated { .. })), "{cut}: {read:?}");
        }
    }

    #[tokio::test]
    async fn bad_heads_and_bodies_are_refused() {
        let huge = [0xff, 0xff, 0xff, 0xff, FRAME_VERSION];
        let read = read_frame::<String>(&mut &huge[..]).await;
        assert!(matches!(read, Err(FrameError::Codec(CodecError::TooLarge { .. }))), "{read:?}");
        let read = read_frame::<String>(&mut &[0, 0, 0, 1, 77, 0][..]).await;
        assert!(matches!(read, Err(FrameError::Codec(CodecError::Version(77)))), "{read:?}");
        let read = read_frame::<String>(&mut &[0, 0, 0, 1, FRAME_VERSION, 0xff][..]).await;
        assert!(matches!(read, Err(FrameError::Codec(CodecError::Decode { .. }))), "{read:?}");
        let read = read_frame_within::<String>(&mut &[0, 0, 1, 0, FRAME_VERSION][..], 255).await;
        assert!(matches!(read, Err(FrameError::OverLimit { bytes: 256, limit: 255 })), "{read:?}");
    }
}
