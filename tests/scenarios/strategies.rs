//! New versions on trial: canaries and second sets that wait for a word, and the way back by
//! itself.

use bramble_tests::{Node, can_run_containers, eventually};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::process::{Child, Output, Stdio};

/// A version of an app that keeps running.
fn version(cmd: &str, labels: Value) -> String {
    json!({ "id": "web", "cmd": cmd, "cpus": 0.1, "mem": 16, "instances": 2, "labels": labels })
        .to_string()
}

const ONE: &str = "sleep 10001";
const TWO: &str = "sleep 10002";
/// Exit code of a `--wait` that only a person can go on from.
const WAITS: i32 = 5;

fn deploy(node: &Node, definition: &str) -> Output {
    node.bramble_with_input(&["deploy", "-", "--wait"], definition.as_bytes())
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).to_string()
}

/// A node on which version one runs; gives its tasks too.
fn running_one() -> (Node, Vec<String>) {
    let node = Node::start();
    let first = deploy(&node, &version(ONE, json!({})));
    assert!(first.status.success(), "{first:?}");
    let before = ids(&node.running("web", 2));
    (node, before)
}

fn ids(tasks: &[Value]) -> Vec<String> {
    let mut ids: Vec<String> =
        tasks.iter().filter_map(|t| t["id"].as_str()).map(str::to_string).collect();
    ids.sort();
    ids
}

/// What `/v1/bramble/deployments` says of the only app of the only deployment.
fn phase(node: &Node) -> Option<Value> {
    let all = node.get("/v1/bramble/deployments");
    Some(all[0]["apps"][0]["phase"].clone()).filter(|phase| phase.is_string())
}

fn over(node: &Node) {
    eventually("the end of the deployment", || {
        node.get("/v2/deployments").as_array().is_some_and(Vec::is_empty).then_some(())
    });
}

#[test]
fn a_canary_is_promoted() {
    if !can_run_containers("canary") {
        return;
    }
    let (node, before) = running_one();
    let waits = deploy(&node, &version(TWO, json!({ "BRAMBLE_CANARY": "10%" })));
    assert_eq!(waits.status.code(), Some(WAITS), "{waits:?}");
    let said = "/web: canary waits, 1 of 1 new and 2 of 2 old instances ready; go on with `bramble \
                promote web`, go back with `bramble withdraw web`";
    assert!(errors(&waits).contains(said), "{waits:?}");
    let status = node.bramble(&["status"]);
    assert!(String::from_utf8_lossy(&status.stdout).contains(said), "{status:?}");
    let three = ids(&node.running("web", 3));
    assert!(before.iter().all(|id| three.contains(id)), "the old ones go on: {three:?}");
    let locked = node.api("PUT", "/v2/apps/web", Some(r#"{"instances":3}"#));
    assert_eq!(locked.status, 409, "{}", locked.body);

    let done = node.bramble(&["promote", "web", "--wait"]);
    assert_eq!(String::from_utf8_lossy(&done.stdout), "done\n", "{done:?}");
    let after = ids(&node.running("web", 2));
    assert!(before.iter().all(|id| !after.contains(id)), "all of them are new: {after:?}");
    assert!(after.iter().any(|id| three.contains(id)), "the canary stays: {after:?}");
    let again = node.bramble(&["promote", "web"]);
    assert_eq!(again.status.code(), Some(1), "{again:?}");
    assert!(errors(&again).contains("no deployment of web is under way"), "{again:?}");
}

#[test]
fn a_canary_is_withdrawn_and_the_old_tasks_never_notice() {
    if !can_run_containers("withdraw") {
        return;
    }
    let (node, before) = running_one();
    let waits = deploy(&node, &version(TWO, json!({ "BRAMBLE_CANARY": "1" })));
    assert_eq!(waits.status.code(), Some(WAITS), "{waits:?}");
    let done = node.bramble(&["withdraw", "/web", "--wait"]);
    assert_eq!(String::from_utf8_lossy(&done.stdout), "done\n", "{done:?}");
    over(&node);
    assert_eq!(ids(&node.running("web", 2)), before);
    let app = node.get("/v2/apps/web")["app"].clone();
    assert_eq!((&app["cmd"], &app["labels"]), (&json!(ONE), &json!({})));
}

#[test]
fn a_second_set_waits_through_a_restart_of_the_master_and_is_promoted() {
    if !can_run_containers("blue-green") {
        return;
    }
    let (mut node, before) = running_one();
    let labels = json!({ "BRAMBLE_BLUEGREEN": "true", "BRAMBLE_ROLLBACK_AFTER": "5m" });
    let waits = deploy(&node, &version(TWO, labels));
    assert_eq!(waits.status.code(), Some(WAITS), "{waits:?}");
    assert!(errors(&waits).contains("/web: second set waits, 2 of 2 new"), "{waits:?}");
    let all = node.get("/v1/bramble/deployments");
    let id = all[0]["id"].as_str().expect("an id").to_string();
    let app = &all[0]["apps"][0];
    assert_eq!((&app["old"]["live"], &app["new"]["live"]), (&json!(true), &json!(false)), "{all}");
    let both = ids(&node.running("web", 4));
    node.stop(Signal::SIGKILL);
    node.up();
    eventually("the second set to be seen waiting again", || {
        (phase(&node)? == "green-waiting").then_some(())
    });
    assert_eq!(ids(&node.running("web", 4)), both, "nothing was started or stopped");
    node.api("POST", &format!("/v1/bramble/deployments/{id}/promote"), None).expect(200);
    over(&node);
    let after = ids(&node.running("web", 2));
    assert!(after.iter().all(|id| both.contains(id) && !before.contains(id)), "{after:?}");
}

/// `curl -N` on the event stream of a node, into a file.
struct Events {
    curl: Child,
    file: std::path::PathBuf,
}

impl Events {
    fn open(node: &Node) -> Events {
        let file = node.root().join("events");
        let mut curl = node.inside("curl");
        let url = "http://localhost:8080/v2/events";
        curl.args(["-sN", "-H", "Accept: text/event-stream", "-o"]).arg(&file).arg(url);
        let curl = curl.stdin(Stdio::null()).spawn().expect("curl starts");
        let events = Events { curl, file };
        events.wait_for("event_stream_attached");
        events
    }

    fn wait_for(&self, text: &str) {
        eventually(&format!("{text:?} among the events"), || {
            std::fs::read_to_string(&self.file).ok()?.contains(text).then_some(())
        });
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        let _ = self.curl.kill();
        let _ = self.curl.wait();
    }
}

#[test]
fn a_version_that_never_turns_healthy_goes_by_itself() {
    if !can_run_containers("automatic rollback") {
        return;
    }
    let (node, before) = running_one();
    let events = Events::open(&node);
    let sick = |labels: Value| {
        let mut app: Value = serde_json::from_str(&version(TWO, labels)).expect("JSON");
        app["healthChecks"] = json!([{
            "protocol": "COMMAND", "command": { "value": "false" }, "intervalSeconds": 1,
            "timeoutSeconds": 5, "gracePeriodSeconds": 0, "delaySeconds": 0,
            "maxConsecutiveFailures": 0
        }]);
        app.to_string()
    };
    for labels in [
        json!({ "BRAMBLE_ROLLBACK_AFTER": "3s" }),
        json!({ "BRAMBLE_ROLLBACK_AFTER": "3s", "BRAMBLE_CANARY": "1" }),
    ] {
        let failed = deploy(&node, &sick(labels.clone()));
        assert_eq!(failed.status.code(), Some(1), "{labels}: {failed:?}");
        // Which of the two depends on whether the way back is still seen on its way.
        let said = errors(&failed);
        assert!(said.contains("rolled back") || said.contains("taken back"), "{labels}: {said}");
        events.wait_for("The new version of /web was not healthy within 3 s");
        over(&node);
        assert_eq!(ids(&node.running("web", 2)), before, "{labels}: the old ones never stopped");
        let app = node.get("/v2/apps/web")["app"].clone();
        assert_eq!((&app["cmd"], &app["labels"]), (&json!(ONE), &json!({})), "{labels}");
    }
    events.wait_for("event: deployment_failed");
}
