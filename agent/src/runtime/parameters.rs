//! Docker's `--parameter` options that an app may give (`container.docker.parameters`). Pure;
//! owns which are understood, and refuses the others by name instead of ignoring them.

use std::str::FromStr;
use thiserror::Error;

/// Options that change nothing here, and whose absence no app can notice.
const IGNORED: [&str; 9] = [
    "memory-swappiness",
    "memory-swap",
    "memory-reservation",
    "log-driver",
    "log-opt",
    "name",
    "rm",
    "pull",
    "init",
];

#[derive(Debug, PartialEq, Eq, Error)]
pub enum ParameterError {
    #[error("docker parameter {key:?} is not supported; remove it from the app")]
    Unknown { key: String },
    #[error("docker parameter {key:?} cannot be {value:?}: {expected}")]
    Value { key: String, value: String, expected: &'static str },
    #[error("docker parameter {key:?} needs a node that allows {flag}")]
    NotAllowed { key: String, flag: &'static str },
}

/// A resource limit of processes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ulimit {
    /// `RLIMIT_NOFILE` and such.
    pub kind: String,
    pub soft: u64,
    pub hard: u64,
}

/// The understood options.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parameters {
    pub env: Vec<(String, String)>,
    pub labels: Vec<(String, String)>,
    pub hostname: Option<String>,
    pub workdir: Option<String>,
    pub entrypoint: Option<Vec<String>>,
    pub user: Option<String>,
    pub groups: Vec<String>,
    /// Lines for `/etc/hosts`: name, address.
    pub hosts: Vec<(String, String)>,
    pub dns: Vec<String>,
    pub dns_search: Vec<String>,
    pub ulimits: Vec<Ulimit>,
    pub cap_add: Vec<String>,
    pub cap_drop: Vec<String>,
    pub read_only: bool,
    pub privileged: bool,
    pub shm_bytes: Option<u64>,
    pub pids_limit: Option<i64>,
    /// Path and mount options.
    pub tmpfs: Vec<(String, Vec<String>)>,
    /// Host path, container path, writable.
    pub volumes: Vec<(String, String, bool)>,
    pub sysctls: Vec<(String, String)>,
    pub stop_signal: Option<String>,
    pub oom_score_adj: Option<i32>,
}

impl Parameters {
    /// Understand an app's parameters, in order.
    ///
    /// # Errors
    /// The first option that is unknown or has a bad value.
    pub fn parse(given: &[(String, String)]) -> Result<Self, ParameterError> {
        let mut parsed = Self::default();
        for (key, value) in given {
            let key = key.trim_start_matches('-');
            if !IGNORED.contains(&key) {
                parsed.take(key, value.trim())?;
            }
        }
        Ok(parsed)
    }

    fn take(&mut self, key: &str, value: &str) -> Result<(), ParameterError> {
        let bad = |expected| ParameterError::Value {
            key: key.to_string(),
            value: value.to_string(),
            expected,
        };
        let text = || match value.is_empty() {
            true => Err(bad("it must not be empty")),
            false => Ok(value.to_string()),
        };
        match key {
            "env" | "e" => self.env.push(pair(value, '=').ok_or_else(|| bad("use NAME=value"))?),
            "label" | "l" => {
                let label = pair(value, '=').unwrap_or((value.to_string(), String::new()));
                self.labels.push(label);
            }
            "hostname" | "h" => self.hostname = Some(text()?),
            "workdir" | "w" => {
                let dir = Some(value).filter(|v| v.starts_with('/'));
                self.workdir = Some(dir.ok_or_else(|| bad("use an absolute path"))?.to_string());
            }
            "entrypoint" => {
                self.entrypoint = Some(match value.is_empty() {
                    true => Vec::new(),
                    false => vec![value.to_string()],
                });
            }
            "user" | "u" => self.user = Some(text()?),
            "group-add" => self.groups.push(text()?),
            "add-host" => self.hosts.push(pair(value, ':').ok_or_else(|| bad("use NAME:ADDRESS"))?),
            "dns" => {
                std::net::IpAddr::from_str(value).map_err(|_| bad("use an IP address"))?;
                self.dns.push(value.to_string());
            }
            "dns-search" => self.dns_search.push(text()?),
            "ulimit" => self.ulimits.push(ulimit(value).ok_or_else(|| bad("use NAME=SOFT:HARD"))?),
            "cap-add" => self.cap_add.push(capability(value)),
            "cap-drop" => self.cap_drop.push(capability(value)),
            "read-only" => self.read_only = flag(value).ok_or_else(|| bad("use true or false"))?,
            "privileged" => {
                self.privileged = flag(value).ok_or_else(|| bad("use true or false"))?
            }
            _ => return self.take_rarer(key, value, &bad),
        }
        Ok(())
    }

    fn take_rarer(
        &mut self,
        key: &str,
        value: &str,
        bad: &dyn Fn(&'static str) -> ParameterError,
    ) -> Result<(), ParameterError> {
        match key {
            "shm-size" => {
                self.shm_bytes = Some(bytes(value).ok_or_else(|| bad("use a size like 64m"))?)
            }
            "pids-limit" => {
                let limit = value.parse::<i64>().ok().filter(|l| *l >= -1 && *l != 0);
                self.pids_limit = Some(limit.ok_or_else(|| bad("use a number"))?);
            }
            "tmpfs" => {
                let (path, options) = value.split_once(':').unwrap_or((value, ""));
                if !path.starts_with('/') {
                    return Err(bad("use an absolute path"));
                }
                let options = options.split(',').filter(|o| !o.is_empty());
                self.tmpfs.push((path.to_string(), options.map(str::to_string).collect()));
            }
            "volume" | "v" => {
                self.volumes.push(volume(value).ok_or_else(|| bad("use /HOST:/CONTAINER[:ro]"))?)
            }
            "sysctl" => {
                // Namespaced ones only; the others would change the node.
                let known = |name: &str| name.starts_with("net.") || name.starts_with("fs.mqueue.");
                let setting = pair(value, '=').filter(|(name, _)| known(name));
                self.sysctls.push(setting.ok_or_else(|| bad("use net.* or fs.mqueue.*"))?);
            }
            "stop-signal" => self.stop_signal = Some(value.to_string()),
            "oom-score-adj" => {
                let score = value.parse::<i32>().ok().filter(|s| (0..=1000).contains(s));
                self.oom_score_adj = Some(score.ok_or_else(|| bad("use 0 to 1000"))?);
            }
            _ => return Err(ParameterError::Unknown { key: key.to_string() }),
        }
        Ok(())
    }
}

fn pair(text: &str, separator: char) -> Option<(String, String)> {
    let (name, value) = text.split_once(separator)?;
    (!name.is_empty()).then(|| (name.to_string(), value.to_string()))
}

fn flag(text: &str) -> Option<bool> {
    match text {
        "" | "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}

/// Canonical name of a capability: `net_admin` gives `CAP_NET_ADMIN`.
fn capability(text: &str) -> String {
    let upper = text.to_ascii_uppercase();
    if upper == "ALL" || upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") }
}

fn ulimit(text: &str) -> Option<Ulimit> {
    const KINDS: [&str; 15] = [
        "as",
        "core",
        "cpu",
        "data",
        "fsize",
        "locks",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "sigpending",
        "stack",
    ];
    let (kind, limits) = text.split_once('=')?;
    if !KINDS.contains(&kind) {
        return None;
    }
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    let limit = |text: &str| match text {
        "-1" | "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    };
    let (soft, hard) = (limit(soft)?, limit(hard)?);
    let kind = format!("RLIMIT_{}", kind.to_ascii_uppercase());
    (soft <= hard).then_some(Ulimit { kind, soft, hard })
}

/// A size with Docker's units: `64m`, `1g`, `512k`, `100`, `100b`.
fn bytes(text: &str) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    let lower = lower.strip_suffix('b').unwrap_or(&lower);
    let (number, shift) = match lower.as_bytes().last()? {
        b'k' => (&lower[..lower.len() - 1], 10),
        b'm' => (&lower[..lower.len() - 1], 20),
        b'g' => (&lower[..lower.len() - 1], 30),
        _ => (lower, 0),
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

fn volume(text: &str) -> Option<(String, String, bool)> {
    let mut parts = text.split(':');
    let (host, container) = (parts.next()?, parts.next()?);
    let writable = match parts.next() {
        None | Some("rw") => true,
        Some("ro") => false,
        Some(_) => return None,
    };
    let absolute = host.starts_with('/') && container.starts_with('/');
    (absolute && parts.next().is_none()).then(|| (host.into(), container.into(), writable))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pairs: &[(&str, &str)]) -> Result<Parameters, ParameterError> {
        let owned: Vec<(String, String)> =
            pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        Parameters::parse(&owned)
    }

    #[test]
    fn known_options_are_understood() {
        let got = parse(&[
            ("env", "A=b=c"),
            ("hostname", "web"),
            ("ulimit", "nofile=10:20"),
            ("cap-drop", "net_raw"),
            ("add-host", "db:10.0.0.1"),
            ("read-only", "true"),
            ("shm-size", "64m"),
            ("volume", "/a:/b:ro"),
            ("memory-swappiness", "0"),
            ("entrypoint", ""),
        ])
        .expect("parses");
        assert_eq!(got.env, [("A".to_string(), "b=c".to_string())]);
        let want = Ulimit { kind: "RLIMIT_NOFILE".into(), soft: 10, hard: 20 };
        assert_eq!(got.ulimits, [want]);
        assert_eq!(got.cap_drop, ["CAP_NET_RAW"]);
        assert_eq!(got.shm_bytes, Some(64 << 20));
        assert_eq!(got.volumes, [("/a".to_string(), "/b".to_string(), false)]);
        assert!(got.read_only);
        assert_eq!(got.entrypoint, Some(vec![]));
    }

    #[test]
    fn others_are_refused_by_name() {
        let unknown = parse(&[("gpus", "all")]).expect_err("unknown");
        assert!(unknown.to_string().contains("\"gpus\""), "{unknown}");
        for (key, value) in [
            ("env", "novalue"),
            ("ulimit", "nofile=20:10"),
            ("ulimit", "bogus=1"),
            ("workdir", "relative"),
            ("dns", "not-an-ip"),
            ("shm-size", "many"),
            ("sysctl", "kernel.panic=1"),
            ("volume", "name:/data"),
            ("pids-limit", "0"),
            ("oom-score-adj", "-1000"),
        ] {
            let got = parse(&[(key, value)]);
            assert!(matches!(got, Err(ParameterError::Value { .. })), "{key}={value}: {got:?}");
        }
    }
}
