//! Other keys in the place of those that a removed master knew: the CA, the data key and all that
//! is sealed with it, the join token. One entry of the log replaces them all.

use crate::authority::{AUTHORITY, Authority, AuthorityRoomError, JOIN_TOKEN};
use bramble_core::command::Command;
use bramble_core::model::{DataKey, NewKeys, NodeRole};
use bramble_protocol::net::{ClusterCa, JoinToken};
use bramble_protocol::secret::Secret;

impl Authority {
    /// Replace the keys, as the leader.
    ///
    /// # Errors
    /// Too few masters answered, this one cannot open what is sealed, or the log refuses: nothing
    /// has changed then, and it can be done again.
    pub(crate) async fn replace_keys(&self) -> Result<(), AuthorityRoomError> {
        let peers = self.peers.as_ref().ok_or(AuthorityRoomError::NoPeers)?;
        let drawn = self.vault.draw()?;
        let (own, masters, resealed) = self.store.read(|state| {
            let members = state.nodes.values().filter(|node| node.role != NodeRole::Agent);
            let masters = members.count();
            (
                state.data_key.as_ref().map(|key| key.id.clone()),
                masters,
                self.vault.reseal(state, &drawn),
            )
        });
        let replaces = own.ok_or(AuthorityRoomError::NotYet)?;
        let secrets = resealed?;
        // Before anything is sealed for good: were the leader to be lost, they can open it.
        let mut copies = peers.collect_copies(&self.store, &drawn.id, &drawn.bytes).await;
        copies.insert(peers.own().clone(), self.vault.copy(&drawn.id, &drawn.bytes)?);
        if copies.len() * 2 <= masters {
            return Err(AuthorityRoomError::TooFewCopies { copies: copies.len(), masters });
        }
        let cluster = self.store.read(|state| state.cluster.as_ref().map(|c| c.id.clone()));
        let ca = ClusterCa::mint(&cluster.ok_or(AuthorityRoomError::NotFounded)?)?;
        let token = JoinToken::mint(ca.certificate())?;
        let text = Secret::new(token.to_string().into_bytes());
        let keys = NewKeys {
            replaces,
            data_key: DataKey { id: drawn.id.clone(), copies },
            secrets,
            ca_certificate: ca.certificate().to_vec(),
            authority: drawn.seal(AUTHORITY, &ca.private_key())?,
            join_secret_sha256: token.secret_sha256(),
            join_token: drawn.seal(JOIN_TOKEN, &text)?,
        };
        self.propose.propose(Command::ReplaceKeys { keys: Box::new(keys) }).await?;
        tracing::warn!(
            "the CA, the data key and the join token were replaced, since a master was removed"
        );
        Ok(())
    }
}
