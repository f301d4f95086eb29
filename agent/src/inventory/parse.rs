//! The texts of `--resources` and `--attributes`, as Mesos writes them.

use bramble_core::model::{BYTES_PER_MIB, PortRange};
use std::collections::{BTreeMap, BTreeSet};
use thiserror::Error;

/// What the user said the machine lends; `None` = measure it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResourceOverrides {
    pub cpus_milli: Option<u64>,
    pub mem_bytes: Option<u64>,
    pub disk_bytes: Option<u64>,
    pub gpus: Option<u32>,
    pub ports: Option<Vec<PortRange>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ParseError {
    #[error("'{0}' is not of the form name:value")]
    NotAPair(String),
    #[error("'{0}' is given twice")]
    Twice(String),
    #[error("resource '{0}' is not known; there are cpus, mem, disk, gpus and ports")]
    UnknownResource(String),
    #[error("{name} '{value}' is not a number of at least 0 with at most 3 decimals")]
    BadAmount { name: String, value: String },
    #[error("gpus '{0}' is not a whole number")]
    BadGpus(String),
    #[error("ports '{0}' are not of the form [31000-32000,33000-33010]")]
    BadPorts(String),
    #[error("port range {begin}-{end} is empty or begins at 0")]
    EmptyRange { begin: u16, end: u16 },
}

/// Read `cpus:2;mem:1024;disk:10240;ports:[31000-32000]`; mem and disk in MiB.
///
/// # Errors
/// Names the part that is wrong and what it should look like.
pub fn parse_resources(text: &str) -> Result<ResourceOverrides, ParseError> {
    let mut said = ResourceOverrides::default();
    let mut names = BTreeSet::new();
    for (name, value) in pairs(text)? {
        if !names.insert(name) {
            return Err(ParseError::Twice(name.into()));
        }
        match name {
            "cpus" => said.cpus_milli = Some(thousandths(name, value)?),
            "mem" => said.mem_bytes = Some(mebibytes(name, value)?),
            "disk" => said.disk_bytes = Some(mebibytes(name, value)?),
            "gpus" => {
                let gpus = value.parse().map_err(|_| ParseError::BadGpus(value.into()))?;
                said.gpus = Some(gpus);
            }
            "ports" => said.ports = Some(ports(value)?),
            _ => return Err(ParseError::UnknownResource(name.into())),
        }
    }
    Ok(said)
}

/// Read `rack:1;zone:a`.
///
/// # Errors
/// Names the part that is wrong.
pub fn parse_attributes(text: &str) -> Result<BTreeMap<String, String>, ParseError> {
    let mut attributes = BTreeMap::new();
    for (name, value) in pairs(text)? {
        if attributes.insert(name.to_string(), value.to_string()).is_some() {
            return Err(ParseError::Twice(name.into()));
        }
    }
    Ok(attributes)
}

fn pairs(text: &str) -> Result<Vec<(&str, &str)>, ParseError> {
    let parts = text.split(';').map(str::trim).filter(|part| !part.is_empty());
    parts
        .map(|part| {
            let pair = part.split_once(':').map(|(name, value)| (name.trim(), value.trim()));
            pair.filter(|(name, value)| !name.is_empty() && !value.is_empty())
                .ok_or_else(|| ParseError::NotAPair(part.into()))
        })
        .collect()
}

/// A decimal as thousandths, without floats: `0.1` must be exactly 100.
fn thousandths(name: &str, value: &str) -> Result<u64, ParseError> {
    let bad = || ParseError::BadAmount { name: name.into(), value: value.into() };
    let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || fraction.len() > 3 || !digits(whole) || !digits(fraction) {
        return Err(bad());
    }
    let whole: u64 = whole.parse().map_err(|_| bad())?;
    let fraction: u64 = format!("{fraction:0<3}").parse().map_err(|_| bad())?;
    whole.checked_mul(1000).and_then(|milli| milli.checked_add(fraction)).ok_or_else(bad)
}

fn mebibytes(name: &str, value: &str) -> Result<u64, ParseError> {
    let milli = u128::from(thousandths(name, value)?);
    u64::try_from(milli * u128::from(BYTES_PER_MIB) / 1000)
        .map_err(|_| ParseError::BadAmount { name: name.into(), value: value.into() })
}

fn ports(value: &str) -> Result<Vec<PortRange>, ParseError> {
    let bad = || ParseError::BadPorts(value.into());
    let inside = value.strip_prefix('[').and_then(|v| v.strip_suffix(']')).ok_or_else(bad)?;
    let mut ranges = Vec::new();
    for part in inside.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (begin, end) = part.split_once('-').unwrap_or((part, part));
        let port = |text: &str| text.trim().parse::<u16>().map_err(|_| bad());
        let (begin, end) = (port(begin)?, port(end)?);
        if begin == 0 || begin > end {
            return Err(ParseError::EmptyRange { begin, end });
        }
        ranges.push(PortRange { begin, end });
    }
    ranges.sort_unstable();
    // Overlaps would offer one port twice.
    let mut merged: Vec<PortRange> = Vec::new();
    for range in ranges {
        match merged.last_mut() {
            Some(last) if range.begin <= last.end => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    Ok(merged)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(begin: u16, end: u16) -> PortRange {
        PortRange { begin, end }
    }

    #[test]
    fn resources_are_read() {
        let none = ResourceOverrides::default;
        let cases = [
            ("", none()),
            ("cpus:2", ResourceOverrides { cpus_milli: Some(2000), ..none() }),
            (" cpus : 0.1 ; ", ResourceOverrides { cpus_milli: Some(100), ..none() }),
            ("cpus:1.125", ResourceOverrides { cpus_milli: Some(1125), ..none() }),
            ("mem:1024", ResourceOverrides { mem_bytes: Some(1 << 30), ..none() }),
            ("mem:0.5;disk:1", {
                ResourceOverrides { mem_bytes: Some(1 << 19), disk_bytes: Some(1 << 20), ..none() }
            }),
            ("ports:[]", ResourceOverrides { ports: Some(vec![]), ..none() }),
            ("ports:[31000-32000]", {
                ResourceOverrides { ports: Some(vec![range(31_000, 32_000)]), ..none() }
            }),
            ("gpus:1;ports:[80, 90-95,92-99]", {
                let ports = Some(vec![range(80, 80), range(90, 99)]);
                ResourceOverrides { gpus: Some(1), ports, ..none() }
            }),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_resources(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn wrong_resources_are_named() {
        let cases = [
            ("cpus", "'cpus' is not of the form name:value"),
            ("cpus:", "'cpus:' is not of the form name:value"),
            ("cpus:1;cpus:2", "'cpus' is given twice"),
            ("ram:4", "resource 'ram' is not known; there are cpus, mem, disk, gpus and ports"),
            ("cpus:-1", "cpus '-1' is not a number of at least 0 with at most 3 decimals"),
            ("cpus:1e3", "cpus '1e3' is not a number of at least 0 with at most 3 decimals"),
            ("mem:1.0001", "mem '1.0001' is not a number of at least 0 with at most 3 decimals"),
            ("mem:18446744073709551615", {
                "mem '18446744073709551615' is not a number of at least 0 with at most 3 decimals"
            }),
            ("gpus:0.5", "gpus '0.5' is not a whole number"),
            ("ports:1-2", "ports '1-2' are not of the form [31000-32000,33000-33010]"),
            ("ports:[1-70000]", "ports '[1-70000]' are not of the form [31000-32000,33000-33010]"),
            ("ports:[9-8]", "port range 9-8 is empty or begins at 0"),
            ("ports:[0-8]", "port range 0-8 is empty or begins at 0"),
        ];
        for (text, expected) in cases {
            let said = parse_resources(text).map_err(|error| error.to_string());
            assert_eq!(said, Err(expected.to_string()), "{text}");
        }
    }

    #[test]
    fn attributes_are_read() {
        let read = parse_attributes("rack:1; zone:a:b;").unwrap();
        let pairs: Vec<_> = read.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(pairs, [("rack", "1"), ("zone", "a:b")]);
        assert_eq!(parse_attributes("rack"), Err(ParseError::NotAPair("rack".into())));
        assert_eq!(parse_attributes("a:1;a:2"), Err(ParseError::Twice("a".into())));
    }
}
