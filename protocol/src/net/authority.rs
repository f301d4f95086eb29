//! The cluster's certificate authority: says which key is a node of this cluster, in which role.
//!
//! It never sees a node's private key. Its certificates carry no meaningful expiry, because a Pi
//! has no clock at boot; a node is put out by removing it from the membership.

use super::certificate::{CertificateError, cluster_id_of, role_text};
use super::durable::{DurableError, write_private};
use super::identity::{IdentityError, NodeKey};
use super::seal::SealError;
use crate::codec::{CodecError, from_bytes, to_bytes};
use crate::secret::Secret;
use bramble_core::model::{NodeId, NodeRole, Sealed};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SubjectPublicKeyInfo, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Validity years of every certificate. They lie on both sides of `tls::VERIFY_AT_UNIX_S`.
const YEAR_FIRST: i32 = 1975;
const YEAR_LAST: i32 = 4096;
/// Common name of every CA; its organization is the cluster id.
const CA_NAME: &str = "bramble cluster authority";
/// Stands for a path where the key comes from the replicated state.
const IN_MEMORY: &str = "the cluster's state";
/// Purpose of the key that seals the authority's.
const SEALING_PURPOSE: &str = "key of the cluster's authority";

#[derive(Debug, Error)]
pub enum AuthorityError {
    #[error("making the authority's key")]
    Key(#[source] IdentityError),
    #[error("signing a certificate")]
    Sign(#[source] rcgen::Error),
    #[error("the public key ({bytes} bytes) is no Ed25519 key (SPKI DER)")]
    PublicKey {
        bytes: usize,
        #[source]
        source: rcgen::Error,
    },
    #[error("reading {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the authority's file is damaged")]
    Decode(#[source] CodecError),
    #[error("sealing the authority's key")]
    Seal(#[source] SealError),
    #[error(
        "the authority's key in {} was sealed for another node: restore the identity directory \
         that belongs to it",
        path.display()
    )]
    Open {
        path: PathBuf,
        #[source]
        source: SealError,
    },
    #[error("encoding the authority")]
    Encode(#[source] CodecError),
    #[error("saving the authority")]
    Save(#[source] DurableError),
    #[error("the authority's certificate is unusable")]
    Certificate(#[source] CertificateError),
}

/// The authority with its private key.
pub struct ClusterCa {
    key: NodeKey,
    certificate: Vec<u8>,
}

/// The authority's file. Field names are the format.
#[derive(Serialize, Deserialize)]
struct Stored {
    /// The key in the clear, as early versions wrote it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pkcs8: Vec<u8>,
    certificate: Vec<u8>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sealed: Option<Sealed>,
}

impl ClusterCa {
    /// Make a new authority for the cluster `cluster_id`.
    ///
    /// # Errors
    /// When the system gives no randomness or signing fails.
    pub fn mint(cluster_id: &str) -> Result<ClusterCa, AuthorityError> {
        let key = NodeKey::generate().map_err(AuthorityError::Key)?;
        let mut params = dated();
        params.distinguished_name.push(DnType::CommonName, CA_NAME);
        params.distinguished_name.push(DnType::OrganizationName, cluster_id);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let pair = signing_pair(&key)?;
        let certificate = params.self_signed(&pair).map_err(AuthorityError::Sign)?.der().to_vec();
        Ok(ClusterCa { key, certificate })
    }

    /// The authority's own certificate, DER.
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// The cluster this is the authority of.
    ///
    /// # Errors
    /// When its certificate names none.
    pub fn cluster_id(&self) -> Result<String, AuthorityError> {
        cluster_id_of(&self.certificate).map_err(AuthorityError::Certificate)
    }

    /// Build the authority from its key (PKCS #8) and certificate (DER).
    ///
    /// # Errors
    /// When either is none.
    pub fn from_parts(pkcs8: &Secret, certificate: Vec<u8>) -> Result<ClusterCa, AuthorityError> {
        let key = NodeKey::from_stored(pkcs8.expose().to_vec(), Path::new(IN_MEMORY))
            .map_err(AuthorityError::Key)?;
        cluster_id_of(&certificate).map_err(AuthorityError::Certificate)?;
        Ok(ClusterCa { key, certificate })
    }

    /// Its private key (PKCS #8), to be sealed.
    pub fn private_key(&self) -> Secret {
        Secret::new(self.key.pkcs8().to_vec())
    }

    /// Issue a node's certificate (DER) for a public key (SPKI DER).
    ///
    /// # Errors
    /// When the public key is none, or signing fails.
    pub fn issue(
        &self,
        public_key_spki: &[u8],
        node_id: &NodeId,
        role: NodeRole,
    ) -> Result<Vec<u8>, AuthorityError> {
        let subject_key = SubjectPublicKeyInfo::from_der(public_key_spki)
            .map_err(|source| AuthorityError::PublicKey { bytes: public_key_spki.len(), source })?;
        let mut params = dated();
        params.distinguished_name.push(DnType::CommonName, node_id.as_str());
        params.distinguished_name.push(DnType::OrganizationalUnitName, role_text(role));
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let pair = signing_pair(&self.key)?;
        let own = CertificateDer::from(self.certificate.as_slice());
        let issuer = Issuer::from_ca_cert_der(&own, pair).map_err(AuthorityError::Sign)?;
        let issued = params.signed_by(&subject_key, &issuer).map_err(AuthorityError::Sign)?;
        Ok(issued.der().to_vec())
    }

    /// Write key and certificate to one file of mode 0600, the key sealed for this node.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: &Path, node: &NodeKey) -> Result<(), AuthorityError> {
        let sealing = node.sealing_key(SEALING_PURPOSE);
        let sealed = sealing.seal(&[], self.key.pkcs8()).map_err(AuthorityError::Seal)?;
        let stored = Stored {
            pkcs8: Vec::new(),
            certificate: self.certificate.clone(),
            sealed: Some(sealed),
        };
        let bytes = to_bytes(&stored).map_err(AuthorityError::Encode)?;
        write_private(path, &bytes).map_err(AuthorityError::Save)
    }

    /// Read what [`ClusterCa::save`] wrote. A key that was once saved in the clear is sealed now.
    ///
    /// # Errors
    /// When the file is missing or damaged, or was sealed for another node.
    pub fn load(path: &Path, node: &NodeKey) -> Result<ClusterCa, AuthorityError> {
        let bytes = fs::read(path)
            .map_err(|source| AuthorityError::Read { path: path.to_path_buf(), source })?;
        let stored: Stored = from_bytes(&bytes).map_err(AuthorityError::Decode)?;
        let pkcs8 = match &stored.sealed {
            Some(sealed) => {
                let opened = node.sealing_key(SEALING_PURPOSE).open(&[], sealed);
                let failed = |source| AuthorityError::Open { path: path.to_path_buf(), source };
                opened.map_err(failed)?.expose().to_vec()
            }
            None => stored.pkcs8,
        };
        let key = NodeKey::from_stored(pkcs8, path).map_err(AuthorityError::Key)?;
        cluster_id_of(&stored.certificate).map_err(AuthorityError::Certificate)?;
        let ca = ClusterCa { key, certificate: stored.certificate };
        if stored.sealed.is_none() {
            ca.save(path, node)?;
        }
        Ok(ca)
    }
}

fn dated() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.not_before = date_time_ymd(YEAR_FIRST, 1, 1);
    params.not_after = date_time_ymd(YEAR_LAST, 1, 1);
    params
}

fn signing_pair(key: &NodeKey) -> Result<KeyPair, AuthorityError> {
    let der = PrivatePkcs8KeyDer::from(key.pkcs8());
    KeyPair::from_pkcs8_der_and_sign_algo(&der, &rcgen::PKCS_ED25519).map_err(AuthorityError::Sign)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::certificate::peer_of;

    #[test]
    fn certificates_say_node_and_role() {
        let ca = ClusterCa::mint("3f1c").expect("mints");
        assert_eq!(ca.cluster_id().expect("named"), "3f1c");
        let key = NodeKey::generate().expect("a key");
        for role in [NodeRole::Full, NodeRole::Master, NodeRole::Agent] {
            let der = ca.issue(key.public_key(), &key.node_id(), role).expect("issues");
            let peer = peer_of(&der).expect("reads");
            assert_eq!((peer.node_id, peer.role), (key.node_id(), role));
        }
        let other = NodeKey::generate().expect("a key").node_id();
        let der = ca.issue(key.public_key(), &other, NodeRole::Full).expect("issues");
        let peer = peer_of(&der);
        assert!(matches!(peer, Err(CertificateError::NameIsNotKey { .. })), "{peer:?}");
        let refused = ca.issue(b"junk", &other, NodeRole::Full);
        assert!(matches!(refused, Err(AuthorityError::PublicKey { bytes: 4, .. })), "{refused:?}");
    }

    #[test]
    fn an_authority_survives_its_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("ca");
        let ca = ClusterCa::mint("c1").expect("mints");
        let node = NodeKey::generate().expect("a key");
        ca.save(&path, &node).expect("saves");
        let holds_key = || {
            let bytes = fs::read(&path).expect("reads");
            // As a list of numbers, which is how it was written.
            let plain = to_bytes(&ca.key.pkcs8().to_vec()).expect("encodes");
            bytes.windows(plain.len()).any(|part| part == plain)
        };
        assert!(!holds_key());
        let other = NodeKey::generate().expect("a key");
        let refused = ClusterCa::load(&path, &other);
        assert!(matches!(refused, Err(AuthorityError::Open { .. })));
        let early = Stored {
            pkcs8: ca.key.pkcs8().to_vec(),
            certificate: ca.certificate.clone(),
            sealed: None,
        };
        fs::write(&path, to_bytes(&early).expect("encodes")).expect("writes");
        assert!(holds_key());
        ClusterCa::load(&path, &node).expect("loads a key in the clear");
        assert!(!holds_key(), "and seals it");
        let loaded = ClusterCa::load(&path, &node).expect("loads");
        assert_eq!(loaded.certificate(), ca.certificate());
        let key = NodeKey::generate().expect("a key");
        let id = key.node_id();
        let der = loaded.issue(key.public_key(), &id, NodeRole::Agent).expect("issues");
        super::super::tls::verify_issued(&der, ca.certificate()).expect("by the same authority");
        fs::write(&path, b"junk").expect("writes");
        assert!(matches!(ClusterCa::load(&path, &node), Err(AuthorityError::Decode(_))));
    }
}
