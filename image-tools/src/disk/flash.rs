//! Writing an image to a card: only to a disk nobody uses, and read back afterwards.

use super::configure::{Changes, change};
use super::error::{DiskError, Doing, at};
use super::progress::Progress;
use sha2::{Digest, Sha256};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

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
        if device {
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

/// Write an image, read it back, then change its settings.
///
/// # Errors
/// The disk is too small, or does not hold what was written to it; settings are refused.
pub fn flash(
    image: &Image,
    target: &mut Target,
    changes: &Changes,
    hidden: bool,
) -> Result<Flashed, DiskError> {
    let shown = target.path.display().to_string();
    // Refused settings must not cost a card.
    changes.settings.apply(crate::node::config::TEMPLATE)?;
    let room = target.room()?;
    if let (Some(room), Some(bytes)) = (room, image.bytes())
        && bytes > room
    {
        let text = format!("{shown} has {room} bytes, and the image {bytes}; use a larger card");
        return Err(DiskError::Refused(text));
    }
    let bar = |bytes, what| if hidden { Progress::hidden() } else { Progress::bytes(bytes, what) };
    let total = image.bytes().unwrap_or(0);
    let written = write(image, target, room, &bar(total, "writing"))?;
    target.forget()?;
    verify(target, &written, &bar(written.bytes, "verifying"))?;
    if !changes.settings.is_empty() || changes.founding.is_some() {
        target.change(changes)?;
    }
    if target.device {
        #[expect(unsafe_code)]
        // SAFETY: BLKRRPART takes no memory of ours. That it fails only means: look again later.
        let _ = unsafe { ioctl::read_partitions(target.file.as_raw_fd()) };
    }
    Ok(written)
}

fn write(
    image: &Image,
    target: &mut Target,
    room: Option<u64>,
    bar: &Progress,
) -> Result<Flashed, DiskError> {
    let mut reader = image.reader()?;
    let mut digest = Sha256::new();
    let mut bytes = 0u64;
    let mut first = Vec::new();
    let mut block = vec![0; BLOCK];
    target.file.seek(SeekFrom::Start(0)).doing(at("writing", &target.path))?;
    loop {
        let read = fill(&mut *reader, &mut block).doing(at("reading", &image.path))?;
        if read == 0 {
            break;
        }
        let part = &mut block[..read];
        digest.update(&*part);
        if bytes == 0 {
            crate::disk::mbr::partition(head(part)?, 1)
                .map_err(|error| DiskError::Mbr(image.path.display().to_string(), error))?;
            first = part[..512].to_vec();
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
    if first.is_empty() {
        return Err(DiskError::Refused(format!("{} is empty", image.path.display())));
    }
    if !target.device {
        target.file.set_len(bytes).doing(at("writing", &target.path))?;
    }
    target
        .file
        .sync_all()
        .and_then(|()| target.file.seek(SeekFrom::Start(0)))
        .and_then(|_| target.file.write_all(&first))
        .doing(at("writing", &target.path))?;
    Ok(Flashed { bytes, sha256: hex::encode(digest.finalize()) })
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

fn verify(target: &mut Target, written: &Flashed, bar: &Progress) -> Result<(), DiskError> {
    let mut digest = Sha256::new();
    let mut block = vec![0; BLOCK];
    target.file.seek(SeekFrom::Start(0)).doing(at("reading", &target.path))?;
    let mut reader = (&target.file).take(written.bytes);
    loop {
        let read = fill(&mut reader, &mut block).doing(at("reading back", &target.path))?;
        if read == 0 {
            break;
        }
        digest.update(&block[..read]);
        bar.advance(read as u64);
    }
    if hex::encode(digest.finalize()) == written.sha256 {
        return Ok(());
    }
    let shown = target.path.display();
    let text =
        format!("{shown} does not hold what was written to it: worn out, or not of its size");
    Err(DiskError::Refused(text))
}

/// Refuse a disk that is a part of one, or of which anything is in use.
fn refuse_used(path: &Path) -> Result<(), DiskError> {
    let path = path.canonicalize().doing(at("finding", path))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let read = |name: &str| fs::read_to_string(name).unwrap_or_default();
    let (mounts, swaps) = (read("/proc/self/mountinfo"), read("/proc/swaps"));
    match use_of(Path::new("/sys/class/block"), &name, &mounts, &swaps) {
        None => Ok(()),
        Some(text) => Err(DiskError::Refused(format!("{} {text}", path.display()))),
    }
}

/// Why a disk must not be written to.
fn use_of(sysfs: &Path, name: &str, mounts: &str, swaps: &str) -> Option<String> {
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

#[cfg(test)]
mod tests;
