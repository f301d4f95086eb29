//! What the API refuses before any handler: methods, forms, sizes, peers; and how it ends.

use crate::api::limits::{BODY_BYTES_MAX, REQUESTS_MAX};
use crate::api::testing::Node;
use axum::body::Body;
use bytes::Bytes;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;

#[tokio::test]
async fn paths_methods_and_forms_that_are_none() {
    let node = Node::start().await;
    let json = ("Content-Type", "application/json");
    type Row<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], u16, &'a str);
    let rows: [Row<'_>; 12] = [
        ("GET", "/v2/nope", &[], 404, "URI not found"),
        ("GET", "/v1/bramble/nope", &[], 404, "URI not found"),
        ("POST", "/v2/apps/a", &[json], 405, "Method Not Allowed"),
        ("PUT", "/v2/tasks", &[json], 405, "Method Not Allowed"),
        ("GET", "/v2/tasks/delete", &[], 405, "Method Not Allowed"),
        ("POST", "/ping", &[], 405, "Method Not Allowed"),
        ("DELETE", "/v2/apps", &[], 405, "Method Not Allowed"),
        ("GET", "/v2/apps", &[("Accept", "image/png")], 406, "Not Acceptable"),
        ("GET", "/v2/tasks", &[("Accept", "image/png")], 406, "Not Acceptable"),
        ("POST", "/v2/apps", &[("Content-Type", "text/plain")], 415, "Unsupported Media Type"),
        (
            "POST",
            "/v2/tasks/delete",
            &[("Content-Type", "application/x-www-form-urlencoded")],
            415,
            "Unsupported Media Type",
        ),
        (
            "DELETE",
            "/v2/apps/a",
            &[("Origin", "http://evil.example")],
            403,
            "a page of http://evil.example may not change this cluster",
        ),
    ];
    for (method, path, headers, status, message) in rows {
        let answer = node.tcp().await.ask(method, path, headers, "").await;
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text);
        assert_eq!(answer.text, format!(r#"{{"message":"{message}"}}"#), "{method} {path}");
        assert_eq!(answer.header("content-type"), "application/json");
    }
}

#[tokio::test]
async fn what_is_allowed_is_told_and_true() {
    let node = Node::start().await;
    let methods = ["DELETE", "GET", "HEAD", "PATCH", "POST", "PUT"];
    let paths = [
        "/ping",
        "/metrics",
        "/v2/apps",
        "/v2/apps/a",
        "/v2/apps/a/tasks",
        "/v2/apps/a/tasks/t.1",
        "/v2/apps/a/versions",
        "/v2/apps/g/*",
        "/v2/tasks",
        "/v2/tasks/delete",
        "/v2/deployments",
        "/v2/deployments/d",
        "/v2/queue/a/delay",
        "/v2/info",
        "/v2/leader",
        "/v1/bramble/status",
        "/v1/bramble/tasks/a/logs",
        "/v1/bramble/tasks/a/exec",
    ];
    for path in paths {
        let asked = node.tcp().await.ask("OPTIONS", path, &[], "").await;
        assert_eq!((asked.status, asked.text.as_str()), (200, ""), "{path}");
        let allowed: Vec<&str> = asked.header("allow").split(", ").collect();
        for method in methods {
            let answer = node.tcp().await.ask(method, path, &[], "").await;
            assert_eq!(answer.status != 405, allowed.contains(&method), "{method} {path}");
            if answer.status == 405 {
                assert_eq!(answer.header("allow"), asked.header("allow"), "{method} {path}");
            }
        }
    }
}

#[tokio::test]
async fn the_whole_api_answers_on_the_local_socket() {
    let node = Node::start().await;
    let mut client = node.unix().await;
    // No header of a browser closes the socket: its file mode is the proof.
    let headers = [("Content-Type", "application/json"), ("Origin", "http://evil.example")];
    let body = r#"{"id":"a","cmd":"sleep 1"}"#;
    let made = client.ask("POST", "/v2/apps", &headers, body).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let list = client.ask("GET", "/v2/apps", &[], "").await;
    assert_eq!(list.json()["apps"][0]["id"], "/a");
}

#[tokio::test]
async fn a_body_of_100_mb_is_refused_and_the_client_hears_it() {
    let node = Node::start().await;
    let message =
        format!(r#"{{"message":"the request body is over the limit of {BODY_BYTES_MAX} bytes"}}"#);
    // Announced, unannounced (chunked), and asked for before it is sent.
    let length = (100 << 20).to_string();
    let announced = [("Content-Length", length.as_str())];
    for headers in [&announced[..], &[]] {
        let chunk = Bytes::from(vec![b'x'; 1 << 20]);
        let body =
            futures_util::stream::iter((0..100).map(move |_| Ok::<_, String>(chunk.clone())));
        let answer =
            node.tcp().await.ask("POST", "/v2/apps", headers, Body::from_stream(body)).await;
        assert_eq!((answer.status, answer.text.as_str()), (413, message.as_str()));
    }
    let mut stream = tokio::net::TcpStream::connect(node.http).await.unwrap();
    let head = format!(
        "POST /v2/apps HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\
         Expect: 100-continue\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 413 "), "not asked to go on: {answer}");
    assert_eq!(node.get("/v2/apps").await.text, r#"{"apps":[]}"#);
}

#[tokio::test]
async fn too_many_requests_at_once_are_sent_away() {
    let node = std::sync::Arc::new(Node::start().await);
    node.memory.gate.forget_permits(Semaphore::MAX_PERMITS);
    let waiting: Vec<_> = (0..REQUESTS_MAX)
        .map(|_| {
            let node = node.clone();
            tokio::spawn(async move { node.ask("DELETE", "/v2/apps/x", "").await.status })
        })
        .collect();
    let all_in = node.memory.arrived.acquire_many(REQUESTS_MAX as u32).await.unwrap();
    let refused = node.get("/ping").await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, "1"));
    assert_eq!(refused.text, r#"{"message":"too many requests at once; try again"}"#);
    drop(all_in);
    node.memory.gate.add_permits(REQUESTS_MAX);
    for request in waiting {
        assert_eq!(request.await.unwrap(), 404);
    }
    assert_eq!(node.get("/ping").await.status, 200);
}

#[tokio::test]
async fn a_body_cut_off_changes_nothing() {
    let node = Node::start().await;
    let mut stream = tokio::net::TcpStream::connect(node.http).await.unwrap();
    let head = "POST /v2/apps HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{\"id\":\"a\",";
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await;
    assert_eq!(node.get("/v2/apps").await.text, r#"{"apps":[]}"#);
}

#[tokio::test]
async fn shutdown_frees_the_port_and_the_socket() {
    let node = Node::start().await;
    // An idle connection must not hold it up.
    let mut idle = node.tcp().await;
    assert_eq!(idle.ask("GET", "/ping", &[], "").await.status, 200);
    node.stop.cancel();
    tokio::time::timeout(Duration::from_secs(30), node.served).await.unwrap().unwrap();
    assert!(!node.socket.exists());
    tokio::net::TcpListener::bind(node.http).await.unwrap();
}
