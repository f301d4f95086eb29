//! Published ports: which host port leads to which container, and who makes it so.
//!
//! The whole set of ports is handed over at each change, never a difference, so that what is in
//! force cannot drift from what is wanted.

mod datagram;
mod nft;
mod proxy;

pub use nft::{NftPublisher, forwarding_dropped_by};
pub use proxy::ProxyPublisher;

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddrV4;
use std::pin::Pin;
use std::sync::Mutex;
use thiserror::Error;

#[derive(Debug, Error)]
pub enum PublishError {
    #[error("running nft")]
    Run(#[source] io::Error),
    #[error("nft refused the table {table}: {message}")]
    Refused { table: String, message: String },
    #[error("setting {path}")]
    Sysctl {
        path: String,
        #[source]
        source: io::Error,
    },
    #[error("{transport} port {port} of this host is in use by another program")]
    PortTaken { transport: Transport, port: u16 },
    #[error("listening on {transport} port {port}")]
    Listen {
        transport: Transport,
        port: u16,
        #[source]
        source: io::Error,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    Tcp,
    Udp,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Transport::Tcp => "TCP",
            Transport::Udp => "UDP",
        })
    }
}

/// Host port -> container.
pub type PortMaps = BTreeMap<(Transport, u16), SocketAddrV4>;

pub type PublishFuture<'a> = Pin<Box<dyn Future<Output = Result<(), PublishError>> + Send + 'a>>;

/// Makes published ports reachable from outside, from the host, and from containers.
pub trait Publisher: Send + Sync {
    /// For the log.
    fn name(&self) -> &'static str;

    /// Put exactly these ports in force.
    fn replace(&self, maps: PortMaps) -> PublishFuture<'_>;

    /// Remove everything this publisher made.
    fn close(&self) -> PublishFuture<'_>;
}

/// The ports wanted, and the publisher in charge: nftables while it works from the start, else
/// the proxy.
pub struct Publishing {
    wanted: Mutex<Wanted>,
    active: tokio::sync::Mutex<Active>,
}

struct Wanted {
    maps: PortMaps,
    /// Counts changes of `maps`.
    generation: u64,
}

struct Active {
    publisher: Box<dyn Publisher>,
    /// Takes over if the first one never works.
    fallback: Option<Box<dyn Publisher>>,
    /// The generation of `Wanted` that is in force.
    generation: u64,
}

impl Publishing {
    pub fn new(first: Box<dyn Publisher>, fallback: Option<Box<dyn Publisher>>) -> Publishing {
        Publishing {
            wanted: Mutex::new(Wanted { maps: PortMaps::new(), generation: 0 }),
            active: tokio::sync::Mutex::new(Active { publisher: first, fallback, generation: 0 }),
        }
    }

    /// Change what is wanted; [`Publishing::apply`] puts it in force.
    pub fn change(&self, change: impl FnOnce(&mut PortMaps)) {
        let mut wanted = self.wanted.lock().expect("no holder of this lock panics");
        change(&mut wanted.maps);
        wanted.generation += 1;
    }

    /// Put what is wanted in force if nothing ever was: tasks without published ports still need
    /// the way out.
    ///
    /// # Errors
    /// As [`Publishing::apply`].
    pub async fn ensure(&self) -> Result<(), PublishError> {
        if self.active.lock().await.generation == 0 {
            self.change(|_| {});
            return self.apply().await;
        }
        Ok(())
    }

    fn wanted(&self) -> (u64, PortMaps) {
        let wanted = self.wanted.lock().expect("no holder of this lock panics");
        (wanted.generation, wanted.maps.clone())
    }

    /// Put all changes so far in force. Callers that waited for each other share one run: starting
    /// a hundred tasks does not write the table a hundred times.
    ///
    /// # Errors
    /// When no publisher can.
    pub async fn apply(&self) -> Result<(), PublishError> {
        let (needed, _) = self.wanted();
        let mut active = self.active.lock().await;
        if active.generation >= needed {
            return Ok(());
        }
        let (generation, maps) = self.wanted();
        let outcome = active.publisher.replace(maps.clone()).await;
        match (outcome, active.fallback.take()) {
            (Ok(()), _) => {}
            (Err(error), None) => return Err(error),
            (Err(error), Some(fallback)) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    from = active.publisher.name(),
                    to = fallback.name(),
                    "published ports take the slower way"
                );
                active.publisher = fallback;
                active.publisher.replace(maps).await?;
            }
        }
        active.generation = generation;
        Ok(())
    }

    /// Remove everything published.
    ///
    /// # Errors
    /// When the publisher cannot.
    pub async fn close(&self) -> Result<(), PublishError> {
        self.change(PortMaps::clear);
        let active = self.active.lock().await;
        active.publisher.close().await
    }
}
