//! Voltage, heat and wear.

use super::sysfs::{Sysfs, name, number, text};
use bramble_core::model::{Trouble, Vitals};
use std::path::Path;

/// The Raspberry Pi's firmware says what it had to do, as bits.
const PI_THROTTLED: &str = "devices/platform/soc/soc:firmware/get_throttled";
/// Its bits now; the same 16 further on, since the machine started.
const PI_UNDERVOLTAGE: u32 = 1 << 0;
/// Frequency capped, throttled, soft temperature limit.
const PI_SLOWED: u32 = 1 << 1 | 1 << 2 | 1 << 3;
const PI_EARLIER_SHIFT: u32 = 16;
/// Its driver for newer kernels.
const PI_VOLTAGE_DRIVER: &str = "rpi_volt";
/// What a sensor can mean, in thousandths of a degree.
const TEMPERATURES: std::ops::RangeInclusive<i64> = -40_000..=150_000;
/// The unit of `stat`, whatever the disk's own is.
const SECTOR_BYTES: u64 = 512;
const GIB: u64 = 1 << 30;
/// Disks that are none.
const NOT_DISKS: [&str; 6] = ["loop", "ram", "zram", "dm-", "md", "nbd"];

pub(super) fn read(sysfs: &Sysfs, memory_limits: bool) -> Vitals {
    let pi = sysfs
        .text(PI_THROTTLED)
        .and_then(|bits| u32::from_str_radix(bits.trim_start_matches("0x"), 16).ok());
    let of_pi = |bits: u32| {
        pi.map(|all| match (all & bits != 0, all >> PI_EARLIER_SHIFT & bits != 0) {
            (true, _) => Trouble::Now,
            (false, true) => Trouble::Earlier,
            (false, false) => Trouble::Never,
        })
    };
    Vitals {
        temperature_c: temperature(sysfs),
        undervoltage: of_pi(PI_UNDERVOLTAGE).or_else(|| voltage_alarm(sysfs)),
        throttled: of_pi(PI_SLOWED).or_else(|| cpu_throttled(sysfs)),
        wear_percent: wear(sysfs),
        written_gib: written(sysfs),
        page_bytes: page_bytes(),
        memory_limits,
    }
}

/// The hottest zone; where there are none, the hottest sensor.
fn temperature(sysfs: &Sysfs) -> Option<i32> {
    let hottest = |directory: &str, file: &str| {
        let readings = sysfs.list(directory).into_iter().filter_map(|dir| number(&dir.join(file)));
        readings.filter(|milli: &i64| TEMPERATURES.contains(milli)).max()
    };
    let zones = hottest("class/thermal", "temp");
    let milli = zones.or_else(|| hottest("class/hwmon", "temp1_input"))?;
    i32::try_from(milli.div_euclid(1000)).ok()
}

fn voltage_alarm(sysfs: &Sysfs) -> Option<Trouble> {
    let sensors = sysfs.list("class/hwmon");
    let sensor =
        sensors.iter().find(|dir| text(&dir.join("name")).as_deref() == Some(PI_VOLTAGE_DRIVER))?;
    let alarm: u8 = number(&sensor.join("in0_lcrit_alarm"))?;
    Some(if alarm == 0 { Trouble::Never } else { Trouble::Now })
}

/// x86 counts how often a core was slowed down for heat.
fn cpu_throttled(sysfs: &Sysfs) -> Option<Trouble> {
    let count = |core: &Path| number::<u64>(&core.join("thermal_throttle/core_throttle_count"));
    let counts: Vec<u64> =
        sysfs.list("devices/system/cpu").iter().filter_map(|core| count(core)).collect();
    let any = counts.iter().any(|count| *count > 0);
    (!counts.is_empty()).then_some(if any { Trouble::Earlier } else { Trouble::Never })
}

/// What the most worn memory card says of itself: an estimate in tenths of its life, of which the
/// upper end is told. Plain SD cards say nothing.
fn wear(sysfs: &Sysfs) -> Option<u8> {
    let cards = sysfs.list("block").into_iter().filter(|disk| name(disk).starts_with("mmcblk"));
    let estimates = cards.filter_map(|card| text(&card.join("device/life_time")));
    let tenths = |estimate: String| {
        let parts = estimate.split_whitespace();
        let parts =
            parts.filter_map(|part| u8::from_str_radix(part.trim_start_matches("0x"), 16).ok());
        // 0 = not defined, 11 = beyond what it was made for.
        parts.filter(|tenths| (1..=11).contains(tenths)).max()
    };
    estimates.filter_map(tenths).max().map(|tenths| tenths.saturating_mul(10).min(100))
}

fn written(sysfs: &Sysfs) -> Option<u64> {
    let disks = sysfs.list("block").into_iter();
    let disks = disks.filter(|disk| !NOT_DISKS.iter().any(|none| name(disk).starts_with(none)));
    // Of a disk with several names (mmcblk0boot0) each has its own count.
    let sectors = |disk: &Path| text(&disk.join("stat"))?.split_whitespace().nth(6)?.parse().ok();
    let counts: Vec<u64> = disks.filter_map(|disk| sectors(&disk)).collect();
    let sum = counts.iter().fold(0u64, |sum, count| sum.saturating_add(*count));
    (!counts.is_empty()).then(|| sum.saturating_mul(SECTOR_BYTES) / GIB)
}

fn page_bytes() -> u64 {
    let size = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE);
    size.ok().flatten().and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0)
}
