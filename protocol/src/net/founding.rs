//! The founding file: a cluster's authority and join token, made before any node exists.
//!
//! Text, because people find it on a card and must see what it is. Exactly one node is given it;
//! two nodes with it are two founders. It is checked as a whole: what is damaged founds nothing.

use super::authority::{AuthorityError, ClusterCa};
use super::identity::IdentityError;
use super::token::{JoinToken, TokenError};
use crate::secret::Secret;
use rand::TryRngCore;
use rand::rngs::OsRng;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// The first line of every founding file, before the number of its form.
const HEAD: &str = "bramble founding file, version ";
const VERSION: &str = "1";
/// Largest file that is looked into, in bytes: one of ours has about 1.5 KB.
const FILE_BYTES_MAX: u64 = 64 * 1024;
/// Longest name of a cluster, in bytes.
const NAME_BYTES_MAX: usize = 63;
/// Its fields, in the order in which they are written and summed.
const FIELDS: [&str; 5] = ["name", "cluster", "token", "certificate", "key"];
const CHECKSUM: &str = "checksum";
/// How to get over a file that is of no use.
const FIX: &str = "copy it again from where `bramble cluster new` made it";

#[derive(Debug, Error)]
pub enum FoundingFileError {
    #[error("the founding file {} cannot be read", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is no founding file: it does not begin with \"{HEAD}{VERSION}\"; {FIX}",
        path.display())]
    Foreign { path: PathBuf },
    #[error("the founding file {} is of version {version}; this bramble understands version \
        {VERSION}: upgrade it", path.display())]
    Version { path: PathBuf, version: String },
    #[error("the founding file {} is damaged: {what}; {FIX}", path.display())]
    Damaged { path: PathBuf, what: String },
    #[error(
        "a cluster's name has 1 to {NAME_BYTES_MAX} letters, digits, '-', '_' and '.', and \
        begins with a letter or digit; not {0:?}"
    )]
    Name(String),
    #[error("making the cluster's authority")]
    Authority(#[source] AuthorityError),
    #[error("making the cluster's id")]
    Id(#[source] IdentityError),
    #[error("making the join token")]
    Token(#[source] TokenError),
}

/// What makes a cluster, before any of its nodes exists.
pub struct FoundingFile {
    /// What people call it.
    pub name: String,
    pub cluster_id: String,
    pub ca: ClusterCa,
    pub token: JoinToken,
}

impl FoundingFile {
    /// Make the authority and the join token of a new cluster.
    ///
    /// # Errors
    /// When the name cannot be a file's and a cluster's, or the system gives no randomness.
    pub fn mint(name: &str) -> Result<FoundingFile, FoundingFileError> {
        if !is_name(name) {
            return Err(FoundingFileError::Name(name.into()));
        }
        let cluster_id = new_id().map_err(FoundingFileError::Id)?;
        let ca = ClusterCa::mint(&cluster_id).map_err(FoundingFileError::Authority)?;
        let token = JoinToken::mint(ca.certificate()).map_err(FoundingFileError::Token)?;
        Ok(FoundingFile { name: name.into(), cluster_id, ca, token })
    }

    /// The text of the file.
    pub fn render(&self) -> Secret {
        let name = &self.name;
        let mut text = format!(
            "{HEAD}{VERSION}\n\n\
             This file founds the cluster \"{name}\". It holds the cluster's master key: whoever\n\
             has it can make nodes of that cluster. Give it to exactly ONE node:\n\n    \
             bramble up --founding FILE\n\n\
             That node removes it once the cluster is founded. Every other node is given the join\n\
             token instead (bramble up --token ...). A copy is of use only until the cluster is\n\
             founded, if the first node's disk is lost before another node has joined.\n\n"
        );
        for (field, value) in FIELDS.iter().zip(self.values()) {
            text.push_str(&format!("{field}: {value}\n"));
        }
        text.push_str(&format!("{CHECKSUM}: {}\n", checksum(&self.values())));
        Secret::new(text.into_bytes())
    }

    fn values(&self) -> [String; 5] {
        [
            self.name.clone(),
            self.cluster_id.clone(),
            self.token.to_string(),
            hex::encode(self.ca.certificate()),
            hex::encode(self.ca.private_key().expose()),
        ]
    }

    /// Read a founding file.
    ///
    /// # Errors
    /// When it cannot be read, is of another version, or is not whole.
    pub fn read(path: &Path) -> Result<FoundingFile, FoundingFileError> {
        let failed = |source| FoundingFileError::Read { path: path.into(), source };
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(failed)?;
        file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(failed)?;
        let bytes = Secret::new(bytes);
        FoundingFile::parse(path, bytes.expose())
    }

    fn parse(path: &Path, bytes: &[u8]) -> Result<FoundingFile, FoundingFileError> {
        let damaged =
            |what: &str| FoundingFileError::Damaged { path: path.into(), what: what.into() };
        let foreign = || FoundingFileError::Foreign { path: path.into() };
        let head = bytes.get(..HEAD.len()).ok_or_else(foreign)?;
        if head != HEAD.as_bytes() {
            return Err(foreign());
        }
        let text = std::str::from_utf8(bytes).map_err(|_| damaged("it is no text"))?;
        let mut lines = text.lines();
        let version = lines.next().and_then(|line| line.strip_prefix(HEAD)).unwrap_or_default();
        if version.trim() != VERSION {
            let version = version.trim().to_string();
            return Err(FoundingFileError::Version { path: path.into(), version });
        }
        let fields: Vec<(&str, &str)> =
            lines.filter_map(|line| line.split_once(':').map(|(k, v)| (k, v.trim()))).collect();
        let field = |wanted: &str| {
            let found = fields.iter().find(|(key, _)| *key == wanted);
            found.map(|(_, value)| *value).ok_or_else(|| damaged(&format!("it has no {wanted}")))
        };
        let mut values = FIELDS.map(|_| String::new());
        for (value, wanted) in values.iter_mut().zip(FIELDS) {
            *value = field(wanted)?.to_string();
        }
        if checksum(&values) != field(CHECKSUM)? {
            return Err(damaged("its checksum does not match"));
        }
        // What follows can only fail for a file that was made wrong, not for a damaged one.
        let [name, cluster_id, token, certificate, key] = values;
        let unhexed = |text: &str, what: &str| hex::decode(text).map_err(|_| damaged(what));
        let certificate = unhexed(&certificate, "its certificate is unreadable")?;
        let key = Secret::new(unhexed(&key, "its key is unreadable")?);
        let ca = ClusterCa::from_parts(&key, certificate)
            .map_err(|error| damaged(&format!("its authority is unusable ({error})")))?;
        let token: JoinToken = token.parse().map_err(|e| damaged(&format!("its token: {e}")))?;
        let named = ca.cluster_id().ok().as_deref() == Some(cluster_id.as_str());
        let hashed = <[u8; 32]>::from(Sha256::digest(ca.certificate()));
        if !named || token.ca_sha256 != hashed || !is_name(&name) {
            return Err(damaged("its parts do not belong together"));
        }
        Ok(FoundingFile { name, cluster_id, ca, token })
    }
}

fn is_name(name: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let first = name.chars().next().is_some_and(|c| c.is_ascii_alphanumeric());
    first && name.len() <= NAME_BYTES_MAX && name.chars().all(good)
}

/// Of the values rather than of the text: a file that a PC's editor gave other line ends is whole.
fn checksum(values: &[String; 5]) -> String {
    let mut digest = Sha256::new();
    for (field, value) in FIELDS.iter().zip(values) {
        digest.update(format!("{field}: {value}\n"));
    }
    hex::encode(digest.finalize())
}

/// A random UUID (RFC 9562, version 4).
fn new_id() -> Result<String, IdentityError> {
    let mut bytes = [0; 16];
    OsRng.try_fill_bytes(&mut bytes).map_err(|_| IdentityError::Generate)?;
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let text = hex::encode(bytes);
    let parts = [&text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..]];
    Ok(parts.join("-"))
}

#[cfg(test)]
mod tests;
