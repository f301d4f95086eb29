//! Nodes admitted to the cluster, and what the cluster knows of itself.

use super::{NodeId, Sealed, Time};
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodeRole {
    /// Master and agent.
    Full,
    Master,
    Agent,
}

/// A member: revoked by removal, whatever its certificate says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    pub id: NodeId,
    pub name: String,
    pub role: NodeRole,
    /// Ed25519 public key, SPKI DER.
    pub public_key: Vec<u8>,
    pub admitted_at: Time,
}

/// What makes this cluster this cluster; written once by the founder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// UUID; also Mesos' framework id in compatible answers.
    pub id: String,
    /// Certificate of the cluster's CA, DER.
    pub ca_certificate: Vec<u8>,
    /// Lower-case hex SHA-256 of the join secret: the token itself is never stored here.
    pub join_secret_sha256: String,
    pub founded_at: Time,
    /// The authority's private key, sealed with the data key, so that every master can admit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority: Option<Sealed>,
    /// The join token, sealed likewise, so that every master can show it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub join_token: Option<Sealed>,
}
