//! What this agent has free: its inventory minus what assignments take and what others occupy.
//!
//! An offer is told when it differs from the last one told; nothing is told for its own sake.

use crate::hardware::Hardware;
use crate::network::occupied_ports;
use crate::reconciler::Held;
use bramble_core::model::{Agent, Offer, PortRange, without_ports};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Makes the offers of one session.
pub(crate) struct Offers {
    agent: Agent,
    /// Listening ports inside the lent ranges, as last looked at.
    occupied: BTreeSet<u16>,
    hardware: Arc<Hardware>,
    told: Option<Offer>,
    number: u64,
}

impl Offers {
    pub(crate) fn new(agent: Agent) -> Self {
        let (occupied, hardware) = (BTreeSet::new(), Arc::default());
        Self { agent, occupied, hardware, told: None, number: 0 }
    }

    /// Offer what is plugged in now.
    pub(crate) fn look_at_hardware(&mut self, hardware: Arc<Hardware>) {
        self.hardware = hardware;
    }

    /// Look at which lent ports other programs listen on. Blocks for a few small reads.
    pub(crate) fn look_at_ports(&mut self) {
        match occupied_ports() {
            Ok(ports) => {
                let ranges = &self.agent.ports;
                let lent = |port: &u16| ranges.iter().any(|range| range.contains(*port));
                self.occupied = ports.into_iter().filter(lent).collect();
            }
            // The last look stands: offering a port too many is found out when it is bound.
            Err(error) => tracing::warn!(
                error = &error as &dyn std::error::Error,
                "ports in use are not known"
            ),
        }
    }

    /// The offer for what is held now, unless it says what the last one said.
    pub(crate) fn next(&mut self, held: &Held) -> Option<Offer> {
        let ports = self.free_ports(held);
        let mut offer = Offer {
            id: self.told.as_ref().map_or_else(String::new, |told| told.id.clone()),
            agent_id: self.agent.id.clone(),
            hostname: self.agent.name.clone(),
            free: self.agent.total.minus(&held.taken),
            ports,
            attributes: self.agent.attributes.clone(),
            roles: <_>::default(),
            generation: held.generation,
            devices: self.hardware.offered(),
            vitals: self.hardware.vitals.clone(),
        };
        offer.mark_devices(&held.devices, true);
        if self.told.as_ref() == Some(&offer) {
            return None;
        }
        self.number += 1;
        offer.id = format!("{}-O{}", self.agent.id, self.number);
        self.told = Some(offer.clone());
        Some(offer)
    }

    fn free_ports(&self, held: &Held) -> Vec<PortRange> {
        let taken: Vec<u16> = held.ports.iter().chain(&self.occupied).copied().collect();
        without_ports(&self.agent.ports, &taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bramble_core::model::{AgentId, Resources};
    use std::collections::BTreeMap;

    fn range(begin: u16, end: u16) -> PortRange {
        PortRange { begin, end }
    }

    fn offers() -> Offers {
        Offers::new(Agent {
            id: AgentId::new("n1"),
            name: "one".into(),
            total: Resources { cpus_milli: 1000, ..Resources::default() },
            ports: vec![range(31_000, 31_009)],
            attributes: BTreeMap::from([("rack".into(), "1".into())]),
            reachable: true,
        })
    }

    #[test]
    fn an_offer_is_told_only_when_it_says_something_new() {
        let mut offers = offers();
        let mut held = Held::default();
        let first = offers.next(&held).expect("the first is told");
        assert_eq!((first.id.as_str(), first.free.cpus_milli), ("n1-O1", 1000));
        assert_eq!(first.ports, [range(31_000, 31_009)]);
        assert_eq!(offers.next(&held), None);
        held.generation = 1;
        let second = offers.next(&held).expect("a generation is something new");
        assert_eq!((second.id.as_str(), second.generation), ("n1-O2", 1));
        held.taken.cpus_milli = 1500;
        held.ports = vec![31_000, 80];
        let third = offers.next(&held).expect("less is free");
        assert_eq!((third.free.cpus_milli, third.ports), (0, vec![range(31_001, 31_009)]));
        offers.occupied.insert(31_005);
        let fourth = offers.next(&held).expect("somebody listens");
        assert_eq!(fourth.ports, [range(31_001, 31_004), range(31_006, 31_009)]);
        assert_eq!(offers.next(&held), None);
    }

    #[test]
    fn listening_ports_of_the_range_are_seen() {
        let listener = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut offers = offers();
        offers.agent.ports = vec![range(port, port)];
        offers.look_at_ports();
        assert_eq!(offers.occupied, BTreeSet::from([port]));
    }
}
