//! The ground a test stands on: own directories, an own cgroup parent, a runtime, a busybox image;
//! and the proof that nothing of it is left afterwards.

use bramble_agent::runtime::{
    Ended, Launch, LaunchImage, PodPlace, Runtime, RuntimeConfig, TaskHandle, process,
};
use bramble_core::model::{
    AppId, Assignment, InstanceId, Resources, TaskCommand, TaskId, TaskImage, TaskNetwork,
    TaskSpec, Time,
};
use bramble_protocol::executor::ExecutorSecrets;
use bramble_protocol::executor::ExitRecord;
use std::fs;
use std::future::Future;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A reason why a test failed.
pub type Outcome<T = ()> = Result<T, String>;

/// Longest wait for anything that must happen; passing it is a failure, never a pass. Forty
/// containers in an emulated machine on busy cores take half a minute.
pub const LIMIT: Duration = Duration::from_secs(180);
pub const BUSYBOX: &str = "/bin/busybox";
pub const MIB: u64 = 1024 * 1024;

pub fn is_usable() -> bool {
    nix::unistd::geteuid().is_root()
        && Path::new("/sys/fs/cgroup").is_dir()
        && Path::new(BUSYBOX).is_file()
}

pub struct Ground {
    pub dir: tempfile::TempDir,
    pub runtime: Runtime,
    pub parent: String,
    tokio: tokio::runtime::Runtime,
}

/// Fails a test with a message unless a condition holds.
pub fn expect(holds: bool, message: impl Into<String>) -> Outcome {
    if holds { Ok(()) } else { Err(message.into()) }
}

pub fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

impl Ground {
    pub fn new(name: &str) -> Outcome<Self> {
        let dir = tempfile::tempdir().map_err(text)?;
        let parent = format!("/bramble-test-{}-{name}", std::process::id());
        let tokio = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(text)?;
        let runtime = open(dir.path(), &parent)?;
        Ok(Self { dir, runtime, parent, tokio })
    }

    pub fn block<T>(&self, future: impl Future<Output = T>) -> Outcome<T> {
        let bounded = async { tokio::time::timeout(LIMIT, future).await };
        self.tokio.block_on(bounded).map_err(|_| "took too long".to_string())
    }

    /// A second agent over the same run directory, as after a restart.
    pub fn restart(&self) -> Outcome<Runtime> {
        open(self.dir.path(), &self.parent)
    }

    /// An agent over the same run directory whose cgroups lie below another parent.
    pub fn runtime_below(&self, parent: &str) -> Outcome<Runtime> {
        open(self.dir.path(), parent)
    }

    pub fn command(&self, id: &str, line: &str) -> Launch {
        self.launch(id, TaskCommand::Shell(line.into()), None)
    }

    /// A task of a busybox image with one read-only layer.
    pub fn image(&self, id: &str, command: TaskCommand) -> Outcome<Launch> {
        let layer = self.dir.path().join("layer");
        if !layer.exists() {
            make_busybox(&layer).map_err(text)?;
        }
        let image = LaunchImage { layers: vec![layer], ..LaunchImage::default() };
        Ok(self.launch(id, command, Some(image)))
    }

    fn launch(&self, id: &str, command: TaskCommand, image: Option<LaunchImage>) -> Launch {
        let sandbox = self.dir.path().join("sandboxes").join(id);
        let work_dir = self.dir.path().join("work").join(id);
        fs::create_dir_all(&sandbox).expect("the temporary directory is writable");
        fs::create_dir_all(&work_dir).expect("the temporary directory is writable");
        let task_image = image.as_ref().map(|_| TaskImage {
            reference: "busybox".into(),
            force_pull: false,
            parameters: Vec::new(),
            in_sandbox: false,
        });
        Launch {
            pod: PodPlace::default(),
            assignment: assignment(id, command, task_image),
            image,
            sandbox,
            volumes: std::collections::BTreeMap::new(),
            work_dir,
            resolv_conf: Some("nameserver 192.0.2.1\n".into()),
            hostname: "box".into(),
            secrets: ExecutorSecrets::default(),
            devices: vec![],
            allow_host_volumes: true,
            allow_privileged: false,
        }
    }

    pub fn log(&self, id: &str, name: &str) -> String {
        let path = self.dir.path().join("sandboxes").join(id).join(name);
        fs::read(path).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default()
    }

    pub fn start(&self, launch: Launch) -> Outcome<TaskHandle> {
        self.block(async {
            let handle = self.runtime.create(launch).await.map_err(text)?;
            handle.start().await.map_err(text)?;
            Ok(handle)
        })?
    }

    /// Run to the end and clean; gives the exit record.
    pub fn run(&self, launch: Launch) -> Outcome<ExitRecord> {
        let id = launch.assignment.task_id.as_str().to_string();
        let mut handle = self.start(launch)?;
        let record = self.exited(&mut handle)?;
        self.clean(&id)?;
        Ok(record)
    }

    pub fn exited(&self, handle: &mut TaskHandle) -> Outcome<ExitRecord> {
        match self.block(handle.wait())? {
            Ended::Exited(record) => Ok(record),
            Ended::ExecutorDied => Err("the executor died".into()),
        }
    }

    pub fn clean(&self, id: &str) -> Outcome {
        self.block(self.runtime.clean(id))?.map_err(text)
    }

    /// Wait until a log holds `needle`.
    pub fn wait_log(&self, id: &str, needle: &str) -> Outcome {
        until(&format!("{needle:?} in the log"), || self.log(id, "stdout").contains(needle))
    }

    pub fn executor_of(&self, id: &str) -> Outcome<bramble_protocol::executor::ProcessKey> {
        let path = self.dir.path().join("run/tasks").join(id).join("pid");
        let bytes = fs::read(path).map_err(text)?;
        bramble_protocol::codec::from_bytes(&bytes).map_err(text)
    }

    pub fn watch(&self) -> Watch {
        Watch { parent: self.parent.clone(), dir: self.dir.path().to_path_buf() }
    }
}

/// Poll a condition until it holds; the limit only bounds a failure.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) -> Outcome {
    let end = Instant::now() + LIMIT;
    while !holds() {
        if Instant::now() > end {
            return Err(format!("waited in vain for {what}"));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

pub fn wait_dead(key: bramble_protocol::executor::ProcessKey) -> Outcome {
    expect(process::wait_gone(key, LIMIT), format!("process {} lives on", key.pid))
}

fn open(dir: &Path, parent: &str) -> Outcome<Runtime> {
    Runtime::open(RuntimeConfig {
        run_dir: dir.join("run"),
        executable: std::env::current_exe().map_err(text)?,
        cgroup_parent: parent.to_string(),
        allow_host_volumes: true,
        allow_privileged: false,
        log_bytes_max: 64 * 1024,
    })
    .map_err(text)
}

fn assignment(id: &str, command: TaskCommand, image: Option<TaskImage>) -> Assignment {
    Assignment {
        task_id: TaskId::new(id),
        instance_id: InstanceId::new(id),
        app_id: AppId::new("/test"),
        app_version: Time(1),
        spec: TaskSpec {
            command,
            image,
            user: None,
            env: vec![("GREETING".into(), "hello".into())],
            resources: Resources { cpus_milli: 100, mem_bytes: 0, disk_bytes: 0, gpus: 0 },
            cpu_limit_milli: None,
            mem_limit_bytes: Some(64 * MIB),
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

fn make_busybox(layer: &Path) -> std::io::Result<()> {
    for dir in ["bin", "etc", "tmp", "root"] {
        fs::create_dir_all(layer.join(dir))?;
    }
    fs::copy(BUSYBOX, layer.join("bin/busybox"))?;
    for tool in [
        "sh", "echo", "sleep", "cat", "id", "pwd", "env", "ls", "mknod", "mount", "tty", "true",
        "kill", "ps", "hostname", "unshare", "touch", "dd", "stty", "grep", "readlink",
    ] {
        symlink("busybox", layer.join("bin").join(tool))?;
    }
    fs::write(layer.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\nweb:x:33:34::/srv:/bin/sh\n")?;
    fs::write(layer.join("etc/group"), "root:x:0:\nweb:x:34:\naudio:x:29:web\n")
}

/// Sees to it that a test leaves the machine as it was.
pub struct Watch {
    parent: String,
    dir: PathBuf,
}

impl Watch {
    pub fn nothing_is_left(&self) -> Outcome {
        let hierarchies = bramble_agent::runtime::cgroup::Hierarchies::detect().map_err(text)?;
        let mounts = hierarchies.v1.iter().map(|m| &m.mount).chain(&hierarchies.unified);
        let mut left = Vec::new();
        for mount in mounts {
            let parent = mount.join(self.parent.trim_start_matches('/'));
            for entry in fs::read_dir(&parent).into_iter().flatten().flatten() {
                if entry.path().is_dir() {
                    left.push(entry.path());
                }
            }
        }
        let group = hierarchies.task(&self.parent);
        group.kill_all().and_then(|()| group.remove()).map_err(text)?;
        let mountinfo = fs::read_to_string("/proc/self/mountinfo").map_err(text)?;
        expect(left.is_empty(), format!("cgroups are left: {left:?}"))?;
        let dir = self.dir.display().to_string();
        expect(!mountinfo.contains(&dir), "mounts are left")
    }
}
