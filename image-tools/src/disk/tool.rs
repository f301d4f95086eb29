//! Programs of the machine that do a part: found, run, and their words kept for when they fail.

use super::error::{DiskError, Doing};
use std::ffi::OsStr;
use std::process::{Command, Output, Stdio};

/// Programs, and the packages they are in.
const PACKAGES: [(&str, &str); 11] = [
    ("apt-get", "apt"),
    ("apt-cache", "apt"),
    ("dpkg-deb", "dpkg"),
    ("mksquashfs", "squashfs-tools"),
    ("mke2fs", "e2fsprogs"),
    ("debugfs", "e2fsprogs"),
    ("grub-mkimage", "grub-common"),
    ("qemu-img", "qemu-utils"),
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("ip", "iproute2"),
    ("xz", "xz-utils"),
];
/// Of what a program said, its last bytes are shown.
const SAID_MAX: usize = 2000;

/// A program to run. What makes its output depend on the user is taken away.
pub fn tool(program: &str) -> Command {
    let mut command = Command::new(program);
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/local/sbin:/usr/sbin:/sbin"));
    command.env("LC_ALL", "C").env_remove("SOURCE_DATE_EPOCH").stdin(Stdio::null());
    command
}

/// Run a program to its end and return what it wrote to standard output.
///
/// # Errors
/// It is not installed, or it failed.
pub fn run(command: &mut Command) -> Result<Vec<u8>, DiskError> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = match command.output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let known = PACKAGES.iter().find(|(program, _)| *program == name);
            let package = known.map_or("of that name", |(_, package)| package);
            return Err(DiskError::NoTool { program: name, package });
        }
        output => output.doing(|| format!("starting {name}"))?,
    };
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(DiskError::Tool { said: said(command, &output), program: name })
}

fn said(command: &Command, output: &Output) -> String {
    let words = [output.stderr.as_slice(), &output.stdout].concat();
    let words = String::from_utf8_lossy(&words).trim().to_string();
    let from = words.len().saturating_sub(SAID_MAX);
    let from = (from..words.len()).find(|at| words.is_char_boundary(*at)).unwrap_or(0);
    let arguments: Vec<_> = command.get_args().map(OsStr::to_string_lossy).collect();
    format!("{} ({}; arguments: {})", &words[from..], output.status, arguments.join(" "))
}
