//! The lab's network: a namespace with a bridge that the machines hang on, and one cable from it
//! to this host, so that `curl` reaches them. It leads nowhere else: nodes need no internet.

use super::config::address_in;
use super::error::LabError;
use super::machine::command;
use super::settings::PREFIX_BITS;
use crate::disk::error::Doing;
use crate::disk::tool::run;
use serde::Deserialize;
use std::net::Ipv4Addr;
use std::path::Path;

const IP: &str = "ip";
const BRIDGE: &str = "lab0";
/// The host's cable, as it is called inside.
const INSIDE: &str = "host0";
const NAMESPACES: &str = "/run/netns";
/// A route to half of all addresses is a tunnel's way to say "default".
const DEFAULT_BITS_MAX: u8 = 1;

/// One lab's network.
pub struct Network {
    /// The name of its namespace.
    pub namespace: String,
    /// The cable's end on this host.
    cable: String,
    /// A network of 256 addresses.
    network: Ipv4Addr,
    /// This host's address in it.
    host: Ipv4Addr,
}

impl Network {
    /// The network of the lab with an id of a few letters.
    pub fn of(id: &str, network: Ipv4Addr, host: Ipv4Addr) -> Network {
        let (namespace, cable) = (format!("bramble-lab-{id}"), format!("blab-{id}"));
        Network { namespace, cable, network, host }
    }

    fn is_there(&self) -> bool {
        Path::new(NAMESPACES).join(&self.namespace).exists()
    }

    /// Make it, or what is missing of it.
    ///
    /// # Errors
    /// This host uses these addresses already, or the system does not allow it.
    pub fn make(&self) -> Result<(), LabError> {
        if !self.has_cable() {
            self.check_free()?;
        }
        if !self.is_there() {
            ip(&["netns", "add", &self.namespace])?;
        }
        let inside = ["-n", &self.namespace];
        let within = |words: &[&str]| ip(&[&inside[..], words].concat());
        if within(&["link", "show", BRIDGE]).is_err() {
            // Machines find each other by multicast from their first moment on.
            let bridge = ["type", "bridge", "forward_delay", "0", "mcast_snooping", "0"];
            within(&[&["link", "add", BRIDGE][..], &bridge].concat())?;
        }
        within(&["link", "set", "lo", "up"])?;
        within(&["link", "set", BRIDGE, "up"])?;
        if !self.has_cable() {
            let peer = ["peer", "name", INSIDE, "netns", &self.namespace];
            ip(&[&["link", "add", &self.cable, "type", "veth"][..], &peer].concat())?;
        }
        within(&["link", "set", INSIDE, "master", BRIDGE, "up"])?;
        let address = format!("{}/{PREFIX_BITS}", self.host);
        ip(&["addr", "replace", &address, "dev", &self.cable])?;
        ip(&["link", "set", &self.cable, "up"])?;
        Ok(())
    }

    fn has_cable(&self) -> bool {
        Path::new("/sys/class/net").join(&self.cable).exists()
    }

    /// Take it away, with what is left of it.
    ///
    /// # Errors
    /// The system says why not.
    pub fn remove(&self) -> Result<(), LabError> {
        if self.has_cable() {
            ip(&["link", "del", &self.cable])?;
        }
        if self.is_there() {
            ip(&["netns", "del", &self.namespace])?;
        }
        Ok(())
    }

    /// A new card's end on the bridge; gives its name.
    ///
    /// # Errors
    /// The system says why not.
    pub fn plug(&self, ip_of_machine: Ipv4Addr) -> Result<String, LabError> {
        self.unplug(ip_of_machine);
        let name = plug_name(ip_of_machine);
        let inside = ["-n", &self.namespace];
        ip(&[&inside[..], &["tuntap", "add", &name, "mode", "tap"]].concat())?;
        ip(&[&inside[..], &["link", "set", &name, "master", BRIDGE, "up"]].concat())?;
        Ok(name)
    }

    /// Remove a card's end. One that is not there is no mistake.
    pub fn unplug(&self, ip_of_machine: Ipv4Addr) {
        let name = plug_name(ip_of_machine);
        let _ = ip(&["-n", &self.namespace, "link", "del", &name]);
    }

    /// See to it that no address of the lab is this host's affair already.
    fn check_free(&self) -> Result<(), LabError> {
        let text = ip(&["-4", "-json", "route", "show", "table", "all"])?;
        let routes: Vec<Route> = serde_json::from_slice(&text)
            .map_err(std::io::Error::from)
            .doing(|| "reading this host's routes".into())?;
        let first = u32::from(self.network);
        match routes.iter().find(|route| route.dev != self.cable && route.meets(first)) {
            Some(Route { dst, dev }) => Err(LabError::refused(format!(
                "{}/{PREFIX_BITS} is in use on this host ({dst} by {}): give the lab's machines \
                 addresses of another network, for example {}",
                self.network,
                if dev.is_empty() { "no card" } else { dev },
                other(self.network)
            ))),
            None => Ok(()),
        }
    }
}

/// Of interfaces, 15 letters count.
fn plug_name(ip_of_machine: Ipv4Addr) -> String {
    format!("tap{}", ip_of_machine.octets()[3])
}

fn ip(words: &[&str]) -> Result<Vec<u8>, LabError> {
    Ok(run(command(IP).args(words))?)
}

/// A network that is perhaps free.
fn other(network: Ipv4Addr) -> Ipv4Addr {
    let [a, b, c, _] = network.octets();
    Ipv4Addr::new(a, b, c.wrapping_add(1), 0)
}

/// This host's address: the first one that no machine has.
pub fn host_address(network: Ipv4Addr, taken: &[Ipv4Addr]) -> Result<Ipv4Addr, LabError> {
    let mut free = (1..=254).map(|last| address_in(network, last)).filter(|ip| !taken.contains(ip));
    free.next().ok_or_else(|| LabError::refused("the machines leave no address for this host"))
}

/// A route of this host.
#[derive(Deserialize)]
struct Route {
    /// `default`, an address, or an address and its prefix.
    #[serde(default)]
    dst: String,
    #[serde(default)]
    dev: String,
}

impl Route {
    /// Whether it leads to addresses of a network of 256.
    fn meets(&self, network: u32) -> bool {
        let (address, bits) = self.dst.split_once('/').unwrap_or((&self.dst, "32"));
        let (Ok(address), Ok(bits)) = (address.parse::<Ipv4Addr>(), bits.parse::<u8>()) else {
            return false;
        };
        if bits <= DEFAULT_BITS_MAX || bits > 32 {
            return false;
        }
        let mask = u32::MAX << (32 - u32::from(bits.min(PREFIX_BITS)));
        (u32::from(address) ^ network) & mask == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_that_meet_are_found() {
        let network = u32::from(Ipv4Addr::new(192, 168, 57, 0));
        for (dst, meets) in [
            ("default", false),
            ("0.0.0.0/1", false),
            ("128.0.0.0/1", false),
            ("192.168.57.0/24", true),
            ("192.168.57.4", true),
            ("192.168.57.128/25", true),
            ("192.168.0.0/16", true),
            ("192.0.0.0/8", true),
            ("192.168.58.0/24", false),
            ("10.0.0.0/8", false),
            ("nonsense/x", false),
        ] {
            let route = Route { dst: dst.into(), dev: "eth0".into() };
            assert_eq!(route.meets(network), meets, "{dst}");
        }
    }

    #[test]
    fn this_host_takes_an_address_that_no_machine_has() {
        let network = Ipv4Addr::new(10, 0, 0, 0);
        let mut taken = Vec::new();
        for last in 1..=254 {
            assert_eq!(host_address(network, &taken).unwrap(), address_in(network, last));
            taken.push(address_in(network, last));
        }
        assert!(host_address(network, &taken).is_err());
        assert!(plug_name(taken[253]).len() <= 15);
    }
}
