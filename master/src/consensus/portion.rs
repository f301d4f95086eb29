//! How many entries a follower is sent at once.
//!
//! openraft gives up a message to a follower after one heartbeat, and sends the same again. What a
//! slow card or link cannot take within that time would be sent for ever, and a new master with a
//! long log to read would never have read it. So the portions follow what was answered in time.

use std::time::Duration;

/// Entries in the first message of many.
const FIRST: usize = 64;
/// Answers within this part of the time allowed make the next portion larger.
const QUICK: u32 = 4;

/// The number for one follower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Portion {
    most: usize,
    /// Entries sent and not yet answered; none for a heartbeat.
    on_the_way: usize,
}

impl Default for Portion {
    fn default() -> Self {
        Self { most: FIRST, on_the_way: 0 }
    }
}

impl Portion {
    /// How many of so many entries to send now. What was sent last and never answered was too
    /// much.
    pub fn of(&mut self, entries: usize) -> usize {
        if self.on_the_way > 0 {
            self.most = (self.on_the_way / 2).max(1);
        }
        let sent = entries.min(self.most);
        self.on_the_way = sent;
        sent
    }

    /// It was answered after `took`, of the time `allowed`.
    pub fn answered(&mut self, took: Duration, allowed: Duration) {
        if self.on_the_way == self.most && took <= allowed / QUICK {
            self.most = self.most.saturating_mul(2);
        }
        self.on_the_way = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALLOWED: Duration = Duration::from_millis(50);

    #[test]
    fn portions_follow_what_is_answered_in_time() {
        let mut portion = Portion::default();
        let quick = Duration::from_millis(5);
        assert_eq!(portion.of(1000), 64);
        portion.answered(quick, ALLOWED);
        assert_eq!(portion.of(1000), 128);
        // Just in time is no reason for more.
        portion.answered(Duration::from_millis(40), ALLOWED);
        assert_eq!(portion.of(1000), 128);
        // Never answered: half, until something is.
        assert_eq!((portion.of(1000), portion.of(1000)), (64, 32));
        portion.answered(quick, ALLOWED);
        // A heartbeat says nothing about entries, answered or not.
        assert_eq!((portion.of(0), portion.of(0)), (0, 0));
        portion.answered(quick, ALLOWED);
        assert_eq!(portion.of(1000), 64);
        for _ in 0..20 {
            portion.of(1000);
        }
        assert_eq!(portion.of(1000), 1);
    }
}
