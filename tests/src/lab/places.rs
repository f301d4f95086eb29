//! How many hosts may be at work at once, over all tests of a process.

use std::sync::{Condvar, Mutex, MutexGuard};

/// Hosts at work at once: what two cores carry without timing each other out.
const HOSTS_MAX: usize = 8;

static TAKEN: Mutex<usize> = Mutex::new(0);
static GIVEN_BACK: Condvar = Condvar::new();

/// Room for some hosts, until dropped.
pub struct Places(usize);

/// A test that failed while it held the lock has broken nothing.
fn taken() -> MutexGuard<'static, usize> {
    TAKEN.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Places {
    /// Wait until so many hosts fit. More than fit at all have the machine for themselves.
    pub fn take(hosts: usize) -> Self {
        let hosts = hosts.min(HOSTS_MAX);
        let full = |taken: &mut usize| *taken + hosts > HOSTS_MAX;
        let waited = GIVEN_BACK.wait_while(taken(), full);
        let mut taken = waited.unwrap_or_else(|poisoned| poisoned.into_inner());
        *taken += hosts;
        Self(hosts)
    }
}

impl Drop for Places {
    fn drop(&mut self) {
        *taken() -= self.0;
        GIVEN_BACK.notify_all();
    }
}
