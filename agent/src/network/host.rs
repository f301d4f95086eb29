//! What bridge containers need to know of their host: name servers, and ports already in use.
//!
//! Reads only.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// The host's resolver configuration.
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// The real name servers where systemd-resolved puts its own stub into [`RESOLV_CONF`].
const RESOLVED_CONF: &str = "/run/systemd/resolve/resolv.conf";
/// Asked when the host has no name server that a container could reach (a local cache only).
/// Two operators, so that the fall of one does not take DNS along.
const FALLBACK_NAMESERVERS: [&str; 2] = ["9.9.9.9", "1.1.1.1"];
/// The tables of sockets. `thread-self`, because a thread may be in another network namespace.
const SOCKET_TABLES: [(&str, &str); 4] = [
    ("/proc/thread-self/net/tcp", STATE_LISTEN),
    ("/proc/thread-self/net/tcp6", STATE_LISTEN),
    ("/proc/thread-self/net/udp", STATE_UNCONNECTED),
    ("/proc/thread-self/net/udp6", STATE_UNCONNECTED),
];
/// Socket states of those tables (include/net/tcp_states.h): TCP_LISTEN, TCP_CLOSE.
const STATE_LISTEN: &str = "0A";
const STATE_UNCONNECTED: &str = "07";

#[derive(Debug, Error)]
pub enum HostError {
    #[error("reading {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Write the `resolv.conf` of a bridge container: the host's name servers that are not loopback
/// addresses (those are the container itself), with the host's search list and options. Where the
/// host has only loopback ones, systemd-resolved's upstreams; failing that, 9.9.9.9 and 1.1.1.1.
pub fn resolv_conf() -> String {
    // A host without the file has no name servers; that is not the container's concern.
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    container_resolv_conf(&read(RESOLV_CONF), || read(RESOLVED_CONF))
}

fn container_resolv_conf(host: &str, upstream: impl FnOnce() -> String) -> String {
    let mut nameservers = reachable_nameservers(host);
    if nameservers.is_empty() {
        nameservers = reachable_nameservers(&upstream());
    }
    if nameservers.is_empty() {
        nameservers = FALLBACK_NAMESERVERS.map(str::to_string).to_vec();
    }
    let mut text: String =
        nameservers.iter().map(|server| format!("nameserver {server}\n")).collect();
    for line in host.lines().map(str::trim) {
        let key = line.split_whitespace().next();
        // `search .` is what systemd-resolved writes for "none".
        if matches!(key, Some("search" | "domain" | "options")) && line != "search ." {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

fn reachable_nameservers(text: &str) -> Vec<String> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            (words.next() == Some("nameserver")).then(|| words.next()).flatten()
        })
        // An IPv6 server with a zone (`fe80::1%eth0`) does not parse, and rightly: that interface
        // is not in the container.
        .filter(|server| server.parse::<std::net::IpAddr>().is_ok_and(|ip| !ip.is_loopback()))
        .map(str::to_string)
        .collect()
}

/// List the ports that something on this host listens on (TCP) or is bound to (UDP), ascending.
///
/// # Errors
/// When the kernel's socket tables cannot be read. A host without IPv6 is none.
pub fn occupied_ports() -> Result<Vec<u16>, HostError> {
    let mut ports = Vec::new();
    for (path, state) in SOCKET_TABLES {
        ports.extend(bound_ports(path, state)?);
    }
    ports.sort_unstable();
    ports.dedup();
    Ok(ports)
}

/// Like [`occupied_ports`], for one transport.
pub(super) fn occupied_ports_of(tcp: bool) -> Result<Vec<u16>, HostError> {
    let tables = if tcp { &SOCKET_TABLES[..2] } else { &SOCKET_TABLES[2..] };
    let mut ports = Vec::new();
    for (path, state) in tables {
        ports.extend(bound_ports(path, state)?);
    }
    Ok(ports)
}

fn bound_ports(path: &str, state: &str) -> Result<Vec<u16>, HostError> {
    match fs::read_to_string(path) {
        Ok(table) => Ok(table.lines().filter_map(|line| bound_port(line, state)).collect()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(HostError::Read { path: Path::new(path).to_path_buf(), source }),
    }
}

/// The local port of one line, if its socket is in this state (proc(5), `/proc/net/tcp`).
fn bound_port(line: &str, state: &str) -> Option<u16> {
    let mut words = line.split_whitespace();
    let local = words.nth(1)?;
    if words.nth(1)? != state {
        return None;
    }
    u16::from_str_radix(local.rsplit_once(':')?.1, 16).ok().filter(|port| *port != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, UdpSocket};

    #[test]
    fn loopback_nameservers_are_replaced() {
        let upstream = || "nameserver 192.168.1.1\n".to_string();
        for (host, want) in [
            ("nameserver 10.0.2.3\n", "nameserver 10.0.2.3\n"),
            ("nameserver 127.0.0.53\nnameserver 10.0.2.3\n", "nameserver 10.0.2.3\n"),
            (
                "# stub\nnameserver 127.0.0.53\noptions edns0 trust-ad\nsearch .\n",
                "nameserver 192.168.1.1\noptions edns0 trust-ad\n",
            ),
            ("nameserver ::1\nsearch lan\n", "nameserver 192.168.1.1\nsearch lan\n"),
            ("nameserver fe80::1%eth0\n", "nameserver 192.168.1.1\n"),
            ("", "nameserver 192.168.1.1\n"),
        ] {
            assert_eq!(container_resolv_conf(host, upstream), want, "{host:?}");
        }
        let nothing = container_resolv_conf("", String::new);
        assert_eq!(nothing, "nameserver 9.9.9.9\nnameserver 1.1.1.1\n");
    }

    #[test]
    fn lines_of_the_socket_tables_are_read() {
        let head = "  sl  local_address rem_address   st tx_queue rx_queue";
        let listen = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000";
        let open = "   1: 0100007F:1F91 0100007F:C0DE 01 00000000:00000000 00:00000000";
        let six = "   0: 00000000000000000000000000000000:0016 0000:0000 0A 0:0 00:0";
        let ports = |line| bound_port(line, STATE_LISTEN);
        assert_eq!(
            [head, listen, open, six, ""].map(ports),
            [None, Some(8080), None, Some(22), None]
        );
    }

    #[test]
    fn our_own_sockets_are_seen() {
        let tcp = TcpListener::bind("127.0.0.1:0").expect("binds");
        let udp = UdpSocket::bind("127.0.0.1:0").expect("binds");
        let tcp_port = tcp.local_addr().expect("bound").port();
        let udp_port = udp.local_addr().expect("bound").port();
        let all = occupied_ports().expect("reads");
        assert!(all.contains(&tcp_port) && all.contains(&udp_port));
        assert!(all.is_sorted());
        assert!(occupied_ports_of(true).expect("reads").contains(&tcp_port));
        assert!(occupied_ports_of(false).expect("reads").contains(&udp_port));
    }
}
