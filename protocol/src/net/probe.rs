//! Is a node there? A look from this side, for whoever has lost sight of it.
//!
//! The handshake says most: it proves the node's key and that its process answers. Where nothing
//! answers, a datagram to its port tells a machine that is gone (silence) from one whose bramble
//! is (its kernel refuses the port): tasks go on without bramble, but not without their machine.

use super::endpoint::{Alpn, Endpoint};
use bramble_core::model::NodeId;
use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use serde::{Deserialize, Serialize};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio::net::UdpSocket;

/// Longest wait for an answer; datagrams are sent so often within it, since one may be lost.
const ANSWER_MAX: Duration = Duration::from_millis(900);
const ASK_EVERY: Duration = Duration::from_millis(300);
/// Any port answers a packet it does not understand with nothing; only a closed one refuses it.
const NOTHING: [u8; 1] = [0];

/// What was seen of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Probed {
    /// It answers.
    Here,
    /// Its machine answers, its bramble does not run.
    MachineOnly,
    /// Nothing answers.
    Silent,
    /// No address of it is known.
    Unknown,
}

/// Look for `node` at all its addresses.
pub async fn probe(endpoint: &Endpoint, node: &NodeId, addresses: &[SocketAddr]) -> Probed {
    if addresses.is_empty() {
        return Probed::Unknown;
    }
    let mut handshakes: FuturesUnordered<_> = addresses
        .iter()
        .map(|address| endpoint.connect(*address, Alpn::Peer, Some(node)))
        .collect();
    let here = async {
        while let Some(dialled) = handshakes.next().await {
            if let Ok(link) = dialled {
                link.connection.close(0u32.into(), b"a look");
                return;
            }
        }
        std::future::pending::<()>().await;
    };
    let refused = join_all(addresses.iter().map(|address| refuses(*address)));
    tokio::select! {
        () = here => Probed::Here,
        // Both looks take the same time: a handshake has had its chance when this is done.
        refused = refused => match refused.into_iter().any(|refused| refused) {
            true => Probed::MachineOnly,
            false => Probed::Silent,
        },
    }
}

/// Whether a machine answers that nobody listens at this port. Takes [`ANSWER_MAX`].
async fn refuses(address: SocketAddr) -> bool {
    let ask = async {
        let own: SocketAddr = match address {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(own).await.ok()?;
        socket.connect(address).await.ok()?;
        let mut answer = [0; 1];
        loop {
            let sent = socket.send(&NOTHING).await;
            let refused = |error: &io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
            if sent.as_ref().is_err_and(refused) {
                return Some(true);
            }
            let heard = tokio::time::timeout(ASK_EVERY, socket.recv(&mut answer)).await;
            match heard {
                Ok(Err(error)) if refused(&error) => return Some(true),
                Ok(_) => tokio::time::sleep(ASK_EVERY).await,
                Err(_) => {}
            }
        }
    };
    let started = tokio::time::Instant::now();
    let refused = tokio::time::timeout(ANSWER_MAX, ask).await.ok().flatten().unwrap_or(false);
    tokio::time::sleep_until(started + ANSWER_MAX).await;
    refused
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::authority::ClusterCa;
    use crate::net::identity::{Identity, NodeKey};
    use bramble_core::model::NodeRole;

    fn side(ca: &ClusterCa) -> (Endpoint, NodeId) {
        let key = NodeKey::generate().expect("a key");
        let node = key.node_id();
        let certificate = ca.issue(key.public_key(), &node, NodeRole::Agent).expect("issues");
        let identity = Identity::new(key, certificate, ca.certificate().to_vec()).expect("fits");
        let any = (Ipv4Addr::LOCALHOST, 0).into();
        (Endpoint::bind(any, Some(identity)).expect("binds"), node)
    }

    #[tokio::test]
    async fn presence_absence_and_a_closed_port_are_told_apart() {
        let ca = ClusterCa::mint("c").expect("mints");
        let ((own, _), (there, node)) = (side(&ca), side(&ca));
        let address = there.local_addr().expect("bound");
        assert_eq!(probe(&own, &node, &[]).await, Probed::Unknown);
        assert_eq!(probe(&own, &node, &[address]).await, Probed::Here);
        let mute = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("binds");
        let mute_address = mute.local_addr().expect("bound");
        assert_eq!(probe(&own, &node, &[mute_address]).await, Probed::Silent);
        assert_eq!(probe(&own, &node, &[mute_address, address]).await, Probed::Here);
        let (other, _) = side(&ca);
        let other_address = other.local_addr().expect("bound");
        assert_eq!(probe(&own, &node, &[other_address]).await, Probed::Silent, "another node");
        drop(mute);
        assert_eq!(probe(&own, &node, &[mute_address]).await, Probed::MachineOnly);
    }
}
