//! Amounts: integers in base units, so that every replica adds them up alike.

use serde::{Deserialize, Serialize};

/// Bytes in the MiB that Marathon's `mem` and `disk` count.
pub const BYTES_PER_MIB: u64 = 1024 * 1024;
/// One million: the whole, where a ratio is stored as parts per million.
pub const PPM: u64 = 1_000_000;

/// What a task uses, or what an agent has, without ports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Thousandths of a core.
    pub cpus_milli: u64,
    /// Memory in bytes.
    pub mem_bytes: u64,
    /// Sandbox disk in bytes.
    pub disk_bytes: u64,
    /// Whole GPUs.
    pub gpus: u32,
}

impl Resources {
    /// Sum, held at the largest value.
    pub fn plus(&self, other: &Resources) -> Resources {
        Resources {
            cpus_milli: self.cpus_milli.saturating_add(other.cpus_milli),
            mem_bytes: self.mem_bytes.saturating_add(other.mem_bytes),
            disk_bytes: self.disk_bytes.saturating_add(other.disk_bytes),
            gpus: self.gpus.saturating_add(other.gpus),
        }
    }

    /// Difference, held at zero in each part.
    pub fn minus(&self, other: &Resources) -> Resources {
        Resources {
            cpus_milli: self.cpus_milli.saturating_sub(other.cpus_milli),
            mem_bytes: self.mem_bytes.saturating_sub(other.mem_bytes),
            disk_bytes: self.disk_bytes.saturating_sub(other.disk_bytes),
            gpus: self.gpus.saturating_sub(other.gpus),
        }
    }

    /// The larger of both in each part.
    pub fn covering(&self, other: &Resources) -> Resources {
        Resources {
            cpus_milli: self.cpus_milli.max(other.cpus_milli),
            mem_bytes: self.mem_bytes.max(other.mem_bytes),
            disk_bytes: self.disk_bytes.max(other.disk_bytes),
            gpus: self.gpus.max(other.gpus),
        }
    }

    /// Whether `need` fits into this in every part.
    pub fn holds(&self, need: &Resources) -> bool {
        self.cpus_milli >= need.cpus_milli
            && self.mem_bytes >= need.mem_bytes
            && self.disk_bytes >= need.disk_bytes
            && self.gpus >= need.gpus
    }
}

/// An inclusive range of port numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PortRange {
    pub begin: u16,
    pub end: u16,
}

impl PortRange {
    /// Whether `port` lies in the range.
    pub fn contains(&self, port: u16) -> bool {
        self.begin <= port && port <= self.end
    }
}

/// Remove single ports from ranges, splitting where needed. `taken` need not be sorted.
pub fn without_ports(ranges: &[PortRange], taken: &[u16]) -> Vec<PortRange> {
    let mut taken: Vec<u16> = taken.to_vec();
    taken.sort_unstable();
    taken.dedup();
    let mut out = Vec::new();
    for range in ranges {
        let mut begin = u32::from(range.begin);
        let end = u32::from(range.end);
        for &port in taken.iter().filter(|p| range.contains(**p)) {
            let port = u32::from(port);
            if port > begin {
                out.push(PortRange { begin: begin as u16, end: (port - 1) as u16 });
            }
            begin = port + 1;
        }
        if begin <= end {
            out.push(PortRange { begin: begin as u16, end: range.end });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(begin: u16, end: u16) -> PortRange {
        PortRange { begin, end }
    }

    #[test]
    fn taken_ports_split_ranges() {
        let all = [range(10, 15), range(20, 20), range(65_530, 65_535)];
        assert_eq!(
            without_ports(&all, &[15, 12, 20, 65_535, 9]),
            vec![range(10, 11), range(13, 14), range(65_530, 65_534)]
        );
        assert_eq!(without_ports(&all, &[]), all.to_vec());
        assert_eq!(without_ports(&[range(1, 2)], &[1, 2]), vec![]);
    }
}
