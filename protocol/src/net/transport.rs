//! QUIC settings: lean enough for thousands of links to one master.
//!
//! Measured: 10,000 agents cost 28 KB each with these; larger windows are given to a link only
//! after its peer was believed.

use super::endpoint::{Alpn, EndpointOptions};
use quinn::{
    ConnectionId, ConnectionIdGenerator, EndpointConfig, IdleTimeout, TimeSource, TransportConfig,
    VarInt,
};
use ring::hmac;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// The dialling side says this often that it lives. The answer keeps the other side informed, so
/// one timer per link is enough.
const KEEP_ALIVE: Duration = Duration::from_secs(1);
/// Silence after which a link counts as lost, in milliseconds: several keep-alives, since packets
/// get lost and small machines stall.
const IDLE_MAX_MS: u32 = 5_000;
/// Unread bytes of one stream.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
/// Unread bytes of a link: to start with, of an agent (image loads), of a master (snapshots).
const LINK_WINDOW_BYTES: u32 = 64 * 1024;
const LINK_WINDOW_AGENT_BYTES: u32 = 512 * 1024;
const LINK_WINDOW_RAFT_BYTES: u32 = 1024 * 1024;
/// Unread bytes of a link that carries images.
const LINK_WINDOW_PEER_BYTES: u32 = 2 * 1024 * 1024;
/// Unread bytes of a link that carries requests for many: as much as all its streams may hold, so
/// that clients that do not read hold up nobody else.
const LINK_WINDOW_API_BYTES: u32 = STREAMS_API_MAX * STREAM_WINDOW_BYTES;
/// Bytes sent but not acknowledged, per link.
const SEND_WINDOW_BYTES: u64 = 1024 * 1024;
/// Streams the peer may have open: before it is believed, as an agent or master of agents, in Raft.
const STREAMS_MAX: u32 = 4;
const STREAMS_AGENT_MAX: u32 = 64;
const STREAMS_RAFT_MAX: u32 = 256;
const STREAMS_API_MAX: u32 = 256;
/// Datagrams waiting, in bytes.
const DATAGRAM_BYTES: usize = 4 * 1024;
/// Socket buffers asked for, in bytes. The kernel may give less (net.core.rmem_max).
const SOCKET_BUFFER_BYTES: usize = 8 * 1024 * 1024;
/// Length of a link's id.
const LINK_ID_BYTES: usize = 8;
/// Handshakes whose first packet waits to be looked at.
const INCOMING_MAX: usize = 1024;

/// Bind a UDP socket; one bound to an IPv6 wildcard also serves IPv4.
pub(super) fn socket(addr: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    // Smaller buffers lose packets under bursts, which QUIC sends again: not worth failing for.
    if socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES).is_err()
        || socket.set_send_buffer_size(SOCKET_BUFFER_BYTES).is_err()
    {
        tracing::debug!(%addr, "socket buffers keep their default size");
    }
    socket.bind(&SockAddr::from(addr))?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// With the same seed, a node that was killed and started again answers what still arrives on its
/// former links so that the other side drops them at once (RFC 9000, 10.3); without, the other
/// side waits for the silence to be long enough.
pub(super) fn endpoint_config(seed: Option<&[u8; 32]>) -> EndpointConfig {
    let Some(seed) = seed else { return EndpointConfig::default() };
    let mut config = EndpointConfig::new(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, seed)));
    config.cid_generator(|| Box::new(AnyId));
    config
}

/// Ids of links. quinn's own generator marks those of this process, and answers no others.
struct AnyId;

impl ConnectionIdGenerator for AnyId {
    fn generate_cid(&mut self) -> ConnectionId {
        ConnectionId::new(&rand::random::<[u8; LINK_ID_BYTES]>())
    }

    fn cid_len(&self) -> usize {
        LINK_ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

fn transport_config(options: EndpointOptions, keep_alive: Option<Duration>) -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .keep_alive_interval(keep_alive)
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(IDLE_MAX_MS))))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(LINK_WINDOW_BYTES))
        .send_window(SEND_WINDOW_BYTES)
        .max_concurrent_bidi_streams(VarInt::from_u32(STREAMS_MAX))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(Some(DATAGRAM_BYTES))
        .datagram_send_buffer_size(DATAGRAM_BYTES)
        .mtu_discovery_config(None)
        .enable_segmentation_offload(options.segmentation_offload);
    transport
}

pub(super) fn client_config(
    crypto: Arc<quinn::crypto::rustls::QuicClientConfig>,
    options: EndpointOptions,
) -> quinn::ClientConfig {
    let mut config = quinn::ClientConfig::new(crypto);
    config.transport_config(Arc::new(transport_config(options, Some(KEEP_ALIVE))));
    config
}

pub(super) fn server_config(
    crypto: Arc<quinn::crypto::rustls::QuicServerConfig>,
    options: EndpointOptions,
) -> quinn::ServerConfig {
    let mut config = quinn::ServerConfig::with_crypto(crypto);
    config
        .transport_config(Arc::new(transport_config(options, None)))
        .max_incoming(INCOMING_MAX)
        .time_source(Arc::new(SinceStart(Instant::now())));
    config
}

/// Raise the limits of a link whose peer is now known.
pub(super) fn open_up(connection: &quinn::Connection, alpn: Alpn, dialled: bool) {
    let (streams, window) = match alpn {
        Alpn::Agent if dialled => (STREAMS_AGENT_MAX, LINK_WINDOW_AGENT_BYTES),
        Alpn::Agent => (STREAMS_AGENT_MAX, LINK_WINDOW_BYTES),
        Alpn::Api => (STREAMS_API_MAX, LINK_WINDOW_API_BYTES),
        Alpn::Peer => (STREAMS_AGENT_MAX, LINK_WINDOW_PEER_BYTES),
        Alpn::Raft => (STREAMS_RAFT_MAX, LINK_WINDOW_RAFT_BYTES),
        Alpn::Join => return,
    };
    connection.set_max_concurrent_bi_streams(VarInt::from_u32(streams));
    connection.set_receive_window(VarInt::from_u32(window));
}

/// Dates address tokens by the monotonic clock: a wall clock that jumps at boot would make them
/// look expired.
struct SinceStart(Instant);

impl TimeSource for SinceStart {
    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + self.0.elapsed()
    }
}
