//! The limits that follow from a task's size, and setting them in a container that runs. Owns the
//! order of writes that the kernel takes; the first limits of a container are libcontainer's.

use super::cgroup::{CPU_PERIOD_US, CgroupError, TaskCgroup};
use bramble_core::model::TaskSpec;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// v1 weight of one whole CPU.
const SHARES_PER_CPU: u64 = 1024;
/// Bounds the kernel sets to v1 weights.
const SHARES_MIN: u64 = 2;
const SHARES_MAX: u64 = 262_144;
/// The largest v2 weight.
const WEIGHT_MAX: u64 = 10_000;
/// The least quota the kernel takes, in microseconds.
const QUOTA_US_MIN: u64 = 1000;

/// v1 weight of so many thousandths of a CPU.
pub(super) fn shares(cpus_milli: u64) -> u64 {
    (cpus_milli.saturating_mul(SHARES_PER_CPU) / 1000).clamp(SHARES_MIN, SHARES_MAX)
}

/// Microseconds of CPU per [`CPU_PERIOD_US`] under a ceiling.
pub(super) fn quota_us(limit_milli: u64) -> u64 {
    (limit_milli.saturating_mul(CPU_PERIOD_US) / 1000).max(QUOTA_US_MIN)
}

/// v2 weight for a v1 weight, as libcontainer has it since runc 1.3.2: the least, the default and
/// the largest of one are those of the other.
fn weight(shares: u64) -> u64 {
    if shares <= SHARES_MIN {
        return 1;
    }
    let log = (shares as f64).log2();
    let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
    (10f64.powf(exponent).ceil() as u64).clamp(1, WEIGHT_MAX)
}

impl TaskCgroup<'_> {
    /// Set the limits of a task of this size. Memory comes first, as the kernel may refuse it;
    /// then nothing is changed. Controllers that are missing are passed over, as at the start.
    ///
    /// # Errors
    /// The task uses more memory than the new limit, or the kernel refuses a value.
    pub fn resize(&self, spec: &TaskSpec) -> Result<(), CgroupError> {
        self.set_memory(spec.mem_limit_bytes)?;
        let shares = shares(spec.resources.cpus_milli);
        let value = if self.is_unified() { weight(shares) } else { shares };
        if let Some(path) = self.present("cpu", "cpu.shares", "cpu.weight") {
            put(path, value.to_string())?;
        }
        self.set_cpu_quota(spec.cpu_limit_milli.map(quota_us))
    }

    fn set_memory(&self, limit: Option<u64>) -> Result<(), CgroupError> {
        let Some(path) = self.present("memory", "memory.limit_in_bytes", "memory.max") else {
            return Ok(());
        };
        let before = read(&path).and_then(|text| text.parse::<u64>().ok()).unwrap_or(u64::MAX);
        match (self.is_unified(), limit) {
            (true, Some(limit)) if limit < before => shrink_unified(&path, limit),
            (true, _) => put(path, limit.map_or("max".into(), |bytes| bytes.to_string())),
            (false, _) => {
                let swap = self.present("memory", "memory.memsw.limit_in_bytes", "");
                set_memory_v1(&path, swap.as_deref(), before, limit)
            }
        }
    }

    /// A file of a controller that this task has.
    fn present(&self, controller: &str, v1: &str, v2: &str) -> Option<PathBuf> {
        self.controller_file(controller, v1, v2).filter(|path| path.is_file())
    }
}

/// v1 never lets the limit of memory exceed that of memory and swap together, so that the order
/// depends on the direction. A limit below what is in use is refused by the kernel, once it has
/// reclaimed what it can.
fn set_memory_v1(
    path: &Path,
    swap: Option<&Path>,
    before: u64,
    limit: Option<u64>,
) -> Result<(), CgroupError> {
    let value = limit.map_or("-1".into(), |bytes| bytes.to_string());
    let memory = || put_memory(path, &value, limit);
    let both = || swap.map_or(Ok(()), |swap| put_memory(swap, &value, limit));
    if limit.is_none_or(|limit| limit >= before) {
        return both().and_then(|()| memory());
    }
    memory()?;
    both().inspect_err(|_| {
        // What was there before cannot be refused: it is larger.
        let _kept = fs::write(path, before.to_string());
    })
}

fn put_memory(path: &Path, value: &str, limit: Option<u64>) -> Result<(), CgroupError> {
    match (put(path.to_path_buf(), value.to_string()), limit) {
        (Err(CgroupError::Write { source, .. }), Some(limit_bytes))
            if source.raw_os_error() == Some(libc::EBUSY) =>
        {
            let usage = path.with_file_name("memory.usage_in_bytes");
            Err(in_use(&usage, limit_bytes))
        }
        (result, _) => result,
    }
}

/// v2 would kill what does not fit. `memory.high` makes the kernel reclaim without killing, so
/// that what is left can be compared first.
fn shrink_unified(path: &Path, limit: u64) -> Result<(), CgroupError> {
    let high = path.with_file_name("memory.high");
    put(high.clone(), limit.to_string())?;
    let current = path.with_file_name("memory.current");
    let used = read(&current).and_then(|text| text.parse::<u64>().ok()).unwrap_or_default();
    let result = match used > limit {
        true => Err(in_use(&current, limit)),
        false => put(path.to_path_buf(), limit.to_string()),
    };
    put(high, "max".into())?;
    result
}

fn in_use(usage: &Path, limit_bytes: u64) -> CgroupError {
    let used_bytes = read(usage).and_then(|text| text.parse().ok()).unwrap_or_default();
    CgroupError::MemoryInUse { used_bytes, limit_bytes }
}

fn read(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_string())
}

fn put(path: PathBuf, value: String) -> Result<(), CgroupError> {
    let written: io::Result<()> = fs::write(&path, &value);
    written.map_err(|source| CgroupError::Write { path, value, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_have_the_same_ends_and_middle_in_both_versions() {
        // (thousandths of a CPU, v1, v2)
        let cases = [(0, 2, 1), (1, 2, 1), (250, 256, 35), (1000, 1024, 100), (2000, 2048, 174)];
        for (milli, v1, v2) in cases {
            assert_eq!((shares(milli), weight(shares(milli))), (v1, v2), "{milli}");
        }
        assert_eq!((shares(u64::MAX), weight(SHARES_MAX)), (SHARES_MAX, WEIGHT_MAX));
    }

    #[test]
    fn a_ceiling_is_never_too_small_for_the_kernel() {
        assert_eq!([0, 5, 500, 2000].map(quota_us), [1000, 1000, 50_000, 200_000]);
    }

    #[test]
    fn v1_limits_are_written_in_the_order_the_kernel_takes() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let (memory, both) = (dir.path().join("memory"), dir.path().join("both"));
        let write = |path: &Path, value: &str| fs::write(path, value).expect("writes");
        write(&memory, "100");
        write(&both, "100");
        set_memory_v1(&memory, Some(&both), 100, Some(200)).expect("grows");
        assert_eq!((read(&memory), read(&both)), (Some("200".into()), Some("200".into())));
        set_memory_v1(&memory, None, 200, None).expect("without swap accounting");
        assert_eq!(read(&memory), Some("-1".into()));
        // A limit for both that is refused leaves the other as it was.
        write(&memory, "200");
        let absent = dir.path().join("absent/both");
        set_memory_v1(&memory, Some(&absent), 200, Some(50)).expect_err("no such directory");
        assert_eq!(read(&memory), Some("200".into()));
    }
}
