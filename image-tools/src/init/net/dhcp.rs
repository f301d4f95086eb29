//! What busybox's udhcpc calls when something happens to a lease.
//!
//! It is this same program under another name (`/run/dhcp-event`): no shell is needed, and what is
//! known of an interface stays in one form, a file per interface in `/run/net`.

use super::super::console::{self, say};
use super::super::tree::{RESOLV_CONF, put};
use super::{STATE_DIR, linklocal, netlink};
use crate::node::layout::{BUSYBOX, ROOT_INIT};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

/// The name under which udhcpc calls this program.
pub const EVENT: &str = "/run/dhcp-event";
/// Metrics of default routes: a cable before Wi-Fi.
pub const METRIC_WIRED: u32 = 100;
pub const METRIC_WIFI: u32 = 200;

/// What is known of an interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    pub address: Option<(Ipv4Addr, u8)>,
    pub gateway: Option<Ipv4Addr>,
    #[serde(default)]
    pub dns: Vec<IpAddr>,
    #[serde(default)]
    pub ntp: Vec<IpAddr>,
    /// Nobody gave it the address.
    #[serde(default)]
    pub own: bool,
}

impl Lease {
    fn path(interface: &str) -> PathBuf {
        Path::new(STATE_DIR).join(interface)
    }

    pub fn read(interface: &str) -> Lease {
        let text = fs::read_to_string(Self::path(interface)).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// Of every interface, by name.
    pub fn all() -> Vec<(String, Lease)> {
        let Ok(entries) = fs::read_dir(STATE_DIR) else { return Vec::new() };
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let mut all: Vec<_> = names.map(|name| (name.clone(), Lease::read(&name))).collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }

    /// Note it, and tell who resolves names.
    pub fn keep(&self, interface: &str) {
        let text = serde_json::to_string(self).unwrap_or_default();
        put(&Self::path(interface).to_string_lossy(), &text, 0o644);
        put(RESOLV_CONF, resolv_conf(&Lease::all()), 0o644);
    }
}

fn resolv_conf(leases: &[(String, Lease)]) -> String {
    let mut servers: Vec<IpAddr> = Vec::new();
    for server in leases.iter().flat_map(|(_, lease)| &lease.dns) {
        if !servers.contains(server) {
            servers.push(*server);
        }
    }
    // Resolvers read three.
    servers.iter().take(3).map(|server| format!("nameserver {server}\n")).collect()
}

/// The command that keeps an interface's lease.
pub fn client(interface: &str, hostname: &str) -> Vec<String> {
    if !Path::new(EVENT).exists() {
        let _ = std::os::unix::fs::symlink(ROOT_INIT, EVENT);
    }
    let name = format!("hostname:{hostname}");
    // Six questions in twelve seconds, a pause of twenty, and again, for ever.
    let words = [
        BUSYBOX, "udhcpc", "-f", "-i", interface, "-s", EVENT, "-x", &name, "-t", "6", "-T", "2",
        "-A", "20", "-O", "ntpsrv",
    ];
    words.map(String::from).to_vec()
}

/// Be udhcpc's script: `event` as its first argument, the rest in the environment.
pub fn event(event: &str) -> i32 {
    let variable = |name: &str| std::env::var(name).ok();
    let Some(interface) = variable("interface") else { return 1 };
    // udhcpc's own output is nobody's.
    console::open();
    let changed = match event {
        "deconfig" => netlink::up(&interface),
        "bound" | "renew" => bound(&interface, &parse(variable)),
        "leasefail" | "nak" => failed(&interface),
        _ => Ok(()),
    };
    if let Err(error) = changed {
        say(&format!("{interface}: {event}: {error}"));
    }
    // PID 1 looks again.
    let _ = kill(Pid::from_raw(1), Signal::SIGUSR1);
    0
}

fn parse(variable: impl Fn(&str) -> Option<String>) -> Lease {
    let list = |name: &str| -> Vec<IpAddr> {
        let text = variable(name).unwrap_or_default();
        text.split_ascii_whitespace().filter_map(|word| word.parse().ok()).collect()
    };
    let address = variable("ip").and_then(|text| text.parse().ok());
    let prefix = variable("mask").and_then(|text| text.parse().ok()).unwrap_or(24);
    let router = variable("router").unwrap_or_default();
    Lease {
        address: address.map(|address| (address, prefix)),
        gateway: router.split_ascii_whitespace().find_map(|word| word.parse().ok()),
        dns: list("dns"),
        ntp: list("ntpsrv"),
        own: false,
    }
}

fn bound(interface: &str, lease: &Lease) -> io::Result<()> {
    let before = Lease::read(interface);
    apply(interface, &before, lease)?;
    if before.address != lease.address
        && let Some((address, prefix)) = lease.address
    {
        say(&format!("{interface}: {address}/{prefix} by DHCP"));
    }
    Ok(())
}

/// Bring an interface from one state to another.
pub fn apply(interface: &str, before: &Lease, lease: &Lease) -> io::Result<()> {
    if let Some((old, prefix)) = before.address
        && before.address != lease.address
    {
        netlink::remove_address(interface, old, prefix)?;
    }
    if let Some((address, prefix)) = lease.address {
        netlink::add_address(interface, address, prefix)?;
    }
    if let Some(gateway) = lease.gateway {
        let metric = if super::is_wifi(interface) { METRIC_WIFI } else { METRIC_WIRED };
        netlink::default_route(interface, gateway, metric)?;
    }
    lease.keep(interface);
    Ok(())
}

fn failed(interface: &str) -> io::Result<()> {
    // A lease that cannot be renewed is over; the address may be another's by now.
    let before = Lease::read(interface);
    if before.own || !super::has_carrier(interface) {
        return Ok(());
    }
    let address = linklocal::take(interface)?;
    if let Some((old, prefix)) = before.address {
        netlink::remove_address(interface, old, prefix)?;
    }
    let lease =
        Lease { address: Some((address, linklocal::PREFIX)), own: true, ..Lease::default() };
    lease.keep(interface);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn udhcpcs_words_are_read() {
        let variables = [
            ("ip", "10.0.2.15"),
            ("mask", "22"),
            ("router", "10.0.2.2 10.0.2.9"),
            ("dns", "10.0.2.3 nonsense 10.0.2.4"),
        ];
        let variable = |name: &str| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_string())
        };
        let lease = parse(variable);
        assert_eq!(lease.address, Some((Ipv4Addr::new(10, 0, 2, 15), 22)));
        assert_eq!(lease.gateway, Some(Ipv4Addr::new(10, 0, 2, 2)));
        assert_eq!(lease.dns.len(), 2);
        assert_eq!(parse(|_| None), Lease::default());
        let text = serde_json::to_string(&lease).unwrap();
        assert_eq!(serde_json::from_str::<Lease>(&text).unwrap(), lease);
        let leases = [("eth0".to_string(), lease.clone()), ("wlan0".to_string(), lease)];
        assert_eq!(resolv_conf(&leases), "nameserver 10.0.2.3\nnameserver 10.0.2.4\n");
    }
}
