//! A founding that can still be given up: nobody has joined, and nothing of a user's is in it.
//!
//! Who founds from a file cannot know for sure that it is the only one. So it may give way, while
//! that costs nobody anything; a mark on disk says so. The mark goes before the first other node
//! is admitted, never after: a node that was admitted must find its cluster again.

use crate::founding::{CA_FILE, FoundingError, TOKEN_FILE, identity_dir};
use crate::store::Store;
use bramble_core::model::State;
use bramble_protocol::net::{
    ClusterCa, DurableError, FoundingFile, Identity, JoinToken, NodeKey, TokenError, write_private,
};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use thiserror::Error;
use tokio_util::sync::CancellationToken;

/// The mark, below the data directory.
const MARK: &str = "master/provisional";
const MARK_TEXT: &[u8] = b"This node has founded a cluster that no other node has joined. Should \
    it hear that the cluster exists already, it gives its own up.\n";
/// Pause before a new cluster counts as known to all who can hear it: what is in it by then is
/// kept.
const KNOWN_AFTER: Duration = Duration::from_secs(10);
/// Pause before the mark is tried to be removed again.
const RETRY: Duration = Duration::from_secs(10);
/// What only this cluster, in which nobody else is, needs of the data directory.
const GIVEN_UP_DIRECTORIES: [&str; 2] = ["master/raft", "agent"];

#[derive(Debug, Error)]
pub enum ProvisionalError {
    #[error("marking the founding as one that can be given up")]
    Mark(#[source] DurableError),
    #[error("saving the join token")]
    SaveToken(#[source] DurableError),
    #[error("saving the cluster's authority")]
    SaveAuthority(#[source] bramble_protocol::net::AuthorityError),
    #[error("removing {}", path.display())]
    Remove {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("reading {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the join token")]
    Token(#[from] TokenError),
    #[error("the keys of the founding")]
    Keys(#[source] Box<FoundingError>),
}

/// See the module.
pub struct Provisional {
    data_dir: PathBuf,
    stands: AtomicBool,
}

impl Provisional {
    /// Whatever the mark in this data directory says.
    pub fn of(data_dir: &Path) -> Provisional {
        let stands = AtomicBool::new(data_dir.join(MARK).exists());
        Provisional { data_dir: data_dir.into(), stands }
    }

    /// Whether the founding can still be given up.
    pub fn stands(&self) -> bool {
        self.stands.load(Ordering::SeqCst)
    }

    /// The authority of a founding that was begun; `None` where there is none, or none any more.
    ///
    /// # Errors
    /// When its file is damaged.
    pub fn authority(&self, key: &NodeKey) -> Result<Option<ClusterCa>, ProvisionalError> {
        let path = self.data_dir.join(CA_FILE);
        if !path.exists() {
            return Ok(None);
        }
        let loaded = ClusterCa::load(&path, key);
        loaded.map(Some).map_err(|error| ProvisionalError::Keys(Box::new(error.into())))
    }

    /// The join token of a founding that was begun.
    ///
    /// # Errors
    /// When its file is damaged.
    pub fn token(&self) -> Result<Option<JoinToken>, ProvisionalError> {
        let path = self.data_dir.join(TOKEN_FILE);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text.trim().parse()?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(ProvisionalError::Read { path, source }),
        }
    }

    /// Begin the founding of a file's cluster: the mark first, the authority last. Can be repeated.
    /// [`crate::founding::Keys::load_or_make`] then goes on with what it finds.
    ///
    /// # Errors
    /// When something cannot be written.
    pub fn begin(&self, file: &FoundingFile, key: &NodeKey) -> Result<(), ProvisionalError> {
        write_private(&self.data_dir.join(MARK), MARK_TEXT).map_err(ProvisionalError::Mark)?;
        self.stands.store(true, Ordering::SeqCst);
        let token = file.token.to_string();
        write_private(&self.data_dir.join(TOKEN_FILE), token.as_bytes())
            .map_err(ProvisionalError::SaveToken)?;
        file.ca.save(&self.data_dir.join(CA_FILE), key).map_err(ProvisionalError::SaveAuthority)
    }

    /// Give the founding up: what the other cluster says of this node takes its place. A crash in
    /// between leaves the mark and the token, with which the node joins again.
    ///
    /// # Errors
    /// When something cannot be removed or written.
    pub fn give_up(&self, joined: &Identity) -> Result<(), ProvisionalError> {
        let identity = identity_dir(&self.data_dir);
        for directory in GIVEN_UP_DIRECTORIES {
            let path = self.data_dir.join(directory);
            gone(&path, fs::remove_dir_all(&path))?;
        }
        // Together these say "founded"; the certificate alone would say "a master that joined".
        self.remove(CA_FILE)?;
        joined.save(&identity).map_err(|error| ProvisionalError::Keys(Box::new(error.into())))?;
        self.remove(TOKEN_FILE)?;
        self.settle()
    }

    /// The founding stands from now on.
    ///
    /// # Errors
    /// When the mark cannot be removed.
    pub fn settle(&self) -> Result<(), ProvisionalError> {
        if self.stands() {
            self.remove(MARK)?;
            self.stands.store(false, Ordering::SeqCst);
        }
        Ok(())
    }

    /// Settle once the cluster holds something of a user's.
    pub async fn watch(self: Arc<Self>, store: Arc<Store>, stop: CancellationToken) {
        let mut pause = KNOWN_AFTER;
        while self.stands() {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => pause = RETRY,
            }
            if !store.read(holds_something) {
                continue;
            }
            match self.settle() {
                Ok(()) => tracing::info!("the cluster is in use: its founding stands"),
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, "the founding is not settled yet");
                }
            }
        }
    }

    fn remove(&self, name: &str) -> Result<(), ProvisionalError> {
        let path = self.data_dir.join(name);
        let removed = fs::remove_file(&path);
        let synced = removed.and_then(|()| sync_directory_of(&path));
        gone(&path, synced)
    }
}

/// Whether users have put something in.
fn holds_something(state: &State) -> bool {
    !(state.apps.is_empty()
        && state.groups.is_empty()
        && state.secrets.is_empty()
        && state.callbacks.is_empty()
        && state.agent_settings.is_empty())
}

fn gone(path: &Path, removed: io::Result<()>) -> Result<(), ProvisionalError> {
    match removed {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(ProvisionalError::Remove { path: path.into(), source })
        }
        _ => Ok(()),
    }
}

fn sync_directory_of(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::founding::Keys;
    use bramble_core::model::NodeRole;

    struct Place {
        directory: tempfile::TempDir,
        file: FoundingFile,
        key: NodeKey,
    }

    impl Place {
        fn new() -> Place {
            let directory = tempfile::tempdir().expect("a directory");
            let path = Identity::key_path(&identity_dir(directory.path()));
            let key = NodeKey::load_or_create(&path).expect("a key");
            Place { directory, file: FoundingFile::mint("home").expect("mints"), key }
        }

        fn provisional(&self) -> Provisional {
            Provisional::of(self.directory.path())
        }

        fn keys(&self) -> Keys {
            Keys::load_or_make(self.directory.path(), NodeRole::Full).expect("keys")
        }

        fn has(&self, name: &str) -> bool {
            self.directory.path().join(name).exists()
        }
    }

    #[test]
    fn a_founding_by_file_is_of_the_files_cluster() {
        let place = Place::new();
        assert!(!place.provisional().stands());
        place.provisional().begin(&place.file, &place.key).expect("begins");
        // As after a power cut before the node's certificate: it is known what was begun.
        let again = place.provisional();
        assert!(again.stands());
        let ca = again.authority(&place.key).expect("reads").expect("there");
        assert_eq!(ca.certificate(), place.file.ca.certificate());
        assert!(again.token().expect("reads") == Some(place.file.token.clone()));
        again.begin(&place.file, &place.key).expect("begins again");
        let keys = place.keys();
        let founding = keys.founding.expect("a founder");
        assert_eq!(keys.cluster_id, place.file.cluster_id);
        assert!(founding.token == place.file.token);
        again.settle().expect("settles");
        assert!(!again.stands() && !place.provisional().stands());
    }

    #[test]
    fn a_founding_that_was_given_up_leaves_a_master_that_joined() {
        let place = Place::new();
        place.provisional().begin(&place.file, &place.key).expect("begins");
        place.keys();
        std::fs::create_dir_all(place.directory.path().join("master/raft")).expect("a log");
        std::fs::create_dir_all(place.directory.path().join("agent")).expect("a ledger");
        let other = &place.file.ca;
        let certificate = other.issue(place.key.public_key(), &place.key.node_id(), NodeRole::Full);
        let certificate = certificate.expect("issues");
        let joined = Identity::new(place.key.clone(), certificate, other.certificate().to_vec());
        let provisional = place.provisional();
        provisional.give_up(&joined.expect("an identity")).expect("gives up");
        for left in ["master/raft", "agent", CA_FILE, TOKEN_FILE, MARK] {
            assert!(!place.has(left), "{left}");
        }
        assert!(place.keys().founding.is_none() && !provisional.stands());
        assert_eq!(place.keys().identity.key.node_id(), place.key.node_id());
    }

    #[test]
    fn what_users_put_in_is_kept() {
        assert!(!holds_something(&State::default()));
        let state = State { callbacks: ["http://x/".to_string()].into(), ..State::default() };
        assert!(holds_something(&state));
    }
}
