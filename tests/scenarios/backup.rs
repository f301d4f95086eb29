//! A cluster from its backup: the same apps, secrets and agents under another master.

use crate::secrets::{PASSWORD, put};
use bramble_tests::{Node, bramble, can_run_containers, eventually, sha256};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

fn app(id: &str, host: &str, command: &str) -> String {
    json!({
        "id": id, "cmd": command, "cpus": 0.1, "mem": 16, "backoffSeconds": 0,
        "constraints": [["hostname", "CLUSTER", host]],
        "env": { "PW": { "secret": "pw" } }, "secrets": { "pw": { "source": "password" } },
    })
    .to_string()
}

fn ids(tasks: &[Value]) -> Vec<String> {
    tasks.iter().filter_map(|task| task["id"].as_str()).map(str::to_string).collect()
}

fn restore(node: &Node, file: &Path, passphrase: &Path, yes: bool) -> Output {
    let mut command = node.inside(&bramble().display().to_string());
    command.arg("restore").arg(file).arg("--passphrase-file").arg(passphrase);
    command.arg("--data-dir").arg(node.data_dir()).arg("--run-dir").arg(node.run_dir());
    command.arg("--name").arg(&node.name);
    if yes {
        command.arg("--yes");
    }
    command.output().expect("bramble restore runs")
}

fn refused(output: &Output, reason: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains(reason), "{reason:?}: {said}");
}

fn good(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What a task wrote, once it has.
fn wrote(node: &Node, task: &str, text: &str) {
    eventually(&format!("{text} of {task}"), || {
        let output = node.bramble(&["logs", task]);
        String::from_utf8_lossy(&output.stdout).contains(text).then_some(())
    });
}

#[test]
fn a_backup_becomes_the_cluster_again() {
    if !can_run_containers("backup") {
        return;
    }
    let mut node = Node::start();
    let second = node.joined_by(&node, "second", "127.0.0.1:7443", &[]);
    put(&node, "password", PASSWORD.as_bytes());
    let tell = "printf %s \"$PW\" | sha256sum; exec sleep 100000";
    let digest = sha256(PASSWORD.as_bytes());
    for (id, host) in [("here", node.name.as_str()), ("there", "second")] {
        node.api("POST", "/v2/apps", Some(&app(id, host, tell))).expect(201);
    }
    let (here, there) = (ids(&node.running("here", 1)), ids(&node.running("there", 1)));
    wrote(&node, &there[0], &digest);
    let token = good(&node.bramble(&["token"]));

    let file = node.root().join("cluster.backup");
    let path = file.display().to_string();
    let (right, wrong) = (node.root().join("right"), node.root().join("wrong"));
    std::fs::write(&right, "correct horse\n").expect("writes");
    std::fs::write(&wrong, "battery staple\n").expect("writes");
    refused(&node.bramble(&["backup", &path]), "--passphrase-file FILE");
    let nowhere = node.root().join("nowhere");
    let astray = nowhere.join("b").display().to_string();
    refused(&node.bramble(&["backup", &astray, "--unencrypted"]), "is no directory");
    assert!(!nowhere.exists());
    let url = ["--url", "http://127.0.0.1:8080", "backup", &path, "--unencrypted"];
    refused(&node.bramble(&url), "on the local socket only");
    assert!(!file.exists());
    let with = right.display().to_string();
    let said = good(&node.bramble(&["backup", &path, "--passphrase-file", &with]));
    assert!(said.contains("holds cluster"), "{said}");
    assert_eq!(std::fs::metadata(&file).expect("there").permissions().mode() & 0o777, 0o600);
    let plain = node.root().join("plain.backup");
    let output = node.bramble(&["backup", &plain.display().to_string(), "--unencrypted"]);
    good(&output);
    assert!(String::from_utf8_lossy(&output.stderr).contains("not encrypted"));
    node.api("POST", "/v2/apps", Some(&app("later", "second", "sleep 1000"))).expect(201);
    node.running("later", 1);

    let running = restore(&node, &file, &right, true);
    refused(&running, "is not empty: it holds");
    good(&node.down());
    std::fs::rename(node.data_dir(), node.root().join("lost")).expect("moves");
    refused(&restore(&node, &file, &right, false), "say --yes");
    refused(&restore(&node, &file, &wrong, true), "another passphrase");
    let said = good(&restore(&node, &file, &right, true));
    assert!(said.contains("agents that may return as they are: second"), "{said}");
    assert!(said.contains("unless a master was removed (rm-node) after"), "{said}");
    assert!(said.contains("`bramble reset-identity --yes`"), "{said}");
    assert!(said.contains(&format!("wiped before they join again: {}", node.name)), "{said}");
    refused(&restore(&node, &file, &right, true), "it holds identity, master");

    node.up();
    assert_eq!(good(&node.bramble(&["token"])), token);
    node.until_connected("second", true);
    // What ran on the agent was never touched; what ran on the lost machine starts on this one.
    assert_eq!(ids(&node.running("there", 1)), there);
    let again = eventually(&format!("another task\n{}", node.log()), || {
        let tasks = node.tasks("here");
        let running = tasks.iter().any(|task| task["state"] == "TASK_RUNNING");
        (tasks.len() == 1 && running && ids(&tasks) != here).then(|| ids(&tasks))
    });
    wrote(&node, &again[0], &digest);
    node.api("GET", "/v2/apps/later", None).expect(404);
    node.api("POST", "/v2/apps", Some(&app("new", "second", tell))).expect(201);
    wrote(&node, &ids(&node.running("new", 1))[0], &digest);
    drop(second);
}

#[test]
fn recovering_is_refused_where_it_makes_no_sense() {
    if !can_run_containers("recover") {
        return;
    }
    let mut node = Node::start();
    let recover = |node: &Node, more: &[&str]| {
        let mut command = node.inside(&bramble().display().to_string());
        command.arg("recover").args(more);
        command.arg("--data-dir").arg(node.data_dir()).arg("--run-dir").arg(node.run_dir());
        command.output().expect("bramble recover runs")
    };
    refused(&recover(&node, &["--yes"]), "owned by a running bramble");
    good(&node.down());
    refused(&recover(&node, &[]), "say --yes");
    refused(&recover(&node, &["--yes"]), "only master already");
    let absent = ["--yes", "--data-dir", "/nonexistent"];
    let mut command = node.inside(&bramble().display().to_string());
    let output = command.arg("recover").args(absent).output().expect("runs");
    refused(&output, "is no node of a cluster");
    node.up();
}

/// A further master in the node's network, with ports of its own. Ended with the test.
struct FurtherMaster {
    data: PathBuf,
    name: String,
    number: u16,
    process: Child,
}

impl FurtherMaster {
    fn start(node: &Node, name: &str, number: u16) -> FurtherMaster {
        let token = good(&node.bramble(&["token"]));
        let root = node.root().join(name);
        std::fs::create_dir_all(&root).expect("a directory");
        let data = root.join("data");
        let name = name.to_string();
        let command = FurtherMaster::command(node, &root, &name, number, Some(token.trim()));
        let process = { command }.spawn().expect("a master starts");
        let mut master = FurtherMaster { data, name, number, process };
        master.knows_all(node, token.trim());
        master
    }

    /// Wait until it knows of the app and the secret. It can show the token once it has the data
    /// key.
    fn knows_all(&mut self, node: &Node, token: &str) {
        let (port, root) = (8080 + self.number, node.root().join(&self.name));
        eventually(&format!("{} knows all", self.name), || {
            if self.process.try_wait().ok().flatten().is_some() {
                // As a service manager does: the cluster may have been busy with the one before.
                let mut again =
                    FurtherMaster::command(node, &root, &self.name, self.number, Some(token));
                self.process = again.spawn().expect("a master starts");
            }
            let shown = ask(node, port, "/v1/bramble/token")?["token"].as_str()? == token;
            let kept = ask(node, port, "/v2/apps/kept")?["app"]["id"] == "/kept";
            let secrets = ask(node, port, "/v1/bramble/secrets")?["secrets"].as_array()?.len();
            (shown && kept && secrets == 1).then_some(())
        });
    }

    fn command(node: &Node, root: &Path, name: &str, number: u16, token: Option<&str>) -> Command {
        let mut command = node.inside(&bramble().display().to_string());
        command.args(["master", "--name", name]);
        if let Some(token) = token {
            command.args(["--join", "127.0.0.1:7443", "--token", token]);
        }
        command.arg("--http").arg(format!("127.0.0.1:{}", 8080 + number));
        command.arg("--quic").arg(format!("127.0.0.1:{}", 7443 + number));
        command.arg("--data-dir").arg(root.join("data")).arg("--run-dir").arg(root.join("run"));
        let log = std::fs::OpenOptions::new().create(true).append(true).open(root.join("log"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log.expect("opens"));
        command
    }

    fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for FurtherMaster {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What a master on `port` of the node's network answers.
fn ask(node: &Node, port: u16, path: &str) -> Option<Value> {
    let url = format!("http://127.0.0.1:{port}{path}");
    let output = node.inside("curl").args(["-sS", "-m", "10", &url]).output().expect("curl runs");
    serde_json::from_slice(&output.stdout).ok()
}

#[test]
fn the_last_of_three_masters_goes_on_alone() {
    if !can_run_containers("recover") {
        return;
    }
    let mut node = Node::start();
    let app = json!({"id": "kept", "cmd": "true", "cpus": 0.1, "mem": 16, "instances": 0});
    node.api("POST", "/v2/apps", Some(&app.to_string())).expect(201);
    put(&node, "password", PASSWORD.as_bytes());
    let mut second = FurtherMaster::start(&node, "second", 1);
    let mut third = FurtherMaster::start(&node, "third", 2);
    third.kill();
    second.kill();
    node.stop(Signal::SIGKILL);

    let mut command = node.inside(&bramble().display().to_string());
    command.args(["recover", "--yes", "--data-dir"]).arg(&third.data);
    let said = good(&command.output().expect("runs"));
    assert!(said.contains("second") && said.contains(&node.name), "{said}");
    let root = node.root().join("third");
    third.process = FurtherMaster::command(&node, &root, "third", 2, None).spawn().expect("starts");
    eventually("the survivor leads with all it knew", || {
        let status = ask(&node, 8082, "/v1/bramble/status")?;
        let kept = ask(&node, 8082, "/v2/apps/kept")?;
        (status["elected"] == true && kept["app"]["id"] == "/kept").then_some(())
    });
    let secrets = ask(&node, 8082, "/v1/bramble/secrets").expect("an answer");
    assert_eq!(secrets["secrets"][0]["name"], "password");
    let app = json!({"id": "new", "cmd": "true", "cpus": 0.1, "mem": 16, "instances": 0});
    let mut curl = node.inside("curl");
    curl.args(["-sSf", "-H", "Content-Type: application/json", "-d", &app.to_string()]);
    good(&curl.arg("http://127.0.0.1:8082/v2/apps").output().expect("curl runs"));
}
