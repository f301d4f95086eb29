//! What runs the machines' processors: KVM where it answers, else QEMU itself.

use super::disks;
use super::error::LabError;
use super::interrupt::Interrupt;
use super::machine::{self, PID_FILE, QEMU, command};
use super::place::Place;
use crate::disk::error::{Doing, at};
use crate::disk::tool::run;
use clap::ValueEnum;
use std::fs::{self, OpenOptions};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// A machine that says nothing for so long hangs; one that works does not need a fifth of it.
const WORDS_MAX: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Wanted {
    /// KVM where it answers
    Auto,
    /// The processor itself
    Kvm,
    /// Emulated: slow, and works everywhere
    Tcg,
}

/// What is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accel {
    Kvm,
    Tcg,
}

impl Accel {
    /// Settle what is used; what was found out is kept with the lab.
    ///
    /// # Errors
    /// KVM was asked for and does not answer, QEMU is not here, or it was interrupted.
    pub fn settle(wanted: Wanted, place: &Place, interrupt: &Interrupt) -> Result<Accel, LabError> {
        let note = place.accel();
        let known = fs::read_to_string(&note).unwrap_or_default();
        let noted = [Accel::Kvm, Accel::Tcg].into_iter().find(|accel| accel.name() == known);
        match (wanted, noted) {
            (Wanted::Tcg, _) => return Ok(Accel::Tcg),
            (Wanted::Auto, Some(accel)) | (Wanted::Kvm, Some(accel @ Accel::Kvm)) => {
                return Ok(accel);
            }
            _ => {}
        }
        let found = if answers(place, interrupt)? { Accel::Kvm } else { Accel::Tcg };
        fs::write(&note, found.name()).doing(at("writing", &note))?;
        if wanted == Wanted::Kvm && found != Accel::Kvm {
            return Err(LabError::refused(
                "KVM does not run a machine here (/dev/kvm); leave out --accel kvm to emulate it",
            ));
        }
        Ok(found)
    }

    pub fn name(self) -> &'static str {
        match self {
            Accel::Kvm => "kvm",
            Accel::Tcg => "tcg",
        }
    }
}

/// Whether KVM starts the image. On rented machines its device may open, run a firmware, and then
/// hang in a boot loader: nothing less than what is wanted of it proves it.
fn answers(place: &Place, interrupt: &Interrupt) -> Result<bool, LabError> {
    if OpenOptions::new().read(true).write(true).open("/dev/kvm").is_err() {
        return Ok(false);
    }
    let base = disks::latest(&place.images()?)?;
    let files = place.trial()?;
    let begun = Instant::now();
    let started = run(command(QEMU).args(arguments(&base, &files.console, &files.pid)));
    let spoke = || fs::metadata(&files.console).is_ok_and(|about| about.len() > 0);
    while started.is_ok() && !interrupt.came() && !spoke() && begun.elapsed() < WORDS_MAX {
        sleep(LOOK_EVERY);
    }
    let spoken = started.is_ok() && spoke();
    machine::stop(&files)?;
    fs::remove_dir_all(&files.top).doing(at("removing", &files.top))?;
    interrupt.check()?;
    Ok(spoken)
}

/// A machine that leaves no trace on the image.
fn arguments(base: &Path, console: &Path, pid: &Path) -> Vec<String> {
    let path = |path: &Path| path.display().to_string().replace(',', ",,");
    let disk = format!("file={},format=qcow2,if=none,id=disk", path(base));
    let console = format!("file,id=console,path={}", path(console));
    let pid = pid.display().to_string();
    let words = [
        "-nodefaults",
        "-no-user-config",
        "-daemonize",
        "-snapshot",
        "-machine",
        "q35",
        "-accel",
        "kvm",
        "-cpu",
        "host",
        "-m",
        "128",
        "-display",
        "none",
        "-vga",
        "none",
        "-monitor",
        "none",
        "-drive",
        &disk,
        "-device",
        "virtio-blk-pci,drive=disk,bootindex=1",
        "-chardev",
        &console,
        "-serial",
        "chardev:console",
        PID_FILE,
        &pid,
    ];
    words.map(String::from).to_vec()
}
