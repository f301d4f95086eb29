//! A network of its own for each test: a thread in a fresh network namespace plays the host, and
//! `sleep` processes in further ones play containers and a machine outside. Everything goes when
//! the guards go, also when a test fails; the machine's own network is never touched.

use crate::network::link::Links;
use crate::network::namespace::Namespace;
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::geteuid;
use std::fs::File;
use std::future::Future;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;

/// The host's address on the network it shares with the machine outside.
pub const HOST_IP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
pub const OUTSIDE_IP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 20);
const LAN: &str = "lan0";
/// Longer than anything here takes; only turns a hang into a failure.
const HANG: Duration = Duration::from_secs(20);

/// Say why a test cannot run here. In CI that is a failure.
pub fn skip(why: &str) {
    eprintln!("SKIPPED: {why}");
    assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "skipped in CI: {why}");
}

/// Run `work` as the host of a fresh network.
pub fn on_a_host<F: Future<Output = ()>>(work: impl FnOnce() -> F + Send + 'static) {
    if !geteuid().is_root() {
        return skip("network namespaces need root");
    }
    let host = std::thread::spawn(move || {
        if let Err(e) = unshare(CloneFlags::CLONE_NEWNET) {
            return skip(&format!("this machine makes no network namespace: {e}"));
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let links = Links::open().expect("netlink");
            let lo = links.index_of("lo").await.expect("lists").expect("lo exists");
            links.take_up(lo).await.expect("lo goes up");
            let lan = links.create_bridge(LAN, HOST_IP).await.expect("a lan");
            links.configure(lan, HOST_IP, 24).await.expect("the host's address");
            work().await;
        });
    });
    if let Err(panic) = host.join() {
        std::panic::resume_unwind(panic);
    }
}

/// A process in a network namespace of its own, killed when dropped.
pub struct Machine {
    child: Child,
    servers: Vec<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl Machine {
    pub fn start() -> Machine {
        let mut command = Command::new("sleep");
        command.arg("600");
        // SAFETY: unshare is one system call; it allocates nothing and takes no lock.
        #[allow(unsafe_code)]
        unsafe {
            command.pre_exec(|| unshare(CloneFlags::CLONE_NEWNET).map_err(io::Error::from));
        }
        Machine { child: command.spawn().expect("sleep starts"), servers: Vec::new() }
    }

    /// A process in the host's own namespace.
    pub fn start_on_host() -> Machine {
        let child = Command::new("sleep").arg("600").spawn().expect("sleep starts");
        Machine { child, servers: Vec::new() }
    }

    /// A machine on the host's network, not behind the bridge.
    pub async fn outside() -> Machine {
        let machine = Machine::start();
        let links = Links::open().expect("netlink");
        let lan = links.index_of(LAN).await.expect("lists").expect("the lan");
        let namespace = Namespace::of_process(machine.pid()).expect("its namespace");
        let ns = namespace.as_fd();
        let veth = links.create_veth("bvoutside", lan, ns, OUTSIDE_IP).await.expect("a veth");
        links.finish_veth(veth, OUTSIDE_IP).await.expect("goes up");
        namespace.configure(OUTSIDE_IP, 24, HOST_IP).await.expect("configures");
        machine
    }

    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("pids are small")
    }

    /// Run `work` inside, without holding up the host's runtime.
    pub async fn inside<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let pid = self.pid();
        let (sender, answer) = oneshot::channel();
        std::thread::spawn(move || {
            enter(pid);
            let _ = sender.send(work());
        });
        answer.await.expect("the thread inside answers")
    }

    /// Answer HTTP on `port` and datagrams on `udp`, with this name and the asker's address.
    pub async fn serve(&mut self, name: &'static str, port: u16, udp: u16) {
        let pid = self.pid();
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            enter(pid);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(answer(name, port, udp, ready, stopped));
        });
        self.servers.push((stop, thread));
        is_ready.await.expect("the server listens");
    }

    /// Kill the process as the kernel or a user would, and stop what the test put inside, so that
    /// nothing holds the namespace any more.
    pub fn kill(&mut self) {
        for (stop, thread) in self.servers.drain(..) {
            let _ = stop.send(());
            let _ = thread.join();
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.kill();
    }
}

fn enter(pid: i32) {
    let namespace = File::open(format!("/proc/{pid}/ns/net")).expect("its namespace");
    setns(namespace, CloneFlags::CLONE_NEWNET).expect("enters");
}

async fn answer(
    name: &'static str,
    port: u16,
    udp: u16,
    ready: oneshot::Sender<()>,
    mut stopped: oneshot::Receiver<()>,
) {
    let any = Ipv4Addr::UNSPECIFIED;
    let listener = tokio::net::TcpListener::bind((any, port)).await.expect("listens");
    let socket = tokio::net::UdpSocket::bind((any, udp)).await.expect("binds");
    let _ = ready.send(());
    let (mut request, mut datagram) = ([0; 512], [0; 512]);
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (mut stream, from) = accepted.expect("accepts");
                let _ = stream.read(&mut request).await;
                let body = format!("{name} {}", from.ip());
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                let _ = stream.write_all((head + &body).as_bytes()).await;
            }
            received = socket.recv_from(&mut datagram) => {
                let (_, from) = received.expect("receives");
                let _ = socket.send_to(format!("{name} {}", from.ip()).as_bytes(), from).await;
            }
            _ = &mut stopped => return,
        }
    }
}

/// The body of `GET /`, as a blocking call for inside of machines.
pub fn http(ip: Ipv4Addr, port: u16) -> io::Result<String> {
    let to = SocketAddr::V4(SocketAddrV4::new(ip, port));
    let mut stream = TcpStream::connect_timeout(&to, HANG)?;
    stream.set_read_timeout(Some(HANG))?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n")?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply)?;
    let body = reply.split_once("\r\n\r\n").map(|(_, body)| body.to_string());
    body.ok_or_else(|| io::Error::other(format!("no HTTP: {reply:?}")))
}

/// The answer to one datagram.
pub fn udp(ip: Ipv4Addr, port: u16) -> io::Result<String> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.set_read_timeout(Some(HANG))?;
    socket.connect((ip, port))?;
    socket.send(b"who?")?;
    let mut reply = [0; 512];
    let length = socket.recv(&mut reply)?;
    Ok(String::from_utf8_lossy(&reply[..length]).into_owned())
}

/// Run a blocking call on the host; its runtime goes on meanwhile (the proxy lives there).
pub async fn on_host<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, answer) = oneshot::channel();
    // A thread inherits the namespace of the thread that starts it.
    std::thread::spawn(move || {
        let _ = sender.send(work());
    });
    answer.await.expect("the thread answers")
}

/// Names of the host's interfaces.
pub fn interfaces() -> Vec<String> {
    let table = std::fs::read_to_string("/proc/thread-self/net/dev").expect("reads");
    let names = table.lines().filter_map(|line| line.split_once(':'));
    names.map(|(name, _)| name.trim().to_string()).collect()
}
