//! The event stream of the real binary, as `curl -N` shows it.

use bramble_tests::{Node, PATIENCE, can_run_containers};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};

/// `curl -N` on the event stream of a node.
struct Listener {
    curl: Child,
    events: Receiver<Value>,
}

impl Listener {
    fn open(node: &Node, query: &str) -> Listener {
        let url = format!("http://localhost:8080/v2/events{query}");
        let mut curl = node.inside("curl");
        curl.args(["-sN", "-H", "Accept: text/event-stream", &url]).stdout(Stdio::piped());
        let mut curl = curl.spawn().expect("curl starts");
        let output = BufReader::new(curl.stdout.take().expect("its output"));
        let (sender, events) = channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let Some(data) = line.strip_prefix("data: ") else { continue };
                let event = serde_json::from_str(data).expect("one line of JSON");
                if sender.send(event).is_err() {
                    return;
                }
            }
        });
        let listener = Listener { curl, events };
        assert_eq!(listener.next()["eventType"], "event_stream_attached");
        listener
    }

    fn next(&self) -> Value {
        self.events.recv_timeout(PATIENCE).expect("an event in time")
    }

    /// Events up to the end of a deployment.
    fn deployment(&self) -> Vec<Value> {
        let mut events = vec![self.next()];
        while events.last().is_some_and(|event| event["eventType"] != "deployment_success") {
            events.push(self.next());
        }
        events
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = self.curl.kill();
        let _ = self.curl.wait();
    }
}

/// Type of an event, with what tells it from others of its type.
fn short(event: &Value) -> String {
    let details = ["taskStatus", "condition"].iter().filter_map(|key| event[*key].as_str());
    let action = event["currentStep"]["actions"][0]["action"].as_str();
    let kind = event["eventType"].as_str().expect("a type");
    let mut text = kind.trim_end_matches("_event").to_string();
    for detail in details.chain(action) {
        text = format!("{text} {detail}");
    }
    text
}

fn shorts(events: &[Value]) -> Vec<String> {
    events.iter().map(short).collect()
}

/// What is told of one instance, in order.
fn of_instance(events: &[Value], instance: &str) -> Vec<String> {
    let about = |event: &&Value| {
        event["instanceId"] == instance
            || event["taskId"].as_str().is_some_and(|task| task.starts_with(instance))
    };
    events.iter().filter(about).map(short).collect()
}

fn scheduled(events: &[Value]) -> String {
    let found = events.iter().find(|event| event["condition"] == "Scheduled");
    found.expect("a new instance")["instanceId"].as_str().expect("its id").to_string()
}

const LIFE: [&str; 5] = [
    "instance_changed Scheduled",
    "status_update TASK_STAGING",
    "instance_changed Staging",
    "status_update TASK_RUNNING",
    "instance_changed Running",
];
const DEATH: [&str; 2] = ["status_update TASK_KILLED", "instance_changed Killed"];

/// Leave out a state that a task may pass too quickly for its agent to report.
fn without_starting(events: Vec<String>) -> Vec<String> {
    let starting = ["status_update TASK_STARTING", "instance_changed Starting"];
    events.into_iter().filter(|event| !starting.contains(&event.as_str())).collect()
}

#[test]
fn a_whole_life_is_told_in_order() {
    if !can_run_containers("events") {
        return;
    }
    let node = Node::start();
    let listener = Listener::open(&node, "?plan-format=light&x=y");
    let app = r#"{"id":"web","cmd":"sleep 10000","cpus":0.1,"mem":16,"instances":1}"#;
    node.api("POST", "/v2/apps", Some(app)).expect(201);
    let created = listener.deployment();
    let mut want = vec![
        "api_post",
        "group_change_success",
        "deployment_info StartApplication",
        "deployment_step_success StartApplication",
        "deployment_info ScaleApplication",
    ];
    want.extend(LIFE);
    want.extend(["deployment_step_success ScaleApplication", "deployment_success"]);
    assert_eq!(without_starting(shorts(&created)), want);
    let task = node.running("web", 1).remove(0);
    let running = created.iter().find(|e| e["taskStatus"] == "TASK_RUNNING").expect("it runs");
    for (field, of_task) in [
        ("taskId", "id"),
        ("slaveId", "slaveId"),
        ("host", "host"),
        ("ports", "ports"),
        ("appId", "appId"),
        ("version", "version"),
        ("ipAddresses", "ipAddresses"),
    ] {
        assert_eq!(running[field], task[of_task], "{field}");
    }
    assert_eq!(running["ports"].as_array().map(Vec::len), Some(1));

    node.api("PUT", "/v2/apps/web", Some(r#"{"instances":2}"#)).expect(200);
    let scaled = listener.deployment();
    let mut want = vec!["api_post", "group_change_success", "deployment_info ScaleApplication"];
    want.extend(LIFE);
    want.extend(["deployment_step_success ScaleApplication", "deployment_success"]);
    assert_eq!(without_starting(shorts(&scaled)), want);

    // A killed task and its replacement are told side by side, each in its own order.
    let victim = task["id"].as_str().expect("id");
    let old = victim.split("._app.").next().expect("an instance").to_string();
    node.api("DELETE", &format!("/v2/apps/web/tasks/{victim}"), None).expect(200);
    let mut killed = Vec::new();
    while ![DEATH[1], LIFE[4]].iter().all(|end| killed.iter().any(|e| short(e) == *end)) {
        killed.push(listener.next());
    }
    assert_eq!(of_instance(&killed, &old), DEATH);
    assert_eq!(without_starting(of_instance(&killed, &scheduled(&killed))), LIFE);

    node.running("web", 2);
    node.api("DELETE", "/v2/apps/web", None).expect(200);
    let removed = listener.deployment();
    let want = [
        "group_change_success",
        "deployment_info StopApplication",
        DEATH[0],
        DEATH[1],
        DEATH[0],
        DEATH[1],
        "app_terminated",
        "deployment_step_success StopApplication",
        "deployment_success",
    ];
    assert_eq!(shorts(&removed), want);
}

#[test]
fn subscriptions_outlive_the_master() {
    let mut node = Node::start();
    let path = "/v2/eventSubscriptions";
    node.api("POST", &format!("{path}?callbackUrl=http://127.0.0.1:9/hook"), None).expect(200);
    node.stop(Signal::SIGKILL);
    node.up();
    assert_eq!(node.get(path)["callbackUrls"][0], "http://127.0.0.1:9/hook");
    let listener =
        Listener::open(&node, "?event_type=event_stream_attached&event_type=unsubscribe_event");
    node.api("DELETE", &format!("{path}?callbackUrl=http://127.0.0.1:9/hook"), None).expect(200);
    assert_eq!(listener.next()["eventType"], "unsubscribe_event");
    assert_eq!(node.get(path)["callbackUrls"].as_array().map(Vec::len), Some(0));
}
