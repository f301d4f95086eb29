//! Where a node's settings come from: the file on its card, or a CD that is in the machine.
//!
//! Virtual machines share one image, so what differs comes on a CD: a tar archive, as it is, with
//! `bramble.toml` and, for the founder, `founding.bramble`. It stands for the files on the card.

use super::console::say;
use super::fat;
use crate::node::NodeConfig;
use crate::node::config::Complaint;
use crate::node::layout::{CONFIG_FILE, FOUNDING_FILE};
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

const CD: &str = "/dev/sr0";
/// A CD with settings is no longer. Bytes.
const CD_BYTES_MAX: u64 = 1 << 20;
/// How long a machine without any settings waits for its CD drive to appear.
const CD_WAIT: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(20);
const BLOCK: usize = 512;

/// What a node was told.
pub struct Settings {
    pub config: NodeConfig,
    pub left_out: Vec<Complaint>,
    /// From a CD; the card's own lies on the card.
    pub founding: Option<Vec<u8>>,
}

impl Settings {
    /// Read the card's file, or the CD's where there is one. Drivers must have been loaded.
    pub fn read() -> Settings {
        let card = fs::read(fat::path(CONFIG_FILE)).unwrap_or_default();
        let (config, left_out) = NodeConfig::parse(&String::from_utf8_lossy(&card));
        let wait = config == NodeConfig::default() && left_out.is_empty() && is_virtual();
        let Some(cd) = read_cd(wait) else {
            return Settings { config, left_out, founding: None };
        };
        say("settings are taken from the CD");
        let text = file_in(&cd, CONFIG_FILE).unwrap_or_default();
        let (config, left_out) = NodeConfig::parse(&String::from_utf8_lossy(text));
        let founding = file_in(&cd, FOUNDING_FILE).map(<[u8]>::to_vec);
        Settings { config, left_out, founding }
    }
}

fn is_virtual() -> bool {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    cpu.lines().any(|line| line.starts_with("flags") && line.contains(" hypervisor"))
}

/// A CD's beginning, if one with settings is in the drive.
fn read_cd(wait: bool) -> Option<Vec<u8>> {
    let start = Instant::now();
    while wait && !Path::new(CD).exists() && start.elapsed() < CD_WAIT {
        sleep(LOOK_EVERY);
    }
    let mut bytes = Vec::new();
    File::open(CD).ok()?.take(CD_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    file_in(&bytes, CONFIG_FILE).is_some().then_some(bytes)
}

/// A file of a tar archive, by its name.
fn file_in<'a>(tar: &'a [u8], wanted: &str) -> Option<&'a [u8]> {
    let mut at = 0;
    loop {
        let head = tar.get(at..at + BLOCK)?;
        let name = text(&head[..100])?;
        if name.is_empty() || &head[257..262] != b"ustar" {
            return None;
        }
        let size = usize::from_str_radix(text(&head[124..136])?.trim(), 8).ok()?;
        let content = tar.get(at + BLOCK..at.checked_add(BLOCK)?.checked_add(size)?)?;
        if name.trim_start_matches("./") == wanted && matches!(head[156], b'0' | 0) {
            return Some(content);
        }
        at += BLOCK + size.next_multiple_of(BLOCK);
    }
}

fn text(field: &[u8]) -> Option<&str> {
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    std::str::from_utf8(&field[..end]).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, content: &[u8]) -> Vec<u8> {
        let mut head = vec![0; BLOCK];
        head[..name.len()].copy_from_slice(name.as_bytes());
        head[124..135].copy_from_slice(format!("{:011o}", content.len()).as_bytes());
        head[156] = b'0';
        head[257..262].copy_from_slice(b"ustar");
        head.extend(content);
        head.resize(head.len().next_multiple_of(BLOCK), 0);
        head
    }

    #[test]
    fn files_are_found_in_an_archive_and_nowhere_else() {
        let long = vec![b'x'; 1000];
        let tar = [entry("other", &long), entry("./bramble.toml", b"role"), vec![0; 1024]].concat();
        assert_eq!(file_in(&tar, CONFIG_FILE), Some(&b"role"[..]));
        assert_eq!(file_in(&tar, "other"), Some(&long[..]));
        assert_eq!(file_in(&tar, FOUNDING_FILE), None);
        for bad in [&[][..], &[0; 4096], &[b'x'; 4096], &tar[..1200]] {
            assert_eq!(file_in(bad, CONFIG_FILE), None);
        }
    }
}
