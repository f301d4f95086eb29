//! The founding file in the hands of a node: read where it is needed, removed once it is used.

use crate::config::NodeConfig;
use anyhow::{Result, bail};
use bramble_core::model::NodeRole;
use bramble_protocol::net::{FoundingFile, FoundingFileError};
use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::Path;

/// Says in the data directory that a founding file was used that could not be removed.
const USED_MARK: &str = "founding-used";

/// Read the founding file for a node that belongs to no cluster yet; `None` where none is given, or
/// where it is gone and a join token is given, too.
///
/// # Errors
/// It is of no use, or does not fit what else was given.
pub fn read(config: &NodeConfig, role: NodeRole) -> Result<Option<FoundingFile>> {
    let Some(path) = &config.founding else { return Ok(None) };
    let shown = path.display();
    let file = match FoundingFile::read(path) {
        Ok(file) => file,
        Err(error) if is_missing(&error) && config.token.is_some() => {
            tracing::info!(file = %shown, "there is no founding file (any more): this node joins \
                with its token, and does not found");
            return Ok(None);
        }
        Err(error) if is_missing(&error) => bail!(
            "there is no founding file {shown}: once it was used, it is removed. If the cluster \
             exists, give --token, as `bramble token` prints it there. If it was lost with the disk \
             of its only node, give a copy of the file, or make a new one (`bramble cluster new`)"
        ),
        Err(FoundingFileError::Read { source, .. }) if is_forbidden(&source) => bail!(
            "the founding file {shown} may not be read by this user: run bramble as root, or give \
             the file to the user that runs it (chown)"
        ),
        Err(error) => return Err(error.into()),
    };
    if role == NodeRole::Agent {
        bail!(
            "an agent founds no cluster: give the founding file {shown} to `bramble up` or `bramble \
             master`, and this node the token"
        );
    }
    if config.token.as_ref().is_some_and(|token| *token != file.token) {
        bail!(
            "the token is not that of the founding file {shown} (cluster \"{}\"): give one of the \
             two. To join a cluster that exists, the token alone is right",
            file.name
        );
    }
    Ok(Some(file))
}

fn is_missing(error: &FoundingFileError) -> bool {
    matches!(error, FoundingFileError::Read { source, .. } if source.kind() == ErrorKind::NotFound)
}

fn is_forbidden(source: &io::Error) -> bool {
    source.kind() == ErrorKind::PermissionDenied
}

/// Remove the founding file of a node that belongs to its cluster now, durably. One that cannot be
/// removed is marked as used, and does no harm here: a node of a cluster founds nothing.
pub fn use_up(config: &NodeConfig, cluster_id: &str) {
    let Some(path) = &config.founding else { return };
    let shown = path.display();
    let file = match FoundingFile::read(path) {
        Ok(file) => file,
        Err(error) if is_missing(&error) => return,
        Err(error) => {
            let error: &dyn std::error::Error = &error;
            tracing::warn!(error, "the founding file is left alone");
            return;
        }
    };
    if file.cluster_id != cluster_id {
        tracing::warn!(file = %shown, cluster = %file.cluster_id, own = cluster_id,
            "the founding file is that of another cluster, and left alone");
        return;
    }
    let mark = config.data_dir.join(USED_MARK);
    match remove(path) {
        Ok(()) => {
            let _ = std::fs::remove_file(&mark);
            tracing::info!(file = %shown, "the founding file is used, and removed");
        }
        Err(error) if mark.exists() => {
            tracing::debug!(file = %shown, %error, "the used founding file is still there");
        }
        Err(error) => {
            // Without the mark, it is only said again at the next start.
            let _ = std::fs::write(&mark, format!("{shown} has founded cluster {cluster_id}\n"));
            tracing::warn!(file = %shown, %error, "the founding file is used, but cannot be \
                removed; this node ignores it from now on. Remove it: another node that is given \
                it could found a second cluster");
        }
    }
}

fn remove(path: &Path) -> io::Result<()> {
    std::fs::remove_file(path)?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    // It is gone in any case; a power cut may bring it back, to be removed again.
    if let Err(error) = File::open(parent.unwrap_or(Path::new("."))).and_then(|d| d.sync_all()) {
        tracing::debug!(%error, "the removal of the founding file may not be on disk yet");
    }
    Ok(())
}
