//! Port definitions and port mappings.

use super::{Violations, all_unique, is_name, network};
use crate::model::{App, PortMapping, Protocol};

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
    for (i, mapping) in mappings.iter().enumerate() {
        let path = format!("{PATH}({i})");
        network::named(app, &mapping.network_names, mapping.host_port, &path, found);
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
