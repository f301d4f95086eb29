//! The data partition: checked, mounted, and grown to the disk's end.
//!
//! Growing looks at what is and does what is missing: the table's entry, the kernel's idea of it,
//! the file system. So a power cut between any two of them is made good by the next boot.

use super::console::say;
use super::disk::{Disk, Mbr};
use super::sys;
use crate::node::layout::{DATA_DIR, DATA_PARTITION, SECTOR_BYTES};
use nix::mount::{MsFlags, mount};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::process::Command;
use thiserror::Error;

const E2FSCK: &str = "/sbin/e2fsck";
/// Of e2fsck(8): errors were left uncorrected.
const UNCORRECTED: i32 = 4;
/// The data partition ends at a multiple of this. Sectors.
const END_ALIGN: u64 = 2048;
/// An MBR counts no further. Sectors.
const MBR_SECTORS_MAX: u64 = u32::MAX as u64;

#[derive(Debug, Error)]
pub enum DataError {
    #[error(
        "the data partition {device} is damaged ({reason}); nothing on it was changed further. \
         Flash the card anew, or repair it on another machine with e2fsck"
    )]
    Damaged { device: String, reason: String },
}

/// Mount the data partition, repaired where that can be done.
///
/// # Errors
/// It can neither be mounted nor repaired. It is never formatted anew: what is on it may be
/// somebody's only copy.
pub fn attach(disk: &Disk) -> Result<(), DataError> {
    let device = disk.partition(DATA_PARTITION);
    if has_errors(&device) {
        say("the data partition noted errors; checking it");
        check(&device);
    }
    if let Err(first) = try_mount(&device) {
        say(&format!("the data partition cannot be mounted ({first}); checking it"));
        check(&device);
        try_mount(&device).map_err(|error| DataError::Damaged {
            device: device.display().to_string(),
            reason: error.to_string(),
        })?;
    }
    if let Err(error) = grow(disk) {
        say(&format!("the data partition could not be grown: {error}"));
    }
    Ok(())
}

fn try_mount(device: &Path) -> nix::Result<()> {
    let flags = MsFlags::MS_NOATIME | MsFlags::MS_NODEV;
    mount(Some(device), DATA_DIR, Some("ext4"), flags, Some("errors=remount-ro"))
}

/// Repair, first what is safe to, then all.
fn check(device: &Path) {
    for how in ["-p", "-y"] {
        match Command::new(E2FSCK).arg(how).arg(device).status() {
            Ok(status) if status.code().is_some_and(|code| code < UNCORRECTED) => return,
            Ok(_) => {}
            Err(error) => return say(&format!("{E2FSCK}: {error}")),
        }
    }
}

/// The parts of an ext4 superblock that matter here.
#[derive(Debug, PartialEq, Eq)]
struct Superblock {
    blocks: u64,
    block_bytes: u64,
    /// The kernel met errors in it.
    errors: bool,
}

impl Superblock {
    const BYTES: usize = 1024;

    fn read(device: &Path) -> io::Result<Superblock> {
        let mut bytes = [0; Self::BYTES];
        let mut file = File::open(device)?;
        file.seek(SeekFrom::Start(1024))?;
        file.read_exact(&mut bytes)?;
        Self::parse(&bytes).ok_or_else(|| io::Error::other("no ext4 superblock"))
    }

    fn parse(bytes: &[u8; Self::BYTES]) -> Option<Superblock> {
        const MAGIC: [u8; 2] = [0x53, 0xef];
        const STATE_ERRORS: u8 = 2;
        const INCOMPAT_64BIT: u32 = 0x80;
        let word = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        if bytes[0x38..0x3a] != MAGIC || word(0x18) > 6 {
            return None;
        }
        let high = if word(0x60) & INCOMPAT_64BIT != 0 { word(0x150) } else { 0 };
        Some(Superblock {
            blocks: u64::from(high) << 32 | u64::from(word(0x4)),
            block_bytes: 1024 << word(0x18),
            errors: bytes[0x3a] & STATE_ERRORS != 0,
        })
    }
}

fn has_errors(device: &Path) -> bool {
    Superblock::read(device).is_ok_and(|found| found.errors)
}

/// How long the data partition should be. Sectors.
fn target(mbr: &Mbr, disk_sectors: u64) -> Option<u64> {
    let entry = mbr.entry(DATA_PARTITION);
    let end = disk_sectors.min(MBR_SECTORS_MAX) / END_ALIGN * END_ALIGN;
    let count = end.checked_sub(entry.start)?;
    (count > entry.count).then_some(count)
}

fn grow(disk: &Disk) -> io::Result<()> {
    let mut mbr = disk.read_mbr()?;
    if let Some(count) = target(&mbr, disk.sectors()?) {
        mbr.set_count(DATA_PARTITION, u32::try_from(count).map_err(io::Error::other)?);
        disk.write_mbr(&mbr)?;
    }
    let entry = mbr.entry(DATA_PARTITION);
    let device = disk.partition(DATA_PARTITION);
    let known = sectors(&device)?;
    if known < entry.count {
        let (start, length) = (entry.start * SECTOR_BYTES, entry.count * SECTOR_BYTES);
        sys::resize_partition(&File::open(disk.path())?, DATA_PARTITION, start, length)?;
    }
    let found = Superblock::read(&device)?;
    let blocks = entry.count * SECTOR_BYTES / found.block_bytes;
    // A few blocks at the end may not fill a group and stay unused.
    if blocks.saturating_sub(found.blocks) * found.block_bytes > 32 << 20 {
        say(&format!("growing the data partition to {} MiB", entry.count >> 11));
        sys::resize_ext4(&File::open(DATA_DIR)?, blocks)?;
    }
    Ok(())
}

fn sectors(device: &Path) -> io::Result<u64> {
    let name = device.file_name().unwrap_or_default();
    let path = Path::new("/sys/class/block").join(name).join("size");
    std::fs::read_to_string(path)?.trim().parse().map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mbr(start: u32, count: u32) -> Mbr {
        let mut sector = [0; 512];
        sector[510..].copy_from_slice(&[0x55, 0xaa]);
        sector[446 + 48 + 8..][..4].copy_from_slice(&start.to_le_bytes());
        sector[446 + 48 + 12..][..4].copy_from_slice(&count.to_le_bytes());
        Mbr::parse(sector).unwrap()
    }

    #[test]
    fn it_grows_to_the_end_and_never_shrinks() {
        for (disk, count, grown) in [
            (1_000_000, 65_536, Some(999_424 - 8192)),
            (999_424, 999_424 - 8192, None),
            (70_000, 65_536, None),
            (1000, 65_536, None),
            (u64::MAX, 65_536, Some((MBR_SECTORS_MAX / 2048 * 2048) - 8192)),
        ] {
            assert_eq!(target(&mbr(8192, count), disk), grown, "{disk}");
        }
    }

    #[test]
    fn a_superblock_tells_size_and_state() {
        let mut bytes = [0; 1024];
        assert_eq!(Superblock::parse(&bytes), None);
        bytes[0x38..0x3b].copy_from_slice(&[0x53, 0xef, 3]);
        bytes[0x4..0x8].copy_from_slice(&8192u32.to_le_bytes());
        bytes[0x18] = 2;
        let found = Superblock { blocks: 8192, block_bytes: 4096, errors: true };
        assert_eq!(Superblock::parse(&bytes), Some(found));
        (bytes[0x150], bytes[0x60], bytes[0x3a]) = (1, 0x80, 1);
        let found = Superblock::parse(&bytes).unwrap();
        assert_eq!((found.blocks, found.errors), ((1 << 32) + 8192, false));
    }
}
