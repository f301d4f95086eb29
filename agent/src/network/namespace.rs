//! Inside a container's network namespace, entered by a thread of its own.
//!
//! `setns` counts for one thread, so the thread that enters never comes back to other work. The
//! namespace has no name and no mount: it goes when the container's last process goes.

use super::link::{CONTAINER_INTERFACE, LinkError, Links};
use nix::sched::{CloneFlags, setns};
use std::fs::{self, File};
use std::future::Future;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use thiserror::Error;
use tokio::sync::oneshot;

/// Bytes of stack of the thread that enters; netlink messages are small.
const STACK_BYTES: usize = 512 * 1024;

/// Settings of the container's `/proc/sys/net`. A published port of a neighbour, asked for by the
/// host's address, makes the host redirect the asker to that neighbour, which does not have the
/// host's address. And the bridge carries no IPv6.
const SWITCHES: [(&str, &str); 3] = [
    ("ipv4/conf/all/accept_redirects", "0"),
    ("ipv4/conf/eth0/accept_redirects", "0"),
    ("ipv6/conf/eth0/disable_ipv6", "1"),
];

#[derive(Debug, Error)]
pub enum NamespaceError {
    #[error("process {pid} has no network namespace to enter (is it gone?)")]
    Open {
        pid: i32,
        #[source]
        source: io::Error,
    },
    #[error("process {pid} is in the host's own network namespace")]
    HostsOwn { pid: i32 },
    #[error("starting a thread for the namespace")]
    Thread(#[source] io::Error),
    #[error("entering the network namespace")]
    Enter(#[source] nix::Error),
    #[error("starting a runtime in the namespace")]
    Runtime(#[source] io::Error),
    #[error("the thread in the namespace ended without an answer")]
    Lost,
    #[error("in the container's network namespace")]
    Link(#[source] LinkError),
    #[error("there is no interface {0} in the network namespace")]
    NoInterface(&'static str),
}

/// A network namespace held open: it stays the same one whatever becomes of the pid.
#[derive(Debug)]
pub struct Namespace {
    file: File,
}

impl Namespace {
    /// Open the namespace that process `pid` is in.
    ///
    /// # Errors
    /// When the process is gone, or shares the host's network (then its pid was reused, or it is
    /// no bridge container).
    pub fn of_process(pid: i32) -> Result<Namespace, NamespaceError> {
        let open = |source| NamespaceError::Open { pid, source };
        let file = File::open(format!("/proc/{pid}/ns/net")).map_err(open)?;
        let theirs = file.metadata().map_err(open)?;
        let ours = fs::metadata("/proc/thread-self/ns/net").map_err(open)?;
        if (theirs.dev(), theirs.ino()) == (ours.dev(), ours.ino()) {
            return Err(NamespaceError::HostsOwn { pid });
        }
        Ok(Namespace { file })
    }

    /// Give the container's `eth0` its address and route, and take it and `lo` up.
    ///
    /// # Errors
    /// When the namespace cannot be entered or the kernel refuses.
    pub async fn configure(
        &self,
        address: Ipv4Addr,
        prefix: u8,
        gateway: Ipv4Addr,
    ) -> Result<(), NamespaceError> {
        self.enter(move |links| async move {
            let lo = interface(&links, "lo").await?;
            let eth0 = interface(&links, CONTAINER_INTERFACE).await?;
            for (switch, value) in SWITCHES {
                set_switch(switch, value);
            }
            links.take_up(lo).await.map_err(NamespaceError::Link)?;
            links.configure(eth0, address, prefix).await.map_err(NamespaceError::Link)?;
            links.route_by(gateway).await.map_err(NamespaceError::Link)
        })
        .await
    }

    /// Read the address of the container's `eth0`.
    ///
    /// # Errors
    /// When the namespace cannot be entered or has no such interface with an address.
    pub async fn address(&self) -> Result<Ipv4Addr, NamespaceError> {
        self.enter(|links| async move {
            let eth0 = interface(&links, CONTAINER_INTERFACE).await?;
            let found = links.address_of(eth0).await.map_err(NamespaceError::Link)?;
            found
                .map(|(address, _)| address)
                .ok_or(NamespaceError::NoInterface(CONTAINER_INTERFACE))
        })
        .await
    }

    async fn enter<T, F>(
        &self,
        work: impl FnOnce(Links) -> F + Send + 'static,
    ) -> Result<T, NamespaceError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, NamespaceError>>,
    {
        let file = self.file.try_clone().map_err(NamespaceError::Thread)?;
        let (sender, answer) = oneshot::channel();
        std::thread::Builder::new()
            .name("netns".to_string())
            .stack_size(STACK_BYTES)
            .spawn(move || {
                // Nobody waits any more if this fails; the work is then of no use either.
                let _ = sender.send(work_inside(&file, work));
            })
            .map_err(NamespaceError::Thread)?;
        answer.await.map_err(|_| NamespaceError::Lost)?
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Set a switch of the namespace this thread is in. `/proc/sys/net` shows the opener's own.
fn set_switch(switch: &str, value: &str) {
    match fs::write(Path::new("/proc/sys/net").join(switch), value) {
        Ok(()) => {}
        // A kernel without IPv6 has nothing to turn off.
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(error) => tracing::warn!(switch, %error, "a container keeps a setting"),
    }
}

async fn interface(links: &Links, name: &'static str) -> Result<u32, NamespaceError> {
    let found = links.index_of(name).await.map_err(NamespaceError::Link)?;
    found.ok_or(NamespaceError::NoInterface(name))
}

fn work_inside<T, F>(file: &File, work: impl FnOnce(Links) -> F) -> Result<T, NamespaceError>
where
    F: Future<Output = Result<T, NamespaceError>>,
{
    setns(file, CloneFlags::CLONE_NEWNET).map_err(NamespaceError::Enter)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .map_err(NamespaceError::Runtime)?;
    runtime.block_on(async {
        let links = Links::open().map_err(NamespaceError::Link)?;
        work(links).await
    })
}
