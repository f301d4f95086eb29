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
        command.args(["--quic", "127.0.0.1:0"]);
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
