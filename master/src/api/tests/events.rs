//! Event streams and subscriptions over real HTTP.

use crate::api::testing::Node;
use crate::api::testing::client::Client;
use crate::events::{STREAMS_MAX, Wanted};
use bramble_protocol::rest::event::EventBody;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::Value;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

const STREAM: &[(&str, &str)] = &[("Accept", "text/event-stream")];
const WEB: &str = r#"{"id":"/g/web","cmd":"sleep 100","cpus":0.1,"mem":16,"instances":1}"#;

/// A stream as a client reads it.
struct Reader {
    body: Incoming,
    /// Keeps the connection.
    _client: Client,
    text: String,
}

impl Reader {
    async fn open(node: &Node, query: &str) -> Reader {
        let mut client = node.tcp().await;
        let answer = client.open("GET", &format!("/v2/events{query}"), STREAM, "").await;
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        Reader { body: answer.into_body(), _client: client, text: String::new() }
    }

    /// Type and data of the next frame, whose form is checked.
    async fn frame(&mut self) -> (String, Value) {
        let frame = loop {
            if let Some((frame, rest)) = self.text.split_once("\r\n\r\n") {
                let frame = frame.to_string();
                self.text = rest.to_string();
                break frame;
            }
            self.more().await;
        };
        let (event, data) = frame.split_once("\r\n").unwrap();
        let kind = event.strip_prefix("event: ").unwrap().to_string();
        let data = data.strip_prefix("data: ").unwrap();
        assert!(!data.contains(['\r', '\n']), "{data:?}");
        let data: Value = serde_json::from_str(data).unwrap();
        assert_eq!(data["eventType"], kind.as_str());
        assert!(data["timestamp"].as_str().unwrap().ends_with('Z'));
        (kind, data)
    }

    async fn kinds(&mut self, count: usize) -> Vec<String> {
        let mut kinds = Vec::new();
        for _ in 0..count {
            kinds.push(self.frame().await.0);
        }
        kinds
    }

    async fn more(&mut self) {
        let frame = self.body.frame().await.expect("the stream goes on").unwrap();
        self.text += std::str::from_utf8(&frame.into_data().unwrap()).unwrap();
    }
}

#[tokio::test]
async fn only_clients_that_ask_for_a_stream_get_one() {
    let node = Node::start().await;
    let rows: [(&str, &[(&str, &str)]); 5] = [
        ("GET", &[]),
        ("GET", &[("Accept", "*/*")]),
        ("GET", &[("Accept", "application/json")]),
        ("HEAD", STREAM),
        ("POST", STREAM),
    ];
    for (method, headers) in rows {
        let answer = node.tcp().await.ask(method, "/v2/events", headers, "").await;
        assert_eq!(answer.status, 405, "{method} {headers:?}");
    }
    for accept in ["text/event-stream", "application/json, text/event-stream;q=0.9"] {
        let mut client = node.tcp().await;
        let answer = client.open("GET", "/v2/events?x=y", &[("Accept", accept)], "").await;
        assert_eq!(answer.status(), 200, "{accept}");
    }
}

#[tokio::test]
async fn a_creation_is_told_in_order() {
    let node = Node::start().await;
    let mut reader = Reader::open(&node, "").await;
    let (kind, data) = reader.frame().await;
    assert_eq!(
        (kind.as_str(), &data["remoteAddress"]),
        ("event_stream_attached", &"127.0.0.1".into())
    );
    let created = node.ask("POST", "/v2/apps?force=true", WEB).await;
    assert_eq!(created.status, 201);
    let (kind, post) = reader.frame().await;
    assert_eq!(kind, "api_post_event");
    assert_eq!((&post["clientIp"], &post["uri"]), (&"127.0.0.1".into(), &"/v2/apps".into()));
    let app = &post["appDefinition"];
    assert_eq!((&app["id"], &app["version"]), (&"/g/web".into(), &created.json()["version"]));
    let (kind, group) = reader.frame().await;
    assert_eq!(kind, "group_change_success");
    assert_eq!((&group["groupId"], &group["version"]), (&"/g".into(), &app["version"]));
    let (kind, info) = reader.frame().await;
    assert_eq!(kind, "deployment_info");
    assert_eq!(info["plan"]["id"], created.header("marathon-deployment-id"));
    assert_eq!(info["plan"]["steps"].as_array().map(Vec::len), Some(2));
    assert!(info["plan"].get("target").is_none(), "{info}");
    assert_eq!(info["currentStep"]["actions"][0]["action"], "StartApplication");
    // A refused change is told too; requests for many apps or none post nothing.
    assert_eq!(node.ask("POST", "/v2/apps", WEB).await.status, 409);
    let (kind, failed) = reader.frame().await;
    assert_eq!((kind.as_str(), &failed["groupId"]), ("group_change_failed", &"/g".into()));
    assert!(failed["reason"].as_str().unwrap().contains("already exists"), "{failed}");
    assert_eq!(node.ask("DELETE", "/v2/apps/g/web", "").await.status, 200);
    let want = [
        "deployment_step_failure",
        "deployment_failed",
        "app_terminated_event",
        "group_change_success",
        "deployment_info",
    ];
    assert_eq!(reader.kinds(5).await, want);
    assert_eq!(node.ask("PUT", "/v2/apps/x", r#"{"cmd":"sleep 1"}"#).await.status, 201);
    let (kind, post) = reader.frame().await;
    assert_eq!((kind.as_str(), &post["uri"]), ("api_post_event", &"/v2/apps/x".into()));
}

#[tokio::test]
async fn types_are_chosen_and_plans_made_heavy() {
    let node = Node::start().await;
    let query = "?event_type=deployment_info&event_type=group_change_success&plan-format=heavy";
    let mut heavy = Reader::open(&node, query).await;
    let mut light = Reader::open(&node, "?event_type=deployment_info&plan-format=light").await;
    assert_eq!(node.ask("POST", "/v2/apps", WEB).await.status, 201);
    assert_eq!(heavy.frame().await.0, "group_change_success");
    let (_, info) = heavy.frame().await;
    assert!(info["plan"]["original"]["apps"].as_array().unwrap().is_empty());
    assert_eq!(info["plan"]["target"]["apps"][0]["id"], "/g/web");
    let (kind, info) = light.frame().await;
    assert_eq!(kind, "deployment_info");
    assert!(info["plan"].get("original").is_none());
}

#[tokio::test]
async fn silence_is_broken_by_empty_lines() {
    let node = Node::start().await;
    let mut reader = Reader::open(&node, "").await;
    assert_eq!(reader.frame().await.0, "event_stream_attached");
    tokio::time::pause();
    let begun = tokio::time::Instant::now();
    for _ in 0..3 {
        reader.more().await;
    }
    assert_eq!(reader.text, "\r\n\r\n\r\n");
    let waited = begun.elapsed();
    assert!(waited >= Duration::from_secs(30) && waited < Duration::from_secs(31), "{waited:?}");
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut_off() {
    let node = Node::start().await;
    let mut reader = Reader::open(&node, "?event_type=event_stream_detached").await;
    let mut slow = TcpStream::connect(node.http).await.unwrap();
    let request = "GET /v2/events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n";
    slow.write_all(request.as_bytes()).await.unwrap();
    while node.hub.listeners() < 2 {
        tokio::task::yield_now().await;
    }
    // What the sockets hold besides the events kept for it is the kernel's choice.
    while node.hub.listeners() == 2 {
        node.hub.publish(EventBody::GroupChangeFailed {
            group_id: "/".into(),
            version: "v".into(),
            reason: "x".repeat(16 * 1024),
        });
        tokio::task::yield_now().await;
    }
    assert_eq!(reader.frame().await.0, "event_stream_detached");
    let mut got = Vec::new();
    let _ = slow.read_to_end(&mut got).await;
    assert!(got.starts_with(b"HTTP/1.1 200 OK\r\n"));
    assert!(!got.ends_with(b"\r\n0\r\n\r\n"), "the stream looks whole");
}

#[tokio::test]
async fn there_are_only_so_many_streams() {
    let node = Node::start().await;
    let cut = CancellationToken::new;
    let mut streams: Vec<_> = (0..STREAMS_MAX)
        .map(|_| node.hub.attach("a".into(), Wanted::default(), cut()).unwrap())
        .collect();
    let answer = node.tcp().await.ask("GET", "/v2/events", STREAM, "").await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, "1"));
    streams.pop();
    let mut reader = Reader::open(&node, "").await;
    assert_eq!(reader.frame().await.0, "event_stream_attached");
}

#[tokio::test]
async fn streams_end_with_the_node() {
    let node = Node::start().await;
    let mut reader = Reader::open(&node, "").await;
    assert_eq!(reader.frame().await.0, "event_stream_attached");
    node.stop.cancel();
    assert!(reader.body.frame().await.is_none());
}

#[tokio::test]
async fn callbacks_are_subscribed_and_listed() {
    let node = Node::start().await;
    let mut reader = Reader::open(&node, "?event_type=subscribe_event").await;
    let path = "/v2/eventSubscriptions";
    let listed = async || node.get(path).await.text;
    assert_eq!(listed().await, r#"{"callbackUrls":[]}"#);
    let one = format!("{path}?callbackUrl=http://127.0.0.1:9/hook%3Fa");
    let answer = node.ask("POST", &one, "").await;
    assert_eq!(answer.status, 200);
    let event = answer.json();
    assert_eq!(event["eventType"], "subscribe_event");
    assert_eq!(event["callbackUrl"], "http://127.0.0.1:9/hook?a");
    assert_eq!(event["clientIp"], "127.0.0.1");
    assert_eq!(reader.frame().await.1["callbackUrl"], event["callbackUrl"]);
    assert_eq!(node.ask("POST", &one, "").await.status, 200);
    assert_eq!(listed().await, r#"{"callbackUrls":["http://127.0.0.1:9/hook?a"]}"#);
    for _ in 0..2 {
        let answer = node.ask("DELETE", &one, "").await;
        assert_eq!(
            (answer.status, answer.json()["eventType"].clone()),
            (200, "unsubscribe_event".into())
        );
        assert_eq!(listed().await, r#"{"callbackUrls":[]}"#);
    }
    for bad in ["", "?callbackUrl=", "?callbackUrl=https://x/", "?callbackUrl=nonsense"] {
        let answer = node.ask("POST", &format!("{path}{bad}"), "").await;
        assert_eq!(answer.status, 422, "{bad}");
        assert!(answer.json()["message"].as_str().unwrap().contains("callbackUrl"), "{bad}");
    }
    for number in 0..bramble_core::machine::CALLBACKS_MAX {
        let answer = node.ask("POST", &format!("{path}?callbackUrl=http://x/{number}"), "").await;
        assert_eq!(answer.status, 200);
    }
    assert_eq!(node.ask("POST", &one, "").await.status, 403);
}
