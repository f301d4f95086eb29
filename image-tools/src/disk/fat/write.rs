//! A file system written once, front to back.

use super::entry::{self, Name};
use super::{
    CLUSTER_BITS, DESCRIPTION_SECTORS, END, FIRST_CLUSTER, FatError, Geometry, SECTOR, description,
};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;

/// Where a file's bytes come from.
#[derive(Clone, Debug)]
pub enum Content {
    Bytes(Vec<u8>),
    File(PathBuf),
}

impl Content {
    fn len(&self) -> io::Result<u64> {
        match self {
            Content::Bytes(bytes) => Ok(bytes.len() as u64),
            Content::File(path) => Ok(path.metadata()?.len()),
        }
    }

    pub fn reader(&self) -> io::Result<Box<dyn Read + '_>> {
        match self {
            Content::Bytes(bytes) => Ok(Box::new(bytes.as_slice())),
            Content::File(path) => Ok(Box::new(File::open(path)?)),
        }
    }
}

/// What a file system was written with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// From its beginning to the end of the last cluster in use. Bytes.
    pub used: u64,
    /// All of it. Bytes.
    pub bytes: u64,
}

/// The files of a file system to be.
#[derive(Default)]
pub struct Volume {
    label: String,
    files: BTreeMap<String, Content>,
}

/// A directory or file, with its place.
struct Placed<'a> {
    name: Name,
    cluster: u32,
    bytes: u64,
    kind: Kind<'a>,
}

enum Kind<'a> {
    File(&'a str, &'a Content),
    Directory(Vec<Placed<'a>>),
}

impl Volume {
    /// `label` has at most eleven letters.
    pub fn new(label: &str) -> Self {
        Self { label: label.into(), files: BTreeMap::new() }
    }

    /// Add a file at `path`, whose directories come with it.
    pub fn add(&mut self, path: &str, content: Content) {
        self.files.insert(path.into(), content);
    }

    /// All that was added, by path.
    pub fn files(&self) -> impl Iterator<Item = (&str, &Content)> {
        self.files.iter().map(|(path, content)| (path.as_str(), content))
    }

    /// Write a file system of `bytes`, from `disk`'s present position. What is free is not written.
    ///
    /// # Errors
    /// The files do not fit, a name is none, or reading or writing failed.
    pub fn write(&self, disk: &mut (impl Write + Seek), bytes: u64) -> Result<Written, FatError> {
        let geometry = Geometry::new(bytes)?;
        let mut next = FIRST_CLUSTER;
        let files: Vec<_> = self.files().collect();
        let root_bytes = entry::ENTRY as u64 + directory_bytes("", &files)?;
        let root_cluster = take(&mut next, root_bytes, &geometry);
        let root = place("", &files, &mut next, &geometry)?;
        let used = next - FIRST_CLUSTER;
        let missing = u64::from(used.saturating_sub(geometry.clusters()));
        if missing > 0 {
            return Err(FatError::Full(missing * geometry.cluster_bytes()));
        }
        let start = disk.stream_position()?;
        let mut writer =
            Writer { disk, start, geometry, table: vec![0; (used + FIRST_CLUSTER) as usize] };
        writer.table[0] = 0x0fff_fff8;
        writer.table[1] = END;
        let mut label = [b' '; 11];
        for (to, byte) in label.iter_mut().zip(self.label.bytes()) {
            *to = byte;
        }
        let mut entries = entry::short_entry(&label, entry::LABEL, 0, 0).to_vec();
        entries.extend(entries_of(&root));
        writer.directory(root_cluster, entries)?;
        writer.contents(&root, 0)?;
        writer.finish(&label, serial(&self.label, &files))?;
        Ok(Written {
            used: geometry.position(next),
            bytes: u64::from(geometry.sectors) * SECTOR as u64,
        })
    }
}

/// Volume number: from what is in it, so that it is the same each time.
fn serial(label: &str, files: &[(&str, &Content)]) -> u32 {
    let names = files.iter().flat_map(|(path, _)| path.bytes());
    // FNV-1a.
    label
        .bytes()
        .chain(names)
        .fold(0x811c_9dc5, |sum: u32, byte| (sum ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

fn take(next: &mut u32, bytes: u64, geometry: &Geometry) -> u32 {
    let clusters = bytes.div_ceil(geometry.cluster_bytes()) as u32;
    if clusters == 0 {
        return 0;
    }
    let first = *next;
    *next = next.saturating_add(clusters);
    first
}

/// What lies in a directory: its files, and its directories with all below them.
type Children<'a> = BTreeMap<&'a str, Vec<(&'a str, &'a Content)>>;

fn children<'a>(within: &str, files: &[(&'a str, &'a Content)]) -> Children<'a> {
    let mut children = Children::new();
    for (path, content) in files {
        let rest = &path[within.len()..];
        let name = rest.split_once('/').map_or(rest, |(name, _)| name);
        children.entry(name).or_default().push((path, content));
    }
    children
}

fn names<'a>(children: &Children<'a>) -> Result<Vec<Name>, FatError> {
    let mut taken = BTreeSet::new();
    children.keys().map(|name| Name::new(name, &mut taken)).collect()
}

fn directory_bytes(within: &str, files: &[(&str, &Content)]) -> Result<u64, FatError> {
    let names = names(&children(within, files))?;
    Ok(names.iter().map(|name| name.entries(false, 0, 0).len() as u64).sum())
}

fn place<'a>(
    within: &str,
    files: &[(&'a str, &'a Content)],
    next: &mut u32,
    geometry: &Geometry,
) -> Result<Vec<Placed<'a>>, FatError> {
    let children = children(within, files);
    let names = names(&children)?;
    let mut placed = Vec::new();
    for ((child, inside), name) in children.into_iter().zip(names) {
        let path = format!("{within}{child}");
        let entry = match inside.as_slice() {
            [(file, content)] if *file == path => {
                let bytes = content.len()?;
                let cluster = take(next, bytes, geometry);
                Placed { name, cluster, bytes, kind: Kind::File(file, content) }
            }
            _ => {
                let below = format!("{path}/");
                let own = 2 * entry::ENTRY as u64 + directory_bytes(&below, &inside)?;
                let cluster = take(next, own, geometry);
                let kind = Kind::Directory(place(&below, &inside, next, geometry)?);
                Placed { name, cluster, bytes: 0, kind }
            }
        };
        placed.push(entry);
    }
    Ok(placed)
}

fn entries_of(placed: &[Placed<'_>]) -> Vec<u8> {
    let entries = placed.iter().flat_map(|one| {
        let directory = matches!(one.kind, Kind::Directory(_));
        one.name.entries(directory, one.cluster, one.bytes as u32)
    });
    entries.collect()
}

struct Writer<'d, D> {
    disk: &'d mut D,
    start: u64,
    geometry: Geometry,
    table: Vec<u32>,
}

impl<D: Write + Seek> Writer<'_, D> {
    fn contents(&mut self, placed: &[Placed<'_>], parent: u32) -> Result<(), FatError> {
        for one in placed {
            match &one.kind {
                Kind::File(path, content) => self.file(path, one, content)?,
                Kind::Directory(inside) => {
                    let dot = |name: &[u8; 11], cluster| {
                        entry::short_entry(name, entry::DIRECTORY, cluster, 0)
                    };
                    let mut entries = dot(b".          ", one.cluster).to_vec();
                    entries.extend_from_slice(&dot(b"..         ", parent));
                    entries.extend(entries_of(inside));
                    self.directory(one.cluster, entries)?;
                    self.contents(inside, one.cluster)?;
                }
            }
        }
        Ok(())
    }

    fn directory(&mut self, cluster: u32, mut entries: Vec<u8>) -> Result<(), FatError> {
        let whole = entries.len().next_multiple_of(self.geometry.cluster_bytes() as usize);
        entries.resize(whole, 0);
        self.seek(self.geometry.position(cluster))?;
        self.disk.write_all(&entries)?;
        self.chain(cluster, entries.len() as u64);
        Ok(())
    }

    fn file(&mut self, path: &str, one: &Placed<'_>, content: &Content) -> Result<(), FatError> {
        if one.bytes == 0 {
            return Ok(());
        }
        self.seek(self.geometry.position(one.cluster))?;
        let found = io::copy(&mut content.reader()?.take(one.bytes + 1), self.disk)?;
        if found != one.bytes {
            let announced = one.bytes;
            return Err(FatError::Changed { path: path.into(), announced, found });
        }
        // To the cluster's end: an image's reader must not find what the disk held before.
        let rest = found.next_multiple_of(self.geometry.cluster_bytes()) - found;
        self.disk.write_all(&vec![0; rest as usize])?;
        self.chain(one.cluster, one.bytes);
        Ok(())
    }

    fn chain(&mut self, first: u32, bytes: u64) {
        let last = first + bytes.div_ceil(self.geometry.cluster_bytes()) as u32 - 1;
        for cluster in first..last {
            self.table[cluster as usize] = (cluster + 1) & CLUSTER_BITS;
        }
        self.table[last as usize] = END;
    }

    fn seek(&mut self, position: u64) -> io::Result<()> {
        self.disk.seek(SeekFrom::Start(self.start + position)).map(drop)
    }

    fn finish(&mut self, label: &[u8; 11], serial: u32) -> Result<(), FatError> {
        let geometry = self.geometry;
        let mut table: Vec<u8> = self.table.iter().flat_map(|entry| entry.to_le_bytes()).collect();
        table.resize(geometry.table as usize * SECTOR, 0);
        for number in 0..geometry.tables {
            self.seek(geometry.table_position(number))?;
            self.disk.write_all(&table)?;
        }
        let used = self.table.len() as u32;
        let free = geometry.clusters() + FIRST_CLUSTER - used;
        let mut reserved = vec![0; geometry.reserved as usize * SECTOR];
        let mut put = |sector: u64, bytes: &[u8; SECTOR]| {
            reserved[sector as usize * SECTOR..][..SECTOR].copy_from_slice(bytes);
        };
        for at in DESCRIPTION_SECTORS {
            put(at - 1, &geometry.first_sector(label, serial));
            put(at, &description(free, used));
        }
        self.seek(0)?;
        self.disk.write_all(&reserved)?;
        Ok(())
    }
}
