//! The lab's machines as `VagrantConfig.yaml` describes them: read, completed, checked.
//!
//! The same rules as in `tests/lab/lab.rb`, so that one file does for both.

use super::error::LabError;
use saphyr::{LoadableYamlNode, Mapping, Scalar, Yaml};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

const KEYS: [&str; 6] = ["ip", "cpus", "memory", "memory-reserved", "type", "aliases"];
/// The machine that installed the others; here nothing has to be installed.
const UNNECESSARY: &str = "boot";
const CPUS: u32 = 1;
const CPUS_MAX: u32 = 64;
const MEMORY_MIB: u32 = 256;
/// Less, and the kernel has no room to unpack itself.
const MEMORY_MIB_MIN: u32 = 128;
const MEMORY_MIB_MAX: u32 = 1 << 20;
/// The network where nobody gave an address.
const NETWORK: Ipv4Addr = Ipv4Addr::new(192, 168, 57, 0);
/// Where addresses that nobody gave are taken from.
const FREE: std::ops::RangeInclusive<u8> = 200..=254;

/// What a machine is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    Full,
    Master,
    AgentPrivate,
    AgentPublic,
}

impl Kind {
    const ALL: [Kind; 4] = [Kind::Full, Kind::Master, Kind::AgentPrivate, Kind::AgentPublic];

    /// As it is written in the file.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Full => "full",
            Kind::Master => "master",
            Kind::AgentPrivate => "agent-private",
            Kind::AgentPublic => "agent-public",
        }
    }

    /// The role its node runs in.
    pub fn role(self) -> &'static str {
        match self {
            Kind::Full => "auto",
            Kind::Master => "master",
            Kind::AgentPrivate | Kind::AgentPublic => "agent",
        }
    }

    /// Whether it votes. Who votes may found the cluster, too: of several, they agree on one.
    pub fn votes(self) -> bool {
        matches!(self, Kind::Full | Kind::Master)
    }

    /// Whether it runs apps.
    pub fn works(self) -> bool {
        self != Kind::Master
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A machine of the lab.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    pub name: String,
    pub ip: Ipv4Addr,
    pub cpus: u32,
    pub memory_mib: u32,
    /// Of its memory, what is not offered to apps.
    pub reserved_mib: u32,
    #[serde(rename = "type")]
    pub kind: Kind,
    pub aliases: Vec<String>,
}

/// The network of 256 addresses that an address is in.
pub fn network_of(ip: Ipv4Addr) -> Ipv4Addr {
    let [a, b, c, _] = ip.octets();
    Ipv4Addr::new(a, b, c, 0)
}

/// An address in a network of 256.
pub fn address_in(network: Ipv4Addr, last: u8) -> Ipv4Addr {
    let [a, b, c, _] = network.octets();
    Ipv4Addr::new(a, b, c, last)
}

/// Read the machines of a file, in its order.
///
/// # Errors
/// It cannot be read, or says something that cannot be meant; the text names the place and what to
/// write.
pub fn read(path: &Path) -> Result<Vec<Machine>, LabError> {
    let place = path.display().to_string();
    let text = fs::read_to_string(path).map_err(|error| LabError::Config {
        place: place.clone(),
        text: format!("{error}; name the file of the lab's machines with --config FILE"),
    })?;
    parse(&text, &place)
}

/// Parse the machines of a file called `place`.
///
/// # Errors
/// As [`read`].
pub fn parse(text: &str, place: &str) -> Result<Vec<Machine>, LabError> {
    let wrong = |text: String| LabError::Config { place: place.into(), text };
    let form = || wrong("write one machine a line, for example `m1: {type: master}`".into());
    let documents = Yaml::load_from_str(text).map_err(|error| wrong(error.to_string()))?;
    let machines = documents.first().and_then(Yaml::as_mapping).ok_or_else(form)?;
    if machines.is_empty() {
        return Err(form());
    }
    let mut drafts = Vec::new();
    for (name, given) in machines {
        let name = written(name).ok_or_else(form)?;
        drafts.extend(Draft::read(&name, given).map_err(|text| wrong(format!("{name}: {text}")))?);
    }
    with_addresses(drafts).map_err(wrong)
}

/// A machine whose address may be missing.
struct Draft {
    ip: Option<Ipv4Addr>,
    machine: Machine,
}

/// Fields of a machine, with what to say of a bad one.
struct Fields<'y>(Option<&'y Mapping<'y>>);

impl<'y> Fields<'y> {
    /// A field that is there and not empty.
    fn get(&self, key: &str) -> Option<&'y Yaml<'y>> {
        let found = |(name, value): (&'y Yaml<'y>, &'y Yaml<'y>)| {
            (name.as_str() == Some(key) && !value.is_null()).then_some(value)
        };
        self.0?.iter().find_map(found)
    }

    fn wrong(&self, key: &str, form: &str) -> String {
        let value = self.get(key).map_or_else(|| "empty".into(), shown);
        format!("{key} is {value}; {form}")
    }

    fn count(&self, key: &str, default: u32, least: u32, most: u32) -> Result<u32, String> {
        let Some(value) = self.get(key) else { return Ok(default) };
        let number = value.as_integer().and_then(|number| u32::try_from(number).ok());
        number.filter(|number| (least..=most).contains(number)).ok_or_else(|| {
            self.wrong(key, &format!("write a number of at least {least} and at most {most}"))
        })
    }

    fn check_keys(&self) -> Result<(), String> {
        let names = self.0.into_iter().flat_map(|fields| fields.keys());
        let unknown = names.map(|name| written(name).unwrap_or_else(|| shown(name)));
        match unknown.into_iter().find(|name| !KEYS.contains(&name.as_str())) {
            Some(name) => Err(format!("unknown key {name}; there are {}", KEYS.join(", "))),
            None => Ok(()),
        }
    }

    fn ip(&self) -> Result<Option<Ipv4Addr>, String> {
        let Some(value) = self.get("ip") else { return Ok(None) };
        let ip = value.as_str().and_then(|text| text.parse::<Ipv4Addr>().ok());
        let host = |ip: &Ipv4Addr| {
            let outside = ip.is_unspecified() || ip.is_loopback() || ip.is_multicast();
            !outside && !ip.is_broadcast() && (1..=254).contains(&ip.octets()[3])
        };
        let ip = ip.filter(host);
        ip.map(Some).ok_or_else(|| self.wrong("ip", "write an IPv4 address, like 192.168.57.90"))
    }

    /// Its type; none: a machine that is not needed.
    fn kind(&self) -> Result<Option<Kind>, String> {
        let Some(value) = self.get("type") else { return Ok(Some(Kind::Full)) };
        if value.as_str() == Some(UNNECESSARY) {
            return Ok(None);
        }
        let known = Kind::ALL.into_iter().find(|kind| value.as_str() == Some(kind.name()));
        let names = Kind::ALL.map(Kind::name).join(", ");
        known.map(Some).ok_or_else(|| self.wrong("type", &format!("write one of {names}")))
    }

    fn aliases(&self) -> Result<Vec<String>, String> {
        let Some(value) = self.get("aliases") else { return Ok(Vec::new()) };
        let good = |name: &String| {
            let letter = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
            !name.is_empty() && name.chars().all(letter)
        };
        let name = |one: &Yaml<'_>| written(one).filter(good);
        let names = value.as_sequence().and_then(|list| list.iter().map(name).collect());
        names.ok_or_else(|| self.wrong("aliases", "write a list of host names, like [a.test]"))
    }
}

impl Draft {
    /// Read one machine; none where it is not needed. Gives what is wrong with it.
    fn read(name: &str, given: &Yaml<'_>) -> Result<Option<Draft>, String> {
        if !is_name(name) {
            return Err("a name has letters, digits and '-' in between, 63 at most".into());
        }
        if !given.is_null() && given.as_mapping().is_none() {
            return Err("write {key: value, ...}".into());
        }
        let fields = Fields(given.as_mapping());
        fields.check_keys()?;
        let (kind, ip) = (fields.kind()?, fields.ip()?);
        let memory_mib = fields.count("memory", MEMORY_MIB, MEMORY_MIB_MIN, MEMORY_MIB_MAX)?;
        let reserved_mib = fields.count("memory-reserved", 0, 0, MEMORY_MIB_MAX)?;
        if reserved_mib >= memory_mib {
            let form = format!("it must leave some of the {memory_mib} MiB of memory");
            return Err(fields.wrong("memory-reserved", &form));
        }
        let cpus = fields.count("cpus", CPUS, 1, CPUS_MAX)?;
        let aliases = fields.aliases()?;
        let machine = |kind| Machine {
            name: name.into(),
            ip: Ipv4Addr::UNSPECIFIED,
            cpus,
            memory_mib,
            reserved_mib,
            kind,
            aliases,
        };
        Ok(kind.map(|kind| Draft { ip, machine: machine(kind) }))
    }
}

fn is_name(text: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let edges = !text.starts_with('-') && !text.ends_with('-');
    (1..=63).contains(&text.len()) && edges && text.chars().all(good)
}

/// See to it that every machine has an address, and that all can hear each other.
fn with_addresses(drafts: Vec<Draft>) -> Result<Vec<Machine>, String> {
    let mut taken = BTreeSet::new();
    let given: Vec<_> = drafts.iter().filter_map(|draft| draft.ip).collect();
    if let Some(twice) = given.iter().find(|ip| !taken.insert(**ip)) {
        return Err(format!("ip {twice} is given to two machines; give one of them another"));
    }
    let networks: BTreeSet<_> = given.iter().copied().map(network_of).collect();
    if networks.len() > 1 {
        let networks: Vec<_> = networks.iter().map(ToString::to_string).collect();
        return Err(format!(
            "the machines find each other in one network of 256 addresses only, and these are in \
             {}; change the ip of some",
            networks.join(" and ")
        ));
    }
    let network = networks.first().copied().unwrap_or(NETWORK);
    let mut free = FREE.map(|last| address_in(network, last)).filter(move |ip| !taken.contains(ip));
    let mut named = |draft: Draft| -> Result<Machine, String> {
        let name = &draft.machine.name;
        let none = || format!("no address is left for {name}; give it an ip");
        let ip = draft.ip.or_else(|| free.next()).ok_or_else(none)?;
        Ok(Machine { ip, ..draft.machine })
    };
    drafts.into_iter().map(&mut named).collect()
}

/// A name that YAML may have taken for a number or a truth.
fn written(value: &Yaml<'_>) -> Option<String> {
    match value {
        Yaml::Value(Scalar::String(text)) => Some(text.to_string()),
        Yaml::Value(Scalar::Integer(number)) => Some(number.to_string()),
        Yaml::Value(Scalar::Boolean(yes)) => Some(yes.to_string()),
        _ => None,
    }
}

/// A value as a message names it.
fn shown(value: &Yaml<'_>) -> String {
    match value {
        Yaml::Value(Scalar::String(text)) => format!("{text:?}"),
        Yaml::Value(Scalar::FloatingPoint(number)) => number.to_string(),
        Yaml::Sequence(_) => "a list".into(),
        Yaml::Mapping(_) => "a table".into(),
        other => written(other).unwrap_or_else(|| "nothing".into()),
    }
}

#[cfg(test)]
mod tests;
