//! The clock of this boot: it runs on in suspend, never jumps, and outlives the agent's process.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use thiserror::Error;

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

#[derive(Debug, Error)]
pub enum ClockError {
    #[error("reading {path}")]
    Read {
        path: &'static str,
        #[source]
        source: std::io::Error,
    },
}

/// Milliseconds since the machine booted (CLOCK_BOOTTIME).
///
/// Not read from procfs, which some containers fake: a lease needs the clock that timers keep.
pub fn uptime_ms() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one timespec, which is ours. It has this clock since 2.6.39; where
    // not, zero lengthens graces.
    #[allow(unsafe_code)]
    let _known = unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &mut now) };
    now.tv_sec as u64 * 1000 + now.tv_nsec as u64 / 1_000_000
}

/// A descriptor that becomes readable at a moment of [`uptime_ms`], also when the machine slept
/// through it.
#[derive(Debug)]
pub struct Alarm(OwnedFd);

impl Alarm {
    /// An alarm that is not set.
    ///
    /// # Errors
    /// The process has no descriptor left.
    pub fn new() -> Result<Self, nix::Error> {
        let flags = libc::TFD_CLOEXEC | libc::TFD_NONBLOCK;
        // SAFETY: timerfd_create takes two integers and returns a new descriptor or -1.
        #[allow(unsafe_code)]
        let fd = unsafe { libc::timerfd_create(libc::CLOCK_BOOTTIME, flags) };
        nix::Error::result(fd)?;
        // SAFETY: the kernel just gave us this descriptor, nobody else owns it.
        #[allow(unsafe_code)]
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Set it to a moment instead of any earlier setting; `None` unsets it.
    pub fn set(&self, at_ms: Option<u64>) {
        // Zero would unset it; a moment so early is past in any case.
        let at_ms = at_ms.map_or(0, |at| at.max(1));
        let it_value = libc::timespec {
            tv_sec: (at_ms / 1000) as libc::time_t,
            tv_nsec: (at_ms % 1000 * 1_000_000) as libc::c_long,
        };
        let it_interval = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let setting = libc::itimerspec { it_interval, it_value };
        // SAFETY: reads one itimerspec; a null pointer asks for no old setting. It refuses only
        // what is no timer or no time.
        #[allow(unsafe_code)]
        let _set = unsafe {
            let fd = self.0.as_raw_fd();
            libc::timerfd_settime(fd, libc::TFD_TIMER_ABSTIME, &setting, std::ptr::null_mut())
        };
    }
}

impl AsFd for Alarm {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The kernel's name of this boot.
///
/// # Errors
/// When procfs does not tell it.
pub fn boot_id() -> Result<String, ClockError> {
    std::fs::read_to_string(BOOT_ID)
        .map(|text| text.trim().to_string())
        .map_err(|source| ClockError::Read { path: BOOT_ID, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_runs_and_the_boot_has_a_name() {
        let before = uptime_ms();
        assert!(before > 0);
        assert!(uptime_ms() >= before);
        assert_eq!(boot_id().unwrap().len(), 36);
    }
}
