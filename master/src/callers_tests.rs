use super::*;
use bramble_core::model::NodeRole;
use bramble_protocol::net::{Alpn, ClusterCa, Endpoint, Identity, NodeKey};
use std::net::Ipv4Addr;

/// A master, and as many processes with one node's key as are asked for.
struct Lab {
    ca: ClusterCa,
    key: NodeKey,
    master: Endpoint,
}

impl Lab {
    fn new() -> Lab {
        let ca = ClusterCa::mint("c1").unwrap();
        let master = endpoint(&ca, NodeKey::generate().unwrap());
        Lab { ca, key: NodeKey::generate().unwrap(), master }
    }

    fn node(&self) -> NodeId {
        self.key.node_id()
    }

    fn process(&self) -> Endpoint {
        endpoint(&self.ca, self.key.clone())
    }

    /// The dialling and the answering end of a link to the master.
    async fn link(&self, from: &Endpoint) -> (Connection, Connection) {
        let at = self.master.local_addr().unwrap();
        let (dialled, answered) =
            tokio::join!(from.connect(at, Alpn::Raft, None), self.master.accept());
        (dialled.unwrap().connection, answered.unwrap().connection)
    }
}

fn endpoint(ca: &ClusterCa, key: NodeKey) -> Endpoint {
    let certificate = ca.issue(key.public_key(), &key.node_id(), NodeRole::Full).unwrap();
    let identity = Identity::new(key, certificate, ca.certificate().to_vec()).unwrap();
    Endpoint::bind((Ipv4Addr::LOCALHOST, 0).into(), Some(identity)).unwrap()
}

#[tokio::test]
async fn a_second_life_is_refused_while_the_first_answers() {
    let (lab, callers) = (Lab::new(), Callers::default());
    let (first, second) = (lab.process(), lab.process());
    let (dialled, one) = lab.link(&first).await;
    callers.enter(&lab.node(), &one);
    assert!(callers.is_the_one(&lab.node(), 1, &one).await);
    let (_other_dialled, other) = lab.link(&second).await;
    callers.enter(&lab.node(), &other);
    assert!(!callers.is_the_one(&lab.node(), 2, &other).await, "the first one answers");
    assert!(callers.is_the_one(&lab.node(), 1, &one).await, "and goes on");
    let clones = callers.cloned(|_| "pi".into());
    assert_eq!(clones.len(), 1);
    assert_eq!(clones[0].address, one.remote_address().to_string());
    assert_eq!(clones[0].refused, other.remote_address().to_string());

    dialled.close(0u32.into(), b"gone");
    one.closed().await;
    assert!(callers.is_the_one(&lab.node(), 2, &other).await, "nobody else is there");
}

#[tokio::test]
async fn a_restart_is_no_clone() {
    let (lab, callers) = (Lab::new(), Callers::default());
    let process = lab.process();
    let (_dialled, one) = lab.link(&process).await;
    assert!(callers.is_the_one(&lab.node(), 1, &one).await);
    // From the same port, as after a kill: the earlier link still seems to stand.
    let (_again, two) = lab.link(&process).await;
    assert!(callers.is_the_one(&lab.node(), 2, &two).await);
    assert!(callers.is_the_one(&lab.node(), 0, &two).await, "one that tells no life");
    assert!(callers.cloned(|_| String::new()).is_empty());
}

#[tokio::test]
async fn links_of_a_removed_node_end_with_the_reason() {
    let (lab, callers) = (Lab::new(), Callers::default());
    let process = lab.process();
    let (dialled, one) = lab.link(&process).await;
    callers.enter(&lab.node(), &one);
    callers.end(&lab.node(), Farewell::Removed);
    assert_eq!(Farewell::of(&dialled.closed().await), Some(Farewell::Removed));
}
