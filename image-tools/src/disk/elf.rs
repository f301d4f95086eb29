//! The little of ELF that is asked of programs and kernel modules of any machine: which libraries
//! a program needs, and what a module says of itself.
//!
//! Little-endian 64-bit files only, which is all boards have.

/// Why a file could not be read: it is damaged, or none of these.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not a 64-bit little-endian ELF file, or a damaged one")]
pub struct NotElf;

const SECTION_DYNAMIC: u64 = 6;
const SEGMENT_INTERPRETER: u64 = 3;
const TAG_NEEDED: u64 = 1;

pub const MACHINE_X86_64: u64 = 62;
pub const MACHINE_AARCH64: u64 = 183;

/// An ELF file in memory.
pub struct Elf<'a> {
    bytes: &'a [u8],
}

struct Section {
    name: u64,
    kind: u64,
    offset: u64,
    size: u64,
    link: u64,
}

impl<'a> Elf<'a> {
    /// # Errors
    /// It is none, or for other machines than we know.
    pub fn new(bytes: &'a [u8]) -> Result<Self, NotElf> {
        const MARK: [u8; 6] = [0x7f, b'E', b'L', b'F', 2, 1];
        let elf = Self { bytes };
        if bytes.starts_with(&MARK) && bytes.len() >= 64 { Ok(elf) } else { Err(NotElf) }
    }

    /// Number of the machine it is for.
    pub fn machine(&self) -> Result<u64, NotElf> {
        self.number(18, 2)
    }

    /// Libraries a program or library names, and its loader.
    pub fn needed(&self) -> Result<Vec<String>, NotElf> {
        let mut needed = Vec::new();
        for index in 0..self.number(56, 2)? {
            let at = self.number(32, 8)? + index * self.number(54, 2)?;
            if self.number(at, 4)? == SEGMENT_INTERPRETER {
                needed.push(self.text(self.number(at + 8, 8)?)?);
            }
        }
        for section in self.sections()?.iter().filter(|section| section.kind == SECTION_DYNAMIC) {
            let names = self.section(section.link)?.offset;
            for at in (section.offset..section.offset + section.size).step_by(16) {
                if self.number(at, 8)? == TAG_NEEDED {
                    needed.push(self.text(names + self.number(at + 8, 8)?)?);
                }
            }
        }
        Ok(needed)
    }

    /// What a kernel module says of itself: `depends=a,b`, `alias=..`, one after another.
    pub fn module_words(&self) -> Result<Vec<&'a str>, NotElf> {
        let sections = self.sections()?;
        let names = self.section(self.number(62, 2)?)?.offset;
        for section in sections {
            if self.text(names + section.name)? == ".modinfo" {
                let words = self.slice(section.offset, section.size)?;
                let words = words.split(|byte| *byte == 0).filter(|word| !word.is_empty());
                return Ok(words.filter_map(|word| std::str::from_utf8(word).ok()).collect());
            }
        }
        Ok(Vec::new())
    }

    fn sections(&self) -> Result<Vec<Section>, NotElf> {
        (0..self.number(60, 2)?).map(|index| self.section(index)).collect()
    }

    fn section(&self, index: u64) -> Result<Section, NotElf> {
        let at = self.number(40, 8)?.checked_add(index * self.number(58, 2)?).ok_or(NotElf)?;
        Ok(Section {
            name: self.number(at, 4)?,
            kind: self.number(at + 4, 4)?,
            offset: self.number(at + 24, 8)?,
            size: self.number(at + 32, 8)?,
            link: self.number(at + 40, 4)?,
        })
    }

    fn number(&self, at: u64, bytes: u64) -> Result<u64, NotElf> {
        let found = self.slice(at, bytes)?;
        Ok(found.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn text(&self, at: u64) -> Result<String, NotElf> {
        let rest = self.slice(at, (self.bytes.len() as u64).checked_sub(at).ok_or(NotElf)?)?;
        let end = rest.iter().position(|byte| *byte == 0).ok_or(NotElf)?;
        Ok(String::from_utf8_lossy(&rest[..end]).into_owned())
    }

    fn slice(&self, at: u64, bytes: u64) -> Result<&'a [u8], NotElf> {
        let end = at.checked_add(bytes).ok_or(NotElf)?;
        let place = |number: u64| usize::try_from(number).map_err(|_| NotElf);
        self.bytes.get(place(at)?..place(end)?).ok_or(NotElf)
    }
}

// This program itself is what is read, which is no 64-bit file on every machine.
#[cfg(all(test, target_pointer_width = "64"))]
mod tests {
    use super::*;

    #[test]
    fn this_test_needs_the_c_library_unless_it_is_static() {
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let needed = Elf::new(&own).unwrap().needed().unwrap();
        let loaded = !cfg!(target_feature = "crt-static");
        assert_eq!(needed.iter().any(|name| name.starts_with("libc.so")), loaded, "{needed:?}");
        assert_eq!(needed.iter().any(|name| name.starts_with('/')), loaded, "{needed:?}");
        assert!(Elf::new(&own).unwrap().module_words().unwrap().is_empty());
    }

    #[test]
    fn a_part_of_a_file_is_none() {
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(Elf::new(b"#!/bin/sh").is_err());
        assert_eq!(Elf::new(&own[..100]).unwrap().needed(), Err(NotElf));
        let mut broken = own[..64].to_vec();
        broken[32..64].fill(0xff);
        let broken = Elf::new(&broken).unwrap();
        assert_eq!((broken.needed(), broken.module_words()), (Err(NotElf), Err(NotElf)));
    }
}
