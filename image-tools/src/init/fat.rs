//! Writing on the configuration partition.
//!
//! FAT has no journal, cards have no more writes than they have, and power goes when it likes. So
//! the partition is mounted read-only but for the moments of a write; a small file that keeps its
//! size is written over in one sector, any other is written beside and renamed.

use crate::node::layout::{BOOT_DIR, SECTOR_BYTES};
use nix::mount::{MsFlags, mount};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// One writer at a time: the first that is done takes the right to write from the other.
static WRITER: Mutex<()> = Mutex::new(());

/// The configuration partition, writable while this lives.
struct Writable<'a> {
    _writer: MutexGuard<'a, ()>,
}

impl Writable<'_> {
    fn open() -> io::Result<Self> {
        let writer = WRITER.lock().unwrap_or_else(PoisonError::into_inner);
        remount(MsFlags::empty())?;
        Ok(Self { _writer: writer })
    }
}

impl Drop for Writable<'_> {
    fn drop(&mut self) {
        // Only untidy where it fails.
        let _ = remount(MsFlags::MS_RDONLY);
    }
}

fn remount(flags: MsFlags) -> io::Result<()> {
    let flags =
        flags | MsFlags::MS_REMOUNT | MsFlags::MS_NOATIME | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    Ok(mount(None::<&str>, BOOT_DIR, None::<&str>, flags, None::<&str>)?)
}

/// Where a file of the configuration partition lies.
pub fn path(name: &str) -> PathBuf {
    Path::new(BOOT_DIR).join(name)
}

/// Put `bytes` into a file of the configuration partition: all of them, or none.
///
/// # Errors
/// The partition is not mounted, full, or refuses; the file is as it was.
pub fn write(name: &str, bytes: &[u8]) -> io::Result<()> {
    let path = path(name);
    if fs::read(&path).is_ok_and(|there| there == bytes) {
        return Ok(());
    }
    let writable = Writable::open()?;
    let written = put(&path, bytes);
    drop(writable);
    written
}

/// Remove a file of the configuration partition.
///
/// # Errors
/// The partition refuses.
pub fn remove(name: &str) -> io::Result<()> {
    let writable = Writable::open()?;
    let removed = fs::remove_file(path(name))
        .and_then(|()| super::sys::sync_file_system(File::open(BOOT_DIR)?));
    drop(writable);
    removed
}

fn put(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let there = fs::read(path).unwrap_or_default();
    if let Some(length) = one_sector(&there, bytes) {
        let mut file = OpenOptions::new().write(true).open(path)?;
        file.write_all(&bytes[..length])?;
        return file.sync_all();
    }
    let beside = path.with_extension("new");
    let mut file = File::create(&beside)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    drop(file);
    if let Err(error) = written.and_then(|()| fs::rename(&beside, path)) {
        let _ = fs::remove_file(&beside);
        return Err(error);
    }
    let dir = File::open(path.parent().unwrap_or(Path::new("/")))?;
    super::sys::sync_file_system(&dir)
}

/// How many bytes to write over where that changes one sector and nothing else: a disk writes a
/// sector whole or not at all.
fn one_sector(there: &[u8], bytes: &[u8]) -> Option<usize> {
    let length = bytes.len().min(SECTOR_BYTES as usize);
    (there.len() == bytes.len() && there[length..] == bytes[length..]).then_some(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boot_choice_is_one_sector() {
        use crate::node::Slot;
        use crate::node::boot::{Choice, write_autoboot, write_grub};
        let a = write_grub(None, Choice::lasting(Slot::A)).unwrap();
        let b = write_grub(None, Choice { slot: Slot::B, once: Some(Slot::A) }).unwrap();
        assert_eq!(one_sector(&a, &b), Some(512));
        let (a, b) = (write_autoboot(Slot::A), write_autoboot(Slot::B));
        assert_eq!(one_sector(a.as_bytes(), b.as_bytes()), Some(a.len()));
        assert_eq!(one_sector(b"abc", b"ab"), None);
        assert_eq!(one_sector(&[0; 1024], &[1; 1024]), None);
        assert_eq!(one_sector(b"", b"ab"), None);
    }

    #[test]
    fn a_file_is_replaced_and_nothing_is_left_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("status.txt");
        for text in ["one", "two", "longer than before", ""] {
            put(&path, text.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        }
    }
}
