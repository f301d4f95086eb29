//! The founder's keys: the cluster's authority, its join token, and the founder's own identity.
//!
//! Made once, on the first start without a token. Every step can be repeated after a crash: what
//! already lies on disk is used, and the node's certificate, which says "complete", comes last.

use bramble_core::model::{Cluster, Node, NodeRole, Time};
use bramble_protocol::net::{
    AuthorityError, CertificateError, ClusterCa, DurableError, Identity, IdentityError, JoinToken,
    NodeKey, TokenError, cluster_id_of, peer_of, write_private,
};
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;
use uuid::Uuid;

/// Directories and files below the data directory.
const IDENTITY_DIR: &str = "identity";
pub(crate) const CA_FILE: &str = "master/ca.key";
pub(crate) const TOKEN_FILE: &str = "master/join-token";

#[derive(Debug, Error)]
pub enum FoundingError {
    #[error("making {}", path.display())]
    Directory {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the node's identity")]
    Identity(#[from] IdentityError),
    #[error("the cluster's authority")]
    Authority(#[from] AuthorityError),
    #[error("the node's certificate")]
    Certificate(#[from] CertificateError),
    #[error("the join token")]
    Token(#[from] TokenError),
    #[error("reading {}", path.display())]
    ReadToken {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("saving the join token")]
    SaveToken(#[source] DurableError),
    #[error("{} belongs to an agent that joined a cluster: run `bramble agent` with it, or give \
        another --data-dir", path.display())]
    AgentOnly { path: PathBuf },
}

/// What a master holds besides the log.
pub struct Keys {
    pub identity: Identity,
    /// Only where this node founded the cluster. Every master finds both in the replicated state.
    pub founding: Option<Founding>,
    /// UUID of the cluster, also written in the authority's certificate.
    pub cluster_id: String,
}

/// What only the founder has on its disk.
pub struct Founding {
    pub ca: ClusterCa,
    pub token: JoinToken,
}

/// Where a node's identity lies.
pub fn identity_dir(data_dir: &Path) -> PathBuf {
    data_dir.join(IDENTITY_DIR)
}

impl Keys {
    /// The keys of a master that joined with this identity.
    ///
    /// # Errors
    /// When its CA certificate names no cluster.
    pub fn joined(identity: Identity) -> Result<Keys, FoundingError> {
        let cluster_id = cluster_id_of(&identity.ca)?;
        Ok(Keys { identity, founding: None, cluster_id })
    }

    /// Read this node's keys, or make them: then this node founds a cluster, in `role`.
    ///
    /// # Errors
    /// When a file is damaged or cannot be written, or the directory is that of an agent.
    pub fn load_or_make(data_dir: &Path, role: NodeRole) -> Result<Keys, FoundingError> {
        let identity_dir = identity_dir(data_dir);
        let ca_path = data_dir.join(CA_FILE);
        let known = Identity::load(&identity_dir)?;
        if let Some(identity) = &known
            && !ca_path.exists()
        {
            return match peer_of(&identity.certificate)?.is_master() {
                true => Keys::joined(identity.clone()),
                false => Err(FoundingError::AgentOnly { path: data_dir.into() }),
            };
        }
        for path in [&identity_dir, &data_dir.join("master")] {
            std::fs::create_dir_all(path)
                .map_err(|source| FoundingError::Directory { path: path.clone(), source })?;
        }
        // First of all: the authority's key is sealed with one that follows from it.
        let key = match &known {
            Some(identity) => identity.key.clone(),
            None => NodeKey::load_or_create(&Identity::key_path(&identity_dir))?,
        };
        let ca = if ca_path.exists() {
            ClusterCa::load(&ca_path, &key)?
        } else {
            let ca = ClusterCa::mint(&Uuid::new_v4().to_string())?;
            ca.save(&ca_path, &key)?;
            ca
        };
        let token = load_or_mint_token(&data_dir.join(TOKEN_FILE), &ca)?;
        let identity = match known {
            Some(identity) => identity,
            None => own_identity(&identity_dir, key, &ca, role)?,
        };
        let cluster_id = ca.cluster_id()?;
        Ok(Keys { identity, founding: Some(Founding { ca, token }), cluster_id })
    }

    /// Write the keys of a whole node over the authority and the join token of a backup. The node's
    /// certificate comes last, as ever.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn restore(
        data_dir: &Path,
        key: NodeKey,
        ca: ClusterCa,
        token: JoinToken,
    ) -> Result<Keys, FoundingError> {
        ca.save(&data_dir.join(CA_FILE), &key)?;
        write_private(&data_dir.join(TOKEN_FILE), token.to_string().as_bytes())
            .map_err(FoundingError::SaveToken)?;
        let identity = own_identity(&identity_dir(data_dir), key, &ca, NodeRole::Full)?;
        let cluster_id = ca.cluster_id()?;
        Ok(Keys { identity, founding: Some(Founding { ca, token }), cluster_id })
    }

    /// This node's role, as its certificate says.
    ///
    /// # Errors
    /// When the certificate is unusable.
    pub fn role(&self) -> Result<NodeRole, FoundingError> {
        Ok(peer_of(&self.identity.certificate)?.role)
    }
}

impl Founding {
    /// What the founder writes into the log first.
    pub fn cluster(&self, id: &str) -> Cluster {
        Cluster {
            id: id.to_string(),
            ca_certificate: self.ca.certificate().to_vec(),
            join_secret_sha256: self.token.secret_sha256(),
            founded_at: Time(0),
            authority: None,
            join_token: None,
            previous: Vec::new(),
            rotation_due: false,
        }
    }

    /// The founder itself, as the membership list has it.
    pub fn founder(&self, identity: &Identity, name: &str, role: NodeRole) -> Node {
        Node {
            id: identity.key.node_id(),
            name: name.into(),
            role,
            public_key: identity.key.public_key().to_vec(),
            admitted_at: Time(0),
        }
    }
}

fn own_identity(
    directory: &Path,
    key: NodeKey,
    ca: &ClusterCa,
    role: NodeRole,
) -> Result<Identity, FoundingError> {
    let certificate = ca.issue(key.public_key(), &key.node_id(), role)?;
    let identity = Identity::new(key, certificate, ca.certificate().to_vec())?;
    identity.save(directory)?;
    Ok(identity)
}

fn load_or_mint_token(path: &Path, ca: &ClusterCa) -> Result<JoinToken, FoundingError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(text.trim().parse()?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let token = JoinToken::mint(ca.certificate())?;
            write_private(path, token.to_string().as_bytes()).map_err(FoundingError::SaveToken)?;
            Ok(token)
        }
        Err(source) => Err(FoundingError::ReadToken { path: path.into(), source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(keys: &Keys) -> String {
        keys.founding.as_ref().expect("a founder").token.to_string()
    }

    #[test]
    fn keys_are_made_once_and_found_again() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let first = Keys::load_or_make(dir.path(), NodeRole::Full).expect("makes keys");
        let again = Keys::load_or_make(dir.path(), NodeRole::Full).expect("finds keys");
        assert_eq!(first.identity.key.node_id(), again.identity.key.node_id());
        assert_eq!(token(&first), token(&again));
        assert_eq!(first.cluster_id, again.cluster_id);
    }

    #[test]
    fn a_crash_before_the_certificate_is_mended() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let first = Keys::load_or_make(dir.path(), NodeRole::Full).expect("makes keys");
        let certificate = identity_dir(dir.path()).join("node.crt");
        std::fs::remove_file(certificate).expect("there is a certificate");
        let again = Keys::load_or_make(dir.path(), NodeRole::Full).expect("mends");
        assert_eq!(first.identity.key.node_id(), again.identity.key.node_id());
        assert_eq!(first.cluster_id, again.cluster_id);
    }

    #[test]
    fn the_authority_is_of_no_use_without_the_nodes_key() {
        let dir = tempfile::tempdir().expect("temporary directory");
        Keys::load_or_make(dir.path(), NodeRole::Full).expect("makes keys");
        std::fs::remove_dir_all(identity_dir(dir.path())).expect("there is an identity");
        let refused = Keys::load_or_make(dir.path(), NodeRole::Full);
        assert!(matches!(refused, Err(FoundingError::Authority(AuthorityError::Open { .. }))));
    }

    #[test]
    fn an_agents_directory_founds_nothing() {
        let dir = tempfile::tempdir().expect("temporary directory");
        Keys::load_or_make(dir.path(), NodeRole::Full).expect("makes keys");
        std::fs::remove_file(dir.path().join(CA_FILE)).expect("there is an authority");
        let joined = Keys::load_or_make(dir.path(), NodeRole::Full).expect("a master that joined");
        assert!(joined.founding.is_none());
        std::fs::remove_dir_all(identity_dir(dir.path())).expect("there is an identity");
        let agent = Keys::load_or_make(dir.path(), NodeRole::Agent).expect("an agent");
        assert_eq!(agent.role().expect("read"), NodeRole::Agent);
        std::fs::remove_file(dir.path().join(CA_FILE)).expect("there is an authority");
        let refused = Keys::load_or_make(dir.path(), NodeRole::Full);
        assert!(matches!(refused, Err(FoundingError::AgentOnly { .. })));
    }
}
