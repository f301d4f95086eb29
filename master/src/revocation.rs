//! Ends what removed nodes still have with this master: their links, their session, their place
//! in the address book. Whether a node is removed is the state's word; nothing here decides.

use crate::callers::Callers;
use crate::consensus::Consensus;
use crate::dispatcher::Dispatcher;
use crate::membership::Membership;
use crate::store::Store;
use bramble_core::model::NodeId;
use bramble_protocol::net::{Farewell, Links};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Pause before looking again whether a removed master is out of the log's membership.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// See the module.
pub struct Revocation {
    pub own: NodeId,
    pub store: Arc<Store>,
    pub consensus: Arc<Consensus>,
    pub membership: Arc<dyn Membership>,
    pub callers: Arc<Callers>,
    pub dispatcher: Arc<Dispatcher>,
    pub links: Arc<Links>,
}

impl Revocation {
    /// Follow the list of removed nodes until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let mut changes = self.store.watch();
        let mut verdict = self.links.endpoint().verdict();
        let mut ended: BTreeSet<NodeId> = BTreeSet::new();
        loop {
            changes.mark_unchanged();
            let removed: BTreeSet<NodeId> =
                self.store.read(|state| state.removed.keys().cloned().collect());
            let told = *verdict.borrow_and_update() == Some(Farewell::Removed);
            if removed.contains(&self.own) || told {
                self.consensus.abstain(true);
            }
            for node in removed.difference(&ended) {
                self.callers.end(node, Farewell::Removed);
                self.dispatcher.end(&node.agent(), Farewell::Removed);
            }
            let leaving = self.part(&removed);
            ended = removed;
            let again = async {
                match leaving {
                    true => tokio::time::sleep(LOOK_AGAIN).await,
                    false => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                changed = changes.changed() => if changed.is_err() { return },
                Ok(()) = verdict.changed() => {}
                () = again => {}
            }
        }
    }

    /// Forget where removed nodes are. A voter is still spoken to until it has lost its vote: it
    /// may take its own word to take it away. Whether there are such.
    fn part(&self, removed: &BTreeSet<NodeId>) -> bool {
        let members: BTreeSet<NodeId> =
            self.membership.known().into_iter().map(|member| member.id).collect();
        let gone: BTreeSet<NodeId> =
            removed.iter().filter(|id| !members.contains(*id)).cloned().collect();
        for node in gone.iter().filter(|node| !self.links.directory().refuses(node)) {
            self.links.drop_links(node, Farewell::Removed.reason());
        }
        let leaving = gone.len() < removed.len();
        self.links.directory().refuse(gone);
        leaving
    }
}
