//! Networks and ports: the many old ways to say them become one (Marathon's contract, section 4).

use super::container;
use bramble_core::model::*;
use bramble_protocol::rest::error::FieldError;
use bramble_protocol::rest::update::{AppUpdate, DockerNetwork, NetworkMode, NetworkUpdate};
use std::collections::BTreeMap;

/// The name by which `ipAddress` means the agents' own bridge (Marathon's `mesos_bridge_name`).
const BRIDGE_NAME: &str = "mesos-bridge";

/// What networks, container and ports become together.
pub(super) struct Networking {
    pub networks: Vec<Network>,
    pub container: Option<Container>,
    pub port_definitions: Vec<PortDefinition>,
}

/// How the request says its networks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Spoken {
    /// `networks`.
    Canonical,
    /// `container.docker.network` or `ipAddress`.
    Legacy,
    /// Not at all.
    Silent,
}

pub(super) fn settle(
    update: &AppUpdate,
    base: Option<&App>,
    errors: &mut Vec<FieldError>,
) -> Networking {
    refuse_mixtures(update, errors);
    let (spoken, said) = said(update, errors);
    let networks =
        said.or_else(|| base.map(|b| b.networks.clone())).unwrap_or_else(|| vec![Network::Host]);
    let is_host = networks.iter().all(|n| matches!(n, Network::Host));
    let definitions = definitions(update);
    let is_canonical = spoken == Spoken::Canonical || (spoken == Spoken::Silent && base.is_some());
    if !is_host && is_canonical && update.port_definitions.given().is_some_and(|d| !d.is_empty()) {
        let message = "portDefinitions are only allowed with host-networking";
        errors.push(FieldError::new("/portDefinitions", message));
    }
    let container = container::settle(update, base, errors).map(|mut container| {
        if is_host {
            let keeps = spoken == Spoken::Canonical && update.container.is_given();
            container::drop_mappings(&mut container, keeps);
        }
        container
    });
    let container = if is_host {
        container
    } else {
        let is_bridge = networks.contains(&Network::Bridge);
        let wanted = definitions.as_ref().map_or(0, Vec::len);
        Some(container::with_mappings(container, is_bridge, wanted))
    };
    let port_definitions = match definitions {
        _ if !is_host => Vec::new(),
        Some(definitions) => definitions,
        None => match base.filter(|b| b.is_host_network()) {
            Some(base) => base.port_definitions.clone(),
            None => vec![default_definition()],
        },
    };
    Networking { networks, container, port_definitions }
}

fn refuse_mixtures(update: &AppUpdate, errors: &mut Vec<FieldError>) {
    let docker = update.container.given().and_then(|c| c.docker.as_ref());
    let has_networks = update.networks.given().is_some_and(|n| !n.is_empty());
    let mut refuse = |holds: bool, path: &str, message: &str| {
        if holds {
            errors.push(FieldError::new(path, message));
        }
    };
    refuse(
        has_networks && docker.is_some_and(|d| d.network.is_some()),
        "/",
        "must not specify both container.docker.network and networks",
    );
    refuse(
        has_networks && update.ip_address.is_given(),
        "/",
        "cannot mix deprecated and canonical network APIs",
    );
    let ports = update.ports.given();
    let definitions = update.port_definitions.given();
    let has_ports =
        ports.is_some_and(|p| !p.is_empty()) || definitions.is_some_and(|d| !d.is_empty());
    refuse(
        update.ip_address.is_given() && has_ports,
        "/",
        "cannot specify both an IP address and port",
    );
    if let (Some(ports), Some(definitions)) = (ports, definitions) {
        refuse(
            !ports.iter().eq(definitions.iter().map(|d| &d.port)),
            "/",
            "cannot specify both ports and port definitions",
        );
    }
    let mut fixed: Vec<u16> = ports.into_iter().flatten().copied().filter(|p| *p != 0).collect();
    let count = fixed.len();
    fixed.sort_unstable();
    fixed.dedup();
    refuse(fixed.len() != count, "/ports", "ports must be unique");
}

/// The networks the request names, and in which of its languages.
fn said(update: &AppUpdate, errors: &mut Vec<FieldError>) -> (Spoken, Option<Vec<Network>>) {
    if let Some(networks) = update.networks.given().filter(|n| !n.is_empty()) {
        let networks = networks.iter().enumerate().map(|(i, n)| canonical(i, n, errors)).collect();
        return (Spoken::Canonical, Some(networks));
    }
    let ip = update.ip_address.given();
    let docker = update.container.given().and_then(|c| c.docker.as_ref());
    let container = || Network::Container {
        name: ip.and_then(|ip| ip.network_name.clone()),
        labels: ip.map(|ip| ip.labels.clone()).unwrap_or_default(),
    };
    let network = match (docker.and_then(|d| d.network), ip) {
        (Some(DockerNetwork::Bridge), _) => Network::Bridge,
        (Some(DockerNetwork::Host), _) => Network::Host,
        (Some(DockerNetwork::User), _) => container(),
        (Some(DockerNetwork::None), _) => {
            let message = "network mode NONE is not supported: use BRIDGE, HOST or USER";
            errors.push(FieldError::new("/container/docker/network", message));
            return (Spoken::Legacy, None);
        }
        (None, Some(ip)) if ip.network_name.as_deref() == Some(BRIDGE_NAME) => Network::Bridge,
        (None, Some(_)) => container(),
        (None, None) => return (Spoken::Silent, None),
    };
    (Spoken::Legacy, Some(vec![network]))
}

fn canonical(index: usize, network: &NetworkUpdate, errors: &mut Vec<FieldError>) -> Network {
    let has_name = network.name.as_ref().is_some_and(|n| !n.is_empty());
    let has_labels = !network.labels.is_empty();
    let mut refuse = |holds: bool, message: &str| {
        if holds {
            errors.push(FieldError::new(format!("/networks({index})"), message));
        }
    };
    match network.mode {
        NetworkMode::Host => {
            refuse(has_name || has_labels, "Host networks may not have names or labels");
            Network::Host
        }
        NetworkMode::Bridge => {
            refuse(has_name, "Bridge networks may not have names");
            // Refused and not dropped: an answer must not lose what the request said.
            refuse(has_labels, "Bridge networks may not have labels");
            Network::Bridge
        }
        NetworkMode::Container => {
            Network::Container { name: network.name.clone(), labels: network.labels.clone() }
        }
    }
}

/// The port definitions the request names, by its new or its old key.
fn definitions(update: &AppUpdate) -> Option<Vec<PortDefinition>> {
    let of_port = |&port: &u16| PortDefinition {
        port,
        protocol: Protocol::Tcp,
        name: None,
        labels: BTreeMap::new(),
    };
    let legacy = || update.ports.given().map(|ports| ports.iter().map(of_port).collect());
    update.port_definitions.given().cloned().or_else(legacy)
}

/// What an app on the host network has when it says nothing of ports.
fn default_definition() -> PortDefinition {
    PortDefinition {
        port: 0,
        protocol: Protocol::Tcp,
        name: Some("default".into()),
        labels: BTreeMap::new(),
    }
}
