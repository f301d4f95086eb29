//! The hello app: a real 2 MiB limit, its output, its end after 30 s, and Marathon's backoff.

use bramble_tests::{Node, can_run_containers, eventually};
use std::fs;
use std::path::Path;
use std::time::Instant;

/// The memory limit of the cgroup that a process is in, v1 or v2, in bytes.
fn memory_limit(pid: i32) -> Option<u64> {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let file = match controllers {
            "memory" => format!("/sys/fs/cgroup/memory{path}/memory.limit_in_bytes"),
            "" => format!("/sys/fs/cgroup{path}/memory.max"),
            _ => continue,
        };
        if Path::new(&file).exists() {
            return fs::read_to_string(file).ok()?.trim().parse().ok();
        }
    }
    None
}

#[test]
fn hello_runs_under_two_mebibytes_and_comes_again() {
    if !can_run_containers("hello") {
        return;
    }
    let node = Node::start();
    let hello =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/hello.json"));
    node.api("POST", "/v2/apps", Some(&hello.expect("the example exists"))).expect(201);
    let first = node.running("hello", 1).remove(0);
    let began = Instant::now();
    let pids = bramble_tests::cgroup_processes(&node.cgroup_parent);
    let limits: Vec<_> = pids.iter().filter_map(|pid| memory_limit(*pid)).collect();
    assert!(!limits.is_empty() && limits.iter().all(|limit| *limit == 2 << 20), "{limits:?}");
    let output = node.bramble(&["logs", "hello"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "hello world\n");
    // It ends by itself after 30 s with exit code 0, and its instance gets another task.
    let second = eventually("the next run of hello", || {
        node.tasks("hello").into_iter().find(|task| task["id"] != first["id"])
    });
    assert!(began.elapsed().as_secs() >= 25, "it ended too early: {second}");
    let (first, second) = (first["id"].as_str().expect("id"), second["id"].as_str().expect("id"));
    assert!(first.ends_with("._app.1") && second.ends_with("._app.2"), "{first} {second}");
    assert!(node.get("/v2/apps/hello")["app"].get("lastTaskFailure").is_none());
}

#[test]
fn failing_tasks_are_delayed_longer_and_longer() {
    if !can_run_containers("backoff") {
        return;
    }
    let node = Node::start();
    let app = r#"{"id":"fails","cmd":"echo no good >&2; exit 7","mem":16,"cpus":0.1,"instances":1,"backoffSeconds":1,"backoffFactor":100,"maxLaunchDelaySeconds":3600}"#;
    node.api("POST", "/v2/apps", Some(app)).expect(201);
    // First failure: 1 s. Second: 100 s, so that the third run is far away.
    let item = eventually("a long delay in the queue", || {
        let queue = node.get("/v2/queue");
        let item = queue["queue"].as_array()?.first()?.clone();
        item["delay"]["timeLeftSeconds"].as_u64().filter(|left| *left > 50).map(|_| item)
    });
    assert_eq!(item["delay"]["overdue"], false);
    assert_eq!(item["count"], 1);
    let failure = &node.get("/v2/apps/fails")["app"]["lastTaskFailure"];
    assert_eq!(failure["state"], "TASK_FAILED");
    assert!(failure["message"].as_str().is_some_and(|m| m.contains("status 7")), "{failure}");
    assert_eq!(
        String::from_utf8_lossy(
            &node.bramble(&["logs", "--stderr", failure["taskId"].as_str().expect("id")]).stdout
        ),
        "no good\n"
    );
    // The delay can be taken away by hand.
    node.api("DELETE", "/v2/queue/fails/delay", None).expect(204);
    let id = failure["taskId"].as_str().expect("id").to_string();
    eventually("another failure at once", || {
        let failure = node.get("/v2/apps/fails")["app"]["lastTaskFailure"]["taskId"].clone();
        (failure.as_str() != Some(&id)).then_some(())
    });
}
