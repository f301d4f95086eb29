//! Files of users (what Marathon's `fetch` names) into a directory that nothing may leave: one
//! file under a name, or the content of an archive.
//!
//! Owns which names mean an archive, and what of one is kept: content, names, permissions. Owners
//! are root's, set-user-id bits, attributes and devices are dropped. Paths are resolved by the
//! kernel inside the directory (`rootdir`), so that a link unpacked a moment ago leads nowhere else.

use crate::oci::budget::{Budget, BudgetError};
use crate::oci::decompress::decompressed_any;
use crate::oci::rootdir::{self, RootDir, clean};
use crate::oci::tarstream::{Entry, EntryKind, TarStream};
use crate::oci::unpack::{Purpose, UnpackError, Unpacker};
use rustix::fs::{CWD, Mode, OFlags};
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;
use zip::ZipArchive;
use zip::result::ZipError;

/// Longest target of a symbolic link in a zip archive (Linux' PATH_MAX).
const LINK_BYTES_MAX: u64 = 4096;
/// Permissions kept of an archive's entries: none of set-user-id, set-group-id, sticky.
const MODE_KEPT: u32 = 0o777;
/// What the owner may always do with a directory: a sandbox must be possible to clean.
const MODE_DIRECTORY_MIN: u32 = 0o700;
/// Permissions of an entry that names none.
const MODE_DEFAULT: u32 = 0o644;

#[derive(Debug, thiserror::Error)]
pub enum ExtractError {
    #[error("'{0}' is no path inside the sandbox")]
    Destination(String),
    #[error("opening {}", path.display())]
    Open {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("reading the archive")]
    Read(#[source] io::Error),
    #[error(transparent)]
    Unpack(#[from] UnpackError),
    #[error("not a zip archive, or a damaged one")]
    Zip(#[source] ZipError),
    #[error("putting '{name}' into the sandbox")]
    Place {
        name: String,
        #[source]
        source: io::Error,
    },
    #[error("looking at the free space of {}", path.display())]
    Space {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Budget(#[from] BudgetError),
}

/// How files are packed together. How they are compressed shows in the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    Tar,
    Zip,
}

impl Packing {
    /// Tell by its name whether a file is an archive (Marathon's list, and plain `.tar`).
    pub fn of(name: &str) -> Option<Packing> {
        const TAR: [&str; 7] = [".tgz", ".tar.gz", ".tbz2", ".tar.bz2", ".txz", ".tar.xz", ".tar"];
        if name.ends_with(".zip") {
            return Some(Packing::Zip);
        }
        TAR.iter().any(|suffix| name.ends_with(suffix)).then_some(Packing::Tar)
    }
}

/// What becomes of a file that was placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Kept,
    Moved,
}

/// Unpack an archive into `dir`, beside what is there. Ends early when `stop` is set.
///
/// # Errors
/// The archive is damaged, leads out of `dir`, or holds more than the disk can spare; `dir` then
/// has a part of it.
pub fn extract(
    archive: &Path,
    packing: Packing,
    dir: &Path,
    stop: &Arc<AtomicBool>,
) -> Result<(), ExtractError> {
    let file = open(archive)?;
    let budget = budget(dir)?;
    let unpacker = Unpacker::new(dir, &budget, Purpose::Files)?;
    let file = Stoppable { inner: file, stop: Arc::clone(stop) };
    match packing {
        Packing::Tar => untar(file, unpacker),
        Packing::Zip => unzip(file, unpacker),
    }
}

/// Put a file into `dir` under the relative path `name`, making directories on the way and
/// replacing what has the name.
///
/// # Errors
/// The name leads out of `dir`, or the disk refuses.
pub fn place(
    file: &Path,
    then: Source,
    dir: &Path,
    name: &str,
    mode: u32,
) -> Result<(), ExtractError> {
    let refused = || ExtractError::Destination(name.into());
    let names = clean(name.as_bytes()).filter(|_| !name.starts_with('/')).ok_or_else(refused)?;
    let (last, above) = names.split_last().ok_or_else(refused)?;
    let failed = |source| ExtractError::Place { name: name.into(), source };
    let mut root = RootDir::open(dir).map_err(failed)?;
    let parent = root.make_directory(above).map_err(failed)?;
    if rootdir::look(parent.as_fd(), last).map_err(failed)?.is_some() {
        root.remove(parent.as_fd(), last).map_err(failed)?;
    }
    if then == Source::Moved && rustix::fs::renameat(CWD, file, &*parent, last).is_ok() {
        let flags = rustix::fs::AtFlags::empty();
        return rustix::fs::chmodat(&*parent, last, Mode::from_raw_mode(mode), flags)
            .map_err(|error| failed(error.into()));
    }
    let mut from = open(file)?;
    let size = from.metadata().map_err(failed)?.len();
    budget(dir)?.take(size)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = rustix::fs::openat(&*parent, last, flags, Mode::RUSR | Mode::WUSR)
        .map_err(|error| failed(error.into()))?;
    let mut to = File::from(made);
    io::copy(&mut from, &mut to).map_err(failed)?;
    rustix::fs::fchmod(&to, Mode::from_raw_mode(mode)).map_err(|error| failed(error.into()))
}

/// Bytes that may still be written below `dir`.
///
/// # Errors
/// The file system cannot be asked.
pub fn spare_bytes(dir: &Path) -> Result<u64, ExtractError> {
    Ok(budget(dir)?.limit())
}

fn budget(dir: &Path) -> Result<Budget, ExtractError> {
    Budget::of_disk(dir).map_err(|source| ExtractError::Space { path: dir.into(), source })
}

fn open(path: &Path) -> Result<File, ExtractError> {
    File::open(path).map_err(|source| ExtractError::Open { path: path.into(), source })
}

fn untar(file: Stoppable, mut unpacker: Unpacker<'_>) -> Result<(), ExtractError> {
    let mut tar = TarStream::new(decompressed_any(file).map_err(ExtractError::Read)?);
    while let Some(entry) = tar.next_entry().map_err(UnpackError::from)? {
        unpacker.entry(&mut tar, &tamed(entry))?;
    }
    unpacker.finish()?;
    Ok(())
}

fn unzip(file: Stoppable, mut unpacker: Unpacker<'_>) -> Result<(), ExtractError> {
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(ExtractError::Zip)?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    for index in 0..archive.len() {
        let mut file = archive.by_index(index).map_err(ExtractError::Zip)?;
        let mut entry = Entry {
            path: file.name_raw().to_vec(),
            link: Vec::new(),
            kind: EntryKind::File,
            size: file.size(),
            mode: file.unix_mode().unwrap_or(MODE_DEFAULT),
            uid: 0,
            gid: 0,
            mtime: (now.as_secs() as i64, 0),
            xattrs: Vec::new(),
        };
        if file.is_dir() {
            (entry.kind, entry.size) = (EntryKind::Directory, 0);
            entry.mode |= 0o755;
        } else if file.is_symlink() {
            entry.kind = EntryKind::Symlink;
            let mut target = file.by_ref().take(LINK_BYTES_MAX);
            target.read_to_end(&mut entry.link).map_err(ExtractError::Read)?;
            entry.size = 0;
        }
        let mut content = Declared { left: entry.size, inner: file };
        unpacker.entry(&mut content, &tamed(entry))?;
    }
    unpacker.finish()?;
    Ok(())
}

/// What of an entry reaches a sandbox.
fn tamed(mut entry: Entry) -> Entry {
    (entry.uid, entry.gid) = (0, 0);
    entry.xattrs.clear();
    entry.mode &= MODE_KEPT;
    if entry.kind == EntryKind::Directory {
        entry.mode |= MODE_DIRECTORY_MIN;
    }
    entry
}

/// A file that can no longer be read once somebody said stop.
struct Stoppable {
    inner: File,
    stop: Arc<AtomicBool>,
}

impl Read for Stoppable {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(io::Error::other("stopped"));
        }
        self.inner.read(buffer)
    }
}

impl io::Seek for Stoppable {
    fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
        self.inner.seek(to)
    }
}

/// Content of a zip entry, which may be packed from more than its header says: the budget was
/// charged with what it says.
struct Declared<R> {
    left: u64,
    inner: R,
}

impl<R: Read> Read for Declared<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(count as u64).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, "an entry is longer than declared")
        })?;
        Ok(count)
    }
}

#[cfg(test)]
#[path = "extract_tests.rs"]
mod tests;
