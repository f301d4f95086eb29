//! Secrets of the real binary: tasks get them, and nothing that is written or said holds them.

use bramble_tests::{BusyboxImage, Node, can_run_containers, cgroup_processes, eventually, sha256};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Child, Stdio};

/// What must be found nowhere.
pub(crate) const PASSWORD: &str = "marker-5e81d0-password";
const KEY: &[u8] = b"marker-5e81d0-key\0\xff\n";
const MARKER: &[u8] = b"marker-5e81d0";

/// Says of its secrets what gives nothing away.
const TELL: &str = "printf %s \"$PW\" | sha256sum; sha256sum key.pem; \
    stat -c '%a %U %s' key.pem; grep -c '/key.pem tmpfs ro' /proc/mounts";

fn app() -> String {
    json!({
        "id": "vaulted", "cmd": format!("{TELL}; exec sleep 100000"), "cpus": 0.1, "mem": 32,
        "user": "nobody", "backoffSeconds": 0,
        "env": { "PW": { "secret": "pw" }, "PLAIN": "shown" },
        "secrets": { "pw": { "source": "/prod/password" }, "key": { "source": "tls/key" } },
        "container": { "type": "MESOS", "volumes": [{ "containerPath": "key.pem", "secret": "key" }] },
        "healthChecks": [{ "protocol": "COMMAND", "command": { "value": "test -n \"$PW\"" },
            "intervalSeconds": 1, "delaySeconds": 1, "gracePeriodSeconds": 60 }],
    })
    .to_string()
}

/// What [`TELL`] says when all is well.
fn told(password: &str) -> String {
    let (password, key) = (sha256(password.as_bytes()), sha256(KEY));
    format!("{password}  -\n{key}  key.pem\n400 nobody {}\n1\n", KEY.len())
}

pub(crate) fn put(node: &Node, name: &str, value: &[u8]) -> String {
    let output = node.bramble_with_input(&["secret", "put", name], value);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Everything the API says of what there is, and what the event stream said so far.
struct Ears {
    curl: Child,
    said: tempfile::NamedTempFile,
}

impl Ears {
    fn open(node: &Node) -> Ears {
        let said = tempfile::NamedTempFile::new().expect("a file can be made");
        let mut curl = node.inside("curl");
        curl.args(["-sN", "-H", "Accept: text/event-stream"]);
        curl.arg("http://localhost:8080/v2/events?plan-format=heavy");
        curl.stdout(said.reopen().expect("it opens again")).stderr(Stdio::null());
        let curl = curl.spawn().expect("curl starts");
        eventually("an event stream", || {
            let text = std::fs::read_to_string(said.path()).ok()?;
            text.contains("event_stream_attached").then_some(())
        });
        Ears { curl, said }
    }

    fn silent(&self, node: &Node) {
        let mut heard = std::fs::read(self.said.path()).expect("what was said is there");
        assert!(contains(&heard, b"vaulted"), "the stream says nothing of the app");
        for path in [
            "/v2/apps?embed=apps.tasks&embed=apps.lastTaskFailure",
            "/v2/apps/vaulted/versions",
            "/v2/groups",
            "/v2/tasks",
            "/v2/queue?embed=lastUnusedOffers",
            "/v2/deployments",
            "/v2/info",
            "/metrics",
            "/v1/bramble/status",
            "/v1/bramble/secrets",
            "/v1/bramble/why/vaulted",
        ] {
            heard.extend(node.api("GET", path, None).body.into_bytes());
        }
        heard.extend(node.log().into_bytes());
        heard.extend(node.banner().into_bytes());
        assert!(!contains(&heard, MARKER), "a value was said");
    }
}

impl Drop for Ears {
    fn drop(&mut self) {
        let _ = self.curl.kill();
        let _ = self.curl.wait();
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// Files below `directory` that hold the marker; also says how many were looked at.
fn hits(directory: &Path, looked_at: &mut usize) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            found.extend(hits(&entry.path(), looked_at));
        } else if kind.is_file() {
            *looked_at += 1;
            if contains(&std::fs::read(entry.path()).unwrap_or_default(), MARKER) {
                found.push(entry.path().display().to_string());
            }
        }
    }
    found
}

/// Neither the data directory nor the run directory holds a value.
pub(crate) fn nothing_is_written(node: &Node) {
    for directory in [node.data_dir(), node.run_dir()] {
        let mut looked_at = 0;
        assert_eq!(hits(&directory, &mut looked_at), Vec::<String>::new());
        assert!(looked_at > 0, "{} holds no file", directory.display());
    }
}

fn only_task(node: &Node) -> String {
    let tasks = node.running("vaulted", 1);
    tasks[0]["id"].as_str().expect("an id").to_string()
}

fn logs(node: &Node, task: &str) -> String {
    String::from_utf8_lossy(&node.bramble(&["logs", task]).stdout).into_owned()
}

fn says_all(node: &Node, task: &str, password: &str) {
    let told = told(password);
    eventually("what the task says of its secrets", || (logs(node, task) == told).then_some(()));
}

#[test]
fn tasks_have_their_secrets_and_nothing_else_does() {
    if !can_run_containers("secrets") {
        return;
    }
    let mut node = Node::start();
    let ears = Ears::open(&node);
    assert_eq!(
        put(&node, "prod/password", PASSWORD.as_bytes()),
        "prod/password is now at version 1\n"
    );
    put(&node, "tls/key", KEY);
    node.api("POST", "/v2/apps", Some(&app())).expect(201);
    let task = only_task(&node);
    says_all(&node, &task, PASSWORD);
    let beside = node.bramble(&["exec", &task, "--", "sh", "-c", TELL]);
    assert_eq!(String::from_utf8_lossy(&beside.stdout), told(PASSWORD), "{beside:?}");
    eventually("a health check that sees the variable", || {
        let tasks = node.tasks("vaulted");
        (tasks[0]["healthCheckResults"][0]["alive"] == true).then_some(())
    });
    let shown = node.get("/v2/apps/vaulted")["app"]["env"].clone();
    assert_eq!(shown, json!({ "PLAIN": "shown", "PW": { "secret": "pw" } }));
    nothing_is_written(&node);

    let before = cgroup_processes(&node.cgroup_parent);
    node.stop(Signal::SIGKILL);
    nothing_is_written(&node);
    node.up();
    assert_eq!(only_task(&node), task);
    assert_eq!(cgroup_processes(&node.cgroup_parent), before, "the same processes");
    kill(Pid::from_raw(before[0]), Signal::SIGKILL).expect("it lives");
    let next = eventually("another task", || {
        let tasks = node.running("vaulted", 1);
        tasks[0]["id"].as_str().filter(|id| *id != task).map(str::to_string)
    });
    says_all(&node, &next, PASSWORD);
    nothing_is_written(&node);
    ears.silent(&node);
    node.api("DELETE", "/v2/apps/vaulted", None).expect(200);
    node.wait_clean();
    nothing_is_written(&node);
}

#[test]
fn an_app_waits_for_a_secret_that_is_missing() {
    if !can_run_containers("missing secrets") {
        return;
    }
    let node = Node::start();
    put(&node, "tls/key", KEY);
    node.api("POST", "/v2/apps", Some(&app())).expect(201);
    let why = || String::from_utf8_lossy(&node.bramble(&["why", "vaulted"]).stdout).into_owned();
    let missing = "secret 'prod/password' does not exist (bramble secret put prod/password)";
    eventually("the missing secret's name", || why().contains(missing).then_some(()));
    let waiting = eventually("the queue", || {
        let queue = node.get("/v2/queue?embed=lastUnusedOffers")["queue"].clone();
        queue[0]["lastUnusedOffers"].is_array().then(|| queue.to_string())
    });
    assert!(waiting.contains("secret 'prod/password' does not exist"), "{waiting}");
    assert!(node.tasks("vaulted").is_empty(), "nothing starts without it");
    put(&node, "prod/password", PASSWORD.as_bytes());
    let task = only_task(&node);
    says_all(&node, &task, PASSWORD);

    // Another value is for other tasks.
    assert!(put(&node, "prod/password", b"changed").contains("restart of /vaulted"));
    let beside = node.bramble(&["exec", &task, "--", "sh", "-c", TELL]);
    assert_eq!(String::from_utf8_lossy(&beside.stdout), told(PASSWORD), "{beside:?}");
    eventually("the end of the deployment", || {
        node.get("/v2/deployments").as_array().is_some_and(Vec::is_empty).then_some(())
    });
    let restarted = node.bramble(&["restart", "vaulted"]);
    assert!(restarted.status.success(), "{restarted:?}");
    let task = eventually("a task with the new value", || {
        let tasks = node.running("vaulted", 1);
        tasks[0]["id"].as_str().filter(|id| *id != task).map(str::to_string)
    });
    says_all(&node, &task, "changed");

    let listed = node.bramble(&["secret", "ls"]);
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(listed.contains("prod/password") && listed.contains("/vaulted"), "{listed}");
    let removed = node.bramble(&["secret", "rm", "prod/password"]);
    assert!(String::from_utf8_lossy(&removed.stdout).contains("/vaulted"), "{removed:?}");
    assert_eq!(only_task(&node), task, "what runs keeps it");
    kill(Pid::from_raw(cgroup_processes(&node.cgroup_parent)[0]), Signal::SIGKILL).expect("lives");
    eventually("the missing secret's name again", || why().contains(missing).then_some(()));
    let absent = node.bramble(&["secret", "rm", "prod/password"]);
    let absent = String::from_utf8_lossy(&absent.stderr).into_owned();
    assert!(absent.contains("secret 'prod/password' does not exist"), "{absent}");
}

#[test]
fn images_get_secrets_as_their_own_user_and_text_must_be_text() {
    if !can_run_containers("secrets of images") {
        return;
    }
    let node = Node::start();
    let mut image = BusyboxImage::new("bramble-test/keeper:1", &[]);
    image.user = "web".into();
    image.command = [
        "/bin/sh",
        "-c",
        "/bin/busybox stat -c '%a %u:%g' /run/keys/tls; \
        /bin/busybox sha256sum /run/keys/tls; exec sleep 100000",
    ]
    .map(str::to_string)
    .to_vec();
    let archive = image.save(node.root());
    let loaded = node.bramble(&["load", &archive.display().to_string()]);
    assert!(loaded.status.success(), "{loaded:?}");
    put(&node, "tls/key", KEY);
    let app = |id: &str, env: Value, volumes: Value| {
        json!({ "id": id, "cpus": 0.1, "mem": 16, "backoffSeconds": 3600, "env": env,
            "secrets": { "key": { "source": "tls/key" } },
            "container": { "type": "MESOS", "docker": { "image": "bramble-test/keeper:1" },
                "volumes": volumes } })
        .to_string()
    };
    let volumes = json!([{ "containerPath": "/run/keys/tls", "secret": "key" }]);
    node.api("POST", "/v2/apps", Some(&app("keeper", json!({}), volumes))).expect(201);
    let tasks = node.running("keeper", 1);
    let task = tasks[0]["id"].as_str().expect("an id");
    let expected = format!("400 101:102\n{}  /run/keys/tls\n", sha256(KEY));
    eventually("the file's owner and digest", || (logs(&node, task) == expected).then_some(()));

    let env = json!({ "KEY": { "secret": "key" } });
    node.api("POST", "/v2/apps", Some(&app("binary", env, json!([])))).expect(201);
    let failure = eventually("the refusal of bytes as text", || {
        node.get("/v2/apps/binary")["app"].get("lastTaskFailure").cloned()
    });
    let message = failure["message"].as_str().unwrap_or_default();
    assert!(message.contains("environment variable KEY") && message.contains("NUL"), "{failure}");
    assert!(message.contains("use it as a file"), "{failure}");
    nothing_is_written(&node);
}

#[test]
fn containers_of_a_pod_have_their_own_secrets() {
    if !can_run_containers("secrets of pods") {
        return;
    }
    let node = Node::start();
    put(&node, "prod/password", PASSWORD.as_bytes());
    put(&node, "tls/key", KEY);
    let container = |name: &str, line: &str, mounts: Value| {
        json!({ "name": name, "resources": { "cpus": 0.1, "mem": 32 }, "user": "nobody",
            "exec": { "command": { "shell": format!("{line}; exec sleep 100000") } },
            "volumeMounts": mounts })
    };
    let mut told_all =
        container("keeper", TELL, json!([{ "name": "key", "mountPath": "key.pem" }]));
    told_all["environment"] = json!({ "PW": { "secret": "pw" } });
    let pod = json!({
        "id": "/vaulted", "networks": [{ "mode": "host" }],
        "scaling": { "kind": "fixed", "instances": 1 },
        "secrets": { "pw": { "source": "prod/password" }, "key": { "source": "tls/key" } },
        "volumes": [{ "name": "key", "secret": "key" }],
        "containers": [told_all, container("other", "echo \"<$PW>\"; ls", json!([]))],
    });
    node.api("POST", "/v2/pods", Some(&pod.to_string())).expect(201);
    let said = |name: &str| {
        let sandboxes = std::fs::read_dir(node.data_dir().join("sandboxes")).ok()?;
        let mine = |path: &Path| path.display().to_string().contains(&format!(".{name}."));
        let path = sandboxes.flatten().map(|entry| entry.path()).find(|path| mine(path))?;
        std::fs::read_to_string(path.join("stdout")).ok().filter(|text| !text.is_empty())
    };
    let told = told(PASSWORD);
    eventually("what the pod's container says", || (said("keeper")? == told).then_some(()));
    let other = eventually("what its neighbour says", || said("other"));
    assert!(other.starts_with("<>\n") && !other.contains("key.pem"), "{other}");
    nothing_is_written(&node);
    node.api("DELETE", "/v2/pods/vaulted", None);
    node.wait_clean();
}
