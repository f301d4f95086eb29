//! Unpacking: one layer's archive into one directory that overlayfs can stack.
//!
//! Owns whiteouts (image-spec, "Layer"), ownership, times, attributes. Layers are unpacked apart
//! from those below, so that images share them. Device nodes are skipped and counted: containers
//! get their devices from the runtime, and a node in a layer would be reachable on the host.

use super::budget::{Budget, BudgetError};
use super::rootdir::{self, RootDir, clean, join};
use super::tarstream::{Entry, EntryKind, TarError, TarStream};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Entries of one layer; the largest distribution images have some 100,000.
const ENTRIES_MAX: u64 = 1_000_000;
const COPY_BUFFER_BYTES: usize = 128 * 1024;

const WHITEOUT: &str = ".wh.";
const OPAQUE: &str = ".wh..wh..opq";
/// Other names with this prefix are private to aufs and mean nothing here.
const AUFS_PREFIX: &str = ".wh..wh.";

#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    #[error(transparent)]
    Tar(#[from] TarError),
    #[error("entry {path:?} leads out of its root")]
    Escape { path: String },
    #[error("hard link {path:?} leads out of its root to {target:?}")]
    LinkEscape { path: String, target: String },
    #[error("hard link {path:?} names {target:?}, which is not in the archive")]
    LinkTarget { path: String, target: String },
    #[error("whiteout {path:?} hides no valid name")]
    Whiteout { path: String },
    #[error("archive has more than {ENTRIES_MAX} entries")]
    TooManyEntries,
    #[error(transparent)]
    Budget(#[from] BudgetError),
    #[error("disk is full: no space left to unpack {path:?}")]
    DiskFull { path: String },
    #[error("{operation} {path:?} of an archive")]
    Apply {
        operation: &'static str,
        path: String,
        #[source]
        source: io::Error,
    },
    #[error("opening {path} to unpack into")]
    Open {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// What a layer held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Unpacked {
    /// Content of its files.
    pub bytes: u64,
    pub devices_skipped: u64,
    /// Attributes the file system cannot hold.
    pub xattrs_skipped: u64,
}

impl Unpacked {
    /// Tells the user what the layer lost.
    pub(crate) fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.devices_skipped > 0 {
            notes.push(format!("left out {} device nodes", self.devices_skipped));
        }
        if self.xattrs_skipped > 0 {
            let count = self.xattrs_skipped;
            notes.push(format!("left out {count} attributes this file system cannot hold"));
        }
        notes
    }
}

/// Unpacks a layer into `dir`, which must be empty and private to the caller.
///
/// # Errors
/// The directory then holds a part of the layer; the caller removes it.
pub(crate) fn unpack_layer<R: Read>(
    tar: &mut TarStream<R>,
    dir: &Path,
    budget: &Budget,
) -> Result<Unpacked, UnpackError> {
    let mut unpacker = Unpacker::new(dir, budget, Purpose::Layer)?;
    while let Some(entry) = tar.next_entry()? {
        unpacker.entry(tar, &entry)?;
    }
    unpacker.finish()
}

/// What an archive is unpacked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// One layer of an image: whiteouts hide names of the layers below.
    Layer,
    /// Files of a user beside others: every name is just a name, and the directory itself stays
    /// as it is.
    Files,
}

pub(crate) struct Unpacker<'a> {
    purpose: Purpose,
    entries: u64,
    root: RootDir,
    budget: &'a Budget,
    seen: Unpacked,
    /// Set last: making files in a directory changes its time.
    directory_times: Vec<(Vec<OsString>, (i64, u32))>,
    buffer: Vec<u8>,
}

/// Names the failed operation; a full disk gets its own variant, since the cure differs.
fn applying(operation: &'static str, entry: &Entry) -> impl FnOnce(io::Error) -> UnpackError {
    let path = entry.name();
    move |source| match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => UnpackError::DiskFull { path },
        _ => UnpackError::Apply { operation, path, source },
    }
}

impl<'a> Unpacker<'a> {
    /// Begins to unpack into `dir`.
    pub(crate) fn new(
        dir: &Path,
        budget: &'a Budget,
        purpose: Purpose,
    ) -> Result<Self, UnpackError> {
        let root = RootDir::open(dir)
            .map_err(|source| UnpackError::Open { path: dir.to_owned(), source })?;
        let (seen, directory_times) = (Unpacked::default(), Vec::new());
        let buffer = vec![0; COPY_BUFFER_BYTES];
        Ok(Unpacker { purpose, entries: 0, root, budget, seen, directory_times, buffer })
    }

    /// Ends unpacking; tells what there was.
    pub(crate) fn finish(mut self) -> Result<Unpacked, UnpackError> {
        self.set_directory_times()?;
        Ok(self.seen)
    }

    /// Unpacks the next entry, whose content `tar` gives.
    pub(crate) fn entry(&mut self, tar: &mut impl Read, entry: &Entry) -> Result<(), UnpackError> {
        self.entries += 1;
        if self.entries > ENTRIES_MAX {
            return Err(UnpackError::TooManyEntries);
        }
        let names = clean(&entry.path).ok_or_else(|| UnpackError::Escape { path: entry.name() })?;
        self.budget.take_entry(entry.size)?;
        let Some((name, above)) = names.split_last() else {
            return self.root_entry(entry);
        };
        let parent =
            self.root.make_directory(above).map_err(applying("making the parent of", entry))?;
        let parent = parent.as_fd();
        if self.purpose == Purpose::Layer
            && let Some(hidden) = rootdir::strip_prefix(name, WHITEOUT)
        {
            return self.whiteout(entry, parent, name, hidden);
        }
        if matches!(entry.kind, EntryKind::Char | EntryKind::Block) {
            self.seen.devices_skipped += 1;
            return Ok(());
        }
        if entry.kind == EntryKind::Directory {
            return self.directory(entry, parent, name, names.clone());
        }
        if rootdir::look(parent, name).map_err(applying("looking at", entry))?.is_some() {
            self.root.remove(parent, name).map_err(applying("replacing", entry))?;
        }
        match entry.kind {
            EntryKind::File => self.file(tar, entry, parent, name),
            EntryKind::Hardlink => self.hardlink(entry, parent, name),
            EntryKind::Symlink => symlink(entry, parent, name),
            EntryKind::Fifo => fifo(entry, parent, name),
            EntryKind::Char | EntryKind::Block | EntryKind::Directory => Ok(()),
        }
    }

    /// `./`: the root directory itself.
    fn root_entry(&mut self, entry: &Entry) -> Result<(), UnpackError> {
        if entry.kind != EntryKind::Directory {
            return Err(UnpackError::Escape { path: entry.name() });
        }
        if self.purpose == Purpose::Files {
            return Ok(());
        }
        let fd = self.root.directory(&[]).map_err(applying("opening", entry))?;
        self.metadata(entry, fd.as_fd())?;
        self.directory_times.push((Vec::new(), entry.mtime));
        Ok(())
    }

    fn directory(
        &mut self,
        entry: &Entry,
        parent: BorrowedFd<'_>,
        name: &OsStr,
        names: Vec<OsString>,
    ) -> Result<(), UnpackError> {
        let there = rootdir::look(parent, name).map_err(applying("looking at", entry))?;
        let mut opaque = false;
        if let Some(stat) = &there
            && rootdir::file_type(stat) != FileType::Directory
        {
            // A whiteout of this name came first: what is below stays hidden by this directory.
            opaque = rootdir::is_whiteout(stat);
            self.root.remove(parent, name).map_err(applying("replacing", entry))?;
        }
        match rustix::fs::mkdirat(parent, name, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(applying("making directory", entry)(error.into())),
        }
        let fd =
            rootdir::open_directory(parent, name).map_err(applying("opening directory", entry))?;
        self.metadata(entry, fd.as_fd())?;
        if opaque {
            set_opaque(entry, fd.as_fd())?;
        }
        self.directory_times.push((names, entry.mtime));
        Ok(())
    }

    fn file(
        &mut self,
        tar: &mut impl Read,
        entry: &Entry,
        parent: BorrowedFd<'_>,
        name: &OsStr,
    ) -> Result<(), UnpackError> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(parent, name, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|error| applying("making file", entry)(error.into()))?;
        let mut file = File::from(fd);
        loop {
            let count = match tar.read(&mut self.buffer) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => return Err(TarError::reading(&entry.name(), source).into()),
            };
            if count == 0 {
                break;
            }
            file.write_all(&self.buffer[..count]).map_err(applying("writing", entry))?;
        }
        self.seen.bytes += entry.size;
        self.metadata(entry, file.as_fd())?;
        rustix::fs::futimens(&file, &times(entry.mtime))
            .map_err(|error| applying("setting the time of", entry)(error.into()))
    }

    fn hardlink(
        &mut self,
        entry: &Entry,
        parent: BorrowedFd<'_>,
        name: &OsStr,
    ) -> Result<(), UnpackError> {
        let target = String::from_utf8_lossy(&entry.link).into_owned();
        let names = clean(&entry.link).ok_or_else(|| UnpackError::LinkEscape {
            path: entry.name(),
            target: target.clone(),
        })?;
        let missing = || UnpackError::LinkTarget { path: entry.name(), target: target.clone() };
        let (last, above) = names.split_last().ok_or_else(missing)?;
        let from: std::sync::Arc<OwnedFd> = self.root.directory(above).map_err(|_| missing())?;
        // Without SYMLINK_FOLLOW: a link to a link is a link, wherever that one points.
        match rustix::fs::linkat(&*from, last, parent, name, AtFlags::empty()) {
            Ok(()) => Ok(()),
            Err(Errno::NOENT | Errno::NOTDIR) => Err(missing()),
            Err(error) => Err(applying("linking", entry)(error.into())),
        }
    }

    fn whiteout(
        &mut self,
        entry: &Entry,
        parent: BorrowedFd<'_>,
        name: &OsStr,
        hidden: &OsStr,
    ) -> Result<(), UnpackError> {
        if name == OPAQUE {
            return set_opaque(entry, parent);
        }
        if rootdir::strip_prefix(name, AUFS_PREFIX).is_some() {
            return Ok(());
        }
        if matches!(hidden.as_bytes(), b"" | b"." | b"..") {
            return Err(UnpackError::Whiteout { path: entry.name() });
        }
        // A whiteout speaks of the layers below only. What this layer itself has under the name
        // stays: a file hides them anyway, a directory must not let them shine through.
        match rootdir::look(parent, hidden).map_err(applying("looking at", entry))? {
            Some(stat) if rootdir::file_type(&stat) == FileType::Directory => {
                let fd = rootdir::open_directory(parent, hidden)
                    .map_err(applying("opening directory", entry))?;
                set_opaque(entry, fd.as_fd())
            }
            Some(_) => Ok(()),
            None => {
                let mode = Mode::empty();
                rustix::fs::mknodat(parent, hidden, FileType::CharacterDevice, mode, 0)
                    .map_err(|error| applying("writing whiteout", entry)(error.into()))
            }
        }
    }

    /// Owner before mode and attributes: changing it clears setuid bits and capabilities.
    fn metadata(&mut self, entry: &Entry, fd: BorrowedFd<'_>) -> Result<(), UnpackError> {
        let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
        rustix::fs::fchown(fd, Some(uid), Some(gid))
            .map_err(|error| applying("setting the owner of", entry)(error.into()))?;
        rustix::fs::fchmod(fd, Mode::from_raw_mode(entry.mode))
            .map_err(|error| applying("setting the mode of", entry)(error.into()))?;
        for (name, value) in &entry.xattrs {
            // Others would speak to the host: `trusted.overlay.*` redirects lookups of overlayfs.
            if name != b"security.capability" && !name.starts_with(b"user.") {
                continue;
            }
            match rustix::fs::fsetxattr(fd, name.as_slice(), value, XattrFlags::empty()) {
                Ok(()) => {}
                Err(Errno::OPNOTSUPP) => self.seen.xattrs_skipped += 1,
                Err(error) => {
                    return Err(applying("setting an attribute of", entry)(error.into()));
                }
            }
        }
        Ok(())
    }

    fn set_directory_times(&mut self) -> Result<(), UnpackError> {
        for (names, mtime) in std::mem::take(&mut self.directory_times) {
            // A later entry may have replaced it.
            let Ok(fd) = self.root.directory(&names) else { continue };
            rustix::fs::futimens(&*fd, &times(mtime)).map_err(|error| UnpackError::Apply {
                operation: "setting the time of",
                path: join(&names).to_string_lossy().into_owned(),
                source: error.into(),
            })?;
        }
        Ok(())
    }
}

fn symlink(entry: &Entry, parent: BorrowedFd<'_>, name: &OsStr) -> Result<(), UnpackError> {
    // Kept as written: it is the container that follows it, inside its own root.
    rustix::fs::symlinkat(OsStr::from_bytes(&entry.link), parent, name)
        .map_err(|error| applying("making symbolic link", entry)(error.into()))?;
    owner_and_time(entry, parent, name)
}

fn fifo(entry: &Entry, parent: BorrowedFd<'_>, name: &OsStr) -> Result<(), UnpackError> {
    let mode = Mode::from_raw_mode(entry.mode);
    rustix::fs::mknodat(parent, name, FileType::Fifo, mode, 0)
        .map_err(|error| applying("making fifo", entry)(error.into()))?;
    owner_and_time(entry, parent, name)?;
    // Again, since the umask took its part.
    rustix::fs::chmodat(parent, name, mode, AtFlags::empty())
        .map_err(|error| applying("setting the mode of", entry)(error.into()))
}

fn owner_and_time(entry: &Entry, parent: BorrowedFd<'_>, name: &OsStr) -> Result<(), UnpackError> {
    let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
    rustix::fs::chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|error| applying("setting the owner of", entry)(error.into()))?;
    rustix::fs::utimensat(parent, name, &times(entry.mtime), AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|error| applying("setting the time of", entry)(error.into()))
}

fn set_opaque(entry: &Entry, fd: BorrowedFd<'_>) -> Result<(), UnpackError> {
    rootdir::set_opaque(fd).map_err(applying("hiding what is below", entry))
}

fn times((tv_sec, nanos): (i64, u32)) -> Timestamps {
    let time = Timespec { tv_sec, tv_nsec: nanos.into() };
    Timestamps { last_access: time, last_modification: time }
}

#[cfg(test)]
#[path = "unpack_tests.rs"]
mod tests;
