//! Admission: how a machine with a token becomes a node.
//!
//! The joiner believes the server by the CA hash in its token before it says anything secret. It
//! then sends the secret, its public key, and a signature over this very TLS session, so that a
//! request cannot be replayed by who overhears it. The authority never sees a private key.

use super::certificate::{CertificateError, cluster_id_of, peer_of};
use super::endpoint::{Alpn, Endpoint, EndpointError, Link, certificates_behind};
use super::frame::{FrameError, read_frame_within, write_frame};
use super::identity::{NodeKey, node_id_of, verify_signature};
use super::tls::{TlsError, verify_issued};
use super::token::{JoinToken, secret_digest};
use bramble_core::model::{Node, NodeRole, Time};
use quinn::{ConnectionError, VarInt};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::future::Future;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::time::Duration;
use thiserror::Error;

/// Largest frame of this exchange, in bytes: strangers speak here.
const JOIN_FRAME_BYTES_MAX: usize = 16 * 1024;
/// Longest name of a node, in bytes (a DNS label).
const NAME_BYTES_MAX: usize = 63;
/// Longest time of the whole exchange; it holds a Raft commit.
const JOIN_MAX: Duration = Duration::from_secs(15);
/// Longest wait for the joiner to have read its answer.
const LINGER_MAX: Duration = Duration::from_secs(2);
/// Binds the proof to this protocol and this TLS session (RFC 5705).
const EXPORTER_LABEL: &[u8] = b"EXPORTER-bramble-join/1";
const EXPORTED_BYTES: usize = 32;

#[derive(Debug, Error)]
pub enum JoinError {
    #[error("reaching the cluster")]
    Connect(#[source] EndpointError),
    #[error("the connection ended during the admission")]
    Connection(#[source] ConnectionError),
    #[error("the admission's messages")]
    Frame(#[source] FrameError),
    #[error("the admission took longer than {} s", JOIN_MAX.as_secs())]
    TimedOut,
    #[error("the other side ended the admission without an answer")]
    NoAnswer,
    #[error("the cluster refuses this node: {reason}")]
    Refused { reason: String },
    #[error("the cluster cannot admit a node now: {reason}")]
    NotNow { reason: String },
    #[error("the cluster's CA is not among the certificates it showed")]
    NoAuthority,
    #[error("the cluster's certificates are unusable")]
    Certificate(#[source] CertificateError),
    #[error("the cluster issued a certificate for another key")]
    OtherKey,
    #[error("the certificate was not issued by the cluster's CA")]
    NotIssued(#[source] TlsError),
    #[error("this TLS session gives no key to sign")]
    Export,
    #[error("the link speaks {0:?}, not Join")]
    NotAJoin(Alpn),
}

/// Who wants to join.
#[derive(Clone, Copy, Debug)]
pub struct Applicant<'a> {
    pub key: &'a NodeKey,
    pub name: &'a str,
    /// Nobody chose the name: the cluster may give another where a node has it already.
    pub default_name: bool,
    pub role: NodeRole,
}

/// What the joiner gets: with its key, an [`super::Identity`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// This node's certificate, DER.
    pub certificate: Vec<u8>,
    /// The cluster's CA certificate, DER.
    pub ca: Vec<u8>,
    pub cluster_id: String,
    /// The name that it is admitted under.
    pub name: String,
    /// What a person should know of this admission.
    pub note: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct JoinRequest {
    name: String,
    role: NodeRole,
    public_key: Vec<u8>,
    /// Signature over the session's exported key.
    proof: Vec<u8>,
    secret: Vec<u8>,
    #[serde(default)]
    default_name: bool,
}

#[derive(Debug, Serialize, Deserialize)]
enum JoinReply {
    Admitted {
        certificate: Vec<u8>,
        #[serde(default)]
        name: Option<String>,
        #[serde(default)]
        note: Option<String>,
    },
    Refused {
        reason: String,
    },
    NotNow {
        reason: String,
    },
}

/// A machine whose key is proven, as it asks to be admitted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// `admitted_at` is 0: the leader's clock decides.
    pub node: Node,
    /// Lower-case hex SHA-256 of the secret it knows.
    pub secret_sha256: String,
    /// Nobody chose its name.
    #[serde(default)]
    pub default_name: bool,
}

/// What an admitted machine is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Admitted {
    /// DER.
    pub certificate: Vec<u8>,
    /// The name it has from now on.
    pub name: String,
    /// What a person should know.
    #[serde(default)]
    pub note: Option<String>,
}

/// Why a node is not admitted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// It will not be, however often it asks.
    Never(String),
    /// The cluster cannot decide at this moment: ask again.
    NotNow(String),
}

/// The future of [`Admit::admit`].
pub type AdmitFuture<'a> = Pin<Box<dyn Future<Output = Result<Admitted, Refusal>> + Send + 'a>>;

/// Decides who becomes a node.
pub trait Admit: Send + Sync {
    /// Admit a machine if it knows the cluster's secret, and issue its certificate.
    fn admit(&self, candidate: Candidate) -> AdmitFuture<'_>;
}

/// Join the cluster of `token` through the master at `addr`.
///
/// # Errors
/// When no master answers there, it is of another cluster (the secret then was not sent), or it
/// refuses.
pub async fn join(
    addr: SocketAddr,
    token: &JoinToken,
    applicant: Applicant<'_>,
) -> Result<Joined, JoinError> {
    let local: SocketAddr = match addr {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let endpoint = Endpoint::bind(local, None).map_err(JoinError::Connect)?;
    let outcome = tokio::time::timeout(JOIN_MAX, ask(&endpoint, addr, token, applicant)).await;
    endpoint.close().await;
    outcome.map_err(|_| JoinError::TimedOut)?
}

async fn ask(
    endpoint: &Endpoint,
    addr: SocketAddr,
    token: &JoinToken,
    applicant: Applicant<'_>,
) -> Result<Joined, JoinError> {
    let Applicant { key, name, default_name, role } = applicant;
    // Returns only after the chain was verified against the CA of the token's hash.
    let link = endpoint.connect_to_join(addr, token.ca_sha256).await.map_err(JoinError::Connect)?;
    let ca = certificates_behind(&link.connection)
        .into_iter()
        .find(|certificate| Sha256::digest(certificate).as_slice() == token.ca_sha256)
        .ok_or(JoinError::NoAuthority)?;
    let proof = key.sign(&exported(&link.connection, key.public_key())?);
    let request = JoinRequest {
        name: name.to_string(),
        role,
        public_key: key.public_key().to_vec(),
        proof,
        secret: token.secret.to_vec(),
        default_name,
    };
    let (mut send, mut recv) = link.connection.open_bi().await.map_err(JoinError::Connection)?;
    write_frame(&mut send, &request).await.map_err(JoinError::Frame)?;
    // The reply below says more than a failure to finish would.
    let _ = send.finish();
    let reply = read_frame_within(&mut recv, JOIN_FRAME_BYTES_MAX).await;
    let reply = reply.map_err(JoinError::Frame)?.ok_or(JoinError::NoAnswer)?;
    let (certificate, given, note) = match reply {
        JoinReply::Admitted { certificate, name, note } => (certificate, name, note),
        JoinReply::Refused { reason } => return Err(JoinError::Refused { reason }),
        JoinReply::NotNow { reason } => return Err(JoinError::NotNow { reason }),
    };
    let certified = peer_of(&certificate).map_err(JoinError::Certificate)?;
    if certified.node_id != key.node_id() {
        return Err(JoinError::OtherKey);
    }
    verify_issued(&certificate, &ca).map_err(JoinError::NotIssued)?;
    let cluster_id = cluster_id_of(&ca).map_err(JoinError::Certificate)?;
    let name = given.unwrap_or_else(|| name.to_string());
    Ok(Joined { certificate, ca: ca.to_vec(), cluster_id, name, note })
}

/// Answer a joiner. The link is of use for nothing else and ends with this call.
///
/// # Errors
/// When the joiner goes away or says something not understood. A refusal is no error.
pub async fn answer_join(link: Link, admit: &dyn Admit) -> Result<(), JoinError> {
    if link.alpn != Alpn::Join {
        return Err(JoinError::NotAJoin(link.alpn));
    }
    let answered = tokio::time::timeout(JOIN_MAX, answer(&link, admit)).await;
    if let Ok(Ok(())) = answered {
        // The joiner closes once it has its answer; closing first could overtake the answer.
        let _ = tokio::time::timeout(LINGER_MAX, link.connection.closed()).await;
    }
    link.connection.close(VarInt::from_u32(0), b"done");
    answered.map_err(|_| JoinError::TimedOut)?
}

async fn answer(link: &Link, admit: &dyn Admit) -> Result<(), JoinError> {
    let connection = &link.connection;
    let (mut send, mut recv) = connection.accept_bi().await.map_err(JoinError::Connection)?;
    let request: JoinRequest = read_frame_within(&mut recv, JOIN_FRAME_BYTES_MAX)
        .await
        .map_err(JoinError::Frame)?
        .ok_or(JoinError::NoAnswer)?;
    let reply = match decide(connection, request, admit).await? {
        Ok(Admitted { certificate, name, note }) => {
            JoinReply::Admitted { certificate, name: Some(name), note }
        }
        Err(Refusal::Never(reason)) => {
            tracing::warn!(addr = %connection.remote_address(), reason, "refused a joiner");
            JoinReply::Refused { reason }
        }
        Err(Refusal::NotNow(reason)) => {
            tracing::info!(addr = %connection.remote_address(), reason, "put off a joiner");
            JoinReply::NotNow { reason }
        }
    };
    write_frame(&mut send, &reply).await.map_err(JoinError::Frame)?;
    // The stream can only have been stopped by the joiner, who then wants no answer.
    let _ = send.finish();
    Ok(())
}

async fn decide(
    connection: &quinn::Connection,
    request: JoinRequest,
    admit: &dyn Admit,
) -> Result<Result<Admitted, Refusal>, JoinError> {
    let signed = exported(connection, &request.public_key)?;
    if !verify_signature(&request.public_key, &signed, &request.proof) {
        return Ok(Err(Refusal::Never("the proof of the node's key does not hold".to_string())));
    }
    if let Some(reason) = bad_name(&request.name) {
        return Ok(Err(Refusal::Never(reason)));
    }
    let node = Node {
        id: node_id_of(&request.public_key),
        name: request.name,
        role: request.role,
        public_key: request.public_key,
        admitted_at: Time(0),
    };
    let secret_sha256 = secret_digest(&request.secret);
    let default_name = request.default_name;
    Ok(admit.admit(Candidate { node, secret_sha256, default_name }).await)
}

fn bad_name(name: &str) -> Option<String> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return Some(format!("a node's name has 1 to {NAME_BYTES_MAX} bytes, not {}", name.len()));
    }
    let odd = name.chars().find(|c| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '_' | '.'));
    odd.map(|c| format!("a node's name has letters, digits, '-', '_' and '.', not {c:?}"))
}

/// Bytes that only the two ends of this TLS session know, bound to one public key.
fn exported(
    connection: &quinn::Connection,
    public_key: &[u8],
) -> Result<[u8; EXPORTED_BYTES], JoinError> {
    let mut bytes = [0; EXPORTED_BYTES];
    connection
        .export_keying_material(&mut bytes, EXPORTER_LABEL, public_key)
        .map_err(|_| JoinError::Export)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
