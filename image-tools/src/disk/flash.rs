//! Writing an image to a card: only to a disk nobody uses, and read back afterwards.

mod used;

use super::configure::{Changes, change, change_at, read, whole};
use super::error::{DiskError, Doing, at};
use super::mbr;
use super::progress::Progress;
use crate::node::layout;
use sha2::{Digest, Sha256};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use used::{BLOCK_DEVICES, refuse_file, refuse_used};

/// Written at a time: a card's erase block. Bytes.
const BLOCK: usize = 4 << 20;
/// What the first block holds of a card that must not start: half an image starts strangely.
const UNFINISHED: u8 = 0;

mod ioctl {
    nix::ioctl_none!(forget_buffers, 0x12, 97);
    nix::ioctl_none!(read_partitions, 0x12, 95);
    nix::ioctl_read!(size, 0x12, 114, u64);
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flashed {
    pub bytes: u64,
    /// Of what was written and read back, in hexadecimal.
    pub sha256: String,
}

/// An image, packed or not.
pub struct Image {
    path: PathBuf,
    packing: Packing,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Packing {
    None,
    Xz,
    Gzip,
}

impl Image {
    /// # Errors
    /// It cannot be read, or is in a form for virtual machines.
    pub fn open(path: &Path) -> Result<Image, DiskError> {
        let mut file = File::open(path).doing(at("opening", path))?;
        let mut head = [0; 6];
        let read = file.read(&mut head).doing(at("reading", path))?;
        let packing = match &head[..read] {
            [0xfd, b'7', b'z', b'X', b'Z', 0] => Packing::Xz,
            [0x1f, 0x8b, ..] => Packing::Gzip,
            [b'Q', b'F', b'I', 0xfb, ..] | [b'K', b'D', b'M', b'V', ..] => {
                let text = "is an image for virtual machines; build one with --format raw";
                return Err(DiskError::Refused(format!("{} {text}", path.display())));
            }
            _ => Packing::None,
        };
        Ok(Image { path: path.into(), packing })
    }

    /// Its size, where that can be known beforehand. Bytes.
    pub fn bytes(&self) -> Option<u64> {
        let bytes = self.path.metadata().ok()?.len();
        (self.packing == Packing::None).then_some(bytes)
    }

    /// The sector with its partition table.
    ///
    /// # Errors
    /// It cannot be read, or has less than a sector.
    pub fn first(&self) -> Result<[u8; 512], DiskError> {
        let mut first = [0; 512];
        let read = fill(&mut *self.reader()?, &mut first).doing(|| self.reading())?;
        head(&first[..read]).copied()
    }

    /// What is being done when reading it fails.
    pub fn reading(&self) -> String {
        let shown = self.path.display();
        match self.packing {
            Packing::None => format!("reading {shown}"),
            _ => format!("unpacking {shown}, which is damaged or was not fetched whole"),
        }
    }

    /// # Errors
    /// It cannot be opened.
    pub fn reader(&self) -> Result<Box<dyn Read>, DiskError> {
        let file = File::open(&self.path).doing(at("opening", &self.path))?;
        Ok(match self.packing {
            Packing::None => Box::new(file),
            Packing::Xz => Box::new(lzma_rust2::XzReader::new(io::BufReader::new(file), true)),
            Packing::Gzip => Box::new(flate2::read::MultiGzDecoder::new(file)),
        })
    }
}

/// A disk to write to, opened so that nobody mounts it meanwhile.
pub struct Target {
    file: File,
    path: PathBuf,
    device: bool,
}

impl Target {
    /// Open a disk, or a file in its place (an emulator's card), made if need be.
    ///
    /// # Errors
    /// It is a part of a disk, or in use.
    pub fn open(path: &Path) -> Result<Target, DiskError> {
        let kind = fs::metadata(path).map(|found| found.file_type());
        let device = kind.as_ref().is_ok_and(FileTypeExt::is_block_device);
        let other = kind.is_ok_and(|kind| !kind.is_file() && !kind.is_block_device());
        if other {
            return Err(DiskError::Refused(format!("{} is no disk", path.display())));
        }
        if path.starts_with("/dev") && !device {
            let text = format!("there is no disk {}; is the card in the reader?", path.display());
            return Err(DiskError::Refused(text));
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(!device);
        if !device {
            refuse_file(path, Path::new(BLOCK_DEVICES))?;
        } else {
            refuse_used(path)?;
            // Of a disk, this means: and nobody else has it mounted or opened like this.
            options.custom_flags(nix::libc::O_EXCL);
        }
        let file = options.open(path).doing(at("opening", path))?;
        Ok(Target { file, path: path.into(), device })
    }

    /// Open an image, or a card nobody uses.
    ///
    /// # Errors
    /// As [`Target::open`], and when there is none.
    pub fn existing(path: &Path) -> Result<Target, DiskError> {
        fs::metadata(path).doing(at("opening", path))?;
        Target::open(path)
    }

    /// The founding file that is on it.
    pub fn founding(&self) -> Option<Vec<u8>> {
        let shown = self.path.display().to_string();
        read(&self.file, &shown, layout::CONFIG_PARTITION, layout::FOUNDING_FILE).ok()
    }

    /// Change the settings on it.
    ///
    /// # Errors
    /// It holds no image of a node, or they are refused.
    pub fn change(&self, changes: &Changes) -> Result<(), DiskError> {
        change(&self.file, &self.path.display().to_string(), changes)?;
        self.file.sync_all().doing(at("writing", &self.path))
    }

    /// Of a disk; a file grows. Bytes.
    fn room(&self) -> Result<Option<u64>, DiskError> {
        if !self.device {
            return Ok(None);
        }
        let mut bytes = 0;
        #[expect(unsafe_code)]
        // SAFETY: BLKGETSIZE64 writes one u64 to the place it is given, which lives past the call.
        let told = unsafe { ioctl::size(self.file.as_raw_fd(), &mut bytes) };
        told.map_err(io::Error::from).doing(at("asking for the size of", &self.path))?;
        Ok(Some(bytes))
    }

    /// Let what is read come from the disk, and not from memory.
    fn forget(&self) -> Result<(), DiskError> {
        self.file.sync_all().doing(at("writing", &self.path))?;
        if self.device {
            #[expect(unsafe_code)]
            // SAFETY: BLKFLSBUF takes no memory of ours.
            let told = unsafe { ioctl::forget_buffers(self.file.as_raw_fd()) };
            told.map_err(io::Error::from).doing(at("flushing", &self.path))?;
        }
        Ok(())
    }
}

/// A card that holds an image and its settings, and does not start yet.
#[must_use = "it does not start until it is finished"]
pub struct Written<'t> {
    target: &'t mut Target,
    first: [u8; 512],
    flashed: Flashed,
}

/// Write all of an image but the sector that a machine starts by, read it back, and change its
/// settings: what is broken off until then starts nowhere, least of all without its settings.
///
/// # Errors
/// The image is not whole, the disk too small, or it does not hold what was written to it; settings
/// are refused.
pub fn write<'t>(
    image: &Image,
    target: &'t mut Target,
    changes: &Changes,
    hidden: bool,
) -> Result<Written<'t>, DiskError> {
    let shown = target.path.display().to_string();
    // What is refused must not cost a card.
    changes.settings.apply(crate::node::config::TEMPLATE)?;
    let room = target.room()?;
    if let Some(bytes) = image.bytes() {
        whole(&image.first()?, bytes, &image.path.display().to_string())?;
        if let Some(room) = room.filter(|room| bytes > *room) {
            let text =
                format!("{shown} has {room} bytes, and the image {bytes}; use a larger card");
            return Err(DiskError::Refused(text));
        }
    }
    let bar = |bytes, what| if hidden { Progress::hidden() } else { Progress::bytes(bytes, what) };
    let total = image.bytes().unwrap_or(0);
    let (first, flashed) = copy(image, target, room, &bar(total, "writing"))?;
    target.forget()?;
    verify(target, &first, &flashed, &bar(flashed.bytes, "verifying"))?;
    if !changes.settings.is_empty() || changes.founding.is_some() {
        let part = mbr::partition(&first, layout::CONFIG_PARTITION)
            .map_err(|error| DiskError::Mbr(image.path.display().to_string(), error))?;
        change_at(&target.file, part, &shown, changes)?;
        target.file.sync_all().doing(at("writing", &target.path))?;
    }
    Ok(Written { target, first, flashed })
}

impl Written<'_> {
    /// Let it start.
    ///
    /// # Errors
    /// The sector cannot be written, or is not there afterwards.
    pub fn finish(self) -> Result<Flashed, DiskError> {
        let Written { target, first, flashed } = self;
        let mut found = [0; 512];
        target
            .file
            .seek(SeekFrom::Start(0))
            .and_then(|_| target.file.write_all(&first))
            .doing(at("writing", &target.path))?;
        target.forget()?;
        target
            .file
            .seek(SeekFrom::Start(0))
            .and_then(|_| target.file.read_exact(&mut found))
            .doing(at("reading back", &target.path))?;
        if found != first {
            return Err(worn(target));
        }
        if target.device {
            #[expect(unsafe_code)]
            // SAFETY: BLKRRPART takes no memory of ours. That it fails only means: look again later.
            let _ = unsafe { ioctl::read_partitions(target.file.as_raw_fd()) };
        }
        Ok(flashed)
    }
}

/// Copy an image but for its first sector, in whose place are zeros; gives that.
fn copy(
    image: &Image,
    target: &mut Target,
    room: Option<u64>,
    bar: &Progress,
) -> Result<([u8; 512], Flashed), DiskError> {
    let mut reader = image.reader()?;
    let mut digest = Sha256::new();
    let mut bytes = 0u64;
    let mut first = None;
    let mut block = vec![0; BLOCK];
    target.file.seek(SeekFrom::Start(0)).doing(at("writing", &target.path))?;
    loop {
        let read = fill(&mut *reader, &mut block).doing(|| image.reading())?;
        if read == 0 {
            break;
        }
        let part = &mut block[..read];
        digest.update(&*part);
        if first.is_none() {
            let head = *head(part)?;
            mbr::partition(&head, layout::CONFIG_PARTITION)
                .map_err(|error| DiskError::Mbr(image.path.display().to_string(), error))?;
            first = Some(head);
            part[..512].fill(UNFINISHED);
        }
        bytes += read as u64;
        if room.is_some_and(|room| bytes > room) {
            let text = format!("{} is too small for the image", target.path.display());
            return Err(DiskError::Refused(text));
        }
        target.file.write_all(part).doing(at("writing", &target.path))?;
        bar.advance(read as u64);
    }
    let Some(first) = first else {
        return Err(DiskError::Refused(format!("{} is empty", image.path.display())));
    };
    whole(&first, bytes, &image.path.display().to_string())?;
    if !target.device {
        target.file.set_len(bytes).doing(at("writing", &target.path))?;
    }
    Ok((first, Flashed { bytes, sha256: hex::encode(digest.finalize()) }))
}

fn head(part: &[u8]) -> Result<&[u8; 512], DiskError> {
    let head = part.get(..512).and_then(|head| head.try_into().ok());
    head.ok_or_else(|| DiskError::Refused("the image has less than a sector".into()))
}

/// Read until the block is full or the reader is done.
fn fill(reader: &mut dyn Read, block: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < block.len() {
        match reader.read(&mut block[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Read back what was copied; the first sector is to come.
fn verify(
    target: &mut Target,
    first: &[u8; 512],
    written: &Flashed,
    bar: &Progress,
) -> Result<(), DiskError> {
    let mut digest = Sha256::new();
    digest.update(first);
    let mut block = vec![0; BLOCK];
    let start = first.len() as u64;
    target.file.seek(SeekFrom::Start(start)).doing(at("reading", &target.path))?;
    let mut reader = (&target.file).take(written.bytes - start);
    loop {
        let read = fill(&mut reader, &mut block).doing(at("reading back", &target.path))?;
        if read == 0 {
            break;
        }
        digest.update(&block[..read]);
        bar.advance(read as u64);
    }
    if hex::encode(digest.finalize()) == written.sha256 { Ok(()) } else { Err(worn(target)) }
}

fn worn(target: &Target) -> DiskError {
    let shown = target.path.display();
    let text =
        format!("{shown} does not hold what was written to it: worn out, or not of its size");
    DiskError::Refused(text)
}

#[cfg(test)]
mod tests;
