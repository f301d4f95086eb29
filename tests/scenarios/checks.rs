//! Health checks over TLS, and checks while no master answers.

use bramble_tests::{Node, bramble, can_run_containers, eventually};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};

/// A TLS server with a certificate of its own making, in a node's network.
#[derive(Clone)]
struct Secure(Arc<Mutex<Said>>);

#[derive(Default)]
struct Said {
    answer: String,
    asked: Vec<String>,
}

const PORT: u16 = 9443;

impl Secure {
    fn start(node: &Node) -> Secure {
        let said = Arc::new(Mutex::new(Said::default()));
        let shown = Secure(said.clone());
        shown.answer("HTTP/1.1 200 OK\r\n\r\n");
        let listener = listen_inside(node);
        let config = self_signed();
        // It ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (said, config) = (said.clone(), config.clone());
                std::thread::spawn(move || serve(stream, config, &said));
            }
        });
        shown
    }

    fn answer(&self, answer: &str) {
        self.0.lock().expect("no test panics with it").answer = answer.into();
    }

    /// The requests since the last look.
    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().expect("no test panics with it").asked)
    }
}

/// A socket stays in the network in which it was made; so a thread goes there to make it.
fn listen_inside(node: &Node) -> TcpListener {
    let network = File::open(format!("/proc/{}/ns/net", node.network_pid())).expect("a namespace");
    let made = std::thread::spawn(move || {
        setns(network, CloneFlags::CLONE_NEWNET).expect("root may enter it");
        TcpListener::bind(("127.0.0.1", PORT)).expect("the port is free")
    });
    made.join().expect("a listener")
}

fn self_signed() -> Arc<ServerConfig> {
    let made = rcgen::generate_simple_self_signed(vec!["somebody.else".into()]).expect("made");
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into());
    Arc::new(config.expect("the key fits its certificate"))
}

fn serve(stream: TcpStream, config: Arc<ServerConfig>, said: &Mutex<Said>) {
    let Ok(connection) = ServerConnection::new(config) else { return };
    let mut stream = StreamOwned::new(connection, stream);
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return,
        }
    }
    let path = String::from_utf8_lossy(&head).split(' ').nth(1).unwrap_or_default().to_string();
    let answer = {
        let mut said = said.lock().expect("no test panics with it");
        said.asked.push(path);
        said.answer.clone()
    };
    let _ = stream.write_all(answer.as_bytes());
    stream.conn.send_close_notify();
    let _ = stream.flush();
}

fn results(node: &Node, app: &str) -> Vec<Value> {
    let task = node.tasks(app).pop().unwrap_or_default();
    task["healthCheckResults"].as_array().cloned().unwrap_or_default()
}

#[test]
fn https_is_asked_whoever_signed_and_redirects_are_not_followed() {
    if !can_run_containers("https checks") {
        return;
    }
    let node = Node::start();
    let server = Secure::start(&node);
    let check = |protocol: &str, path: &str| {
        json!({ "protocol": protocol, "port": PORT, "path": path, "intervalSeconds": 1,
            "timeoutSeconds": 10, "gracePeriodSeconds": 0, "delaySeconds": 0,
            "maxConsecutiveFailures": 0 })
    };
    let app = json!({ "id": "secure", "cmd": "sleep 10000", "cpus": 0.1, "mem": 16,
        "healthChecks": [check("HTTPS", "/up"), check("MESOS_HTTPS", "/alive")] });
    node.api("POST", "/v2/apps", Some(&app.to_string())).expect(201);
    let both = |alive: bool| {
        let seen = results(&node, "secure");
        (seen.len() == 2 && seen.iter().all(|r| r["alive"] == alive)).then_some(seen)
    };
    eventually("both checks to succeed", || both(true));
    let asked = server.asked();
    assert!(["/up", "/alive"].iter().all(|path| asked.iter().any(|a| a == path)), "{asked:?}");

    server.answer("HTTP/1.1 302 Found\r\nLocation: https://127.0.0.1:9443/elsewhere\r\n\r\n");
    server.asked();
    let mut asked = Vec::new();
    eventually("some more probes", || {
        asked.extend(server.asked());
        (asked.len() >= 6).then_some(())
    });
    assert!(!asked.iter().any(|path| path == "/elsewhere"), "{asked:?}");
    assert!(both(true).is_some(), "a redirect is a success");

    server.answer("HTTP/1.1 500 Oops\r\n\r\n");
    let failed = eventually("both checks to fail", || both(false));
    for result in failed {
        let cause = result["lastFailureCause"].as_str().unwrap_or_default();
        assert!(cause.contains("500"), "{result}");
    }
    assert_eq!(node.tasks("secure").len(), 1, "0 failures never kill");
}

/// A second agent beside a node, in its network.
fn second_agent(node: &Node) -> Child {
    let token = String::from_utf8(node.bramble(&["token"]).stdout).expect("text");
    let mut command = node.inside(&bramble().display().to_string());
    command.args(["agent", "--name", "second", "--join", "127.0.0.1:7443", "--token"]);
    command.arg(token.trim()).arg("--data-dir").arg(node.root().join("second/data"));
    command.arg("--run-dir").arg(node.root().join("second/run"));
    command.arg("--cgroup-parent").arg(format!("{}/second", node.cgroup_parent));
    command
        .args(["--quic", "127.0.0.1:0", "--http", "127.0.0.1:0"])
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    let log = File::create(node.root().join("second.log")).expect("created");
    let agent = command.stderr(log).spawn().expect("an agent starts");
    eventually("the second agent", || {
        let agents = node.get("/v1/bramble/status")["agents"].as_array()?.clone();
        agents.iter().any(|a| a["name"] == "second" && a["connected"] == true).then_some(())
    });
    agent
}

/// The file that the check of a task on the second agent writes to.
fn probes(node: &Node, task: &Value) -> PathBuf {
    let sandboxes = node.root().join("second/data/sandboxes");
    sandboxes.join(task["id"].as_str().expect("an id")).join("probes")
}

fn wait_for_probes(file: &Path, more: usize) {
    let count = || std::fs::read_to_string(file).unwrap_or_default().lines().count();
    let begun = count();
    eventually("the check to go on", || (count() >= begun + more).then_some(()));
}

#[test]
fn a_master_that_hangs_or_dies_fails_no_check() {
    if !can_run_containers("checks without a master") {
        return;
    }
    let mut node = Node::start();
    let mut agent = second_agent(&node);
    // The first failure would be told, the second would kill.
    let app = json!({ "id": "checked", "cmd": "exec busybox httpd -f -p 127.0.0.1:$PORT0 -h /etc",
        "cpus": 0.1, "mem": 16, "constraints": [["hostname", "CLUSTER", "second"]],
        "healthChecks": [
            { "protocol": "COMMAND", "command": { "value": "echo x >> probes" },
              "intervalSeconds": 1, "timeoutSeconds": 20, "gracePeriodSeconds": 0,
              "delaySeconds": 0, "maxConsecutiveFailures": 1 },
            { "protocol": "HTTP", "path": "/passwd", "portIndex": 0, "intervalSeconds": 1,
              "timeoutSeconds": 20, "gracePeriodSeconds": 0, "maxConsecutiveFailures": 1 }] });
    node.api("POST", "/v2/apps", Some(&app.to_string())).expect(201);
    let healthy = |node: &Node| {
        let seen = results(node, "checked");
        (seen.len() == 2 && seen.iter().all(|r| r["alive"] == true)).then_some(seen)
    };
    eventually("a healthy task", || healthy(&node));
    let task = node.running("checked", 1).remove(0);
    let file = probes(&node, &task);

    let master = Pid::from_raw(node.pid());
    kill(master, Signal::SIGSTOP).expect("it lives");
    wait_for_probes(&file, 8);
    kill(master, Signal::SIGCONT).expect("it lives");
    let after = eventually("the task as it was", || healthy(&node));
    assert!(after.iter().all(|r| r["lastFailure"].is_null()), "{after:?}");

    node.stop(Signal::SIGKILL);
    wait_for_probes(&file, 8);
    node.up();
    let after = eventually("the task as it was", || healthy(&node));
    assert!(after.iter().all(|r| r["lastFailure"].is_null()), "{after:?}");
    let same = node.running("checked", 1).remove(0);
    assert_eq!((&same["id"], &same["startedAt"]), (&task["id"], &task["startedAt"]));

    node.api("DELETE", "/v2/apps/checked", None).expect(200);
    eventually("no task", || node.tasks("checked").is_empty().then_some(()));
    kill(Pid::from_raw(agent.id() as i32), Signal::SIGTERM).expect("it lives");
    eventually("the second agent's end", || agent.try_wait().ok().flatten());
}
