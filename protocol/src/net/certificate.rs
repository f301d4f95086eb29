//! What a bramble certificate says: whose key, which role, which cluster.
//!
//! Reads only. A certificate is believed after its chain was verified (see `tls`), never before.

use super::identity::node_id_of;
use bramble_core::model::{NodeId, NodeRole};
use thiserror::Error;
use x509_parser::prelude::{FromDer, X509Certificate};

#[derive(Debug, Error)]
pub enum CertificateError {
    #[error("parsing a certificate of {bytes} bytes")]
    Parse {
        bytes: usize,
        #[source]
        source: x509_parser::nom::Err<x509_parser::error::X509Error>,
    },
    #[error("the certificate names no {field}")]
    Missing { field: &'static str },
    #[error("the certificate's role {0:?} is none of full, master, agent")]
    UnknownRole(String),
    #[error("the certificate is for node {named}, its key belongs to node {keyed}")]
    NameIsNotKey { named: String, keyed: NodeId },
}

/// The other end of a link, as its verified certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    pub node_id: NodeId,
    pub role: NodeRole,
}

impl Peer {
    /// Whether it may vote, lead and answer agents.
    pub fn is_master(&self) -> bool {
        matches!(self.role, NodeRole::Full | NodeRole::Master)
    }

    /// Whether it may run tasks.
    pub fn is_agent(&self) -> bool {
        matches!(self.role, NodeRole::Full | NodeRole::Agent)
    }
}

/// The text of a role inside certificates.
pub(super) fn role_text(role: NodeRole) -> &'static str {
    match role {
        NodeRole::Full => "full",
        NodeRole::Master => "master",
        NodeRole::Agent => "agent",
    }
}

/// The role of its text.
pub(super) fn role_from_text(text: &str) -> Option<NodeRole> {
    [NodeRole::Full, NodeRole::Master, NodeRole::Agent].into_iter().find(|r| role_text(*r) == text)
}

/// Read node id and role of a node's certificate (DER).
///
/// # Errors
/// When it is no certificate, or its name is not the hash of its key.
pub fn peer_of(certificate: &[u8]) -> Result<Peer, CertificateError> {
    let parsed = parse(certificate)?;
    let subject = parsed.subject();
    let named = subject
        .iter_common_name()
        .next()
        .and_then(|name| name.as_str().ok())
        .ok_or(CertificateError::Missing { field: "node id (common name)" })?;
    let keyed = node_id_of(parsed.public_key().raw);
    if keyed.as_str() != named {
        return Err(CertificateError::NameIsNotKey { named: named.to_string(), keyed });
    }
    let role = subject
        .iter_organizational_unit()
        .next()
        .and_then(|unit| unit.as_str().ok())
        .ok_or(CertificateError::Missing { field: "role (organizational unit)" })?;
    let role =
        role_from_text(role).ok_or_else(|| CertificateError::UnknownRole(role.to_string()))?;
    Ok(Peer { node_id: keyed, role })
}

/// Read the cluster id of a cluster's CA certificate (DER).
///
/// # Errors
/// When it is no certificate or names no cluster.
pub fn cluster_id_of(ca: &[u8]) -> Result<String, CertificateError> {
    let parsed = parse(ca)?;
    parsed
        .subject()
        .iter_organization()
        .next()
        .and_then(|name| name.as_str().ok())
        .map(str::to_string)
        .ok_or(CertificateError::Missing { field: "cluster id (organization)" })
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, CertificateError> {
    X509Certificate::from_der(der)
        .map(|(_, parsed)| parsed)
        .map_err(|source| CertificateError::Parse { bytes: der.len(), source })
}
