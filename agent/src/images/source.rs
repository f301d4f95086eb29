//! One other node as the source of an image: its answers, and its blobs as streams.

use bramble_core::model::NodeId;
use bramble_image_tools::oci::{Blob, BlobSource, Digest, DigestError, LayerPart, Parts};
use bramble_protocol::net::{Alpn, FrameError, LinkError, Links, read_frame_within, write_frame};
use bramble_protocol::peer::{
    PEER_REPLY_BYTES_MAX, PeerBlob, PeerImage, PeerLayer, PeerReply, PeerRequest,
};
use quinn::RecvStream;
use std::io;
use std::time::Duration;
use thiserror::Error;
use tokio::time::timeout;

/// Longest wait for an answer. A busy node says so after a quarter of it.
const ANSWER_MAX: Duration = Duration::from_secs(20);
/// Longest time to reach a node and hear what it holds.
const ASK_MAX: Duration = Duration::from_secs(5);

#[derive(Debug, Error)]
pub(super) enum AskError {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("a frame")]
    Frame(#[from] FrameError),
    #[error("no answer in time")]
    Late,
    #[error("answers {0}")]
    Answer(String),
    #[error("names a digest that is none")]
    Digest(#[from] DigestError),
}

/// An image as another node holds it.
pub(super) struct Offered {
    pub node: NodeId,
    /// The node's name, for people.
    pub name: String,
    pub parts: Parts,
}

/// Ask a node what an image is made of there; `None` when it does not hold it.
pub(super) async fn ask(
    links: &Links,
    node: &NodeId,
    reference: &str,
) -> Result<Option<Offered>, AskError> {
    let request = PeerRequest::Image { reference: reference.to_owned() };
    let asking = async { Ok::<_, AskError>(request_of(links, node, &request).await?.0) };
    match timeout(ASK_MAX, asking).await.map_err(|_| AskError::Late)?? {
        PeerReply::Image(image) => {
            let name = image.node_name.clone();
            Ok(Some(Offered { node: node.clone(), name, parts: parts(image)? }))
        }
        PeerReply::NotHeld | PeerReply::NotUnderstood => Ok(None),
        PeerReply::Busy => Err(AskError::Answer("that it is busy".into())),
        PeerReply::Failed(reason) => Err(AskError::Answer(reason)),
        PeerReply::Blob { .. } => Err(AskError::Answer("something else than asked".into())),
    }
}

async fn request_of(
    links: &Links,
    node: &NodeId,
    request: &PeerRequest,
) -> Result<(PeerReply, RecvStream), AskError> {
    let (mut send, mut receive) = links.open(node, Alpn::Peer).await?;
    write_frame(&mut send, request).await?;
    // The answer says more than a failure to finish would.
    let _ = send.finish();
    let reply = read_frame_within(&mut receive, PEER_REPLY_BYTES_MAX).await?;
    let reply = reply.ok_or_else(|| LinkError::NoAnswer(node.clone()))?;
    Ok((reply, receive))
}

/// A node that holds an image.
pub(super) struct PeerSource<'a> {
    pub links: &'a Links,
    pub node: &'a NodeId,
    pub name: &'a str,
}

impl BlobSource for PeerSource<'_> {
    type Reader = RecvStream;

    fn name(&self) -> &str {
        self.name
    }

    async fn open(&self, blob: &Digest, offset: u64) -> io::Result<RecvStream> {
        let request = PeerRequest::Blob { digest: blob.to_string(), offset };
        let opening = timeout(ANSWER_MAX, request_of(self.links, self.node, &request));
        let opened = opening.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?;
        let (reply, receive) = opened.map_err(io::Error::other)?;
        match reply {
            PeerReply::Blob { .. } => Ok(receive),
            PeerReply::Busy => Err(io::ErrorKind::ResourceBusy.into()),
            PeerReply::NotHeld => Err(io::ErrorKind::NotFound.into()),
            PeerReply::Failed(reason) => Err(io::Error::other(reason)),
            PeerReply::Image(_) | PeerReply::NotUnderstood => {
                Err(io::ErrorKind::InvalidData.into())
            }
        }
    }
}

fn parts(image: PeerImage) -> Result<Parts, DigestError> {
    let blob = |blob: PeerBlob| Ok(Blob { digest: blob.digest.parse()?, size: blob.size });
    let layer = |layer: PeerLayer| {
        Ok(LayerPart { diff_id: layer.diff_id.parse()?, blob: blob(layer.blob)? })
    };
    Ok(Parts {
        host: image.host,
        config: blob(image.config)?,
        manifest: image.manifest.map(blob).transpose()?,
        index: image.index.map(blob).transpose()?,
        layers: image.layers.into_iter().map(layer).collect::<Result<_, DigestError>>()?,
        created_unix_s: image.created_unix_s,
    })
}

/// The parts of an image in the form other nodes are told it.
pub(super) fn told(parts: Parts, node_name: &str) -> PeerImage {
    let blob = |blob: Blob| PeerBlob { digest: blob.digest.to_string(), size: blob.size };
    let layer =
        |layer: LayerPart| PeerLayer { diff_id: layer.diff_id.to_string(), blob: blob(layer.blob) };
    PeerImage {
        node_name: node_name.to_owned(),
        host: parts.host,
        config: blob(parts.config),
        manifest: parts.manifest.map(blob),
        index: parts.index.map(blob),
        layers: parts.layers.into_iter().map(layer).collect(),
        created_unix_s: parts.created_unix_s,
    }
}
