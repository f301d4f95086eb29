//! CBOR frames: the one place that knows serde_cbor (archived upstream; its exit is this file).
//!
//! A frame is a 4-byte big-endian length, one version byte, and one CBOR value. Sizes are bounded
//! before anything is read; depth is bounded by serde_cbor's own recursion limit (128).

use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

/// Version byte of every frame. A reader accepts this and the one before.
pub const FRAME_VERSION: u8 = 1;
/// Largest frame body in bytes.
pub const FRAME_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Bytes before the body: length and version.
pub const FRAME_HEAD_BYTES: usize = 5;

#[derive(Debug, Error)]
pub enum CodecError {
    #[error("encoding a value as CBOR")]
    Encode(#[source] serde_cbor::Error),
    #[error("decoding {bytes} bytes of CBOR")]
    Decode {
        bytes: usize,
        #[source]
        source: serde_cbor::Error,
    },
    #[error("a frame of {bytes} bytes is over the limit of {FRAME_BYTES_MAX}")]
    TooLarge { bytes: usize },
    #[error("frame version {0} is not understood (this is version {FRAME_VERSION})")]
    Version(u8),
}

/// Encode one value without a frame (for stores).
pub fn to_bytes<T: Serialize>(value: &T) -> Result<Vec<u8>, CodecError> {
    serde_cbor::to_vec(value).map_err(CodecError::Encode)
}

/// Decode one value without a frame (for stores).
///
/// Type-erased: serde_cbor alone compiles every type four times over (definite and indefinite
/// lists and maps), which was a megabyte of the binary.
pub fn from_bytes<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let failed = |source| CodecError::Decode { bytes: bytes.len(), source };
    let mut reader = serde_cbor::Deserializer::from_slice(bytes);
    let decoded = {
        let mut erased = <dyn erased_serde::Deserializer>::erase(&mut reader);
        erased_serde::deserialize(&mut erased)
    };
    let value = decoded.map_err(|error| failed(serde::de::Error::custom(error)))?;
    reader.end().map_err(failed)?;
    Ok(value)
}

/// Encode one value as a whole frame.
pub fn to_frame<T: Serialize>(value: &T) -> Result<Vec<u8>, CodecError> {
    let body = to_bytes(value)?;
    if body.len() > FRAME_BYTES_MAX {
        return Err(CodecError::TooLarge { bytes: body.len() });
    }
    let mut frame = Vec::with_capacity(FRAME_HEAD_BYTES + body.len());
    frame.extend_from_slice(&(body.len() as u32).to_be_bytes());
    frame.push(FRAME_VERSION);
    frame.extend_from_slice(&body);
    Ok(frame)
}

/// Check a frame's head; gives the length of the body that follows.
pub fn body_length(head: &[u8; FRAME_HEAD_BYTES]) -> Result<usize, CodecError> {
    let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
    if head[4] != FRAME_VERSION {
        return Err(CodecError::Version(head[4]));
    }
    if length > FRAME_BYTES_MAX {
        return Err(CodecError::TooLarge { bytes: length });
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_round_trips() {
        let frame = to_frame(&vec!["a".to_string()]).expect("encodes");
        let head: [u8; FRAME_HEAD_BYTES] = frame[..FRAME_HEAD_BYTES].try_into().expect("5 bytes");
        let length = body_length(&head).expect("head is good");
        assert_eq!(length, frame.len() - FRAME_HEAD_BYTES);
        let back: Vec<String> = from_bytes(&frame[FRAME_HEAD_BYTES..]).expect("decodes");
        assert_eq!(back, ["a"]);
    }

    #[test]
    fn bad_heads_are_refused() {
        assert!(matches!(body_length(&[0, 0, 0, 1, 9]), Err(CodecError::Version(9))));
        assert!(matches!(
            body_length(&[0xff, 0, 0, 0, FRAME_VERSION]),
            Err(CodecError::TooLarge { .. })
        ));
    }
}
