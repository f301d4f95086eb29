//! Platforms: which one this machine is, and how well another fits it.
//!
//! Owns the preference among the entries of a multi-platform index. Never fetches one.

use std::fmt;

/// Operating system, processor and its variant in OCI terms (image-spec, "Image Index").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Platform {
    pub os: String,
    pub architecture: String,
    pub variant: Option<String>,
}

impl Platform {
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Platform {
        let variant = variant.filter(|v| !v.is_empty()).map(str::to_owned);
        Platform { os: os.to_owned(), architecture: architecture.to_owned(), variant }
    }

    /// Tells what this machine runs.
    ///
    /// The architecture is that of this binary, not of the kernel: a 32-bit user space on a
    /// 64-bit kernel is the only case where they differ, and 32-bit images always run there.
    pub fn host() -> Platform {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "x86" => "386",
            "aarch64" => "arm64",
            "powerpc64" => "ppc64le",
            "loongarch64" => "loong64",
            other => other,
        };
        let variant = (architecture == "arm").then(|| {
            let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
            arm_variant(&cpuinfo)
        });
        Platform::new("linux", architecture, variant)
    }

    /// Ranks how well an image for `offered` runs here: lower is better, `None` not at all.
    ///
    /// A smaller sibling is taken when nothing better is there: `arm/v6` on v7, `arm` on arm64,
    /// `386` on amd64.
    pub fn rank(&self, offered: &Platform) -> Option<u32> {
        if offered.os != self.os {
            return None;
        }
        match (self.architecture.as_str(), offered.architecture.as_str()) {
            ("arm", "arm") => arm_rank(arm_level(self)?, offered),
            // AArch64 kernels run AArch32 programs of every level.
            ("arm64", "arm") => arm_rank(8, offered).map(|rank| rank + 10),
            ("arm64", "arm64") => {
                matches!(offered.variant.as_deref(), None | Some("v8")).then_some(0)
            }
            // v2 and up use instructions that not every machine has.
            ("amd64", "amd64") => {
                matches!(offered.variant.as_deref(), None | Some("v1")).then_some(0)
            }
            ("amd64", "386") => Some(10),
            (here, there) => (here == there).then_some(0),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            // What every arm64 machine is; Docker leaves it out, too.
            Some(variant) if !(self.architecture == "arm64" && variant == "v8") => {
                write!(f, "/{variant}")
            }
            _ => Ok(()),
        }
    }
}

/// An unnamed variant of arm means v7 (containerd normalises it so).
fn arm_level(platform: &Platform) -> Option<u32> {
    match platform.variant.as_deref() {
        None => Some(7),
        Some(variant) => variant.strip_prefix('v')?.parse().ok(),
    }
}

fn arm_rank(here: u32, offered: &Platform) -> Option<u32> {
    here.checked_sub(arm_level(offered)?)
}

/// Reads the variant of a 32-bit ARM machine out of `/proc/cpuinfo`.
fn arm_variant(cpuinfo: &str) -> &'static str {
    let field = |name: &str| {
        cpuinfo.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.trim().eq_ignore_ascii_case(name).then(|| value.trim())
        })
    };
    let model = field("model name").or_else(|| field("processor")).unwrap_or_default();
    match field("CPU architecture") {
        // The Raspberry Pi 1 and Zero report 7 with a v6 core.
        Some(level) if level.starts_with('7') && model.starts_with("ARMv6") => "v6",
        Some(level) if level.starts_with('8') => "v8",
        Some(level) if level.starts_with('6') => "v6",
        Some(level) if level.starts_with('5') => "v5",
        _ => "v7",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        let mut parts = text.split('/');
        Platform::new(parts.next().unwrap(), parts.next().unwrap(), parts.next())
    }

    #[test]
    fn prefers_the_closest() {
        let cases = [
            ("linux/amd64", &["linux/arm64", "linux/amd64"][..], Some("linux/amd64")),
            ("linux/amd64", &["linux/386", "linux/amd64/v3"], Some("linux/386")),
            ("linux/amd64", &["windows/amd64"], None),
            ("linux/arm64", &["linux/arm/v7", "linux/arm64/v8"], Some("linux/arm64")),
            ("linux/arm64", &["linux/arm/v6", "linux/arm/v7"], Some("linux/arm/v7")),
            (
                "linux/arm/v7",
                &["linux/arm/v5", "linux/arm/v6", "linux/arm64"],
                Some("linux/arm/v6"),
            ),
            ("linux/arm/v7", &["linux/arm/v6", "linux/arm/v7"], Some("linux/arm/v7")),
            ("linux/arm/v6", &["linux/arm/v7", "linux/arm"], None),
            ("linux/arm/v6", &["linux/arm/v5", "linux/arm/v6"], Some("linux/arm/v6")),
            ("linux/riscv64", &["linux/riscv64"], Some("linux/riscv64")),
        ];
        for (here, offered, expected) in cases {
            let here = platform(here);
            let best = offered
                .iter()
                .map(|text| platform(text))
                .filter_map(|offer| here.rank(&offer).map(|rank| (rank, offer)))
                .min_by_key(|(rank, _)| *rank);
            assert_eq!(best.map(|(_, p)| p.to_string()).as_deref(), expected, "{here}");
        }
    }

    #[test]
    fn reads_arm_variants() {
        let cases = [
            ("model name\t: ARMv6-compatible processor rev 7 (v6l)\nCPU architecture: 7\n", "v6"),
            ("model name\t: ARMv7 Processor rev 4 (v7l)\nCPU architecture: 7\n", "v7"),
            ("processor\t: 0\nCPU architecture: 8\n", "v8"),
            ("CPU architecture: 5TEJ\n", "v5"),
            ("", "v7"),
        ];
        for (cpuinfo, expected) in cases {
            assert_eq!(arm_variant(cpuinfo), expected);
        }
    }

    #[test]
    fn the_host_fits_itself() {
        assert_eq!(Platform::host().rank(&Platform::host()), Some(0));
    }
}
