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

/// Refuse what is no file: a card is written by `flash`, which looks whether it is in use.
///
/// # Errors
/// There is something else at that path.
pub fn check_output(output: &Path) -> Result<(), DiskError> {
    if output.metadata().is_ok_and(|found| !found.is_file()) {
        let text = format!(
            "{} is no file; write to a file, and from there to a card with bramble-image flash",
            output.display()
        );
        return Err(DiskError::Refused(text));
    }
    Ok(())
}

/// Move a file to where it belongs, also to another file system.
///
/// # Errors
/// Writing failed; nothing is left then.
pub fn place(made: &Path, output: &Path) -> Result<(), DiskError> {
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
    let (place, text) = renamed(&head, number)
        .ok_or_else(|| DiskError::Refused("qemu-img wrote a vmdk without CID".into()))?;
    file.seek(SeekFrom::Start(place as u64))
        .and_then(|_| file.write_all(&text))
        .doing(at("writing", vmdk))
}

/// The rest of a vmdk's description from its number on, with another number, and where it lies.
/// qemu-img writes no leading zeros, so numbers differ in length; zeros fill the room behind the
/// text. `None` where there is no number, or no room.
fn renamed(head: &[u8], number: &str) -> Option<(usize, Vec<u8>)> {
    const KEY: &[u8] = b"\nCID=";
    let place = head.windows(KEY.len()).position(|window| window == KEY)? + KEY.len();
    let rest = &head[place..];
    let old = rest.iter().position(|byte| *byte == b'\n')?;
    let end = rest.iter().position(|byte| *byte == 0)?;
    let mut text = [number.as_bytes(), rest.get(old..end)?].concat();
    // Where the number was longer, what it leaves of the text goes.
    text.resize(text.len().max(end), 0);
    let room = rest[end..].iter().take_while(|byte| **byte == 0).count();
    (text.len() <= end + room).then_some((place, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_of_any_length_is_replaced_whole() {
        for old in ["8ed1faf", "a45b4ecf", "1"] {
            let text = |number: &str| format!("# x\nversion=1\nCID={number}\nparentCID=ffffffff\n");
            let mut head = text(old).into_bytes();
            head.resize(200, 0);
            let (place, new) = renamed(&head, "0123abcd").unwrap();
            head[place..place + new.len()].copy_from_slice(&new);
            let mut expected = text("0123abcd").into_bytes();
            expected.resize(200, 0);
            assert_eq!(head, expected, "{old}");
        }
        assert_eq!(renamed(b"no number\0\0\0", "0123abcd"), None);
        assert_eq!(renamed(b"\nCID=1\nx\0y", "0123abcd"), None, "no room");
    }
}
