//! Single files of a file system that is there already, read and replaced.

use super::entry::{self, ENTRY, Found, Name};
use super::{
    CLUSTER_BITS, DESCRIPTION_SECTORS, END, END_FROM, FIRST_CLUSTER, FatError, Geometry, SECTOR,
};
use std::io::{Read, Seek, SeekFrom, Write};

/// Largest file that is read into memory, and largest directory. Bytes.
const READ_MAX: u64 = 64 << 20;

/// A FAT32 file system somewhere in a disk or an image of one.
pub struct Editor<D> {
    disk: D,
    start: u64,
    geometry: Geometry,
    /// The first table, as it is on the disk after [`Editor::finish`].
    table: Vec<u32>,
}

/// A directory: its clusters, and their bytes.
struct Directory {
    clusters: Vec<u32>,
    bytes: Vec<u8>,
}

impl<D: Read + Write + Seek> Editor<D> {
    /// Open the file system that begins at `start`. Bytes.
    ///
    /// # Errors
    /// There is none, or it cannot be read.
    pub fn open(mut disk: D, start: u64) -> Result<Self, FatError> {
        let mut sector = [0; SECTOR];
        disk.seek(SeekFrom::Start(start))?;
        disk.read_exact(&mut sector)?;
        let geometry = Geometry::parse(&sector)?;
        let entries = geometry.clusters() + FIRST_CLUSTER;
        let mut bytes = vec![0; entries as usize * 4];
        disk.seek(SeekFrom::Start(start + geometry.table_position(0)))?;
        disk.read_exact(&mut bytes)?;
        let words = bytes.chunks_exact(4);
        let table =
            words.map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]])).collect();
        Ok(Self { disk, start, geometry, table })
    }

    /// Read a file.
    ///
    /// # Errors
    /// There is none of that path, or it cannot be read.
    pub fn read(&mut self, path: &str) -> Result<Vec<u8>, FatError> {
        let (_, found) = self.find(path)?;
        let found = found.filter(|found| !found.directory);
        let found = found.ok_or_else(|| FatError::Absent(path.into()))?;
        if u64::from(found.bytes) > READ_MAX {
            return Err(FatError::Damaged("a file is larger than it can be"));
        }
        let mut bytes =
            self.clusters_of(found.cluster).and_then(|chain| self.read_chain(&chain))?;
        if bytes.len() < found.bytes as usize {
            return Err(FatError::Damaged("a file ends before its size"));
        }
        bytes.truncate(found.bytes as usize);
        Ok(bytes)
    }

    /// Write a file, new or in the place of one, in a directory that is there.
    ///
    /// # Errors
    /// There is no such directory, no room, or reading or writing failed. The old file is there
    /// until the new one is written.
    pub fn write(&mut self, path: &str, bytes: &[u8]) -> Result<(), FatError> {
        let (mut directory, found) = self.find(path)?;
        if found.as_ref().is_some_and(|found| found.directory) {
            return Err(FatError::Absent(path.into()));
        }
        let size = u32::try_from(bytes.len()).map_err(|_| FatError::Full(bytes.len() as u64))?;
        let clusters = self.allocate(bytes.len() as u64)?;
        self.write_chain(&clusters, bytes)?;
        let first = clusters.first().copied().unwrap_or(0);
        match found {
            Some(found) => {
                entry::point(&mut directory.bytes[found.place * ENTRY..][..ENTRY], first, size);
                self.write_directory(&directory)?;
                self.release(found.cluster)?;
            }
            None => {
                let name = path.rsplit('/').next().unwrap_or_default();
                let mut taken =
                    entry::read(&directory.bytes).into_iter().map(|found| found.short).collect();
                let name = Name::new(name, &mut taken)?;
                self.insert(&mut directory, &name.entries(false, first, size))?;
            }
        }
        Ok(())
    }

    /// Write the tables, and hand the disk back.
    ///
    /// # Errors
    /// Writing failed.
    pub fn finish(mut self) -> Result<D, FatError> {
        let bytes: Vec<u8> = self.table.iter().flat_map(|entry| entry.to_le_bytes()).collect();
        for number in 0..self.geometry.tables {
            self.seek(self.geometry.table_position(number))?;
            self.disk.write_all(&bytes)?;
        }
        let used = self.table.iter().skip(FIRST_CLUSTER as usize);
        let free = used.filter(|entry| *entry & CLUSTER_BITS == 0).count() as u32;
        // What is kept in this sector are hints; the copy of it is nobody's first source.
        self.seek(DESCRIPTION_SECTORS[0] * SECTOR as u64)?;
        self.disk.write_all(&super::description(free, u32::MAX))?;
        self.disk.flush()?;
        Ok(self.disk)
    }

    /// A path's directory, and the file in it.
    fn find(&mut self, path: &str) -> Result<(Directory, Option<Found>), FatError> {
        let mut directory = self.directory(FIRST_CLUSTER)?;
        let mut parts = path.split('/').peekable();
        while let Some(part) = parts.next() {
            let found = entry::read(&directory.bytes);
            let found = found.into_iter().find(|found| found.name.eq_ignore_ascii_case(part));
            if parts.peek().is_none() {
                return Ok((directory, found));
            }
            let inside = found.filter(|found| found.directory);
            let inside = inside.ok_or_else(|| FatError::Absent(path.into()))?;
            directory = self.directory(inside.cluster)?;
        }
        Err(FatError::Absent(path.into()))
    }

    fn directory(&mut self, cluster: u32) -> Result<Directory, FatError> {
        let clusters = self.clusters_of(cluster)?;
        let bytes = self.read_chain(&clusters)?;
        Ok(Directory { clusters, bytes })
    }

    fn insert(&mut self, directory: &mut Directory, entries: &[u8]) -> Result<(), FatError> {
        let used = directory.bytes.chunks_exact(ENTRY).position(|entry| entry[0] == 0);
        let at = used.map_or(directory.bytes.len(), |place| place * ENTRY);
        // Behind the end may be anything but more entries.
        let end = at + entries.len();
        let more = (end as u64).saturating_sub(directory.bytes.len() as u64);
        if more > 0 {
            let clusters = self.allocate(more)?;
            let last = *directory.clusters.last().expect("a directory has a cluster");
            self.table[last as usize] = clusters[0];
            directory.clusters.extend(clusters);
            let whole = directory.clusters.len() * self.geometry.cluster_bytes() as usize;
            directory.bytes.resize(whole, 0);
        }
        directory.bytes[at..end].copy_from_slice(entries);
        if let Some(after) = directory.bytes.get_mut(end..) {
            after.fill(0);
        }
        self.write_directory(directory)
    }

    fn write_directory(&mut self, directory: &Directory) -> Result<(), FatError> {
        self.write_chain(&directory.clusters, &directory.bytes)
    }

    fn clusters_of(&self, first: u32) -> Result<Vec<u32>, FatError> {
        let mut chain = Vec::new();
        let mut cluster = first;
        while cluster != 0 && cluster < END_FROM {
            let next = self.table.get(cluster as usize).filter(|_| cluster >= FIRST_CLUSTER);
            let next = *next.ok_or(FatError::Damaged("a file lies outside of it"))?;
            chain.push(cluster);
            if chain.len() as u64 * self.geometry.cluster_bytes() > READ_MAX {
                return Err(FatError::Damaged("a file goes round in circles"));
            }
            cluster = next & CLUSTER_BITS;
        }
        Ok(chain)
    }

    fn read_chain(&mut self, chain: &[u32]) -> Result<Vec<u8>, FatError> {
        let size = self.geometry.cluster_bytes() as usize;
        let mut bytes = vec![0; chain.len() * size];
        for (cluster, part) in chain.iter().zip(bytes.chunks_exact_mut(size)) {
            self.seek(self.geometry.position(*cluster))?;
            self.disk.read_exact(part)?;
        }
        Ok(bytes)
    }

    fn write_chain(&mut self, chain: &[u32], bytes: &[u8]) -> Result<(), FatError> {
        let size = self.geometry.cluster_bytes() as usize;
        for (cluster, part) in chain.iter().zip(bytes.chunks(size)) {
            self.seek(self.geometry.position(*cluster))?;
            self.disk.write_all(part)?;
            self.disk.write_all(&vec![0; size - part.len()])?;
        }
        Ok(())
    }

    fn allocate(&mut self, bytes: u64) -> Result<Vec<u32>, FatError> {
        let wanted = bytes.div_ceil(self.geometry.cluster_bytes()) as usize;
        let free = self.table.iter().enumerate().skip(FIRST_CLUSTER as usize);
        let free = free.filter(|(_, entry)| *entry & CLUSTER_BITS == 0);
        let clusters: Vec<u32> = free.map(|(cluster, _)| cluster as u32).take(wanted).collect();
        if clusters.len() < wanted {
            return Err(FatError::Full(
                (wanted - clusters.len()) as u64 * self.geometry.cluster_bytes(),
            ));
        }
        for pair in clusters.windows(2) {
            self.table[pair[0] as usize] = pair[1];
        }
        if let Some(last) = clusters.last() {
            self.table[*last as usize] = END;
        }
        Ok(clusters)
    }

    fn release(&mut self, first: u32) -> Result<(), FatError> {
        for cluster in self.clusters_of(first)? {
            self.table[cluster as usize] = 0;
        }
        Ok(())
    }

    fn seek(&mut self, position: u64) -> std::io::Result<()> {
        self.disk.seek(SeekFrom::Start(self.start + position)).map(drop)
    }
}
