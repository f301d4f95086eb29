//! The disk a node runs from: found by what is on it, since its name differs from board to board.

use crate::node::layout::{
    CONFIG_LABEL, DATA_LABEL, DATA_PARTITION, SECTOR_BYTES, TYPE_FAT32, TYPE_LINUX,
};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

const MBR_BYTES: usize = 512;
/// The first of four entries of 16 bytes.
const MBR_ENTRIES: usize = 446;
/// Where FAT32 and ext4 have their labels, from the file system's beginning. Bytes.
const FAT_LABEL: (u64, usize) = (71, 11);
const EXT4_LABEL: (u64, usize) = (1024 + 0x78, 16);

/// An entry of a partition table. Sectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub kind: u8,
    pub start: u64,
    pub count: u64,
}

/// A partition table in a disk's first sector.
#[derive(Clone)]
pub struct Mbr([u8; MBR_BYTES]);

impl Mbr {
    pub fn parse(sector: [u8; MBR_BYTES]) -> Option<Mbr> {
        (sector[MBR_BYTES - 2..] == [0x55, 0xaa]).then_some(Mbr(sector))
    }

    /// The entry of a partition, counted from 1.
    pub fn entry(&self, number: u32) -> Entry {
        let entry = &self.0[MBR_ENTRIES + 16 * (number as usize - 1)..][..16];
        let word = |at: usize| {
            u64::from(u32::from_le_bytes([entry[at], entry[at + 1], entry[at + 2], entry[at + 3]]))
        };
        Entry { kind: entry[4], start: word(8), count: word(12) }
    }

    /// Whether a node's four partitions are what it has.
    fn is_ours(&self) -> bool {
        let kinds = [1, 2, 3, 4].map(|number| self.entry(number).kind);
        kinds == [TYPE_FAT32, TYPE_FAT32, TYPE_FAT32, TYPE_LINUX]
    }

    /// Make a partition longer or shorter. Sectors.
    pub fn set_count(&mut self, number: u32, count: u32) {
        let at = MBR_ENTRIES + 16 * (number as usize - 1) + 12;
        self.0[at..at + 4].copy_from_slice(&count.to_le_bytes());
    }

    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A node's disk, by its kernel name: `vda`, `mmcblk0`.
#[derive(Clone, Debug)]
pub struct Disk(String);

impl Disk {
    pub fn named(name: &str) -> Disk {
        Disk(name.into())
    }

    pub fn name(&self) -> &str {
        &self.0
    }

    pub fn path(&self) -> PathBuf {
        Path::new("/dev").join(&self.0)
    }

    /// `vda4`, `mmcblk0p4`.
    pub fn partition(&self, number: u32) -> PathBuf {
        let between = if self.0.ends_with(|c: char| c.is_ascii_digit()) { "p" } else { "" };
        Path::new("/dev").join(format!("{}{between}{number}", self.0))
    }

    /// Size by the kernel's count. Sectors.
    pub fn sectors(&self) -> io::Result<u64> {
        let path = format!("/sys/class/block/{}/size", self.0);
        fs::read_to_string(path)?.trim().parse().map_err(io::Error::other)
    }

    pub fn read_mbr(&self) -> io::Result<Mbr> {
        let mut sector = [0; MBR_BYTES];
        File::open(self.path())?.read_exact(&mut sector)?;
        Mbr::parse(sector).ok_or_else(|| io::Error::other("no partition table"))
    }

    /// Write the table: one sector, which a disk writes whole or not at all.
    pub fn write_mbr(&self, mbr: &Mbr) -> io::Result<()> {
        let mut disk = OpenOptions::new().write(true).open(self.path())?;
        disk.write_all(mbr.bytes())?;
        disk.sync_all()
    }

    /// Whether this disk was made by `bramble-image`: its partitions, and one of the labels that
    /// it gave. A user may have renamed the first, damage may have taken the other.
    fn is_ours(&self) -> bool {
        let Ok(mbr) = self.read_mbr() else { return false };
        let label = |number, place| self.label(mbr.entry(number).start, place);
        mbr.is_ours()
            && (label(DATA_PARTITION, EXT4_LABEL).is_some_and(|text| text == DATA_LABEL)
                || label(1, FAT_LABEL).is_some_and(|text| text == CONFIG_LABEL))
    }

    fn label(&self, start: u64, (at, length): (u64, usize)) -> Option<String> {
        let mut bytes = vec![0; length];
        let mut disk = File::open(self.path()).ok()?;
        disk.seek(SeekFrom::Start(start * SECTOR_BYTES + at)).ok()?;
        disk.read_exact(&mut bytes).ok()?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Some(text.trim_end_matches(['\0', ' ']).to_string())
    }
}

/// The disks that are here, those first that a board boots from first.
pub fn disks() -> Vec<String> {
    const FIRST: [&str; 5] = ["mmcblk", "nvme", "vd", "sd", "xvd"];
    let Ok(entries) = fs::read_dir("/sys/block") else { return Vec::new() };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut found: Vec<(usize, String)> = names
        .filter_map(|name| {
            let rank = FIRST.iter().position(|prefix| name.starts_with(prefix))?;
            // The boot areas of an eMMC are no disks.
            (!name.contains("boot") && !name.contains("rpmb")).then_some((rank, name))
        })
        .collect();
    found.sort();
    found.into_iter().map(|(_, name)| name).collect()
}

/// A node's disk among those that are here now.
pub fn find() -> Option<Disk> {
    let ours = |disk: &Disk| disk.is_ours() && disk.partition(DATA_PARTITION).exists();
    disks().into_iter().map(Disk).find(ours)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_read_and_its_last_partition_grows() {
        let mut sector = [0; 512];
        assert!(Mbr::parse(sector).is_none());
        sector[510..].copy_from_slice(&[0x55, 0xaa]);
        for (n, kind) in [0x0c, 0x0c, 0x0c, 0x83].into_iter().enumerate() {
            sector[446 + 16 * n + 4] = kind;
        }
        sector[446 + 48 + 8..][..8].copy_from_slice(&[0, 0x20, 0, 0, 0, 0, 1, 0]);
        let mut mbr = Mbr::parse(sector).unwrap();
        assert!(mbr.is_ours());
        assert_eq!(mbr.entry(4), Entry { kind: 0x83, start: 8192, count: 65536 });
        mbr.set_count(4, 0x0102_0304);
        assert_eq!(mbr.entry(4).count, 0x0102_0304);
        assert_eq!(mbr.entry(3).count, 0);
        assert_eq!(mbr.bytes()[..446 + 48 + 12], sector[..446 + 48 + 12]);
        sector[446 + 4] = 0x83;
        assert!(!Mbr::parse(sector).unwrap().is_ours());
    }

    #[test]
    fn partitions_are_named_as_the_kernel_names_them() {
        for (disk, name) in
            [("vda", "/dev/vda4"), ("mmcblk0", "/dev/mmcblk0p4"), ("nvme0n1", "/dev/nvme0n1p4")]
        {
            assert_eq!(Disk::named(disk).partition(4), Path::new(name));
        }
    }
}
