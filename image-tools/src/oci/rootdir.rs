//! A directory that nothing can leave: every path of an untrusted archive is resolved here.
//!
//! Owns the resolving (`openat2` with `RESOLVE_IN_ROOT`: symbolic links, absolute ones too, lead
//! to places below the root, decided by the kernel at the moment of use). Never takes a path that
//! was checked earlier, which could have changed since.

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat, XattrFlags};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::sync::Arc;

pub(crate) const OPAQUE_XATTR: &str = "trusted.overlay.opaque";
const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC).union(OFlags::NOFOLLOW);
const IN_ROOT: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS);

/// Splits a path of an archive into names without `.`, `..` and empty ones; `None` when it leads
/// above the root. A leading `/` means the root.
pub(crate) fn clean(path: &[u8]) -> Option<Vec<OsString>> {
    let mut names = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(names.pop()?),
            name => names.push(OsString::from_vec(name.to_vec())),
        }
    }
    Some(names)
}

pub(crate) fn join(names: &[OsString]) -> OsString {
    if names.is_empty() {
        return OsString::from(".");
    }
    names.join(OsStr::new("/"))
}

pub(crate) struct RootDir {
    root: OwnedFd,
    /// The directory used last: archives list the files of one directory in a row.
    last: Option<(OsString, Arc<OwnedFd>)>,
}

impl RootDir {
    pub(crate) fn open(path: &Path) -> io::Result<RootDir> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(path, flags, Mode::empty())?;
        Ok(RootDir { root, last: None })
    }

    /// Opens a directory below the root, following links within the root.
    pub(crate) fn directory(&mut self, names: &[OsString]) -> io::Result<Arc<OwnedFd>> {
        let path = join(names);
        if let Some((last, fd)) = &self.last
            && *last == path
        {
            return Ok(Arc::clone(fd));
        }
        // Without NOFOLLOW: the last name may be a link to a directory of the same layer.
        let flags = DIRECTORY.difference(OFlags::NOFOLLOW);
        let fd = rustix::fs::openat2(&self.root, &path, flags, Mode::empty(), IN_ROOT)?;
        let fd = Arc::new(fd);
        self.last = Some((path, Arc::clone(&fd)));
        Ok(fd)
    }

    /// Like [`RootDir::directory`], making what is missing (mode 0755, owned by root: what
    /// Docker gives to directories an archive implies). A whiteout on the way becomes an opaque
    /// directory: what it hides stays hidden.
    pub(crate) fn make_directory(&mut self, names: &[OsString]) -> io::Result<Arc<OwnedFd>> {
        match self.directory(names) {
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) => {}
            result => return result,
        }
        for end in 1..=names.len() {
            let (name, above) = (&names[end - 1], &names[..end - 1]);
            let parent = self.directory(above)?;
            let there = look(parent.as_fd(), name)?;
            let hidden = there.as_ref().is_some_and(is_whiteout);
            if hidden {
                self.remove(parent.as_fd(), name)?;
            } else if there.is_some() {
                continue;
            }
            rustix::fs::mkdirat(&*parent, name, Mode::RWXU)?;
            let made = open_directory(parent.as_fd(), name)?;
            rustix::fs::fchmod(&made, Mode::from_raw_mode(0o755))?;
            if hidden {
                set_opaque(made.as_fd())?;
            }
        }
        self.directory(names)
    }

    /// Removes whatever has this name, a whole directory too; what a link points to stays.
    pub(crate) fn remove(&mut self, parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
        self.last = None;
        match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
            Err(Errno::ISDIR) => {
                let path = Path::new("/proc/self/fd").join(parent.as_raw_fd().to_string());
                std::fs::remove_dir_all(path.join(name))
            }
            result => Ok(result?),
        }
    }
}

/// Opens a directory that is no link.
pub(crate) fn open_directory(parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<OwnedFd> {
    Ok(rustix::fs::openat(parent, name, DIRECTORY, Mode::empty())?)
}

/// Looks at a name without following it; `None` when nothing has it.
pub(crate) fn look(parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<Option<Stat>> {
    match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

pub(crate) fn file_type(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// True of the mark by which overlayfs hides a name of the layers below.
pub(crate) fn is_whiteout(stat: &Stat) -> bool {
    file_type(stat) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// Hides what the layers below have in a directory of this name.
pub(crate) fn set_opaque(directory: BorrowedFd<'_>) -> io::Result<()> {
    Ok(rustix::fs::fsetxattr(directory, OPAQUE_XATTR, b"y", XattrFlags::empty())?)
}

/// Reads a name's first bytes as text for comparing with the prefixes of whiteouts.
pub(crate) fn strip_prefix<'a>(name: &'a OsStr, prefix: &str) -> Option<&'a OsStr> {
    name.as_bytes().strip_prefix(prefix.as_bytes()).map(OsStr::from_bytes)
}
