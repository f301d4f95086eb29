//! The two slots of a node: which runs, which is booted next, what each holds.

use super::console::{chain, say};
use super::disk::Disk;
use super::fat;
use super::sys::Down;
use crate::node::boot::{
    BootError, Choice, GRUB_ENVIRONMENT_BYTES, read_autoboot, read_grub, write_autoboot, write_grub,
};
use crate::node::control;
use crate::node::layout::{AUTOBOOT_FILE, GRUB_ENVIRONMENT_FILE, RELEASE_FILE, SLOT_DIR};
use crate::node::{Release, Slot};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use thiserror::Error;

/// How long a slot on trial runs without being confirmed. An update is confirmed once the cluster
/// sees the node, which on a slow card and with a large log takes a minute or two.
pub const TRIAL: Duration = Duration::from_secs(600);
/// Where the spare slot is mounted while it is read.
const SPARE_DIR: &str = "/run/spare";

#[derive(Debug, Error)]
pub enum SlotError {
    #[error("the running slot is on trial: confirm it, or reboot to go back, and try again")]
    OnTrial,
    #[error("the spare slot holds no whole system; write one to it first")]
    SpareEmpty,
    #[error("an update is being written; wait for its end")]
    Busy,
    #[error("writing the boot choice")]
    Write(#[source] io::Error),
    #[error("the boot choice")]
    Choice(#[from] BootError),
}

/// What chooses the slot on this board.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loader {
    Grub,
    Pi,
}

/// The slots, as one boot of the node sees them.
pub struct Slots {
    disk: Disk,
    running: Slot,
    loader: Loader,
    release: Option<Release>,
    /// When this slot is given up, if it runs on trial.
    deadline: Option<Instant>,
}

impl Slots {
    pub fn open(disk: Disk, running: Slot) -> Slots {
        let loader = if fat::path(AUTOBOOT_FILE).exists() { Loader::Pi } else { Loader::Grub };
        let release = read_release(Path::new(SLOT_DIR));
        let mut slots = Slots { disk, running, loader, release, deadline: None };
        if slots.lasting() != running {
            slots.deadline = Some(Instant::now() + TRIAL);
        }
        slots
    }

    pub fn running(&self) -> Slot {
        self.running
    }

    pub fn disk(&self) -> &Disk {
        &self.disk
    }

    pub fn version(&self) -> &str {
        self.release.as_ref().map_or("unknown", |release| &release.version)
    }

    pub fn board(&self) -> &str {
        self.release.as_ref().map_or("unknown", |release| &release.board)
    }

    /// Seconds until a running slot that is on trial is given up.
    pub fn trial_seconds_left(&self) -> Option<u64> {
        let left = |deadline: Instant| deadline.saturating_duration_since(Instant::now());
        self.deadline.map(|deadline| left(deadline).as_secs())
    }

    /// Whether the running slot was on trial for as long as it may be.
    pub fn given_up(&self) -> bool {
        self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// What is booted when nothing else is asked for. A loader whose file is gone boots A.
    pub fn lasting(&self) -> Slot {
        self.choice().map_or(Slot::A, |choice| choice.slot)
    }

    fn choice(&self) -> Result<Choice, BootError> {
        match self.loader {
            Loader::Grub => {
                read_grub(&fs::read(fat::path(GRUB_ENVIRONMENT_FILE)).unwrap_or_default())
            }
            Loader::Pi => {
                let text = fs::read_to_string(fat::path(AUTOBOOT_FILE)).unwrap_or_default();
                read_autoboot(&text).map(Choice::lasting)
            }
        }
    }

    fn choose(&self, choice: Choice) -> Result<(), SlotError> {
        let write = |name, bytes: &[u8]| fat::write(name, bytes).map_err(SlotError::Write);
        match self.loader {
            Loader::Grub => {
                let old = fs::read(fat::path(GRUB_ENVIRONMENT_FILE)).ok();
                let old = old.filter(|old| old.len() == GRUB_ENVIRONMENT_BYTES);
                write(GRUB_ENVIRONMENT_FILE, &write_grub(old.as_deref(), choice)?)
            }
            Loader::Pi => write(AUTOBOOT_FILE, write_autoboot(choice.slot).as_bytes()),
        }
    }

    /// Keep the running slot.
    ///
    /// # Errors
    /// The choice cannot be written; the trial goes on.
    pub fn confirm(&mut self) -> Result<(), SlotError> {
        self.choose(Choice::lasting(self.running))?;
        if self.deadline.take().is_some() {
            say(&format!("slot {} is confirmed", self.running));
        }
        Ok(())
    }

    /// Make sure that nothing boots the spare slot, which is about to be written.
    ///
    /// # Errors
    /// The spare slot is the one to go back to, or the choice cannot be written.
    pub fn free_spare(&self) -> Result<(), SlotError> {
        if self.lasting() != self.running {
            return Err(SlotError::OnTrial);
        }
        self.choose(Choice::lasting(self.running))
    }

    /// Let the next boot be of the spare slot; gives how to go down for it.
    ///
    /// # Errors
    /// There is nothing in it, or the choice cannot be written.
    pub fn try_spare(&self) -> Result<Down, SlotError> {
        if self.lasting() != self.running {
            return Err(SlotError::OnTrial);
        }
        let spare = self.spare_release().ok_or(SlotError::SpareEmpty)?;
        say(&format!("the next boot is of slot {}, {}", self.running.other(), spare.version));
        match self.loader {
            Loader::Pi => Ok(Down::TryBoot),
            Loader::Grub => {
                let choice = Choice { slot: self.running, once: Some(self.running.other()) };
                self.choose(choice)?;
                Ok(Down::Reboot)
            }
        }
    }

    /// The device of the slot that does not run.
    pub fn spare_device(&self) -> PathBuf {
        self.disk.partition(self.running.other().partition())
    }

    /// What the spare slot holds, if it is whole enough to say so.
    pub fn spare_release(&self) -> Option<Release> {
        let _ = fs::create_dir_all(SPARE_DIR);
        let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOATIME;
        mount(Some(&self.spare_device()), SPARE_DIR, Some("vfat"), flags, None::<&str>).ok()?;
        let release = read_release(Path::new(SPARE_DIR));
        if let Err(error) = umount2(SPARE_DIR, MntFlags::MNT_DETACH) {
            say(&format!("unmounting {SPARE_DIR}: {error}"));
        }
        release
    }

    pub fn tell(&self) -> control::Slots {
        control::Slots {
            board: self.board().into(),
            running: self.running,
            lasting: self.lasting(),
            version: self.version().into(),
            spare_version: self.spare_release().map(|release| release.version),
            trial_seconds_left: self.trial_seconds_left(),
        }
    }
}

/// A slot's release; its files must at least be there.
fn read_release(dir: &Path) -> Option<Release> {
    let text = fs::read_to_string(dir.join(RELEASE_FILE)).ok()?;
    match Release::parse(&text) {
        Ok(release) => release.files.keys().all(|name| dir.join(name).exists()).then_some(release),
        Err(error) => {
            say(&format!("{}: {}", dir.display(), chain(&error)));
            None
        }
    }
}
