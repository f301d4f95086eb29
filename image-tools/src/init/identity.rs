//! Who a node is: its machine id and its name.
//!
//! Cards are copied. An id that travels with the copy makes two machines look like one, to DHCP
//! servers and to people; so the id is kept together with what the hardware says of itself, and
//! made anew where that differs.

use super::console::say;
use crate::node::layout::{DATA_DIR, NODE_DIR};
use crate::node::name::{card_address, default_hostname};
use sha2::{Digest, Sha256};
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

const FILE: &str = "machine";
/// What boards say of themselves, the best first: serial numbers, then network cards.
const SERIALS: [&str; 3] = [
    "/sys/firmware/devicetree/base/serial-number",
    "/sys/class/dmi/id/product_uuid",
    "/sys/class/dmi/id/board_serial",
];

/// A directory of PID 1's own on the data partition.
pub fn own_dir() -> PathBuf {
    Path::new(DATA_DIR).join(NODE_DIR)
}

/// The node's machine id: 32 hexadecimal digits, random, kept on the data partition. `moved` says
/// that the card was last in another machine.
pub struct MachineId {
    pub id: String,
    pub moved: bool,
}

impl MachineId {
    /// Read it, or make one. Without a data partition it lasts until the next boot.
    pub fn settle() -> MachineId {
        let path = own_dir().join(FILE);
        let hardware = hardware();
        let kept = fs::read_to_string(&path).ok();
        let kept = kept.as_deref().and_then(parse);
        if let Some((id, here)) = kept
            && here == hardware
        {
            return MachineId { id: id.into(), moved: false };
        }
        let id = random_id();
        let keep = || -> io::Result<()> {
            fs::create_dir_all(own_dir())?;
            write_durably(&path, format!("{id} {hardware}\n").as_bytes())
        };
        if let Err(error) = keep() {
            say(&format!("the machine id could not be kept: {error}"));
        }
        MachineId { id, moved: kept.is_some() }
    }
}

/// Id, and digest of the hardware it was made on.
fn parse(text: &str) -> Option<(&str, &str)> {
    let (id, hardware) = text.trim_end().split_once(' ')?;
    let good = |text: &str| text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
    (good(id) && good(hardware)).then_some((id, hardware))
}

/// What only this machine says of itself: its serial numbers, or else its network cards. These
/// alone would not do: a driver may take its time, and a machine would seem another at every start.
fn hardware() -> String {
    let mut hash = Sha256::new();
    let serials = SERIALS.map(|path| fs::read(path).unwrap_or_default());
    let serials: Vec<_> = serials.into_iter().filter(|serial| is_given(serial)).collect();
    for serial in &serials {
        hash.update(serial);
        hash.update([0]);
    }
    // Cards on USB come and go.
    let built_in = cards().into_iter().filter(|(path, _)| !path.contains("/usb"));
    for (_, address) in built_in.filter(|_| serials.is_empty()) {
        hash.update(address);
    }
    hex(&hash.finalize()[..16])
}

/// Makers who give no number write zeros, or words.
fn is_given(serial: &[u8]) -> bool {
    let digits = serial.iter().filter(|byte| byte.is_ascii_digit());
    digits.clone().any(|digit| *digit != b'0') && digits.count() >= 4
}

/// Network cards that are built in or plugged in: where each hangs, and its address.
fn cards() -> Vec<(String, [u8; 6])> {
    let Ok(entries) = fs::read_dir("/sys/class/net") else { return Vec::new() };
    let card = |path: PathBuf| {
        let device = fs::canonicalize(path.join("device")).ok()?;
        let address = fs::read_to_string(path.join("address")).ok()?;
        Some((device.to_string_lossy().into_owned(), card_address(&address)?))
    };
    let mut found: Vec<_> = entries.flatten().filter_map(|entry| card(entry.path())).collect();
    found.sort();
    found
}

/// The name of a node that nobody named.
pub fn hostname(id: &str) -> String {
    let makers = cards().into_iter().map(|(_, address)| address);
    let makers = makers.filter(|address| address[0] & 0b11 == 0 && *address != [0; 6]).min();
    default_hostname(makers, id)
}

fn random_id() -> String {
    let mut bytes = [0; 16];
    // Does not wait: at boot the kernel's pool may be empty, and the id is no secret.
    let random = fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    if let Err(error) = random {
        say(&format!("/dev/urandom: {error}"));
    }
    hex(&bytes)
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Write a file of the data partition so that a power cut leaves the old one or the new one.
pub fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::io::Write;
    let beside = path.with_extension("new");
    let mut file = fs::File::create(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    fs::File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_id_is_read_and_a_torn_one_is_not() {
        let (id, on) = ("0".repeat(32), "f".repeat(32));
        assert_eq!(parse(&format!("{id} {on}\n")), Some((&id[..], &on[..])));
        for bad in ["", "\n", "00 ff", &id, &format!("{id} "), &format!("{id}\n{on}")] {
            assert_eq!(parse(bad), None, "{bad}");
        }
        assert_ne!(random_id(), random_id());
        assert_eq!(random_id().len(), 32);
        assert_eq!(hardware(), hardware());
        for (serial, given) in [
            (&b"10000000abcdef01\0"[..], true),
            (b"4c4c4544-0042-3510-8056-b4c04f4d3732\n", true),
            (b"00000000-0000-0000-0000-000000000000\n", false),
            (b"Not Specified\n", false),
            (b"", false),
        ] {
            assert_eq!(is_given(serial), given, "{}", String::from_utf8_lossy(serial));
        }
    }
}
