//! The masters, as a node that is none sees them: whichever were seen, any of which will do.

use super::others::open;
use super::{AbsenceFuture, Lead, Masters, OpenFuture};
use bramble_core::model::{NodeId, NodeRole};
use bramble_protocol::net::{Alpn, Directory, Endpoint, Farewell, Links};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

/// Masters tried for one request.
const MASTERS_TRIED_MAX: usize = 8;
/// Pause before addresses whose node is not known are asked again.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// How a node without a master of its own reaches some.
pub struct Distant {
    links: Arc<Links>,
    lead: watch::Receiver<Lead>,
    verdict: watch::Receiver<Option<Farewell>>,
    _asking: AbortOnDropHandle<()>,
}

impl Distant {
    /// Follow what the directory of `links` holds, for as long as somebody listens. Must be called
    /// inside a tokio runtime.
    pub fn new(endpoint: Arc<Endpoint>, links: Arc<Links>) -> Self {
        let directory = links.directory().clone();
        let (sender, lead) = watch::channel(Lead::Masters(masters(&directory)));
        let verdict = endpoint.verdict();
        tokio::spawn(follow(directory.clone(), verdict.clone(), sender));
        let asking = AbortOnDropHandle::new(tokio::spawn(ask_seeds(endpoint, directory)));
        Self { links, lead, verdict, _asking: asking }
    }
}

/// Learn which masters are at the addresses that somebody named: requests go to nodes.
async fn ask_seeds(endpoint: Arc<Endpoint>, directory: Arc<Directory>) {
    let mut changes = directory.changes();
    loop {
        changes.mark_unchanged();
        let seeds = directory.masters().into_iter().filter(|(node, _)| node.is_none());
        let mut unknown = 0;
        for (_, address) in seeds {
            match endpoint.connect(address, Alpn::Api, None).await {
                Ok(link) => {
                    // A dialled link always has a peer: without one the handshake fails.
                    let Some(peer) = &link.peer else { continue };
                    directory.note(&peer.node_id, peer.role, address);
                    link.connection.close(0u32.into(), b"known now");
                }
                Err(error) => {
                    unknown += 1;
                    let error: &dyn std::error::Error = &error;
                    tracing::debug!(%address, error, "no master answers at an address");
                }
            }
        }
        let again = async {
            match unknown {
                0 => std::future::pending().await,
                _ => tokio::time::sleep(ASK_AGAIN).await,
            }
        };
        tokio::select! {
            changed = changes.changed() => if changed.is_err() {
                return;
            },
            () = again => {}
        }
    }
}

fn masters(directory: &Directory) -> Vec<NodeId> {
    let seen = directory.sightings().into_iter().filter(|seen| seen.role != NodeRole::Agent);
    seen.map(|seen| seen.node_id).take(MASTERS_TRIED_MAX).collect()
}

async fn follow(
    directory: Arc<Directory>,
    mut verdict: watch::Receiver<Option<Farewell>>,
    sender: watch::Sender<Lead>,
) {
    let mut changes = directory.changes();
    loop {
        tokio::select! {
            () = sender.closed() => return,
            changed = changes.changed() => if changed.is_err() {
                return;
            },
            changed = verdict.changed() => if changed.is_err() {
                return;
            },
        }
        // Masters that have parted with this node answer it no more.
        let parted = verdict.borrow_and_update().is_some();
        let now = Lead::Masters(if parted { Vec::new() } else { masters(&directory) });
        sender.send_if_modified(|known| {
            let news = *known != now;
            *known = now;
            news
        });
    }
}

impl Masters for Distant {
    fn lead(&self) -> watch::Receiver<Lead> {
        self.lead.clone()
    }

    fn open<'a>(&'a self, node: &'a NodeId) -> OpenFuture<'a> {
        open(&self.links, node)
    }

    fn absence(&self) -> AbsenceFuture<'_> {
        let known = match &*self.lead.borrow() {
            Lead::Masters(masters) => masters.len(),
            _ => 0,
        };
        let verdict = *self.verdict.borrow();
        let said = match (verdict, known) {
            (Some(farewell), _) => farewell.told(),
            (None, 0) => "no master is known to this node yet".to_string(),
            (None, 1) => "the one master known to this node does not answer".to_string(),
            (None, more) => format!("none of the {more} masters known to this node answers"),
        };
        Box::pin(std::future::ready(said))
    }
}
