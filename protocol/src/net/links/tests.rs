use super::*;
use crate::net::authority::ClusterCa;
use crate::net::identity::{Identity, NodeKey};
use bramble_core::model::NodeRole;
use std::net::Ipv4Addr;

struct Side {
    endpoint: Arc<Endpoint>,
    node_id: NodeId,
}

fn side(ca: &ClusterCa, role: NodeRole) -> Side {
    let key = NodeKey::generate().expect("a key");
    let node_id = key.node_id();
    let certificate = ca.issue(key.public_key(), &node_id, role).expect("issues");
    let identity = Identity::new(key, certificate, ca.certificate().to_vec()).expect("fits");
    let endpoint = Endpoint::bind((Ipv4Addr::LOCALHOST, 0).into(), Some(identity)).expect("binds");
    Side { endpoint: Arc::new(endpoint), node_id }
}

impl Side {
    fn address(&self) -> SocketAddr {
        self.endpoint.local_addr().expect("bound")
    }

    /// Answer every call by doubling its number.
    fn answer(&self) {
        let endpoint = self.endpoint.clone();
        tokio::spawn(async move {
            while let Some(link) = endpoint.accept().await {
                tokio::spawn(async move {
                    while let Ok((mut send, mut receive)) = link.connection.accept_bi().await {
                        let asked: u64 = read_frame(&mut receive).await.unwrap().unwrap();
                        write_frame(&mut send, &(asked * 2)).await.unwrap();
                        send.finish().unwrap();
                    }
                });
            }
        });
    }
}

fn links(of: &Side) -> Links {
    Links::new(of.endpoint.clone(), Arc::new(Directory::default()))
}

#[tokio::test]
async fn calls_share_a_link_and_find_the_node_behind_wrong_addresses() {
    let ca = ClusterCa::mint("c").expect("mints");
    let [one, other, third] = [0; 3].map(|_| side(&ca, NodeRole::Full));
    other.answer();
    third.answer();
    let links = links(&one);
    let missing = links.call::<u64, u64>(&other.node_id, Alpn::Raft, &1).await;
    assert!(matches!(missing, Err(LinkError::NoAddress(_))), "{missing:?}");
    // Another node is where this one was: it is passed over.
    links.directory().seed(other.address());
    links.directory().note(&other.node_id, NodeRole::Full, third.address());
    let (links, other) = (&links, &other);
    let ask = |n: u64| async move { links.call::<u64, u64>(&other.node_id, Alpn::Raft, &n).await };
    let answers = futures_util::future::join_all((1..20).map(ask)).await;
    assert!(answers.into_iter().zip(1..20).all(|(answer, n)| answer.expect("answers") == n * 2));
    let first = links.to(&other.node_id, Alpn::Raft).await.expect("stands").stable_id();
    let second = links.to(&other.node_id, Alpn::Raft).await.expect("stands").stable_id();
    assert_eq!(first, second);
    assert_eq!(links.directory().addresses(&other.node_id)[0], other.address());
}

#[tokio::test]
async fn a_link_that_broke_is_dialled_anew() {
    let ca = ClusterCa::mint("c").expect("mints");
    let [one, other] = [0; 2].map(|_| side(&ca, NodeRole::Full));
    other.answer();
    let links = links(&one);
    links.directory().seed(other.address());
    let link = links.to(&other.node_id, Alpn::Peer).await.expect("stands");
    link.close(0u32.into(), b"cut");
    let answer = links.call::<u64, u64>(&other.node_id, Alpn::Peer, &4).await;
    assert_eq!(answer.expect("a fresh link"), 8);
    links.drop_links(&other.node_id, "removed");
    assert_eq!(links.call::<u64, u64>(&other.node_id, Alpn::Peer, &5).await.expect("again"), 10);
}

#[tokio::test]
async fn whoever_stops_waiting_does_not_stop_the_dial() {
    let ca = ClusterCa::mint("c").expect("mints");
    let [one, other] = [0; 2].map(|_| side(&ca, NodeRole::Full));
    other.answer();
    let links = links(&one);
    links.directory().seed(other.address());
    {
        let call = links.to(&other.node_id, Alpn::Raft);
        let begun = tokio::time::timeout(std::time::Duration::ZERO, call).await;
        assert!(begun.is_err(), "a dial takes longer than nothing");
    }
    let slot = links.slot(&other.node_id, Alpn::Raft);
    slot.subscribe().wait_for(|now| matches!(now, Slot::Up(_))).await.expect("it comes up");
}

#[tokio::test]
async fn agents_answer_agents_but_lead_nobody() {
    let ca = ClusterCa::mint("c").expect("mints");
    let [one, other] = [0; 2].map(|_| side(&ca, NodeRole::Agent));
    other.answer();
    let links = links(&one);
    links.directory().seed(other.address());
    assert_eq!(links.call::<u64, u64>(&other.node_id, Alpn::Peer, &3).await.expect("a peer"), 6);
    for alpn in [Alpn::Raft, Alpn::Api, Alpn::Agent] {
        let refused = links.call::<u64, u64>(&other.node_id, alpn, &3).await;
        assert!(matches!(refused, Err(LinkError::Unreachable { .. })), "{refused:?}");
    }
}
