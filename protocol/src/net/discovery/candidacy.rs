//! Standing as founder: nodes that hold a founding file tell each other, so that one founds.
//!
//! A service type of its own: who looks for a cluster must not take a candidate for a node of one.

use super::{Announced, Discovery, DiscoveryError, again, id_digits};
use bramble_core::model::NodeId;
use mdns_sd::{Receiver, ResolvedService, ServiceDaemon, ServiceEvent, ServiceInfo};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// The service type of nodes that stand as founder.
const CANDIDACY_TYPE: &str = "_bramble-found._udp.local.";
/// Longest wait for a candidate that is asked whether it is still there.
const DOUBT_MAX: Duration = Duration::from_secs(3);
/// Contenders kept. There should be one; this only bounds what strangers may announce.
const CANDIDATES_MAX: usize = 64;
/// What the property `founded` says of a node that has founded, but was seen by nobody yet.
const YES: &str = "yes";

/// A node that would found a cluster, or has founded one that nobody has joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contender {
    pub cluster: String,
    pub node_id: NodeId,
    /// Whether it has founded already.
    pub founded: bool,
}

/// The candidates that can be heard.
pub struct Contenders {
    daemon: ServiceDaemon,
    events: Receiver<ServiceEvent>,
    /// By the names of their announcements.
    standing: BTreeMap<String, Contender>,
}

impl Contender {
    /// Whether this one founds and `other` does not: who has founded comes first, then the
    /// smaller id. Never both ways.
    pub fn precedes(&self, other: &Contender) -> bool {
        let rank = |one: &Contender| (!one.founded, one.node_id.clone());
        rank(self) < rank(other)
    }
}

pub(super) fn is_candidacy(full_name: &str) -> bool {
    full_name.to_ascii_lowercase().ends_with(CANDIDACY_TYPE)
}

impl Discovery {
    /// Announce that this node stands as founder, until the guard is dropped.
    ///
    /// # Errors
    /// When the text does not fit a DNS record or the daemon is gone.
    pub async fn stand(&self, own: &Contender, port: u16) -> Result<Announced, DiscoveryError> {
        let name = id_digits(&own.node_id).to_string();
        let failed = |source| DiscoveryError::Announce { name: name.clone(), source };
        let host = format!("bramble-{name}.local.");
        let founded = if own.founded { YES } else { "no" };
        let text =
            [("cluster", own.cluster.as_str()), ("id", own.node_id.as_str()), ("founded", founded)];
        let service =
            ServiceInfo::new(CANDIDACY_TYPE, &name, &host, "", port, &text[..]).map_err(failed)?;
        self.register(service).await.map_err(failed)
    }

    /// Since when the candidacy has been said on at least one network; `None` until then.
    pub fn said(&self) -> watch::Receiver<Option<Instant>> {
        self.said.clone()
    }

    /// Listen for candidates.
    ///
    /// # Errors
    /// When the daemon is gone.
    pub async fn candidates(&self) -> Result<Contenders, DiscoveryError> {
        let events =
            again(|| self.daemon.browse(CANDIDACY_TYPE)).await.map_err(DiscoveryError::Browse)?;
        Ok(Contenders { daemon: self.daemon.clone(), events, standing: BTreeMap::new() })
    }
}

impl Contenders {
    /// Wait until something is heard; never returns once discovery has stopped. May be dropped
    /// while it waits.
    pub async fn changed(&mut self) {
        match self.events.recv_async().await {
            Ok(ServiceEvent::ServiceResolved(service)) => {
                let full = self.standing.len() >= CANDIDATES_MAX;
                let name = service.get_fullname().to_string();
                if let Some(found) = read(&service)
                    && (!full || self.standing.contains_key(&name))
                {
                    self.standing.insert(name, found);
                }
            }
            Ok(ServiceEvent::ServiceRemoved(_, name)) => {
                self.standing.remove(&name);
            }
            Ok(_) => {}
            // The daemon drops a reader that was too slow: begin again, its cache answers.
            Err(_) => match again(|| self.daemon.browse(CANDIDACY_TYPE)).await {
                Ok(events) => self.events = events,
                Err(_) => std::future::pending().await,
            },
        }
    }

    /// The candidate that founds in the place of `own`, if one is heard.
    pub fn ahead_of(&self, own: &Contender) -> Option<&Contender> {
        let rivals = self.standing.values().filter(|other| other.cluster == own.cluster);
        rivals.filter(|other| other.node_id != own.node_id).find(|other| other.precedes(own))
    }

    /// Ask whether candidates are still there: one whose power was cut cannot say goodbye.
    pub async fn doubt(&self) {
        for name in self.standing.keys() {
            // Without an answer from the daemon, the records' time to live decides.
            let _ = again(|| self.daemon.verify(name.clone(), DOUBT_MAX)).await;
        }
    }
}

/// Believe nothing that is incomplete.
fn read(service: &ResolvedService) -> Option<Contender> {
    Some(Contender {
        cluster: service.get_property_val_str("cluster")?.to_string(),
        node_id: NodeId::new(service.get_property_val_str("id")?),
        founded: service.get_property_val_str("founded") == Some(YES),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_candidates_exactly_one_founds() {
        let stand = |id: &str, founded| Contender {
            cluster: "c".into(),
            node_id: NodeId::new(id),
            founded,
        };
        let all = [stand("a", false), stand("b", false), stand("a1", true), stand("b", true)];
        for (n, one) in all.iter().enumerate() {
            assert!(!one.precedes(one));
            for other in &all[n + 1..] {
                assert!(one.precedes(other) != other.precedes(one), "{one:?} {other:?}");
            }
        }
        assert!(all[0].precedes(&all[1]), "the smaller id");
        assert!(all[3].precedes(&all[0]), "who has founded");
        assert!(is_candidacy("0ab._Bramble-found._udp.local."));
        assert!(!is_candidacy("pi-0ab._bramble._udp.local."));
    }
}
