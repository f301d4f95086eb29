//! Which host ports an app's tasks want, in definition order: the one place that knows how
//! definitions, mappings, endpoints and `requirePorts` combine.

use super::{App, Protocol};

/// One host port a task needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRequest {
    /// This very port; `None` = any from the agent's range.
    pub fixed: Option<u16>,
    pub protocol: Protocol,
}

impl Protocol {
    /// Whether both would listen on the same port of the same transport.
    pub fn overlaps(self, other: Protocol) -> bool {
        self == other || self == Protocol::UdpTcp || other == Protocol::UdpTcp
    }
}

impl App {
    /// Host ports each task takes, in the order of [`super::Task::ports`].
    ///
    /// On the host network a definition's number only pins the host port with `requirePorts`;
    /// without it the number is the service port (Marathon's contract, sections 3 and 8).
    pub fn port_requests(&self) -> Vec<PortRequest> {
        if let Some(pod) = &self.pod {
            let asked = pod.endpoints().filter_map(|(_, e)| e.host_port.map(|p| (p, e.protocol)));
            return asked
                .map(|(port, protocol)| PortRequest {
                    fixed: (port != 0).then_some(port),
                    protocol,
                })
                .collect();
        }
        if self.is_host_network() {
            return self
                .port_definitions
                .iter()
                .map(|p| PortRequest {
                    fixed: (self.require_ports && p.port != 0).then_some(p.port),
                    protocol: p.protocol,
                })
                .collect();
        }
        self.port_mappings()
            .iter()
            .filter_map(|m| {
                m.host_port.map(|port| PortRequest {
                    fixed: (port != 0).then_some(port),
                    protocol: m.protocol,
                })
            })
            .collect()
    }
}
