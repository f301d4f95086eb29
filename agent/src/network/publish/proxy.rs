//! Published ports without nftables: this process listens and copies. About five times slower
//! than the kernel's way, and gone while the agent is.

use super::datagram::{AnsweringSocket, Asker};
use super::{PortMaps, PublishError, PublishFuture, Publisher, Transport};
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Mutex, Semaphore, mpsc};
use tokio::task::{JoinHandle, JoinSet};

/// Connections of one published TCP port at the same time.
const CONNECTIONS_MAX: usize = 1024;
/// Longest wait for the container to take a connection.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// Wait after the system had no room for another connection.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
/// Clients of one published UDP port at the same time.
const UDP_CLIENTS_MAX: usize = 1024;
/// Datagrams waiting per client; more are dropped, as UDP may.
const UDP_QUEUE_MAX: usize = 64;
/// Silence after which a UDP client is forgotten.
const UDP_IDLE_MAX: Duration = Duration::from_secs(60);
/// Largest UDP payload, in bytes.
const DATAGRAM_BYTES_MAX: usize = 65_507;

/// Publishes by copying in this process.
#[derive(Debug, Default)]
pub struct ProxyPublisher {
    served: Mutex<BTreeMap<(Transport, u16), Served>>,
}

/// One published port; dropping it ends the port and all that runs over it.
#[derive(Debug)]
struct Served {
    to: SocketAddrV4,
    task: JoinHandle<()>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl ProxyPublisher {
    pub fn new() -> ProxyPublisher {
        ProxyPublisher::default()
    }
}

impl Publisher for ProxyPublisher {
    fn name(&self) -> &'static str {
        "userspace proxy"
    }

    fn replace(&self, maps: PortMaps) -> PublishFuture<'_> {
        Box::pin(async move {
            let mut served = self.served.lock().await;
            let mut ended = Vec::new();
            served.retain(|key, port| {
                let keep = maps.get(key) == Some(&port.to);
                if !keep {
                    // A placeholder is needed to move the handle out of a type with a destructor.
                    let task = std::mem::replace(&mut port.task, tokio::spawn(async {}));
                    task.abort();
                    ended.push(task);
                }
                keep
            });
            // A port is free again only once its task is really gone.
            for task in ended {
                // An aborted task ends with an error that says so.
                let _ = task.await;
            }
            for (&(transport, port), &to) in &maps {
                if served.contains_key(&(transport, port)) {
                    continue;
                }
                let task = serve(transport, port, to).await.map_err(|source| {
                    if source.kind() == io::ErrorKind::AddrInUse {
                        PublishError::PortTaken { transport, port }
                    } else {
                        PublishError::Listen { transport, port, source }
                    }
                })?;
                served.insert((transport, port), Served { to, task });
            }
            Ok(())
        })
    }

    fn close(&self) -> PublishFuture<'_> {
        self.replace(PortMaps::new())
    }
}

async fn serve(transport: Transport, port: u16, to: SocketAddrV4) -> io::Result<JoinHandle<()>> {
    match transport {
        Transport::Tcp => {
            let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await?;
            Ok(tokio::spawn(serve_tcp(listener, to)))
        }
        Transport::Udp => Ok(tokio::spawn(serve_udp(AnsweringSocket::bind(port).await?, to))),
    }
}

async fn serve_tcp(listener: TcpListener, to: SocketAddrV4) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        // Waiting here leaves further clients in the kernel's backlog.
        let permit = room.clone().acquire_owned().await.expect("this semaphore is never closed");
        let client = match listener.accept().await {
            Ok((client, _)) => client,
            Err(error) => {
                tracing::debug!(%error, "accepting a connection");
                tokio::time::sleep(ACCEPT_AGAIN).await;
                continue;
            }
        };
        connections.spawn(async move {
            if let Err(error) = carry(client, to).await {
                tracing::debug!(%error, %to, "a proxied connection ended early");
            }
            drop(permit);
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn carry(mut client: TcpStream, to: SocketAddrV4) -> io::Result<()> {
    let mut server = tokio::time::timeout(CONNECT_MAX, TcpStream::connect(to)).await??;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    tokio::io::copy_bidirectional(&mut client, &mut server).await.map(|_| ())
}

async fn serve_udp(socket: AnsweringSocket, to: SocketAddrV4) {
    let socket = Arc::new(socket);
    let mut clients: HashMap<Asker, mpsc::Sender<Vec<u8>>> = HashMap::new();
    let mut tasks = JoinSet::new();
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        while tasks.try_join_next().is_some() {}
        // An error here is an earlier answer that a client refused (ICMP): not the port's end.
        let Ok((length, from)) = socket.receive(&mut buffer).await else { continue };
        if clients.get(&from).is_none_or(mpsc::Sender::is_closed) {
            clients.retain(|_, queue| !queue.is_closed());
            if clients.len() >= UDP_CLIENTS_MAX {
                continue;
            }
            let (queue, datagrams) = mpsc::channel(UDP_QUEUE_MAX);
            clients.insert(from, queue);
            tasks.spawn(carry_udp(socket.clone(), from, to, datagrams));
        }
        if let Some(queue) = clients.get(&from) {
            // A full queue drops the datagram, as any network may.
            let _ = queue.try_send(buffer[..length].to_vec());
        }
    }
}

/// Carry one client's datagrams both ways until neither side has spoken for a while.
async fn carry_udp(
    socket: Arc<AnsweringSocket>,
    client: Asker,
    to: SocketAddrV4,
    mut datagrams: mpsc::Receiver<Vec<u8>>,
) {
    let Ok(upstream) = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await else { return };
    if upstream.connect(to).await.is_err() {
        return;
    }
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        // Lost datagrams and refusals (ICMP) are UDP's ordinary life: only silence ends this.
        tokio::select! {
            datagram = datagrams.recv() => match datagram {
                Some(datagram) => { let _ = upstream.send(&datagram).await; }
                None => return,
            },
            answer = upstream.recv(&mut buffer) => {
                if let Ok(length) = answer {
                    let _ = socket.answer(client, &buffer[..length]).await;
                }
            }
            () = tokio::time::sleep(UDP_IDLE_MAX) => return,
        }
    }
}
