//! A node's key, and the identity it gets when a cluster admits it.
//!
//! The key is made once, never leaves its file (0600) and is never replaced by this module: a file
//! that cannot be read is an error, because a new key would be a new node.

use super::certificate::{CertificateError, peer_of};
use super::durable::{DurableError, write_private};
use super::tls::{TlsError, verify_issued};
use crate::codec::{CodecError, from_bytes, to_bytes};
use bramble_core::model::NodeId;
use ring::rand::SystemRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;

/// File names in an identity's directory.
const KEY_FILE: &str = "node.key";
const CERTIFICATE_FILE: &str = "node.crt";
const CA_FILE: &str = "ca.crt";
/// Certificate and CA that are taking the place of the two.
const RENEWED_FILE: &str = "renewed";
/// DER head of every Ed25519 SubjectPublicKeyInfo (RFC 8410); 32 key bytes follow.
const SPKI_HEAD: [u8; 12] =
    [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// Bytes of a raw Ed25519 public key.
const KEY_BYTES: usize = 32;

#[derive(Debug, Error)]
pub enum IdentityError {
    #[error("reading {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("saving a part of the node's identity")]
    Save(#[source] DurableError),
    #[error("setting mode 0600 on {}", path.display())]
    Protect {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("making a key: the system gave no randomness")]
    Generate,
    #[error("{} holds no Ed25519 key (PKCS#8): {reason}", path.display())]
    NotAKey { path: PathBuf, reason: ring::error::KeyRejected },
    #[error("the node's certificate is unusable")]
    Certificate(#[source] CertificateError),
    #[error("the certificate is for node {certified}, the key is that of node {own}")]
    OtherKey { certified: NodeId, own: NodeId },
    #[error("the certificate was not issued by the cluster's CA")]
    NotIssued(#[source] TlsError),
    #[error("encoding a renewed certificate")]
    Encode(#[source] CodecError),
}

/// The node id of a public key: lower-case hex SHA-256 of its SPKI DER.
pub fn node_id_of(public_key_spki: &[u8]) -> NodeId {
    NodeId(hex::encode(Sha256::digest(public_key_spki)))
}

/// Check an Ed25519 signature under a public key given as SPKI DER.
pub(super) fn verify_signature(public_key_spki: &[u8], message: &[u8], signature: &[u8]) -> bool {
    match public_key_spki.strip_prefix(&SPKI_HEAD) {
        Some(raw) if raw.len() == KEY_BYTES => {
            UnparsedPublicKey::new(&ED25519, raw).verify(message, signature).is_ok()
        }
        _ => false,
    }
}

/// A node's Ed25519 key pair.
#[derive(Clone)]
pub struct NodeKey {
    pkcs8: Arc<[u8]>,
    pair: Arc<Ed25519KeyPair>,
    spki: Vec<u8>,
    node_id: NodeId,
}

impl NodeKey {
    /// What this node, and nobody else, ends the links of its former lives with; see
    /// [`super::EndpointOptions::link_seed`].
    pub fn link_seed(&self) -> [u8; 32] {
        Sha256::new()
            .chain_update(b"links of a former life")
            .chain_update(&self.pkcs8)
            .finalize()
            .into()
    }

    /// Read the key at `path`, or make one and save it there first.
    ///
    /// # Errors
    /// When the file is unreadable, holds no key, or cannot be written. An existing file is never
    /// replaced.
    pub fn load_or_create(path: &Path) -> Result<NodeKey, IdentityError> {
        match fs::read(path) {
            Ok(pkcs8) => {
                protect(path)?;
                NodeKey::from_pkcs8(pkcs8)
                    .map_err(|reason| IdentityError::NotAKey { path: path.to_path_buf(), reason })
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let key = NodeKey::generate()?;
                write_private(path, &key.pkcs8).map_err(IdentityError::Save)?;
                Ok(key)
            }
            Err(source) => Err(IdentityError::Read { path: path.to_path_buf(), source }),
        }
    }

    /// Make a key that is stored nowhere yet.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn generate() -> Result<NodeKey, IdentityError> {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())
            .map_err(|_| IdentityError::Generate)?;
        NodeKey::from_pkcs8(document.as_ref().to_vec()).map_err(|_| IdentityError::Generate)
    }

    fn from_pkcs8(pkcs8: Vec<u8>) -> Result<NodeKey, ring::error::KeyRejected> {
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&pkcs8)?;
        let mut spki = SPKI_HEAD.to_vec();
        spki.extend_from_slice(pair.public_key().as_ref());
        let node_id = node_id_of(&spki);
        Ok(NodeKey { pkcs8: pkcs8.into(), pair: Arc::new(pair), spki, node_id })
    }

    /// The id that follows from this key.
    pub fn node_id(&self) -> NodeId {
        self.node_id.clone()
    }

    /// The public key, SPKI DER.
    pub fn public_key(&self) -> &[u8] {
        &self.spki
    }

    /// Sign a message (Ed25519, 64 bytes).
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.pair.sign(message).as_ref().to_vec()
    }

    /// The private key, for the TLS configuration, the CA file and sealing only.
    pub(super) fn pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    pub(super) fn from_stored(pkcs8: Vec<u8>, path: &Path) -> Result<NodeKey, IdentityError> {
        NodeKey::from_pkcs8(pkcs8)
            .map_err(|reason| IdentityError::NotAKey { path: path.to_path_buf(), reason })
    }
}

impl fmt::Debug for NodeKey {
    /// Shows the public half only, so that no log can leak the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeKey").field("node_id", &self.node_id).finish_non_exhaustive()
    }
}

/// A key file that others may read is closed, not refused: it may come from a careless restore.
fn protect(path: &Path) -> Result<(), IdentityError> {
    let mode = fs::metadata(path)
        .map_err(|source| IdentityError::Read { path: path.to_path_buf(), source })?
        .mode();
    if mode & 0o077 != 0 {
        tracing::warn!(path = %path.display(), mode, "key file was open to others, closing it");
        fs::set_permissions(path, Permissions::from_mode(0o600))
            .map_err(|source| IdentityError::Protect { path: path.to_path_buf(), source })?;
    }
    Ok(())
}

/// What an admitted node proves itself with.
#[derive(Clone, Debug)]
pub struct Identity {
    pub key: NodeKey,
    /// This node's certificate, DER.
    pub certificate: Vec<u8>,
    /// The cluster's CA certificate, DER.
    pub ca: Vec<u8>,
}

impl Identity {
    /// The path of the node's key in an identity's directory, for [`NodeKey::load_or_create`].
    pub fn key_path(directory: &Path) -> PathBuf {
        directory.join(KEY_FILE)
    }

    /// Put the parts together, checking that they belong together.
    ///
    /// # Errors
    /// When the certificate is for another key or not issued by this CA.
    pub fn new(key: NodeKey, certificate: Vec<u8>, ca: Vec<u8>) -> Result<Identity, IdentityError> {
        let certified = peer_of(&certificate).map_err(IdentityError::Certificate)?.node_id;
        if certified != key.node_id() {
            return Err(IdentityError::OtherKey { certified, own: key.node_id() });
        }
        verify_issued(&certificate, &ca).map_err(IdentityError::NotIssued)?;
        Ok(Identity { key, certificate, ca })
    }

    /// Write all parts into `directory`. The certificate comes last: its presence says that the
    /// identity is complete.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn save(&self, directory: &Path) -> Result<(), IdentityError> {
        let parts: [(&str, &[u8]); 3] = [
            (KEY_FILE, self.key.pkcs8()),
            (CA_FILE, &self.ca),
            (CERTIFICATE_FILE, &self.certificate),
        ];
        for (name, bytes) in parts {
            write_private(&directory.join(name), bytes).map_err(IdentityError::Save)?;
        }
        Ok(())
    }

    /// Take the place of the identity that was saved in `directory`. Whatever a crash leaves there,
    /// either the one or the other is read.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn replace(&self, directory: &Path) -> Result<(), IdentityError> {
        let both = Renewed { certificate: self.certificate.clone(), ca: self.ca.clone() };
        let bytes = to_bytes(&both).map_err(IdentityError::Encode)?;
        let path = directory.join(RENEWED_FILE);
        write_private(&path, &bytes).map_err(IdentityError::Save)?;
        self.save(directory)?;
        fs::remove_file(&path).map_err(|source| IdentityError::Read { path, source })
    }

    /// Read the identity in `directory`; `None` while the node is admitted nowhere.
    ///
    /// # Errors
    /// When a part is unreadable or the parts do not belong together.
    pub fn load(directory: &Path) -> Result<Option<Identity>, IdentityError> {
        let Some(certificate) = read_part(&directory.join(CERTIFICATE_FILE))? else {
            return Ok(None);
        };
        let missing = |path: PathBuf| IdentityError::Read {
            path,
            source: io::Error::from(io::ErrorKind::NotFound),
        };
        let ca_path = directory.join(CA_FILE);
        let ca = read_part(&ca_path)?.ok_or_else(|| missing(ca_path))?;
        let key_path = Identity::key_path(directory);
        let pkcs8 = read_part(&key_path)?.ok_or_else(|| missing(key_path.clone()))?;
        protect(&key_path)?;
        let key = NodeKey::from_stored(pkcs8, &key_path)?;
        let renewed = read_part(&directory.join(RENEWED_FILE))?;
        match renewed.and_then(|bytes| from_bytes::<Renewed>(&bytes).ok()) {
            // A crash came between writing the two files.
            Some(Renewed { certificate, ca }) => {
                let identity = Identity::new(key, certificate, ca)?;
                identity.replace(directory)?;
                Ok(Some(identity))
            }
            None => Identity::new(key, certificate, ca).map(Some),
        }
    }
}

/// A certificate with the CA that issued it: two files cannot be replaced at once.
#[derive(Serialize, Deserialize)]
struct Renewed {
    certificate: Vec<u8>,
    ca: Vec<u8>,
}

fn read_part(path: &Path) -> Result<Option<Vec<u8>>, IdentityError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(IdentityError::Read { path: path.to_path_buf(), source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::authority::ClusterCa;
    use bramble_core::model::NodeRole;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("exists").mode() & 0o777
    }

    #[test]
    fn a_renewal_that_was_cut_off_is_finished() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let (old, new) = (ClusterCa::mint("c").expect("mints"), ClusterCa::mint("c").expect("m"));
        let key = NodeKey::generate().expect("a key");
        identity(&key, &old).save(dir.path()).expect("saves");
        let renewed = identity(&key, &new);
        renewed.replace(dir.path()).expect("replaces");
        let load = || Identity::load(dir.path()).expect("reads").expect("is there");
        assert_eq!(load().ca, new.certificate());
        // The CA's file was written, the certificate's not.
        let both = Renewed { certificate: renewed.certificate.clone(), ca: renewed.ca.clone() };
        let left = dir.path().join(RENEWED_FILE);
        fs::write(&left, to_bytes(&both).expect("encodes")).expect("writes");
        fs::write(dir.path().join(CERTIFICATE_FILE), identity(&key, &old).certificate).expect("w");
        assert_eq!(load().certificate, renewed.certificate);
        assert!(!left.exists());
    }

    fn identity(key: &NodeKey, ca: &ClusterCa) -> Identity {
        let certificate =
            ca.issue(key.public_key(), &key.node_id(), NodeRole::Full).expect("issues");
        Identity::new(key.clone(), certificate, ca.certificate().to_vec()).expect("fits")
    }

    #[test]
    fn a_key_is_made_once_and_kept_private() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("deep/node.key");
        let made = NodeKey::load_or_create(&path).expect("makes");
        assert_eq!(mode(&path), 0o600);
        fs::set_permissions(&path, Permissions::from_mode(0o644)).expect("sets");
        let loaded = NodeKey::load_or_create(&path).expect("loads");
        assert_eq!(loaded.node_id(), made.node_id());
        assert_eq!(mode(&path), 0o600);
        assert_eq!(made.node_id().as_str().len(), 64);
        assert_eq!(made.public_key().len(), SPKI_HEAD.len() + KEY_BYTES);
        assert_eq!(made.node_id(), node_id_of(made.public_key()));
        let left: Vec<_> = fs::read_dir(path.parent().expect("deep")).expect("reads").collect();
        assert_eq!(left.len(), 1, "{left:?}");
    }

    #[test]
    fn a_damaged_key_is_never_replaced() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("node.key");
        for damaged in [&b""[..], b"not a key"] {
            fs::write(&path, damaged).expect("writes");
            let loaded = NodeKey::load_or_create(&path);
            assert!(matches!(loaded, Err(IdentityError::NotAKey { .. })), "{loaded:?}");
            assert_eq!(fs::read(&path).expect("reads"), damaged);
        }
    }

    #[test]
    fn signatures_hold_for_their_key_and_message_only() {
        let (key, other) =
            (NodeKey::generate().expect("a key"), NodeKey::generate().expect("a key"));
        let signature = key.sign(b"text");
        assert!(verify_signature(key.public_key(), b"text", &signature));
        assert!(!verify_signature(key.public_key(), b"test", &signature));
        assert!(!verify_signature(other.public_key(), b"text", &signature));
        assert!(!verify_signature(&key.public_key()[1..], b"text", &signature));
        assert!(!verify_signature(b"", b"text", &signature));
    }

    #[test]
    fn an_identity_is_whole_or_not_there() {
        let directory = tempfile::tempdir().expect("a directory");
        let key = NodeKey::load_or_create(&Identity::key_path(directory.path())).expect("makes");
        assert!(Identity::load(directory.path()).expect("looks").is_none());
        let ca = ClusterCa::mint("c1").expect("mints");
        identity(&key, &ca).save(directory.path()).expect("saves");
        let loaded = Identity::load(directory.path()).expect("loads").expect("is there");
        assert_eq!(loaded.key.node_id(), key.node_id());
        assert_eq!(loaded.ca, ca.certificate());
        for name in [KEY_FILE, CERTIFICATE_FILE, CA_FILE] {
            assert_eq!(mode(&directory.path().join(name)), 0o600, "{name}");
        }
        fs::remove_file(directory.path().join(CA_FILE)).expect("removes");
        let loaded = Identity::load(directory.path());
        assert!(matches!(loaded, Err(IdentityError::Read { .. })), "{loaded:?}");
    }

    #[test]
    fn parts_that_do_not_belong_together_are_refused() {
        let (key, other) =
            (NodeKey::generate().expect("a key"), NodeKey::generate().expect("a key"));
        let (ca, foreign) =
            (ClusterCa::mint("c1").expect("ca"), ClusterCa::mint("c1").expect("ca"));
        let good = identity(&key, &ca);
        let refused = Identity::new(other, good.certificate.clone(), good.ca.clone());
        assert!(matches!(refused, Err(IdentityError::OtherKey { .. })), "{refused:?}");
        let foreign = foreign.certificate().to_vec();
        let refused = Identity::new(key.clone(), good.certificate.clone(), foreign);
        assert!(matches!(refused, Err(IdentityError::NotIssued(_))), "{refused:?}");
        let refused = Identity::new(key, b"junk".to_vec(), good.ca);
        assert!(matches!(refused, Err(IdentityError::Certificate(_))), "{refused:?}");
    }
}
