//! GRUB, by BIOS and by UEFI: its programs, and the configuration that chooses a slot.

use super::board::Board;
use super::error::{DiskError, Doing, at};
use super::mbr::{CODE_BYTES, SECTOR_BYTES};
use super::tool::{run, tool};
use crate::node::layout;
use std::fs;
use std::path::{Path, PathBuf};

/// What it needs to find its configuration, keep its choice and start a kernel.
const MODULES: &[&str] = &[
    "part_msdos",
    "fat",
    "normal",
    "linux",
    "loadenv",
    "test",
    "regexp",
    "echo",
    "sleep",
    "reboot",
    "configfile",
];
/// In the first sector: "the drive is as the BIOS says" is a jump over what corrects it; BIOSes
/// that say it wrongly need what is jumped over. Two bytes that do nothing, as grub-install has it.
const DRIVE_CHECK_AT: usize = 0x66;
const NOTHING: [u8; 2] = [0x90, 0x90];

/// What lies in front of the first partition.
pub struct Bios {
    /// For the first sector.
    pub code: Vec<u8>,
    /// From the second sector on.
    pub core: Vec<u8>,
}

/// Make what a BIOS starts.
///
/// # Errors
/// The package lacks a part, or `grub-mkimage` says why.
pub fn bios(packages: &[PathBuf], work: &Path) -> Result<Bios, DiskError> {
    let directory = directory(packages, "i386-pc")?;
    let first = directory.join("boot.img");
    let mut code = fs::read(&first).doing(at("reading", &first))?;
    code.truncate(CODE_BYTES);
    if code.len() < CODE_BYTES {
        return Err(DiskError::Refused(format!("{} is too short", first.display())));
    }
    code[DRIVE_CHECK_AT..DRIVE_CHECK_AT + 2].copy_from_slice(&NOTHING);
    let core = image(&directory, "i386-pc", "(,msdos1)/boot/grub", &["biosdisk"], work)?;
    let room = layout::ALIGN_BYTES - SECTOR_BYTES;
    if core.len() as u64 > room {
        return Err(DiskError::Refused("GRUB does not fit before the first partition".into()));
    }
    Ok(Bios { code, core })
}

/// Make what UEFI starts: the path where it looks, and the program.
///
/// # Errors
/// As [`bios`].
pub fn uefi(
    board: Board,
    packages: &[PathBuf],
    work: &Path,
) -> Result<(&'static str, Vec<u8>), DiskError> {
    let (format, path) = match board {
        Board::X86 => ("x86_64-efi", "EFI/BOOT/BOOTX64.EFI"),
        _ => ("arm64-efi", "EFI/BOOT/BOOTAA64.EFI"),
    };
    // The partition it was started from is filled in by GRUB itself.
    let program = image(&directory(packages, format)?, format, "/boot/grub", &["gzio"], work)?;
    Ok((path, program))
}

fn directory(packages: &[PathBuf], format: &str) -> Result<PathBuf, DiskError> {
    let mut places = packages.iter().map(|tree| tree.join("usr/lib/grub").join(format));
    let found = places.find(|place| place.is_dir());
    found.ok_or_else(|| DiskError::Refused(format!("the packages have no GRUB for {format}")))
}

fn image(
    directory: &Path,
    format: &str,
    prefix: &str,
    more: &[&str],
    work: &Path,
) -> Result<Vec<u8>, DiskError> {
    let made = work.join(format!("grub-{format}"));
    let mut command = tool("grub-mkimage");
    command.arg("-d").arg(directory).args(["-O", format, "-p", prefix]).arg("-o").arg(&made);
    run(command.args(MODULES).args(more))?;
    fs::read(&made).doing(at("reading", &made))
}

/// `grub.cfg`: a slot to try is tried once, whatever becomes of it. A slot whose kernel cannot be
/// read gives way to the other.
pub fn configuration(board: Board) -> String {
    let arguments = board.arguments();
    let [slot, a, b] = [
        layout::SLOT_ARGUMENT.into(),
        partition(layout::SLOT_A_PARTITION),
        partition(layout::SLOT_B_PARTITION),
    ];
    let (kernel, initramfs) = (layout::KERNEL_FILE, layout::INITRAMFS_FILE);
    format!(
        r#"# Boots slot a or b; which, is kept in grubenv and changed by the node.
set timeout=0
regexp --set=1:disk '^([^,]+),' "$root"
load_env
set run=a
if [ "$slot" = b ]; then set run=b; fi
if [ "$try" = a -o "$try" = b ]; then
    set run=$try
    set try=
    save_env try
fi
function boot_slot {{
    set part={a}
    if [ "$1" = b ]; then set part={b}; fi
    if linux ($disk,$part)/{kernel} {arguments} {slot}=$1; then
        if initrd ($disk,$part)/{initramfs}; then boot; fi
    fi
}}
boot_slot $run
set other=b
if [ $run = b ]; then set other=a; fi
echo "bramble: slot $run cannot be started, trying slot $other"
boot_slot $other
echo "bramble: neither slot can be started; flash the card anew"
sleep 30
reboot
"#
    )
}

fn partition(number: u32) -> String {
    format!("msdos{number}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_names_what_the_layout_says() {
        let text = configuration(Board::X86);
        for part in [
            "($disk,$part)/vmlinuz console=tty0",
            "bramble.slot=$1",
            "set part=msdos2",
            "set part=msdos3",
            "save_env try",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        // Before a kernel is even read.
        assert!(text.find("save_env try") < text.find("linux ("));
        assert!(configuration(Board::Arm64Uefi).contains("ttyAMA0"));
    }
}
