//! A registry that others wrote, Debian's `docker-registry`, and `skopeo` to fill it.
//!
//! Both run inside a node's network namespace, so that no port of the machine is taken; what the
//! registry holds lies in the node's directory. Never judges what bramble made of it.

use crate::{Node, eventually};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// What these tests need of the machine, all of it out of Debian's packages.
const TOOLS: [&str; 5] = ["docker-registry", "skopeo", "htpasswd", "openssl", "zstd"];

/// How a registry is protected.
#[derive(Clone, Debug, Default)]
pub struct Protection {
    /// Users and bcrypt hashes, as `htpasswd` writes them.
    pub users: Option<PathBuf>,
    /// Certificate and key, PEM.
    pub certificate: Option<(PathBuf, PathBuf)>,
}

/// A running registry. Dropped, it is killed.
pub struct RunningRegistry {
    /// `host:port`, as image references name it.
    pub address: String,
    process: Child,
}

/// Whether the software of others is here. With `CI=true` it must be.
pub fn has_registry_tools(test: &str) -> bool {
    let path = std::env::var("PATH").unwrap_or_default();
    let here = |tool: &str| path.split(':').any(|dir| Path::new(dir).join(tool).exists());
    let missing: Vec<&str> = TOOLS.into_iter().filter(|tool| !here(tool)).collect();
    if missing.is_empty() {
        return true;
    }
    let missing = missing.join(", ");
    assert!(
        std::env::var("CI").as_deref() != Ok("true"),
        "{test} needs {missing}, and CI skips nothing"
    );
    eprintln!("SKIPPED {test}: this machine has no {missing} (`make test` installs them)");
    false
}

impl RunningRegistry {
    /// Start a registry at `address` inside the node's network and wait until it answers.
    pub fn start(node: &Node, address: &str, protection: &Protection) -> Self {
        let directory = node.root().join(format!("registry-{}", address.replace(':', "-")));
        std::fs::create_dir_all(&directory).expect("a directory can be made");
        let file = directory.join("config.json");
        let config = configuration(&directory, address, protection);
        std::fs::write(&file, config).expect("a configuration can be written");
        let log = std::fs::File::create(directory.join("log")).expect("a log opens");
        let mut command = node.inside("setpriv");
        // It must not outlive a test that was killed.
        command.args(["--pdeathsig", "KILL", "docker-registry", "serve"]).arg(&file);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let process = command.spawn().expect("the registry starts");
        let registry = Self { address: address.into(), process };
        let scheme = if protection.certificate.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{address}/v2/");
        eventually(&format!("a registry at {url}\n{}", directory.join("log").display()), || {
            let mut curl = node.inside("curl");
            let output = curl.args(["-k", "-sS", "-m", "5", &url]).output().expect("curl runs");
            output.status.success().then_some(())
        });
        registry
    }

    /// The name of an image at this registry.
    pub fn image(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }
}

impl Drop for RunningRegistry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The registry's own format is YAML, of which JSON is a part.
fn configuration(directory: &Path, address: &str, protection: &Protection) -> String {
    let mut http = serde_json::json!({ "addr": address, "secret": "only for tests" });
    if let Some((certificate, key)) = &protection.certificate {
        http["tls"] = serde_json::json!({ "certificate": certificate, "key": key });
    }
    let mut config = serde_json::json!({
        "version": "0.1",
        "log": { "level": "info" },
        "storage": { "filesystem": { "rootdirectory": directory.join("data") } },
        "http": http,
    });
    if let Some(users) = &protection.users {
        config["auth"] = serde_json::json!({ "htpasswd": { "realm": "tests", "path": users } });
    }
    config.to_string()
}

/// Run `skopeo copy` inside the node's network; panics with its output when it fails.
pub fn skopeo_copy(node: &Node, options: &[&str], from: &str, to: &str) {
    let mut command = node.inside("skopeo");
    // Without it a policy file of the machine decides, and there may be none.
    command.args(["--insecure-policy", "copy", "--quiet"]).args(options).args([from, to]);
    succeed(command);
}

/// Run a command; gives its standard output, panics with its standard error when it fails.
pub fn succeed(mut command: Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}: {said}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}
