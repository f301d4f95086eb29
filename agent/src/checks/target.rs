//! Whom a check probes: an address, found from port indices, published ports and networks.

use bramble_core::model::{
    Check, CheckProbe, HealthCheck, HealthCheckKind, ReadinessProbe, TaskNetwork, TaskSpec,
};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HttpTarget {
    pub address: SocketAddr,
    pub tls: bool,
    /// Begins with `/`, holds nothing that would end the request line.
    pub path: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Http(HttpTarget),
    Tcp(SocketAddr),
    Command(String),
}

/// The target of a check; `None` where it names no port of its task.
///
/// A task on the bridge is probed at its own address: the published port is the same socket one
/// translation further, and loopback is not translated everywhere.
pub(super) fn target(check: &HealthCheck, spec: &TaskSpec, ip: Option<&str>) -> Option<Target> {
    use HealthCheckKind::{Command, Http, Https, MesosHttp, MesosHttps, MesosTcp, Tcp};
    match check.kind {
        Command => check.command.clone().map(Target::Command),
        Tcp | MesosTcp => address(check.port_index, check.port, spec, ip).map(Target::Tcp),
        Http | Https | MesosHttp | MesosHttps => Some(Target::Http(HttpTarget {
            address: address(check.port_index, check.port, spec, ip)?,
            tls: matches!(check.kind, Https | MesosHttps),
            path: request_path(check.path.as_deref()),
        })),
    }
}

/// The target of a readiness check.
pub(super) fn of_readiness(
    probe: &ReadinessProbe,
    spec: &TaskSpec,
    ip: Option<&str>,
) -> Option<HttpTarget> {
    Some(HttpTarget {
        address: address_of(probe.port, spec, ip)?,
        tls: probe.check.https,
        path: request_path(Some(&probe.check.path)),
    })
}

/// The target of a generic check.
pub(super) fn of_check(check: &Check, spec: &TaskSpec, ip: Option<&str>) -> Option<Target> {
    match &check.probe {
        CheckProbe::Exec { command } => Some(Target::Command(command.clone())),
        CheckProbe::Tcp { port_index, port } => {
            address(*port_index, *port, spec, ip).map(Target::Tcp)
        }
        CheckProbe::Http { path, port_index, port, https } => Some(Target::Http(HttpTarget {
            address: address(*port_index, *port, spec, ip)?,
            tls: *https,
            path: request_path(path.as_deref()),
        })),
    }
}

fn address(
    port_index: Option<u32>,
    port: Option<u16>,
    spec: &TaskSpec,
    ip: Option<&str>,
) -> Option<SocketAddr> {
    let index = usize::try_from(port_index.unwrap_or(0)).ok()?;
    let port = match port {
        Some(port) if port != 0 => port,
        _ => *spec.host_ports.get(index)?,
    };
    address_of(port, spec, ip)
}

fn address_of(port: u16, spec: &TaskSpec, ip: Option<&str>) -> Option<SocketAddr> {
    match &spec.network {
        TaskNetwork::Host => Some(SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
        TaskNetwork::Bridge(published) => {
            let ip: IpAddr = ip?.parse().ok()?;
            // A port that is not published is meant as the container's own.
            let inside = published.iter().find(|p| p.host_port == port);
            Some(SocketAddr::from((ip, inside.map_or(port, |p| p.container_port))))
        }
    }
}

fn request_path(path: Option<&str>) -> String {
    let mut text = String::from("/");
    for byte in path.unwrap_or_default().trim_start_matches('/').bytes() {
        match byte {
            0x21..=0x7e => text.push(char::from(byte)),
            // A raw space or line end would end the request line early.
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{assignment, check};
    use bramble_core::model::PublishedPort;

    #[test]
    fn targets_follow_ports_and_networks() {
        let host = TaskSpec { host_ports: vec![31_001, 31_002], ..assignment("a", true).spec };
        let published =
            PublishedPort { host_port: 31_001, container_port: 80, tcp: true, udp: false };
        let bridge = TaskSpec { network: TaskNetwork::Bridge(vec![published]), ..host.clone() };
        let with =
            |port_index, port| HealthCheck { port_index, port, ..check(HealthCheckKind::Tcp) };
        let cases = [
            ("index", &host, with(Some(1), None), Some("127.0.0.1:31002")),
            ("no index", &host, with(None, None), Some("127.0.0.1:31001")),
            ("beyond the ports", &host, with(Some(2), None), None),
            ("a port of its own", &host, with(None, Some(99)), Some("127.0.0.1:99")),
            ("port wins over index", &host, with(Some(1), Some(99)), Some("127.0.0.1:99")),
            ("published", &bridge, with(Some(0), None), Some("172.30.0.2:80")),
            ("published by number", &bridge, with(None, Some(31_001)), Some("172.30.0.2:80")),
            ("the container's own", &bridge, with(None, Some(8080)), Some("172.30.0.2:8080")),
        ];
        for (name, spec, check, expected) in cases {
            let expected = expected.map(|text| Target::Tcp(text.parse().unwrap()));
            assert_eq!(target(&check, spec, Some("172.30.0.2")), expected, "{name}");
        }
        assert_eq!(target(&with(Some(0), None), &bridge, None), None, "an address is needed");
    }

    #[test]
    fn kinds_and_paths() {
        let spec = TaskSpec { host_ports: vec![80], ..assignment("a", true).spec };
        let http = |kind, path: Option<&str>| {
            let check = HealthCheck { path: path.map(str::to_string), ..check(kind) };
            match target(&check, &spec, None) {
                Some(Target::Http(http)) => (http.tls, http.path),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(http(HealthCheckKind::Http, None), (false, "/".into()));
        assert_eq!(http(HealthCheckKind::MesosHttps, Some("/up?x=1")), (true, "/up?x=1".into()));
        assert_eq!(http(HealthCheckKind::Https, Some("a b\r\n")), (true, "/a%20b%0D%0A".into()));
        let command = target(&check(HealthCheckKind::Command), &spec, None);
        assert_eq!(command, Some(Target::Command("true".into())));
    }
}
