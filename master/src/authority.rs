//! The cluster's authority and join token, in the hands of whichever master leads.
//!
//! Both lie in the replicated state, sealed with the data key. The founder puts them there from its
//! own disk when it first leads; from then on its files are only a copy.

use crate::founding::Founding;
use crate::propose::{Propose, ProposeError};
use crate::store::Store;
use crate::vault::{Vault, VaultError};
use bramble_core::command::Command;
use bramble_protocol::net::{AuthorityError, ClusterCa, JoinToken, TokenError};
use bramble_protocol::secret::Secret;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio_util::sync::CancellationToken;

/// What the two are sealed as.
const AUTHORITY: &str = "authority";
const JOIN_TOKEN: &str = "join token";
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

    /// As the leader, see to it that the state holds both. Ends once it does.
    pub async fn provide(&self, stop: CancellationToken) {
        let Some(founding) = &self.founding else { return };
        loop {
            let there = self.store.read(|state| {
                state.cluster.as_ref().is_some_and(|cluster| cluster.authority.is_some())
            });
            if there {
                return;
            }
            match self.write_down(founding).await {
                Ok(()) => return,
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, "the authority is not in the log yet");
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(RETRY) => {}
            }
        }
    }

    async fn write_down(&self, founding: &Founding) -> Result<(), AuthorityRoomError> {
        let (key_id, authority) = self.vault.seal(AUTHORITY, &founding.ca.private_key()).await?;
        let token = Secret::new(founding.token.to_string().into_bytes());
        let (_, join_token) = self.vault.seal(JOIN_TOKEN, &token).await?;
        self.propose.propose(Command::KeepAuthority { key_id, authority, join_token }).await?;
        Ok(())
    }
}
