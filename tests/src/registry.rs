//! A registry that others wrote, Debian's `docker-registry`, and `skopeo` to fill it.
//!
//! Both run inside a node's network namespace, so that no port of the machine is taken; what the
//! registry holds lies in the node's directory. Never judges what bramble made of it.

use crate::{Node, eventually, has_tools};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// What these tests need of the machine, all of it out of Debian's packages.
const TOOLS: [&str; 6] = ["docker-registry", "skopeo", "htpasswd", "openssl", "zstd", "python3"];

/// How a registry is protected.
#[derive(Clone, Debug, Default)]
pub struct Protection {
    /// Users and bcrypt hashes, as `htpasswd` writes them.
    pub users: Option<PathBuf>,
    /// Certificate and key, PEM.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// Where tokens are to be had, and the certificate (PEM) that signs them.
    pub tokens: Option<(String, PathBuf)>,
}

/// A server of others inside a node's network. Dropped, it is killed.
pub struct Server(Child);

/// A running registry.
pub struct RunningRegistry {
    /// `host:port`, as image references name it.
    pub address: String,
    _server: Server,
}

/// Whether the software of others is here. With `CI=true` it must be.
pub fn has_registry_tools(test: &str) -> bool {
    has_tools(test, &TOOLS)
}

impl RunningRegistry {
    /// Start a registry at `address` inside the node's network and wait until it answers.
    pub fn start(node: &Node, address: &str, protection: &Protection) -> Self {
        let directory = node.root().join(format!("registry-{}", address.replace(':', "-")));
        std::fs::create_dir_all(&directory).expect("a directory can be made");
        let file = directory.join("config.json");
        let config = configuration(&directory, address, protection);
        std::fs::write(&file, config).expect("a configuration can be written");
        let scheme = if protection.certificate.is_some() { "https" } else { "http" };
        let mut command = Server::command(node, "docker-registry");
        command.arg("serve").arg(&file);
        let url = format!("{scheme}://{address}/v2/");
        let server = Server::start(node, command, &directory.join("log"), &url);
        Self { address: address.into(), _server: server }
    }

    /// The name of an image at this registry.
    pub fn image(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }
}

impl Server {
    /// A command for [`Server::start`], to which arguments can be added.
    pub fn command(node: &Node, program: &str) -> Command {
        let mut command = node.inside("setpriv");
        // It must not outlive a test that was killed.
        command.args(["--pdeathsig", "KILL", program]);
        command
    }

    /// Start it and wait until something answers at `url`, whatever it says.
    pub fn start(node: &Node, mut command: Command, log: &Path, url: &str) -> Self {
        let file = std::fs::File::create(log).expect("a log opens");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        let mut server = Self(command.spawn().expect("the server starts"));
        eventually(&format!("a server at {url}"), || {
            if let Ok(Some(status)) = server.0.try_wait() {
                let said = std::fs::read_to_string(log).unwrap_or_default();
                panic!("{command:?} ended with {status}: {said}");
            }
            let mut curl = node.inside("curl");
            let output = curl.args(["-k", "-sS", "-m", "5", url]).output().expect("curl runs");
            output.status.success().then_some(())
        });
        server
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
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
        // What nothing pushes any more but someone's registry still holds.
        "compatibility": { "schema1": { "enabled": true } },
    });
    if let Some(users) = &protection.users {
        config["auth"] = serde_json::json!({ "htpasswd": { "realm": "tests", "path": users } });
    }
    if let Some((realm, certificate)) = &protection.tokens {
        let tokens = serde_json::json!({
            "realm": realm, "service": "tests", "issuer": "tests", "rootcertbundle": certificate,
        });
        config["auth"] = serde_json::json!({ "token": tokens });
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
