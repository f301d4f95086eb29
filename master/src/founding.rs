//! The founder's keys: the cluster's authority, its join token, and the founder's own identity.
//!
//! Made once, on the first start without a token. Every step can be repeated after a crash: what
//! already lies on disk is used, and the node's certificate, which says "complete", comes last.

use bramble_core::model::{Cluster, Node, NodeRole, Time};
use bramble_protocol::net::{
    AuthorityError, ClusterCa, DurableError, Identity, IdentityError, JoinToken, NodeKey,
    TokenError, write_private,
};
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;
use uuid::Uuid;

/// Directories and files below the data directory.
const IDENTITY_DIR: &str = "identity";
const CA_FILE: &str = "master/ca.key";
const TOKEN_FILE: &str = "master/join-token";

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

/// What the founder holds besides the log.
pub struct Keys {
    pub identity: Identity,
    pub ca: ClusterCa,
    pub token: JoinToken,
    /// UUID of the cluster, also written in the authority's certificate.
    pub cluster_id: String,
}

/// Where a node's identity lies.
pub fn identity_dir(data_dir: &Path) -> PathBuf {
    data_dir.join(IDENTITY_DIR)
}

impl Keys {
    /// Read this node's keys, or make them: then this node founds a cluster.
    ///
    /// # Errors
    /// When a file is damaged or cannot be written, or the directory is that of an agent.
    pub fn load_or_make(data_dir: &Path) -> Result<Keys, FoundingError> {
        let identity_dir = identity_dir(data_dir);
        let ca_path = data_dir.join(CA_FILE);
        let known = Identity::load(&identity_dir)?;
        if known.is_some() && !ca_path.exists() {
            return Err(FoundingError::AgentOnly { path: data_dir.into() });
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
            None => own_identity(&identity_dir, key, &ca)?,
        };
        let cluster_id = ca.cluster_id()?;
        Ok(Keys { identity, ca, token, cluster_id })
    }

    /// Write the keys of a new node over the authority and the join token of a backup. The node's
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
        let identity = own_identity(&identity_dir(data_dir), key, &ca)?;
        let cluster_id = ca.cluster_id()?;
        Ok(Keys { identity, ca, token, cluster_id })
    }

    /// What the founder writes into the log first.
    pub fn cluster(&self) -> Cluster {
        Cluster {
            id: self.cluster_id.clone(),
            ca_certificate: self.ca.certificate().to_vec(),
            join_secret_sha256: self.token.secret_sha256(),
            founded_at: Time(0),
        }
    }

    /// The founder itself, as the membership list has it.
    pub fn founder(&self, name: &str) -> Node {
        Node {
            id: self.identity.key.node_id(),
            name: name.into(),
            role: NodeRole::Full,
            public_key: self.identity.key.public_key().to_vec(),
            admitted_at: Time(0),
        }
    }
}

fn own_identity(directory: &Path, key: NodeKey, ca: &ClusterCa) -> Result<Identity, FoundingError> {
    let certificate = ca.issue(key.public_key(), &key.node_id(), NodeRole::Full)?;
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

    #[test]
    fn keys_are_made_once_and_found_again() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let first = Keys::load_or_make(dir.path()).expect("makes keys");
        let again = Keys::load_or_make(dir.path()).expect("finds keys");
        assert_eq!(first.identity.key.node_id(), again.identity.key.node_id());
        assert_eq!(first.token.to_string(), again.token.to_string());
        assert_eq!(first.cluster_id, again.cluster_id);
    }

    #[test]
    fn a_crash_before_the_certificate_is_mended() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let first = Keys::load_or_make(dir.path()).expect("makes keys");
        let certificate = identity_dir(dir.path()).join("node.crt");
        std::fs::remove_file(certificate).expect("there is a certificate");
        let again = Keys::load_or_make(dir.path()).expect("mends");
        assert_eq!(first.identity.key.node_id(), again.identity.key.node_id());
        assert_eq!(first.cluster_id, again.cluster_id);
    }

    #[test]
    fn the_authority_is_of_no_use_without_the_nodes_key() {
        let dir = tempfile::tempdir().expect("temporary directory");
        Keys::load_or_make(dir.path()).expect("makes keys");
        std::fs::remove_dir_all(identity_dir(dir.path())).expect("there is an identity");
        let refused = Keys::load_or_make(dir.path());
        assert!(matches!(refused, Err(FoundingError::Authority(AuthorityError::Open { .. }))));
    }

    #[test]
    fn an_agents_directory_founds_nothing() {
        let dir = tempfile::tempdir().expect("temporary directory");
        Keys::load_or_make(dir.path()).expect("makes keys");
        std::fs::remove_file(dir.path().join(CA_FILE)).expect("there is an authority");
        let refused = Keys::load_or_make(dir.path());
        assert!(matches!(refused, Err(FoundingError::AgentOnly { .. })));
    }
}
