//! Host ports of one offer: which are free, which are given next.

use super::Reason;
use crate::model::{Demand, Offer, PortRange, PortRequest, Protocol, State, without_ports};
use std::collections::BTreeSet;

/// Free ports of an offer while decisions are made.
pub(super) struct FreePorts {
    /// Everything free, for requests of one certain port.
    all: Vec<PortRange>,
    /// What may be given to those who take any: `all` but for ports that someone asks for.
    any: Vec<PortRange>,
    /// Where among `any` a choice is made; what is taken makes room for its neighbour.
    start: u64,
}

impl FreePorts {
    pub fn new(ranges: &[PortRange], named: &BTreeSet<u16>, seed: u64) -> Self {
        let named: Vec<u16> = named.iter().copied().collect();
        Self { all: ranges.to_vec(), any: without_ports(ranges, &named), start: seed }
    }

    /// Whether a task with these requests can be served.
    pub fn check(&self, requests: &[PortRequest]) -> Result<(), Reason> {
        let mut own: Vec<(u16, Protocol)> = Vec::new();
        let mut missing = Vec::new();
        for request in requests {
            let Some(port) = request.fixed else { continue };
            let twice = own.iter().any(|(p, proto)| *p == port && proto.overlaps(request.protocol));
            if twice || !self.all.iter().any(|range| range.contains(port)) {
                missing.push(port);
            }
            own.push((port, request.protocol));
        }
        let any = requests.iter().filter(|r| r.fixed.is_none()).count() as u64;
        if missing.is_empty() && any <= count(&self.any) {
            return Ok(());
        }
        let wanted = u32::try_from(requests.len()).unwrap_or(u32::MAX);
        Err(Reason::InsufficientPorts { wanted, missing })
    }

    /// Take ports for requests that [`FreePorts::check`] accepted.
    pub fn take(&mut self, requests: &[PortRequest]) -> Vec<u16> {
        let mut taken = Vec::new();
        for request in requests {
            let port = request.fixed.or_else(|| {
                let free = count(&self.any);
                self.start = self.start.checked_rem(free)?;
                let port = nth(&self.any, self.start);
                self.any = without_ports(&self.any, port.as_slice());
                port
            });
            taken.extend(port);
        }
        self.all = without_ports(&self.all, &taken);
        taken
    }
}

fn count(ranges: &[PortRange]) -> u64 {
    ranges.iter().map(|r| u64::from(r.end) + 1 - u64::from(r.begin)).sum()
}

fn nth(ranges: &[PortRange], mut index: u64) -> Option<u16> {
    for range in ranges {
        let width = u64::from(range.end) + 1 - u64::from(range.begin);
        if index < width {
            return u16::try_from(u64::from(range.begin) + index).ok();
        }
        index -= width;
    }
    None
}

/// Complete offers with what only the state knows: the agents' attributes and roles as users set
/// them, and fixed ports.
pub fn with_what_is_known(
    state: &State,
    mut offers: Vec<Offer>,
    demands: &[Demand<'_>],
) -> Vec<Offer> {
    for offer in &mut offers {
        offer.roles = state.roles_of(&offer.agent_id);
        if state.agents.contains_key(&offer.agent_id) {
            offer.attributes = state.attributes_of(&offer.agent_id);
        }
    }
    with_fixed_ports(state, offers, demands)
}

/// Add to offers the fixed ports that the demands want outside the ranges their agents lend, where
/// no task holds them.
///
/// Mesos offers nothing outside the range, so that `hostPort: 80` would wait for ever on a machine
/// whose port 80 is free; users of Docker expect it to work. A number inside the range is left as
/// the agent offers it: the agent knows what listens there.
pub(super) fn with_fixed_ports(
    state: &State,
    mut offers: Vec<Offer>,
    demands: &[Demand<'_>],
) -> Vec<Offer> {
    let named: BTreeSet<u16> =
        demands.iter().flat_map(|d| d.app.port_requests()).filter_map(|r| r.fixed).collect();
    if named.is_empty() {
        return offers;
    }
    for offer in &mut offers {
        let Some(agent) = state.agents.get(&offer.agent_id) else { continue };
        let used = state.used_on(&offer.agent_id).ports;
        let lent =
            |port: u16| agent.ports.iter().chain(&offer.ports).any(|range| range.contains(port));
        let extra: Vec<PortRange> = named
            .iter()
            .filter(|port| !lent(**port) && !used.contains(port))
            .map(|port| PortRange { begin: *port, end: *port })
            .collect();
        offer.ports.extend(extra);
        offer.ports.sort_unstable();
    }
    offers
}
