use super::*;
use crate::net::authority::ClusterCa;
use crate::net::frame::{read_frame, write_frame};
use crate::net::identity::NodeKey;
use bramble_core::model::NodeRole;
use std::net::Ipv4Addr;
use tokio::net::UdpSocket;

const ANY_PORT: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);

fn identity(ca: &ClusterCa, role: NodeRole) -> Identity {
    let key = NodeKey::generate().expect("a key");
    let certificate = ca.issue(key.public_key(), &key.node_id(), role).expect("issues");
    Identity::new(key, certificate, ca.certificate().to_vec()).expect("fits")
}

fn endpoint(ca: &ClusterCa, role: NodeRole) -> (Endpoint, Peer) {
    let identity = identity(ca, role);
    let peer = Peer { node_id: identity.key.node_id(), role };
    (Endpoint::bind(ANY_PORT.into(), Some(identity)).expect("binds"), peer)
}

fn addr(endpoint: &Endpoint) -> SocketAddr {
    endpoint.local_addr().expect("bound")
}

fn ca() -> ClusterCa {
    ClusterCa::mint("c1").expect("mints")
}

/// The error code a link was closed with by the other side.
async fn closed_by_peer(link: &Link) -> u32 {
    match link.connection.closed().await {
        ConnectionError::ApplicationClosed(close) => {
            u32::try_from(close.error_code.into_inner()).expect("small codes")
        }
        other => panic!("closed otherwise: {other}"),
    }
}

#[tokio::test]
async fn links_know_both_ends_and_carry_frames() {
    let ca = ca();
    let (master, master_peer) = endpoint(&ca, NodeRole::Master);
    let (agent, agent_peer) = endpoint(&ca, NodeRole::Agent);
    let expect = master_peer.node_id.clone();
    let (dialled, answered) =
        tokio::join!(agent.connect(addr(&master), Alpn::Agent, Some(&expect)), master.accept());
    let (dialled, answered) = (dialled.expect("connects"), answered.expect("accepts"));
    assert_eq!((dialled.alpn, answered.alpn), (Alpn::Agent, Alpn::Agent));
    assert_eq!(dialled.peer, Some(master_peer));
    assert_eq!(answered.peer, Some(agent_peer));

    let (mut send, _) = dialled.connection.open_bi().await.expect("opens");
    write_frame(&mut send, &"hello".to_string()).await.expect("writes");
    send.finish().expect("finishes");
    let (_, mut recv) = answered.connection.accept_bi().await.expect("accepts");
    assert_eq!(read_frame::<String>(&mut recv).await.expect("reads").as_deref(), Some("hello"));
    assert_eq!(read_frame::<String>(&mut recv).await.expect("ends"), None);

    master.close().await;
    assert_eq!(closed_by_peer(&dialled).await, CLOSE_DONE);
    assert!(master.accept().await.is_none());
}

#[tokio::test]
async fn another_cluster_is_refused_by_both_sides() {
    let (ours, theirs) = (ca(), ca());
    let (master, _) = endpoint(&ours, NodeRole::Full);
    let (stranger, _) = endpoint(&theirs, NodeRole::Full);
    let refused = stranger.connect(addr(&master), Alpn::Agent, None).await;
    assert!(matches!(refused, Err(EndpointError::Handshake { .. })), "{refused:?}");

    // A stranger that believes our CA but has a certificate of another one.
    let mut identity = identity(&theirs, NodeRole::Full);
    identity.ca = ours.certificate().to_vec();
    let spy = Endpoint::bind(ANY_PORT.into(), Some(identity)).expect("binds");
    match spy.connect(addr(&master), Alpn::Raft, None).await {
        Err(EndpointError::Handshake { .. }) => {}
        // TLS 1.3 lets the client finish before the server has looked at its certificate.
        Ok(link) => {
            assert!(matches!(link.connection.closed().await, ConnectionError::ConnectionClosed(_)))
        }
        Err(other) => panic!("refused otherwise: {other}"),
    }

    // The first link that comes out is the one that was allowed.
    let (friend, peer) = endpoint(&ours, NodeRole::Full);
    let (link, answered) =
        tokio::join!(friend.connect(addr(&master), Alpn::Raft, None), master.accept());
    link.expect("connects");
    assert_eq!(answered.expect("accepts").peer, Some(peer));
}

#[tokio::test]
async fn roles_are_held_to_on_both_sides() {
    let ca = ca();
    let (master, _) = endpoint(&ca, NodeRole::Master);
    let (agent, _) = endpoint(&ca, NodeRole::Agent);
    let (full, _) = endpoint(&ca, NodeRole::Full);
    // Dialler, answerer, protocol, and who refuses: `Some(true)` the dialler, `Some(false)` the
    // answerer.
    let cases = [
        (&agent, &master, Alpn::Agent, None),
        (&full, &master, Alpn::Agent, None),
        (&full, &full, Alpn::Agent, None),
        (&master, &full, Alpn::Raft, None),
        (&agent, &master, Alpn::Raft, Some(false)),
        (&master, &full, Alpn::Agent, Some(false)),
        (&full, &agent, Alpn::Agent, Some(true)),
        (&master, &agent, Alpn::Raft, Some(true)),
    ];
    for (at, (from, to, alpn, refuser)) in cases.into_iter().enumerate() {
        let dialled = from.connect(addr(to), alpn, None).await;
        match refuser {
            None => {
                dialled.unwrap_or_else(|e| panic!("case {at}: {e}"));
                assert!(to.accept().await.is_some(), "case {at}");
            }
            Some(true) => {
                assert!(matches!(dialled, Err(EndpointError::Role { .. })), "{at}: {dialled:?}");
                // The answering side saw nothing wrong and closes when it hears of it.
                to.accept().await;
            }
            Some(false) => {
                let link = dialled.unwrap_or_else(|e| panic!("case {at}: {e}"));
                assert_eq!(closed_by_peer(&link).await, CLOSE_ROLE, "case {at}");
            }
        }
    }
}

#[tokio::test]
async fn only_joining_goes_without_a_certificate() {
    let ca = ca();
    let (master, _) = endpoint(&ca, NodeRole::Full);
    let bare = Endpoint::bind(ANY_PORT.into(), None).expect("binds");
    let refused = bare.connect(addr(&master), Alpn::Agent, None).await;
    assert!(matches!(refused, Err(EndpointError::NoIdentity)), "{refused:?}");
    for alpn in [Alpn::Agent, Alpn::Raft] {
        let trust = Trust::Nodes(Arc::new(Believed {
            cas: vec![ca.certificate().to_vec()],
            ..Believed::default()
        }));
        let config = bare.client_config(None, alpn, trust).expect("configures");
        let link = bare.dial(addr(&master), alpn, config, None).await.expect("TLS lets it in");
        assert_eq!(closed_by_peer(&link).await, CLOSE_NO_CERTIFICATE);
    }
    let trust = Trust::Nodes(Arc::new(Believed {
        cas: vec![ca.certificate().to_vec()],
        ..Believed::default()
    }));
    let config = bare.client_config(None, Alpn::Join, trust).expect("configures");
    let link = bare.dial(addr(&master), Alpn::Join, config, None).await.expect("connects");
    assert!(link.peer.is_some());
    let answered = master.accept().await.expect("accepts");
    assert_eq!((answered.alpn, answered.peer), (Alpn::Join, None));
}

#[tokio::test]
async fn joiners_are_few_at_a_time() {
    let ca = ca();
    let (master, _) = endpoint(&ca, NodeRole::Full);
    let (joiner, _) = endpoint(&ca, NodeRole::Agent);
    let mut held = Vec::new();
    for _ in 0..JOINS_MAX {
        let dialled = joiner.connect(addr(&master), Alpn::Join, None).await.expect("connects");
        held.push((dialled, master.accept().await.expect("accepts")));
    }
    let one_more = joiner.connect(addr(&master), Alpn::Join, None).await.expect("connects");
    assert_eq!(closed_by_peer(&one_more).await, CLOSE_BUSY);
    held.pop();
    joiner.connect(addr(&master), Alpn::Join, None).await.expect("connects");
    assert!(master.accept().await.is_some());
}

#[tokio::test]
async fn another_node_than_expected_is_refused() {
    let ca = ca();
    let (master, found) = endpoint(&ca, NodeRole::Full);
    let (agent, own) = endpoint(&ca, NodeRole::Agent);
    let refused = agent.connect(addr(&master), Alpn::Agent, Some(&own.node_id)).await;
    match refused {
        Err(EndpointError::OtherNode { found: f, expected, .. }) => {
            assert_eq!((f, expected), (found.node_id, own.node_id));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_identity_can_come_later() {
    let ca = ca();
    let late = Endpoint::bind(ANY_PORT.into(), None).expect("binds");
    let (agent, peer) = endpoint(&ca, NodeRole::Agent);
    late.set_identity(identity(&ca, NodeRole::Master)).expect("takes it");
    agent.connect(addr(&late), Alpn::Agent, None).await.expect("connects");
    assert_eq!(late.accept().await.expect("accepts").peer, Some(peer));
}

/// Certificates that ended in 2001 are as good as new: nobody asks what year it is.
#[tokio::test]
async fn the_wall_clock_is_not_consulted() {
    use rcgen::{
        BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd,
    };
    let dated = |name: &str| {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.distinguished_name.push(DnType::OrganizationalUnitName, "full");
        params.not_before = date_time_ymd(1999, 1, 1);
        params.not_after = date_time_ymd(2001, 1, 1);
        params
    };
    let ca_pair = KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("a key");
    let mut ca = dated("an old authority");
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let ca_der = ca.self_signed(&ca_pair).expect("signs").der().to_vec();
    let issuer = Issuer::new(ca, ca_pair);
    let old = || {
        let key = NodeKey::generate().expect("a key");
        let public = rcgen::SubjectPublicKeyInfo::from_der(key.public_key()).expect("a key");
        let certificate = dated(key.node_id().as_str()).signed_by(&public, &issuer);
        let certificate = certificate.expect("signs").der().to_vec();
        let identity = Identity::new(key, certificate, ca_der.clone()).expect("fits");
        Endpoint::bind(ANY_PORT.into(), Some(identity)).expect("binds")
    };
    let (one, two) = (old(), old());
    one.connect(addr(&two), Alpn::Raft, None).await.expect("connects");
    assert!(two.accept().await.is_some());
}

/// A dialler that says its first word and falls silent holds up nobody.
#[tokio::test]
async fn a_stalled_handshake_holds_up_nobody() {
    let ca = ca();
    let (master, _) = endpoint(&ca, NodeRole::Full);
    let (slow, _) = endpoint(&ca, NodeRole::Agent);
    let (agent, peer) = endpoint(&ca, NodeRole::Agent);
    let wire = UdpSocket::bind(ANY_PORT).await.expect("binds");
    let wire_addr = wire.local_addr().expect("bound");
    let stalled = tokio::spawn(async move { slow.connect(wire_addr, Alpn::Agent, None).await });
    let mut first = [0; 2048];
    let (length, _) = wire.recv_from(&mut first).await.expect("the first word");
    wire.send_to(&first[..length], addr(&master)).await.expect("passed on");
    // The master's answer proves that it is in the middle of this handshake.
    wire.recv_from(&mut first).await.expect("the answer, not passed on");

    agent.connect(addr(&master), Alpn::Agent, None).await.expect("connects");
    assert_eq!(master.accept().await.expect("accepts").peer, Some(peer));
    assert!(!stalled.is_finished());
    stalled.abort();
}

fn certified(ca: &ClusterCa, key: &NodeKey) -> Identity {
    let certificate = ca.issue(key.public_key(), &key.node_id(), NodeRole::Full).expect("issues");
    Identity::new(key.clone(), certificate, ca.certificate().to_vec()).expect("fits")
}

/// A node that slept while the CA was replaced still finds its masters, and only those; they
/// believe it as long as they know the earlier CA, and give it a new certificate.
#[tokio::test]
async fn a_master_is_believed_by_its_key_after_the_ca_was_replaced() {
    let (old, new) = (ClusterCa::mint("c1").expect("mints"), ClusterCa::mint("c1").expect("mints"));
    let keys: Vec<NodeKey> = (0..3).map(|_| NodeKey::generate().expect("a key")).collect();
    let [sleeper, known, stranger] = [&keys[0], &keys[1], &keys[2]];
    let local = || (std::net::Ipv4Addr::LOCALHOST, 0).into();
    let slept = Endpoint::bind(local(), Some(certified(&old, sleeper))).expect("binds");
    let home = tempfile::tempdir().expect("a directory");
    slept.keep_in(home.path()).expect("keeps");
    slept.pin([known.node_id()].into()).expect("pins");

    for (master, believed) in [(known, true), (stranger, false)] {
        let master = Endpoint::bind(local(), Some(certified(&new, master))).expect("binds");
        master.believe_also(vec![old.certificate().to_vec()]).expect("believes");
        let at = master.local_addr().expect("bound");
        let dialled = slept.connect(at, Alpn::Raft, None).await;
        assert_eq!(dialled.is_ok(), believed, "{dialled:?}");
        if believed {
            let link = master.accept().await.expect("accepts");
            assert_eq!(link.peer.map(|peer| peer.node_id), Some(sleeper.node_id()));
            assert!(issued_by(&link.connection, old.certificate()));
            assert!(!issued_by(&link.connection, new.certificate()));
        }
    }

    let renewed = certified(&new, sleeper);
    slept.renew(renewed.certificate.clone(), renewed.ca.clone()).expect("renews");
    let kept = Identity::load(home.path()).expect("reads").expect("is there");
    assert_eq!((kept.certificate, kept.ca), (renewed.certificate, renewed.ca));
    let foreign = certified(&new, stranger);
    assert!(slept.renew(foreign.certificate, foreign.ca).is_err(), "another's certificate");
    let again = Endpoint::bind(local(), Some(certified(&new, sleeper))).expect("binds");
    again.keep_in(home.path()).expect("keeps");
    let master = Endpoint::bind(local(), Some(certified(&old, known))).expect("binds");
    master.believe_also(vec![new.certificate().to_vec()]).expect("believes");
    let at = master.local_addr().expect("bound");
    again.connect(at, Alpn::Raft, None).await.expect("the pins were kept");
}

#[tokio::test]
async fn the_links_of_a_killed_process_end_when_it_is_back() {
    let ca = ca();
    let identity = identity(&ca, NodeRole::Master);
    let seed = Some(identity.key.link_seed());
    let options = EndpointOptions { link_seed: seed, ..EndpointOptions::default() };
    let life = tokio::runtime::Runtime::new().expect("a runtime");
    let first = {
        let _there = life.enter();
        Endpoint::bind_with(ANY_PORT.into(), Some(identity.clone()), options).expect("binds")
    };
    let at = addr(&first);
    let (agent, _) = endpoint(&ca, NodeRole::Agent);
    let link = agent.connect(at, Alpn::Agent, None).await.expect("connects");
    // Its tasks are gone without a word, as with a signal that cannot be caught.
    let over = std::thread::spawn(move || life.shutdown_timeout(Duration::from_secs(10)));
    over.join().expect("is over");
    drop(first);
    let again = Endpoint::bind_with(at, Some(identity), options).expect("binds again");
    let (mut send, _receive) = link.connection.open_bi().await.expect("nothing is known yet");
    write_frame(&mut send, &"anyone there?".to_string()).await.expect("is queued");
    // A silence that is long enough would be a timeout.
    assert_eq!(link.connection.closed().await, ConnectionError::Reset);
    assert!(agent.connect(addr(&again), Alpn::Agent, None).await.is_ok());
}
