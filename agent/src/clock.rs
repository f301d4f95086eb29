//! The clock of this boot: it runs on in suspend, never jumps, and outlives the agent's process.

use thiserror::Error;

const UPTIME: &str = "/proc/uptime";
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

/// Milliseconds since the machine booted (CLOCK_BOOTTIME, to a hundredth of a second).
///
/// Read from procfs: the call itself is not in the standard library, and a check's period is
/// never shorter than a second. Zero should procfs ever vanish, which lengthens graces.
pub fn uptime_ms() -> u64 {
    let text = std::fs::read_to_string(UPTIME).unwrap_or_default();
    let first = text.split_whitespace().next().unwrap_or_default();
    let (seconds, hundredths) = first.split_once('.').unwrap_or((first, "0"));
    let seconds: u64 = seconds.parse().unwrap_or_default();
    seconds * 1000 + hundredths.parse::<u64>().unwrap_or_default() * 10
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
