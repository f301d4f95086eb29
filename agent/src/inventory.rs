//! What this machine lends to tasks: measured once at start, overridden by the user's flags.
//!
//! Owns the texts of `--resources` and `--attributes`. It never looks at what is in use: that is
//! subtraction, and belongs to the offer.

mod parse;

pub use parse::{ParseError, ResourceOverrides, parse_attributes, parse_resources};

use bramble_core::model::{BYTES_PER_MIB, PortRange, Resources};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Memory kept for the system and bramble: a quarter, at most this many bytes.
pub const SYSTEM_MEM_BYTES_MAX: u64 = 512 * BYTES_PER_MIB;
/// Disk kept for the system, images and logs: a quarter, at most this many bytes.
pub const SYSTEM_DISK_BYTES_MAX: u64 = 5 * 1024 * BYTES_PER_MIB;
/// The ports lent when nothing else was said (Mesos' own default).
pub const PORTS_DEFAULT: PortRange = PortRange { begin: 31_000, end: 32_000 };
/// Attribute that tells users where memory limits are not enforced.
pub const ATTRIBUTE_NO_MEMORY_CGROUP: (&str, &str) = ("memory_limits", "soft");

#[derive(Debug, Error)]
pub enum InventoryError {
    #[error("reading {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{} has no line MemTotal", path.display())]
    NoMemTotal { path: PathBuf },
    #[error("asking for the size of the file system at {}", path.display())]
    FileSystem {
        path: PathBuf,
        #[source]
        source: nix::errno::Errno,
    },
}

/// What the machine lends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inventory {
    pub total: Resources,
    pub ports: Vec<PortRange>,
    /// False where the kernel offers no memory cgroup (Raspberry Pi OS by default): tasks run
    /// with soft limits there.
    pub memory_cgroup: bool,
}

/// Measure the machine; what the user said wins over what was found.
///
/// # Errors
/// When `/proc` or the file system of `data_dir` cannot be read.
pub fn measure(data_dir: &Path, said: &ResourceOverrides) -> Result<Inventory, InventoryError> {
    let mem_bytes = match said.mem_bytes {
        Some(bytes) => bytes,
        None => lent(total_memory(Path::new("/proc/meminfo"))?, SYSTEM_MEM_BYTES_MAX),
    };
    let disk_bytes = match said.disk_bytes {
        Some(bytes) => bytes,
        None => lent(total_disk(data_dir)?, SYSTEM_DISK_BYTES_MAX),
    };
    Ok(Inventory {
        total: Resources {
            cpus_milli: said.cpus_milli.unwrap_or_else(cores_milli),
            mem_bytes,
            disk_bytes,
            gpus: said.gpus.unwrap_or(0),
        },
        ports: said.ports.clone().unwrap_or_else(|| vec![PORTS_DEFAULT]),
        memory_cgroup: has_memory_cgroup(Path::new("/proc"), Path::new("/sys/fs/cgroup")),
    })
}

/// What is left of `total` after a quarter, but no more than `kept_max`, is kept back.
fn lent(total: u64, kept_max: u64) -> u64 {
    total - (total / 4).min(kept_max)
}

fn cores_milli() -> u64 {
    // Asking fails only where affinity cannot be read; one core is what any machine has.
    std::thread::available_parallelism().map_or(1, |n| n.get() as u64) * 1000
}

fn total_memory(path: &Path) -> Result<u64, InventoryError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| InventoryError::Read { path: path.to_path_buf(), source })?;
    text.lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.trim().strip_suffix("kB"))
        .and_then(|kib| kib.trim().parse::<u64>().ok())
        .map(|kib| kib * 1024)
        .ok_or_else(|| InventoryError::NoMemTotal { path: path.to_path_buf() })
}

// The width of statvfs' fields differs between 32- and 64-bit machines.
#[allow(clippy::useless_conversion, clippy::unnecessary_cast)]
fn total_disk(path: &Path) -> Result<u64, InventoryError> {
    // The size, not what is free: what an agent lends must not differ from start to start.
    let found = nix::sys::statvfs::statvfs(path)
        .map_err(|source| InventoryError::FileSystem { path: path.to_path_buf(), source })?;
    Ok((found.blocks() as u64).saturating_mul(found.fragment_size() as u64))
}

/// Whether a memory controller exists, on the unified hierarchy or one of its own.
fn has_memory_cgroup(proc: &Path, cgroup: &Path) -> bool {
    if let Ok(text) = std::fs::read_to_string(cgroup.join("cgroup.controllers"))
        && text.split_whitespace().any(|name| name == "memory")
    {
        return true;
    }
    // Columns: name, hierarchy, cgroups, enabled. Hierarchy 0 is an unmounted controller, which
    // on a pure v2 machine was answered above.
    std::fs::read_to_string(proc.join("cgroups")).is_ok_and(|text| {
        text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).any(|columns| {
            matches!(columns.as_slice(), ["memory", hierarchy, _, "1"] if *hierarchy != "0")
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_is_kept_back_up_to_a_bound() {
        let mib = BYTES_PER_MIB;
        assert_eq!(lent(1024 * mib, SYSTEM_MEM_BYTES_MAX), 768 * mib);
        assert_eq!(lent(8192 * mib, SYSTEM_MEM_BYTES_MAX), 7680 * mib);
        assert_eq!(lent(0, SYSTEM_MEM_BYTES_MAX), 0);
    }

    #[test]
    fn measures_this_machine_and_obeys_the_user() {
        let directory = tempfile::tempdir().unwrap();
        let found = measure(directory.path(), &ResourceOverrides::default()).unwrap();
        assert!(found.total.cpus_milli >= 1000);
        assert!(found.total.mem_bytes > 0);
        assert!(found.total.disk_bytes > 0);
        assert_eq!(found.ports, vec![PORTS_DEFAULT]);
        let said = parse_resources("cpus:0.5;mem:64;disk:10;gpus:1;ports:[5-6]").unwrap();
        let found = measure(Path::new("/nonexistent"), &said).unwrap();
        let total = Resources {
            cpus_milli: 500,
            mem_bytes: 64 * BYTES_PER_MIB,
            disk_bytes: 10 * BYTES_PER_MIB,
            gpus: 1,
        };
        assert_eq!((found.total, found.ports), (total, vec![PortRange { begin: 5, end: 6 }]));
    }

    #[test]
    fn tells_whether_memory_can_be_limited() {
        let head = "#subsys_name\thierarchy\tnum_cgroups\tenabled\n";
        let cases = [
            ("v2", Some("cpu memory pids\n"), "", true),
            ("v1", None, "memory\t9\t80\t1\n", true),
            ("hybrid", Some("\n"), "memory\t9\t80\t1\n", true),
            ("off by the kernel's command line", None, "memory\t0\t80\t0\n", false),
            ("nowhere", None, "cpu\t3\t1\t1\n", false),
        ];
        for (name, controllers, cgroups, expected) in cases {
            let directory = tempfile::tempdir().unwrap();
            if let Some(text) = controllers {
                std::fs::write(directory.path().join("cgroup.controllers"), text).unwrap();
            }
            std::fs::write(directory.path().join("cgroups"), format!("{head}{cgroups}")).unwrap();
            assert_eq!(has_memory_cgroup(directory.path(), directory.path()), expected, "{name}");
        }
    }
}
