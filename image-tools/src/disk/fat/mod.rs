//! FAT32, as far as an image needs it: a file system written once and in order ([`Volume`]), and
//! single files of an existing one read and replaced ([`Editor`]).
//!
//! The same files give the same bytes: dates are FAT's first day, clusters are handed out in
//! order. It repairs nothing.

mod edit;
mod entry;
mod write;

pub use edit::Editor;
pub use write::{Content, Volume, Written};

use thiserror::Error;

const SECTOR: usize = 512;
/// Where the file system's description, and a copy of it, lie. Sectors.
const DESCRIPTION_SECTORS: [u64; 2] = [1, 7];
/// A cluster's entry: the end of a file, and anything from there on.
const END: u32 = 0x0fff_ffff;
const END_FROM: u32 = 0x0fff_fff8;
/// Of an entry in the table only these bits are a cluster's number.
const CLUSTER_BITS: u32 = 0x0fff_ffff;
/// The first cluster there is, which is the root's.
const FIRST_CLUSTER: u32 = 2;
/// With fewer clusters than this a driver takes it for FAT16.
const CLUSTERS_MIN: u64 = 65_525;

#[derive(Debug, Error)]
pub enum FatError {
    #[error("it holds no FAT32 file system")]
    NotFat,
    #[error("its file system is damaged: {0}")]
    Damaged(&'static str),
    #[error("{0} bytes are too few for FAT32 (33 MiB at least)")]
    Small(u64),
    #[error("its file system is full: {0} bytes more are needed")]
    Full(u64),
    #[error("{0:?} is no name for a file on FAT")]
    Name(String),
    #[error("there is no {0} on it")]
    Absent(String),
    #[error("{path} has {found} bytes and was announced with {announced}")]
    Changed { path: String, announced: u64, found: u64 },
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// Where everything lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Geometry {
    /// All there are. Sectors.
    sectors: u32,
    /// Before the first table. Sectors.
    reserved: u32,
    /// Of one table. Sectors.
    table: u32,
    tables: u32,
    /// Of a cluster. Sectors.
    cluster: u32,
}

impl Geometry {
    /// Lay out a new file system: clusters as large as FAT32 allows, up to 4 KiB, and beginning
    /// at multiples of that.
    fn new(bytes: u64) -> Result<Geometry, FatError> {
        const CLUSTER_SECTORS: [u32; 4] = [8, 4, 2, 1];
        const ALIGN: u32 = 8;
        const RESERVED_MIN: u32 = 32;
        let sectors = u32::try_from(bytes / SECTOR as u64).map_err(|_| FatError::Small(bytes))?;
        for cluster in CLUSTER_SECTORS {
            // The table counts its own place as data, so it may be a little too large.
            let entries = u64::from(sectors / cluster) + u64::from(FIRST_CLUSTER);
            let table = (entries * 4).div_ceil(SECTOR as u64) as u32;
            let meta = (RESERVED_MIN + 2 * table).next_multiple_of(ALIGN);
            let geometry =
                Geometry { sectors, reserved: meta - 2 * table, table, tables: 2, cluster };
            if sectors > meta && u64::from(geometry.clusters()) >= CLUSTERS_MIN {
                return Ok(geometry);
            }
        }
        Err(FatError::Small(bytes))
    }

    /// Read the first sector.
    fn parse(sector: &[u8; SECTOR]) -> Result<Geometry, FatError> {
        let half = |at: usize| u32::from(u16::from_le_bytes([sector[at], sector[at + 1]]));
        let whole = |at: usize| half(at) | half(at + 2) << 16;
        let fat32 = sector[510..] == [0x55, 0xaa] && half(11) as usize == SECTOR && half(22) == 0;
        let geometry = Geometry {
            sectors: whole(32),
            reserved: half(14),
            table: whole(36),
            tables: u32::from(sector[16]),
            cluster: u32::from(sector[13]),
        };
        let sound = geometry.cluster.is_power_of_two()
            && geometry.reserved > 0
            && geometry.tables > 0
            && u64::from(geometry.data()) < u64::from(geometry.sectors)
            && u64::from(geometry.table) * SECTOR as u64 / 4 >= u64::from(geometry.clusters());
        if fat32 && sound && whole(44) == FIRST_CLUSTER {
            Ok(geometry)
        } else {
            Err(FatError::NotFat)
        }
    }

    /// First sector of the clusters.
    fn data(&self) -> u32 {
        self.tables.saturating_mul(self.table).saturating_add(self.reserved)
    }

    fn clusters(&self) -> u32 {
        self.sectors.saturating_sub(self.data()) / self.cluster
    }

    fn cluster_bytes(&self) -> u64 {
        u64::from(self.cluster) * SECTOR as u64
    }

    /// Where a cluster begins. Bytes.
    fn position(&self, cluster: u32) -> u64 {
        u64::from(self.data()) * SECTOR as u64
            + u64::from(cluster - FIRST_CLUSTER) * self.cluster_bytes()
    }

    /// Where a table begins. Bytes.
    fn table_position(&self, number: u32) -> u64 {
        (u64::from(self.reserved) + u64::from(number) * u64::from(self.table)) * SECTOR as u64
    }

    /// Make the first sector.
    fn first_sector(&self, label: &[u8; 11], serial: u32) -> [u8; SECTOR] {
        let mut sector = [0; SECTOR];
        let mut put = |at: usize, bytes: &[u8]| sector[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &[0xeb, 0x58, 0x90]);
        put(3, b"BRAMBLE ");
        put(11, &(SECTOR as u16).to_le_bytes());
        put(13, &[self.cluster as u8]);
        put(14, &(self.reserved as u16).to_le_bytes());
        put(16, &[self.tables as u8]);
        put(21, &[0xf8]);
        // What once were sectors of a track and heads; some firmware divides by them.
        put(24, &[63, 0, 255, 0]);
        put(32, &self.sectors.to_le_bytes());
        put(36, &self.table.to_le_bytes());
        put(44, &FIRST_CLUSTER.to_le_bytes());
        put(48, &1u16.to_le_bytes());
        put(50, &6u16.to_le_bytes());
        put(64, &[0x80, 0, 0x29]);
        put(67, &serial.to_le_bytes());
        put(71, label);
        put(82, b"FAT32   ");
        put(510, &[0x55, 0xaa]);
        sector
    }
}

/// The sector that says how much is free and where to look for it.
fn description(free: u32, next: u32) -> [u8; SECTOR] {
    let mut sector = [0; SECTOR];
    sector[..4].copy_from_slice(b"RRaA");
    sector[484..488].copy_from_slice(b"rrAa");
    sector[488..492].copy_from_slice(&free.to_le_bytes());
    sector[492..496].copy_from_slice(&next.to_le_bytes());
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    sector
}

#[cfg(test)]
mod tests;
