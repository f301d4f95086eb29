//! Backups: all that makes a cluster this cluster, in one file.
//!
//! A backup holds the replicated state as a snapshot, and beside it what the state has only in
//! sealed form: the authority's key, the join token and the data key. With these another node can
//! be this cluster again. They are secrets, so the file is sealed with a passphrase (or, if its
//! owner insists, is left in the clear). It holds no image, no volume, no log of a task.

mod file;
mod restore;

pub use file::{BACKUP_BYTES_MAX, Header, is_sealed, open, seal};
pub use restore::{Restored, restore};

use crate::authority::{Authority, AuthorityRoomError};
use crate::consensus::{Consensus, ConsensusError, Image};
use crate::founding::FoundingError;
use crate::vault::{Vault, VaultError};
use bramble_core::model::Time;
use bramble_protocol::codec::CodecError;
use bramble_protocol::net::{AuthorityError, IdentityError, SealError, TokenError};
use bramble_protocol::secret::Secret;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use thiserror::Error;

#[derive(Debug, Error)]
pub enum BackupError {
    #[error("this is no backup of a bramble, or it is cut short")]
    NotABackup,
    #[error("this backup has format {0}; this bramble knows formats up to {known}: upgrade it",
        known = file::FORMAT)]
    Format(u32),
    #[error("the backup is damaged: its content does not match its digest")]
    Damaged,
    #[error("the backup is sealed: give its passphrase with --passphrase-file FILE")]
    Sealed,
    #[error("the backup does not open: it was sealed with another passphrase")]
    Passphrase(#[source] SealError),
    #[error("sealing the backup")]
    Seal(#[source] SealError),
    #[error("writing the backup")]
    Encode(#[source] CodecError),
    #[error("reading the backup")]
    Decode(#[source] CodecError),
    #[error("the backup holds no {0}: it cannot be restored")]
    Lacks(&'static str),
    #[error("the state of the cluster")]
    State(#[from] ConsensusError),
    #[error("the cluster's data key")]
    DataKey(#[from] VaultError),
    #[error("the cluster's own keys")]
    OwnKeys(#[from] AuthorityRoomError),
    #[error("this node is no master: run `bramble backup` on one")]
    NoMaster,
    #[error("the cluster is not founded yet")]
    NotFounded,
    #[error("the cluster's data key changed meanwhile: try again")]
    Meanwhile,
    #[error("sealing the data key for the new node")]
    Copy(#[source] SealError),
    #[error("the cluster's authority in the backup")]
    Authority(#[from] AuthorityError),
    #[error("the join token in the backup")]
    Token(#[from] TokenError),
    #[error("making a key for this node")]
    Key(#[from] IdentityError),
    #[error("writing the node's keys")]
    Keys(#[from] FoundingError),
}

/// What a backup holds. Field names are the format; only optional ones may be added.
#[derive(Debug, Serialize, Deserialize)]
pub struct Backup {
    pub cluster_id: String,
    /// Cluster time when it was made.
    pub made_at: Time,
    /// Log index it goes up to.
    pub index: u64,
    /// Version of the bramble that made it.
    pub bramble: String,
    /// A snapshot file, as [`crate::consensus`] writes them.
    #[serde(with = "octets")]
    pub snapshot: Vec<u8>,
    /// The authority's key (PKCS#8) and certificate (DER).
    #[serde(default)]
    pub authority_key: Option<Secret>,
    #[serde(default, with = "octets")]
    pub authority_certificate: Vec<u8>,
    #[serde(default)]
    pub join_token: Option<Secret>,
    /// What secrets in the state are sealed with; none where there never was one.
    #[serde(default)]
    pub data_key: Option<Secret>,
}

/// Bytes as a string of bytes.
mod octets {
    use serde::{Deserializer, Serializer};

    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        bramble_core::model::bytes(deserializer)
    }
}

/// Makes backups of this master's cluster.
pub struct Backups {
    pub consensus: Arc<Consensus>,
    pub vault: Arc<Vault>,
    pub authority: Arc<Authority>,
}

impl Backups {
    /// The bytes of an unsealed backup of this moment.
    ///
    /// # Errors
    /// This master cannot open the data key, or is shutting down.
    pub fn make(&self) -> Result<Vec<u8>, BackupError> {
        let snapshot = self.consensus.image()?;
        let image = Image::decode(&snapshot)?;
        let state = image.state();
        let cluster = state.cluster.as_ref().ok_or(BackupError::NotFounded)?;
        let (ca, token) = (self.authority.ca()?, self.authority.token()?);
        let shared = self.vault.share()?;
        let known = shared.as_ref().map(|(id, _)| id);
        if known != state.data_key.as_ref().map(|stored| &stored.id) {
            return Err(BackupError::Meanwhile);
        }
        let backup = Backup {
            cluster_id: cluster.id.clone(),
            made_at: state.now,
            index: state.applied_index,
            bramble: env!("CARGO_PKG_VERSION").to_string(),
            authority_key: Some(ca.private_key()),
            authority_certificate: ca.certificate().to_vec(),
            join_token: Some(Secret::new(token.to_string().into_bytes())),
            data_key: shared.map(|(_, key)| key),
            snapshot,
        };
        file::write(&backup)
    }
}
