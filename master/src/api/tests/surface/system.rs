//! Section 2.6: info, leader, ping, metrics, logging, plugins, artifacts, and the pages.

use super::*;
use crate::levels::LogLevel;
use serde_json::json;
use std::sync::atomic::Ordering;
use std::time::Duration;

#[tokio::test]
async fn get_v2_info() {
    let origins = || Setup { allow_origins: vec!["http://a".into()], ..Setup::default() };
    table_on(
        origins,
        [line("its keys", "GET /v2/info", 200)
            .keys(
                "",
                "buildref elected frameworkId http_config leader marathon_config name version \
                 zookeeper_config",
            )
            .is("/name", "marathon")
            .is("/elected", true)
            .keys("/http_config", "http_port https_port")
            .is("/http_config/https_port", Value::Null)
            .keys(
                "/zookeeper_config",
                "zk zk_compression zk_compression_threshold zk_connection_timeout \
                 zk_max_node_size zk_max_versions zk_session_timeout zk_timeout",
            )
            .is("/marathon_config/access_control_allow_origin", json!(["http://a"]))
            .is("/marathon_config/features", json!([]))
            .is("/marathon_config/local_port_max", 20_000)
            .is("/marathon_config/mesos_user", Value::Null)],
    )
    .await;
}

#[tokio::test]
async fn v2_leader() {
    let follower = || Setup { follows: true, ..Setup::default() };
    table([
        line("abdicates", "DELETE /v2/leader", 200).message("Leadership abdicated"),
        line("a backup", "DELETE /v2/leader?backup=file:///x", 422).part("backup is not supported"),
        line("a restore", "DELETE /v2/leader?restore=s3://x", 422).part("restore is not supported"),
    ])
    .await;
    table_on(
        follower,
        [
            line("nobody leads", "GET /v2/leader", 404).message("There is no leader"),
            line("nobody to abdicate", "DELETE /v2/leader", 404).message("There is no leader"),
            line("no leader's header", "GET /v2/apps", 200).header("x-marathon-leader", ""),
            line("not elected", "GET /v2/info", 200)
                .is("/elected", false)
                .is("/leader", Value::Null),
        ],
    )
    .await;
    let node = Node::start().await;
    let leader = node.get("/v2/leader").await;
    assert_eq!(leader.text, format!(r#"{{"leader":"node1:{}"}}"#, node.http.port()));
    send(&node, "DELETE /v2/leader?restore=x", &[], "").await;
    assert_eq!(node.abdicated.load(Ordering::Relaxed), 0);
    send(&node, "DELETE /v2/leader", &[], "").await;
    assert_eq!(node.abdicated.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn ping() {
    let ping = |accept, status| line(accept, "GET /ping", status).with("Accept", accept);
    table([
        ping("*/*", 200).text("pong").header("content-type", "text/plain"),
        ping("text/plain", 200).text("pong"),
        ping("application/json", 200).text("\"pong\"").header("content-type", "application/json"),
        ping("text/html", 200).text("pong").header("content-type", "text/html"),
        ping("image/png", 204).text(""),
        line("HEAD", "HEAD /ping", 200).text(""),
        line("a trailing slash", "GET /ping/", 200).text("pong"),
    ])
    .await;
}

#[tokio::test]
async fn metrics() {
    table([
        line("Dropwizard's parts", "GET /metrics", 200)
            .keys("", "counters gauges histograms meters timers version")
            .is("/version", "4.0.0")
            .keys("/gauges/marathon.apps.active.gauge", "value")
            .is("/gauges/marathon.apps.active.gauge/value", 4.0)
            .keys("/counters/marathon.http.requests.counter", "count"),
        line("text for a scraper", "GET /metrics", 200)
            .with("Accept", "text/plain;version=0.0.4")
            .part("# TYPE marathon_apps_active_gauge gauge\nmarathon_apps_active_gauge 4\n"),
        line("always text", "GET /metrics/prometheus", 200)
            .header("content-type", "text/plain; version=0.0.4")
            .part("marathon_apps_active_gauge 4\n"),
    ])
    .await;
}

#[tokio::test]
async fn logging() {
    let post = |name, status| line(name, "POST /logging", status);
    let changed = r#"{"logger":"ROOT","level":"debug","durationSeconds":30}"#;
    table([
        line("levels by logger", "GET /logging", 200).text(r#"{"ROOT":"info","quinn":"off"}"#),
        post("for a while", 200).body(changed).text(changed),
        post("for good, in any case", 200)
            .body(r#"{"level":"WARN","logger":"a.b"}"#)
            .text(r#"{"logger":"a.b","level":"warn"}"#)
            .header("warning", ""),
        post("less than this build has", 200)
            .body(r#"{"logger":"a","level":"trace"}"#)
            .header("warning", "199 bramble \"this build contains no lines below info\""),
        post("no logger", 422).body(r#"{"logger":"","level":"warn"}"#).part(r#""path":"/logger""#),
        post("no level", 422).body(r#"{"logger":"a"}"#).part(r#""path":"/level""#),
        post("an unknown level", 422)
            .body(r#"{"logger":"a","level":"loud"}"#)
            .part("error.unknown.enum.literal"),
        post("too many", 422).body(r#"{"logger":"full","level":"warn"}"#).part("64 loggers"),
    ])
    .await;
    let node = Node::start().await;
    send(&node, "POST /logging", &[], changed).await;
    let asked = node.levels.0.lock().unwrap().clone();
    let half_a_minute = Some(Duration::from_secs(30));
    assert_eq!(asked, [("ROOT".to_string(), LogLevel::Debug, half_a_minute)]);
}

#[tokio::test]
async fn v2_plugins_config_and_pages() {
    table([
        line("none", "GET /v2/plugins", 200).text(r#"{"plugins":[]}"#),
        line("none, so none of it", "GET /v2/plugins/p/a/b", 404)
            .message("Plugin 'p' does not exist"),
        line("by any method", "POST /v2/plugins/p/a", 404).message("Plugin 'p' does not exist"),
        line("settings", "GET /config", 200).is("/http/origin", "flag"),
        line("the root leads to the page", "GET /", 302).header("location", "/ui/").text(""),
        line("the page", "GET /ui/", 200).header("content-type", "text/html").part("/v2/apps"),
        line("no page below it", "GET /ui/x", 404).message("URI not found"),
        line("help", "GET /help", 200).header("content-type", "text/plain").part("/v2/artifacts"),
        line("the console is the help", "GET /api-console", 200).part("/v2/apps/{id}"),
        line("no schema", "GET /public/api/v2/schema/AppDefinition.json", 404),
    ])
    .await;
}

/// Every path and method that the help names is one, by what the router says of it.
#[tokio::test]
async fn help_names_what_there_is() {
    let node = Node::start().await;
    let help = node.get("/help").await.text;
    let mut named = 0;
    for (methods, path) in help.lines().filter_map(|line| line.split_once('/')) {
        let path = format!("/{}", path.replace(['{', '}'], ""));
        for method in methods.split_whitespace() {
            let stream = [("Accept", "text/event-stream, application/json")];
            let answer = node.tcp().await.open(method, &path, &stream, "").await;
            let status = answer.status().as_u16();
            assert_ne!(status, 405, "{method} {path}");
            if status == 404 {
                let body = http_body_util::BodyExt::collect(answer.into_body()).await.unwrap();
                let text = String::from_utf8(body.to_bytes().to_vec()).unwrap();
                assert!(!text.contains("URI not found"), "{method} {path}");
            }
            named += 1;
        }
    }
    assert!(named > 60, "{named}");
}

/// A multipart body with the bytes `abc`.
fn upload(field: &str, file: &str) -> String {
    format!(
        "--X\r\nContent-Disposition: form-data; name=\"other\"\r\n\r\nx\r\n\
         --X\r\nContent-Disposition: form-data; name=\"{field}\"; filename=\"{file}\"\r\n\
         Content-Type: text/plain\r\n\r\nabc\r\n--X--\r\n"
    )
}

const FORM: (&str, &str) = ("Content-Type", "multipart/form-data; boundary=X");

#[tokio::test]
async fn v2_artifacts_without_a_store() {
    let off = "this node keeps no artifacts; start bramble with --artifact-store";
    let asks = [
        "POST /v2/artifacts",
        "PUT /v2/artifacts/a",
        "GET /v2/artifacts/a",
        "DELETE /v2/artifacts/a/b",
    ];
    table(asks.map(|ask| line("no store", ask, 404).message(off))).await;
}

#[tokio::test]
async fn v2_artifacts() {
    let keeps = || Setup { keeps_artifacts: true, ..Setup::default() };
    let put = |name, ask: &'static str, status| {
        line(name, ask, status).with(FORM.0, FORM.1).body(upload("file", "a b.txt"))
    };
    table_on(
        keeps,
        [
            put("by the file's own name", "POST /v2/artifacts", 201)
                .text("")
                .header("location", "http://localhost:8080/v2/artifacts/a%20b.txt"),
            put("by path", "PUT /v2/artifacts/x/y.tgz", 201)
                .header("location", "http://localhost:8080/v2/artifacts/x/y.tgz"),
            put("by path, posted", "POST /v2/artifacts//x", 201)
                .header("location", "http://localhost:8080/v2/artifacts/x"),
            put("out of the store", "PUT /v2/artifacts/a/../../b", 422)
                .part("cannot name an artifact"),
            put("out of it, encoded", "PUT /v2/artifacts/%2e%2e/b", 422),
            put("no such field", "PUT /v2/artifacts/a", 400)
                .body(upload("files", "a"))
                .part("'file'"),
            put("out of it by its own name", "POST /v2/artifacts", 422)
                .body(upload("file", "../x")),
            put("cut off", "PUT /v2/artifacts/a", 400).body("--X\r\nContent-Disp"),
            line("no multipart", "PUT /v2/artifacts/a", 415).body("{}"),
            line("unknown", "GET /v2/artifacts/a", 404).message("Artifact 'a' does not exist"),
            line("unknown, deleted", "DELETE /v2/artifacts/a", 404)
                .message("Artifact 'a' does not exist"),
            line("all of them", "GET /v2/artifacts", 405).header("allow", "OPTIONS, POST"),
        ],
    )
    .await;
    let node = Node::set_up(keeps()).await;
    for status in [201, 200] {
        let answer = send(&node, "PUT /v2/artifacts/x/y", &[FORM], &upload("file", "z")).await;
        assert_eq!((answer.status, answer.text.as_str()), (status, ""));
    }
    for (method, text) in [("GET", "abc"), ("HEAD", "")] {
        let answer = send(&node, &format!("{method} /v2/artifacts/x/y"), &[], "").await;
        assert_eq!((answer.status, answer.text.as_str()), (200, text));
        assert_eq!(answer.header("content-length"), "3");
        assert_eq!(answer.header("content-type"), "application/octet-stream");
    }
    assert_eq!(send(&node, "DELETE /v2/artifacts/x/y", &[], "").await.status, 200);
    assert_eq!(node.get("/v2/artifacts/x/y").await.status, 404);
}
