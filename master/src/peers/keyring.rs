//! A copy of the data key for this master: asked of another, sealed here, kept by the leader.

use super::message::{PeerReply, PeerRequest};
use super::{Peers, others};
use crate::propose::Propose;
use crate::store::Store;
use crate::vault::Vault;
use bramble_core::command::Command;
use bramble_core::model::{NodeId, Sealed};
use bramble_protocol::secret::Secret;
use futures_util::future::join_all;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Pause before other masters are asked again.
const RETRY: Duration = Duration::from_millis(500);
/// Pause once the leader has it: this master sees that when it has read the log so far.
const KEPT_RETRY: Duration = Duration::from_secs(30);
/// Longest wait for one master's answer.
const ANSWER_MAX: Duration = Duration::from_secs(5);

impl Peers {
    /// See to it, whenever the data key changes, that this master has its copy.
    pub async fn keep_copy(
        &self,
        store: &Store,
        vault: &Vault,
        propose: &dyn Propose,
        leadership: watch::Receiver<crate::consensus::Leadership>,
        stop: CancellationToken,
    ) {
        let mut changes = store.watch();
        loop {
            changes.mark_unchanged();
            if !vault.lacks_copy() {
                tokio::select! {
                    () = stop.cancelled() => return,
                    changed = changes.changed() => if changed.is_err() { return },
                }
                continue;
            }
            let leader = leadership.borrow().leader.clone();
            let kept = tokio::select! {
                () = stop.cancelled() => return,
                kept = self.fetch_copy(store, vault, propose, leader) => kept,
            };
            // Not at every change: one that is far behind sees thousands.
            tokio::select! {
                () = stop.cancelled() => return,
                goes_on = settled(store, vault, &mut changes) => if !goes_on { return },
                () = tokio::time::sleep(if kept { KEPT_RETRY } else { RETRY }) => {}
            }
        }
    }

    /// Ask the other masters to seal a data key that is about to become the cluster's; gives the
    /// copies of those that answer.
    pub async fn collect_copies(
        &self,
        store: &Store,
        id: &str,
        bytes: &Secret,
    ) -> BTreeMap<NodeId, Sealed> {
        let masters = others(store, &self.own);
        let asked = masters.into_iter().map(|node| async move {
            let request = PeerRequest::SealKey { id: id.to_string(), key: bytes.clone() };
            match tokio::time::timeout(ANSWER_MAX, self.ask(&node, &request)).await {
                Ok(Ok(PeerReply::Copy(copy))) => Some((node, copy)),
                _ => {
                    tracing::info!(node_id = %node, "no copy of the new data key from here yet");
                    None
                }
            }
        });
        join_all(asked).await.into_iter().flatten().collect()
    }

    /// Whether the leader keeps a copy for this master now.
    async fn fetch_copy(
        &self,
        store: &Store,
        vault: &Vault,
        propose: &dyn Propose,
        leader: Option<NodeId>,
    ) -> bool {
        let Some((id, bytes)) = self.shared_key(store, leader.as_ref()).await else { return false };
        let copy = match vault.copy(&id, &bytes) {
            Ok(copy) => copy,
            Err(error) => {
                tracing::error!(%error, "the data key was not sealed for this master");
                return false;
            }
        };
        let handed_in = self.hand_in(propose, leader, id, copy).await;
        match &handed_in {
            Ok(()) => tracing::info!("this master has its copy of the data key"),
            Err(reason) => tracing::info!(reason, "the copy of the data key is not kept yet"),
        }
        handed_in.is_ok()
    }

    /// Ask the leader first, then whoever else has it.
    async fn shared_key(&self, store: &Store, leader: Option<&NodeId>) -> Option<(String, Secret)> {
        let masters = others(store, &self.own);
        let first = leader.filter(|id| **id != self.own).into_iter();
        for node in first.chain(masters.iter().filter(|id| Some(*id) != leader)) {
            let asked = self.ask(node, &PeerRequest::DataKey);
            match tokio::time::timeout(ANSWER_MAX, asked).await {
                Ok(Ok(PeerReply::DataKey(Some(key)))) => return Some(key),
                Ok(Ok(other)) => tracing::debug!(node_id = %node, ?other, "no data key from here"),
                Ok(Err(error)) => tracing::debug!(node_id = %node, %error, "no data key from here"),
                Err(_) => tracing::debug!(node_id = %node, "no data key from here in time"),
            }
        }
        None
    }

    async fn hand_in(
        &self,
        propose: &dyn Propose,
        leader: Option<NodeId>,
        id: String,
        copy: Sealed,
    ) -> Result<(), String> {
        let leader = leader.ok_or("there is no leader")?;
        if leader == self.own {
            let node_id = self.own.clone();
            let command = Command::KeepDataKey { id, node_id, copy };
            return propose.propose(command).await.map(drop).map_err(|error| error.to_string());
        }
        let request = PeerRequest::KeepCopy { id, copy };
        match self.ask(&leader, &request).await.map_err(|error| error.to_string())? {
            PeerReply::Done => Ok(()),
            PeerReply::Refused(reason) => Err(reason),
            _ => Err("the leader answered something else".into()),
        }
    }
}

/// Resolves once this master sees its copy, or another data key: whether the store goes on.
async fn settled(store: &Store, vault: &Vault, changes: &mut watch::Receiver<u64>) -> bool {
    let key = || store.read(|state| state.data_key.as_ref().map(|key| key.id.clone()));
    let lacking = key();
    while vault.lacks_copy() && key() == lacking {
        if changes.changed().await.is_err() {
            return false;
        }
    }
    true
}
