//! Decompression: recognises how a stream is packed and reads through it.
//!
//! Owns the choice by magic numbers (media types and file names lie) and the limits on a
//! decoder's memory. Never buffers more than one window.

use bzip2::bufread::MultiBzDecoder;
use flate2::bufread::MultiGzDecoder;
use lzma_rust2::XzReader;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use std::io::{self, BufRead, BufReader, Cursor, Read};

/// Bytes looked at to tell the formats apart.
const MAGIC_BYTES: u64 = 6;
/// Largest zstd window accepted: what the zstd tool itself accepts without `--long`.
const ZSTD_WINDOW_BYTES_MAX: u64 = 128 * 1024 * 1024;
/// Most memory an xz stream may ask for: twice what `xz -9` needs to be unpacked.
const XZ_MEMORY_KIB_MAX: u32 = 128 * 1024;
/// Read size on the compressed side.
const BUFFER_BYTES: usize = 128 * 1024;

const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Reads `reader` decompressed, whatever of plain, gzip and zstd it is.
///
/// # Errors
/// Other known compressions are refused by name (`Unsupported`), before anything is read.
pub(crate) fn decompressed<R: Read + Send + 'static>(
    reader: R,
) -> io::Result<Box<dyn Read + Send>> {
    open(reader, Further::Refused)
}

/// Like [`decompressed`], and bzip2 and xz besides: what users pack their own files with. Image
/// layers stay without them, as the OCI specification names neither.
///
/// # Errors
/// As [`decompressed`].
pub(crate) fn decompressed_any<R: Read + Send + 'static>(
    reader: R,
) -> io::Result<Box<dyn Read + Send>> {
    open(reader, Further::Read)
}

/// What to do with compressions beyond those of images.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Further {
    Refused,
    Read,
}

fn open<R: Read + Send + 'static>(
    mut reader: R,
    further: Further,
) -> io::Result<Box<dyn Read + Send>> {
    let mut magic = Vec::new();
    reader.by_ref().take(MAGIC_BYTES).read_to_end(&mut magic)?;
    let whole = Cursor::new(magic.clone()).chain(reader);
    let refused = |name: &str| {
        let text = format!("{name} compression is not supported: use gzip, zstd or none");
        Err(io::Error::new(io::ErrorKind::Unsupported, text))
    };
    let whole = BufReader::with_capacity(BUFFER_BYTES, whole);
    if magic.starts_with(&[0x1f, 0x8b]) {
        return Ok(Box::new(MultiGzDecoder::new(whole)));
    }
    if magic.starts_with(&ZSTD_MAGIC) || is_skippable(&magic) {
        return Ok(Box::new(ZstdReader::new(whole)));
    }
    if further == Further::Read && magic.starts_with(b"\xfd7zXZ\0") {
        return Ok(Box::new(XzReader::new_mem_limit(whole, true, XZ_MEMORY_KIB_MAX)));
    }
    if further == Further::Read && magic.starts_with(b"BZh") {
        return Ok(Box::new(MultiBzDecoder::new(whole)));
    }
    match magic.as_slice() {
        m if m.starts_with(b"\xfd7zXZ\0") => refused("xz"),
        m if m.starts_with(b"BZh") => refused("bzip2"),
        m if m.starts_with(b"\x04\x22\x4d\x18") => refused("lz4"),
        _ => Ok(Box::new(whole)),
    }
}

/// Frames that decoders must step over (RFC 8878, 3.1.2); zstd:chunked layers hold them.
fn is_skippable(magic: &[u8]) -> bool {
    magic.len() >= 4 && magic[0] & 0xf0 == 0x50 && magic[1..4] == [0x2a, 0x4d, 0x18]
}

/// All frames of a zstd stream; the crate's own reader stops after one.
struct ZstdReader<S> {
    source: S,
    decoder: FrameDecoder,
    in_frame: bool,
}

impl<S: BufRead> ZstdReader<S> {
    fn new(source: S) -> Self {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(ZSTD_WINDOW_BYTES_MAX);
        ZstdReader { source, decoder, in_frame: false }
    }

    /// Steps to the next frame with data; `false` at the end of the stream.
    fn next_frame(&mut self) -> io::Result<bool> {
        while !self.source.fill_buf()?.is_empty() {
            match self.decoder.reset(&mut self.source) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let length = u64::from(length);
                    let mut skipped = self.source.by_ref().take(length);
                    if io::copy(&mut skipped, &mut io::sink())? < length {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
            }
        }
        Ok(false)
    }
}

impl<S: BufRead> Read for ZstdReader<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if !self.in_frame {
                if buffer.is_empty() || !self.next_frame()? {
                    return Ok(0);
                }
                self.in_frame = true;
            }
            while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                self.decoder
                    .decode_blocks(&mut self.source, BlockDecodingStrategy::UptoBlocks(1))
                    .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            }
            let count = self.decoder.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            self.in_frame = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};
    use std::io::Write;

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), Default::default());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    fn read_all(packed: Vec<u8>) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        decompressed(Cursor::new(packed))?.read_to_end(&mut out)?;
        Ok(out)
    }

    #[test]
    fn reads_every_packing() {
        let data: Vec<u8> = (0..300_000u32).map(|n| (n / 7 % 251) as u8).collect();
        let zstd = |data: &[u8]| compress_to_vec(data, CompressionLevel::Fastest);
        let skippable = b"\x50\x2a\x4d\x18\x03\x00\x00\x00abc".to_vec();
        let halves = data.split_at(100_000);
        let cases = [
            data.clone(),
            gzip(&data),
            [gzip(halves.0), gzip(halves.1)].concat(),
            zstd(&data),
            [skippable.clone(), zstd(halves.0), skippable, zstd(halves.1)].concat(),
        ];
        for (number, packed) in cases.into_iter().enumerate() {
            assert!(read_all(packed).unwrap() == data, "case {number}");
        }
        assert_eq!(read_all(Vec::new()).unwrap(), b"");
    }

    #[test]
    fn refuses_by_name() {
        for (magic, name) in [(&b"\xfd7zXZ\0\0"[..], "xz"), (b"BZh91AY", "bzip2")] {
            let error = read_all(magic.to_vec()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::Unsupported);
            assert!(error.to_string().contains(name));
        }
    }

    #[test]
    fn truncation_is_an_error() {
        let data = vec![7u8; 100_000];
        for packed in [gzip(&data), compress_to_vec(&data[..], CompressionLevel::Fastest)] {
            for cut in [5, 9, packed.len() / 2, packed.len() - 1] {
                assert!(read_all(packed[..cut].to_vec()).is_err(), "cut at {cut}");
            }
        }
    }
}
