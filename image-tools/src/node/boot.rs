//! Which slot is booted: GRUB's environment block, the Pi's `autoboot.txt`, kernel arguments.

use super::layout;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// GRUB's environment block has this many bytes, always: GRUB writes it in place.
pub const GRUB_ENVIRONMENT_BYTES: usize = 1024;
const GRUB_HEADER: &str = "# GRUB Environment Block\n";
const GRUB_SLOT: &str = "slot";
const GRUB_TRY: &str = "try";

#[derive(Debug, Error, PartialEq, Eq)]
pub enum BootError {
    #[error("'{0}' is no slot; slots are a and b")]
    Slot(String),
    #[error("no GRUB environment block: it has {0} bytes and must have 1024, with GRUB's header")]
    Grub(usize),
    #[error("the GRUB environment block is full")]
    Full,
    #[error("autoboot.txt has no boot_partition of 2 or 3 in [all]")]
    Autoboot,
}

/// One of the two systems on a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Slot {
    A,
    B,
}

impl Slot {
    pub fn other(self) -> Slot {
        match self {
            Slot::A => Slot::B,
            Slot::B => Slot::A,
        }
    }

    pub fn letter(self) -> char {
        match self {
            Slot::A => 'a',
            Slot::B => 'b',
        }
    }

    fn of_partition(number: &str) -> Option<Slot> {
        [Slot::A, Slot::B].into_iter().find(|slot| slot.partition().to_string() == number)
    }

    /// Number of its partition.
    pub fn partition(self) -> u32 {
        layout::slot_partition(self)
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.letter())
    }
}

impl FromStr for Slot {
    type Err = BootError;

    fn from_str(text: &str) -> Result<Slot, BootError> {
        match text {
            "a" => Ok(Slot::A),
            "b" => Ok(Slot::B),
            _ => Err(BootError::Slot(text.into())),
        }
    }
}

/// What the boot loader will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Booted always, but
    pub slot: Slot,
    /// once, this.
    pub once: Option<Slot>,
}

impl Choice {
    pub fn lasting(slot: Slot) -> Choice {
        Choice { slot, once: None }
    }

    /// What is booted next, and the choice after that, as grub.cfg does it.
    pub fn next(self) -> (Slot, Choice) {
        (self.once.unwrap_or(self.slot), Choice::lasting(self.slot))
    }
}

/// Read GRUB's environment block. What is damaged in it is as if it were not there: a node boots
/// slot A, as its grub.cfg does without a value.
///
/// # Errors
/// These are not a block's bytes.
pub fn read_grub(block: &[u8]) -> Result<Choice, BootError> {
    let values = grub_values(block)?;
    let slot = |key| values.get(key).and_then(|value| value.parse().ok());
    Ok(Choice { slot: slot(GRUB_SLOT).unwrap_or(Slot::A), once: slot(GRUB_TRY) })
}

/// Put a choice into a block, keeping what else is in it; without one, or with a damaged one, make
/// a new one.
///
/// # Errors
/// What else is in the block leaves no room.
pub fn write_grub(old: Option<&[u8]>, choice: Choice) -> Result<Vec<u8>, BootError> {
    let mut values = old.and_then(|old| grub_values(old).ok()).unwrap_or_default();
    values.insert(GRUB_SLOT.into(), choice.slot.to_string());
    let once = choice.once.map(|slot| slot.to_string());
    values.insert(GRUB_TRY.into(), once.unwrap_or_default());
    let mut block = GRUB_HEADER.to_string();
    for (key, value) in values {
        block += &format!("{key}={value}\n");
    }
    let mut block = block.into_bytes();
    if block.len() > GRUB_ENVIRONMENT_BYTES {
        return Err(BootError::Full);
    }
    block.resize(GRUB_ENVIRONMENT_BYTES, b'#');
    Ok(block)
}

fn grub_values(block: &[u8]) -> Result<BTreeMap<String, String>, BootError> {
    let text = block.strip_prefix(GRUB_HEADER.as_bytes());
    let text = text.filter(|_| block.len() == GRUB_ENVIRONMENT_BYTES);
    let text = text.ok_or(BootError::Grub(block.len()))?;
    let text = String::from_utf8_lossy(text);
    let lines = text.lines().take_while(|line| !line.starts_with('#'));
    Ok(lines
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.to_string(), value.to_string()))
        .collect())
}

/// The Pi's `autoboot.txt`: one slot always, the other after `reboot "0 tryboot"`, once.
pub fn write_autoboot(slot: Slot) -> String {
    let (slot, other) = (slot.partition(), slot.other().partition());
    format!("[all]\ntryboot_a_b=1\nboot_partition={slot}\n[tryboot]\nboot_partition={other}\n")
}

/// Which slot `autoboot.txt` boots always.
///
/// # Errors
/// It names none.
pub fn read_autoboot(text: &str) -> Result<Slot, BootError> {
    let mut section = "[all]";
    let mut found = None;
    for line in text.lines().map(str::trim) {
        if line.starts_with('[') {
            section = line;
        } else if let ("[all]", Some(("boot_partition", number))) = (section, line.split_once('='))
        {
            found = Slot::of_partition(number);
        }
    }
    found.ok_or(BootError::Autoboot)
}

/// The running slot, from the kernel's arguments.
pub fn running_slot(arguments: &str) -> Option<Slot> {
    argument(arguments, layout::SLOT_ARGUMENT)?.parse().ok()
}

/// Value of the last `name=value` among the kernel's arguments.
pub fn argument<'a>(arguments: &'a str, name: &str) -> Option<&'a str> {
    let values = arguments.split_ascii_whitespace().filter_map(|part| part.split_once('='));
    values.filter(|(key, _)| *key == name).map(|(_, value)| value).next_back()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_keeps_its_size_and_what_others_put_there() {
        let block = write_grub(None, Choice::lasting(Slot::B)).unwrap();
        assert_eq!(block.len(), GRUB_ENVIRONMENT_BYTES);
        assert_eq!(read_grub(&block), Ok(Choice::lasting(Slot::B)));
        let text = String::from_utf8(block).unwrap().replacen("try=\n####", "try=\nx=y\n", 1);
        let choice = Choice { slot: Slot::B, once: Some(Slot::A) };
        let block = write_grub(Some(text.as_bytes()), choice).unwrap();
        assert_eq!(read_grub(&block), Ok(choice));
        assert!(String::from_utf8_lossy(&block).contains("\nx=y"));
        assert_eq!(choice.next(), (Slot::A, Choice::lasting(Slot::B)));
        assert_eq!(choice.next().1.next().0, Slot::B);
    }

    #[test]
    fn a_damaged_block_boots_a_and_is_made_anew() {
        let mut garbled = write_grub(None, Choice::lasting(Slot::B)).unwrap();
        garbled[30..34].fill(0xff);
        assert_eq!(read_grub(&garbled), Ok(Choice::lasting(Slot::A)));
        assert_eq!(read_grub(&[0; 1024]), Err(BootError::Grub(1024)));
        assert_eq!(read_grub(b"# GRUB Environment Block\n"), Err(BootError::Grub(25)));
        let block = write_grub(Some(&[0; 1024]), Choice::lasting(Slot::B)).unwrap();
        assert_eq!(read_grub(&block), Ok(Choice::lasting(Slot::B)));
        let mut full = GRUB_HEADER.as_bytes().to_vec();
        full.resize(GRUB_ENVIRONMENT_BYTES, b'x');
        full[500] = b'=';
        assert_eq!(write_grub(Some(&full), Choice::lasting(Slot::B)), Err(BootError::Full));
    }

    #[test]
    fn autoboot_names_the_lasting_slot() {
        for slot in [Slot::A, Slot::B] {
            assert_eq!(read_autoboot(&write_autoboot(slot)), Ok(slot));
        }
        for text in ["", "boot_partition=4", "[tryboot]\nboot_partition=2\n"] {
            assert_eq!(read_autoboot(text), Err(BootError::Autoboot), "{text}");
        }
        assert_eq!(read_autoboot("boot_partition=3\r\n[tryboot]\nx"), Ok(Slot::B));
    }

    #[test]
    fn the_kernel_says_which_slot_runs() {
        for (arguments, slot) in [
            ("panic=10 bramble.slot=b quiet", Some(Slot::B)),
            ("bramble.slot=b bramble.slot=a\n", Some(Slot::A)),
            ("bramble.slot=c", None),
            ("notbramble.slot=a", None),
            ("", None),
        ] {
            assert_eq!(running_slot(arguments), slot, "{arguments}");
        }
    }
}
