//! The wall clock, read in one place for the rooms of the master.

use bramble_core::model::Time;
use std::time::{SystemTime, UNIX_EPOCH};

/// This moment by this machine's clock; 1970 when the clock is set before it.
pub(crate) fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
