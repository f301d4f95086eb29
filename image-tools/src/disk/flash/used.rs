//! Who uses a disk or a file in its place: nothing of anybody's is written over.

use crate::disk::error::{DiskError, Doing, at};
use crate::disk::mbr;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Where the kernel tells of disks.
pub const BLOCK_DEVICES: &str = "/sys/class/block";

/// Refuse a file that is no emulator's card, or is in use as a disk.
///
/// # Errors
/// It is.
pub fn refuse_file(path: &Path, sysfs: &Path) -> Result<(), DiskError> {
    let Ok(mut file) = File::open(path) else { return Ok(()) };
    let mut first = Vec::new();
    (&mut file).take(512).read_to_end(&mut first).doing(at("reading", path))?;
    let table = first.first_chunk().is_some_and(|first| mbr::partition(first, 1).is_ok());
    if !table && first.iter().any(|byte| *byte != 0) {
        let text = format!(
            "{} is a file with something else in it; give the disk of a card, or a new file",
            path.display()
        );
        return Err(DiskError::Refused(text));
    }
    let own = path.canonicalize().doing(at("finding", path))?;
    for disk in fs::read_dir(sysfs).into_iter().flatten().flatten() {
        let backing = fs::read_to_string(disk.path().join("loop/backing_file"));
        if backing.is_ok_and(|backing| Path::new(backing.trim_end_matches('\n')) == own) {
            let device = disk.file_name().to_string_lossy().into_owned();
            let text =
                format!("{} is in use as /dev/{device}; give that, or detach it", own.display());
            return Err(DiskError::Refused(text));
        }
    }
    Ok(())
}

/// Refuse a disk that is a part of one, or of which anything is in use.
///
/// # Errors
/// It is.
pub fn refuse_used(path: &Path) -> Result<(), DiskError> {
    let path = path.canonicalize().doing(at("finding", path))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let read = |name: &str| fs::read_to_string(name).unwrap_or_default();
    let (mounts, swaps) = (read("/proc/self/mountinfo"), read("/proc/swaps"));
    match use_of(Path::new(BLOCK_DEVICES), &name, &mounts, &swaps) {
        None => Ok(()),
        Some(text) => Err(DiskError::Refused(format!("{} {text}", path.display()))),
    }
}

/// Why a disk must not be written to.
pub fn use_of(sysfs: &Path, name: &str, mounts: &str, swaps: &str) -> Option<String> {
    let disk = sysfs.join(name);
    if disk.join("partition").exists() {
        return Some("is a partition; give the whole disk".into());
    }
    let read = |path: PathBuf| fs::read_to_string(path).unwrap_or_default().trim().to_string();
    if read(disk.join("ro")) == "1" {
        return Some("is write-protected; look for a slider on the card".into());
    }
    let inside = fs::read_dir(&disk).into_iter().flatten().flatten().map(|entry| entry.path());
    let parts = inside.filter(|path| path.join("partition").exists());
    for part in parts.chain([disk.clone()]) {
        let part_name = part.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let number = read(part.join("dev"));
        let mut mounted = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let mounted = mounted.find(|words| {
            // Some file systems give themselves a number; then the source names the disk.
            let source = words.iter().skip_while(|word| **word != "-").nth(2);
            words.get(2).is_some_and(|word| **word == number && !number.is_empty())
                || source.is_some_and(|source| *source == format!("/dev/{part_name}"))
        });
        if let Some(place) = mounted.and_then(|words| words.get(4).map(ToString::to_string)) {
            return Some(match place.as_str() {
                "/" | "/boot" | "/usr" | "/var" | "/home" => {
                    format!("holds {place} of this machine; give the card's disk")
                }
                _ => format!("is in use: {part_name} is mounted at {place}; unmount it first"),
            });
        }
        if swaps.lines().any(|line| line.starts_with(&format!("/dev/{part_name} "))) {
            return Some(format!("is in use: {part_name} is swap of this machine"));
        }
        let mut holders = fs::read_dir(part.join("holders")).into_iter().flatten().flatten();
        if let Some(holder) = holders.next() {
            let holder = holder.file_name().to_string_lossy().into_owned();
            return Some(format!("is in use: {part_name} is part of {holder}"));
        }
    }
    None
}
