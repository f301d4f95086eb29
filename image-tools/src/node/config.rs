//! A node's `bramble.toml`, as its owner wrote it on a PC after flashing.
//!
//! Nothing in it keeps a node from booting: what is not understood is left out, and every such
//! place is told with its line and what to write instead. Nobody stands beside a node with a
//! keyboard.

mod check;
mod read;
mod template;

pub use template::TEMPLATE;

use read::{Reader, Value};
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

/// The settings of a node; what was not given is none of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeConfig {
    pub hostname: Option<String>,
    /// Shown, and decides nothing.
    pub cluster: Option<String>,
    pub token: Token,
    pub role: Role,
    pub attributes: BTreeMap<String, String>,
    pub wifi: Option<Wifi>,
    pub network: Network,
    pub ssh_keys: Vec<String>,
    /// For `/etc/bramble/bramble.toml`; its keys are bramble's affair.
    pub bramble: BTreeMap<String, Setting>,
}

/// A join token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Token {
    #[default]
    None,
    Given(String),
    /// One was meant to be given. A node that would found a cluster of its own for a slip of the
    /// pen could not join the right one afterwards, so it waits.
    Refused,
}

/// What the node runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    #[default]
    Auto,
    Master,
    Agent,
}

impl Role {
    /// The verb that runs it.
    pub fn verb(self) -> &'static str {
        match self {
            Role::Auto => "up",
            Role::Master => "master",
            Role::Agent => "agent",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wifi {
    pub ssid: String,
    /// None: an open network.
    pub password: Option<String>,
    /// Two letters; none: the channels that are allowed everywhere.
    pub country: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// The card that has the address; all others ask DHCP. None: the first one.
    pub interface: Option<String>,
    /// Address and length of its prefix; none: asked of DHCP.
    pub address: Option<(Ipv4Addr, u8)>,
    pub gateway: Option<Ipv4Addr>,
    pub dns: Vec<IpAddr>,
}

/// A value of `[bramble]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Setting {
    Text(String),
    Flag(bool),
    Number(i64),
}

impl fmt::Display for Setting {
    /// As TOML.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Setting::Text(text) => write!(f, "{}", quoted(text)),
            Setting::Flag(on) => write!(f, "{on}"),
            Setting::Number(number) => write!(f, "{number}"),
        }
    }
}

/// Write a text as TOML does.
pub fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out += &format!("\\u{:04x}", u32::from(c)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// What was left out, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// Counted from 1.
    pub line: usize,
    pub text: String,
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bramble.toml line {}: {}", self.line, self.text)
    }
}

impl NodeConfig {
    /// Read the file. Never fails: the second part says what of it was left out.
    pub fn parse(text: &str) -> (NodeConfig, Vec<Complaint>) {
        let (text, complaints) = read::repair(text);
        let mut reader = Reader::new(&text, complaints);
        let mut config = NodeConfig::default();
        for (key, value) in reader.top() {
            config.take(&mut reader, &key, &value);
        }
        config.agree(&mut reader);
        (config, reader.finish())
    }

    fn take(&mut self, reader: &mut Reader<'_>, key: &str, value: &Value<'_>) {
        match key {
            "hostname" => self.hostname = reader.text(value, check::hostname),
            "cluster" => self.cluster = reader.text(value, check::cluster),
            "token" => {
                // An empty one is how a template says that there is none.
                self.token = match value.as_text() {
                    Some("") => Token::None,
                    _ => reader.text(value, check::token).map_or(Token::Refused, Token::Given),
                }
            }
            "role" => self.role = reader.text(value, check::role).unwrap_or_default(),
            "attributes" => {
                for (name, value) in reader.table(value) {
                    if let Some(text) = reader.attribute(&name, &value) {
                        self.attributes.insert(name, text);
                    }
                }
            }
            "wifi" => self.wifi = take_wifi(reader, value),
            "network" => {
                for (key, value) in reader.table(value) {
                    self.network.take(reader, &key, &value);
                }
            }
            "ssh" => {
                for (key, value) in reader.table(value) {
                    match key.as_str() {
                        "keys" => self.ssh_keys = reader.list(&value, check::ssh_key),
                        _ => reader.unknown(&value, &["keys"]),
                    }
                }
            }
            "bramble" => {
                for (key, value) in reader.table(value) {
                    if let Some(setting) = reader.setting(&key, &value) {
                        self.bramble.insert(key, setting);
                    }
                }
            }
            _ => reader.unknown(
                value,
                &[
                    "hostname",
                    "cluster",
                    "token",
                    "role",
                    "attributes",
                    "wifi",
                    "network",
                    "ssh",
                    "bramble",
                ],
            ),
        }
    }

    /// What makes no sense together.
    fn agree(&mut self, reader: &mut Reader<'_>) {
        if let (None, Some(gateway)) = (self.network.address, self.network.gateway) {
            reader.complain_at_key(
                "gateway",
                format!(
                    "network.gateway is {gateway}, but there is no network.address; write both, or \
                     neither for DHCP"
                ),
            );
            self.network.gateway = None;
        }
        if let (Some(own), Some(gateway)) = (self.network.address, self.network.gateway)
            && !check::reaches(own, gateway)
        {
            let (address, prefix) = own;
            reader.complain_at_key(
                "gateway",
                format!(
                    "network.gateway is {gateway}; write another machine's address in the network \
                     of {address}/{prefix}"
                ),
            );
            self.network.gateway = None;
        }
        if let (None, Some(interface)) = (self.network.address, &self.network.interface) {
            reader.complain_at_key(
                "interface",
                format!(
                    "network.interface is \"{interface}\", but there is no network.address for it; \
                     write both, or neither for DHCP"
                ),
            );
            self.network.interface = None;
        }
    }
}

impl Network {
    fn take(&mut self, reader: &mut Reader<'_>, key: &str, value: &Value<'_>) {
        match key {
            "interface" => self.interface = reader.text(value, check::interface),
            "address" => self.address = reader.text(value, check::address),
            "gateway" => self.gateway = reader.text(value, check::gateway),
            "dns" => self.dns = reader.list(value, check::resolver),
            _ => reader.unknown(value, &["interface", "address", "gateway", "dns"]),
        }
    }
}

/// All of it or nothing: with a wrong password left out, the network would be taken for an open one.
fn take_wifi(reader: &mut Reader<'_>, value: &Value<'_>) -> Option<Wifi> {
    let mut wifi = Wifi { ssid: String::new(), password: None, country: None };
    let mut good = true;
    for (key, value) in reader.table(value) {
        match key.as_str() {
            "ssid" => match reader.text(&value, check::ssid) {
                Some(ssid) => wifi.ssid = ssid,
                None => good = false,
            },
            "password" => match value.as_text() {
                Some("") => wifi.password = None,
                _ => {
                    wifi.password = reader.secret(&value, check::wifi_password);
                    good &= wifi.password.is_some();
                }
            },
            "country" => wifi.country = reader.text(&value, check::country),
            _ => reader.unknown(&value, &["ssid", "password", "country"]),
        }
    }
    if good && wifi.ssid.is_empty() {
        let text = "wifi has no ssid; write the network's name, for example ssid = \"home\"";
        reader.complain(value, text.into());
    }
    (good && !wifi.ssid.is_empty()).then_some(wifi)
}

#[cfg(test)]
mod tests;
