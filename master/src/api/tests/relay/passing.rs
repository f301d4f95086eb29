//! Whole requests and answers, and who is believed.

use super::{APP, JSON, Pair, at, follower};
use crate::api::limits::BODY_BYTES_MAX;
use crate::api::testing::Node;
use crate::api::testing::client::Client;
use crate::masters::{Lead, Masters};
use axum::body::Body;
use bramble_core::model::NodeId;
use bytes::Bytes;
use std::sync::atomic::Ordering;

#[tokio::test]
async fn the_leader_answers_what_another_master_is_asked() {
    let Pair { leader, follower } = Pair::start().await;
    let headers = [JSON, ("Host", "pi-2:8080")];
    let made = follower.tcp().await.ask("POST", "/v2/apps", &headers, APP).await;
    assert_eq!(made.status, 201, "{}", made.text);
    assert_eq!(made.header("location"), "http://pi-2:8080/v2/apps/a", "as the client knows it");
    let leads = format!("http://leader:{}", leader.http.port());
    assert_eq!(made.header("x-marathon-leader"), leads);
    assert_eq!(made.header("x-marathon-via"), format!("1.1 follower:{}", follower.http.port()));
    assert!(made.headers.contains_key("marathon-deployment-id"));
    // Nothing of it is this master's own: its store gets it from the log.
    assert!(follower.store.read(|state| state.apps.is_empty()));
    let mut client = follower.tcp().await;
    for _ in 0..2 {
        let list = client.ask("GET", "/v2/apps?id=a", &[], "").await;
        assert_eq!(list.json()["apps"][0]["id"], "/a", "also twice on one connection");
    }
    let head = client.ask("HEAD", "/v2/apps", &[], "").await;
    assert_eq!((head.status, head.text.as_str()), (200, ""));
    assert_ne!(head.header("content-length"), "0");
    let info = follower.get("/v2/info").await.json();
    assert_eq!((&info["elected"], &info["leader"]), (&true.into(), &leads[7..].into()));
    let refused = follower.get("/v2/apps/nope").await;
    assert_eq!(
        (refused.status, refused.text.as_str()),
        (404, r#"{"message":"App '/nope' does not exist"}"#)
    );
}

#[tokio::test]
async fn what_is_of_a_node_is_not_passed_on() {
    let Pair { follower, .. } = Pair::start().await;
    for (method, path, status) in [
        ("GET", "/ping", 200),
        ("GET", "/metrics", 200),
        ("GET", "/metrics/prometheus", 200),
        ("GET", "/config", 200),
        ("GET", "/logging", 200),
        ("GET", "/v2/plugins", 200),
        ("OPTIONS", "/v2/apps", 200),
        ("GET", "/v2/artifacts/x", 404),
        ("GET", "/v2/nope", 404),
    ] {
        let answer = follower.ask(method, path, "").await;
        assert_eq!(answer.status, status, "{method} {path}");
        assert_eq!(answer.header("x-marathon-via"), "", "{method} {path}");
    }
    assert_eq!(follower.wire.opened.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn bodies_of_every_kind_pass() {
    let Pair { leader, follower } = Pair::start().await;
    // Sent without its length, in pieces.
    let pieces = APP.as_bytes().chunks(5).map(|piece| Ok::<_, String>(Bytes::from(piece)));
    let body = Body::from_stream(futures_util::stream::iter(pieces));
    let made = follower.tcp().await.ask("POST", "/v2/apps", &[JSON], body).await;
    assert_eq!(made.status, 201, "{}", made.text);
    // Longer than what is kept to be sent again.
    let long = format!(r#"{{"id":"b","cmd":"true","labels":{{"x":"{}"}}}}"#, "x".repeat(1 << 20));
    let made = follower.ask("POST", "/v2/apps", &long).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let listed = follower.get("/v2/apps/b").await;
    assert_eq!(listed.json()["app"]["labels"]["x"].as_str().map(str::len), Some(1 << 20));
    // Longer than is allowed, announced or not.
    let message =
        format!(r#"{{"message":"the request body is over the limit of {BODY_BYTES_MAX} bytes"}}"#);
    for announced in [true, false] {
        let piece = Bytes::from(vec![b'x'; 1 << 20]);
        let pieces = std::iter::repeat_n(piece, 20).map(Ok::<_, String>);
        let body = Body::from_stream(futures_util::stream::iter(pieces));
        let length = (20 << 20).to_string();
        let headers = [("Content-Length", length.as_str())];
        let headers = if announced { &headers[..] } else { &[] };
        let answer = follower.tcp().await.ask("POST", "/v2/apps", headers, body).await;
        assert_eq!((answer.status, answer.text.as_str()), (413, message.as_str()));
    }
    assert_eq!(leader.store.read(|state| state.apps.len()), 2);
}

#[tokio::test]
async fn answers_are_compressed_once() {
    let Pair { follower, .. } = Pair::start().await;
    let long = format!(r#"{{"id":"b","cmd":"true","labels":{{"x":"{}"}}}}"#, "x".repeat(5000));
    assert_eq!(follower.ask("POST", "/v2/apps", &long).await.status, 201);
    let mut client = follower.tcp().await;
    let plain = client.ask("GET", "/v2/apps", &[], "").await;
    assert_eq!(plain.header("content-encoding"), "");
    assert_eq!(plain.headers.get_all("vary").iter().count(), 1);
    let answer = client.open("GET", "/v2/apps", &[("Accept-Encoding", "gzip")], "").await;
    assert_eq!(answer.headers()["content-encoding"], "gzip");
    let packed = http_body_util::BodyExt::collect(answer.into_body()).await.unwrap().to_bytes();
    let mut text = String::new();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&packed[..]), &mut text)
        .unwrap();
    assert_eq!(text, plain.text);
}

/// A connection as another node makes one.
async fn as_node(to: &Node) -> Client {
    let from = follower("other").await;
    from.wire.join("to", &to.relay);
    Client::over(from.wire.open(&NodeId::new("to")).await.unwrap()).await
}

#[tokio::test]
async fn only_nodes_say_for_whom_they_ask() {
    let Pair { leader, follower } = Pair::start().await;
    let far = [("X-Bramble-Peer", "10.0.0.9:4000"), ("X-Bramble-Aim", "leader")];
    // Through the local socket it is local, whatever else it says.
    let token = follower.unix().await.ask("GET", "/v1/bramble/token", &far, "").await;
    assert_eq!((token.status, &token.json()["token"]), (200, &"BRAMBLE-1-aa-bb".into()));
    // A client cannot keep a master from passing its request on.
    let list = follower.tcp().await.ask("GET", "/v2/apps", &far, "").await;
    assert_ne!(list.header("x-marathon-via"), "");

    type Row<'a> = (&'a [(&'a str, &'a str)], &'a str, u16);
    let rows: [Row<'_>; 6] = [
        (&far, "/v1/bramble/token", 403),
        (&far, "/v2/apps", 200),
        (&[("X-Bramble-Peer", "unix"), ("X-Bramble-Aim", "leader")], "/v1/bramble/token", 200),
        // Every key of the cluster: no node's word is good enough for it.
        (&[("X-Bramble-Peer", "unix"), ("X-Bramble-Aim", "leader")], "/v1/bramble/backup", 403),
        (&[("X-Bramble-Peer", "unix")], "/v2/apps", 404),
        (&[], "/v2/apps", 404),
    ];
    for (headers, path, status) in rows {
        let answer = as_node(&leader).await.ask("GET", path, headers, "").await;
        assert_eq!(answer.status, status, "{headers:?} {path}: {}", answer.text);
    }
}

#[tokio::test]
async fn a_page_is_refused_where_it_asks() {
    let Pair { leader, follower } = Pair::start().await;
    let page = [JSON, ("Origin", "http://evil.example")];
    let answer = follower.tcp().await.ask("POST", "/v2/apps", &page, APP).await;
    assert_eq!(answer.status, 403);
    assert!(leader.store.read(|state| state.apps.is_empty()));
}

#[tokio::test]
async fn nothing_goes_in_circles() {
    let (one, other) = (follower("one").await, follower("other").await);
    one.wire.join("other", &other.relay);
    other.wire.join("one", &one.relay);
    one.wire.set(at("other"));
    other.wire.set(at("one"));
    let answer = one.ask("POST", "/v2/apps", APP).await;
    assert_eq!(answer.status, 503, "{}", answer.text);
    assert_eq!(other.wire.opened.load(Ordering::SeqCst), 0, "what was passed on stays there");
    assert!(other.memory.commands.lock().unwrap().is_empty());
    // By way of something outside that sends it back.
    let via = format!("1.1 one:{}", one.http.port());
    let answer = one.tcp().await.ask("GET", "/v2/apps", &[("X-Marathon-Via", &via)], "").await;
    assert_eq!(
        (answer.status, answer.text.as_str()),
        (502, r#"{"message":"Detected forwarding loop."}"#)
    );
}

#[tokio::test]
async fn a_request_reaches_the_leader_that_comes_after() {
    let Pair { leader, follower } = Pair::start().await;
    // This one does not lead any more, and says so.
    let deposed = super::follower("deposed").await;
    follower.wire.join("deposed", &deposed.relay);
    follower.wire.set(at("deposed"));
    let asking = {
        let http = follower.http;
        tokio::spawn(
            async move { Client::tcp(http).await.ask("POST", "/v2/apps", &[JSON], APP).await },
        )
    };
    while follower.wire.opened.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    follower.wire.set(at("leader"));
    assert_eq!(asking.await.unwrap().status, 201);
    assert_eq!(leader.memory.commands.lock().unwrap().len(), 1, "done once");

    // The leader itself stops leading while it works on it.
    *leader.memory.fail_next.lock().unwrap() = Some(crate::propose::ProposeError::NotLeader);
    let other = r#"{"id":"b","cmd":"true"}"#;
    assert_eq!(follower.ask("POST", "/v2/apps", other).await.status, 201);
    *leader.memory.fail_next.lock().unwrap() = Some(crate::propose::ProposeError::NotLeader);
    assert_eq!(leader.ask("PUT", "/v2/apps/b", other).await.status, 200);
    assert_eq!(leader.wire.lead().borrow().clone(), Lead::Here { term: 1 });
}
