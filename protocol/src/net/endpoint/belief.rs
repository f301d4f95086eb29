//! What an endpoint shows of itself, and whom it believes: its identity, other CAs, masters by key.

use super::{Alpn, Dialler, Endpoint, EndpointError};
use crate::net::durable::write_private;
use crate::net::identity::Identity;
use crate::net::tls::{self, Believed, Trust};
use crate::net::transport;
use bramble_core::model::NodeId;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, PoisonError};

/// File beside the identity with the ids of masters that are believed by their keys.
const PINNED_FILE: &str = "masters";

impl Endpoint {
    /// Become (or change to) this identity: from now on, new links show it and need its CA.
    ///
    /// # Errors
    /// When the identity is unusable.
    pub fn set_identity(&self, identity: Identity) -> Result<(), EndpointError> {
        let mut believed = self.believed.read().expect("no holder of this lock panics").clone();
        if !believed.cas.contains(&identity.ca) {
            believed.cas.insert(0, identity.ca.clone());
        }
        let believed = Arc::new(believed);
        let names = Alpn::ALL.map(|alpn| alpn.as_str().as_bytes());
        let crypto = tls::server_config(&identity, believed.clone(), &names);
        let server = transport::server_config(crypto.map_err(EndpointError::Tls)?, self.options);
        let client =
            |alpn| self.client_config(Some(&identity), alpn, Trust::Nodes(believed.clone()));
        let (agent, raft) = (client(Alpn::Agent)?, client(Alpn::Raft)?);
        let (api, peer) = (client(Alpn::Api)?, client(Alpn::Peer)?);
        let dialler = Arc::new(Dialler { identity, agent, raft, api, peer });
        *self.identity.write().expect("no holder of this lock panics") = Some(dialler);
        self.quic.set_server_config(Some(server));
        Ok(())
    }

    /// Keep a renewed identity, and the masters believed by their keys, in this directory.
    ///
    /// # Errors
    /// When the identity is unusable.
    pub fn keep_in(&self, directory: &Path) -> Result<(), EndpointError> {
        // A node has one identity all its life.
        let _ = self.directory.set(directory.to_path_buf());
        let pinned = std::fs::read_to_string(directory.join(PINNED_FILE)).unwrap_or_default();
        self.pin(pinned.lines().map(NodeId::new).collect())
    }

    /// Believe these masters by their keys, whoever certified them.
    ///
    /// # Errors
    /// When the identity is unusable.
    pub fn pin(&self, masters: BTreeSet<NodeId>) -> Result<(), EndpointError> {
        let _one_at_a_time = self.believing.lock().unwrap_or_else(PoisonError::into_inner);
        let text: String = masters.iter().map(|id| format!("{id}\n")).collect();
        let cas = self.believed.read().expect("no holder of this lock panics").cas.clone();
        if self.believe(Believed { cas, pinned: masters })?
            && let Some(directory) = self.directory.get()
            && let Err(error) = write_private(&directory.join(PINNED_FILE), text.as_bytes())
        {
            tracing::warn!(%error, "the keys of the masters were not written down");
        }
        Ok(())
    }

    /// Believe these CAs (DER) besides the own one.
    ///
    /// # Errors
    /// When one is unusable.
    pub fn believe_also(&self, cas: Vec<Vec<u8>>) -> Result<(), EndpointError> {
        let _one_at_a_time = self.believing.lock().unwrap_or_else(PoisonError::into_inner);
        let pinned = self.believed.read().expect("no holder of this lock panics").pinned.clone();
        self.believe(Believed { cas, pinned }).map(drop)
    }

    /// Whether anything changed by it.
    fn believe(&self, believed: Believed) -> Result<bool, EndpointError> {
        {
            let mut known = self.believed.write().expect("no holder of this lock panics");
            if *known == believed {
                return Ok(false);
            }
            *known = believed;
        }
        match self.identity() {
            Some(identity) => self.set_identity(identity).map(|()| true),
            None => Ok(true),
        }
    }

    /// Show another certificate of this node's own key from now on, and keep it.
    ///
    /// # Errors
    /// It is for another key or was not issued by that CA, or cannot be written.
    pub fn renew(&self, certificate: Vec<u8>, ca: Vec<u8>) -> Result<(), EndpointError> {
        let _one_at_a_time = self.believing.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.identity().ok_or(EndpointError::NoIdentity)?;
        if known.certificate == certificate && known.ca == ca {
            return Ok(());
        }
        let renewed = Identity::new(known.key, certificate, ca).map_err(EndpointError::Renewal)?;
        if let Some(directory) = self.directory.get() {
            renewed.replace(directory).map_err(EndpointError::Renewal)?;
        }
        self.set_identity(renewed)?;
        tracing::warn!("this node has a new certificate: the cluster's CA was replaced");
        Ok(())
    }

    /// What this node shows.
    pub fn identity(&self) -> Option<Identity> {
        let dialler = self.identity.read().expect("no holder of this lock panics");
        dialler.as_ref().map(|dialler| dialler.identity.clone())
    }
}
