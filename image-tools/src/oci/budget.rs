//! The space one load, pull or fetch may fill: what stops a decompression bomb.
//!
//! Owns the count. Never looks at the disk after it was made.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// Most bytes one load or pull may write, however large the disk.
pub(crate) const LOAD_BYTES_MAX: u64 = 64 * 1024 * 1024 * 1024;
/// Bytes left free on the disk: logs, the ledger and the Raft log live there, too.
const DISK_RESERVE_BYTES: u64 = 64 * 1024 * 1024;
/// What a file costs besides its content (inode and name), so that empty ones count.
const ENTRY_BYTES: u64 = 1024;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("more than the {limit_bytes} bytes that this machine can spare")]
pub struct BudgetError {
    pub limit_bytes: u64,
}

pub(crate) struct Budget {
    left: AtomicU64,
    limit: u64,
}

impl Budget {
    pub(crate) fn new(limit: u64) -> Budget {
        Budget { left: AtomicU64::new(limit), limit }
    }

    /// All but a reserve of what is free on the disk of `dir`.
    pub(crate) fn of_disk(dir: &Path) -> std::io::Result<Budget> {
        let disk = rustix::fs::statvfs(dir)?;
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        Ok(Budget::new(free.saturating_sub(DISK_RESERVE_BYTES).min(LOAD_BYTES_MAX)))
    }

    /// All that it ever allowed.
    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// Counts bytes before they are written.
    pub(crate) fn take(&self, bytes: u64) -> Result<(), BudgetError> {
        self.left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes))
            .map(drop)
            .map_err(|_| BudgetError { limit_bytes: self.limit })
    }

    pub(crate) fn take_entry(&self, size: u64) -> Result<(), BudgetError> {
        self.take(size.saturating_add(ENTRY_BYTES))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_does_not_fit() {
        let budget = Budget::new(10);
        assert!(budget.take(6).is_ok());
        assert_eq!(budget.take(5), Err(BudgetError { limit_bytes: 10 }));
        assert!(budget.take(4).is_ok());
        assert!(Budget::new(u64::MAX).take_entry(u64::MAX).is_ok());
    }
}
