//! Port definitions and port mappings.

use super::{Violations, all_unique, is_name};
use crate::model::{App, Network, PortMapping, Protocol};

const NAME_FORM: &str = "must fully match regular expression '^[a-z0-9]([-a-z0-9]*[a-z0-9])?$'";
const NAMES_UNIQUE: &str = "Port names must be unique.";

pub(super) fn check(app: &App, found: &mut Violations) {
    let definitions = &app.port_definitions;
    names(definitions.iter().map(|d| d.name.as_deref()), "/portDefinitions", found);
    let fixed = definitions.iter().map(|d| d.port).filter(|&port| port != 0);
    found.require(all_unique(fixed), "/portDefinitions", "Ports must be unique.");
    mappings(app, found);
}

fn mappings(app: &App, found: &mut Violations) {
    const PATH: &str = "/container/portMappings";
    let mappings = app.port_mappings();
    names(mappings.iter().map(|m| m.name.as_deref()), PATH, found);
    found.require(all_unique(mappings.iter().flat_map(fixed)), PATH, "Host ports must be unique.");
    let networks: Vec<&str> = app
        .networks
        .iter()
        .filter_map(|n| match n {
            Network::Container { name, .. } => name.as_deref(),
            _ => None,
        })
        .collect();
    for (i, mapping) in mappings.iter().enumerate() {
        for (k, name) in mapping.network_names.iter().enumerate() {
            found.require(
                networks.contains(&name.as_str()),
                format!("{PATH}({i})/networkNames({k})"),
                format!("must be one of: {}", networks.join(", ")),
            );
        }
        found.require(
            networks.len() <= 1 || mapping.host_port.is_none() || mapping.network_names.len() == 1,
            format!("{PATH}({i})"),
            "networkNames must be a single item list when hostPort is specified and more than 1 \
             container network is defined",
        );
    }
}

/// The fixed host ports a mapping takes, once per protocol: 53/tcp and 53/udp may stand together.
fn fixed(mapping: &PortMapping) -> impl Iterator<Item = (u16, &'static str)> {
    let protocols: &[&'static str] = match mapping.protocol {
        Protocol::Tcp => &["tcp"],
        Protocol::Udp => &["udp"],
        Protocol::UdpTcp => &["tcp", "udp"],
    };
    let port = mapping.host_port.filter(|&port| port != 0);
    port.into_iter().flat_map(move |port| protocols.iter().map(move |&p| (port, p)))
}

fn names<'a>(names: impl Iterator<Item = Option<&'a str>>, path: &str, found: &mut Violations) {
    let names: Vec<Option<&str>> = names.collect();
    for (i, name) in names.iter().enumerate() {
        found.require(name.is_none_or(is_name), format!("{path}({i})/name"), NAME_FORM);
    }
    found.require(all_unique(names.into_iter().flatten()), path, NAMES_UNIQUE);
}
