//! Directory entries: names in both of FAT's forms, and what they point at.

use super::FatError;
use std::collections::BTreeSet;

pub const ENTRY: usize = 32;
pub const LABEL: u8 = 0x08;
pub const DIRECTORY: u8 = 0x10;
const ARCHIVE: u8 = 0x20;
pub const LONG: u8 = 0x0f;
const REMOVED: u8 = 0xe5;
/// The first day there is, 1980-01-01.
const DATE: u16 = 1 << 5 | 1;
/// UTF-16 units of a name that one long entry holds, and where.
const LONG_UNITS: usize = 13;
const LONG_PLACES: [(usize, usize); 3] = [(1, 5), (14, 6), (28, 2)];
const LAST_LONG: u8 = 0x40;
/// Longest name, in UTF-16 units.
const NAME_UNITS_MAX: usize = 255;
/// Names in a directory whose short forms may collide.
const NUMBER_MAX: u32 = 99_999;

/// A name as `bramble.toml`, and its short form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    pub long: String,
    pub short: [u8; 11],
}

impl Name {
    /// Find a short form that nothing in the directory has yet, and take it.
    pub fn new(long: &str, taken: &mut BTreeSet<[u8; 11]>) -> Result<Name, FatError> {
        let bad = || FatError::Name(long.into());
        let forbidden = |c: char| c.is_control() || "\"*/:<>?\\|".contains(c);
        let units = long.encode_utf16().count();
        let dots = long.chars().all(|c| c == '.') || long.ends_with(['.', ' ']);
        if units == 0 || units > NAME_UNITS_MAX || dots || long.chars().any(forbidden) {
            return Err(bad());
        }
        let (stem, extension) =
            long.rsplit_once('.').filter(|(s, _)| !s.is_empty()).unwrap_or((long, ""));
        let (stem, extension) = (short_part(stem), short_part(extension));
        let exact = join(&stem, &extension);
        let fits = stem.len() <= 8 && extension.len() <= 3 && !stem.is_empty();
        let short = if fits && shown(&exact).eq_ignore_ascii_case(long) && taken.insert(exact) {
            exact
        } else {
            let numbered = |number: u32| {
                let tail = format!("~{number}");
                let stem = &stem[..stem.len().min(8 - tail.len())];
                join(&format!("{stem}{tail}"), &extension)
            };
            (1..=NUMBER_MAX).map(numbered).find(|short| taken.insert(*short)).ok_or_else(bad)?
        };
        Ok(Name { long: long.into(), short })
    }

    /// Entries of a directory for this name: its long form, where it differs, then the short one.
    pub fn entries(&self, directory: bool, cluster: u32, bytes: u32) -> Vec<u8> {
        let mut entries = Vec::new();
        if shown(&self.short) != self.long {
            let mut units: Vec<u16> = self.long.encode_utf16().collect();
            if !units.len().is_multiple_of(LONG_UNITS) {
                units.push(0);
            }
            units.resize(units.len().next_multiple_of(LONG_UNITS), 0xffff);
            let parts: Vec<_> = units.chunks(LONG_UNITS).enumerate().collect();
            for (index, part) in parts.iter().rev() {
                let last = if index + 1 == parts.len() { LAST_LONG } else { 0 };
                let order = (index + 1) as u8 | last;
                entries.extend_from_slice(&long_entry(order, part, checksum(&self.short)));
            }
        }
        let attributes = if directory { DIRECTORY } else { ARCHIVE };
        entries.extend_from_slice(&short_entry(&self.short, attributes, cluster, bytes));
        entries
    }
}

/// Letters a short name may have; others become `_`, and dots and spaces go.
fn short_part(text: &str) -> String {
    let kept = text.chars().filter(|c| *c != '.' && *c != ' ');
    let allowed = |c: char| c.is_ascii_alphanumeric() || "!#$%&'()-@^_`{}~".contains(c);
    kept.map(|c| if allowed(c) { c.to_ascii_uppercase() } else { '_' }).collect()
}

fn join(stem: &str, extension: &str) -> [u8; 11] {
    let mut short = [b' '; 11];
    for (place, byte) in short[..8].iter_mut().zip(stem.bytes()) {
        *place = byte;
    }
    for (place, byte) in short[8..].iter_mut().zip(extension.bytes()) {
        *place = byte;
    }
    short
}

/// A short name with its dot.
fn shown(short: &[u8; 11]) -> String {
    let part = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_string();
    let (stem, extension) = (part(&short[..8]), part(&short[8..]));
    if extension.is_empty() { stem } else { format!("{stem}.{extension}") }
}

fn checksum(short: &[u8; 11]) -> u8 {
    short.iter().fold(0, |sum: u8, byte| sum.rotate_right(1).wrapping_add(*byte))
}

fn long_entry(order: u8, units: &[u16], checksum: u8) -> [u8; ENTRY] {
    let mut entry = [0; ENTRY];
    (entry[0], entry[11], entry[13]) = (order, LONG, checksum);
    let mut units = units.iter();
    for (at, count) in LONG_PLACES {
        for (index, unit) in units.by_ref().take(count).enumerate() {
            entry[at + index * 2..][..2].copy_from_slice(&unit.to_le_bytes());
        }
    }
    entry
}

pub fn short_entry(short: &[u8; 11], attributes: u8, cluster: u32, bytes: u32) -> [u8; ENTRY] {
    let mut entry = [0; ENTRY];
    entry[..11].copy_from_slice(short);
    entry[11] = attributes;
    for at in [16, 18, 24] {
        entry[at..at + 2].copy_from_slice(&DATE.to_le_bytes());
    }
    point(&mut entry, cluster, bytes);
    entry
}

/// Let an entry point elsewhere.
pub fn point(entry: &mut [u8], cluster: u32, bytes: u32) {
    entry[20..22].copy_from_slice(&((cluster >> 16) as u16).to_le_bytes());
    entry[26..28].copy_from_slice(&(cluster as u16).to_le_bytes());
    entry[28..32].copy_from_slice(&bytes.to_le_bytes());
}

/// What a directory says of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub name: String,
    pub short: [u8; 11],
    pub directory: bool,
    pub cluster: u32,
    pub bytes: u32,
    /// Place of its short entry in the directory.
    pub place: usize,
}

/// Read a directory. A long form that does not belong to its short one is left out, as elsewhere.
pub fn read(directory: &[u8]) -> Vec<Found> {
    let mut found = Vec::new();
    let mut long: Vec<&[u8]> = Vec::new();
    for (place, entry) in directory.chunks_exact(ENTRY).enumerate() {
        match (entry[0], entry[11]) {
            (0, _) => break,
            (REMOVED, _) => long.clear(),
            (_, LONG) => long.push(entry),
            (b'.', _) => long.clear(),
            (_, attributes) => {
                if attributes & LABEL == 0 {
                    found.push(one(entry, place, &long));
                }
                long.clear();
            }
        }
    }
    found
}

fn one(entry: &[u8], place: usize, long: &[&[u8]]) -> Found {
    let half = |at: usize| u32::from(u16::from_le_bytes([entry[at], entry[at + 1]]));
    let short: [u8; 11] = entry[..11].try_into().expect("eleven bytes were taken");
    let belongs = !long.is_empty() && long.iter().all(|part| part[13] == checksum(&short));
    let mut units: Vec<u16> = Vec::new();
    for part in long.iter().rev().filter(|_| belongs) {
        for (at, count) in LONG_PLACES {
            let unit =
                |index: usize| u16::from_le_bytes([part[at + index * 2], part[at + index * 2 + 1]]);
            units.extend((0..count).map(unit));
        }
    }
    let end = units.iter().position(|unit| *unit == 0 || *unit == 0xffff).unwrap_or(units.len());
    let name = if belongs { String::from_utf16_lossy(&units[..end]) } else { shown(&short) };
    Found {
        name,
        short,
        directory: entry[11] & DIRECTORY != 0,
        cluster: (half(20) << 16 | half(26)) & super::CLUSTER_BITS,
        bytes: half(28) | half(30) << 16,
        place,
    }
}
