//! Live offers: the leader's memory of what every agent has free now.
//!
//! Nothing here is replicated. An offer describes an agent at one assignment generation; what was
//! placed after that generation is subtracted here until the agent's next offer accounts for it,
//! so that a stale offer cannot be spent twice. `core::machine` checks again when it applies.

use bramble_core::model::{AgentId, HeldDevice, Offer, Resources, without_ports};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// Something placed on an agent that its last offer may not know yet.
#[derive(Clone, Debug)]
pub struct Pending {
    /// Log index at which the placing was applied.
    pub index: u64,
    pub resources: Resources,
    pub ports: Vec<u16>,
    pub devices: Vec<HeldDevice>,
}

#[derive(Debug, Default)]
struct Seat {
    offer: Option<Offer>,
    pending: Vec<Pending>,
    /// Offers below this generation come from before the session's first complete set.
    floor: u64,
}

/// Offers by agent.
#[derive(Debug)]
pub struct OfferBook {
    seats: Mutex<BTreeMap<AgentId, Seat>>,
    changed: watch::Sender<u64>,
    #[cfg(feature = "simulation")]
    trusting: bool,
}

impl Default for OfferBook {
    fn default() -> Self {
        Self {
            seats: Mutex::default(),
            changed: watch::Sender::new(0),
            #[cfg(feature = "simulation")]
            trusting: false,
        }
    }
}

#[cfg(feature = "simulation")]
impl OfferBook {
    /// A book with a bug: it believes an offer however much was placed on it since.
    pub fn trusting() -> Self {
        Self { trusting: true, ..Self::default() }
    }
}

impl OfferBook {
    fn seats(&self) -> MutexGuard<'_, BTreeMap<AgentId, Seat>> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A level trigger: moves whenever an offer came or went.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// An agent's session began; only offers of `floor` or later generations count.
    pub fn open(&self, agent_id: &AgentId, floor: u64) {
        self.seats().insert(agent_id.clone(), Seat { floor, ..Seat::default() });
    }

    /// An agent's session ended.
    pub fn close(&self, agent_id: &AgentId) {
        self.seats().remove(agent_id);
        self.changed.send_modify(|n| *n += 1);
    }

    /// Replace an agent's offer. One without a session, or from before it, is dropped.
    pub fn put(&self, offer: Offer) {
        {
            let mut seats = self.seats();
            let Some(seat) = seats.get_mut(&offer.agent_id) else { return };
            if offer.generation < seat.floor {
                return;
            }
            seat.pending.retain(|p| p.index > offer.generation);
            seat.offer = Some(offer);
        }
        self.changed.send_modify(|n| *n += 1);
    }

    /// Remember that something was placed on an agent.
    pub fn spend(&self, agent_id: &AgentId, pending: Pending) {
        #[cfg(feature = "simulation")]
        if self.trusting {
            return;
        }
        if let Some(seat) = self.seats().get_mut(agent_id) {
            let known = seat.offer.as_ref().map_or(0, |o| o.generation);
            if pending.index > known {
                seat.pending.push(pending);
            }
        }
    }

    /// What can be placed on now, in agent order.
    pub fn current(&self) -> Vec<Offer> {
        self.seats().values().filter_map(Seat::effective).collect()
    }
}

impl Seat {
    fn effective(&self) -> Option<Offer> {
        let mut offer = self.offer.clone()?;
        let mut ports = Vec::new();
        for pending in &self.pending {
            offer.free = offer.free.minus(&pending.resources);
            ports.extend_from_slice(&pending.ports);
            offer.mark_devices(&pending.devices, true);
        }
        offer.ports = without_ports(&offer.ports, &ports);
        Some(offer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bramble_core::model::PortRange;

    fn offer(cpus_milli: u64, generation: u64) -> Offer {
        Offer {
            id: format!("o{generation}"),
            agent_id: AgentId::new("a"),
            hostname: "a".into(),
            free: Resources { cpus_milli, ..Resources::default() },
            ports: vec![PortRange { begin: 1, end: 3 }],
            attributes: BTreeMap::new(),
            roles: <_>::default(),
            generation,
            devices: <_>::default(),
            vitals: <_>::default(),
        }
    }

    fn spent(index: u64, cpus_milli: u64) -> Pending {
        let resources = Resources { cpus_milli, ..Resources::default() };
        Pending { index, resources, ports: vec![2], devices: vec![] }
    }

    #[test]
    fn what_was_placed_since_the_offer_is_subtracted_once() {
        let book = OfferBook::default();
        let agent = AgentId::new("a");
        book.put(offer(1000, 5));
        assert!(book.current().is_empty(), "no session, no offer");
        book.open(&agent, 5);
        book.put(offer(1000, 4));
        assert!(book.current().is_empty(), "an offer from before the session");
        book.put(offer(1000, 5));
        book.spend(&agent, spent(6, 300));
        let now = &book.current()[0];
        assert_eq!(now.free.cpus_milli, 700);
        assert_eq!(now.ports.len(), 2);
        book.put(offer(700, 6));
        assert_eq!(book.current()[0].free.cpus_milli, 700);
        book.spend(&agent, spent(6, 300));
        assert_eq!(book.current()[0].free.cpus_milli, 700, "the offer already knows index 6");
        book.close(&agent);
        assert!(book.current().is_empty());
    }
}
