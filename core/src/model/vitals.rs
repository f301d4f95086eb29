//! How a machine is: what its hardware says of itself. Told with offers, never stored.

use serde::{Deserialize, Serialize};

/// Readings of a machine; `None` where it has no such sensor.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vitals {
    /// Of its hottest thermal zone, in whole degrees Celsius.
    pub temperature_c: Option<i32>,
    /// Whether its supply voltage is too low.
    pub undervoltage: Option<Trouble>,
    /// Whether it runs slower than it could, for heat or voltage.
    pub throttled: Option<Trouble>,
    /// How much of its card's life is used, in percent, as the card estimates it.
    pub wear_percent: Option<u8>,
    /// What was written to its disks since it started, in GiB.
    pub written_gib: Option<u64>,
    /// Bytes of a memory page; 0 = not known.
    pub page_bytes: u64,
    /// Whether memory limits of tasks are enforced.
    pub memory_limits: bool,
}

/// Since when something is wrong, or was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Trouble {
    Never,
    /// Since the machine started, and not now.
    Earlier,
    Now,
}

impl Trouble {
    /// The word shown to users.
    pub fn as_str(self) -> &'static str {
        match self {
            Trouble::Never => "never",
            Trouble::Earlier => "earlier",
            Trouble::Now => "now",
        }
    }
}
