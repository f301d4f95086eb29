//! Groups of the real binary: order, scaling, going back, and a thousand apps at once.

use bramble_tests::{Node, can_run_containers, eventually};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

fn settled(node: &Node) {
    eventually("the end of all deployments", || {
        node.get("/v2/deployments").as_array().is_some_and(Vec::is_empty).then_some(())
    });
}

fn put(node: &Node, path: &str, body: &Value) -> Value {
    node.api("PUT", path, Some(&body.to_string())).expect(200).json()
}

fn app(id: &str) -> Value {
    json!({ "id": id, "cmd": "sleep 10000", "cpus": 0.1, "mem": 16 })
}

/// The latest moment at which a task of these began, or the earliest.
fn started(node: &Node, app: &str) -> String {
    let tasks = node.running(app, 1);
    tasks[0]["startedAt"].as_str().expect("a start").to_string()
}

#[test]
fn a_group_rolls_out_in_order_and_comes_back() {
    if !can_run_containers("groups") {
        return;
    }
    let mut node = Node::start();
    let shop = json!({ "id": "shop",
        "groups": [
            { "id": "web", "dependencies": ["../db"], "apps": [app("front"), app("./back")] },
            { "id": "db", "apps": [app("store")] },
        ] });
    let answer = node.api("POST", "/v2/groups", Some(&shop.to_string())).expect(201);
    assert!(answer.header("location").is_some_and(|l| l.ends_with("/v2/groups/shop")));
    settled(&node);
    let first = answer.json()["version"].clone();
    let store = started(&node, "shop/db/store");
    for id in ["shop/web/front", "shop/web/back"] {
        // Equal only if both fall into one millisecond.
        assert!(started(&node, id) >= store, "{id} began before what it depends on");
    }
    let kept = node.running("shop/db/store", 1)[0]["id"].clone();

    put(&node, "/v2/groups/shop/web", &json!({ "scaleBy": 2 }));
    settled(&node);
    node.running("shop/web/front", 2);
    node.running("shop/web/back", 2);
    // Only `front` is named: `back` goes, the rest stays as it is.
    put(&node, "/v2/groups/shop/web", &json!({ "apps": [app("front")] }));
    settled(&node);
    assert_eq!(node.api("GET", "/v2/apps/shop/web/back", None).status, 404);

    node.stop(Signal::SIGKILL);
    node.up();
    let versions = node.get("/v2/groups/shop/versions");
    assert_eq!(versions.as_array().map(Vec::len), Some(3), "{versions}");
    put(&node, "/v2/groups/shop", &json!({ "version": first }));
    settled(&node);
    assert_eq!(node.running("shop/web/front", 1).len(), 1);
    assert_eq!(node.running("shop/web/back", 1).len(), 1);
    assert_eq!(node.running("shop/db/store", 1)[0]["id"], kept, "what did not change went on");

    node.api("DELETE", "/v2/groups/shop", None).expect(200);
    settled(&node);
    assert_eq!(node.get("/v2/apps")["apps"], json!([]));
    assert_eq!(node.get("/v2/tasks")["tasks"], json!([]));
    assert_eq!(node.api("GET", "/v2/groups/shop", None).status, 404);
}

#[test]
fn a_thousand_apps_are_taken_at_once() {
    let node = Node::start();
    // None finds a place: only what the master does with them is asked here.
    let apps: Vec<Value> = (0..1000)
        .map(|n| json!({ "id": format!("a{n}"), "cmd": "sleep 1000", "cpus": 10000 }))
        .collect();
    let file = node.root().join("many.json");
    std::fs::write(&file, json!({ "apps": apps }).to_string()).expect("written");
    let timed = |arguments: &[&str]| {
        let mut curl = node.inside("curl");
        curl.args(["-sS", "-m", "60", "-o", "/dev/null", "-w", "%{http_code} %{time_total}"]);
        let output = curl.args(arguments).output().expect("curl runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        println!("{}: {text} s", arguments[arguments.len() - 1]);
        text.split(' ').next().map(str::to_string)
    };
    let body = format!("@{}", file.display());
    let json = "Content-Type: application/json";
    let group = "http://localhost:8080/v2/groups/many";
    let put = timed(&["-X", "PUT", "-H", json, "--data-binary", &body, group]);
    assert_eq!(put.as_deref(), Some("200"), "{}", node.log());
    let list = timed(&["http://localhost:8080/v2/apps"]);
    assert_eq!(list.as_deref(), Some("200"));
    assert_eq!(node.get("/v2/groups/many/apps").as_array().map(Vec::len), Some(1000));
    // Each gets its instance, and all wait in the queue.
    eventually("a thousand instances that wait", || {
        let queue = node.get("/v2/queue")["queue"].as_array().map(Vec::len);
        (queue == Some(1000)).then_some(())
    });
    let list = timed(&["http://localhost:8080/v2/apps"]);
    assert_eq!(list.as_deref(), Some("200"));
    node.api("DELETE", "/v2/groups/many?force=true", None).expect(200);
    assert_eq!(node.get("/v2/apps")["apps"], json!([]));
}
