//! Networks, and what each kind of them allows.

use super::{Violations, all_unique};
use crate::model::{App, ContainerKind, Network};

pub(super) fn check(app: &App, found: &mut Violations) {
    let count = |want: fn(&Network) -> bool| app.networks.iter().filter(|n| want(n)).count();
    let hosts = count(|n| matches!(n, Network::Host));
    let bridges = count(|n| matches!(n, Network::Bridge));
    let containers = count(|n| matches!(n, Network::Container { .. }));
    let is_one_kind = (hosts <= 1 && bridges == 0 && containers == 0)
        || (hosts == 0 && bridges <= 1 && containers == 0)
        || (hosts == 0 && bridges == 0);
    found.require(
        is_one_kind && !app.networks.is_empty(),
        "/networks",
        "Must specify either a single host network, single bridge network, or else 1-to-n \
         container networks",
    );
    let names: Vec<Option<&String>> = app
        .networks
        .iter()
        .filter_map(|n| match n {
            Network::Container { name, .. } => Some(name.as_ref()),
            _ => None,
        })
        .collect();
    found.require(
        names.iter().all(|n| n.is_some_and(|n| !n.is_empty())),
        "/networks",
        "Network name must be specified when container network is selected.",
    );
    found.require(all_unique(names), "/networks", "Duplicate networks are not allowed");
    let is_docker = app.container.as_ref().is_some_and(|c| c.kind == ContainerKind::Docker);
    found.require(
        !(is_docker && containers > 1),
        "/networks",
        "may only specify a single container network when using the Docker container engine",
    );
    found.require(
        hosts == 0 || app.port_mappings().is_empty(),
        "/",
        "portMappings are not allowed with host-networking",
    );
    found.require(
        bridges + containers == 0 || app.port_definitions.is_empty(),
        "/",
        "portDefinitions are only allowed with host-networking",
    );
}

/// The networks that a port at `path` names must be the app's, and leave no doubt.
pub(super) fn named(
    app: &App,
    names: &[String],
    host_port: Option<u16>,
    path: &str,
    found: &mut Violations,
) {
    let of_container = |network: &'_ Network| match network {
        Network::Container { name, .. } => name.clone(),
        _ => None,
    };
    let networks: Vec<String> = app.networks.iter().filter_map(of_container).collect();
    for (k, name) in names.iter().enumerate() {
        found.require(
            networks.contains(name),
            format!("{path}/networkNames({k})"),
            format!("must be one of: {}", networks.join(", ")),
        );
    }
    found.require(
        networks.len() <= 1 || host_port.is_none() || names.len() == 1,
        path,
        "networkNames must be a single item list when hostPort is specified and more than 1 \
         container network is defined",
    );
}
