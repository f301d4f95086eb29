//! The container and its port mappings, from their old and new places.

use bramble_core::model::*;
use bramble_protocol::rest::error::FieldError;
use bramble_protocol::rest::update::{
    AppUpdate, ContainerUpdate, DiscoveryPort, DockerUpdate, Field,
};
use std::collections::BTreeMap;

/// The container the request means: the given one whole, none for `null`, else the base's.
pub(super) fn settle(
    update: &AppUpdate,
    base: Option<&App>,
    errors: &mut Vec<FieldError>,
) -> Option<Container> {
    let is_docker = update.container.given().is_some_and(|c| c.kind == ContainerKind::Docker);
    let discovery = update.ip_address.given().and_then(|ip| ip.discovery.as_ref());
    if is_docker && discovery.is_some() {
        let message = "ipAddress/discovery is not allowed for Docker containers";
        errors.push(FieldError::new("/ipAddress", message));
    }
    let container = match &update.container {
        Field::Given(given) => Some(canonical(given, errors)),
        Field::Null => None,
        Field::Absent => base.and_then(|b| b.container.clone()),
    };
    match discovery.filter(|ports| !ports.is_empty() && !is_docker) {
        Some(ports) => Some(with_discovery(container.unwrap_or_else(empty), ports, errors)),
        None => container,
    }
}

/// What stands for the container of an app that names a network but no container.
fn empty() -> Container {
    Container {
        kind: ContainerKind::Mesos,
        docker: None,
        port_mappings: None,
        volumes: Vec::new(),
        linux_info: None,
    }
}

fn canonical(given: &ContainerUpdate, errors: &mut Vec<FieldError>) -> Container {
    let legacy = given.docker.as_ref().and_then(|d| d.port_mappings.as_ref());
    let canonical = given.port_mappings.as_ref();
    let filled = |mappings: Option<&Vec<PortMapping>>| mappings.is_some_and(|m| !m.is_empty());
    if filled(legacy) && filled(canonical) {
        let message = "cannot specify both portMappings and docker.portMappings";
        errors.push(FieldError::new("/container", message));
    }
    let mappings = if filled(canonical) { canonical } else { legacy.or(canonical) };
    if let Some(docker) = &given.docker {
        refuse_unfit(given.kind, docker, errors);
    }
    Container {
        kind: given.kind,
        docker: given.docker.as_ref().map(image),
        port_mappings: mappings.cloned(),
        volumes: given.volumes.clone(),
        linux_info: given.linux_info.clone(),
    }
}

fn refuse_unfit(kind: ContainerKind, docker: &DockerUpdate, errors: &mut Vec<FieldError>) {
    let is_mesos = kind == ContainerKind::Mesos;
    let unfit = [
        (docker.has_credential, "credential"),
        (is_mesos && docker.network.is_some(), "network"),
        (is_mesos && !docker.parameters.is_empty(), "parameters"),
        (is_mesos && docker.port_mappings.is_some(), "portMappings"),
    ];
    for (is_given, key) in unfit {
        if is_given {
            errors.push(FieldError::new(format!("/container/docker/{key}"), "must be empty"));
        }
    }
}

fn image(docker: &DockerUpdate) -> DockerImage {
    DockerImage {
        image: docker.image.clone(),
        privileged: docker.privileged,
        force_pull: docker.force_pull,
        parameters: docker.parameters.clone(),
        pull_config_secret: docker.pull_config_secret.clone(),
    }
}

/// `ipAddress.discovery.ports`, which could not be mapped to the host.
fn with_discovery(
    mut container: Container,
    ports: &[DiscoveryPort],
    errors: &mut Vec<FieldError>,
) -> Container {
    if container.port_mappings.as_ref().is_some_and(|m| !m.is_empty()) {
        let message = "container.portMappings and ipAddress.discovery.ports must not both be set";
        errors.push(FieldError::new("/", message));
    }
    let mapping = |port: &DiscoveryPort| PortMapping {
        container_port: port.number,
        host_port: None,
        service_port: 0,
        protocol: port.protocol,
        name: Some(port.name.clone()),
        labels: port.labels.clone(),
        network_names: Vec::new(),
    };
    container.port_mappings = Some(ports.iter().map(mapping).collect());
    container
}

/// Take mappings off an app on the host network. With `keeps`, those the request gave beside
/// `networks` stay, for `core::validate` to name them.
pub(super) fn drop_mappings(container: &mut Container, keeps: bool) {
    if !(keeps && container.port_mappings.as_ref().is_some_and(|m| !m.is_empty())) {
        container.port_mappings = None;
    }
}

/// Give an app off the host network its mappings: the default one where none are named, more
/// where `ports` outnumber them, and on the bridge a host port for each.
pub(super) fn with_mappings(
    container: Option<Container>,
    is_bridge: bool,
    wanted: usize,
) -> Container {
    let mut container = container.unwrap_or_else(empty);
    let default = || PortMapping {
        container_port: 0,
        host_port: is_bridge.then_some(0),
        service_port: 0,
        protocol: Protocol::Tcp,
        name: None,
        labels: BTreeMap::new(),
        network_names: Vec::new(),
    };
    let mappings = container
        .port_mappings
        .get_or_insert_with(|| vec![PortMapping { name: Some("default".into()), ..default() }]);
    while mappings.len() < wanted {
        mappings.push(default());
    }
    if is_bridge {
        for mapping in mappings {
            mapping.host_port = mapping.host_port.or(Some(0));
        }
    }
    container
}
