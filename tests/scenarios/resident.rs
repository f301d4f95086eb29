//! Persistent volumes: data outlives tasks, crashes and new versions, stays with its instance on
//! its agent, and goes only when somebody gives it up.

use bramble_tests::{BusyboxImage, Node, bramble, can_run_containers, eventually};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// Each task adds a line to a file in its volume.
fn db(instances: u32, more: Value) -> String {
    let mut app = json!({"id": "/db", "cmd": "echo $MESOS_TASK_ID >> data/log; sleep 10000",
        "cpus": 0.1, "mem": 16, "instances": instances, "backoffSeconds": 0,
        "taskKillGracePeriodSeconds": 1, "container": {"type": "MESOS", "volumes":
            [{"containerPath": "data", "mode": "RW", "persistent": {"size": 10}}]}});
    for (key, value) in more.as_object().expect("an object") {
        app[key] = value.clone();
    }
    app.to_string()
}

fn volume_id(task: &Value) -> String {
    let volumes = task["localVolumes"].as_array().expect("a task with volumes");
    assert_eq!((volumes.len(), &volumes[0]["containerPath"]), (1, &"data".into()));
    volumes[0]["persistenceId"].as_str().expect("an id").to_string()
}

fn volumes(data_dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(data_dir.join("volumes")).expect("the directory of volumes");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths
}

/// Wait until the tasks that used a volume are these.
fn logged(volume: &Path, tasks: &[String]) {
    eventually(&format!("{tasks:?} in {}", volume.display()), || {
        let text = fs::read_to_string(volume.join("log")).ok()?;
        text.lines().eq(tasks.iter().map(String::as_str)).then_some(())
    });
}

/// Wait for a running task that is none of `earlier`.
fn next(node: &Node, earlier: &[String]) -> String {
    let task = eventually(&format!("a new task\n{}", node.log()), || {
        let tasks = node.tasks("db");
        let id = tasks.first()?["id"].as_str()?.to_string();
        let runs = tasks.len() == 1 && tasks[0]["state"] == "TASK_RUNNING";
        (runs && !earlier.contains(&id)).then_some(id)
    });
    assert!(node.tasks("db")[0]["localVolumes"].is_array());
    task
}

#[test]
fn data_outlives_tasks_crashes_and_versions() {
    if !can_run_containers("resident") {
        return;
    }
    let mut node = Node::start();
    node.api("POST", "/v2/apps", Some(&db(1, json!({"user": "nobody"})))).expect(201);
    let first = node.running("db", 1)[0].clone();
    let mut tasks = vec![first["id"].as_str().expect("an id").to_string()];
    let volume = node.data_dir().join("volumes").join(volume_id(&first));
    logged(&volume, &tasks);
    let nobody = fs::metadata(&volume).expect("the volume").uid();
    assert!(nobody != 0, "it belongs to the task's user");

    node.api("DELETE", &format!("/v2/apps/db/tasks/{}", tasks[0]), None).expect(200);
    tasks.push(next(&node, &tasks));
    logged(&volume, &tasks);

    node.stop(Signal::SIGKILL);
    node.up();
    assert_eq!(node.running("db", 1)[0]["id"], tasks[1].as_str(), "it ran on");
    node.api("POST", "/v2/apps/db/restart", None).expect(200);
    tasks.push(next(&node, &tasks));
    logged(&volume, &tasks);

    let change = r#"{"env":{"NEW":"1"}}"#;
    node.api("PUT", "/v2/apps/db?force=true", Some(change)).expect(200);
    tasks.push(next(&node, &tasks));
    logged(&volume, &tasks);
    assert_eq!(volumes(&node.data_dir()), [volume]);
    // The same instance all along.
    let instance = |task: &String| task.rsplit_once("._app.").map(|(i, _)| i.to_string());
    assert!(tasks.iter().all(|task| instance(task) == instance(&tasks[0])), "{tasks:?}");
}

#[test]
fn scaling_keeps_volumes_and_a_wipe_or_the_end_of_the_app_removes_them() {
    if !can_run_containers("volumes and scaling") {
        return;
    }
    let node = Node::start();
    node.api("POST", "/v2/apps", Some(&db(2, json!({})))).expect(201);
    node.running("db", 2);
    let both = volumes(&node.data_dir());
    assert_eq!(both.len(), 2);
    let scale = |count: u32| {
        let body = json!({"instances": count}).to_string();
        node.api("PUT", "/v2/apps/db?force=true", Some(&body)).expect(200);
        node.running("db", count as usize)
    };
    scale(1);
    assert_eq!(volumes(&node.data_dir()), both);
    let mut used: Vec<String> = scale(2).iter().map(volume_id).collect();
    used.sort();
    let names: Vec<String> =
        both.iter().map(|p| p.file_name().unwrap_or_default().to_string_lossy().into()).collect();
    assert_eq!(used, names);

    // One that rests can be given up alone, and so can what belongs to nobody.
    scale(1);
    let stray = node.data_dir().join("volumes/old#data#7");
    fs::create_dir(&stray).expect("a directory");
    let listed = || {
        let output = node.bramble(&["volume", "ls"]);
        String::from_utf8(output.stdout).expect("text")
    };
    for state in ["used", "kept", "left over", "10.5MB"] {
        assert!(listed().contains(state), "{state} in {}", listed());
    }
    let used = volume_id(&node.running("db", 1)[0]);
    let kept = names.iter().find(|name| **name != used).expect("the other one").clone();
    for (id, fine) in [(&used, false), (&kept, true), (&"old#data#7".to_string(), true)] {
        let output = node.bramble(&["volume", "rm", id]);
        assert_eq!(output.status.success(), fine, "{output:?}");
    }
    eventually(&format!("one volume\n{}", node.log()), || {
        let left = volumes(&node.data_dir());
        (left.len() == 1 && left[0].ends_with(&used)).then_some(())
    });
    assert!(!listed().contains("left over") && listed().contains(&used), "{}", listed());

    node.api("DELETE", "/v2/apps/db/tasks?wipe=true", None).expect(200);
    let left = eventually(&format!("a new volume alone\n{}", node.log()), || {
        let left = volumes(&node.data_dir());
        (left.len() == 1 && !both.contains(&left[0])).then_some(left)
    });
    logged(&left[0], &[next(&node, &[])]);
    assert!(node.log().contains("a volume was removed with its data"), "{}", node.log());

    node.api("DELETE", "/v2/apps/db", None).expect(200);
    eventually("no volume", || volumes(&node.data_dir()).is_empty().then_some(()));
    node.wait_clean();
}

#[test]
fn an_image_sees_its_volume_where_a_host_volume_points() {
    if !can_run_containers("volumes of images") {
        return;
    }
    let node = Node::start();
    let line = "echo $MESOS_TASK_ID >> /var/lib/db/log; cat $MESOS_SANDBOX/data/log; sleep 10000";
    let image = BusyboxImage::new("db:1", &["/bin/sh", "-c", line]);
    node.load(&image);
    let container = json!({"type": "DOCKER", "docker": {"image": "db:1"}, "volumes": [
        {"containerPath": "data", "mode": "RW", "persistent": {"size": 10}},
        {"containerPath": "/var/lib/db", "hostPath": "data", "mode": "RW"}]});
    let app = json!({"id": "/db", "cpus": 0.1, "mem": 16, "backoffSeconds": 0,
        "taskKillGracePeriodSeconds": 1, "container": container});
    node.api("POST", "/v2/apps", Some(&app.to_string())).expect(201);
    let mut tasks = vec![next(&node, &[])];
    node.api("DELETE", "/v2/apps/db/tasks", None).expect(200);
    tasks.push(next(&node, &tasks));
    logged(&volumes(&node.data_dir())[0], &tasks);
    eventually("what the task says", || {
        let said = node.bramble(&["logs", "db"]).stdout;
        String::from_utf8_lossy(&said).contains(&tasks[0]).then_some(())
    });
}

#[test]
fn another_agent_never_gets_it() {
    if !can_run_containers("a resident's agent") {
        return;
    }
    let node = Node::start();
    let token = String::from_utf8(node.bramble(&["token"]).stdout).expect("text");
    let far = node.root().join("far");
    let mut command = node.inside(&bramble().display().to_string());
    command.args(["agent", "--name", "far", "--join", "127.0.0.1:7443", "--token", token.trim()]);
    command.arg("--data-dir").arg(far.join("data")).arg("--run-dir").arg(far.join("run"));
    command.arg("--cgroup-parent").arg(format!("{}/far", node.cgroup_parent));
    command.args(["--quic", "127.0.0.1:0", "--http", "127.0.0.1:0"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut agent = command.spawn().expect("an agent starts");
    eventually("the far agent", || {
        let agents = node.get("/v1/bramble/status")["agents"].as_array()?.clone();
        agents.iter().any(|a| a["name"] == "far" && a["connected"] == true).then_some(())
    });
    let there = json!({"constraints": [["hostname", "LIKE", "far|x"]]});
    node.api("POST", "/v2/apps", Some(&db(1, there))).expect(201);
    let first = next(&node, &[]);
    let volume = volumes(&far.join("data"))[0].clone();
    logged(&volume, std::slice::from_ref(&first));
    // At rest, and its agent goes: the other one is there, allowed, and does not get it.
    node.api("PUT", "/v2/apps/db?force=true", Some(r#"{"constraints":[],"instances":0}"#))
        .expect(200);
    eventually("no task", || node.tasks("db").is_empty().then_some(()));
    let pid = nix::unistd::Pid::from_raw(agent.id() as i32);
    nix::sys::signal::kill(pid, Signal::SIGTERM).expect("it lives");
    eventually("the far agent's end", || agent.try_wait().ok().flatten());
    node.api("PUT", "/v2/apps/db?force=true", Some(r#"{"instances":1}"#)).expect(200);
    eventually("the reason in the queue", || {
        let queue = node.get("/v2/queue?embed=lastUnusedOffers");
        let offer = queue["queue"][0]["lastUnusedOffers"][0].clone();
        (offer["reason"][0] == "NoCorrespondingReservationFound").then_some(())
    });
    let why = String::from_utf8(node.bramble(&["why", "db"]).stdout).expect("text");
    assert!(why.contains("the instance's volumes are on far"), "{why}");
    assert!(volumes(&node.data_dir()).is_empty() && node.tasks("db").is_empty());
    let mut agent = command.spawn().expect("the agent starts again");
    let second = next(&node, std::slice::from_ref(&first));
    logged(&volume, &[first, second]);

    // The app goes while its agent is away: nobody is there to remove the data, and nobody
    // forgets that it is to be removed.
    let pid = nix::unistd::Pid::from_raw(agent.id() as i32);
    nix::sys::signal::kill(pid, Signal::SIGTERM).expect("it lives");
    eventually("the far agent's end", || agent.try_wait().ok().flatten());
    node.api("DELETE", "/v2/apps/db", None).expect(200);
    assert!(volume.join("log").exists());
    let mut agent = command.spawn().expect("the agent starts again");
    eventually(&format!("no volume\n{}", node.log()), || (!volume.exists()).then_some(()));
    eventually("no task", || node.tasks("db").is_empty().then_some(()));
    let pid = nix::unistd::Pid::from_raw(agent.id() as i32);
    nix::sys::signal::kill(pid, Signal::SIGTERM).expect("it lives");
    eventually("the far agent's end", || agent.try_wait().ok().flatten());
}
