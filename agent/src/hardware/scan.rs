//! Finding devices: USB devices, serial ports, I2C buses, GPIO chips, each with its stable ids and
//! the character devices that a task needs to use it.

use super::sysfs::{Sysfs, entries, name, number, text};
use bramble_core::model::{OFFERED_DEVICES_MAX, OfferedDevice, device_id};
use std::path::{Path, PathBuf};

/// `bDeviceClass` of a hub.
const HUB: &str = "09";
/// How deep below a USB device its drivers' devices lie: interface, tty, its class, the node.
const DEPTH_MAX: usize = 8;
/// Character devices of one device at most.
const NODES_MAX: usize = 64;
/// `type` of an 8250 port that is not there.
const NO_UART: &str = "0";

/// A device of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    pub offered: OfferedDevice,
    /// What it is used by, the one that most want first.
    pub nodes: Vec<Node>,
}

/// A character device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Below `/dev/`, as the kernel names it: `ttyUSB0`.
    pub name: String,
    pub major: u32,
    pub minor: u32,
}

/// All devices, in order of their keys.
pub(super) fn devices(sysfs: &Sysfs) -> Vec<Device> {
    let mut on_usb = Vec::new();
    let mut found: Vec<Device> = Vec::new();
    for path in sysfs.list("bus/usb/devices") {
        if let Some(device) = usb(&path) {
            on_usb.extend(path.canonicalize());
            found.push(device);
        }
    }
    // What hangs on USB is a part of its stick, which has one task.
    let own = |path: &PathBuf| {
        path.canonicalize().is_ok_and(|real| !on_usb.iter().any(|usb| real.starts_with(usb)))
    };
    let consoles = sysfs.text("class/tty/console/active").unwrap_or_default();
    let consoles: Vec<&str> = consoles.split_whitespace().collect();
    for path in sysfs.list("class/tty").into_iter().filter(own) {
        let there = path.join("device").exists()
            && text(&path.join("type")).as_deref() != Some(NO_UART)
            && !consoles.contains(&name(&path).as_str());
        found.extend(there.then(|| plain("serial", &name(&path), &path, false)).flatten());
    }
    for path in sysfs.list("class/i2c-dev").into_iter().filter(own) {
        let number = name(&path).trim_start_matches("i2c-").to_string();
        found.extend(plain("i2c", &number, &path, true));
    }
    for path in sysfs.list("bus/gpio/devices").into_iter().filter(own) {
        let number = name(&path).trim_start_matches("gpiochip").to_string();
        found.extend(plain("gpio", &number, &path, true));
    }
    found.sort_by(|one, other| one.offered.key.cmp(&other.offered.key));
    if found.len() > OFFERED_DEVICES_MAX {
        tracing::warn!(devices = found.len(), offered = OFFERED_DEVICES_MAX, "too many devices");
        found.truncate(OFFERED_DEVICES_MAX);
    }
    found
}

/// A USB device, unless it is a hub or an interface of one.
fn usb(path: &Path) -> Option<Device> {
    let vendor = text(&path.join("idVendor"))?;
    let product = text(&path.join("idProduct"))?;
    if text(&path.join("bDeviceClass")).as_deref() == Some(HUB) {
        return None;
    }
    let numbers = device_id(&format!("usb:{vendor}:{product}"));
    let serial = text(&path.join("serial")).filter(|serial| is_plain(serial));
    let mut nodes = Vec::new();
    nodes_below(path, DEPTH_MAX, &mut nodes);
    nodes.sort_by_key(|node| (rank(&node.name), node.name.clone()));
    let mut ids = vec![numbers.clone()];
    if let Some(serial) = &serial {
        ids.push(format!("{numbers}:{serial}"));
        if nodes.iter().any(|node| node.name.starts_with("tty")) {
            ids.push(format!("serial:{serial}"));
        }
    }
    // The number it got when it was plugged in: pulled out and back it is another one to whoever
    // had it open.
    let turn: u32 = number(&path.join("devnum")).unwrap_or(0);
    let key = format!("{}@{}#{turn}", ids.get(1).unwrap_or(&numbers), name(path));
    let offered = OfferedDevice { key, ids, shared: false, taken: false };
    (!nodes.is_empty()).then_some(Device { offered, nodes })
}

/// A port, bus or chip that is soldered in: its number depends on the order of drivers, the name of
/// its hardware (`3f201000.serial`) does not.
fn plain(kind: &str, number: &str, path: &Path, shared: bool) -> Option<Device> {
    let node = node(path)?;
    let mut ids = vec![format!("{kind}:{number}")];
    ids.extend(hardware_name(path).map(|hardware| format!("{kind}:{hardware}")));
    let key = format!("{}@{}", ids[0], node.name);
    let offered = OfferedDevice { key, ids, shared, taken: false };
    Some(Device { offered, nodes: vec![node] })
}

/// The part of a device's path that names memory-mapped hardware, as device trees do.
fn hardware_name(path: &Path) -> Option<String> {
    let real = path.canonicalize().ok()?;
    let parts: Vec<String> = real.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    let named = |part: &&String| {
        let (address, kind) = part.split_once('.').unwrap_or_default();
        let hex = address.len() >= 4 && address.bytes().all(|b| b.is_ascii_hexdigit());
        hex && !kind.is_empty() && is_plain(part)
    };
    parts.iter().rev().find(named).cloned()
}

/// The character devices of a USB device and of what drivers made of it, but not of another device
/// that is plugged into it.
fn nodes_below(directory: &Path, depth: usize, nodes: &mut Vec<Node>) {
    nodes.extend(node(directory).filter(|_| nodes.len() < NODES_MAX));
    if depth == 0 {
        return;
    }
    for child in entries(directory) {
        // Links lead elsewhere: to drivers, subsystems, the parent.
        let link = child.symlink_metadata().is_ok_and(|meta| meta.is_symlink());
        if !link && name(&child) != "block" && !child.join("idVendor").exists() {
            nodes_below(&child, depth - 1, nodes);
        }
    }
}

/// The character device that a directory of sysfs stands for.
fn node(directory: &Path) -> Option<Node> {
    let numbers = text(&directory.join("dev"))?;
    let (major, minor) = numbers.split_once(':')?;
    let uevent = text(&directory.join("uevent"))?;
    let name = uevent.lines().find_map(|line| line.strip_prefix("DEVNAME="))?;
    let good = |part: &str| !["", ".", ".."].contains(&part);
    if !name.split('/').all(good) || !is_plain(name) {
        return None;
    }
    Some(Node { name: name.into(), major: major.parse().ok()?, minor: minor.parse().ok()? })
}

/// Ports before other devices before the raw USB device.
fn rank(name: &str) -> u8 {
    match name {
        _ if name.starts_with("tty") => 0,
        _ if name.starts_with("bus/") => 2,
        _ => 1,
    }
}

/// Whether a label could name it.
fn is_plain(text: &str) -> bool {
    let fits = !text.is_empty() && text.len() <= 64;
    fits && text.chars().all(|c| c.is_ascii_graphic() && !",=".contains(c))
}
