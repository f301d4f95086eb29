//! TLS 1.3 between nodes: who is believed, and by what.
//!
//! A peer is believed when its certificate chains to the pinned CA and it signs the handshake with
//! that certificate's key. Names and dates are not looked at: the wall clock is never read here,
//! because a Pi has none at boot and a cluster may sleep for months.

use super::certificate::peer_of;
use super::identity::Identity;
use bramble_core::model::NodeId;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, ParsedCertificate};
use rustls::time_provider::TimeProvider;
use rustls::version::TLS13;
use rustls::{
    CertificateError, CipherSuite, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    SignatureScheme,
};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;

/// The moment at which every certificate is verified: 2000-01-01, inside the years of all.
const VERIFY_AT_UNIX_S: u64 = 946_684_800;
/// The name every client asks for; no certificate carries it, no verifier reads it.
pub(super) const SERVER_NAME: &str = "node.bramble.internal";

#[derive(Debug, Error)]
pub enum TlsError {
    #[error("setting up TLS 1.3")]
    Configure(#[source] Error),
    #[error("the cluster's CA certificate is unusable")]
    Authority(#[source] Error),
    #[error("the TLS settings do not fit QUIC")]
    Quic(#[source] quinn::crypto::rustls::NoInitialCipherSuite),
    #[error("the certificate does not chain to the cluster's CA")]
    NotIssued(#[source] Error),
}

/// Whom a node believes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Believed {
    /// CA certificates (DER).
    pub cas: Vec<Vec<u8>>,
    /// Masters known by their keys. One that proves such a key is believed whoever certified it:
    /// the CA may have been replaced while this node slept.
    pub pinned: BTreeSet<NodeId>,
}

impl Believed {
    fn verify(&self, end_entity: &CertificateDer<'_>) -> Result<(), Error> {
        let mut refused = Error::InvalidCertificate(CertificateError::UnknownIssuer);
        for ca in &self.cas {
            match verify_chain(end_entity, &roots_of(ca)?) {
                Ok(()) => return Ok(()),
                Err(error) => refused = error,
            }
        }
        // The id is the hash of the key, and the handshake proves the key.
        match peer_of(end_entity) {
            Ok(peer) if peer.is_master() && self.pinned.contains(&peer.node_id) => Ok(()),
            _ => Err(refused),
        }
    }
}

fn verify_chain(end_entity: &CertificateDer<'_>, roots: &RootCertStore) -> Result<(), Error> {
    let algorithms = provider().signature_verification_algorithms;
    let parsed = ParsedCertificate::try_from(end_entity)?;
    verify_server_cert_signed_by_trust_anchor(&parsed, roots, &[], verify_at(), algorithms.all)
}

/// What a client believes a server by.
#[derive(Clone, Debug)]
pub(super) enum Trust {
    Nodes(Arc<Believed>),
    /// The certificate with this SHA-256, which the server must send along: a joiner knows no more.
    Digest([u8; 32]),
}

/// A clock that stands still, so that no verifier can ask another.
#[derive(Debug)]
struct StandingClock;

impl TimeProvider for StandingClock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(verify_at())
    }
}

fn verify_at() -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(VERIFY_AT_UNIX_S))
}

/// ring, named here so that no process-wide default has to be installed. ChaCha20 comes first on
/// machines without AES instructions (every Pi before the 5), where it is several times faster.
fn provider() -> Arc<CryptoProvider> {
    let mut provider = rustls::crypto::ring::default_provider();
    if !has_aes() {
        provider
            .cipher_suites
            .sort_by_key(|suite| suite.suite() != CipherSuite::TLS13_CHACHA20_POLY1305_SHA256);
    }
    Arc::new(provider)
}

#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
fn has_aes() -> bool {
    std::arch::is_x86_feature_detected!("aes")
}

#[cfg(target_arch = "aarch64")]
fn has_aes() -> bool {
    std::arch::is_aarch64_feature_detected!("aes")
}

#[cfg(not(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64")))]
fn has_aes() -> bool {
    false
}

fn roots_of(ca: &[u8]) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(ca))?;
    Ok(roots)
}

/// Check that `certificate` (DER) was issued by `ca` (DER) for a node.
///
/// # Errors
/// When it was not.
pub(super) fn verify_issued(certificate: &[u8], ca: &[u8]) -> Result<(), TlsError> {
    let roots = roots_of(ca).map_err(TlsError::Authority)?;
    verify_chain(&CertificateDer::from(certificate), &roots).map_err(TlsError::NotIssued)
}

#[derive(Debug)]
struct ServerVerifier {
    trust: Trust,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match &self.trust {
            Trust::Nodes(believed) => believed.verify(end_entity)?,
            Trust::Digest(digest) => {
                let ca = intermediates
                    .iter()
                    .find(|sent| Sha256::digest(sent).as_slice() == digest)
                    .ok_or(Error::InvalidCertificate(CertificateError::UnknownIssuer))?;
                verify_chain(end_entity, &roots_of(ca)?)?;
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken between nodes".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

#[derive(Debug)]
struct ClientVerifier {
    believed: Arc<Believed>,
    provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.believed.verify(end_entity)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken between nodes".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

/// The certificates a node shows: its own and its CA's, so that a joiner can find the CA whose
/// digest its token names.
fn chain(identity: &Identity) -> Vec<CertificateDer<'static>> {
    [&identity.certificate, &identity.ca].map(|der| CertificateDer::from(der.clone())).to_vec()
}

fn private_key(identity: &Identity) -> PrivatePkcs8KeyDer<'static> {
    PrivatePkcs8KeyDer::from(identity.key.pkcs8().to_vec())
}

/// Settings of a dialling side that offers `alpn` and, if it has one, shows its identity.
///
/// # Errors
/// When the identity's parts are unusable.
pub(super) fn client_config(
    trust: Trust,
    identity: Option<&Identity>,
    alpn: &[u8],
) -> Result<Arc<quinn::crypto::rustls::QuicClientConfig>, TlsError> {
    let provider = provider();
    let verifier = Arc::new(ServerVerifier { trust, provider: provider.clone() });
    let builder = rustls::ClientConfig::builder_with_details(provider, Arc::new(StandingClock))
        .with_protocol_versions(&[&TLS13])
        .map_err(TlsError::Configure)?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match identity {
        Some(identity) => builder
            .with_client_auth_cert(chain(identity), private_key(identity).into())
            .map_err(TlsError::Configure)?,
        None => builder.with_no_client_auth(),
    };
    // Resumption gained nothing when measured, and a resumed session would skip the verifier.
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![alpn.to_vec()];
    quinn::crypto::rustls::QuicClientConfig::try_from(config).map(Arc::new).map_err(TlsError::Quic)
}

/// Settings of a listening side. A client may come without certificate; the endpoint then lets it
/// do nothing but join.
///
/// # Errors
/// When the identity's parts are unusable.
pub(super) fn server_config(
    identity: &Identity,
    believed: Arc<Believed>,
    alpns: &[&[u8]],
) -> Result<Arc<quinn::crypto::rustls::QuicServerConfig>, TlsError> {
    let provider = provider();
    let verifier = Arc::new(ClientVerifier { believed, provider: provider.clone() });
    let mut config = rustls::ServerConfig::builder_with_details(provider, Arc::new(StandingClock))
        .with_protocol_versions(&[&TLS13])
        .map_err(TlsError::Configure)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain(identity), private_key(identity).into())
        .map_err(TlsError::Configure)?;
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.alpn_protocols = alpns.iter().map(|alpn| alpn.to_vec()).collect();
    quinn::crypto::rustls::QuicServerConfig::try_from(config).map(Arc::new).map_err(TlsError::Quic)
}
