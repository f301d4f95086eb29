//! Nodes admitted to the cluster, and what the cluster knows of itself.

use super::{DataKey, NodeId, Sealed, Time};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

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
    /// Certificates of earlier CAs, latest last: nodes that slept through a change show theirs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub previous: Vec<Vec<u8>>,
    /// A master was removed that knows the authority's key and the data key: both are to be
    /// replaced.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rotation_due: bool,
}

/// A node that was put out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// As it was last called.
    pub name: String,
    /// Whether it was a master.
    pub master: bool,
    pub at: Time,
}

/// Earlier CAs kept. A node that slept through more joins again.
pub const PREVIOUS_MAX: u32 = 8;
/// Removed nodes remembered, the latest. An older one is still no member, which is all that
/// keeps it out; it is only told less clearly.
pub const REMOVED_MAX: u32 = 1024;

/// A join token on its way into the state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedToken {
    /// The data key it is sealed with.
    pub key_id: String,
    pub token: Sealed,
}

/// Keys of the cluster that take the place of others, all at once: what is sealed with the data
/// key is of use only with that one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewKeys {
    /// Id of the data key that is replaced.
    pub replaces: String,
    pub data_key: DataKey,
    /// Every secret, sealed anew, with the version that it was read at.
    pub secrets: BTreeMap<String, (u64, Sealed)>,
    /// DER.
    pub ca_certificate: Vec<u8>,
    pub authority: Sealed,
    pub join_secret_sha256: String,
    pub join_token: Sealed,
}
