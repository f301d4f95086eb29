//! Forms of an image: as it lies on a card, and as virtual machines want it.

use super::error::{DiskError, Doing, at};
use super::tool::{run, tool};
use super::work::Work;
use clap::ValueEnum;
use sha2::{Digest, Sha256};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

/// Form of an image file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// As on a card
    Raw,
    /// For QEMU and libvirt
    Qcow2,
    /// For VirtualBox and VMware
    Vmdk,
}

impl Format {
    /// Turn a raw image, which is used up, into this form. The result appears whole or not at all.
    ///
    /// # Errors
    /// Reading or writing failed, or `qemu-img` says why.
    pub fn convert(self, raw: &Path, output: &Path, work: &Work) -> Result<(), DiskError> {
        let made = work.path("converted");
        let options: &[&str] = match self {
            Format::Raw => return place(raw, output),
            Format::Qcow2 => &["-c", "-O", "qcow2"],
            Format::Vmdk => &["-O", "vmdk", "-o", "subformat=streamOptimized"],
        };
        run(tool("qemu-img").args(["convert", "-f", "raw"]).args(options).arg(raw).arg(&made))?;
        if self == Format::Vmdk {
            name_by_content(raw, &made)?;
        }
        place(&made, output)
    }
}

/// Move a file to where it belongs, also to another file system.
fn place(made: &Path, output: &Path) -> Result<(), DiskError> {
    if fs::rename(made, output).is_ok() {
        return Ok(());
    }
    let partial = output.with_extension("partial");
    let copied = fs::copy(made, &partial).and_then(|_| fs::rename(&partial, output));
    if copied.is_err() {
        let _ = fs::remove_file(&partial);
    }
    copied.doing(at("writing", output))
}

/// qemu-img gives a vmdk a random number; ours follows from what is in it.
fn name_by_content(raw: &Path, vmdk: &Path) -> Result<(), DiskError> {
    const KEY: &[u8] = b"\nCID=";
    const DIGITS: usize = 8;
    const HEAD_BYTES: u64 = 1 << 16;
    let mut digest = Sha256::new();
    let mut source = File::open(raw).doing(at("reading", raw))?;
    io::copy(&mut source, &mut digest).doing(at("reading", raw))?;
    let number = &hex::encode(digest.finalize())[..DIGITS];
    let mut file =
        OpenOptions::new().read(true).write(true).open(vmdk).doing(at("opening", vmdk))?;
    let mut head = Vec::new();
    (&file).take(HEAD_BYTES).read_to_end(&mut head).doing(at("reading", vmdk))?;
    let found = head.windows(KEY.len()).position(|window| window == KEY);
    let key =
        found.ok_or_else(|| DiskError::Refused("qemu-img wrote a vmdk without CID".into()))?;
    file.seek(SeekFrom::Start((key + KEY.len()) as u64))
        .and_then(|_| file.write_all(number.as_bytes()))
        .doing(at("writing", vmdk))
}
