//! This master's own certificate: when the CA was replaced, it gets one of the new CA, and goes on
//! to believe members that still show one of an earlier.

use crate::authority::Authority;
use crate::consensus::Leadership;
use crate::peers::{PeerReply, PeerRequest, Peers};
use crate::store::Store;
use bramble_core::model::{NodeId, NodeRole};
use bramble_protocol::net::Endpoint;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Pause before the leader is asked again.
const RETRY: Duration = Duration::from_secs(1);

/// See the module.
pub struct Certification {
    pub store: Arc<Store>,
    pub authority: Arc<Authority>,
    pub peers: Arc<Peers>,
    pub endpoint: Arc<Endpoint>,
    pub leadership: watch::Receiver<Leadership>,
}

/// What the state says of certificates.
struct Wanted {
    ca: Vec<u8>,
    earlier: Vec<Vec<u8>>,
    masters: BTreeSet<NodeId>,
    is_member: bool,
}

impl Certification {
    /// Follow the CA until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let mut changes = self.store.watch();
        loop {
            changes.mark_unchanged();
            let settled = tokio::select! {
                () = stop.cancelled() => return,
                settled = self.settle() => settled,
            };
            if let Err(reason) = &settled {
                tracing::info!(reason, "this master is not certified by the new CA yet");
            }
            let retry = async {
                match settled {
                    Ok(()) => std::future::pending().await,
                    Err(_) => tokio::time::sleep(RETRY).await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                changed = changes.changed() => if changed.is_err() { return },
                () = retry => {}
            }
        }
    }

    async fn settle(&self) -> Result<(), String> {
        let Some(wanted) = self.wanted() else { return Ok(()) };
        let told = |error: bramble_protocol::net::EndpointError| error.to_string();
        let mut cas = vec![wanted.ca.clone()];
        cas.extend(wanted.earlier);
        self.endpoint.believe_also(cas).map_err(told)?;
        self.endpoint.pin(wanted.masters).map_err(told)?;
        let shown = self.endpoint.identity().map(|identity| identity.ca);
        if !wanted.is_member || shown.as_ref() == Some(&wanted.ca) {
            return Ok(());
        }
        let (certificate, ca) = self.certificate().await?;
        if ca != wanted.ca {
            return Err("the certificate is of another CA than the state's".into());
        }
        self.endpoint.renew(certificate, ca).map_err(told)
    }

    fn wanted(&self) -> Option<Wanted> {
        self.store.read(|state| {
            let cluster = state.cluster.as_ref()?;
            let masters = state.nodes.values().filter(|node| node.role != NodeRole::Agent);
            Some(Wanted {
                ca: cluster.ca_certificate.clone(),
                earlier: cluster.previous.clone(),
                masters: masters.map(|node| node.id.clone()).collect(),
                is_member: state.nodes.contains_key(self.peers.own()),
            })
        })
    }

    /// From this master's own hands where it can sign, else from the leader's.
    async fn certificate(&self) -> Result<(Vec<u8>, Vec<u8>), String> {
        let own = self.authority.certify(self.peers.own());
        let leader = self.leadership.borrow().leader.clone();
        match (own, leader) {
            (Ok(certified), _) => Ok(certified),
            (Err(_), Some(leader)) if leader != *self.peers.own() => {
                match self.peers.ask(&leader, &PeerRequest::Certify).await {
                    Ok(PeerReply::Certified { certificate, ca }) => Ok((certificate, ca)),
                    Ok(other) => Err(format!("the leader answered {other:?}")),
                    Err(error) => Err(error.to_string()),
                }
            }
            (Err(error), _) => Err(error.to_string()),
        }
    }
}
