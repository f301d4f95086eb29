//! Writing an update into the spare slot: checked before, read back after.

use super::console::say;
use super::identity::hex;
use super::sys;
use crate::node::update::{HEADER_BYTES, Header, UpdateError};
use sha2::{Digest, Sha256};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use thiserror::Error;

const CHUNK_BYTES: usize = 1 << 20;
/// Flushed so often, so that a slow card is not asked for everything at its end. Bytes.
const FLUSH_EVERY: u64 = 16 << 20;
/// Of a slot's beginning, so much is emptied first: its boot sector. Bytes.
const WIPE_BYTES: usize = 4096;

#[derive(Debug, Error)]
pub enum StageError {
    #[error("opening {path}")]
    Open {
        path: String,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Update(#[from] UpdateError),
    #[error("the update is for {theirs}, this node is {ours}")]
    Board { theirs: String, ours: String },
    #[error("the update's file system has {theirs} bytes, the slot {ours}")]
    Size { theirs: u64, ours: u64 },
    #[error("the update file is damaged: its content is not what its header says")]
    Damaged,
    #[error("writing the spare slot")]
    Write(#[source] io::Error),
    #[error(
        "the spare slot does not hold what was written to it; the card may be worn out. Nothing \
         boots from it"
    )]
    ReadBack,
}

/// Write the update file at `path` to the slot on `device`; gives its version. Whatever is there
/// ends to be a file system first and becomes one last, so that nothing half written ever looks
/// whole.
///
/// # Errors
/// The file is no update for this board, or the device does not keep it.
pub fn write(path: &Path, device: &Path, board: &str) -> Result<String, StageError> {
    let named = |source| StageError::Open { path: path.display().to_string(), source };
    let mut file = File::open(path).map_err(named)?;
    let header = read_header(&mut file)?;
    if header.board != board {
        return Err(StageError::Board { theirs: header.board, ours: board.into() });
    }
    if digest(&mut file, header.length).map_err(named)? != header.sha256 {
        return Err(StageError::Damaged);
    }
    let mut slot =
        OpenOptions::new().read(true).write(true).open(device).map_err(StageError::Write)?;
    let room = slot.seek(SeekFrom::End(0)).map_err(StageError::Write)?;
    if header.filesystem > room {
        return Err(StageError::Size { theirs: header.filesystem, ours: room });
    }
    say(&format!("writing {} to the spare slot, {} MiB", header.version, header.length >> 20));
    file.seek(SeekFrom::Start(HEADER_BYTES as u64)).map_err(named)?;
    copy(&mut file, &mut slot, header.length).map_err(StageError::Write)?;
    sys::forget_cached(&slot).or_else(only_for_files).map_err(StageError::Write)?;
    slot.rewind().map_err(StageError::Write)?;
    if digest(&mut slot, header.length).map_err(StageError::Write)? != header.sha256 {
        return Err(StageError::ReadBack);
    }
    Ok(header.version)
}

/// What forgets caches is for block devices; a test's file has none.
fn only_for_files(error: io::Error) -> io::Result<()> {
    if error.raw_os_error() == Some(libc::ENOTTY) { Ok(()) } else { Err(error) }
}

fn read_header(file: &mut File) -> Result<Header, UpdateError> {
    let mut bytes = vec![0; HEADER_BYTES];
    file.read_exact(&mut bytes).map_err(|_| UpdateError::Magic)?;
    Header::parse(&bytes)
}

/// Digest of the next `length` bytes; fewer make another digest.
fn digest(from: &mut File, length: u64) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut from = from.take(length);
    loop {
        match from.read(&mut chunk)? {
            0 => return Ok(hex(&hash.finalize())),
            count => hash.update(&chunk[..count]),
        }
    }
}

/// Copy all but the beginning, flush, then the beginning.
fn copy(from: &mut File, to: &mut File, length: u64) -> io::Result<()> {
    to.rewind()?;
    to.write_all(&[0; WIPE_BYTES])?;
    to.sync_data()?;
    let mut first = vec![0; WIPE_BYTES.min(length as usize)];
    from.read_exact(&mut first)?;
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut done = first.len() as u64;
    let mut flushed = done;
    let mut rest = from.take(length - done);
    to.seek(SeekFrom::Start(done))?;
    while done < length {
        let count = rest.read(&mut chunk)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        to.write_all(&chunk[..count])?;
        done += count as u64;
        if done - flushed >= FLUSH_EVERY {
            to.sync_data()?;
            flushed = done;
        }
    }
    to.sync_data()?;
    to.rewind()?;
    to.write_all(&first)?;
    to.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    struct Lab {
        dir: tempfile::TempDir,
        content: Vec<u8>,
    }

    impl Lab {
        fn new() -> Lab {
            let content = (0..100_000u32).flat_map(u32::to_le_bytes).collect();
            let lab = Lab { dir: tempfile::tempdir().unwrap(), content };
            fs::write(lab.dir.path().join("slot"), vec![7; 500_000]).unwrap();
            lab
        }

        fn header(&self) -> Header {
            Header {
                version: "2".into(),
                board: "x86".into(),
                length: self.content.len() as u64,
                filesystem: 500_000,
                sha256: hex(&Sha256::digest(&self.content)),
            }
        }

        fn stage(&self, header: &Header, content: &[u8]) -> Result<String, StageError> {
            let (file, slot) = (self.dir.path().join("update"), self.dir.path().join("slot"));
            fs::write(&file, [&header.render().unwrap(), content].concat()).unwrap();
            write(&file, &slot, "x86")
        }

        fn slot(&self) -> Vec<u8> {
            fs::read(self.dir.path().join("slot")).unwrap()
        }
    }

    #[test]
    fn an_update_is_written_and_what_lies_behind_it_stays() {
        let lab = Lab::new();
        assert_eq!(lab.stage(&lab.header(), &lab.content).unwrap(), "2");
        assert_eq!(lab.slot()[..lab.content.len()], lab.content);
        assert_eq!(lab.slot()[lab.content.len()..], [7; 100_000]);
    }

    #[test]
    fn what_is_not_for_this_slot_leaves_it_alone() {
        let lab = Lab::new();
        let good = lab.header();
        let mut damaged = lab.content.clone();
        damaged[300_000] ^= 1;
        let refused = [
            lab.stage(&Header { board: "pi".into(), ..good.clone() }, &lab.content),
            lab.stage(&Header { filesystem: 500_001, ..good.clone() }, &lab.content),
            lab.stage(&good, &damaged),
            lab.stage(&good, &lab.content[..399_999]),
        ];
        for refused in refused {
            refused.unwrap_err();
            assert_eq!(lab.slot(), vec![7; 500_000]);
        }
        let missing = write(Path::new("/nowhere"), Path::new("/nowhere"), "x86");
        assert!(matches!(missing, Err(StageError::Open { .. })));
    }

    #[test]
    fn a_short_file_ends_the_copy() {
        let lab = Lab::new();
        let path = lab.dir.path().join("short");
        fs::write(&path, [1; 10_000]).unwrap();
        let mut slot =
            OpenOptions::new().read(true).write(true).open(lab.dir.path().join("slot")).unwrap();
        let error = copy(&mut File::open(&path).unwrap(), &mut slot, 20_000).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(lab.slot()[..WIPE_BYTES], [0; WIPE_BYTES], "half written, and no file system");
    }
}
