//! Admission: who knows the join secret becomes a node, by a committed command.

use crate::founding::Keys;
use crate::propose::Propose;
use crate::store::Store;
use bramble_core::command::Command;
use bramble_core::model::{Node, NodeRole};
use bramble_protocol::net::{Admit, AdmitFuture};
use std::sync::Arc;

/// Admits agents on the leader.
pub struct Admission {
    pub store: Arc<Store>,
    pub propose: Arc<dyn Propose>,
    pub keys: Arc<Keys>,
}

impl Admission {
    async fn decide(&self, node: Node, secret_sha256: String) -> Result<Vec<u8>, String> {
        let expected =
            self.store.read(|s| s.cluster.as_ref().map(|c| c.join_secret_sha256.clone()));
        if expected.as_deref() != Some(secret_sha256.as_str()) {
            tracing::warn!(node_id = %node.id, name = %node.name, "a wrong join secret");
            return Err("the join token is not this cluster's current one; \
                ask a node of it for `bramble token`"
                .into());
        }
        if node.role != NodeRole::Agent {
            return Err("this version admits agents only; start `bramble agent`".into());
        }
        let certificate = self
            .keys
            .ca
            .issue(&node.public_key, &node.id, node.role)
            .map_err(|error| error.to_string())?;
        tracing::info!(node_id = %node.id, name = %node.name, "a node is admitted");
        self.propose
            .propose(Command::AdmitNode { node })
            .await
            .map_err(|error| error.to_string())?;
        Ok(certificate)
    }
}

impl Admit for Admission {
    fn admit(&self, node: Node, secret_sha256: String) -> AdmitFuture<'_> {
        Box::pin(self.decide(node, secret_sha256))
    }
}
