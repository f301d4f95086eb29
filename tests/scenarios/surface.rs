//! What of Marathon's API only the real binary shows: leadership, its log, artifacts, pages.

use bramble_tests::{Answer, Node, can_run_containers, eventually};
use serde_json::json;

fn curl(node: &Node, arguments: &[&str]) -> Answer {
    let mut command = node.inside("curl");
    let output = command.args(["-sS", "-i", "-m", "30"]).args(arguments).output();
    Answer::parse(&String::from_utf8_lossy(&output.expect("curl runs").stdout))
}

fn url(path: &str) -> String {
    format!("http://localhost:8080{path}")
}

/// Terms in which this node has led, in order.
fn terms(node: &Node) -> Vec<u64> {
    let log = node.log();
    let led = log.lines().filter(|line| line.contains("leadership changed term="));
    let led = led.filter(|line| line.ends_with("here=true"));
    let term = |line: &str| {
        let (_, rest) = line.split_once("term=")?;
        rest.split(' ').next()?.parse().ok()
    };
    led.filter_map(term).collect()
}

#[test]
fn a_leader_that_abdicates_leads_again_and_no_task_notices() {
    if !can_run_containers("abdication") {
        return;
    }
    let node = Node::start();
    let app = r#"{"id":"web","cmd":"sleep 10000","cpus":0.1,"mem":16}"#;
    node.api("POST", "/v2/apps", Some(app)).expect(201);
    let task = node.running("web", 1).remove(0);
    let before = terms(&node);
    let refused = node.api("DELETE", "/v2/leader?restore=file:///x", None).expect(422);
    assert!(refused.json()["message"].as_str().is_some_and(|m| m.contains("restore")));
    let answer = node.api("DELETE", "/v2/leader", None).expect(200);
    assert_eq!(answer.json(), json!({ "message": "Leadership abdicated" }));
    eventually("a later term", || {
        let terms = terms(&node);
        (terms.len() > before.len() && terms.last() > before.last()).then_some(())
    });
    eventually("the leader", || {
        let answer = node.api("GET", "/v2/leader", None);
        (answer.status == 200).then_some(())
    });
    // Its loops run again: what is asked for now happens.
    eventually("the app to be scaled", || {
        let answer = node.api("PUT", "/v2/apps/web?force=true", Some(r#"{"instances":2}"#));
        (answer.status == 200).then_some(())
    });
    let two = node.running("web", 2);
    assert!(two.iter().any(|t| t["id"] == task["id"] && t["startedAt"] == task["startedAt"]));
}

#[test]
fn log_levels_change_for_a_while() {
    let node = Node::start();
    let levels = || node.get("/logging");
    assert_eq!((&levels()["ROOT"], &levels()["openraft"]), (&json!("info"), &json!("off")));
    node.get("/v2/info");
    assert!(!node.log().contains("path=\"/v2/info\""), "debug lines are left out");
    let body = r#"{"logger":"bramble_master","level":"debug","durationSeconds":3}"#;
    let changed = node.api("POST", "/logging", Some(body)).expect(200);
    assert_eq!(changed.body, body);
    assert_eq!(levels()["bramble_master"], "debug");
    eventually("a debug line", || {
        node.get("/v2/info");
        node.log().contains("path=\"/v2/info\"").then_some(())
    });
    eventually("the level before", || levels().get("bramble_master").is_none().then_some(()));
    node.api("POST", "/logging", Some(r#"{"logger":"","level":"debug"}"#)).expect(422);
    let off = r#"{"logger":"ROOT","level":"off"}"#;
    node.api("POST", "/logging", Some(off)).expect(200);
    assert_eq!(levels()["ROOT"], "off");
}

#[test]
fn an_artifact_is_kept_over_a_restart_and_fetched_by_a_task() {
    if !can_run_containers("artifacts") {
        return;
    }
    let mut node = Node::builder().arg("--artifact-store").start();
    let script = node.root().join("hello.sh");
    std::fs::write(&script, "echo hello from the store\n").expect("a file");
    let form = format!("file=@{}", script.display());
    let put = curl(&node, &["-F", &form, &url("/v2/artifacts")]).expect(201);
    let location = put.header("location").expect("where it is").to_string();
    assert_eq!(location, url("/v2/artifacts/hello.sh"));
    curl(&node, &["-X", "PUT", "-F", &form, &url("/v2/artifacts/a/b/hello.sh")]).expect(201);
    curl(&node, &["-X", "PUT", "-F", &form, &url("/v2/artifacts/a/b/hello.sh")]).expect(200);
    curl(&node, &["-F", &form, "--path-as-is", &url("/v2/artifacts/../../x")]).expect(422);
    curl(&node, &["-F", &form, &url("/v2/artifacts/%2e%2e/x")]).expect(422);
    node.stop(nix::sys::signal::Signal::SIGKILL);
    node.up();
    assert_eq!(curl(&node, &[&location]).expect(200).body, "echo hello from the store\n");
    let app = json!({ "id": "fetches", "cmd": "sh hello.sh; sleep 10000", "cpus": 0.1, "mem": 16,
        "uris": [location] });
    node.api("POST", "/v2/apps", Some(&app.to_string())).expect(201);
    node.running("fetches", 1);
    eventually("what the script says", || {
        let output = node.bramble(&["logs", "fetches"]);
        String::from_utf8_lossy(&output.stdout).contains("hello from the store").then_some(())
    });
    curl(&node, &["-X", "DELETE", &location]).expect(200);
    curl(&node, &[&location]).expect(404);
    let none = Node::start();
    let refused = curl(&none, &["-F", "file=@/etc/hostname", &url("/v2/artifacts")]).expect(404);
    assert!(refused.json()["message"].as_str().is_some_and(|m| m.contains("--artifact-store")));
}

#[test]
fn pages_settings_and_headers_of_a_node() {
    let node = Node::builder().arg("--access-control-allow-origin=http://dash:3000").start();
    let root = curl(&node, &["-L", &url("/")]);
    assert_eq!(root.status, 302, "curl shows the redirect first");
    assert_eq!(root.header("location"), Some("/ui/"));
    assert!(root.body.contains("<title>bramble</title>"), "{}", root.body);
    let settings = node.get("/config");
    assert_eq!(settings["access-control-allow-origin"]["value"], "http://dash:3000");
    assert_eq!(settings["access-control-allow-origin"]["origin"], "flag");
    let info = node.get("/v2/info");
    let origins = &info["marathon_config"]["access_control_allow_origin"];
    assert_eq!(*origins, json!(["http://dash:3000"]));
    let asked = curl(
        &node,
        &[
            "-X",
            "OPTIONS",
            "-H",
            "Origin: http://dash:3000",
            "-H",
            "Access-Control-Request-Headers: X-Requested-With",
            &url("/v2/apps"),
        ],
    );
    for (name, want) in [
        ("access-control-allow-origin", "http://dash:3000"),
        ("access-control-allow-headers", "X-Requested-With"),
        ("access-control-allow-methods", "GET, HEAD, OPTIONS"),
        ("access-control-max-age", "86400"),
        ("cache-control", "no-cache, no-store, must-revalidate"),
        ("x-frame-options", "DENY"),
    ] {
        assert_eq!(asked.header(name), Some(want), "{name}");
    }
    let packed = curl(&node, &["--compressed", &url("/v2/info")]).expect(200);
    assert_eq!(packed.header("content-encoding"), Some("gzip"));
    assert!(packed.json()["marathon_config"].is_object());
}
