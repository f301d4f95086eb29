//! Another machine joins as an agent: found by token and address, then given work.

use bramble_tests::{Node, bramble, can_run_containers, eventually};
use std::process::Stdio;

#[test]
fn an_agent_joins_with_the_token_and_a_wrong_one_stays_out() {
    if !can_run_containers("joining") {
        return;
    }
    let node = Node::start();
    let token =
        String::from_utf8(node.bramble(&["token"]).stdout).expect("text").trim().to_string();
    let start = |name: &str, token: &str| {
        let mut command = node.inside(&bramble().display().to_string());
        command.args(["agent", "--name", name, "--join", "127.0.0.1:7443", "--token", token]);
        command.arg("--data-dir").arg(node.root().join(name).join("data"));
        command.arg("--run-dir").arg(node.root().join(name).join("run"));
        command.arg("--cgroup-parent").arg(format!("{}/{name}", node.cgroup_parent));
        command.args(["--quic", "127.0.0.1:0", "--http", "127.0.0.1:0"]);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(
            std::fs::File::create(node.root().join(format!("{name}.log"))).expect("created"),
        );
        command.spawn().expect("an agent starts")
    };
    let digits = if token.ends_with("00") { "11" } else { "00" };
    let wrong = format!("{}{digits}", &token[..token.len() - 2]);
    let mut stranger = start("stranger", &wrong);
    let status = eventually("the stranger's end", || stranger.try_wait().ok().flatten());
    assert!(!status.success());
    let mut second = start("second", &token);
    eventually("the second agent", || {
        let agents = node.get("/v1/bramble/status")["agents"].as_array()?.clone();
        agents.iter().any(|a| a["name"] == "second" && a["connected"] == true).then_some(())
    });
    let app = r#"{"id":"there","cmd":"sleep 1000","cpus":0.1,"mem":16,"constraints":[["hostname","CLUSTER","second"]]}"#;
    node.api("POST", "/v2/apps", Some(app)).expect(201);
    assert_eq!(node.running("there", 1)[0]["host"], "second");
    node.api("DELETE", "/v2/apps/there", None).expect(200);
    eventually("no task", || node.tasks("there").is_empty().then_some(()));
    let pid = nix::unistd::Pid::from_raw(second.id() as i32);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("it lives");
    eventually("the second agent's end", || second.try_wait().ok().flatten());
}

#[test]
fn a_node_that_cannot_run_is_not_admitted_first() {
    if !can_run_containers("joining with another's run directory") {
        return;
    }
    let node = Node::start();
    // As a node leaves it that was killed.
    let lodging = node.root().join("lodging");
    std::fs::create_dir_all(lodging.join("tasks/web.1")).expect("made");
    std::fs::write(lodging.join("node"), "another").expect("written");
    let token = String::from_utf8(node.bramble(&["token"]).stdout).expect("text");
    let mut command = node.inside(&bramble().display().to_string());
    command.args(["agent", "--name", "lodger", "--join", "127.0.0.1:7443", "--token"]);
    command.arg(token.trim()).arg("--run-dir").arg(&lodging);
    command.arg("--data-dir").arg(node.root().join("lodger"));
    command.args(["--quic", "127.0.0.1:0", "--http", "127.0.0.1:0"]);
    let output = command.output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("holds tasks of another node") && said.contains("--run-dir"), "{said}");
    let agents = node.get("/v1/bramble/status")["agents"].as_array().cloned().unwrap_or_default();
    assert!(agents.iter().all(|agent| agent["name"] != "lodger"), "{agents:?}");
    let told = String::from_utf8(node.bramble(&["agents"]).stdout).expect("text");
    assert!(!told.contains("lodger"), "{told}");
    assert!(!node.root().join("lodger/identity/node.crt").exists());
    assert!(lodging.join("tasks/web.1").exists());
}

/// Join two nodes' networks by a cable and give each an address.
pub fn connect(a: &Node, b: &Node) {
    for (node, other, address) in [(a, b, "10.99.0.1/24"), (b, a, "10.99.0.2/24")] {
        if address.starts_with("10.99.0.1") {
            let mut link = node.inside("ip");
            link.args(["link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns"]);
            let status = link.arg(other.network_pid().to_string()).status().expect("ip runs");
            assert!(status.success());
        }
        for arguments in
            [&["addr", "add", address, "dev", "cable"][..], &["link", "set", "cable", "up"]]
        {
            assert!(node.inside("ip").args(arguments).status().expect("ip runs").success());
        }
    }
}

#[test]
fn an_agent_finds_its_cluster_with_nothing_but_the_token() {
    if !can_run_containers("mDNS") {
        return;
    }
    let mut first = Node::builder().prepare();
    let second = Node::builder().prepare();
    connect(&first, &second);
    first.up();
    let token =
        String::from_utf8(first.bramble(&["token"]).stdout).expect("text").trim().to_string();
    let mut command = second.inside(&bramble().display().to_string());
    command.args(["agent", "--name", "far", "--token", &token]);
    command.arg("--data-dir").arg(second.data_dir()).arg("--run-dir").arg(second.run_dir());
    command.arg("--cgroup-parent").arg(&second.cgroup_parent);
    let log = std::fs::File::create(second.root().join("log")).expect("created");
    let mut agent =
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().expect("starts");
    eventually(&format!("the far agent\n{}", second.log()), || {
        let agents = first.get("/v1/bramble/status")["agents"].as_array()?.clone();
        agents.iter().any(|a| a["name"] == "far" && a["connected"] == true).then_some(())
    });
    let pid = nix::unistd::Pid::from_raw(agent.id() as i32);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("it lives");
    eventually("the far agent's end", || agent.try_wait().ok().flatten());
}

#[test]
fn an_address_without_a_token_founds_nothing() {
    if !can_run_containers("--join alone") {
        return;
    }
    let node = Node::builder().prepare();
    for (arguments, wanted) in [
        (&["--join", "127.0.0.1:7443"][..], &["--join 127.0.0.1:7443 needs --token"][..]),
        (&["--token", ""], &["token (flag) is empty", "--token"]),
    ] {
        let output = node.up_command().args(arguments).output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        for word in wanted.iter().chain([&"`bramble token`"]) {
            assert!(said.contains(word), "{word:?} is missing: {said}");
        }
        let begun = ["identity/node.crt", "master"];
        assert_eq!(begun.map(|name| node.data_dir().join(name).exists()), [false; 2]);
    }
}
