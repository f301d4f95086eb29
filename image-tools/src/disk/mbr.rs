//! The master boot record: four primary partitions and the first stage of a boot loader.

use std::ops::Range;
use thiserror::Error;

/// Bytes of the record, and of what `Partition` counts in.
pub const SECTOR_BYTES: u64 = 512;
/// Where a boot loader's code ends and the disk's signature begins. Bytes.
pub const CODE_BYTES: usize = 440;
const TABLE_AT: usize = 446;
const ENTRY_BYTES: usize = 16;
const MARK: [u8; 2] = [0x55, 0xaa];
const ACTIVE: u8 = 0x80;
/// "Beyond what cylinders can say": everything reads the LBA instead.
const NO_CYLINDER: [u8; 3] = [0xfe, 0xff, 0xff];

#[derive(Debug, Error, PartialEq, Eq)]
pub enum MbrError {
    #[error("there is no partition table in its first sector")]
    None,
    #[error("it is partitioned by GPT, which is none of ours")]
    Gpt,
    #[error("it has no partition {0}")]
    Partition(u32),
    #[error("a partition ends beyond 2 TiB, which an MBR cannot say")]
    Large,
}

/// One primary partition, in sectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partition {
    pub kind: u8,
    pub start: u32,
    pub sectors: u32,
}

impl Partition {
    /// # Errors
    /// It does not fit into an MBR.
    pub fn new(kind: u8, bytes: Range<u64>) -> Result<Partition, MbrError> {
        let sectors = |bytes: u64| u32::try_from(bytes / SECTOR_BYTES).map_err(|_| MbrError::Large);
        let (start, end) = (sectors(bytes.start)?, sectors(bytes.end)?);
        Ok(Partition { kind, start, sectors: end - start })
    }

    pub fn bytes(&self) -> Range<u64> {
        let start = u64::from(self.start) * SECTOR_BYTES;
        start..start + u64::from(self.sectors) * SECTOR_BYTES
    }
}

/// Make a first sector. The first partition is the active one: some BIOSes boot nothing else.
pub fn write(code: &[u8], signature: u32, partitions: &[Partition; 4]) -> [u8; 512] {
    let mut sector = [0; 512];
    let length = code.len().min(CODE_BYTES);
    sector[..length].copy_from_slice(&code[..length]);
    sector[CODE_BYTES..CODE_BYTES + 4].copy_from_slice(&signature.to_le_bytes());
    for (index, partition) in partitions.iter().enumerate() {
        let entry = &mut sector[TABLE_AT + index * ENTRY_BYTES..][..ENTRY_BYTES];
        entry[0] = if index == 0 { ACTIVE } else { 0 };
        entry[1..4].copy_from_slice(&NO_CYLINDER);
        entry[4] = partition.kind;
        entry[5..8].copy_from_slice(&NO_CYLINDER);
        entry[8..12].copy_from_slice(&partition.start.to_le_bytes());
        entry[12..16].copy_from_slice(&partition.sectors.to_le_bytes());
    }
    sector[510..].copy_from_slice(&MARK);
    sector
}

/// Where the last of the partitions ends. Bytes.
///
/// # Errors
/// There is no table, or nothing in it.
pub fn end(sector: &[u8; 512]) -> Result<u64, MbrError> {
    let found = (1..=4).filter_map(|number| partition(sector, number).ok());
    let ends = found.map(|partition| partition.bytes().end);
    ends.max().map_or_else(|| partition(sector, 1).map(|partition| partition.bytes().end), Ok)
}

/// Read one partition, counted from 1.
///
/// # Errors
/// There is no table, or no such partition in it.
pub fn partition(sector: &[u8; 512], number: u32) -> Result<Partition, MbrError> {
    const PROTECTIVE: u8 = 0xee;
    if sector[510..] != MARK {
        return Err(MbrError::None);
    }
    let entry = |index: usize| &sector[TABLE_AT + index * ENTRY_BYTES..][..ENTRY_BYTES];
    if entry(0)[4] == PROTECTIVE {
        return Err(MbrError::Gpt);
    }
    let index = (1..=4).position(|known| known == number).ok_or(MbrError::Partition(number))?;
    let word = |at: usize| {
        let bytes: [u8; 4] = entry(index)[at..at + 4].try_into().expect("four bytes were taken");
        u32::from_le_bytes(bytes)
    };
    let found = Partition { kind: entry(index)[4], start: word(8), sectors: word(12) };
    let empty = found.kind == 0 || found.start == 0 || found.sectors == 0;
    if empty { Err(MbrError::Partition(number)) } else { Ok(found) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn four() -> [Partition; 4] {
        [1, 2, 3, 4].map(|n| Partition::new(0x0c, n << 22..(n + 1) << 22).unwrap())
    }

    #[test]
    fn partitions_are_read_as_written() {
        let sector = write(&[0x90; 600], 0x1234_5678, &four());
        assert_eq!(sector[..CODE_BYTES], [0x90; CODE_BYTES]);
        assert_eq!(sector[440..446], [0x78, 0x56, 0x34, 0x12, 0, 0]);
        for number in 1..=4 {
            let found = partition(&sector, number).unwrap();
            assert_eq!(found, four()[number as usize - 1]);
            assert_eq!(found.bytes().start, u64::from(number) << 22);
        }
        assert_eq!(sector[446], ACTIVE);
        assert_eq!(sector[446 + 16], 0);
    }

    #[test]
    fn what_is_no_table_of_ours_is_said() {
        assert_eq!(partition(&[0; 512], 1), Err(MbrError::None));
        let mut sector = write(&[], 0, &four());
        assert_eq!(partition(&sector, 5), Err(MbrError::Partition(5)));
        sector[446 + 3 * 16 + 4] = 0;
        assert_eq!(partition(&sector, 4), Err(MbrError::Partition(4)));
        sector[446 + 4] = 0xee;
        assert_eq!(partition(&sector, 1), Err(MbrError::Gpt));
        assert_eq!(Partition::new(0x83, 0..3 << 40), Err(MbrError::Large));
    }
}
