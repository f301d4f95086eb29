//! Containers: limits, endings, and what they cannot see or do. Also run in a pure cgroup v2
//! guest by `make test-vm`.

use bramble_tests::{Node, alive, can_run_containers, cgroup_processes, eventually};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

fn app(id: &str, cmd: &str, more: Value) -> String {
    let mut app = json!({"id": id, "cmd": cmd, "cpus": 0.1, "mem": 32, "instances": 1,
        "backoffSeconds": 3600});
    for (key, value) in more.as_object().expect("an object") {
        app[key] = value.clone();
    }
    app.to_string()
}

/// Deploy something that ends, and give its last failure.
fn failure(node: &Node, id: &str, cmd: &str, more: Value) -> Value {
    node.api("POST", "/v2/apps", Some(&app(id, cmd, more))).expect(201);
    eventually(&format!("the failure of {id}\n{}", node.log()), || {
        node.get(&format!("/v2/apps/{id}"))["app"].get("lastTaskFailure").cloned()
    })
}

/// Run a command inside a task; gives its output and exit code.
fn exec(node: &Node, task: &str, command: &str) -> (String, i32) {
    let output = node.bramble(&["exec", task, "--", "sh", "-c", command]);
    let text = String::from_utf8_lossy(&output.stdout).to_string()
        + &String::from_utf8_lossy(&output.stderr);
    (text, output.status.code().unwrap_or(-1))
}

#[test]
fn too_much_memory_is_named_as_the_reason() {
    if !can_run_containers("oom") {
        return;
    }
    let node = Node::start();
    // The shell keeps a growing text in its own memory.
    let eat = "x=0123456789abcdef; while :; do x=$x$x; done";
    let failure = failure(&node, "eater", eat, json!({"mem": 16}));
    assert_eq!(failure["state"], "TASK_FAILED");
    let message = failure["message"].as_str().expect("a message").to_lowercase();
    assert!(message.contains("memory"), "{failure}");
    node.wait_clean();
}

#[test]
fn processes_are_limited() {
    if !can_run_containers("pids") {
        return;
    }
    let node = Node::start();
    let many = "i=0; while [ $i -lt 9000 ]; do sleep 1000 & i=$((i+1)); done; sleep 1000";
    node.api("POST", "/v2/apps", Some(&app("many", many, json!({"mem": 512, "cpus": 2}))))
        .expect(201);
    // Either the shell ends because it cannot fork, or it stays at the limit; never beyond.
    let failure = eventually("the end of the shell that forks", || {
        assert!(cgroup_processes(&node.cgroup_parent).len() < 5_000, "no limit holds");
        node.get("/v2/apps/many")["app"].get("lastTaskFailure").cloned()
    });
    assert_eq!(failure["state"], "TASK_FAILED", "{failure}");
    node.wait_clean();
}

/// What the kernel holds of a node's only task: a v1 file of a controller, or a v2 file.
fn limit(node: &Node, controller: &str, v1: &str, v2: &str) -> Option<String> {
    let pids = cgroup_processes(&node.cgroup_parent);
    let group = std::fs::read_to_string(format!("/proc/{}/cgroup", pids[0])).expect("a cgroup");
    let text = group.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        let read = |file: String| std::fs::read_to_string(file).ok();
        if controllers.is_empty() {
            read(format!("/sys/fs/cgroup{path}/{v2}"))
        } else if controllers.split(',').any(|name| name == controller) {
            read(format!("/sys/fs/cgroup/{controller}{path}/{v1}"))
        } else {
            None
        }
    });
    text.map(|text| text.trim().to_string())
}

#[test]
fn cpu_is_limited() {
    if !can_run_containers("cpu") {
        return;
    }
    let node = Node::start();
    node.api("POST", "/v2/apps", Some(&app("busy", "while :; do :; done", json!({"cpus": 0.2}))))
        .expect(201);
    node.running("busy", 1);
    let quota = limit(&node, "cpu", "cpu.cfs_quota_us", "cpu.max").expect("a cpu quota");
    assert_eq!(quota.split_whitespace().next(), Some("20000"), "per 100 ms: {quota}");
}

#[test]
fn memory_and_processes_have_limits_in_the_kernel() {
    if !can_run_containers("limits") {
        return;
    }
    let node = Node::start();
    node.api("POST", "/v2/apps", Some(&app("small", "sleep 1000; true", json!({"mem": 2}))))
        .expect(201);
    node.running("small", 1);
    let memory = limit(&node, "memory", "memory.limit_in_bytes", "memory.max");
    assert_eq!(memory.as_deref(), Some("2097152"), "Mesos raised it to 32 MB");
    let pids = limit(&node, "pids", "pids.max", "pids.max").expect("a limit of processes");
    assert!(pids.parse::<u32>().is_ok(), "{pids}");
    // Absent on v1, where swap is counted together with memory.
    if let Some(handed_down) = limit(&node, "", "", "cgroup.controllers")
        && handed_down.split(' ').any(|name| name == "memory")
    {
        let swap = limit(&node, "", "", "memory.swap.max");
        assert_eq!(swap.as_deref(), Some("0"), "swap would soften the limit");
        assert!(["cpu", "pids"].iter().all(|c| handed_down.contains(c)), "{handed_down}");
    }
}

#[test]
fn a_task_that_heeds_sigterm_ends_in_its_own_time() {
    if !can_run_containers("sigterm") {
        return;
    }
    let node = Node::start();
    let heed = "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.1; done";
    let more = json!({"taskKillGracePeriodSeconds": 300});
    node.api("POST", "/v2/apps", Some(&app("heeds", heed, more))).expect(201);
    let task = node.running("heeds", 1).remove(0)["id"].as_str().expect("id").to_string();
    eventually("the trap is set", || {
        let output = node.bramble(&["logs", &task]);
        String::from_utf8_lossy(&output.stdout).contains("ready").then_some(())
    });
    let began = Instant::now();
    node.api("DELETE", "/v2/apps/heeds", None).expect(200);
    node.wait_clean();
    assert!(began.elapsed() < Duration::from_secs(120), "it waited for the grace period");
    // The master has forgotten the app; what the task wrote stays on its node.
    let log = node.data_dir().join("sandboxes").join(&task).join("stdout");
    assert_eq!(std::fs::read_to_string(log).expect("its output"), "ready\nbye\n");
}

#[test]
fn a_task_that_ignores_sigterm_is_killed_after_the_grace() {
    if !can_run_containers("sigkill") {
        return;
    }
    let node = Node::start();
    let ignore = "trap 'echo no' TERM; echo ready; while :; do sleep 0.1; done";
    let more = json!({"taskKillGracePeriodSeconds": 2});
    node.api("POST", "/v2/apps", Some(&app("stubborn", ignore, more))).expect(201);
    node.running("stubborn", 1);
    eventually("the trap is set", || {
        let output = node.bramble(&["logs", "stubborn"]);
        String::from_utf8_lossy(&output.stdout).contains("ready").then_some(())
    });
    let began = Instant::now();
    node.api("DELETE", "/v2/apps/stubborn", None).expect(200);
    node.wait_clean();
    assert!(began.elapsed() >= Duration::from_millis(1_900), "the grace was not given");
}

#[test]
fn a_command_task_sees_little_of_the_host() {
    if !can_run_containers("view") {
        return;
    }
    let node = Node::start();
    node.api("POST", "/v2/apps", Some(&app("view", "sleep 1000", json!({})))).expect(201);
    let task = node.running("view", 1).remove(0)["id"].as_str().expect("id").to_string();
    let (sandbox, code) =
        exec(&node, &task, "echo $MESOS_SANDBOX; cd $MESOS_SANDBOX && touch mine && pwd");
    assert_eq!(code, 0, "{sandbox}");
    let (data, run) = (node.data_dir(), node.run_dir());
    for hidden in [
        data.display().to_string(),
        run.display().to_string(),
        "/root/.bashrc".into(),
        "/etc/shadow".into(),
        "/boot".into(),
    ] {
        let (text, code) = exec(&node, &task, &format!("ls -d {hidden}"));
        assert_ne!(code, 0, "{hidden} is visible: {text}");
    }
    let refused = [
        "touch /usr/mine",
        "touch /bin/mine",
        "mknod /tmp/disk b 254 0 && head -c 1 /tmp/disk",
        "mknod /tmp/tty c 4 0 && head -c 0 < /tmp/tty && echo hi > /tmp/tty",
        "mount -t tmpfs none /tmp",
        "cat /dev/kmsg",
        "echo 1 > /proc/sys/kernel/sysrq",
    ];
    for command in refused {
        let (text, code) = exec(&node, &task, command);
        assert_ne!(code, 0, "{command}: {text}");
    }
    let (processes, _) = exec(&node, &task, "ls -d /proc/[0-9]* | wc -l");
    let count: u32 = processes.trim().parse().expect("a number");
    assert!(count < 10, "it sees the host's processes: {count}");
    let (status, _) = exec(&node, &task, "grep -E 'NoNewPrivs|Seccomp:' /proc/self/status");
    let values: Vec<&str> = status.split_whitespace().collect();
    assert_eq!(values, ["NoNewPrivs:", "1", "Seccomp:", "2"]);
}

#[test]
fn a_container_that_is_killed_is_replaced() {
    if !can_run_containers("killed container") {
        return;
    }
    let node = Node::start();
    let sleeper = app("sleeper", "sleep 1000", json!({"backoffSeconds": 0}));
    node.api("POST", "/v2/apps", Some(&sleeper)).expect(201);
    let first = node.running("sleeper", 1).remove(0);
    for pid in cgroup_processes(&node.cgroup_parent) {
        let pid = nix::unistd::Pid::from_raw(pid);
        // One may have ended with another.
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
    }
    let second = eventually("another task in its place", || {
        let tasks = node.tasks("sleeper");
        tasks.into_iter().find(|t| t["id"] != first["id"] && t["state"] == "TASK_RUNNING")
    });
    assert_eq!(second["appId"], "/sleeper");
    node.api("DELETE", "/v2/apps/sleeper", None).expect(200);
    node.wait_clean();
    assert!(cgroup_processes(&node.cgroup_parent).into_iter().all(|pid| !alive(pid)));
}

#[test]
fn environment_ports_and_user_are_set() {
    if !can_run_containers("environment") {
        return;
    }
    let node = Node::start();
    let show = "id -u; echo $FOO; echo $PORT0 $PORTS $MARATHON_APP_ID; pwd; sleep 1000";
    let more = json!({"user": "nobody", "env": {"FOO": "bar"}, "portDefinitions": [{"port": 0, "name": "a"}, {"port": 0, "name": "b"}]});
    node.api("POST", "/v2/apps", Some(&app("env", show, more))).expect(201);
    let task = node.running("env", 1).remove(0);
    let ports: Vec<u64> =
        task["ports"].as_array().expect("ports").iter().filter_map(Value::as_u64).collect();
    assert!(ports.len() == 2 && ports.iter().all(|p| (31_000..=32_000).contains(p)), "{ports:?}");
    let lines = eventually("its output", || {
        let output = node.bramble(&["logs", "env"]);
        let text = String::from_utf8_lossy(&output.stdout).to_string();
        (text.lines().count() == 4).then_some(text)
    });
    let expected = format!("65534\nbar\n{} {},{} /env\n", ports[0], ports[0], ports[1]);
    assert!(lines.starts_with(&expected), "{lines}");
}

#[test]
fn output_is_bounded() {
    if !can_run_containers("rotation") {
        return;
    }
    let node = Node::start();
    let chatty = "while :; do head -c 1000000 /dev/zero | tr '\\0' 'x'; echo; done";
    node.api("POST", "/v2/apps", Some(&app("chatty", chatty, json!({"cpus": 1, "mem": 64}))))
        .expect(201);
    let task = node.running("chatty", 1).remove(0)["id"].as_str().expect("id").to_string();
    let sandbox = node.data_dir().join("sandboxes").join(&task);
    eventually("a rotated log", || sandbox.join("stdout.1").exists().then_some(()));
    // It writes far more than is kept; what is kept never grows over its bound.
    let began = Instant::now();
    let mut largest = 0;
    eventually("three seconds of writing", || {
        let size = |name: &str| std::fs::metadata(sandbox.join(name)).map_or(0, |m| m.len());
        largest = largest.max(size("stdout") + size("stdout.1"));
        (began.elapsed() > Duration::from_secs(3)).then_some(())
    });
    assert!(largest < 64 << 20, "{largest} bytes of output are kept");
}
