//! The node's one QUIC socket: dials and answers links that are authenticated by mutual TLS.
//!
//! It checks chain and role. Whether the peer is still a member is for the caller to ask the Raft
//! state. A slow or hostile handshake never holds up another one.

mod belief;

use super::certificate::{CertificateError, Peer, peer_of};
use super::farewell::Farewell;
use super::identity::{Identity, IdentityError};
use super::port::Port;
use super::tls::{self, Believed, SERVER_NAME, TlsError, Trust};
use super::transport;
use bramble_core::model::NodeId;
use quinn::{ConnectError, ConnectionError, VarInt};
use rustls::pki_types::CertificateDer;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock, RwLock};
use std::time::Duration;
use thiserror::Error;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinHandle;

/// Handshakes answered at the same time; more are refused.
const HANDSHAKES_MAX: usize = 256;
/// With this many under way, a dialler must first prove that it owns its address.
const HANDSHAKES_CALM: usize = 32;
/// Links of joiners (strangers until admitted) that may stand at the same time.
const JOINS_MAX: usize = 32;
/// Links that are ready but not yet taken by [`Endpoint::accept`].
const READY_LINKS_MAX: usize = 64;
/// Longest time of one handshake, on both sides.
const HANDSHAKE_MAX: Duration = Duration::from_secs(5);
/// Longest wait for peers to hear that this endpoint closes.
const CLOSE_MAX: Duration = Duration::from_secs(1);

/// Reasons this side closes a link at once, as QUIC application error codes.
const CLOSE_DONE: u32 = 0;
const CLOSE_NO_CERTIFICATE: u32 = 1;
const CLOSE_ROLE: u32 = 2;
const CLOSE_OTHER_NODE: u32 = 3;
const CLOSE_BUSY: u32 = 4;

#[derive(Debug, Error)]
pub enum EndpointError {
    #[error("binding UDP {addr}")]
    Bind {
        addr: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("speaking QUIC on the socket")]
    Socket(#[source] io::Error),
    #[error("setting up TLS")]
    Tls(#[source] TlsError),
    #[error("renewing this node's certificate")]
    Renewal(#[source] IdentityError),
    #[error("this node has no identity yet and can only join")]
    NoIdentity,
    #[error("dialling {addr}")]
    Dial {
        addr: SocketAddr,
        #[source]
        source: ConnectError,
    },
    #[error("shaking hands with {addr}")]
    Handshake {
        addr: SocketAddr,
        #[source]
        source: ConnectionError,
    },
    #[error("{addr} did not complete the handshake within {} s", HANDSHAKE_MAX.as_secs())]
    TimedOut { addr: SocketAddr },
    #[error("{addr} showed no certificate")]
    NoCertificate { addr: SocketAddr },
    #[error("the certificate of {addr} is unusable")]
    Certificate {
        addr: SocketAddr,
        #[source]
        source: CertificateError,
    },
    #[error("{addr} is node {found}, not {expected}")]
    OtherNode { addr: SocketAddr, found: NodeId, expected: NodeId },
    #[error("{addr} is of role {:?}, which may not speak {}", peer.role, alpn.as_str())]
    Role { addr: SocketAddr, peer: Peer, alpn: Alpn },
    #[error("{addr} agreed on no protocol of ours")]
    NoProtocol { addr: SocketAddr },
    #[error("too many joiners at once, {addr} was sent away")]
    TooManyJoiners { addr: SocketAddr },
}

/// What a link is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Alpn {
    /// An agent's session with the leader, dialled by the agent.
    Agent,
    /// Raft between masters.
    Raft,
    /// Admission; the dialling side has no certificate yet.
    Join,
    /// Requests of clients on their way to a master: one HTTP/1 connection per stream. Any node
    /// dials, masters answer.
    Api,
    /// Between nodes as such: images, probes. Any node dials, any node answers.
    Peer,
}

impl Alpn {
    const ALL: [Alpn; 5] = [Alpn::Agent, Alpn::Raft, Alpn::Join, Alpn::Api, Alpn::Peer];

    /// The protocol name in the TLS handshake.
    pub fn as_str(self) -> &'static str {
        match self {
            Alpn::Agent => "bramble-agent/1",
            Alpn::Raft => "bramble-raft/1",
            Alpn::Join => "bramble-join/1",
            Alpn::Api => "bramble-api/1",
            Alpn::Peer => "bramble-peer/1",
        }
    }

    fn of(name: &[u8]) -> Option<Alpn> {
        Alpn::ALL.into_iter().find(|alpn| alpn.as_str().as_bytes() == name)
    }

    /// Whether a peer in this role may be at the other end.
    fn allows(self, peer: &Peer, peer_dialled: bool) -> bool {
        match self {
            Alpn::Agent if peer_dialled => peer.is_agent(),
            Alpn::Api if peer_dialled => true,
            Alpn::Peer => true,
            Alpn::Agent | Alpn::Raft | Alpn::Join | Alpn::Api => peer.is_master(),
        }
    }
}

/// A standing, authenticated connection.
#[derive(Debug)]
pub struct Link {
    pub connection: quinn::Connection,
    pub alpn: Alpn,
    /// `None` only on the answering side of [`Alpn::Join`].
    pub peer: Option<Peer>,
    /// Held while a stranger's link stands.
    _join_permit: Option<OwnedSemaphorePermit>,
}

/// Switches of an endpoint.
#[derive(Clone, Copy, Debug)]
pub struct EndpointOptions {
    /// Let the kernel split large sends (GSO). Some network cards do it wrong (quinn #2399).
    pub segmentation_offload: bool,
    /// What the node has of its former life to end the links of that; see [`NodeKey::link_seed`].
    pub link_seed: Option<[u8; 32]>,
}

impl Default for EndpointOptions {
    fn default() -> Self {
        EndpointOptions { segmentation_offload: true, link_seed: None }
    }
}

/// A bound QUIC socket. Closes when dropped; [`Endpoint::close`] also tells the peers.
#[derive(Debug)]
pub struct Endpoint {
    quic: quinn::Endpoint,
    options: EndpointOptions,
    identity: RwLock<Option<Arc<Dialler>>>,
    ready: Mutex<mpsc::Receiver<Link>>,
    acceptor: JoinHandle<()>,
    life: u64,
    verdict: watch::Sender<Option<Farewell>>,
    /// Besides the CA of the identity.
    believed: RwLock<Believed>,
    /// Held while that or the identity is changed and written down: master and agent of a node
    /// are both told.
    believing: std::sync::Mutex<()>,
    /// Where a renewed identity is kept.
    directory: OnceLock<PathBuf>,
}

/// An identity with the client settings made from it once.
#[derive(Debug)]
struct Dialler {
    identity: Identity,
    agent: quinn::ClientConfig,
    raft: quinn::ClientConfig,
    api: quinn::ClientConfig,
    peer: quinn::ClientConfig,
}

impl Endpoint {
    /// Bind `addr`. Without an identity it can only join; it answers nobody until
    /// [`Endpoint::set_identity`]. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// When the port is taken or the identity is unusable.
    pub fn bind(addr: SocketAddr, identity: Option<Identity>) -> Result<Endpoint, EndpointError> {
        Endpoint::bind_with(addr, identity, EndpointOptions::default())
    }

    /// Like [`Endpoint::bind`], with switches.
    ///
    /// # Errors
    /// As [`Endpoint::bind`].
    pub fn bind_with(
        addr: SocketAddr,
        identity: Option<Identity>,
        options: EndpointOptions,
    ) -> Result<Endpoint, EndpointError> {
        Endpoint::at(Port::take(addr)?, identity, options)
    }

    /// Like [`Endpoint::bind_with`], at a port that was taken before.
    ///
    /// # Errors
    /// When the socket or the identity is unusable.
    pub fn at(
        port: Port,
        identity: Option<Identity>,
        options: EndpointOptions,
    ) -> Result<Endpoint, EndpointError> {
        let config = transport::endpoint_config(options.link_seed.as_ref());
        let quic = quinn::Endpoint::new(config, None, port.0, Arc::new(quinn::TokioRuntime))
            .map_err(EndpointError::Socket)?;
        let (sender, ready) = mpsc::channel(READY_LINKS_MAX);
        let acceptor = tokio::spawn(answer_all(quic.clone(), sender));
        let endpoint = Endpoint {
            quic,
            options,
            identity: RwLock::new(None),
            ready: Mutex::new(ready),
            acceptor,
            life: rand::random::<u64>().max(1),
            verdict: watch::Sender::new(None),
            believed: RwLock::default(),
            believing: std::sync::Mutex::default(),
            directory: OnceLock::new(),
        };
        if let Some(identity) = identity {
            endpoint.set_identity(identity)?;
        }
        Ok(endpoint)
    }

    /// This process's own number, never 0: a second process with the same key has another.
    pub fn life(&self) -> u64 {
        self.life
    }

    /// What the cluster last said of this node, if it does not want it.
    pub fn verdict(&self) -> watch::Receiver<Option<Farewell>> {
        self.verdict.subscribe()
    }

    /// Note what the cluster said of this node; `None`: it is welcome. News is told to whoever
    /// reads the log, once, whichever part of the node heard it first.
    pub fn judged(&self, verdict: Option<Farewell>) {
        let news =
            self.verdict.send_if_modified(|known| std::mem::replace(known, verdict) != verdict);
        if news && let Some(farewell) = verdict {
            tracing::error!(
                "the cluster does not want this node, its tasks stop: {}",
                farewell.told()
            );
        }
    }

    /// The address this endpoint is bound to.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.quic.local_addr()
    }

    /// Dial `addr`; with `expect`, only that node will do. The other side may still close the link
    /// at once when it does not accept this node.
    ///
    /// # Errors
    /// When the peer is out of reach, of another cluster, not the expected node, or in a role that
    /// does not answer `alpn`.
    pub async fn connect(
        &self,
        addr: SocketAddr,
        alpn: Alpn,
        expect: Option<&NodeId>,
    ) -> Result<Link, EndpointError> {
        let dialler = self.identity.read().expect("no holder of this lock panics").clone();
        let dialler = dialler.ok_or(EndpointError::NoIdentity)?;
        let config = match alpn {
            Alpn::Agent => dialler.agent.clone(),
            Alpn::Raft => dialler.raft.clone(),
            Alpn::Api => dialler.api.clone(),
            Alpn::Peer => dialler.peer.clone(),
            Alpn::Join => self.client_config(None, alpn, own_ca(&dialler.identity))?,
        };
        self.dial(addr, alpn, config, expect).await
    }

    /// Dial for admission, believing the CA whose certificate has this SHA-256.
    pub(super) async fn connect_to_join(
        &self,
        addr: SocketAddr,
        ca_sha256: [u8; 32],
    ) -> Result<Link, EndpointError> {
        let config = self.client_config(None, Alpn::Join, Trust::Digest(ca_sha256))?;
        self.dial(addr, Alpn::Join, config, None).await
    }

    /// The next link that somebody dialled; `None` once the endpoint is closed.
    pub async fn accept(&self) -> Option<Link> {
        self.ready.lock().await.recv().await
    }

    /// Close every link and tell the peers, waiting at most a second for them.
    pub async fn close(&self) {
        self.quic.close(VarInt::from_u32(CLOSE_DONE), b"closing");
        // A peer that is gone cannot be told; its idle timeout will.
        let _ = tokio::time::timeout(CLOSE_MAX, self.quic.wait_idle()).await;
    }

    fn client_config(
        &self,
        identity: Option<&Identity>,
        alpn: Alpn,
        trust: Trust,
    ) -> Result<quinn::ClientConfig, EndpointError> {
        let crypto = tls::client_config(trust, identity, alpn.as_str().as_bytes())
            .map_err(EndpointError::Tls)?;
        Ok(transport::client_config(crypto, self.options))
    }

    async fn dial(
        &self,
        addr: SocketAddr,
        alpn: Alpn,
        config: quinn::ClientConfig,
        expect: Option<&NodeId>,
    ) -> Result<Link, EndpointError> {
        let connecting = self
            .quic
            .connect_with(config, addr, SERVER_NAME)
            .map_err(|source| EndpointError::Dial { addr, source })?;
        let connection = tokio::time::timeout(HANDSHAKE_MAX, connecting)
            .await
            .map_err(|_| EndpointError::TimedOut { addr })?
            .map_err(|source| EndpointError::Handshake { addr, source })?;
        let peer = peer_behind(&connection)?.ok_or(EndpointError::NoCertificate { addr })?;
        if let Some(expected) = expect.filter(|expected| **expected != peer.node_id) {
            connection.close(VarInt::from_u32(CLOSE_OTHER_NODE), b"another node was expected");
            let expected = expected.clone();
            return Err(EndpointError::OtherNode { addr, found: peer.node_id, expected });
        }
        if !alpn.allows(&peer, false) {
            connection.close(VarInt::from_u32(CLOSE_ROLE), b"role");
            return Err(EndpointError::Role { addr, peer, alpn });
        }
        transport::open_up(&connection, alpn, true);
        Ok(Link { connection, alpn, peer: Some(peer), _join_permit: None })
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.acceptor.abort();
        self.quic.close(VarInt::from_u32(CLOSE_DONE), b"closing");
    }
}

fn own_ca(identity: &Identity) -> Trust {
    Trust::Nodes(Arc::new(Believed { cas: vec![identity.ca.clone()], ..Believed::default() }))
}

/// Whether the other end of a link showed a certificate that this CA (DER) issued.
pub fn issued_by(connection: &quinn::Connection, ca: &[u8]) -> bool {
    let shown = certificates_behind(connection);
    shown.first().is_some_and(|own| tls::verify_issued(own, ca).is_ok())
}

/// Take every dial, answer each in its own task.
async fn answer_all(quic: quinn::Endpoint, ready: mpsc::Sender<Link>) {
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    let joins = Arc::new(Semaphore::new(JOINS_MAX));
    while let Some(incoming) = quic.accept().await {
        let Ok(permit) = handshakes.clone().try_acquire_owned() else {
            incoming.refuse();
            continue;
        };
        let busy = HANDSHAKES_MAX - handshakes.available_permits() > HANDSHAKES_CALM;
        if busy && !incoming.remote_address_validated() && incoming.may_retry() {
            // Only fails where `may_retry` is false.
            let _ = incoming.retry();
            continue;
        }
        let (ready, joins) = (ready.clone(), joins.clone());
        tokio::spawn(async move {
            let addr = incoming.remote_address();
            match answer(incoming, addr, joins).await {
                // Fails only when the endpoint is gone, and then nobody wants the link.
                Ok(link) => drop(ready.send(link).await),
                Err(error) => {
                    let error: &dyn std::error::Error = &error;
                    tracing::debug!(%addr, error, "refused a link");
                }
            }
            drop(permit);
        });
    }
}

async fn answer(
    incoming: quinn::Incoming,
    addr: SocketAddr,
    joins: Arc<Semaphore>,
) -> Result<Link, EndpointError> {
    let handshake = |source| EndpointError::Handshake { addr, source };
    let connecting = incoming.accept().map_err(handshake)?;
    let connection = tokio::time::timeout(HANDSHAKE_MAX, connecting)
        .await
        .map_err(|_| EndpointError::TimedOut { addr })?
        .map_err(handshake)?;
    let close = |code, reason: &str| connection.close(VarInt::from_u32(code), reason.as_bytes());
    let alpn = agreed_protocol(&connection).ok_or(EndpointError::NoProtocol { addr })?;
    let mut join_permit = None;
    let behind = peer_behind(&connection)?;
    let peer = match (alpn, behind) {
        (Alpn::Join, _) => {
            join_permit = Some(joins.try_acquire_owned().map_err(|_| {
                close(CLOSE_BUSY, "too many joiners");
                EndpointError::TooManyJoiners { addr }
            })?);
            None
        }
        (_, None) => {
            close(CLOSE_NO_CERTIFICATE, "a certificate is needed");
            return Err(EndpointError::NoCertificate { addr });
        }
        (_, Some(peer)) if !alpn.allows(&peer, true) => {
            close(CLOSE_ROLE, "role");
            return Err(EndpointError::Role { addr, peer, alpn });
        }
        (_, Some(peer)) => Some(peer),
    };
    transport::open_up(&connection, alpn, false);
    Ok(Link { connection, alpn, peer, _join_permit: join_permit })
}

fn agreed_protocol(connection: &quinn::Connection) -> Option<Alpn> {
    let data = connection.handshake_data()?;
    let data = data.downcast::<quinn::crypto::rustls::HandshakeData>().ok()?;
    Alpn::of(&data.protocol?)
}

/// Certificates the other side showed and TLS verified, its own first.
pub(super) fn certificates_behind(connection: &quinn::Connection) -> Vec<CertificateDer<'static>> {
    connection
        .peer_identity()
        .and_then(|any| any.downcast::<Vec<CertificateDer<'static>>>().ok())
        .map(|certificates| *certificates)
        .unwrap_or_default()
}

fn peer_behind(connection: &quinn::Connection) -> Result<Option<Peer>, EndpointError> {
    let addr = connection.remote_address();
    certificates_behind(connection)
        .first()
        .map(|own| peer_of(own).map_err(|source| EndpointError::Certificate { addr, source }))
        .transpose()
}

#[cfg(test)]
mod tests;
