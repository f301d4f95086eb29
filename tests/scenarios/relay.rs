//! Any node answers: everything through an agent that is no master, and what it says once there
//! is none to ask.

use crate::joining::connect;
use bramble_tests::{BusyboxImage, JoinedAgent, Node, bramble, can_run_containers, eventually};
use nix::sys::signal::Signal;
use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};

const APP: &str = r#"{"id":"there","cmd":"echo begun; sleep 100000",
    "cpus":0.1,"mem":16,"constraints":[["hostname","CLUSTER","far"]]}"#;

const HERE: &str = r#"{"id":"here","cmd":"sleep 100000","cpus":0.1,"mem":16}"#;

/// A master on one machine, an agent on another.
struct Two {
    master: Node,
    far: Node,
    agent: Option<JoinedAgent>,
}

impl Two {
    fn start() -> Two {
        let (mut master, far) = (Node::builder().prepare(), Node::builder().prepare());
        connect(&master, &far);
        master.up();
        let http = ["--http", "0.0.0.0:8080"];
        let agent = Some(master.joined_by(&far, "far", "10.99.0.1:7443", &http));
        Two { master, far, agent }
    }

    /// A client verb on the agent's machine, not yet started.
    fn command(&self, arguments: &[&str]) -> Command {
        let agent = self.agent.as_ref().expect("it runs");
        let mut command = self.far.inside(&bramble().display().to_string());
        command.arg("--run-dir").arg(&agent.run_dir).args(arguments).env_remove("BRAMBLE_URL");
        command
    }

    fn verb(&self, arguments: &[&str]) -> Output {
        let output = self.command(arguments).output().expect("a verb runs");
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        output
    }
}

impl Drop for Two {
    fn drop(&mut self) {
        // Before the network that it runs in.
        drop(self.agent.take());
    }
}

/// The lines that a command prints, as they come.
fn lines(command: &mut Command) -> (std::process::Child, Receiver<String>) {
    let mut child = command.stdout(Stdio::piped()).spawn().expect("it starts");
    let output = BufReader::new(child.stdout.take().expect("its output"));
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in output.lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    (child, receiver)
}

fn until(lines: &Receiver<String>, what: &str) {
    loop {
        let line = lines.recv_timeout(bramble_tests::PATIENCE);
        if line.unwrap_or_else(|_| panic!("{what} was not told")).contains(what) {
            return;
        }
    }
}

#[test]
fn an_agent_answers_for_the_cluster() {
    if !can_run_containers("the relay") {
        return;
    }
    let two = Two::start();
    let far = &two.far;
    assert_eq!(far.api("GET", "/ping", None).expect(200).body, "pong");
    let mut curl = far.inside("curl");
    curl.args(["-sN", "-H", "Accept: text/event-stream", "http://localhost:8080/v2/events"]);
    let (mut listening, events) = lines(&mut curl);
    until(&events, "event_stream_attached");

    let made = far.api("POST", "/v2/apps", Some(&APP.replace('\n', " "))).expect(201);
    assert_eq!(made.header("location"), Some("http://localhost:8080/v2/apps/there"));
    assert_eq!(made.header("x-marathon-via"), Some("1.1 far:8080"));
    let leader = made.header("x-marathon-leader").expect("a leader");
    assert_eq!(leader, format!("http://{}:8080", two.master.name));
    assert_eq!(far.running("there", 1)[0]["host"], "far");
    until(&events, "deployment_success");
    listening.kill().expect("it runs");
    listening.wait().expect("it ends");
    // What is of this node is answered here.
    let config = far.get("/config");
    assert_eq!(config["name"]["value"], "far");

    let (mut follow, log) = lines(&mut two.command(&["logs", "-f", "there"]));
    until(&log, "begun");
    follow.kill().expect("it runs");
    follow.wait().expect("it ends");
    let said = two.verb(&["exec", "there", "--", "echo", "hello"]);
    assert_eq!(String::from_utf8_lossy(&said.stdout), "hello\n");
    let failed = two.command(&["exec", "there", "--", "sh", "-c", "exit 7"]).output();
    assert_eq!(failed.expect("a verb runs").status.code(), Some(7));

    let image = BusyboxImage::new("relayed:1", &["sleep", "1000"]).save(far.root());
    two.verb(&["load", &image.display().to_string()]);
    let images = two.verb(&["images"]);
    assert!(String::from_utf8_lossy(&images.stdout).contains("relayed:1"));
    assert!(two.verb(&["token"]).stdout.starts_with(b"BRAMBLE-1-"));
    far.api("DELETE", "/v2/apps/there", None).expect(200);
    eventually("no task", || far.tasks("there").is_empty().then_some(()));
}

#[test]
fn without_a_master_an_agent_tells_of_its_own_tasks() {
    if !can_run_containers("the relay alone") {
        return;
    }
    let mut two = Two::start();
    let app = APP.replace('\n', " ");
    two.far.api("POST", "/v2/apps", Some(&app)).expect(201);
    let before = two.far.running("there", 1).remove(0);

    two.master.stop(Signal::SIGKILL);
    let answer = two.far.api("GET", "/v2/tasks", None).expect(200);
    assert_eq!(answer.header("x-bramble-stale"), Some("true"));
    assert!(answer.header("warning").is_some_and(|w| w.starts_with("110 - ")), "{answer:?}");
    let tasks = answer.json()["tasks"].as_array().cloned().expect("a list");
    assert_eq!(tasks.len(), 1);
    for key in ["id", "appId", "host", "slaveId", "state", "version", "ports"] {
        assert_eq!(tasks[0][key], before[key], "{key}");
    }
    assert_eq!(two.far.tasks("there").len(), 1);
    assert_eq!(two.far.api("GET", "/ping", None).expect(200).body, "pong");
    for (method, path, body) in [
        ("GET", "/v2/apps", None),
        ("POST", "/v2/apps", Some(app.as_str())),
        ("GET", "/v2/apps/other/tasks", None),
    ] {
        let refused = two.far.api(method, path, body).expect(503);
        let message = refused.json()["message"].as_str().unwrap_or_default().to_string();
        assert_eq!(message, "the one master known to this node does not answer", "{method} {path}");
        assert_eq!(refused.header("retry-after"), Some("1"));
    }

    let output = two.verb(&["ps"]);
    let id = before["id"].as_str().expect("an id");
    assert!(String::from_utf8_lossy(&output.stdout).contains(id), "{output:?}");
    let warned = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(warned.contains("the tasks of this node alone; this may be out of date"), "{warned}");
    for verb in [&["status"][..], &["apps"], &["logs", "there"], &["exec", "there", "--", "true"]] {
        let output = two.command(verb).output().expect("a verb runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains("does not answer"), "{verb:?}: {said}");
        assert!(said.contains("`bramble ps` shows the tasks"), "{verb:?}: {said}");
    }

    two.master.up();
    eventually("a fresh answer", || {
        let answer = two.far.api("GET", "/v2/tasks", None);
        let fresh = answer.status == 200 && answer.header("x-bramble-stale").is_none();
        (fresh && answer.json()["tasks"][0]["id"] == before["id"]).then_some(())
    });
    two.far.api("DELETE", "/v2/apps/there", None).expect(200);
    eventually("no task", || two.far.tasks("there").is_empty().then_some(()));
}

#[test]
fn a_master_that_does_not_lead_passes_everything_on() {
    if !can_run_containers("the relay of masters") {
        return;
    }
    let mut first = Node::builder().prepare();
    first.up();
    let token = String::from_utf8(first.bramble(&["token"]).stdout).expect("text");
    // The second of two is no voter: the first stays the only one who can lead.
    let builder = Node::builder().arg("--token").arg(token.trim());
    let mut second = builder.arg("--join").arg("10.99.0.1:7443").prepare();
    connect(&first, &second);
    second.up();
    let made = second.api("POST", "/v2/apps", Some(HERE)).expect(201);
    let via = format!("1.1 {}:8080", second.name);
    assert_eq!(made.header("x-marathon-via"), Some(via.as_str()));
    let leader = format!("http://{}:8080", first.name);
    assert_eq!(made.header("x-marathon-leader"), Some(leader.as_str()));
    // What one node acknowledged, every node shows at once.
    assert_eq!(first.get("/v2/apps/here")["app"]["id"], "/here");
    assert_eq!(second.get("/v2/apps/here")["app"]["id"], "/here");
    second.running("here", 1);
    let said = second.bramble(&["exec", "here", "--", "echo", "hello"]);
    assert_eq!(String::from_utf8_lossy(&said.stdout), "hello\n", "{said:?}");
    eventually("the second master's own copy", || {
        let answer = second.api("GET", "/v1/bramble/agents", None).expect(200).json();
        let agents = answer.as_array().cloned().unwrap_or_default();
        (agents.iter().filter(|agent| agent["connected"] == true).count() == 2).then_some(())
    });

    first.stop(Signal::SIGKILL);
    let list = second.api("GET", "/v2/apps", None).expect(200);
    assert_eq!(list.header("x-bramble-stale"), Some("true"), "{list:?}");
    assert_eq!(list.json()["apps"][0]["id"], "/here");
    let refused = eventually("a refusal", || {
        let answer = second.api("DELETE", "/v2/apps/here", None);
        (answer.status == 503).then_some(answer)
    });
    let message = refused.json()["message"].as_str().unwrap_or_default().to_string();
    assert_eq!(message, "no leader: 1 of 2 masters answers");
    first.up();
    eventually("a leader again", || {
        let answer = second.api("GET", "/v2/apps", None);
        (answer.status == 200 && answer.header("x-bramble-stale").is_none()).then_some(())
    });
    second.api("DELETE", "/v2/apps/here", None).expect(200);
    eventually("no task", || second.tasks("here").is_empty().then_some(()));
}
