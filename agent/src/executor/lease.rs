//! The lease of a container that must not run twice. Owns the alarm that ends it: on the clock that
//! goes on while the machine sleeps, so that a laptop that wakes up does not go on where another
//! machine took over meanwhile.

use super::error::ExecutorError;
use crate::clock::{Alarm, uptime_ms};
use bramble_core::lease;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

/// See the module.
pub struct Lease {
    /// Milliseconds of CLOCK_BOOTTIME; 0 = none yet.
    until_ms: u64,
    alarm: Alarm,
    /// The container was asked to end; no renewal takes that back.
    over: bool,
}

impl Lease {
    /// A lease that holds for nothing yet.
    ///
    /// # Errors
    /// The kernel gives no timer.
    pub fn open() -> Result<Self, ExecutorError> {
        let step = "opening the alarm of its lease";
        let alarm = Alarm::new().map_err(|source| ExecutorError::Process { step, source })?;
        Ok(Self { until_ms: 0, alarm, over: false })
    }

    /// Readable once [`Lease::due`] has something to say.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.alarm.as_fd()
    }

    /// Let it last until `until_ms`; never shortens it.
    pub fn extend(&mut self, until_ms: u64) {
        if until_ms <= self.until_ms || self.over {
            return;
        }
        self.until_ms = until_ms;
        self.alarm.set(Some(lease::ends(until_ms).0));
    }

    /// Whether a container may begin to run.
    pub fn may_begin(&self) -> bool {
        !self.over && lease::may_begin(self.until_ms, uptime_ms())
    }

    /// Whether it ended the container.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// The grace that is left for a running container, once it has to be asked to end; then
    /// nothing, once it has to be killed.
    pub fn due(&mut self) -> Option<Duration> {
        let (ask_ms, kill_ms) = lease::ends(self.until_ms);
        let now = uptime_ms();
        if now < ask_ms {
            return None;
        }
        self.over = true;
        self.alarm.set((now < kill_ms).then_some(kill_ms));
        Some(Duration::from_millis(kill_ms.saturating_sub(now)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    fn fires(lease: &Lease, within_ms: u16) -> bool {
        let mut watched = [PollFd::new(lease.descriptor(), PollFlags::POLLIN)];
        poll(&mut watched, PollTimeout::from(within_ms)).expect("polls") > 0
    }

    #[test]
    fn it_asks_then_kills_and_no_renewal_comes_too_late() {
        let mut lease = Lease::open().expect("opens");
        assert!(!lease.may_begin() && !fires(&lease, 0));
        let now = uptime_ms();
        lease.extend(now + 3_600_000);
        lease.extend(now + 1_000);
        assert!(lease.may_begin() && !fires(&lease, 0), "an earlier deadline changes nothing");
        assert_eq!(lease.due(), None);

        let mut lease = Lease::open().expect("opens");
        lease.extend(uptime_ms() + lease::LEASE_GRACE_MS + 300);
        assert!(fires(&lease, 20_000), "time to ask");
        let left = lease.due().expect("due");
        assert!(left > Duration::ZERO && left <= Duration::from_millis(lease::LEASE_GRACE_MS));
        lease.extend(uptime_ms() + 3_600_000);
        assert!(lease.is_over() && !lease.may_begin());
        assert!(fires(&lease, 20_000), "time to kill");
        assert_eq!(lease.due(), Some(Duration::ZERO));
        assert!(!fires(&lease, 0), "nothing more to say");
    }
}
