//! One node: a `bramble up` in a network namespace of its own.

use crate::leftovers::{Leftovers, end_all_of, sweep};
use crate::namespace::anchor;
use crate::process::cgroup_directories;
use crate::{Answer, BusyboxImage, PATIENCE, bramble, eventually, within};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use tempfile::TempDir;

/// Distinguishes nodes of one test process.
static NUMBER: AtomicU32 = AtomicU32::new(1);

/// What to start a node with.
#[derive(Clone, Debug, Default)]
pub struct NodeBuilder {
    name: Option<String>,
    role: Option<String>,
    own_boot: bool,
    arguments: Vec<String>,
    environment: Vec<(String, PathBuf)>,
    data_dir: Option<PathBuf>,
}

/// A node. Dropped, it is stopped and everything it made is removed.
pub struct Node {
    pub name: String,
    pub cgroup_parent: String,
    /// The verb that starts it.
    role: String,
    /// What it runs: the binary under test, if not told otherwise.
    program: PathBuf,
    /// Whether it has a mount namespace with a boot id of its own, so that it can be booted anew.
    own_boot: bool,
    root: TempDir,
    arguments: Vec<String>,
    environment: Vec<(String, PathBuf)>,
    data_dir: PathBuf,
    /// Holds the network namespace while bramble itself is down.
    anchor: Child,
    process: Option<Child>,
}

impl NodeBuilder {
    /// Call it so; else it gets a name that no other node of this machine has.
    pub fn name(mut self, name: &str) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Start it with another verb than `up`.
    pub fn role(mut self, verb: &str) -> Self {
        self.role = Some(verb.into());
        self
    }

    /// Give it a boot id of its own, so that [`Node::reboot`] is one to bramble, too.
    pub fn own_boot(mut self) -> Self {
        self.own_boot = true;
        self
    }

    /// Add an argument of `bramble up`.
    pub fn arg(mut self, argument: &str) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Add a file to the environment of `bramble up`.
    pub fn env(mut self, name: &str, path: &Path) -> Self {
        self.environment.push((name.into(), path.into()));
        self
    }

    /// Keep the node's data elsewhere than in its temporary directory.
    pub fn data_dir(mut self, path: &Path) -> Self {
        self.data_dir = Some(path.into());
        self
    }

    /// Start it and wait until its API answers with a leader.
    pub fn start(self) -> Node {
        let mut node = self.prepare();
        node.up();
        node
    }

    /// Make directories and namespace, but start nothing yet.
    pub fn prepare(self) -> Node {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let unique = format!("t{}-{number}", std::process::id());
        let root = tempfile::Builder::new().prefix("bramble-test-").tempdir();
        let root = root.expect("a temporary directory can be made");
        let anchor = anchor(self.own_boot.then(|| root.path()));
        Node {
            cgroup_parent: format!("/bramble-test-{unique}"),
            name: self.name.unwrap_or(unique),
            role: self.role.unwrap_or_else(|| "up".into()),
            program: bramble(),
            own_boot: self.own_boot,
            data_dir: self.data_dir.unwrap_or_else(|| root.path().join("data")),
            root,
            arguments: self.arguments,
            environment: self.environment,
            anchor,
            process: None,
        }
    }
}

impl Node {
    /// A node with default settings, running.
    pub fn start() -> Self {
        NodeBuilder::default().start()
    }

    pub fn builder() -> NodeBuilder {
        NodeBuilder::default()
    }

    pub fn data_dir(&self) -> PathBuf {
        self.data_dir.clone()
    }

    pub fn run_dir(&self) -> PathBuf {
        self.root.path().join("run")
    }

    /// A directory of the test's own, removed with the node.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// Standard error of every `bramble up` of this node so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.root.path().join("log")).unwrap_or_default()
    }

    /// Standard output of every `bramble up` of this node so far.
    pub fn banner(&self) -> String {
        std::fs::read_to_string(self.root.path().join("banner")).unwrap_or_default()
    }

    /// A command inside the node's network.
    pub fn inside(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.anchor.id()));
        if self.own_boot {
            command.arg(format!("--mount=/proc/{}/ns/mnt", self.anchor.id()));
        }
        command.arg("--").arg(program);
        command
    }

    /// A process whose network namespace is the node's.
    pub fn network_pid(&self) -> u32 {
        self.anchor.id()
    }

    /// The `bramble up` command of this node, not yet started.
    pub fn up_command(&self) -> Command {
        let mut command = self.inside(&self.program.display().to_string());
        command.arg(&self.role).arg("--name").arg(&self.name);
        command.arg("--data-dir").arg(self.data_dir()).arg("--run-dir").arg(self.run_dir());
        command.arg("--cgroup-parent").arg(&self.cgroup_parent);
        command.args(&self.arguments).stdin(Stdio::null());
        command.envs(self.environment.iter().map(|(name, path)| (name, path)));
        command
    }

    /// Start bramble and wait until its API answers with a leader.
    pub fn up(&mut self) {
        self.spawn();
        eventually(&format!("a leader\n{}", self.root.path().join("log").display()), || {
            if let Some(process) = &mut self.process
                && let Ok(Some(status)) = process.try_wait()
            {
                panic!("bramble up ended with {status}:\n{}", self.log());
            }
            let answer = self.try_api("GET", "/v2/leader", None)?;
            (answer.status == 200).then_some(())
        });
    }

    /// Start bramble without waiting for it.
    pub fn spawn(&mut self) {
        self.spawn_with(&[]);
    }

    /// Like [`Node::spawn`], with arguments for this start alone.
    pub fn spawn_with(&mut self, arguments: &[&str]) {
        let open = |name: &str| {
            let path = self.root.path().join(name);
            std::fs::OpenOptions::new().create(true).append(true).open(path).expect("a log opens")
        };
        let mut command = self.up_command();
        command.args(arguments).stdout(open("banner")).stderr(open("log"));
        self.process = Some(command.spawn().expect("starts"));
    }

    /// Run another version of bramble from its next start on.
    pub fn set_program(&mut self, program: &Path) {
        self.program = program.into();
    }

    /// Change the environment of the next `bramble up`.
    pub fn set_env(&mut self, name: &str, value: &str) {
        self.environment.retain(|(known, _)| known != name);
        self.environment.push((name.into(), value.into()));
    }

    /// Pid of the running `bramble up`.
    pub fn pid(&self) -> i32 {
        self.process.as_ref().expect("the node is up").id() as i32
    }

    /// Send a signal to bramble and wait until it is gone.
    pub fn stop(&mut self, signal: Signal) {
        let Some(mut process) = self.process.take() else { return };
        kill(Pid::from_raw(process.id() as i32), signal).expect("the process exists");
        within(PATIENCE, "the end of bramble", || process.try_wait().ok().flatten());
    }

    /// End this node as a power cut does: bramble, executors and tasks, none of which can say a
    /// word. What only memory holds is lost; a lab's cable must be cut before.
    pub fn power_off(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
        end_all_of(self.root.path());
        sweep(&self.cgroup_parent);
        let _ = self.anchor.kill();
        let _ = self.anchor.wait();
        let _ = std::fs::remove_dir_all(self.run_dir());
    }

    /// After [`Node::power_off`]: a kernel that knows nothing yet. Starts no bramble.
    pub fn reboot(&mut self) {
        self.anchor = anchor(self.own_boot.then(|| self.root.path()));
    }

    /// Set a variable for later starts.
    pub fn set_variable(&mut self, name: &str, value: &str) {
        self.environment.retain(|(known, _)| known != name);
        self.environment.push((name.into(), value.into()));
    }

    /// Whether the bramble process lives.
    pub fn is_up(&mut self) -> bool {
        self.process.as_mut().is_some_and(|process| matches!(process.try_wait(), Ok(None)))
    }

    /// Run `bramble down` for this node; gives its output.
    pub fn down(&mut self) -> Output {
        let mut command = self.inside(&self.program.display().to_string());
        command.arg("down").arg("--data-dir").arg(self.data_dir());
        command.arg("--run-dir").arg(self.run_dir());
        command.arg("--cgroup-parent").arg(&self.cgroup_parent);
        let output = command.output().expect("bramble down runs");
        if let Some(mut process) = self.process.take() {
            within(PATIENCE, "the end of bramble", || process.try_wait().ok().flatten());
        }
        output
    }

    /// Run `bramble uninstall` for this node with more arguments; gives its output.
    pub fn uninstall(&mut self, arguments: &[&str]) -> Output {
        let mut command = self.inside(&self.program.display().to_string());
        command.arg("uninstall").arg("--data-dir").arg(self.data_dir());
        command.arg("--run-dir").arg(self.run_dir());
        command.arg("--cgroup-parent").arg(&self.cgroup_parent);
        let output = command.args(arguments).stdin(Stdio::null()).output();
        let output = output.expect("bramble uninstall runs");
        if output.status.success()
            && let Some(mut process) = self.process.take()
        {
            within(PATIENCE, "the end of bramble", || process.try_wait().ok().flatten());
        }
        output
    }

    /// Run a client verb on this node; gives its output.
    pub fn bramble(&self, arguments: &[&str]) -> Output {
        self.verb(arguments).output().expect("a verb runs")
    }

    /// Like [`Node::bramble`], with something on its standard input.
    pub fn bramble_with_input(&self, arguments: &[&str], input: &[u8]) -> Output {
        let mut command = self.verb(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("a verb starts");
        child.stdin.take().expect("it has an input").write_all(input).expect("it reads");
        child.wait_with_output().expect("a verb ends")
    }

    /// Load an image into the node.
    pub fn load(&self, image: &BusyboxImage) {
        let archive = image.save(self.root());
        let output = self.bramble(&["load", &archive.display().to_string()]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// A client verb, not yet started.
    pub fn verb(&self, arguments: &[&str]) -> Command {
        let mut command = self.inside(&self.program.display().to_string());
        command.arg("--run-dir").arg(self.run_dir()).args(arguments).env_remove("BRAMBLE_URL");
        command
    }

    /// Call the API over TCP from inside the node; panics when nothing answers.
    pub fn api(&self, method: &str, path: &str, body: Option<&str>) -> Answer {
        self.try_api(method, path, body)
            .unwrap_or_else(|| panic!("{method} {path}: no answer\n{}", self.log()))
    }

    /// Like [`Node::api`]; `None` when nothing answers.
    pub fn try_api(&self, method: &str, path: &str, body: Option<&str>) -> Option<Answer> {
        let mut arguments = vec!["-sS", "-i", "-m", "30", "-X", method];
        if let Some(body) = body {
            arguments.extend(["-H", "Content-Type: application/json", "--data-binary", body]);
        }
        let url = format!("http://localhost:8080{path}");
        arguments.push(&url);
        let output = self.inside("curl").args(arguments).output().expect("curl runs");
        let text = String::from_utf8_lossy(&output.stdout);
        (output.status.success() || text.starts_with("HTTP/")).then(|| Answer::parse(&text))
    }

    /// `GET` something that must be there.
    pub fn get(&self, path: &str) -> Value {
        self.api("GET", path, None).expect(200).json()
    }

    /// Tasks of an app as the API lists them.
    pub fn tasks(&self, app: &str) -> Vec<Value> {
        let answer = self.api("GET", &format!("/v2/apps/{app}/tasks"), None);
        if answer.status == 404 {
            return Vec::new();
        }
        answer.expect(200).json()["tasks"].as_array().cloned().unwrap_or_default()
    }

    /// Wait until exactly `count` tasks of an app run; gives them.
    pub fn running(&self, app: &str, count: usize) -> Vec<Value> {
        eventually(&format!("{count} running tasks of {app}\n{}", self.log()), || {
            let tasks = self.tasks(app);
            let running = tasks.iter().filter(|task| task["state"] == "TASK_RUNNING").count();
            (running == count && tasks.len() == count).then_some(tasks)
        })
    }

    /// What tasks of this node left on the machine now.
    pub fn leftovers(&self) -> Leftovers {
        Leftovers::of(&self.cgroup_parent, self.root.path(), &self.run_dir())
    }

    /// The cgroups that this node made for itself, with those of its tasks.
    pub fn cgroups(&self) -> Vec<PathBuf> {
        cgroup_directories(&self.cgroup_parent)
    }

    /// Wait until no trace of any task is left.
    pub fn wait_clean(&self) {
        let mut last = Leftovers::default();
        let start = std::time::Instant::now();
        while start.elapsed() < PATIENCE {
            last = self.leftovers();
            if last.is_empty() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        panic!("still on the machine: {last:?}\n{}", self.log());
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if self.process.is_some() || !self.leftovers().is_empty() {
            let output = self.down();
            if !output.status.success() {
                eprintln!("bramble down: {}", String::from_utf8_lossy(&output.stderr));
            }
        }
        sweep(&self.cgroup_parent);
        let _ = self.anchor.kill();
        let _ = self.anchor.wait();
        if std::thread::panicking() {
            eprintln!("log of {}:\n{}", self.name, self.log());
        }
    }
}
