//! In the initramfs: from nothing to the running slot's root.

use super::console::{self, say};
use super::disk::{self, Disk};
use super::{modules, sys};
use crate::node::Slot;
use crate::node::boot::{read_autoboot, running_slot};
use crate::node::layout::{
    AUTOBOOT_FILE, BOOT_DIR, CONFIG_PARTITION, MODULES_FILE, ROOT_FILE, ROOT_INIT, SLOT_DIR,
};
use nix::mount::{MsFlags, mount};
use nix::unistd::{chdir, chroot, execv};
use std::convert::Infallible;
use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Where the root is put together.
const NEW_ROOT: &str = "/new";
/// A USB disk takes seconds to appear, a card reader's firmware some more.
const DISK_WAIT_MAX: Duration = Duration::from_secs(60);
const DISK_LOOK_EVERY: Duration = Duration::from_millis(20);
const DISK_TELL_EVERY: Duration = Duration::from_secs(5);

/// Find the slot, mount it, and go on in it as [`super::node`]. Returns only what went wrong:
/// PID 1 then ends, the kernel panics and boots again, and the boot loader takes the other slot if
/// this one was on trial.
pub fn run() -> String {
    match boot() {
        Ok(never) => match never {},
        Err(error) => error,
    }
}

fn boot() -> Result<Infallible, String> {
    let failed = |what: &str, error: &dyn std::fmt::Display| format!("{what}: {error}");
    for (kind, at) in [("devtmpfs", "/dev"), ("proc", "/proc"), ("sysfs", "/sys")] {
        let _ = fs::create_dir(at);
        let mounted = mount(Some(kind), at, Some(kind), MsFlags::empty(), None::<&str>);
        mounted.map_err(|error| failed(at, &error))?;
    }
    console::open();
    modules::load_list(&Path::new("/").join(MODULES_FILE), || disk::find().is_some());
    let disk = wait_for_disk()?;
    mount_config(&disk);
    let slot = slot();
    say(&format!("starting from slot {slot} of {}", disk.name()));
    let _ = fs::create_dir_all("/run");
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), "/run", Some("tmpfs"), flags, Some("mode=755,size=25%"))
        .map_err(|error| failed("/run", &error))?;
    mount_root(&disk, slot)?;
    leave(&disk, slot).map_err(|error| failed("going over to the root", &error))
}

fn wait_for_disk() -> Result<Disk, String> {
    let start = Instant::now();
    let mut told = start;
    loop {
        if let Some(disk) = disk::find() {
            return Ok(disk);
        }
        if start.elapsed() > DISK_WAIT_MAX {
            return Err(format!(
                "no disk with a bramble's partitions; there are: {}",
                disk::disks().join(" ")
            ));
        }
        if told.elapsed() > DISK_TELL_EVERY {
            told = Instant::now();
            say(&format!("waiting for the boot disk; so far: {}", disk::disks().join(" ")));
        }
        sleep(DISK_LOOK_EVERY);
    }
}

fn mount_root(disk: &Disk, slot: Slot) -> Result<(), String> {
    let device = disk.partition(slot.partition());
    fs::create_dir_all(SLOT_DIR).map_err(|error| format!("{SLOT_DIR}: {error}"))?;
    let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOATIME;
    mount(Some(&device), SLOT_DIR, Some("vfat"), flags, Some("umask=077"))
        .map_err(|error| format!("mounting slot {slot} ({}): {error}", device.display()))?;
    let path = Path::new(SLOT_DIR).join(ROOT_FILE);
    let named = |error: io::Error| format!("{}: {error}", path.display());
    let file = File::open(&path).map_err(named)?;
    // Held until the mount holds it.
    let (device, _held) = sys::attach_loop(&file).map_err(named)?;
    let _ = fs::create_dir(NEW_ROOT);
    mount(Some(device.as_str()), NEW_ROOT, Some("squashfs"), MsFlags::MS_RDONLY, None::<&str>)
        .map_err(|error| format!("mounting the root of slot {slot}: {error}"))
}

/// Read-only: what is written there is written in few moments, and a power cut must find the rest
/// as it was. A node whose partition is beyond reading runs with what it would without a file.
fn mount_config(disk: &Disk) {
    let device = disk.partition(CONFIG_PARTITION);
    let _ = fs::create_dir(BOOT_DIR);
    let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOATIME | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let options = Some("umask=077,shortname=mixed");
    if let Err(error) = mount(Some(&device), BOOT_DIR, Some("vfat"), flags, options) {
        say(&format!("the configuration partition {} is unreadable: {error}", device.display()));
    }
}

/// The running slot: by the kernel's arguments; on a Pi, whose arguments lie in the slot and so are
/// the same in both, by what the firmware says it booted; else by what it should have booted.
fn slot() -> Slot {
    const FIRMWARE: &str = "/proc/device-tree/chosen/bootloader";
    let number = |name: &str| -> Option<u32> {
        let bytes = fs::read(Path::new(FIRMWARE).join(name)).ok()?;
        Some(u32::from_be_bytes(bytes.try_into().ok()?))
    };
    let arguments = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let booted = || {
        let partition = number("partition")?;
        [Slot::A, Slot::B].into_iter().find(|slot| slot.partition() == partition)
    };
    let chosen = || {
        let text = fs::read_to_string(Path::new(BOOT_DIR).join(AUTOBOOT_FILE)).ok()?;
        let lasting = read_autoboot(&text).ok()?;
        Some(if number("tryboot") == Some(1) { lasting.other() } else { lasting })
    };
    running_slot(&arguments).or_else(booted).or_else(chosen).unwrap_or(Slot::A)
}

fn is_mounted(at: &str) -> bool {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    mounts.lines().any(|line| line.split(' ').nth(1) == Some(at))
}

/// Move to the new root, freeing the initramfs: its memory would stay taken for ever.
fn leave(disk: &Disk, slot: Slot) -> Result<Infallible, Box<dyn std::error::Error>> {
    for at in [BOOT_DIR, "/dev", "/proc", "/sys", "/run"] {
        let to = format!("{NEW_ROOT}{at}");
        // The configuration may be missing; the kernel's own may not.
        if at == BOOT_DIR && !is_mounted(at) {
            continue;
        }
        mount(Some(at), to.as_str(), None::<&str>, MsFlags::MS_MOVE, None::<&str>)?;
    }
    chdir(NEW_ROOT)?;
    free_initramfs();
    mount(Some("."), "/", None::<&str>, MsFlags::MS_MOVE, None::<&str>)?;
    chroot(".")?;
    chdir("/")?;
    let (slot, name) = (slot.to_string(), disk.name());
    let arguments: Result<Vec<CString>, _> =
        [ROOT_INIT, "node", name, &slot].into_iter().map(CString::new).collect();
    let arguments = arguments?;
    Ok(execv(&arguments[0], &arguments)?)
}

/// Remove the initramfs's files. All mounts have left it but the new root.
fn free_initramfs() {
    let Ok(entries) = fs::read_dir("/") else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if path == Path::new(NEW_ROOT) {
            continue;
        }
        let _ = match entry.file_type() {
            Ok(kind) if kind.is_dir() => fs::remove_dir_all(&path),
            _ => fs::remove_file(&path),
        };
    }
}
