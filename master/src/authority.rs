//! The cluster's authority and join token, in the hands of whichever master leads.
//!
//! Both lie in the replicated state, sealed with the data key. The founder puts them there from its
//! own disk when it first leads; from then on its files are only a copy.

use crate::founding::Founding;
use crate::peers::Peers;
use crate::propose::{Propose, ProposeError};
use crate::store::Store;
use crate::vault::{Vault, VaultError};
use bramble_core::command::Command;
use bramble_core::model::{NodeId, SealedToken};
use bramble_protocol::net::{AuthorityError, ClusterCa, JoinToken, TokenError};
use bramble_protocol::secret::Secret;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio_util::sync::CancellationToken;

/// What the two are sealed as.
pub(crate) const AUTHORITY: &str = "authority";
pub(crate) const JOIN_TOKEN: &str = "join token";
/// Pause before the founder tries again to write them down.
const RETRY: Duration = Duration::from_secs(1);

#[derive(Debug, Error)]
pub enum AuthorityRoomError {
    #[error("the cluster is not founded yet")]
    NotFounded,
    #[error("this master does not have the cluster's authority yet: try again in a moment")]
    NotYet,
    #[error("opening the cluster's authority")]
    Vault(#[from] VaultError),
    #[error("the cluster's authority is unusable")]
    Authority(#[from] AuthorityError),
    #[error("the cluster's join token is unusable")]
    Token(#[from] TokenError),
    #[error("the cluster's join token is no text")]
    TokenForm,
    #[error("node {0} is no member of the cluster")]
    NoMember(NodeId),
    #[error("no other master can be asked to keep a copy of the new data key")]
    NoPeers,
    #[error("too few masters keep a copy of the new data key: {copies} of {masters}")]
    TooFewCopies { copies: usize, masters: usize },
    #[error("writing down the cluster's authority")]
    Propose(#[from] ProposeError),
}

/// See the module.
pub struct Authority {
    pub store: Arc<Store>,
    pub propose: Arc<dyn Propose>,
    pub vault: Arc<Vault>,
    /// Where this node founded the cluster: what it then wrote to its disk.
    pub founding: Option<Founding>,
    /// Whom copies of a new data key are asked of; none where the keys are never replaced.
    pub peers: Option<Arc<Peers>>,
}

impl Authority {
    /// The authority, able to sign.
    ///
    /// # Errors
    /// When this master cannot open it.
    pub fn ca(&self) -> Result<ClusterCa, AuthorityRoomError> {
        let cluster = self.store.read(|state| state.cluster.clone());
        let cluster = cluster.ok_or(AuthorityRoomError::NotFounded)?;
        let private = match (&cluster.authority, &self.founding) {
            (Some(sealed), _) => self.vault.unseal(AUTHORITY, sealed)?,
            (None, Some(founding)) => founding.ca.private_key(),
            (None, None) => return Err(AuthorityRoomError::NotYet),
        };
        Ok(ClusterCa::from_parts(&private, cluster.ca_certificate)?)
    }

    /// The join token.
    ///
    /// # Errors
    /// As [`Authority::ca`].
    pub fn token(&self) -> Result<JoinToken, AuthorityRoomError> {
        let sealed = self.store.read(|state| {
            let cluster = state.cluster.as_ref().ok_or(AuthorityRoomError::NotFounded)?;
            Ok::<_, AuthorityRoomError>(cluster.join_token.clone())
        })?;
        let Some(sealed) = sealed else {
            let founding = self.founding.as_ref().ok_or(AuthorityRoomError::NotYet)?;
            return Ok(founding.token.clone());
        };
        let text = self.vault.unseal(JOIN_TOKEN, &sealed)?;
        let text = std::str::from_utf8(text.expose()).map_err(|_| AuthorityRoomError::TokenForm)?;
        Ok(text.parse()?)
    }

    /// As the leader, see to it that the state holds both, and that both are replaced once a
    /// master that knew them was removed.
    pub async fn provide(&self, stop: CancellationToken) {
        let mut changes = self.store.watch();
        loop {
            changes.mark_unchanged();
            let done = tokio::select! {
                () = stop.cancelled() => return,
                done = self.settle() => done,
            };
            let retry = async {
                match done {
                    true => std::future::pending().await,
                    false => tokio::time::sleep(RETRY).await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                changed = changes.changed() => if changed.is_err() { return },
                () = retry => {}
            }
        }
    }

    /// Do what is due. Whether all is done.
    async fn settle(&self) -> bool {
        let (there, due) = self.store.read(|state| {
            let cluster = state.cluster.as_ref();
            let due = cluster.is_some_and(|cluster| cluster.rotation_due);
            (cluster.is_some_and(|cluster| cluster.authority.is_some()), due)
        });
        let settled = match &self.founding {
            Some(founding) if !there => self.write_down(founding).await,
            _ if due => self.replace_keys().await,
            _ => return true,
        };
        if let Err(error) = &settled {
            let error = error as &dyn std::error::Error;
            tracing::warn!(error, "the cluster's authority is not as it should be yet");
        }
        settled.is_ok()
    }

    /// Draw a join token with another secret, sealed for the state.
    ///
    /// # Errors
    /// When there is no data key for this master.
    pub async fn new_token(&self) -> Result<(JoinToken, SealedToken), AuthorityRoomError> {
        let ca = self.store.read(|s| s.cluster.as_ref().map(|c| c.ca_certificate.clone()));
        let token = JoinToken::mint(&ca.ok_or(AuthorityRoomError::NotFounded)?)?;
        let text = Secret::new(token.to_string().into_bytes());
        let (key_id, sealed) = self.vault.seal(JOIN_TOKEN, &text).await?;
        Ok((token, SealedToken { key_id, token: sealed }))
    }

    /// Make another join token the cluster's, as the leader.
    ///
    /// # Errors
    /// As [`Authority::new_token`], and when the log refuses.
    pub async fn rotate_token(&self) -> Result<JoinToken, AuthorityRoomError> {
        let (token, sealed) = self.new_token().await?;
        let join_secret_sha256 = token.secret_sha256();
        let command = Command::RotateToken { join_secret_sha256, sealed: Some(sealed) };
        self.propose.propose(command).await?;
        tracing::info!("the join token was replaced");
        Ok(token)
    }

    /// Issue a member a certificate of the present CA; with it, the CA's own. Both DER.
    ///
    /// # Errors
    /// It is no member, or this master cannot sign.
    pub fn certify(&self, node_id: &NodeId) -> Result<(Vec<u8>, Vec<u8>), AuthorityRoomError> {
        let node = self.store.read(|state| state.nodes.get(node_id).cloned());
        let node = node.ok_or_else(|| AuthorityRoomError::NoMember(node_id.clone()))?;
        let ca = self.ca()?;
        let certificate = ca.issue(&node.public_key, &node.id, node.role)?;
        Ok((certificate, ca.certificate().to_vec()))
    }

    async fn write_down(&self, founding: &Founding) -> Result<(), AuthorityRoomError> {
        let (key_id, authority) = self.vault.seal(AUTHORITY, &founding.ca.private_key()).await?;
        let token = Secret::new(founding.token.to_string().into_bytes());
        let (_, join_token) = self.vault.seal(JOIN_TOKEN, &token).await?;
        self.propose.propose(Command::KeepAuthority { key_id, authority, join_token }).await?;
        Ok(())
    }
}
