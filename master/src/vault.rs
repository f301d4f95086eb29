//! The vault: seals secrets before they are proposed, opens them for the agents that need them.
//!
//! Owns the cluster's data key in this master's memory. It is made by the leader at first need and
//! kept in the replicated state, sealed for each master with a key that follows from that master's
//! node key: whoever has the disk of a node but not its key file reads nothing. It must never put
//! a value or a key in the clear into a command, a log line or an answer.

use crate::propose::{Propose, ProposeError};
use crate::store::Store;
use bramble_core::command::{Command, Rejection};
use bramble_core::model::{DataKey, NodeId, Sealed, State};
use bramble_protocol::net::{NodeKey, SealError, SealingKey};
use bramble_protocol::secret::Secret;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use thiserror::Error;
use uuid::Uuid;

/// Purpose of the key that opens a master's copy of the data key.
const COPY_PURPOSE: &str = "data key of the cluster";

#[derive(Debug, Error)]
pub enum VaultError {
    #[error(
        "this master has no copy of the cluster's data key, so it cannot read secrets; restore \
         the identity directory that belongs to this data directory"
    )]
    NoCopy,
    #[error(
        "this master's copy of the cluster's data key does not open; restore the identity \
         directory that belongs to this data directory"
    )]
    Copy(#[source] SealError),
    #[error("a secret of the cluster does not open")]
    Secret(#[source] SealError),
    #[error("making a data key")]
    Make(#[source] SealError),
    #[error("sealing a secret")]
    Seal(#[source] SealError),
    #[error(transparent)]
    Propose(#[from] ProposeError),
}

/// See the module.
pub struct Vault {
    node_id: NodeId,
    copies: SealingKey,
    store: Arc<Store>,
    propose: Arc<dyn Propose>,
    known: Mutex<Option<Known>>,
    /// Held while the data key is made, so that two requests do not make one each.
    making: tokio::sync::Mutex<()>,
}

/// The data key, opened.
#[derive(Clone)]
struct Known {
    id: String,
    bytes: Secret,
    key: Arc<SealingKey>,
}

/// A data key that is not the cluster's yet.
pub struct Drawn {
    pub id: String,
    pub bytes: Secret,
    key: SealingKey,
}

impl Drawn {
    /// Seal something of the cluster's own with it.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn seal(&self, what: &str, value: &Secret) -> Result<Sealed, VaultError> {
        let context = own_context(&self.id, what);
        self.key.seal(&context, value.expose()).map_err(VaultError::Seal)
    }
}

impl Vault {
    pub fn new(key: &NodeKey, store: Arc<Store>, propose: Arc<dyn Propose>) -> Self {
        Self {
            node_id: key.node_id(),
            copies: key.sealing_key(COPY_PURPOSE),
            store,
            propose,
            known: Mutex::default(),
            making: tokio::sync::Mutex::default(),
        }
    }

    /// Seal a value under its name and commit it.
    ///
    /// # Errors
    /// When there is no data key for this master, or the log refuses.
    pub async fn put(&self, name: &str, value: &Secret) -> Result<(), VaultError> {
        match self.put_once(name, value).await {
            // The data key was replaced in between.
            Err(VaultError::Propose(ProposeError::Rejected(Rejection::OtherDataKey))) => {
                self.put_once(name, value).await
            }
            put => put,
        }
    }

    async fn put_once(&self, name: &str, value: &Secret) -> Result<(), VaultError> {
        let data_key = self.data_key().await?;
        let value = data_key
            .key
            .seal(&secret_context(&data_key.id, name), value.expose())
            .map_err(VaultError::Seal)?;
        let command = Command::PutSecret { name: name.into(), key_id: data_key.id, value };
        self.propose.propose(command).await?;
        Ok(())
    }

    /// Seal something of the cluster's own, with the id of the data key it was sealed with.
    ///
    /// # Errors
    /// As [`Vault::put`].
    pub async fn seal(&self, what: &str, value: &Secret) -> Result<(String, Sealed), VaultError> {
        let data_key = self.data_key().await?;
        let context = own_context(&data_key.id, what);
        let sealed = data_key.key.seal(&context, value.expose()).map_err(VaultError::Seal)?;
        Ok((data_key.id, sealed))
    }

    /// Open what [`Vault::seal`] sealed as `what`.
    ///
    /// # Errors
    /// As [`Vault::open`].
    pub fn unseal(&self, what: &str, sealed: &Sealed) -> Result<Secret, VaultError> {
        let data_key = self.current()?.ok_or(VaultError::NoCopy)?;
        let context = own_context(&data_key.id, what);
        data_key.key.open(&context, sealed).map_err(VaultError::Secret)
    }

    /// The data key in the clear with its id, for another master or a sealed backup; `None` where there is none yet.
    ///
    /// # Errors
    /// When this master has no copy of it.
    pub fn share(&self) -> Result<Option<(String, Secret)>, VaultError> {
        Ok(self.current()?.map(|known| (known.id, known.bytes)))
    }

    /// Seal a data key that another master shared, as this master's own copy.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn copy(&self, id: &str, bytes: &Secret) -> Result<Sealed, VaultError> {
        let context = copy_context(id, &self.node_id);
        self.copies.seal(&context, bytes.expose()).map_err(VaultError::Make)
    }

    /// Draw a data key that shall take the place of the present one.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn draw(&self) -> Result<Drawn, VaultError> {
        let bytes = SealingKey::draw().map_err(VaultError::Make)?;
        let key = SealingKey::new(&bytes).map_err(VaultError::Make)?;
        Ok(Drawn { id: Uuid::new_v4().to_string(), bytes, key })
    }

    /// Every secret, sealed with another data key, with the version it was read at.
    ///
    /// # Errors
    /// When one does not open.
    pub fn reseal(
        &self,
        state: &State,
        drawn: &Drawn,
    ) -> Result<BTreeMap<String, (u64, Sealed)>, VaultError> {
        let mut resealed = BTreeMap::new();
        for (name, record) in &state.secrets {
            let Some(value) = self.open(state, name)? else { continue };
            let context = secret_context(&drawn.id, name);
            let sealed = drawn.key.seal(&context, value.expose()).map_err(VaultError::Seal)?;
            resealed.insert(name.clone(), (record.version, sealed));
        }
        Ok(resealed)
    }

    /// Whether the cluster has a data key of which this master has no copy.
    pub fn lacks_copy(&self) -> bool {
        self.store.read(|state| !state.holds_data_key(&self.node_id))
    }

    /// Open a secret; `None` where there is none of that name.
    ///
    /// # Errors
    /// When this master cannot open the data key, or the stored value is damaged.
    pub fn open(&self, state: &State, name: &str) -> Result<Option<Secret>, VaultError> {
        let Some(record) = state.secrets.get(name) else { return Ok(None) };
        let data_key = state.data_key.as_ref().ok_or(VaultError::NoCopy)?;
        let opened = self.opened(data_key)?;
        let context = secret_context(&opened.id, name);
        opened.key.open(&context, &record.value).map(Some).map_err(VaultError::Secret)
    }

    /// The cluster's data key, made now if there is none.
    async fn data_key(&self) -> Result<Known, VaultError> {
        let _one_at_a_time = self.making.lock().await;
        if let Some(known) = self.current()? {
            return Ok(known);
        }
        let (id, bytes) =
            (Uuid::new_v4().to_string(), SealingKey::draw().map_err(VaultError::Make)?);
        let copy = self.copy(&id, &bytes)?;
        let command = Command::KeepDataKey { id, node_id: self.node_id.clone(), copy };
        match self.propose.propose(command).await {
            // An earlier leader was faster: its key is the cluster's.
            Ok(_) | Err(ProposeError::Rejected(Rejection::OtherDataKey)) => {}
            Err(error) => return Err(error.into()),
        }
        self.current()?.ok_or(VaultError::NoCopy)
    }

    fn current(&self) -> Result<Option<Known>, VaultError> {
        let stored = self.store.read(|state| state.data_key.clone());
        stored.as_ref().map(|stored| self.opened(stored)).transpose()
    }

    fn opened(&self, stored: &DataKey) -> Result<Known, VaultError> {
        if let Some(known) = self.known().as_ref().filter(|known| known.id == stored.id) {
            return Ok(known.clone());
        }
        let copy: &Sealed = stored.copies.get(&self.node_id).ok_or(VaultError::NoCopy)?;
        let bytes = self.copies.open(&copy_context(&stored.id, &self.node_id), copy);
        let bytes = bytes.map_err(VaultError::Copy)?;
        let key = SealingKey::new(&bytes).map_err(VaultError::Copy)?;
        let known = Known { id: stored.id.clone(), bytes, key: Arc::new(key) };
        *self.known() = Some(known.clone());
        Ok(known)
    }

    fn known(&self) -> MutexGuard<'_, Option<Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Seal the data key `id` for the master whose node key this is.
///
/// # Errors
/// When the system gives no randomness.
pub fn copy_for(key: &NodeKey, id: &str, data_key: &Secret) -> Result<Sealed, SealError> {
    key.sealing_key(COPY_PURPOSE).seal(&copy_context(id, &key.node_id()), data_key.expose())
}

fn copy_context<'a>(id: &'a str, node_id: &'a NodeId) -> [&'a str; 3] {
    ["data key", id, node_id.as_str()]
}

fn own_context<'a>(key_id: &'a str, what: &'a str) -> [&'a str; 3] {
    ["of the cluster", key_id, what]
}

fn secret_context<'a>(key_id: &'a str, name: &'a str) -> [&'a str; 3] {
    ["secret", key_id, name]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::testing::Node;

    #[tokio::test]
    async fn another_life_of_the_node_opens_and_another_node_does_not() {
        let node = Node::start().await;
        let key = NodeKey::generate().expect("a key");
        let vault = || Vault::new(&key, node.store.clone(), node.memory.clone());
        vault().put("a", &Secret::new(b"x".to_vec())).await.expect("puts");
        let open = |vault: &Vault, name: &str| node.store.read(|state| vault.open(state, name));
        let opened = open(&vault(), "a").expect("opens").expect("is there");
        assert_eq!(opened.expose(), b"x");
        assert!(open(&vault(), "b").expect("opens").is_none());
        let stranger = NodeKey::generate().expect("a key");
        let stranger = Vault::new(&stranger, node.store.clone(), node.memory.clone());
        assert!(matches!(open(&stranger, "a"), Err(VaultError::NoCopy)));
        let put = stranger.put("b", &Secret::new(b"y".to_vec())).await;
        assert!(matches!(put, Err(VaultError::NoCopy)));
    }

    #[tokio::test]
    async fn a_sealed_value_opens_under_its_own_name_only() {
        let node = Node::start().await;
        let key = NodeKey::generate().expect("a key");
        let vault = Vault::new(&key, node.store.clone(), node.memory.clone());
        vault.put("a", &Secret::new(b"x".to_vec())).await.expect("puts");
        node.edit(|state| {
            let record = state.secrets["a"].clone();
            state.secrets.insert("b".into(), record);
        });
        let opened = node.store.read(|state| vault.open(state, "b"));
        assert!(matches!(opened, Err(VaultError::Secret(_))));
    }
}
