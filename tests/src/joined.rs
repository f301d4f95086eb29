//! A further agent that joins a node's cluster: a `bramble agent` with directories of its own.

use crate::{Node, PATIENCE, bramble, eventually, within};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// An agent beside a node. Dropped, it is stopped with all its tasks.
pub struct JoinedAgent {
    pub name: String,
    pub cgroup_parent: String,
    pub run_dir: PathBuf,
    up: Command,
    down: Command,
    process: Child,
}

impl Node {
    /// Start an agent on this machine that joins `self`, in the network of `home`, and wait until
    /// it is connected. `join` is where it finds the cluster.
    pub fn joined_by(&self, home: &Node, name: &str, join: &str, extra: &[&str]) -> JoinedAgent {
        let token = String::from_utf8(self.bramble(&["token"]).stdout).expect("text");
        let root = home.root().join(name);
        std::fs::create_dir_all(&root).expect("a directory");
        let program = bramble().display().to_string();
        let directories = |command: &mut Command| {
            command.arg("--data-dir").arg(root.join("data")).arg("--run-dir").arg(root.join("run"));
            command.arg("--cgroup-parent").arg(format!("{}/{name}", home.cgroup_parent));
        };
        let mut command = home.inside(&program);
        command.args(["agent", "--name", name, "--join", join, "--token", token.trim()]);
        // It may share the network with the node.
        command.args(["--quic", "0.0.0.0:0"]);
        directories(&mut command);
        command.args(extra).stdin(Stdio::null()).stdout(Stdio::null());
        let log = std::fs::OpenOptions::new().create(true).append(true).open(root.join("log"));
        command.stderr(log.expect("a log opens"));
        let mut down = home.inside(&program);
        down.arg("down");
        directories(&mut down);
        let process = command.spawn().expect("an agent starts");
        let agent = JoinedAgent {
            name: name.into(),
            cgroup_parent: format!("{}/{name}", home.cgroup_parent),
            run_dir: root.join("run"),
            up: command,
            down,
            process,
        };
        self.until_connected(name, true);
        agent
    }

    /// Wait until an agent has a session, or has none.
    pub fn until_connected(&self, name: &str, connected: bool) {
        eventually(&format!("{name} connected: {connected}\n{}", self.log()), || {
            let agents = self.get("/v1/bramble/agents").as_array()?.clone();
            let is = |a: &serde_json::Value| a["name"] == name && a["connected"] == connected;
            agents.iter().any(is).then_some(())
        });
    }
}

impl JoinedAgent {
    /// Send a signal to its process alone.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.process.id() as i32), signal).expect("the agent runs");
    }

    /// Kill it at once and wait until it is gone; its containers are left alone.
    pub fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        within(PATIENCE, "the agent's end", || self.process.try_wait().ok().flatten());
    }

    /// Start it again as it was started, without waiting for anything.
    pub fn spawn(&mut self) {
        self.process = self.up.spawn().expect("an agent starts");
    }
}

impl Drop for JoinedAgent {
    fn drop(&mut self) {
        let pid = Pid::from_raw(self.process.id() as i32);
        if kill(pid, Signal::SIGTERM).is_ok() {
            within(PATIENCE, "the agent's end", || self.process.try_wait().ok().flatten());
        }
        let output = self.down.output().expect("bramble down runs");
        if !output.status.success() {
            eprintln!("bramble down: {}", String::from_utf8_lossy(&output.stderr));
        }
    }
}
