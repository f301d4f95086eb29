//! Frames between nodes as such, over links of their own ([`crate::net::Alpn::Peer`]).
//!
//! The asking node opens a bidirectional stream per request: one [`PeerRequest`] frame there, one
//! [`PeerReply`] frame back, then as each request says. Requests are told apart by name: a node
//! that does not know one answers [`PeerReply::NotUnderstood`].

use serde::{Deserialize, Serialize};

/// Largest frame of a request in bytes: an image's reference, at most.
pub const PEER_REQUEST_BYTES_MAX: usize = 4 * 1024;
/// Largest frame of a reply in bytes: an image of 256 layers takes a quarter.
pub const PEER_REPLY_BYTES_MAX: usize = 256 * 1024;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PeerRequest {
    /// What an image is made of; answered by [`PeerReply::Image`].
    Image {
        /// Normalised, with a tag or a digest.
        reference: String,
    },
    /// After [`PeerReply::Blob`]: raw bytes from the offset to the blob's end.
    Blob {
        /// `sha256:...`
        digest: String,
        offset: u64,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PeerReply {
    Image(PeerImage),
    Blob {
        /// Of the whole blob, in bytes.
        size: u64,
    },
    /// No such image or blob here, or not all of it.
    NotHeld,
    /// Too many are being served.
    Busy,
    Failed(String),
    NotUnderstood,
}

/// An image that the answering node holds whole. Only digests are to be believed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerImage {
    /// The answering node's name, for people.
    pub node_name: String,
    /// What it runs, as `linux/arm64`.
    pub host: String,
    pub config: PeerBlob,
    /// `None` for images that are named by their configuration (archives of `docker save`).
    pub manifest: Option<PeerBlob>,
    /// The multi-platform index that the manifest is from.
    pub index: Option<PeerBlob>,
    /// Bottom first.
    pub layers: Vec<PeerLayer>,
    /// Seconds since 1970 when the image came into the cluster; of two that a reference means, the
    /// later one is meant.
    pub created_unix_s: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerBlob {
    /// `sha256:...`
    pub digest: String,
    pub size: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerLayer {
    /// Digest of the layer as it unpacks.
    pub diff_id: String,
    /// The layer as it is transferred.
    pub blob: PeerBlob,
}
