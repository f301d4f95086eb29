use super::*;
use crate::net::authority::ClusterCa;
use crate::net::identity::Identity;
use std::sync::Mutex;

/// Admits who knows the secret, and remembers everything it was asked.
struct Cluster {
    ca: ClusterCa,
    token: JoinToken,
    asked: Mutex<Vec<(Node, String)>>,
}

impl Admit for Cluster {
    fn admit(&self, candidate: Candidate) -> AdmitFuture<'_> {
        Box::pin(async move {
            let Candidate { node, secret_sha256, default_name } = candidate;
            self.asked.lock().expect("locks").push((node.clone(), secret_sha256.clone()));
            if !self.token.matches(&secret_sha256) {
                return Err(Refusal::Never("the join token is not this cluster's".to_string()));
            }
            let certificate = self.ca.issue(&node.public_key, &node.id, node.role);
            let certificate = certificate.map_err(|e| Refusal::Never(e.to_string()))?;
            let name = if default_name { format!("{}-2", node.name) } else { node.name };
            Ok(Admitted { certificate, name, note: None })
        })
    }
}

fn identity(ca: &ClusterCa) -> Identity {
    let key = NodeKey::generate().expect("a key");
    let certificate = ca.issue(key.public_key(), &key.node_id(), NodeRole::Full).expect("issues");
    Identity::new(key, certificate, ca.certificate().to_vec()).expect("fits")
}

fn cluster() -> (Cluster, Endpoint, SocketAddr) {
    let ca = ClusterCa::mint("c1").expect("mints");
    let endpoint = listening(identity(&ca));
    let token = JoinToken::mint(ca.certificate()).expect("mints");
    let addr = endpoint.local_addr().expect("bound");
    (Cluster { ca, token, asked: Mutex::default() }, endpoint, addr)
}

fn agent<'a>(key: &'a NodeKey, name: &'a str) -> Applicant<'a> {
    Applicant { key, name, default_name: false, role: NodeRole::Agent }
}

fn listening(identity: Identity) -> Endpoint {
    Endpoint::bind((Ipv4Addr::LOCALHOST, 0).into(), Some(identity)).expect("binds")
}

async fn answer_next(endpoint: &Endpoint, cluster: &Cluster) {
    let link = endpoint.accept().await.expect("a joiner");
    answer_join(link, cluster).await.expect("answers");
}

#[tokio::test]
async fn a_machine_with_the_token_becomes_a_node() {
    let (cluster, endpoint, addr) = cluster();
    let key = NodeKey::generate().expect("a key");
    let (joined, ()) = tokio::join!(
        join(addr, &cluster.token, agent(&key, "pi-7")),
        answer_next(&endpoint, &cluster)
    );
    let joined = joined.expect("joins");
    assert_eq!(joined.cluster_id, "c1");
    assert_eq!(joined.ca, cluster.ca.certificate());
    let asked = cluster.asked.lock().expect("locks").pop().expect("was asked");
    assert_eq!(asked.1, cluster.token.secret_sha256());
    assert_eq!((asked.0.name.as_str(), asked.0.role), ("pi-7", NodeRole::Agent));
    assert_eq!((asked.0.id, asked.0.public_key.as_slice()), (key.node_id(), key.public_key()));

    let identity = Identity::new(key.clone(), joined.certificate, joined.ca).expect("fits");
    let node = listening(identity);
    node.connect(addr, Alpn::Agent, None).await.expect("the new node is believed");
    let peer = endpoint.accept().await.expect("accepts").peer.expect("a certificate");
    assert_eq!((peer.node_id, peer.role), (key.node_id(), NodeRole::Agent));
}

#[tokio::test]
async fn a_name_that_nobody_chose_may_be_replaced() {
    let (cluster, endpoint, addr) = cluster();
    let key = NodeKey::generate().expect("a key");
    for (default_name, expected) in [(false, "pi"), (true, "pi-2")] {
        let applicant = Applicant { default_name, ..agent(&key, "pi") };
        let joining = join(addr, &cluster.token, applicant);
        let (joined, ()) = tokio::join!(joining, answer_next(&endpoint, &cluster));
        assert_eq!(joined.expect("joins").name, expected);
    }
}

#[tokio::test]
async fn a_wrong_secret_or_name_is_refused_with_the_reason() {
    let (cluster, endpoint, addr) = cluster();
    let key = NodeKey::generate().expect("a key");
    let stale = JoinToken::mint(cluster.ca.certificate()).expect("mints");
    let long = "x".repeat(64);
    for (token, name, reason) in [
        (&stale, "pi-7", "not this cluster's"),
        (&cluster.token, "", "1 to 63 bytes, not 0"),
        (&cluster.token, long.as_str(), "not 64"),
        (&cluster.token, "pi 7\n", "not ' '"),
    ] {
        let (joined, ()) =
            tokio::join!(join(addr, token, agent(&key, name)), answer_next(&endpoint, &cluster));
        match joined {
            Err(JoinError::Refused { reason: given }) => assert!(given.contains(reason), "{given}"),
            other => panic!("{name:?}: {other:?}"),
        }
    }
}

/// Another cluster, and a liar that shows our CA's certificate without being of it, get no link at
/// all, and so no secret.
#[tokio::test]
async fn nothing_is_said_to_another_cluster() {
    let (cluster, honest, honest_addr) = cluster();
    let key = NodeKey::generate().expect("a key");
    let foreign = ClusterCa::mint("c1").expect("mints");
    let stranger = listening(identity(&foreign));
    let mut lying = identity(&foreign);
    lying.ca = cluster.ca.certificate().to_vec();
    let liar = listening(lying);
    for endpoint in [&stranger, &liar] {
        let addr = endpoint.local_addr().expect("bound");
        let refused = join(addr, &cluster.token, agent(&key, "pi-7")).await;
        assert!(
            matches!(refused, Err(JoinError::Connect(EndpointError::Handshake { .. }))),
            "{refused:?}"
        );
        // Closing ends what is accepted: had a link come up, it would come out first.
        endpoint.close().await;
        assert!(endpoint.accept().await.is_none(), "a joiner spoke to a stranger");
    }
    let (joined, ()) = tokio::join!(
        join(honest_addr, &cluster.token, agent(&key, "pi-7")),
        answer_next(&honest, &cluster)
    );
    joined.expect("joins the right one");
}

/// A request that was signed for another session, or for another key, admits nobody.
#[tokio::test]
async fn a_proof_of_another_session_or_key_is_refused() {
    let (cluster, endpoint, addr) = cluster();
    let key = NodeKey::generate().expect("a key");
    let other = NodeKey::generate().expect("a key");
    let joiner = Endpoint::bind((Ipv4Addr::LOCALHOST, 0).into(), None).expect("binds");
    let earlier = joiner.connect_to_join(addr, cluster.token.ca_sha256).await.expect("connects");
    drop(endpoint.accept().await.expect("accepts"));
    let replayed = key.sign(&exported(&earlier.connection, key.public_key()).expect("exports"));
    for forged in [false, true] {
        let link = joiner.connect_to_join(addr, cluster.token.ca_sha256).await.expect("connects");
        let proof = if forged {
            other.sign(&exported(&link.connection, key.public_key()).expect("exports"))
        } else {
            replayed.clone()
        };
        let request = JoinRequest {
            name: "pi-7".to_string(),
            role: NodeRole::Agent,
            public_key: key.public_key().to_vec(),
            proof,
            secret: cluster.token.secret.to_vec(),
            default_name: false,
        };
        let ask = async {
            let (mut send, mut recv) = link.connection.open_bi().await.expect("opens");
            write_frame(&mut send, &request).await.expect("writes");
            let reply = read_frame_within(&mut recv, JOIN_FRAME_BYTES_MAX).await;
            link.connection.close(VarInt::from_u32(0), b"done");
            reply.expect("reads").expect("an answer")
        };
        let (reply, ()) = tokio::join!(ask, answer_next(&endpoint, &cluster));
        match reply {
            JoinReply::Refused { reason } => assert!(reason.contains("proof"), "{reason}"),
            other => panic!("{other:?} (forged: {forged})"),
        }
    }
    assert!(cluster.asked.lock().expect("locks").is_empty());
}

#[tokio::test]
async fn other_links_are_not_answered_as_joins() {
    let (cluster, endpoint, addr) = cluster();
    let agent = listening(identity(&cluster.ca));
    let _dialled = agent.connect(addr, Alpn::Agent, None).await.expect("connects");
    let link = endpoint.accept().await.expect("accepts");
    let answered = answer_join(link, &cluster).await;
    assert!(matches!(answered, Err(JoinError::NotAJoin(Alpn::Agent))), "{answered:?}");
}
