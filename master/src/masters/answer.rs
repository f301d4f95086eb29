//! Takes the requests that other nodes pass on.

use super::Relayed;
use super::pipe::QuicPipe;
use crate::store::Store;
use bramble_protocol::net::Link;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Code of a link that is closed because its node is none of the cluster's.
const CLOSE_STRANGER: u32 = 1;

/// Hand on every stream of a link until it ends, or its node is removed from the cluster.
pub async fn answer(link: Link, store: Arc<Store>, relayed: mpsc::Sender<Relayed>) {
    let Some(peer) = &link.peer else { return };
    let node = &peer.node_id;
    loop {
        let streams = link.connection.accept_bi().await;
        // Asked anew each time: the certificate of a removed node is as good as before.
        if !store.read(|state| state.nodes.contains_key(node)) {
            tracing::info!(%node, "a node that was not admitted may pass nothing on");
            link.connection.close(CLOSE_STRANGER.into(), b"not admitted");
            return;
        }
        let Ok((send, receive)) = streams else { return };
        let pipe = Box::new(QuicPipe::new(send, receive));
        // Fails only once the API has ended.
        if relayed.send(Relayed { from: node.clone(), pipe }).await.is_err() {
            return;
        }
    }
}
