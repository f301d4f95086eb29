//! Building an image: its parts gathered, its partitions written, without root and loop mounts.
//!
//! The same packages, programs and settings give the same bytes.

use super::apt::{Apt, Package};
use super::board::Board;
use super::data;
use super::elf::Elf;
use super::error::{DiskError, Doing, at};
use super::fat::{Content, Volume, Written};
use super::format::{Format, check_output, place};
use super::grub;
use super::initramfs;
use super::mbr::{self, Partition, SECTOR_BYTES};
use super::modules::Modules;
use super::pi::PiFiles;
use super::progress::Progress;
use super::root;
use super::work::Work;
use crate::node::{Release, Slot, boot, config, layout, update};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Steps a progress bar counts.
pub const STEPS: u64 = 8;
/// Digits of the contents' digest in a version.
const VERSION_DIGITS: usize = 8;
/// Read and written at a time; a part of zeros is left out of the image file. Bytes.
const COPY_BYTES: usize = 1 << 20;

/// What is to be built.
#[derive(Clone, Debug)]
pub struct Order {
    pub board: Board,
    pub output: PathBuf,
    pub format: Format,
    pub bramble: PathBuf,
    pub init: PathBuf,
    /// Where packages are kept.
    pub cache: PathBuf,
    pub pi_files: Option<PathBuf>,
    pub preload: Vec<PathBuf>,
    /// Of the whole disk. Bytes.
    pub size: Option<u64>,
    /// What to call its version; without, a name that follows from what is in it.
    pub release: Option<String>,
    /// Ask for new lists of packages first.
    pub refresh: bool,
}

/// What was built.
#[derive(Clone, Debug)]
pub struct Built {
    pub version: String,
    pub image: PathBuf,
    /// The slot, for nodes that run already.
    pub update: PathBuf,
    /// Of the disk it is. Bytes.
    pub bytes: u64,
    pub packages: Vec<(String, String)>,
}

/// All of a board's parts, in the cache.
struct Parts {
    kernel: PathBuf,
    modules_directory: PathBuf,
    modules: Modules,
    pi: Option<PiFiles>,
    firmware: Vec<PathBuf>,
    programs: Vec<PathBuf>,
    busybox: PathBuf,
    packages: Vec<(String, String)>,
}

/// Build an image.
///
/// # Errors
/// A part is missing or unreadable, or a program of the machine failed; no image is left then.
pub fn build(order: &Order, progress: &Progress) -> Result<Built, DiskError> {
    check_output(&order.output)?;
    let update = order.output.with_extension("update");
    if update == order.output {
        let text = format!("{} is where its update goes; choose another name", update.display());
        return Err(DiskError::Refused(text));
    }
    check_output(&update)?;
    check_programs(order)?;
    for archive in &order.preload {
        data::check(archive)?;
    }
    fs::create_dir_all(&order.cache).doing(at("making", &order.cache))?;
    let work = Work::new(&order.cache)?;
    let parts = gather(order, progress)?;
    progress.step("packing the root");
    let (slot, version) = slot_of(order, &parts, &work)?;
    let raw = work.path("disk");
    progress.step("writing the partitions");
    let (written, bytes) = write_disk(order, &parts, &slot, &work, &raw)?;
    progress.step("writing the update");
    let made = work.path("update");
    write_update(order, &raw, &version, written, &made)?;
    progress.step("writing the image");
    place(&made, &update)?;
    let converted = order.format.convert(&raw, &order.output, &work);
    if converted.is_err() {
        // One without the other would be taken for what was built before.
        let _ = fs::remove_file(&update);
    }
    converted?;
    let packages = parts.packages;
    Ok(Built { version, image: order.output.clone(), update, bytes, packages })
}

/// Fetching takes long: what can be known to fail is found before.
fn check_programs(order: &Order) -> Result<(), DiskError> {
    for (path, flag) in [(&order.bramble, "--bramble"), (&order.init, "--init")] {
        let bytes = fs::read(path).doing(at("reading", path))?;
        let shown = path.display();
        let machine = Elf::new(&bytes).and_then(|elf| elf.machine());
        if machine != Ok(order.board.machine()) {
            let (board, target) = (order.board.name(), order.board.target());
            let text =
                format!("{shown} is no program for {board}; give {flag} one built for {target}");
            return Err(DiskError::Refused(text));
        }
        if Elf::new(&bytes).and_then(|elf| elf.needed()).is_ok_and(|needed| !needed.is_empty()) {
            let text = format!(
                "{shown} is not statically linked, so a node cannot start it; give {flag} one that is"
            );
            return Err(DiskError::Refused(text));
        }
    }
    if order.pi_files.is_some() && order.board != Board::Pi {
        return Err(DiskError::Refused("--pi-files is for --board pi alone".into()));
    }
    Ok(())
}

fn gather(order: &Order, progress: &Progress) -> Result<Parts, DiskError> {
    let board = order.board;
    progress.step("looking for packages");
    let mut apt = Apt::open(&order.cache, board.architecture())?;
    if order.refresh {
        apt.refresh()?;
    }
    progress.step("fetching programs");
    let programs: Vec<_> = board.programs().map(|program| program.package).collect();
    let programs = apt.unpack(&programs, true)?;
    let busybox = apt.unpack(&["busybox-static"], false)?;
    let firmware = apt.unpack(board.firmware(), false)?;
    progress.step("fetching the kernel");
    let mut packages: Vec<_> =
        programs.iter().chain(&busybox).chain(&firmware).map(named).collect();
    let (kernel, modules, pi) = match &order.pi_files {
        Some(directory) => {
            let files = PiFiles::of_directory(directory)?;
            (files.kernel.clone(), files.modules.clone(), Some(files))
        }
        None => {
            let name = apt.kernel(board.kernel())?;
            let fetched = apt.unpack(&[&name], false)?;
            packages.extend(fetched.iter().map(named));
            kernel_of(board, &fetched, &trees(&firmware))?
        }
    };
    progress.step("choosing modules");
    packages.sort();
    packages.dedup();
    let busybox = trees(&busybox).first().map(|tree| tree.join("bin/busybox"));
    let busybox = busybox.filter(|path| path.exists());
    Ok(Parts {
        kernel,
        modules: Modules::read(&modules)?,
        modules_directory: modules,
        pi,
        firmware: trees(&firmware),
        programs: trees(&programs),
        busybox: busybox
            .ok_or_else(|| DiskError::Refused("busybox-static has no bin/busybox".into()))?,
        packages,
    })
}

fn named(package: &Package) -> (String, String) {
    (package.name.clone(), package.version.clone())
}

fn trees(packages: &[Package]) -> Vec<PathBuf> {
    packages.iter().map(|package| package.tree.clone()).collect()
}

fn kernel_of(
    board: Board,
    packages: &[Package],
    firmware: &[PathBuf],
) -> Result<(PathBuf, PathBuf, Option<PiFiles>), DiskError> {
    for package in packages {
        let version = package.name.trim_start_matches("linux-image-");
        let modules = ["lib/modules", "usr/lib/modules"].map(|place| package.tree.join(place));
        let modules = modules.map(|place| place.join(version)).into_iter().find(|dir| dir.is_dir());
        let Some(modules) = modules else { continue };
        let kernel = package.tree.join(format!("boot/vmlinuz-{version}"));
        if kernel.exists() {
            let pi = (board == Board::Pi)
                .then(|| PiFiles::of_packages(firmware, &package.tree, version, modules.clone()));
            return Ok((kernel, modules, pi.transpose()?));
        }
    }
    Err(DiskError::Refused(format!("{} has no kernel with modules", board.kernel())))
}

/// The files of a slot, and the version that follows from them.
fn slot_of(order: &Order, parts: &Parts, work: &Work) -> Result<(Volume, String), DiskError> {
    let board = order.board;
    let initramfs = initramfs::make(board, &order.init, &parts.modules, &parts.modules_directory)?;
    let kernel = fs::read(&parts.kernel).doing(at("reading", &parts.kernel))?;
    // On ARM it does not unpack itself; who loads it, can, and reads less from a slow card.
    let packed = kernel.starts_with(&[0x1f, 0x8b]) || board == Board::X86;
    let kernel = if packed { kernel } else { initramfs::gzip(&kernel) };
    let mut digest = Sha256::new();
    for bytes in [&initramfs, &kernel] {
        digest.update(Sha256::digest(bytes));
    }
    let bramble = fs::read(&order.bramble).doing(at("reading", &order.bramble))?;
    digest.update(Sha256::digest(&bramble));
    for (name, version) in &parts.packages {
        digest.update(format!("{name} {version}\n"));
    }
    let digits = hex::encode(digest.finalize());
    let own = || format!("{}-{}", env!("CARGO_PKG_VERSION"), &digits[..VERSION_DIGITS]);
    let version = order.release.clone().unwrap_or_else(own);
    let tree = root::tree(&root::Parts {
        board,
        bramble: &order.bramble,
        init: &order.init,
        version: &version,
        packages: &parts.programs,
        firmware: &parts.firmware,
        busybox: &parts.busybox,
        modules: &parts.modules,
        modules_directory: &parts.modules_directory,
    })?;
    let squashed = work.path(layout::ROOT_FILE);
    tree.squash(&work.directory("squash")?, &squashed)?;

    let mut slot = Volume::new(layout::SLOT_A_LABEL);
    slot.add(layout::KERNEL_FILE, Content::Bytes(kernel));
    slot.add(layout::INITRAMFS_FILE, Content::Bytes(initramfs));
    slot.add(layout::ROOT_FILE, Content::File(squashed));
    if let Some(pi) = &parts.pi {
        pi.add_to_slot(&mut slot)?;
    }
    let mut files = BTreeMap::new();
    for (name, content) in slot.files() {
        files.insert(name.to_string(), digest_of(content).doing(|| format!("reading {name}"))?);
    }
    let release = Release { version: version.clone(), board: board.name().into(), files };
    slot.add(layout::RELEASE_FILE, Content::Bytes(release.render().into_bytes()));
    Ok((slot, version))
}

fn digest_of(content: &Content) -> io::Result<String> {
    let mut digest = Sha256::new();
    io::copy(&mut content.reader()?, &mut digest)?;
    Ok(hex::encode(digest.finalize()))
}

/// Where the partitions lie, by their numbers. Bytes.
fn partitions(data: u64) -> [(u8, std::ops::Range<u64>); 4] {
    let mut next = layout::ALIGN_BYTES;
    let kinds = [layout::TYPE_FAT32, layout::TYPE_FAT32, layout::TYPE_FAT32, layout::TYPE_LINUX];
    let sizes = [layout::CONFIG_BYTES, layout::SLOT_BYTES, layout::SLOT_BYTES, data];
    let mut index = 0;
    kinds.map(|kind| {
        let start = next;
        next += sizes[index];
        index += 1;
        (kind, start..next)
    })
}

fn write_disk(
    order: &Order,
    parts: &Parts,
    slot: &Volume,
    work: &Work,
    path: &Path,
) -> Result<(Written, u64), DiskError> {
    let [config, a, b, data] = partitions(data::size(&order.preload)?);
    let bytes = order.size.unwrap_or(0).max(data.1.end).next_multiple_of(SECTOR_BYTES);
    let mut disk = File::create_new(path).doing(at("writing", path))?;
    disk.set_len(bytes).doing(at("writing", path))?;
    let mut volume = |number: &(u8, std::ops::Range<u64>), volume: &Volume, name: &str| {
        let seek = disk.seek(SeekFrom::Start(number.1.start));
        seek.doing(at("writing", path))?;
        let bytes = number.1.end - number.1.start;
        volume.write(&mut disk, bytes).doing(|| format!("writing partition {name}"))
    };
    let bios = (order.board == Board::X86).then(|| grub::bios(&parts.firmware, work.top()));
    let bios = bios.transpose()?;
    volume(&config, &first_partition(order, parts, work)?, layout::CONFIG_LABEL)?;
    let written = volume(&a, slot, layout::SLOT_A_LABEL)?;
    volume(&b, &Volume::new(layout::SLOT_B_LABEL), layout::SLOT_B_LABEL)?;
    let file_system = work.path("data.ext4");
    data::make(work.top(), &file_system, data.1.end - data.1.start, &order.preload)?;
    copy_into(&file_system, &mut disk, data.1.start)?;
    let table = [config, a, b, data].map(|(kind, bytes)| Partition::new(kind, bytes));
    let mut found = Vec::new();
    for partition in table {
        found.push(partition.map_err(|error| DiskError::Mbr(path.display().to_string(), error))?);
    }
    let table: [Partition; 4] = found.try_into().expect("four were put in");
    let code = bios.as_ref().map_or(&[][..], |bios| &bios.code);
    let first = mbr::write(code, signature(order.board), &table);
    let core = bios.as_ref().map_or(&[][..], |bios| &bios.core);
    disk.seek(SeekFrom::Start(0))
        .and_then(|_| disk.write_all(&first))
        .and_then(|()| disk.write_all(core))
        .and_then(|()| disk.sync_all())
        .doing(at("writing", path))?;
    Ok((written, bytes))
}

/// The disk's number, as systems that want one know it.
fn signature(board: Board) -> u32 {
    0x6272_0000 + board as u32
}

fn first_partition(order: &Order, parts: &Parts, work: &Work) -> Result<Volume, DiskError> {
    let mut first = Volume::new(layout::CONFIG_LABEL);
    first.add(layout::CONFIG_FILE, Content::Bytes(config::TEMPLATE.into()));
    match &parts.pi {
        Some(pi) => {
            pi.add_to_first(&mut first);
            let choice = boot::write_autoboot(Slot::A).into_bytes();
            first.add(layout::AUTOBOOT_FILE, Content::Bytes(choice));
        }
        None => {
            let (path, program) = grub::uefi(order.board, &parts.firmware, work.top())?;
            first.add(path, Content::Bytes(program));
            let text = grub::configuration(order.board);
            first.add(layout::GRUB_CONFIG_FILE, Content::Bytes(text.into_bytes()));
            let choice = boot::write_grub(None, boot::Choice::lasting(Slot::A));
            let choice = choice.expect("two slots fit into an empty block");
            first.add(layout::GRUB_ENVIRONMENT_FILE, Content::Bytes(choice));
        }
    }
    Ok(first)
}

/// Copy a file to a place in the disk, leaving out what is zero.
fn copy_into(source: &Path, disk: &mut File, start: u64) -> Result<(), DiskError> {
    let mut file = File::open(source).doing(at("reading", source))?;
    let mut part = vec![0; COPY_BYTES];
    let mut position = start;
    loop {
        let read = file.read(&mut part).doing(at("reading", source))?;
        if read == 0 {
            return Ok(());
        }
        if part[..read].iter().any(|byte| *byte != 0) {
            disk.seek(SeekFrom::Start(position))
                .and_then(|_| disk.write_all(&part[..read]))
                .doing(|| "writing the data partition".into())?;
        }
        position += read as u64;
    }
}

/// The used part of slot A, behind a header.
fn write_update(
    order: &Order,
    disk: &Path,
    version: &str,
    written: Written,
    path: &Path,
) -> Result<(), DiskError> {
    let [_, slot, ..] = partitions(layout::DATA_BYTES);
    let mut source = File::open(disk).doing(at("reading", disk))?;
    let mut used = |sink: &mut dyn Write| {
        source.seek(SeekFrom::Start(slot.1.start))?;
        io::copy(&mut (&source).take(written.used), sink)
    };
    let mut digest = Sha256::new();
    used(&mut digest).doing(at("reading", disk))?;
    let header = update::Header {
        version: version.into(),
        board: order.board.name().into(),
        length: written.used,
        filesystem: written.bytes,
        sha256: hex::encode(digest.finalize()),
    };
    let header = header.render().map_err(|error| DiskError::Refused(error.to_string()))?;
    let mut file = File::create(path).doing(at("writing", path))?;
    file.write_all(&header).and_then(|()| used(&mut file)).doing(at("writing", path))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_follow_each_other_at_erase_blocks() {
        let partitions = partitions(layout::DATA_BYTES);
        assert_eq!(partitions[0].1.start, layout::ALIGN_BYTES);
        for pair in partitions.windows(2) {
            assert_eq!(pair[0].1.end, pair[1].1.start);
        }
        for (_, bytes) in &partitions {
            assert_eq!(
                (bytes.start % layout::ALIGN_BYTES, bytes.end % layout::ALIGN_BYTES),
                (0, 0)
            );
        }
        assert_eq!(partitions.map(|(kind, _)| kind), [0x0c, 0x0c, 0x0c, 0x83]);
    }
}
