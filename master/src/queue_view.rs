//! What the placer last said about apps that wait, for the API to show. Never replicated.

use bramble_core::model::{AgentId, AppId, Offer, Time};
use bramble_core::place::{Reason, Refused};
use std::collections::BTreeMap;

/// Implemented by the placer loop; the API holds it as `Arc<dyn QueueView>`.
pub trait QueueView: Send + Sync + 'static {
    /// Why instances of an app found no place; `None`: they were not refused lately.
    fn refusals(&self, app_id: &AppId) -> Option<QueueEntry>;
}

/// The refusals of one app since it began to wait.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueEntry {
    /// Offers looked at since the app began to wait, once per instance and round.
    pub processed_offers: u64,
    /// Those among them that were not taken.
    pub unused_offers: u64,
    pub last_unused_at: Option<Time>,
    /// By [`Reason::as_str`]: offers declined by it, each counted at its first reason only.
    pub declined: BTreeMap<&'static str, u64>,
    /// The last round: every agent's offer and what spoke against it, in funnel order.
    pub last: Vec<(AgentId, Vec<Reason>)>,
    /// The offers of the last round.
    pub last_offers: Vec<Offer>,
}

impl QueueEntry {
    /// Remember that an instance found no place among `offers`.
    pub fn refuse(&mut self, refused: &Refused, offers: &[Offer], now: Time) {
        let looked_at = offers.len() as u64;
        self.processed_offers += looked_at;
        self.unused_offers += looked_at;
        if looked_at > 0 {
            self.last_unused_at = Some(now);
        }
        for (reason, count) in first_reasons(&refused.per_agent) {
            *self.declined.entry(reason).or_default() += count;
        }
        self.last = refused.per_agent.clone();
        self.last_offers = offers.to_vec();
    }

    /// Offers of the last round that each reason declined, each counted at its first reason only.
    pub fn last_declined(&self) -> BTreeMap<&'static str, u64> {
        first_reasons(&self.last)
    }
}

fn first_reasons(per_agent: &[(AgentId, Vec<Reason>)]) -> BTreeMap<&'static str, u64> {
    let mut counts = BTreeMap::new();
    for reason in per_agent.iter().filter_map(|(_, reasons)| reasons.first()) {
        *counts.entry(reason.as_str()).or_default() += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use bramble_core::model::{InstanceId, Resources};

    fn offer(agent: &str) -> Offer {
        Offer {
            id: format!("o-{agent}"),
            agent_id: AgentId::new(agent),
            hostname: agent.into(),
            free: Resources::default(),
            ports: vec![],
            attributes: BTreeMap::new(),
            roles: <_>::default(),
            generation: 1,
            devices: <_>::default(),
            vitals: <_>::default(),
        }
    }

    #[test]
    fn an_offer_is_declined_by_its_first_reason_alone() {
        let cpus = Reason::InsufficientCpus { need_milli: 2, free_milli: 1 };
        let memory = Reason::InsufficientMemory { need_bytes: 2, free_bytes: 1 };
        let refused = Refused {
            instance_id: InstanceId::new("i"),
            app_id: AppId::new("/a"),
            per_agent: vec![
                (AgentId::new("a"), vec![cpus, memory.clone()]),
                (AgentId::new("b"), vec![memory]),
            ],
        };
        let offers = [offer("a"), offer("b")];
        let mut entry = QueueEntry::default();
        entry.refuse(&refused, &offers, Time(5));
        entry.refuse(&refused, &offers, Time(6));
        assert_eq!((entry.processed_offers, entry.unused_offers), (4, 4));
        assert_eq!(entry.last_unused_at, Some(Time(6)));
        assert_eq!(entry.declined, [("InsufficientCpus", 2), ("InsufficientMemory", 2)].into());
        assert_eq!(
            entry.last_declined(),
            [("InsufficientCpus", 1), ("InsufficientMemory", 1)].into()
        );
        assert_eq!(entry.last_offers.len(), 2);
    }

    #[test]
    fn no_offer_is_no_unused_offer() {
        let refused = Refused {
            instance_id: InstanceId::new("i"),
            app_id: AppId::new("/a"),
            per_agent: vec![],
        };
        let mut entry = QueueEntry::default();
        entry.refuse(&refused, &[], Time(5));
        assert_eq!(entry.last_unused_at, None);
        assert_eq!(entry.processed_offers, 0);
    }
}
