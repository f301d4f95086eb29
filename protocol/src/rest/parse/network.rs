//! Networks and ports of a request.

use super::super::update::{DiscoveryPort, IpAddressUpdate, NetworkMode, NetworkUpdate};
use super::read::{self, Errors, Object};
use bramble_core::model::{PortDefinition, Protocol};
use serde_json::Value;

const PORT_MAX: u64 = u16::MAX as u64;

const PROTOCOLS: [(&str, Protocol); 3] =
    [("tcp", Protocol::Tcp), ("udp", Protocol::Udp), ("udp,tcp", Protocol::UdpTcp)];

const MODES: [(&str, NetworkMode); 3] = [
    ("host", NetworkMode::Host),
    ("container/bridge", NetworkMode::Bridge),
    ("container", NetworkMode::Container),
];

pub(super) fn port(errors: &mut Errors, path: &str, value: &Value) -> Option<u16> {
    read::integer(errors, path, value, (0, PORT_MAX)).and_then(|n| u16::try_from(n).ok())
}

pub(super) fn protocol(errors: &mut Errors, path: &str, value: &Value) -> Option<Protocol> {
    read::word(errors, path, value, &PROTOCOLS)
}

pub(super) fn port_definition(
    errors: &mut Errors,
    path: &str,
    value: &Value,
) -> Option<PortDefinition> {
    let object = Object::open(errors, path, value)?;
    Some(PortDefinition {
        port: object.optional(errors, "port", port).unwrap_or(0),
        protocol: object.optional(errors, "protocol", protocol).unwrap_or(Protocol::Tcp),
        name: object.optional(errors, "name", read::text),
        labels: object.optional(errors, "labels", read::text_map).unwrap_or_default(),
    })
}

pub(super) fn network(errors: &mut Errors, path: &str, value: &Value) -> Option<NetworkUpdate> {
    let object = Object::open(errors, path, value)?;
    let mode = object.optional(errors, "mode", |e, p, v| read::word(e, p, v, &MODES));
    Some(NetworkUpdate {
        mode: mode.unwrap_or(NetworkMode::Container),
        name: object.optional(errors, "name", read::text),
        labels: object.optional(errors, "labels", read::text_map).unwrap_or_default(),
    })
}

pub(super) fn ip_address(
    errors: &mut Errors,
    path: &str,
    value: &Value,
) -> Option<IpAddressUpdate> {
    let object = Object::open(errors, path, value)?;
    object.optional(errors, "groups", read::texts);
    Some(IpAddressUpdate {
        network_name: object.optional(errors, "networkName", read::text),
        labels: object.optional(errors, "labels", read::text_map).unwrap_or_default(),
        discovery: object.optional(errors, "discovery", discovery),
    })
}

fn discovery(errors: &mut Errors, path: &str, value: &Value) -> Option<Vec<DiscoveryPort>> {
    let object = Object::open(errors, path, value)?;
    let ports = object.optional(errors, "ports", |e, p, v| read::list(e, p, v, discovery_port));
    Some(ports.unwrap_or_default())
}

fn discovery_port(errors: &mut Errors, path: &str, value: &Value) -> Option<DiscoveryPort> {
    let object = Object::open(errors, path, value)?;
    let protocol = object.optional(errors, "protocol", protocol).unwrap_or(Protocol::Tcp);
    let labels = object.optional(errors, "labels", read::text_map).unwrap_or_default();
    let number = object.required(errors, "number", port);
    let name = object.required(errors, "name", read::text);
    Some(DiscoveryPort { number: number?, name: name?, protocol, labels })
}
