//! Makes a node of a backup: a new identity under the old authority, alone in the membership.

use super::{Backup, BackupError};
use crate::consensus::{Image, plant};
use crate::founding::{Keys, identity_dir};
use crate::vault::copy_for;
use bramble_core::model::{Node, NodeId, NodeRole, Sealed, State, Time};
use bramble_protocol::net::{ClusterCa, Identity, JoinToken, NodeKey};
use std::collections::BTreeMap;
use std::path::Path;

/// What was made.
#[derive(Clone, Debug)]
pub struct Restored {
    pub cluster_id: String,
    /// This node, the only master.
    pub node: NodeId,
    /// Masters of the old cluster, with their names: none of them may ever run again as it is.
    pub removed: Vec<(NodeId, String)>,
    /// Names of agents that may return as they are.
    pub agents: Vec<String>,
    pub apps: usize,
    pub secrets: usize,
}

/// Write into `data_dir` a node called `name` that is the whole cluster of `backup`. `clock` is
/// this machine's time. The node's certificate comes last: until then nothing starts from it.
///
/// # Errors
/// The backup lacks something or its parts do not fit; the directory holds a log already, or
/// cannot be written.
pub async fn restore(
    data_dir: &Path,
    name: &str,
    backup: Backup,
    clock: Time,
) -> Result<Restored, BackupError> {
    let authority_key = backup.authority_key.ok_or(BackupError::Lacks("authority"))?;
    let ca = ClusterCa::from_parts(&authority_key, backup.authority_certificate)?;
    let token = backup.join_token.ok_or(BackupError::Lacks("join token"))?;
    let token: JoinToken = String::from_utf8_lossy(token.expose()).parse()?;
    let image = Image::decode(&backup.snapshot)?;
    let state = image.state();
    if state.cluster.is_none() {
        return Err(BackupError::Lacks("state of a cluster"));
    }
    if state.data_key.is_some() && backup.data_key.is_none() {
        return Err(BackupError::Lacks("data key"));
    }
    let (apps, secrets) = (state.apps.len(), state.secrets.len());
    let agents = state.nodes.values().filter(|node| node.role == NodeRole::Agent);
    let agents = agents.map(|node| node.name.clone()).collect();

    let key = NodeKey::load_or_create(&Identity::key_path(&identity_dir(data_dir)))?;
    let node_id = key.node_id();
    let copy = match (&state.data_key, &backup.data_key) {
        (Some(stored), Some(bytes)) => {
            Some(copy_for(&key, &stored.id, bytes).map_err(BackupError::Copy)?)
        }
        _ => None,
    };
    let node = Node {
        id: node_id.clone(),
        name: name.into(),
        role: NodeRole::Full,
        public_key: key.public_key().to_vec(),
        admitted_at: state.now,
    };
    let log = data_dir.join("master/raft");
    let enter = |state: &mut State| enter(state, node, copy);
    let removed = plant(&log, &node_id, image, clock, enter).await?;
    let keys = Keys::restore(data_dir, key, ca, token)?;
    Ok(Restored { cluster_id: keys.cluster_id, node: node_id, removed, agents, apps, secrets })
}

/// Make the node a member that opens secrets.
fn enter(state: &mut State, node: Node, copy: Option<Sealed>) {
    if let (Some(data_key), Some(copy)) = (&mut state.data_key, copy) {
        data_key.copies = BTreeMap::from([(node.id.clone(), copy)]);
    }
    state.nodes.insert(node.id.clone(), node);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority::Authority;
    use crate::backup::{Backups, open};
    use crate::consensus::{Consensus, ConsensusConfig, NoPeers};
    use crate::propose::Propose;
    use crate::store::Store;
    use crate::vault::Vault;
    use bramble_core::command::Command;
    use bramble_protocol::secret::Secret;
    use std::sync::Arc;
    use std::time::Duration;
    use tokio_util::sync::CancellationToken;

    const PATIENCE: Duration = Duration::from_secs(60);

    /// A master without its API.
    struct Master {
        consensus: Arc<Consensus>,
        store: Arc<Store>,
        vault: Arc<Vault>,
        authority: Arc<Authority>,
        identity: Identity,
        cluster_id: String,
    }

    impl Master {
        async fn start(dir: &Path) -> Master {
            let Keys { identity, founding, cluster_id } =
                Keys::load_or_make(dir, NodeRole::Full).expect("keys");
            let mut config = ConsensusConfig::new(dir.join("master/raft"), identity.key.node_id());
            config.disk_reserve_bytes = 0;
            let (consensus, store) =
                Consensus::open(config, Arc::new(NoPeers)).await.expect("opens");
            consensus.found().await.expect("founds");
            consensus.wait_for_leader(PATIENCE).await.expect("leads");
            let vault = Arc::new(Vault::new(&identity.key, store.clone(), consensus.clone()));
            let authority = Authority {
                store: store.clone(),
                propose: consensus.clone(),
                vault: vault.clone(),
                founding,
                peers: None,
            };
            let authority = Arc::new(authority);
            Master { consensus, store, vault, authority, identity, cluster_id }
        }

        async fn found(&self) {
            let founding = self.authority.founding.as_ref().expect("a founder");
            let founder = founding.founder(&self.identity, "pi-1", NodeRole::Full);
            let cluster = founding.cluster(&self.cluster_id);
            self.consensus.propose(Command::Found { cluster, founder }).await.expect("commits");
        }

        /// Wait until the state holds the authority.
        async fn provide(&self) {
            let mut changes = self.store.watch();
            let there =
                |state: &State| state.cluster.as_ref().is_some_and(|c| c.authority.is_some());
            let provided = async {
                while !self.store.read(there) {
                    changes.changed().await.expect("the store lives");
                }
            };
            tokio::select! {
                () = self.authority.provide(CancellationToken::new()) => {}
                () = provided => {}
            }
        }

        async fn backup(&self) -> Vec<u8> {
            let backups = Backups {
                consensus: self.consensus.clone(),
                vault: self.vault.clone(),
                authority: self.authority.clone(),
            };
            backups.make().expect("makes")
        }
    }

    #[tokio::test]
    async fn a_restored_node_is_the_cluster_again() {
        let dir = tempfile::tempdir().expect("a directory");
        let old = Master::start(&dir.path().join("old")).await;
        old.found().await;
        let without_secrets = old.backup().await;
        old.vault.put("db", &Secret::new(b"open sesame".to_vec())).await.expect("puts");
        old.provide().await;
        let plain = old.backup().await;
        let old_token = old.authority.token().expect("opens");
        let old_ca = old.authority.ca().expect("opens").certificate().to_vec();
        old.consensus.shutdown().await;

        let at = dir.path().join("new");
        let backup = open(&plain, None).expect("opens");
        let clock = Time(1_800_000_000_000);
        let restored = restore(&at, "pi-9", backup, clock).await.expect("restores");
        assert_eq!(restored.cluster_id, old.cluster_id);
        assert_eq!((restored.secrets, restored.removed.len()), (1, 1));
        let new = Master::start(&at).await;
        assert_eq!(new.identity.key.node_id(), restored.node);
        assert_ne!(new.identity.key.node_id(), old.identity.key.node_id());
        assert_eq!(new.authority.token().expect("opens"), old_token);
        assert_eq!(new.authority.ca().expect("opens").certificate(), old_ca);
        let opened = new.store.read(|state| new.vault.open(state, "db")).expect("opens");
        assert_eq!(opened.expect("is there").expose(), b"open sesame");
        new.vault.put("db", &Secret::new(b"x".to_vec())).await.expect("puts with the same key");
        new.consensus.shutdown().await;

        let at = dir.path().join("plain");
        let backup = open(&without_secrets, None).expect("opens");
        restore(&at, "pi-9", backup, clock).await.expect("restores without a data key");
        let new = Master::start(&at).await;
        new.vault.put("db", &Secret::new(b"x".to_vec())).await.expect("makes a data key");
        new.consensus.shutdown().await;
    }

    #[tokio::test]
    async fn a_backup_that_lacks_something_writes_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let old = Master::start(&dir.path().join("old")).await;
        old.found().await;
        old.vault.put("db", &Secret::new(b"x".to_vec())).await.expect("puts");
        let plain = old.backup().await;
        old.consensus.shutdown().await;
        let take: [fn(&mut Backup); 4] = [
            |backup| drop(backup.authority_key.take()),
            |backup| drop(backup.join_token.take()),
            |backup| backup.snapshot.truncate(9),
            |backup| backup.authority_certificate.clear(),
        ];
        for (n, take) in take.into_iter().enumerate() {
            let at = dir.path().join(n.to_string());
            let mut backup = open(&plain, None).expect("opens");
            take(&mut backup);
            assert!(restore(&at, "b", backup, Time(0)).await.is_err(), "{n}");
            assert!(!at.exists(), "{n}");
        }
        let at = dir.path().join("k");
        let mut backup = open(&plain, None).expect("opens");
        backup.data_key = None;
        let lacks = restore(&at, "b", backup, Time(0)).await;
        assert!(matches!(lacks, Err(BackupError::Lacks("data key"))));
        assert!(!at.exists());
    }
}
