//! Sockets: binding them, telling peers apart, and running HTTP/1 on each connection.
//!
//! Binding is separate from serving, so that a port already taken is reported before anything
//! else of the node starts. What a request may do is decided in `access`, never here.

use super::access::Peer;
use super::dispatch::Hangup;
use super::limits::{CONNECTIONS_MAX, HEAD_TIME_MAX, SHUTDOWN_TIME_MAX};
use super::relay::{self, Origin};
use super::{ApiConfig, ServeError};
use crate::masters::Relayed;
use axum::Router;
use http::HeaderMap;
use hyper::body::Incoming;
use hyper::service::Service as _;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use nix::sys::socket::{setsockopt, sockopt};
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Mode of the local socket: its owner administers the node without further proof.
const SOCKET_MODE: u32 = 0o600;
/// Silence in seconds after which the kernel asks whether a peer still lives, and between asks.
const KEEPALIVE_SECONDS: u32 = 30;
/// Pause after a failed accept (out of descriptors, mostly), so that the loop does not spin.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

#[derive(Debug, Error)]
pub enum BindError {
    #[error(
        "the HTTP address {address} is already taken by another process; choose another with --http"
    )]
    AddressTaken { address: SocketAddr },
    #[error("binding the HTTP address {address}")]
    Tcp {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("another process answers on the local socket {}", path.display())]
    SocketTaken { path: PathBuf },
    #[error("making the local socket {}", path.display())]
    Socket {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// The bound sockets. Dropping them frees the port.
#[derive(Debug)]
pub struct Listeners {
    tcp: TcpListener,
    unix: UnixListener,
    socket: PathBuf,
    http: SocketAddr,
}

impl Listeners {
    /// The address HTTP is bound to, with the real port where 0 was asked for.
    pub fn http(&self) -> SocketAddr {
        self.http
    }
}

/// Bind the TCP address and the local socket of `config`.
///
/// # Errors
/// When the address is taken or may not be bound, when another process answers on the socket, or
/// when its directory cannot be written.
pub async fn bind(config: &ApiConfig) -> Result<Listeners, BindError> {
    let address = config.http;
    let tcp = TcpListener::bind(address).await.map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => BindError::AddressTaken { address },
        _ => BindError::Tcp { address, source },
    })?;
    let http = tcp.local_addr().map_err(|source| BindError::Tcp { address, source })?;
    let path = config.socket.as_path();
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(BindError::SocketTaken { path: path.to_path_buf() });
    }
    let unix = bind_private(path)
        .map_err(|source| BindError::Socket { path: path.to_path_buf(), source })?;
    Ok(Listeners { tcp, unix, socket: path.to_path_buf(), http })
}

/// Make the socket inside a fresh 0700 directory and rename it into place: at no moment could
/// another user connect, as between a plain bind and chmod, and a stale socket is replaced.
fn bind_private(path: &Path) -> io::Result<UnixListener> {
    let parent = path.parent().unwrap_or(Path::new("."));
    let nest = parent.join(format!(".api-{}", std::process::id()));
    match fs::remove_dir_all(&nest) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => fs::DirBuilder::new().mode(0o700).create(&nest)?,
    }
    let fresh = nest.join("s");
    let bound = UnixListener::bind(&fresh).and_then(|listener| {
        fs::set_permissions(&fresh, fs::Permissions::from_mode(SOCKET_MODE))?;
        fs::rename(&fresh, path)?;
        Ok(listener)
    });
    fs::remove_dir_all(&nest)?;
    bound
}

/// Serve `router` on both sockets, and to other nodes, until `shutdown`; then give open requests a
/// short time.
pub(crate) async fn run(
    listeners: Listeners,
    relayed: mpsc::Receiver<Relayed>,
    router: Router,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    let Listeners { tcp, unix, socket, http } = listeners;
    let tracker = TaskTracker::new();
    let server = Server { router, shutdown: shutdown.clone(), tracker: tracker.clone() };
    tracing::info!(http = %http, socket = %socket.display(), "the API answers");
    tokio::join!(server.accept_tcp(tcp), server.accept_unix(unix), server.accept_relayed(relayed));
    tracker.close();
    if tokio::time::timeout(SHUTDOWN_TIME_MAX, tracker.wait()).await.is_err() {
        tracing::warn!(connections = tracker.len(), "open requests are cut off");
    }
    fs::remove_file(&socket).map_err(|source| ServeError::RemoveSocket { path: socket, source })
}

/// Who is at the other end of a connection.
#[derive(Clone, Copy)]
enum Source {
    Client(Peer),
    /// A node of the cluster, which says for whom it asks.
    Node,
}

impl Source {
    fn origin(self, headers: &mut HeaderMap) -> Option<Origin> {
        match self {
            Source::Client(peer) => {
                relay::forget(headers);
                Some(Origin { peer, aim: None })
            }
            Source::Node => relay::origin(headers),
        }
    }
}

struct Server {
    router: Router,
    shutdown: CancellationToken,
    tracker: TaskTracker,
}

impl Server {
    async fn accept_tcp(&self, listener: TcpListener) {
        let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        while let Some(permit) = self.permit(&permits).await {
            let accepted = tokio::select! {
                () = self.shutdown.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, from)) => {
                    tune(&stream);
                    self.spawn(stream, Source::Client(Peer::Tcp(from)), permit);
                }
                Err(error) => self.pause(&error).await,
            }
        }
    }

    async fn accept_unix(&self, listener: UnixListener) {
        let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        while let Some(permit) = self.permit(&permits).await {
            let accepted = tokio::select! {
                () = self.shutdown.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => self.spawn(stream, Source::Client(Peer::Unix), permit),
                Err(error) => self.pause(&error).await,
            }
        }
    }

    async fn accept_relayed(&self, mut relayed: mpsc::Receiver<Relayed>) {
        let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        while let Some(permit) = self.permit(&permits).await {
            let accepted = tokio::select! {
                () = self.shutdown.cancelled() => return,
                accepted = relayed.recv() => accepted,
            };
            let Some(Relayed { pipe, .. }) = accepted else { return };
            self.spawn(pipe, Source::Node, permit);
        }
    }

    /// Wait until one more connection is allowed; `None` on shutdown.
    async fn permit(&self, permits: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
        tokio::select! {
            () = self.shutdown.cancelled() => None,
            permit = permits.clone().acquire_owned() => permit.ok(),
        }
    }

    async fn pause(&self, error: &io::Error) {
        tracing::warn!(%error, "a connection was not accepted");
        tokio::time::sleep(ACCEPT_RETRY).await;
    }

    fn spawn<S>(&self, stream: S, source: Source, permit: OwnedSemaphorePermit)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let router = TowerToHyperService::new(self.router.clone());
        let shutdown = self.shutdown.clone();
        self.tracker.spawn(async move {
            let _permit = permit;
            let hangup = Hangup::default();
            let hung_up = hangup.0.clone();
            let service =
                hyper::service::service_fn(move |mut request: http::Request<Incoming>| {
                    if let Some(origin) = source.origin(request.headers_mut()) {
                        request.extensions_mut().insert(origin);
                    }
                    request.extensions_mut().insert(hangup.clone());
                    router.call(request)
                });
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIME_MAX)
                // The golden replies spell `Location` and `Content-Type` so.
                .title_case_headers(true)
                .serve_connection(TokioIo::new(stream), service)
                .with_upgrades();
            let mut connection = std::pin::pin!(connection);
            let ended = tokio::select! {
                ended = connection.as_mut() => ended,
                () = hung_up.cancelled() => return,
                () = shutdown.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection ended badly");
            }
        });
    }
}

/// Set what every connection needs; one that is gone already fails when it is read.
fn tune(stream: &TcpStream) {
    // Small answers must not wait for an acknowledgement of the ones before.
    let _ = stream.set_nodelay(true);
    // A client that lost power never ends its followed log; the kernel finds out.
    let _ = setsockopt(stream, sockopt::KeepAlive, &true);
    let _ = setsockopt(stream, sockopt::TcpKeepIdle, &KEEPALIVE_SECONDS);
    let _ = setsockopt(stream, sockopt::TcpKeepInterval, &KEEPALIVE_SECONDS);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(directory: &Path, http: SocketAddr) -> ApiConfig {
        ApiConfig {
            http,
            socket: directory.join("bramble.sock"),
            open_api: false,
            hostname: "node".into(),
            allow_origins: Vec::new(),
            artifacts: None,
            settings: serde_json::Value::Null,
        }
    }

    #[tokio::test]
    async fn a_taken_port_is_named_and_leaves_no_socket() {
        let directory = tempfile::tempdir().unwrap();
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = taken.local_addr().unwrap();
        let config = config(directory.path(), address);
        let error = bind(&config).await.unwrap_err();
        assert!(matches!(error, BindError::AddressTaken { address: a } if a == address));
        assert!(error.to_string().contains(&address.to_string()), "{error}");
        assert!(!config.socket.exists());
    }

    #[tokio::test]
    async fn the_socket_is_private_replaces_a_stale_one_and_never_a_live_one() {
        let directory = tempfile::tempdir().unwrap();
        let config = config(directory.path(), "127.0.0.1:0".parse().unwrap());
        drop(std::os::unix::net::UnixListener::bind(&config.socket).unwrap());
        assert!(config.socket.exists(), "a stale socket lies there");
        let bound = bind(&config).await.unwrap();
        assert_ne!(bound.http().port(), 0);
        let mode = fs::metadata(&config.socket).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, SOCKET_MODE);
        let left: Vec<_> = fs::read_dir(directory.path()).unwrap().collect();
        assert_eq!(left.len(), 1, "only the socket is left");
        assert!(matches!(bind(&config).await, Err(BindError::SocketTaken { .. })));
    }

    #[tokio::test]
    async fn a_missing_run_directory_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let config = config(&directory.path().join("gone"), "127.0.0.1:0".parse().unwrap());
        let error = bind(&config).await.unwrap_err();
        assert!(matches!(error, BindError::Socket { .. }), "{error}");
    }
}
