//! Section 1: headers, forms, methods and errors that are the same everywhere.

use super::*;
use bytes::Bytes;
use flate2::read::GzDecoder;
use http_body_util::BodyExt;
use std::io::Read;

#[tokio::test]
async fn every_answer_has_the_headers() {
    let asks = [
        ("GET /v2/apps", 200),
        ("HEAD /v2/apps", 200),
        ("GET /v2/apps/nope", 404),
        ("GET /nowhere", 404),
        ("DELETE /v2/apps", 405),
        ("GET /ui/", 200),
    ];
    table(asks.map(|(ask, status)| {
        line("a header", ask, status)
            .header("cache-control", "no-cache, no-store, must-revalidate")
            .header("pragma", "no-cache")
            .header("expires", "0")
            .header("x-frame-options", "DENY")
            .header("x-xss-protection", "1; mode=block")
            .header("etag", "")
            .header("access-control-allow-origin", "")
    }))
    .await;
}

#[tokio::test]
async fn head_answers_as_get_without_the_body() {
    let paths = [
        "/v2/apps",
        "/v2/apps/web",
        "/v2/apps/web/versions",
        "/v2/groups",
        "/v2/tasks",
        "/v2/queue",
        "/v2/deployments",
        "/v2/info",
        "/v2/leader",
        "/v2/plugins",
        "/ping",
        "/logging",
    ];
    let node = Node::start().await;
    node.edit(seed);
    for path in paths {
        let (get, head) =
            (node.get(path).await, send(&node, &format!("HEAD {path}"), &[], "").await);
        assert_eq!((head.status, head.text.as_str()), (200, ""), "{path}");
        for name in ["content-type", "content-length"] {
            assert_eq!(head.header(name), get.header(name), "{path} {name}");
        }
    }
}

#[tokio::test]
async fn errors_of_every_kind() {
    let post = |name, status| line(name, "POST /v2/apps", status);
    let no_json = r#"{"message":"Please specify data in JSON format","details":""#;
    table([
        post("broken JSON", 400).body("{\"id\":").part(r#"{"message":"Invalid JSON","details":""#),
        post("no body", 400).part(no_json),
        post("text", 400).body("\"x\"").part(no_json),
        post("a number", 400).body("7").part(no_json),
        post("null", 400).body("null").part(no_json),
        post("nested too deep", 400).body("[".repeat(10_000)).part("Invalid JSON"),
        post("another kind of body", 415)
            .with("Content-Type", "text/plain")
            .body("{}")
            .message("Unsupported Media Type"),
        post("a kind with a parameter", 422)
            .with("Content-Type", "application/json; charset=UTF-8")
            .body("{}"),
        line("no route", "GET /v2/nope", 404).message("URI not found"),
        line("no route at all", "GET /v3", 404).message("URI not found"),
        line("no method", "POST /v2/info", 405).message("Method Not Allowed"),
        line("no method, and what there is", "DELETE /v2/info", 405)
            .header("allow", "GET, HEAD, OPTIONS"),
        line("no form", "GET /v2/apps", 406).with("Accept", "text/html").message("Not Acceptable"),
        line("what there is", "OPTIONS /v2/leader", 200)
            .header("allow", "DELETE, GET, HEAD, OPTIONS"),
    ])
    .await;
}

/// Wrong types and schema limits, by their codes and paths.
#[tokio::test]
async fn codes_of_wrong_types() {
    let rows = [
        (r#"{"id":7}"#, "/id", "error.expected.jsstring"),
        (r#"{"id":"a","cpus":"x"}"#, "/cpus", "error.expected.jsnumber"),
        (r#"{"id":"a","container":"x"}"#, "/container", "error.expected.jsobject"),
        (r#"{"id":"a","constraints":"x"}"#, "/constraints", "error.expected.jsarray"),
        (r#"{"id":"a","requirePorts":"x"}"#, "/requirePorts", "error.expected.jsboolean"),
        (r#"{"cmd":"a"}"#, "/id", "error.path.missing"),
        (r#"{"id":"a","instances":-1}"#, "/instances", "error.min"),
        (r#"{"id":"a","ports":[70000]}"#, "/ports(0)", "error.max"),
        (r#"{"id":"a","constraints":[["a"]]}"#, "/constraints(0)", "error.minLength"),
        (
            r#"{"id":"a","constraints":[["a","LIKE","b","c"]]}"#,
            "/constraints(0)",
            "error.maxLength",
        ),
        (
            r#"{"id":"a","healthChecks":[{"protocol":"GOPHER"}]}"#,
            "/healthChecks(0)/protocol",
            "error.unknown.enum.literal",
        ),
    ];
    table(rows.map(|(body, path, code)| {
        line(code, "POST /v2/apps", 422)
            .body(body)
            .is("/message", "Invalid JSON")
            .is("/details/0/path", path)
            .is("/details/0/errors/0", code)
    }))
    .await;
}

#[tokio::test]
async fn pages_of_an_allowed_origin_may_read() {
    let some =
        || Setup { allow_origins: vec!["http://a".into(), "http://b".into()], ..Setup::default() };
    table_on(
        some,
        [
            line("the page that asks", "GET /v2/apps", 200)
                .with("Origin", "http://b")
                .header("access-control-allow-origin", "http://b")
                .header("access-control-allow-methods", "GET, HEAD, OPTIONS")
                .header("access-control-max-age", "86400")
                .header("access-control-allow-headers", ""),
            line("another page", "GET /v2/apps", 200)
                .with("Origin", "http://c")
                .header("access-control-allow-origin", "http://a"),
            line("a question before", "OPTIONS /v2/apps", 200)
                .with("Origin", "http://a")
                .with("Access-Control-Request-Headers", "X-One, X-Two")
                .header("access-control-allow-headers", "X-One, X-Two")
                .header("access-control-allow-origin", "http://a"),
            line("changing stays forbidden", "DELETE /v2/apps/web", 403).with("Origin", "http://a"),
            line("on errors too", "GET /nowhere", 404)
                .with("Origin", "http://a")
                .header("access-control-allow-origin", "http://a"),
        ],
    )
    .await;
}

async fn packed(node: &Node, path: &str, headers: &[(&str, &str)]) -> (http::HeaderMap, Bytes) {
    let mut client = node.tcp().await;
    let answer = client.open("GET", path, headers, "").await;
    let (parts, body) = answer.into_parts();
    (parts.headers, body.collect().await.unwrap().to_bytes())
}

#[tokio::test]
async fn answers_are_compressed_when_asked_and_large() {
    let node = Node::start().await;
    node.edit(seed);
    let gzip = ("Accept-Encoding", "deflate, gzip");
    let plain = node.get("/v2/apps").await;
    assert_eq!((plain.header("content-encoding"), plain.header("vary")), ("", "Accept-Encoding"));
    let (headers, bytes) = packed(&node, "/v2/apps", &[gzip]).await;
    assert_eq!(headers["content-encoding"], "gzip");
    assert_eq!(headers["content-length"].to_str().unwrap(), bytes.len().to_string());
    assert!(bytes.len() * 2 < plain.text.len(), "{} of {}", bytes.len(), plain.text.len());
    let mut unpacked = String::new();
    GzDecoder::new(bytes.as_ref()).read_to_string(&mut unpacked).unwrap();
    assert_eq!(unpacked, plain.text);
    for (path, headers) in [
        ("/ping", vec![gzip]),
        ("/v2/leader", vec![gzip]),
        ("/v2/apps", vec![("Accept-Encoding", "gzip;q=0")]),
        ("/v2/apps", vec![("Accept-Encoding", "br")]),
    ] {
        let (answered, _) = packed(&node, path, &headers).await;
        assert!(!answered.contains_key("content-encoding"), "{path} {headers:?}");
    }
    let stream = [gzip, ("Accept", "text/event-stream")];
    let answer = node.tcp().await.open("GET", "/v2/events", &stream, "").await;
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    assert!(!answer.headers().contains_key("content-encoding"));
}
