//! What a whole agent stands on: identities, directories, a cgroup parent, an image, a network.

use bramble_agent::AgentConfig;
use bramble_agent::inventory::ResourceOverrides;
use bramble_agent::runtime::cgroup::Hierarchies;
use bramble_core::model::{
    AppId, Assignment, HealthCheck, HealthCheckKind, InstanceId, NodeRole, PublishedPort,
    Resources, TaskCommand, TaskId, TaskImage, TaskNetwork, TaskSpec, Time,
};
use bramble_protocol::net::{ClusterCa, Identity, NodeKey};
use nix::sched::{CloneFlags, unshare};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub type Outcome<T = ()> = Result<T, String>;

const BUSYBOX: &str = "/bin/busybox";
pub const IMAGE: &str = "bramble.test/busybox:latest";
const BRIDGE: &str = "brtest0";

/// An error with its causes.
pub fn text(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> String {
    let error = error.into();
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    error.to_string() + &causes.map(|cause| format!(": {cause}")).collect::<String>()
}

/// Move this process into a fresh network namespace; says why it cannot.
pub fn own_network() -> Outcome {
    if !Path::new(BUSYBOX).is_file() {
        return Err(format!("{BUSYBOX} (busybox-static) is missing"));
    }
    unshare(CloneFlags::CLONE_NEWNET).map_err(|e| format!("unshare: {e}"))?;
    let up = Command::new("ip").args(["link", "set", "lo", "up"]).status();
    let up = up.map_err(|e| format!("ip (iproute2): {e}"))?;
    if up.success() { Ok(()) } else { Err("lo does not go up".into()) }
}

pub struct Parts {
    pub dir: tempfile::TempDir,
    parent: String,
    pub master: Identity,
    pub agent: Identity,
}

impl Parts {
    pub fn new() -> Outcome<Parts> {
        let ca = ClusterCa::mint("test").map_err(text)?;
        let identity = |role| {
            let key = NodeKey::generate().map_err(text)?;
            let issued = ca.issue(key.public_key(), &key.node_id(), role).map_err(text)?;
            Identity::new(key, issued, ca.certificate().to_vec()).map_err(text)
        };
        Ok(Parts {
            dir: tempfile::tempdir().map_err(text)?,
            parent: format!("/bramble-test-{}-whole", std::process::id()),
            master: identity(NodeRole::Master)?,
            agent: identity(NodeRole::Agent)?,
        })
    }

    pub fn config(&self) -> AgentConfig {
        AgentConfig {
            data_dir: self.dir.path().join("data"),
            run_dir: self.dir.path().join("run"),
            executable: std::env::current_exe().expect("this binary has a path"),
            name: "box".into(),
            attributes: BTreeMap::new(),
            resources: ResourceOverrides::default(),
            cgroup_parent: self.parent.clone(),
            allow_host_volumes: false,
            allow_privileged: false,
            bridge: BRIDGE.into(),
            subnet: None,
            insecure_registries: Vec::new(),
            docker_config: None,
            // None: what this machine's hardware does meanwhile is not part of the test.
            sysfs: self.dir.path().join("sys"),
            log_bytes_max: 1 << 20,
        }
    }

    /// A `docker save` archive of busybox.
    pub fn archive(&self) -> Outcome<Vec<u8>> {
        let made = self.dir.path().join("image");
        let root = made.join("root");
        for dir in ["bin", "etc", "tmp", "www"] {
            fs::create_dir_all(root.join(dir)).map_err(text)?;
        }
        fs::copy(BUSYBOX, root.join("bin/busybox")).map_err(text)?;
        for tool in ["sh", "httpd", "sleep"] {
            symlink("busybox", root.join("bin").join(tool)).map_err(text)?;
        }
        fs::write(root.join("www/index.html"), "served\n").map_err(text)?;
        let layer = tar(&root, &["."])?;
        let diff_id = format!("sha256:{}", hex::encode(Sha256::digest(&layer)));
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let config = serde_json::json!({
            "architecture": architecture, "os": "linux",
            "config": {"Entrypoint": ["/bin/httpd"], "Cmd": ["-f", "-p", "80", "-h", "/www"]},
            "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        });
        let manifest = serde_json::json!([
            {"Config": "config.json", "RepoTags": [IMAGE], "Layers": ["layer.tar"]}
        ]);
        fs::write(made.join("layer.tar"), &layer).map_err(text)?;
        fs::write(made.join("config.json"), config.to_string()).map_err(text)?;
        fs::write(made.join("manifest.json"), manifest.to_string()).map_err(text)?;
        tar(&made, &["manifest.json", "config.json", "layer.tar"])
    }

    /// Run directories and cgroups of tasks.
    pub fn traces(&self) -> Outcome<Vec<String>> {
        let hierarchies = Hierarchies::detect().map_err(text)?;
        let mounts = hierarchies.v1.iter().map(|m| &m.mount).chain(&hierarchies.unified);
        let cgroups = mounts.map(|mount| mount.join(self.parent.trim_start_matches('/')));
        let mut traces = Vec::new();
        for parent in cgroups.chain([self.dir.path().join("run/tasks")]) {
            let entries = fs::read_dir(parent).into_iter().flatten().flatten();
            let directories = entries.filter(|entry| entry.path().is_dir());
            traces.extend(directories.map(|entry| entry.path().display().to_string()));
        }
        Ok(traces)
    }

    pub fn nothing_is_left(&self) -> Outcome {
        let hierarchies = Hierarchies::detect().map_err(text)?;
        let group = hierarchies.task(&self.parent);
        group.kill_all().and_then(|()| group.remove()).map_err(text)?;
        let mounts = fs::read_to_string("/proc/self/mountinfo").map_err(text)?;
        if mounts.contains(&self.dir.path().display().to_string()) {
            return Err("mounts are left".into());
        }
        if Path::new("/sys/class/net").join(BRIDGE).exists() {
            return Err("the bridge is left".into());
        }
        let tasks = self.dir.path().join("run/tasks");
        match fs::read_dir(tasks).map_err(text)?.count() {
            0 => Ok(()),
            count => Err(format!("{count} run directories are left")),
        }
    }
}

fn tar(directory: &Path, names: &[&str]) -> Outcome<Vec<u8>> {
    let out = Command::new("tar").arg("-C").arg(directory).arg("-cf-").args(names).output();
    let out = out.map_err(text)?;
    if out.status.success() { Ok(out.stdout) } else { Err("tar failed".into()) }
}

/// Whether the page is served there.
pub async fn get(address: &str) -> Outcome {
    let mut stream = TcpStream::connect(address).await.map_err(|e| format!("{address}: {e}"))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await.map_err(text)?;
    let mut page = String::new();
    stream.read_to_string(&mut page).await.map_err(text)?;
    if page.ends_with("served\n") { Ok(()) } else { Err(format!("{address} served {page:?}")) }
}

pub fn command_task(id: &str, line: &str) -> Assignment {
    Assignment {
        task_id: TaskId::new(id),
        instance_id: InstanceId::new(id.trim_end_matches("._app.1")),
        app_id: AppId::new("/test"),
        app_version: Time(1),
        spec: TaskSpec {
            command: TaskCommand::Shell(line.into()),
            image: None,
            user: None,
            env: Vec::new(),
            resources: Resources { cpus_milli: 100, mem_bytes: 0, disk_bytes: 0, gpus: 0 },
            cpu_limit_milli: None,
            mem_limit_bytes: Some(16 << 20),
            network: TaskNetwork::Host,
            volumes: Vec::new(),
            kill_grace_ms: 3000,
            privileged: false,
            health_checks: Vec::new(),
            host_ports: Vec::new(),
            tty: false,
            fetch: vec![],
            readiness: vec![],
            check: None,
            local_volumes: Vec::new(),
            pod: Vec::new(),
            secrets: Vec::new(),
            alone: <_>::default(),
            devices: vec![],
        },
        run: true,
    }
}

/// The image's own server on the bridge, with a health check on its published port.
pub fn bridge_task(id: &str, host_port: u16) -> Assignment {
    let mut task = command_task(id, "");
    let published = PublishedPort { host_port, container_port: 80, tcp: true, udp: false };
    task.spec.command = TaskCommand::ImageDefault;
    task.spec.image = Some(TaskImage {
        reference: IMAGE.into(),
        force_pull: false,
        parameters: Vec::new(),
        in_sandbox: false,
    });
    task.spec.network = TaskNetwork::Bridge(vec![published]);
    task.spec.host_ports = vec![host_port];
    task.spec.health_checks = vec![HealthCheck {
        kind: HealthCheckKind::Http,
        path: Some("/index.html".into()),
        port_index: Some(0),
        port: None,
        command: None,
        grace_ms: 10_000,
        interval_ms: 100,
        timeout_ms: 2000,
        max_consecutive_failures: 3,
        delay_ms: 0,
        ignore_http_1xx: false,
        ip_protocol: None,
    }];
    task
}
