//! Machines on a switch: real nodes whose cables, addresses and power the test holds.
//!
//! Owns the hosts and what happens to them; what bramble should make of it is the tests' concern.

mod places;
mod register;
mod switch;

use crate::{Node, NodeBuilder, has_tools};
use nix::sys::signal::Signal;
use places::Places;
pub use register::{Clients, INITIAL};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use switch::Switch;

/// What a lab needs of the machine, besides root.
const TOOLS: [&str; 4] = ["ip", "nft", "tc", "nsenter"];

/// A machine that is to stand in a lab.
#[derive(Clone, Debug)]
pub struct Host {
    name: String,
    builder: NodeBuilder,
    nat: bool,
}

/// Machines and the switch between them. Dropped, nothing of it is left.
pub struct Lab {
    // Dropped in this order: nodes, cables, the room they took.
    hosts: Vec<Node>,
    plans: Vec<Host>,
    /// Processes that hold the hosts' networks; for clients, who see hosts rebooted.
    networks: Arc<Vec<AtomicU32>>,
    addresses: Vec<String>,
    switch: Switch,
    _places: Places,
}

impl Host {
    /// A machine that starts bramble with this verb.
    pub fn new(name: &str, verb: &str) -> Self {
        let builder = Node::builder().name(name).role(verb).own_boot();
        Self { name: name.into(), builder, nat: false }
    }

    /// Add an argument.
    pub fn arg(mut self, argument: &str) -> Self {
        self.builder = self.builder.arg(argument);
        self
    }

    /// Set a variable of its environment.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.builder = self.builder.env(name, value.as_ref());
        self
    }

    /// Give it a first network card with an address that every such host has.
    pub fn nat(mut self) -> Self {
        self.nat = true;
        self
    }
}

/// Whether labs can be set up here. With `CI=true` they must.
pub fn can_set_up(test: &str) -> bool {
    crate::can_run_containers(test) && has_tools(test, &TOOLS)
}

impl Lab {
    /// Set the hosts up, cabled and with addresses of one network. Starts no bramble.
    pub fn new(plans: Vec<Host>) -> Self {
        let places = Places::take(plans.len());
        let hosts: Vec<Node> = plans.iter().map(|plan| plan.builder.clone().prepare()).collect();
        let networks = hosts.iter().map(|host| AtomicU32::new(host.network_pid())).collect();
        let addresses = (0..hosts.len()).map(|host| address(0, host)).collect();
        let switch = Switch::new();
        let networks = Arc::new(networks);
        let lab = Self { hosts, plans, networks, addresses, switch, _places: places };
        for host in 0..lab.hosts.len() {
            lab.switch.plug(host, lab.hosts[host].network_pid(), lab.plans[host].nat);
        }
        lab.hand_out(&(0..lab.hosts.len()).collect::<Vec<_>>());
        lab
    }

    fn pid(&self, host: usize) -> u32 {
        self.hosts[host].network_pid()
    }

    fn hand_out(&self, hosts: &[usize]) {
        let given = |host: &usize| (self.pid(*host), format!("{}/24", self.addresses[*host]));
        switch::renumber(&hosts.iter().map(given).collect::<Vec<_>>());
    }

    /// All hosts, by number.
    pub fn everyone(&self) -> std::ops::Range<usize> {
        0..self.hosts.len()
    }

    pub fn node(&self, host: usize) -> &Node {
        &self.hosts[host]
    }

    pub fn node_mut(&mut self, host: usize) -> &mut Node {
        &mut self.hosts[host]
    }

    /// The host called so.
    pub fn named(&self, name: &str) -> usize {
        let found = self.plans.iter().position(|plan| plan.name == name);
        found.unwrap_or_else(|| panic!("no host is called {name}"))
    }

    pub fn address(&self, host: usize) -> &str {
        &self.addresses[host]
    }

    /// Holders of the hosts' networks, kept current.
    pub fn networks(&self) -> Arc<Vec<AtomicU32>> {
        self.networks.clone()
    }

    /// Start bramble on hosts, without waiting.
    pub fn start(&mut self, hosts: impl IntoIterator<Item = usize>) {
        for host in hosts {
            self.hosts[host].spawn();
        }
    }

    /// Kill bramble alone; its executors and tasks go on.
    pub fn kill(&mut self, host: usize) {
        self.hosts[host].stop(Signal::SIGKILL);
    }

    /// Cut the power: not even a goodbye leaves the host.
    pub fn power_off(&mut self, host: usize) {
        self.switch.set_port(host, false);
        self.hosts[host].power_off();
    }

    /// Boot a host that was off, and start bramble there.
    pub fn power_on(&mut self, host: usize) {
        self.boot(host);
        self.hosts[host].spawn();
    }

    /// Boot a host that was off: a new kernel, the old disk. Starts no bramble.
    pub fn boot(&mut self, host: usize) {
        self.hosts[host].reboot();
        let pid = self.pid(host);
        self.networks[host].store(pid, Ordering::SeqCst);
        self.switch.plug(host, pid, self.plans[host].nat);
        self.hand_out(&[host]);
    }

    /// Pull a host's cable.
    pub fn cut(&self, host: usize) {
        self.switch.set_port(host, false);
    }

    /// Plug it in again.
    pub fn mend(&self, host: usize) {
        self.switch.set_port(host, true);
    }

    /// Lose what the host says, while it hears; or no more.
    pub fn mute(&self, host: usize, on: bool) {
        self.switch.mute(host, on);
    }

    /// Lose what is said to the host, while it is heard; or no more.
    pub fn deafen(&self, host: usize, on: bool) {
        self.switch.deafen(self.pid(host), on);
    }

    /// Split the hosts into camps that do not hear each other. A host in none hears all.
    pub fn split(&self, camps: &[&[usize]]) {
        for camp in camps {
            let others = camps.iter().filter(|other| *other != camp).flat_map(|other| other.iter());
            let others: Vec<usize> = others.copied().collect();
            for host in *camp {
                self.switch.ignore(self.pid(*host), &others);
            }
        }
    }

    /// Undo [`Lab::split`].
    pub fn unite(&self) {
        for host in self.everyone() {
            self.switch.ignore(self.pid(host), &[]);
        }
    }

    /// Give a host's cable so many kilobits per second each way; `None`: what it can.
    pub fn slow(&self, host: usize, kilobits: Option<u32>) {
        self.switch.slow(host, self.pid(host), kilobits);
    }

    /// Give all hosts addresses of another network, all at once.
    pub fn renumber(&mut self, network: u8) {
        self.addresses = self.everyone().map(|host| address(network, host)).collect();
        self.hand_out(&self.everyone().collect::<Vec<_>>());
    }

    /// Give each host the address that the next one had, all at once.
    pub fn rotate_addresses(&mut self) {
        self.addresses.rotate_left(1);
        self.hand_out(&self.everyone().collect::<Vec<_>>());
    }
}

fn address(network: u8, host: usize) -> String {
    format!("10.77.{network}.{}", host + 1)
}

impl Drop for Lab {
    fn drop(&mut self) {
        // Quicker than stopping six nodes in order, and what is left is the harness's to remove.
        for host in &mut self.hosts {
            host.power_off();
        }
    }
}
