//! What touches a network: QUIC with mutual TLS, identity, the join token, mDNS.
//!
//! Everything here authenticates keys and roles only. Whether a node is still a member is a
//! question to the Raft state, asked by the callers.

mod authority;
mod certificate;
mod directory;
mod discovery;
mod durable;
mod endpoint;
mod farewell;
mod founding;
mod frame;
mod identity;
mod join;
mod links;
mod port;
mod probe;
mod seal;
mod tls;
mod token;
mod transport;

pub use authority::{AuthorityError, ClusterCa};
pub use certificate::{CertificateError, Peer, cluster_id_of, peer_of};
pub use directory::Directory;
pub use discovery::{
    Announced, Announcement, Browse, Contender, Contenders, Discovery, DiscoveryError, Found,
    SERVICE_TYPE,
};
pub use durable::{DurableError, write_private};
pub use endpoint::{Alpn, Endpoint, EndpointError, EndpointOptions, Link, issued_by};
pub use farewell::Farewell;
pub use founding::{FoundingFile, FoundingFileError};
pub use frame::{FrameError, read_frame, read_frame_within, write_frame};
pub use identity::{Identity, IdentityError, NodeKey, node_id_of};
pub use join::{
    Admit, AdmitFuture, Admitted, Applicant, Candidate, JoinError, Joined, Refusal, answer_join,
    join,
};
pub use links::{LinkError, Links};
pub use port::Port;
pub use probe::{Probed, probe};
pub use seal::{SealError, SealingKey};
pub use token::{JoinToken, TokenError, short_ca};
