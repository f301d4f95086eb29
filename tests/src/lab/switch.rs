//! An Ethernet switch: a bridge in a network namespace of its own, with a port for each host.
//!
//! Owns cables, addresses and what is wrong with them. Knows nothing of bramble.

use crate::namespace::anchor;
use std::io::Write;
use std::process::{Child, Command, Stdio};

/// The host's end of its cable.
pub const CARD: &str = "eth0";
/// A first card as VirtualBox gives every guest: the same address everywhere, leading nowhere.
pub const NAT_CARD: &str = "nat0";
const NAT_ADDRESS: &str = "10.0.2.15/24";
const NAT_GATEWAY: &str = "10.0.2.2";
/// Chains of ours see frames before any of bramble's.
const CHAIN: &str = "type filter hook ingress device \"DEVICE\" priority -500";

/// The switch. Dropped, its namespace and all cables are gone.
pub struct Switch {
    anchor: Child,
}

/// Run to the end; panics with what was said when it fails.
fn must(mut command: Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}: {said}", output.status);
}

/// A command in the network of `pid`.
fn inside(pid: u32, program: &str, arguments: &str) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/proc/{pid}/ns/net")).arg(program);
    command.args(arguments.split_whitespace());
    command
}

/// Replace the rules of `table` in the network of `pid`; none: remove them.
fn filter(pid: u32, table: &str, device: &str, rules: &[String]) {
    // Adding first makes the deletion succeed where there was none.
    let mut script = format!("add table netdev {table}\ndelete table netdev {table}\n");
    if !rules.is_empty() {
        let chain = CHAIN.replace("DEVICE", device);
        script +=
            &format!("add table netdev {table}\nadd chain netdev {table} in {{ {chain} ; }}\n");
        for rule in rules {
            script += &format!("add rule netdev {table} in {rule}\n");
        }
    }
    let mut command = inside(pid, "nft", "-f -");
    let mut child = command.stdin(Stdio::piped()).spawn().expect("nft starts");
    child.stdin.take().expect("piped").write_all(script.as_bytes()).expect("it reads");
    assert!(child.wait().expect("nft ends").success(), "{script}");
}

impl Switch {
    /// An empty switch. Multicast goes to every port, as on a switch that snoops nothing.
    pub fn new() -> Self {
        let switch = Self { anchor: anchor(None) };
        switch.run("ip", "link add br0 type bridge mcast_snooping 0 forward_delay 0");
        switch.run("ip", "link set br0 up");
        switch
    }

    fn run(&self, program: &str, arguments: &str) {
        must(inside(self.anchor.id(), program, arguments));
    }

    /// The hardware address of a host.
    fn mac(host: usize) -> String {
        format!("02:b7:00:00:00:{:02x}", host + 1)
    }

    /// Plug in a host whose network `pid` holds; `nat` gives it another card first.
    pub fn plug(&self, host: usize, pid: u32, nat: bool) {
        // The cable of a host that was switched off stays until the kernel has cleared its network.
        let old = format!("link del p{host}");
        inside(self.anchor.id(), "ip", &old).stderr(Stdio::null()).status().expect("ip runs");
        let own = self.anchor.id();
        if nat {
            self.cable(&format!("n{host}"), pid, NAT_CARD);
            must(inside(pid, "ip", &format!("addr add {NAT_ADDRESS} dev {NAT_CARD}")));
            must(inside(pid, "ip", &format!("link set {NAT_CARD} up")));
            must(inside(pid, "ip", &format!("route add default via {NAT_GATEWAY}")));
        }
        let port = format!("p{host}");
        self.cable(&port, pid, CARD);
        must(inside(own, "ip", &format!("link set {port} master br0")));
        must(inside(pid, "ip", &format!("link set {CARD} address {}", Self::mac(host))));
        must(inside(pid, "ip", &format!("link set {CARD} up")));
    }

    /// A cable from this switch, not on the bridge yet.
    fn cable(&self, port: &str, pid: u32, card: &str) {
        let own = self.anchor.id();
        let ends = format!("link add {port} netns {own} type veth peer name {card} netns {pid}");
        must({
            let mut command = Command::new("ip");
            command.args(ends.split(' '));
            command
        });
        self.run("ip", &format!("link set {port} up"));
    }

    /// Pull or plug a host's cable at the switch.
    pub fn set_port(&self, host: usize, up: bool) {
        self.run("ip", &format!("link set p{host} {}", if up { "up" } else { "down" }));
    }

    /// What the host says is lost on the way; what it is told arrives.
    pub fn mute(&self, host: usize, on: bool) {
        let rules = if on { vec!["drop".to_string()] } else { Vec::new() };
        filter(self.anchor.id(), &format!("mute{host}"), &format!("p{host}"), &rules);
    }

    /// What the others say to the host (whose network `pid` holds) is lost: all of them, or none.
    pub fn deafen(&self, pid: u32, on: bool) {
        let rules = if on { vec!["drop".to_string()] } else { Vec::new() };
        filter(pid, "deaf", CARD, &rules);
    }

    /// Let a host (whose network `pid` holds) receive nothing from these others.
    pub fn ignore(&self, pid: u32, others: &[usize]) {
        let rule = |other: &usize| format!("ether saddr {} drop", Self::mac(*other));
        filter(pid, "ignored", CARD, &others.iter().map(rule).collect::<Vec<_>>());
    }

    /// Let so many kilobits through in a second, each way; `None` lifts it.
    pub fn slow(&self, host: usize, pid: u32, kilobits: Option<u32>) {
        for (network, device) in [(self.anchor.id(), format!("p{host}")), (pid, CARD.to_string())] {
            let what = match kilobits {
                Some(rate) => {
                    format!("replace dev {device} root tbf rate {rate}kbit burst 4kb latency 300ms")
                }
                None => format!("del dev {device} root"),
            };
            must(inside(network, "tc", &format!("qdisc {what}")));
        }
    }
}

impl Default for Switch {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        let _ = self.anchor.kill();
        let _ = self.anchor.wait();
    }
}

/// Give hosts new addresses, all of them at once. Each is a network's holder and an address with
/// the length of its prefix.
pub fn renumber(hosts: &[(u32, String)]) {
    let change = |(pid, address): &(u32, String)| {
        let script = format!(
            "ip addr flush dev {CARD} scope global && ip addr add {address} brd + dev {CARD}"
        );
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{pid}/ns/net")).args(["sh", "-ec", &script]);
        command.spawn().expect("sh starts")
    };
    let started: Vec<Child> = hosts.iter().map(change).collect();
    for mut child in started {
        assert!(child.wait().expect("sh ends").success(), "{hosts:?}");
    }
}
