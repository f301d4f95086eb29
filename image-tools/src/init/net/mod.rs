//! A node's network: every card that appears is switched on and gets an address, from the node's
//! file, from DHCP, or without anybody.

pub mod dhcp;
mod linklocal;
mod netlink;
mod wifi;

use super::console::say;
use super::service::{Services, Spec};
use crate::node::NodeConfig;
use dhcp::Lease;
use std::collections::BTreeSet;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

/// A file for each interface, with what is known of it.
pub const STATE_DIR: &str = "/run/net";
/// ARPHRD_ETHER: Ethernet and Wi-Fi.
const ETHERNET: &str = "1";

/// The cards that were set up.
#[derive(Default)]
pub struct Network {
    known: BTreeSet<String>,
    /// The one that has the address of the node's file.
    fixed: Option<String>,
    /// What a user must know.
    pub complaints: Vec<String>,
}

impl Network {
    /// Bring the loopback up.
    pub fn start() -> Self {
        let up =
            netlink::up("lo").and_then(|()| netlink::add_address("lo", Ipv4Addr::LOCALHOST, 8));
        if let Err(error) = up {
            say(&format!("lo: {error}"));
        }
        Self::default()
    }

    /// Set up the cards that are here and were not before; let go of those that left.
    pub fn look(&mut self, config: &NodeConfig, hostname: &str, services: &mut Services) {
        let here = cards();
        for gone in self.known.difference(&here).cloned().collect::<Vec<_>>() {
            self.known.remove(&gone);
            services.remove(&format!("dhcp {gone}"));
            services.remove(&format!("wifi {gone}"));
            let _ = fs::remove_file(Path::new(STATE_DIR).join(&gone));
            if self.fixed.as_ref() == Some(&gone) {
                self.fixed = None;
            }
            say(&format!("{gone} is gone"));
        }
        for card in here.difference(&self.known.clone()) {
            self.known.insert(card.clone());
            self.set_up(card, config, hostname, services);
        }
    }

    fn set_up(&mut self, card: &str, config: &NodeConfig, hostname: &str, services: &mut Services) {
        if is_wifi(card) {
            let Some(wifi) = &config.wifi else { return };
            match wifi::supplicant(card, wifi) {
                Ok(command) => {
                    services.add(Spec::background(&format!("wifi {card}"), command));
                }
                Err(reason) => return self.complaints.push(reason),
            }
        }
        if let Err(error) = netlink::up(card) {
            say(&format!("{card}: {error}"));
        }
        // A node that was given a Wi-Fi network has its address there, unless it says otherwise.
        let place = match &config.network.interface {
            Some(interface) => card == interface,
            None => is_wifi(card) == config.wifi.is_some(),
        };
        match config.network.address {
            Some(address) if place && self.fixed.is_none() => {
                self.fixed = Some(card.into());
                let lease = Lease {
                    address: Some(address),
                    gateway: config.network.gateway,
                    dns: config.network.dns.clone(),
                    ..Lease::default()
                };
                match dhcp::apply(card, &Lease::default(), &lease) {
                    Ok(()) => say(&format!("{card}: {}/{}", address.0, address.1)),
                    Err(error) => self.complaints.push(format!("{card}: {error}")),
                }
            }
            _ => {
                let command = dhcp::client(card, hostname);
                services.add(Spec::background(&format!("dhcp {card}"), command));
            }
        }
    }
}

/// Network cards: what has a device behind it. Bridges and the ends of containers have none.
fn cards() -> BTreeSet<String> {
    let Ok(entries) = fs::read_dir("/sys/class/net") else { return BTreeSet::new() };
    let is_card = |path: &Path| {
        let kind = fs::read_to_string(path.join("type")).unwrap_or_default();
        kind.trim() == ETHERNET && path.join("device").exists()
    };
    let cards = entries.flatten().filter(|entry| is_card(&entry.path()));
    cards.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

fn is_wifi(interface: &str) -> bool {
    let dir = Path::new("/sys/class/net").join(interface);
    dir.join("wireless").exists() || dir.join("phy80211").exists()
}

fn has_carrier(interface: &str) -> bool {
    let path = Path::new("/sys/class/net").join(interface).join("carrier");
    fs::read_to_string(path).is_ok_and(|text| text.trim() == "1")
}

/// The node's addresses as people read them: `192.168.1.5 (eth0)`.
pub fn addresses() -> Vec<(String, Ipv4Addr)> {
    let with = |(name, lease): (String, Lease)| lease.address.map(|(address, _)| (name, address));
    Lease::all().into_iter().filter_map(with).collect()
}
