//! Bad input and bad surroundings: a clear error each, and nothing changed.

use bramble_tests::{Node, can_run_containers, eventually};
use std::io::Write;
use std::process::{Command, Stdio};

#[test]
fn bad_requests_are_explained_and_change_nothing() {
    if !can_run_containers("bad requests") {
        return;
    }
    let node = Node::start();
    let long = format!(r#"{{"id":"{}","cmd":"sleep 1"}}"#, "a".repeat(10_000));
    let rows: [(&str, &str, Option<&str>, u16, &str); 12] = [
        ("POST", "/v2/apps", Some("{not json"), 400, "Invalid JSON"),
        ("POST", "/v2/apps", Some("[1"), 400, "Invalid JSON"),
        ("POST", "/v2/apps", Some(r#"{"id":1,"cmd":"x"}"#), 422, "error.expected.jsstring"),
        ("POST", "/v2/apps", Some(r#"{"id":"a","cmd":"sleep 1","cpus":"two"}"#), 422, "/cpus"),
        ("POST", "/v2/apps", Some(r#"{"id":"a","cmd":"sleep 1","cpus":-1}"#), 422, "/cpus"),
        ("POST", "/v2/apps", Some(r#"{"id":"A_B","cmd":"sleep 1"}"#), 422, "must fully match"),
        (
            "POST",
            "/v2/apps",
            Some(r#"{"id":"a","cmd":"sleep 1","args":["x"]}"#),
            422,
            "Object is not valid",
        ),
        ("POST", "/v2/apps", Some(&long), 422, "/id"),
        (
            "PUT",
            "/v2/apps/none?partialUpdate=true",
            Some(r#"{"version":"2020-01-01T00:00:00.000Z"}"#),
            404,
            "does not exist",
        ),
        ("GET", "/v2/apps/none", None, 404, "App '/none' does not exist"),
        ("DELETE", "/v2/apps/none", None, 404, "App '/none' does not exist"),
        ("POST", "/v2/apps/none/restart", None, 404, "App '/none' does not exist"),
    ];
    for (method, path, body, status, word) in rows {
        let answer = node.api(method, path, body);
        assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
        assert!(answer.json()["message"].is_string(), "{answer:?}");
        assert!(answer.body.contains(word), "{method} {path}: {word} is not in {}", answer.body);
    }
    assert_eq!(node.get("/v2/apps")["apps"].as_array().map(Vec::len), Some(0));
    assert_eq!(node.get("/v2/deployments").as_array().map(Vec::len), Some(0));
}

#[test]
fn a_hundred_megabytes_are_not_taken() {
    if !can_run_containers("large body") {
        return;
    }
    let node = Node::start();
    let mut curl = node.inside("curl");
    curl.args(["-sS", "-i", "-m", "60", "-X", "POST", "-H", "Content-Type: application/json"]);
    curl.args(["-T", "-", "http://localhost:8080/v2/apps"]);
    let mut child = curl
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("curl starts");
    let mut input = child.stdin.take().expect("an input");
    let feeder = std::thread::spawn(move || {
        let chunk = vec![b' '; 1 << 20];
        // The server hangs up before everything is sent: that is the point.
        for _ in 0..100 {
            if input.write_all(&chunk).is_err() {
                return;
            }
        }
    });
    let output = child.wait_with_output().expect("curl ends");
    feeder.join().expect("the feeder ends");
    let text = String::from_utf8_lossy(&output.stdout).to_string();
    assert!(text.contains(" 413 "), "{text}");
    // The node did not swallow it into memory, and goes on.
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.pid())).expect("alive");
    let peak = status.lines().find(|l| l.starts_with("VmHWM")).expect("a peak").to_string();
    let kilobytes: u64 =
        peak.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number");
    assert!(kilobytes < 90_000, "{peak}");
    node.get("/v2/apps");
}

#[test]
fn what_fits_no_machine_waits_and_says_what_is_short() {
    if !can_run_containers("too large") {
        return;
    }
    let node =
        Node::builder().arg("--resources").arg("cpus:2;mem:1024;ports:[31000-31001]").start();
    let rows = [
        (r#"{"id":"cpus","cmd":"sleep 100","cpus":3.5,"mem":16}"#, "InsufficientCpus"),
        (r#"{"id":"mem","cmd":"sleep 100","cpus":0.1,"mem":4096}"#, "InsufficientMemory"),
        (
            r#"{"id":"ports","cmd":"sleep 100","cpus":0.1,"mem":16,"portDefinitions":[{"port":0},{"port":0},{"port":0}]}"#,
            "InsufficientPorts",
        ),
        (
            r#"{"id":"where","cmd":"sleep 100","cpus":0.1,"mem":16,"constraints":[["hostname","LIKE","nowhere"]]}"#,
            "UnfulfilledConstraint",
        ),
    ];
    for (app, reason) in rows {
        node.api("POST", "/v2/apps", Some(app)).expect(201);
        let id = &app[7..app.find("\",").expect("an id")];
        let item = eventually(&format!("{id} in the queue with its reason"), || {
            let queue = node.get("/v2/queue?embed=lastUnusedOffers");
            let items = queue["queue"].as_array()?.clone();
            let item = items.into_iter().find(|i| i["app"]["id"] == format!("/{id}"))?;
            item["lastUnusedOffers"].as_array().is_some_and(|o| !o.is_empty()).then_some(item)
        });
        let said = item["lastUnusedOffers"][0]["reason"].to_string();
        assert!(said.contains(reason), "{said}");
        let summary = item["processedOffersSummary"]["rejectSummaryLastOffers"]
            .as_array()
            .expect("a summary");
        let row = summary.iter().find(|row| row["reason"] == reason).expect("the reason");
        assert_eq!(row["declined"], 1, "{row}");
        assert!(node.tasks(id).is_empty());
    }
    let app = r#"{"id":"wait","cmd":"sleep 100","cpus":9,"mem":16}"#;
    let output = node.bramble_with_input(&["deploy", "-", "--wait"], app.as_bytes());
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).to_string();
    assert!(said.contains("cpus") && said.contains('9'), "how much is short: {said}");
}

#[test]
fn a_port_that_something_else_listens_on_is_not_offered() {
    if !can_run_containers("squatted port") {
        return;
    }
    let mut node = Node::builder().prepare();
    let mut squatter = node.inside("busybox");
    squatter.args(["nc", "-l", "-p", "31000"]).stdin(Stdio::piped());
    let mut squatter = squatter.spawn().expect("nc starts");
    eventually("the squatter listens", || {
        let sockets = node.inside("cat").args(["/proc/net/tcp", "/proc/net/tcp6"]).output().ok()?;
        String::from_utf8_lossy(&sockets.stdout).contains(":7918 ").then_some(())
    });
    node.up();
    let app = r#"{"id":"pinned","cmd":"sleep 100","cpus":0.1,"mem":16,"portDefinitions":[{"port":31000}],"requirePorts":true}"#;
    node.api("POST", "/v2/apps", Some(app)).expect(201);
    let said = eventually("the taken port as a reason", || {
        let queue = node.get("/v2/queue?embed=lastUnusedOffers");
        let reason = queue["queue"][0]["lastUnusedOffers"][0]["reason"].to_string();
        (reason != "null").then_some(reason)
    });
    assert!(said.contains("InsufficientPorts") && said.contains("31000"), "{said}");
    squatter.kill().expect("it lives");
    squatter.wait().expect("it ends");
    node.running("pinned", 1);
}

#[test]
fn a_taken_port_and_a_taken_directory_are_named() {
    if !can_run_containers("taken") {
        return;
    }
    let node = Node::start();
    // The same data dir: owned by the running bramble, named with its pid.
    let second = node.up_command().output().expect("it runs");
    assert!(!second.status.success());
    let said = String::from_utf8_lossy(&second.stderr).to_string();
    assert!(said.contains(&node.pid().to_string()) && said.contains("data"), "{said}");
    // Another data dir, the same port.
    let other = node.root().join("other");
    let mut command = node.inside(&bramble_tests::bramble().display().to_string());
    command
        .arg("up")
        .arg("--data-dir")
        .arg(&other)
        .arg("--run-dir")
        .arg(node.root().join("other-run"));
    let third = command.output().expect("it runs");
    assert!(!third.status.success());
    let said = String::from_utf8_lossy(&third.stderr).to_string();
    assert!(said.contains("8080"), "{said}");
    assert!(!other.join("identity").exists(), "a refused start made keys");
    node.get("/v2/info");
}

#[test]
fn a_slip_in_the_flags_leaves_nothing_behind() {
    let rows = [
        ("--resources", "cpus:-1"),
        ("--resources", "colour:3"),
        ("--attributes", "rack"),
        ("--http", "8080"),
        ("--name", "a b"),
    ];
    let node = Node::builder().prepare();
    for (flag, value) in rows {
        let mut command = node.inside(&bramble_tests::bramble().display().to_string());
        command.arg("up").arg("--data-dir").arg(node.data_dir());
        let output = command.args([flag, value]).output().expect("it runs");
        assert_eq!(output.status.code(), Some(1), "{flag} {value}: {output:?}");
        let said = String::from_utf8_lossy(&output.stderr).to_string();
        assert!(said.contains(&flag[2..]) && said.contains(value), "{said}");
        assert!(!node.data_dir().exists(), "{flag} {value} left a data directory");
    }
}

#[test]
fn a_full_disk_refuses_writes_and_recovers() {
    if !can_run_containers("full disk") {
        return;
    }
    let small = tempfile::tempdir().expect("a directory");
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=48m", "tmpfs"])
        .arg(small.path())
        .status()
        .expect("mount runs");
    assert!(mounted.success());
    let mount = Unmount(small.path().to_path_buf());
    let node = Node::builder().data_dir(&small.path().join("data")).start();
    let filler = small.path().join("filler");
    let written = Command::new("dd")
        .args(["if=/dev/zero", "bs=64k"])
        .arg(format!("of={}", filler.display()))
        .stderr(Stdio::null())
        .status();
    assert!(!written.expect("dd runs").success(), "the disk should be full now");
    let app = r#"{"id":"late","cmd":"sleep 1","cpus":0.1,"mem":16,"instances":0}"#;
    let refused = node.api("POST", "/v2/apps", Some(app));
    assert_eq!(refused.status, 503, "{refused:?}");
    let message = refused.json()["message"].to_string();
    assert!(
        message.contains("disk") || message.contains("space") || message.contains("free"),
        "{message}"
    );
    assert_eq!(node.get("/v2/apps")["apps"].as_array().map(Vec::len), Some(0));
    std::fs::remove_file(&filler).expect("removed");
    eventually("room again", || {
        (node.api("POST", "/v2/apps", Some(app)).status == 201).then_some(())
    });
    drop(node);
    drop(mount);
}

struct Unmount(std::path::PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_read_only_disk_is_named_at_start() {
    if !can_run_containers("read-only disk") {
        return;
    }
    let place = tempfile::tempdir().expect("a directory");
    let mounted =
        Command::new("mount").args(["-t", "tmpfs", "-o", "ro", "tmpfs"]).arg(place.path()).status();
    assert!(mounted.expect("mount runs").success());
    let _mount = Unmount(place.path().to_path_buf());
    let node = Node::builder().prepare();
    let mut command = node.inside(&bramble_tests::bramble().display().to_string());
    command
        .arg("up")
        .arg("--data-dir")
        .arg(place.path().join("data"))
        .arg("--run-dir")
        .arg(node.run_dir());
    let output = command.output().expect("it runs");
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).to_string();
    assert!(said.to_lowercase().contains("read-only"), "{said}");
}

#[test]
fn strangers_are_kept_out() {
    if !can_run_containers("access") {
        return;
    }
    for (arguments, expected) in [(vec![], 401), (vec!["--open-api"], 200)] {
        let mut builder = Node::builder();
        for argument in &arguments {
            builder = builder.arg(argument);
        }
        let node = builder.start();
        // Another address of the same machine is not loopback.
        let added = node.inside("ip").args(["addr", "add", "10.77.0.1/32", "dev", "lo"]).status();
        assert!(added.expect("ip runs").success());
        let url = "http://10.77.0.1:8080/v2/apps";
        let output =
            node.inside("curl").args(["-sS", "-i", "--interface", "10.77.0.1", url]).output();
        let text = String::from_utf8_lossy(&output.expect("curl runs").stdout).to_string();
        let answer = bramble_tests::Answer::parse(&text).expect(expected);
        if expected == 401 {
            assert!(
                answer.json()["message"].as_str().is_some_and(|m| m.contains("--open-api")),
                "{answer:?}"
            );
        } else {
            eventually("a warning", || node.banner().contains("run code as root").then_some(()));
        }
    }
}
