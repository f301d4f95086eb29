//! Published ports by the kernel: one nftables table of our own, replaced as a whole.
//!
//! It touches no table of others, and so cannot undo another table's drop of forwarded packets.

use super::{PortMaps, PublishError, PublishFuture, Publisher, Transport};
use crate::network::address::Subnet;
use std::fmt::Write;
use std::fs;
use std::process::Stdio;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// The program; found by PATH, or where a PATH without sbin misses it.
const PROGRAMS: [&str; 3] = ["nft", "/usr/sbin/nft", "/sbin/nft"];

/// Publishes by destination NAT.
#[derive(Debug)]
pub struct NftPublisher {
    bridge: String,
    subnet: Subnet,
    table: String,
}

impl NftPublisher {
    /// A publisher for the containers on `bridge`.
    pub fn new(bridge: &str, subnet: Subnet) -> NftPublisher {
        NftPublisher { bridge: bridge.to_string(), subnet, table: table_name(bridge) }
    }

    /// The table's text. Numbers instead of names for priorities: nft 1.0.6 knows no `dstnat` in
    /// the output hook.
    fn script(&self, maps: &PortMaps) -> String {
        let (table, bridge, subnet) = (&self.table, &self.bridge, self.subnet);
        let tcp = map_text("tcp_ports", Transport::Tcp, maps);
        let udp = map_text("udp_ports", Transport::Udp, maps);
        let to_containers = "\
            fib daddr type local meta l4proto tcp dnat to tcp dport map @tcp_ports\n    \
            fib daddr type local meta l4proto udp dnat to udp dport map @udp_ports";
        // First chain: route_localnet lets the bridge carry packets from 127.0.0.1, and would let
        // a container reach the host's loopback services. Last chain: a container or the host's
        // loopback must see answers come back through the host; others keep their own address.
        format!(
            "\
table ip {table} {{}}
delete table ip {table}
table ip {table} {{
{tcp}{udp}  chain guard {{
    type filter hook prerouting priority -300; policy accept;
    iifname \"{bridge}\" ip daddr 127.0.0.0/8 drop
  }}
  chain incoming {{
    type nat hook prerouting priority -100; policy accept;
    {to_containers}
  }}
  chain local {{
    type nat hook output priority -100; policy accept;
    {to_containers}
  }}
  chain leaving {{
    type nat hook postrouting priority 100; policy accept;
    ip saddr {subnet} oifname != \"{bridge}\" masquerade
    ip saddr {subnet} oifname \"{bridge}\" ct status dnat masquerade
    ip saddr 127.0.0.0/8 oifname \"{bridge}\" ct status dnat masquerade
  }}
}}
"
        )
    }
}

impl Publisher for NftPublisher {
    fn name(&self) -> &'static str {
        "nftables"
    }

    fn replace(&self, maps: PortMaps) -> PublishFuture<'_> {
        Box::pin(async move {
            run(&self.table, &self.script(&maps)).await?;
            // After the table, whose guard keeps containers off the host's loopback.
            let path = format!("/proc/sys/net/ipv4/conf/{}/route_localnet", self.bridge);
            fs::write(&path, "1").map_err(|source| PublishError::Sysctl { path, source })
        })
    }

    fn close(&self) -> PublishFuture<'_> {
        let script = format!("table ip {0} {{}}\ndelete table ip {0}\n", self.table);
        Box::pin(async move {
            match run(&self.table, &script).await {
                // Without the program there was never a table.
                Err(PublishError::Run(e)) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
                other => other,
            }
        })
    }
}

fn table_name(bridge: &str) -> String {
    let word = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    format!("bramble_{}", bridge.chars().map(word).collect::<String>())
}

fn map_text(name: &str, transport: Transport, maps: &PortMaps) -> String {
    let mut elements = String::new();
    for ((_, port), to) in maps.iter().filter(|((kind, _), _)| *kind == transport) {
        let separator = if elements.is_empty() { "" } else { ", " };
        // Writing to a String cannot fail.
        let _ = write!(elements, "{separator}{port} : {} . {}", to.ip(), to.port());
    }
    let line =
        if elements.is_empty() { elements } else { format!("    elements = {{ {elements} }}\n") };
    format!("  map {name} {{\n    type inet_service : ipv4_addr . inet_service\n{line}  }}\n")
}

/// The first table of others that drops forwarded IPv4 packets by its policy, as Docker's and
/// many firewalls do. `None` also where nft does not tell.
pub async fn forwarding_dropped_by() -> Option<String> {
    let child = spawn(&["-j", "list", "chains"]).ok()?;
    let output = child.wait_with_output().await.ok()?;
    let listing: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
    dropping_table(&listing)
}

fn dropping_table(listing: &serde_json::Value) -> Option<String> {
    listing["nftables"].as_array()?.iter().map(|entry| &entry["chain"]).find_map(|chain| {
        let forwards = chain["hook"] == "forward" && chain["policy"] == "drop";
        let ipv4 = forwards && (chain["family"] == "ip" || chain["family"] == "inet");
        ipv4.then(|| chain["table"].as_str().map(str::to_string)).flatten()
    })
}

async fn run(table: &str, script: &str) -> Result<(), PublishError> {
    let mut child = spawn(&["-f", "-"]).map_err(PublishError::Run)?;
    let mut stdin = child.stdin.take().expect("stdin is piped below");
    let written = stdin.write_all(script.as_bytes()).await;
    drop(stdin);
    let output = child.wait_with_output().await.map_err(PublishError::Run)?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr).trim().to_string();
        return Err(PublishError::Refused { table: table.to_string(), message });
    }
    written.map_err(PublishError::Run)
}

fn spawn(arguments: &[&str]) -> std::io::Result<tokio::process::Child> {
    let mut missing = std::io::Error::from(std::io::ErrorKind::NotFound);
    for program in PROGRAMS {
        let spawned = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn();
        match spawned {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => missing = e,
            other => return other,
        }
    }
    Err(missing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, SocketAddrV4};

    #[test]
    fn table_names_hold_only_word_characters() {
        assert_eq!(table_name("bramble0"), "bramble_bramble0");
        assert_eq!(table_name("br-0.1"), "bramble_br_0_1");
    }

    #[test]
    fn a_table_that_drops_forwarded_packets_is_named() {
        let chain = |family: &str, hook: &str, policy: &str| {
            serde_json::json!({"nftables": [
                {"metainfo": {"version": "1.0.6"}},
                {"chain": {"family": "ip", "table": "nat", "name": "plain"}},
                {"chain": {"family": family, "table": "filter", "hook": hook, "policy": policy}},
            ]})
        };
        let named = |family, hook, policy| dropping_table(&chain(family, hook, policy));
        assert_eq!(named("ip", "forward", "drop").as_deref(), Some("filter"));
        assert_eq!(named("inet", "forward", "drop").as_deref(), Some("filter"));
        assert_eq!(named("ip", "forward", "accept"), None);
        assert_eq!(named("ip", "input", "drop"), None);
        assert_eq!(named("ip6", "forward", "drop"), None);
        assert_eq!(dropping_table(&serde_json::Value::Null), None);
    }

    #[test]
    fn maps_are_written_per_transport() {
        let to = |last, port| SocketAddrV4::new(Ipv4Addr::new(10, 9, 0, last), port);
        let maps = PortMaps::from([
            ((Transport::Tcp, 8080), to(2, 80)),
            ((Transport::Tcp, 8081), to(3, 80)),
            ((Transport::Udp, 53), to(2, 5353)),
        ]);
        let tcp = map_text("t", Transport::Tcp, &maps);
        assert!(tcp.contains("elements = { 8080 : 10.9.0.2 . 80, 8081 : 10.9.0.3 . 80 }"), "{tcp}");
        assert!(map_text("u", Transport::Udp, &maps).contains("{ 53 : 10.9.0.2 . 5353 }"));
        assert!(!map_text("t", Transport::Tcp, &PortMaps::new()).contains("elements"));
    }
}
