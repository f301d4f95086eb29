//! Clients of others, installed once for these tests alone and run inside a node's network.
//!
//! Never judges an answer: the client and the script that drives it do.

use bramble_tests::{Node, Server, has_tools, succeed};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Longest run of one script, in seconds; each script bounds its own waits far below.
const SCRIPT_SECONDS_MAX: &str = "200";

/// A client that `install.sh` knows how to get.
pub struct Client {
    name: &'static str,
    directory: PathBuf,
}

/// Where this test's own sources lie.
fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance")
}

/// A directory below the target directory, whichever cargo was told to use.
fn place() -> PathBuf {
    let own = std::env::current_exe().expect("a test knows its own path");
    let target = own.ancestors().nth(3).expect("tests lie in target/<profile>/deps");
    target.join("conformance")
}

impl Client {
    /// The PyPI client, for the machine's own Python.
    pub fn python(test: &str) -> Option<Self> {
        Self::install(test, "python", &["python3"])
    }

    /// The npm client, for the machine's own node.
    pub fn npm(test: &str) -> Option<Self> {
        Self::install(test, "npm", &["node", "npm"])
    }

    /// Install it unless it is there; `None`, said loudly, when this machine cannot.
    fn install(test: &str, name: &'static str, tools: &[&str]) -> Option<Self> {
        if !has_tools(test, tools) {
            return None;
        }
        let place = place();
        let mut command = Command::new(sources().join("install.sh"));
        let output = command.arg(name).arg(&place).output().expect("bash runs");
        if output.status.success() {
            return Some(Self { name, directory: place.join(name) });
        }
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "{test} could not install its client, and CI skips nothing: {said}"
        );
        eprintln!("SKIPPED {test}: its client cannot be installed here: {said}");
        None
    }

    /// Run a script of this client against a node; panics with its output when it fails.
    pub fn run(&self, node: &Node, script: &str) {
        let mut command = Server::command(node, "timeout");
        command.args(["--kill-after=5", SCRIPT_SECONDS_MAX]);
        match self.name {
            "python" => command
                .env("PYTHONPATH", &self.directory)
                .env("PYTHONDONTWRITEBYTECODE", "1")
                .arg("python3"),
            _ => command.env("NODE_PATH", self.directory.join("node_modules")).arg("node"),
        };
        command.arg(sources().join(self.name).join(script)).arg("http://localhost:8080");
        // A proxy of the machine's owner is for other hosts.
        command.env("NO_PROXY", "*").env("no_proxy", "*");
        println!("{}", succeed(command));
    }
}
