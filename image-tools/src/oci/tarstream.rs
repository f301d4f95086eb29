//! Tar headers: reads an archive entry by entry, forward only, in bounded memory.
//!
//! Owns the dialects (ustar, GNU long names, PAX). The `tar` crate's own iterator is not used: it
//! keeps long names and PAX records of any size in memory, splits binary attributes at newlines,
//! and takes an archive that just stops for one that ended. Never touches the file system.

use std::io::{self, Read};
use tar::{EntryType, Header};

const BLOCK_BYTES: usize = 512;
/// Largest long name or PAX record set (attributes of a file stay below 64 KiB each).
const EXTENSION_BYTES_MAX: u64 = 1024 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum TarError {
    #[error("archive is cut off {place}")]
    Truncated { place: String },
    #[error("not a tar archive, or a damaged one: bad header checksum at byte {offset}")]
    Checksum { offset: u64 },
    #[error("field {field} of archive entry {path:?} is not valid")]
    Field { path: String, field: &'static str },
    #[error("extended header at byte {offset} is malformed")]
    Extension { offset: u64 },
    #[error("extended header of {bytes} bytes; the most is {EXTENSION_BYTES_MAX}")]
    ExtensionTooLong { bytes: u64 },
    #[error("archive entry {path:?} has type {kind:?}, which is not supported")]
    Kind { path: String, kind: char },
    #[error("archive entry {path:?} is a sparse file, which is not supported")]
    Sparse { path: String },
    #[error("reading archive {place}")]
    Read {
        place: String,
        #[source]
        source: io::Error,
    },
}

impl TarError {
    /// Names the entry whose content could not be read.
    pub(crate) fn reading(name: &str, source: io::Error) -> TarError {
        let place = format!("in entry {name:?}");
        match source.kind() {
            io::ErrorKind::UnexpectedEof => TarError::Truncated { place },
            _ => TarError::Read { place, source },
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EntryKind {
    File,
    Hardlink,
    Symlink,
    Char,
    Block,
    Directory,
    Fifo,
}

/// What a header says. Its content is then read from the stream itself.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub path: Vec<u8>,
    pub link: Vec<u8>,
    pub kind: EntryKind,
    /// Bytes of content.
    pub size: u64,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Seconds since 1970 and nanoseconds.
    pub mtime: (i64, u32),
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Entry {
    /// The path for messages.
    pub(crate) fn name(&self) -> String {
        String::from_utf8_lossy(&self.path).into_owned()
    }
}

/// Reads entries in turn; `Read` gives the content of the last one.
pub(crate) struct TarStream<R> {
    reader: R,
    /// Unread content of the current entry, and what fills its last block.
    content: u64,
    padding: u64,
    offset: u64,
    current: String,
    ended: bool,
    /// An archive may stop after an entry, without the mark that ends it.
    end_optional: bool,
}

/// What PAX records and GNU long names say about the next entry.
#[derive(Default)]
struct Overrides {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u32>,
    gid: Option<u32>,
    mtime: Option<(i64, u32)>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    sparse: bool,
}

impl<R: Read> TarStream<R> {
    pub(crate) fn new(reader: R) -> Self {
        let current = String::new();
        let (ended, end_optional) = (false, false);
        TarStream { reader, content: 0, padding: 0, offset: 0, current, ended, end_optional }
    }

    /// Reads an archive whose wholeness is proven by a digest: some builders (umoci) write layers
    /// without the mark at the end, or without the padding of the last file.
    pub(crate) fn verified(reader: R) -> Self {
        TarStream { end_optional: true, ..TarStream::new(reader) }
    }

    pub(crate) fn into_inner(self) -> R {
        self.reader
    }

    /// Steps to the next entry; `None` after the end-of-archive mark.
    pub(crate) fn next_entry(&mut self) -> Result<Option<Entry>, TarError> {
        let mut overrides = Overrides::default();
        loop {
            let Some(header) = self.next_header()? else { return Ok(None) };
            let offset = self.offset - BLOCK_BYTES as u64;
            let kind = header.entry_type();
            let extension = kind.is_gnu_longname()
                || kind.is_gnu_longlink()
                || kind.is_pax_local_extensions()
                || kind.is_pax_global_extensions();
            if !extension {
                return self.finish_entry(&header, overrides).map(Some);
            }
            let bytes = self.extension(&header)?;
            if kind.is_gnu_longname() {
                overrides.path = Some(until_nul(bytes));
            } else if kind.is_gnu_longlink() {
                overrides.link = Some(until_nul(bytes));
            } else if kind.is_pax_local_extensions() {
                overrides.read_pax(&bytes).ok_or(TarError::Extension { offset })?;
            }
            // Global records hold comments (git archive); nothing of them describes a file.
        }
    }

    fn next_header(&mut self) -> Result<Option<Header>, TarError> {
        if self.ended {
            return Ok(None);
        }
        let missing = self.skip(self.content)?;
        let short = missing + self.skip(self.padding)?;
        if missing > 0 || (short > 0 && !self.end_optional) {
            return Err(TarError::Truncated { place: self.place() });
        }
        (self.content, self.padding) = (0, 0);
        let mut block = [0; BLOCK_BYTES];
        match self.fill(&mut block)? {
            BLOCK_BYTES => {}
            0 if self.end_optional => {
                self.ended = true;
                return Ok(None);
            }
            _ => return Err(TarError::Truncated { place: self.place() }),
        }
        let offset = self.offset;
        self.offset += BLOCK_BYTES as u64;
        if block.iter().all(|byte| *byte == 0) {
            self.ended = true;
            return Ok(None);
        }
        let mut header = Header::new_old();
        header.as_mut_bytes().copy_from_slice(&block);
        let sum: u32 = (0..BLOCK_BYTES)
            .map(|i| if (148..156).contains(&i) { 32 } else { u32::from(block[i]) })
            .sum();
        if header.cksum().ok() != Some(sum) {
            return Err(TarError::Checksum { offset });
        }
        Ok(Some(header))
    }

    fn extension(&mut self, header: &Header) -> Result<Vec<u8>, TarError> {
        let offset = self.offset;
        let size = header.entry_size().map_err(|_| TarError::Extension { offset })?;
        if size > EXTENSION_BYTES_MAX {
            return Err(TarError::ExtensionTooLong { bytes: size });
        }
        let mut bytes = vec![0; size as usize];
        if self.fill(&mut bytes)? < bytes.len() {
            return Err(TarError::Truncated { place: self.place() });
        }
        self.offset += size;
        self.padding = padding(size);
        Ok(bytes)
    }

    fn finish_entry(&mut self, header: &Header, over: Overrides) -> Result<Entry, TarError> {
        let path = over.path.unwrap_or_else(|| header.path_bytes().into_owned());
        let name = String::from_utf8_lossy(&path).into_owned();
        let bad = |field| TarError::Field { path: name.clone(), field };
        if path.contains(&0) {
            return Err(bad("path"));
        }
        if over.sparse || header.entry_type().is_gnu_sparse() {
            return Err(TarError::Sparse { path: name });
        }
        let kind = kind(header.entry_type(), &path)
            .map_err(|kind| TarError::Kind { path: name.clone(), kind })?;
        let link = match over.link {
            Some(link) => link,
            None => header.link_name_bytes().unwrap_or_default().into_owned(),
        };
        let raw = header.as_old();
        let id = |over: Option<u32>, bytes: &[u8], parsed: io::Result<u64>, field| match over {
            Some(id) => Ok(id),
            None => number(bytes, parsed).and_then(|id| u32::try_from(id).ok()).ok_or(bad(field)),
        };
        // Other kinds have no content, whatever their header says (as Go's archive/tar reads it).
        let size = match (kind, over.size) {
            (EntryKind::File, Some(size)) => size,
            (EntryKind::File, None) => number(&raw.size, header.entry_size()).ok_or(bad("size"))?,
            _ => 0,
        };
        if i64::try_from(size).is_err() {
            return Err(bad("size"));
        }
        let mtime = match over.mtime {
            Some(mtime) => mtime,
            // Signed in GNU's binary form; anything unreadable counts as 1970.
            None => (header.mtime().unwrap_or_default() as i64, 0),
        };
        let entry = Entry {
            kind,
            size,
            mode: number(&raw.mode, header.mode().map(u64::from)).ok_or(bad("mode"))? as u32
                & 0o7777,
            uid: id(over.uid, &raw.uid, header.uid(), "uid")?,
            gid: id(over.gid, &raw.gid, header.gid(), "gid")?,
            mtime,
            xattrs: over.xattrs,
            path,
            link,
        };
        (self.content, self.padding) = (size, padding(size));
        self.current = name;
        Ok(entry)
    }

    fn place(&self) -> String {
        match self.current.as_str() {
            "" => "at its beginning".to_owned(),
            name => format!("in or after entry {name:?}"),
        }
    }

    fn failed(&self, source: io::Error) -> TarError {
        match source.kind() {
            io::ErrorKind::UnexpectedEof => TarError::Truncated { place: self.place() },
            _ => TarError::Read { place: self.place(), source },
        }
    }

    /// Fills the buffer; less only at the end of the stream.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, TarError> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.reader.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(self.failed(source)),
            }
        }
        Ok(filled)
    }

    /// Skips bytes; gives how many of them the stream did not have.
    fn skip(&mut self, bytes: u64) -> Result<u64, TarError> {
        let copied = io::copy(&mut self.reader.by_ref().take(bytes), &mut io::sink())
            .map_err(|source| self.failed(source))?;
        self.offset += copied;
        Ok(bytes - copied)
    }
}

impl<R: Read> Read for TarStream<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let want = buffer.len().min(usize::try_from(self.content).unwrap_or(usize::MAX));
        if want == 0 {
            return Ok(0);
        }
        let count = self.reader.read(&mut buffer[..want])?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.content -= count as u64;
        self.offset += count as u64;
        Ok(count)
    }
}

impl Overrides {
    /// Reads `<length> <key>=<value>\n` records; `None` when they are malformed.
    fn read_pax(&mut self, mut bytes: &[u8]) -> Option<()> {
        while !bytes.is_empty() {
            let space = bytes.iter().position(|byte| *byte == b' ')?;
            let length: usize = std::str::from_utf8(&bytes[..space]).ok()?.parse().ok()?;
            let record = bytes.get(space + 1..length)?.strip_suffix(b"\n")?;
            bytes = &bytes[length..];
            let equals = record.iter().position(|byte| *byte == b'=')?;
            self.set(&record[..equals], &record[equals + 1..])?;
        }
        Some(())
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        let text = || std::str::from_utf8(value).ok();
        if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
            self.xattrs.push((name.to_vec(), value.to_vec()));
            return Some(());
        }
        match key {
            b"path" => self.path = Some(value.to_vec()),
            b"linkpath" => self.link = Some(value.to_vec()),
            b"size" => self.size = Some(text()?.parse().ok()?),
            b"uid" => self.uid = Some(text()?.parse().ok()?),
            b"gid" => self.gid = Some(text()?.parse().ok()?),
            b"mtime" => self.mtime = Some(parse_time(text()?)?),
            key if key.starts_with(b"GNU.sparse.") => self.sparse = true,
            _ => {}
        }
        Some(())
    }
}

/// Reads decimal seconds with any number of digits after the point, possibly negative.
fn parse_time(text: &str) -> Option<(i64, u32)> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let nanos: u32 = digits.parse().ok()?;
    if whole.starts_with('-') && nanos > 0 {
        return Some((seconds.checked_sub(1)?, 1_000_000_000 - nanos));
    }
    Some((seconds, nanos))
}

fn kind(entry_type: EntryType, path: &[u8]) -> Result<EntryKind, char> {
    Ok(match entry_type {
        // Version 7 archives had no type for directories.
        EntryType::Regular if path.ends_with(b"/") => EntryKind::Directory,
        EntryType::Regular | EntryType::Continuous => EntryKind::File,
        EntryType::Link => EntryKind::Hardlink,
        EntryType::Symlink => EntryKind::Symlink,
        EntryType::Char => EntryKind::Char,
        EntryType::Block => EntryKind::Block,
        EntryType::Directory => EntryKind::Directory,
        EntryType::Fifo => EntryKind::Fifo,
        other => return Err(char::from(other.as_byte())),
    })
}

/// A blank field means zero, as other readers take it.
fn number(field: &[u8], parsed: io::Result<u64>) -> Option<u64> {
    let blank = field.iter().all(|byte| matches!(byte, 0 | b' '));
    if blank { Some(0) } else { parsed.ok() }
}

fn padding(size: u64) -> u64 {
    size.wrapping_neg() % BLOCK_BYTES as u64
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    bytes.truncate(end);
    bytes
}

#[cfg(test)]
#[path = "tarstream_tests.rs"]
mod tests;
