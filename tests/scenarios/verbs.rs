//! The client verbs: short output, JSON, exit codes.

use bramble_tests::{Node, can_run_containers, eventually};
use serde_json::Value;
use std::process::{Output, Stdio};

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).to_string()
}

fn good(output: Output) -> String {
    assert!(output.status.success(), "{output:?}");
    out(&output)
}

const WEB: &str = r#"{"id":"/shop/web","cmd":"echo to out; echo to err >&2; sleep 10000","cpus":0.1,"mem":16,"instances":1}"#;

#[test]
fn an_app_from_deploy_to_rm() {
    if !can_run_containers("verbs") {
        return;
    }
    let node = Node::start();
    let file = node.root().join("web.json");
    std::fs::write(&file, WEB).expect("written");
    let file = file.display().to_string();
    assert_eq!(good(node.bramble(&["deploy", &file, "--wait"])), "done\n");
    let apps = good(node.bramble(&["apps"]));
    assert!(apps.starts_with("ID ") && apps.contains("/shop/web"), "{apps}");
    let ps = good(node.bramble(&["ps"]));
    assert!(ps.contains("/shop/web") && ps.contains("running"), "{ps}");
    let json: Value = serde_json::from_str(&good(node.bramble(&["ps", "--json"]))).expect("JSON");
    let task = json["tasks"][0]["id"].as_str().expect("a task").to_string();
    assert_eq!(good(node.bramble(&["logs", "/shop/web"])), "to out\n");
    assert_eq!(good(node.bramble(&["logs", "--stderr", &task])), "to err\n");
    // Deploying a changed file changes the app.
    std::fs::write(&file, WEB.replace("\"instances\":1", "\"instances\":2")).expect("written");
    assert_eq!(good(node.bramble(&["deploy", &file, "--wait"])), "done\n");
    node.running("shop/web", 2);
    assert_eq!(good(node.bramble(&["scale", "shop/web=1", "--wait"])), "done\n");
    node.running("shop/web", 1);
    assert_eq!(good(node.bramble(&["restart", "shop/web", "--wait"])), "done\n");
    let status = good(node.bramble(&["status"]));
    assert!(status.contains(&node.name) && status.contains("connected"), "{status}");
    let token = good(node.bramble(&["token"]));
    assert!(token.starts_with("BRAMBLE-1-"), "{token}");
    assert_eq!(good(node.bramble(&["rm", "shop/web", "--wait"])), "done\n");
    node.wait_clean();
}

#[test]
fn exec_passes_input_output_and_exit_code() {
    if !can_run_containers("exec") {
        return;
    }
    let node = Node::start();
    node.bramble_with_input(&["deploy", "-", "--wait"], WEB.as_bytes());
    node.running("shop/web", 1);
    let output = node.bramble_with_input(
        &["exec", "/shop/web", "--", "sh", "-c", "cat; echo err >&2; exit 3"],
        b"from here\n",
    );
    assert_eq!(out(&output), "from here\n");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "err\n");
    assert_eq!(output.status.code(), Some(3));
    let missing = node.bramble(&["exec", "/shop/web", "--", "/no/such/program"]);
    assert!(!missing.status.success() && !missing.stderr.is_empty(), "{missing:?}");
    // With a terminal, the command sees one.
    let tty = node.bramble_with_input(
        &["exec", "-t", "/shop/web", "--", "sh", "-c", "test -t 1 && echo tty"],
        b"",
    );
    assert!(out(&tty).contains("tty"), "{tty:?}");
}

#[test]
fn exec_ends_with_its_command_and_takes_it_along() {
    if !can_run_containers("the end of exec") {
        return;
    }
    let node = Node::start();
    node.bramble_with_input(&["deploy", "-", "--wait"], WEB.as_bytes());
    // An input that stays open, as a terminal's does, holds nothing up.
    let mut open = node.verb(&["exec", "-t", "/shop/web", "--", "sh", "-c", "exit 7"]);
    let mut open = open.stdin(Stdio::piped()).spawn().expect("starts");
    let ended = eventually("the end of exec -t", || open.try_wait().ok().flatten());
    assert_eq!(ended.code(), Some(7));
    // Neither its output nor its code is lost to input that it leaves unread.
    let mut unread = node.verb(&["exec", "/shop/web", "--", "sh", "-c", "echo out; exit 5"]);
    let input = node.root().join("unread");
    std::fs::write(&input, vec![b'x'; 16 << 20]).expect("written");
    for _ in 0..5 {
        let output = unread.stdin(std::fs::File::open(&input).expect("opens")).output();
        let output = output.expect("it runs");
        assert_eq!((out(&output).as_str(), output.status.code()), ("out\n", Some(5)), "{output:?}");
    }
    // A command that says nothing ends with who asked for it.
    let mut silent = node.verb(&["exec", "/shop/web", "--", "sleep", "54321"]);
    let mut silent = silent.stdin(Stdio::null()).spawn().expect("starts");
    let seen = || {
        let all = ["exec", "/shop/web", "--", "sh", "-c", "cat /proc/[0-9]*/cmdline"];
        out(&node.bramble(&all)).contains("54321")
    };
    eventually("the silent command", || seen().then_some(()));
    silent.kill().expect("killed");
    silent.wait().expect("ended");
    eventually("the silent command's end", || (!seen()).then_some(()));
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    if !can_run_containers("closed pipes") {
        return;
    }
    let node = Node::start();
    node.bramble_with_input(&["deploy", "-", "--wait"], WEB.as_bytes());
    let rows: [&[&str]; 6] =
        [&["apps"], &["ps", "--json"], &["images"], &["status"], &["token"], &["logs", "shop/web"]];
    for arguments in rows {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let output = node.verb(arguments).stdout(writer).stderr(Stdio::piped()).output();
        let output = output.expect("it runs");
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {output:?}");
        assert!(output.stderr.is_empty(), "{arguments:?}: {output:?}");
    }
}

#[test]
fn a_deploy_that_does_not_stand_says_why() {
    if !can_run_containers("deploy --wait") {
        return;
    }
    let node = Node::start();
    let sick = r#"{"id":"sick","cmd":"sleep 100","cpus":0.1,"mem":16,"healthChecks":[{"protocol":"COMMAND","command":{"value":"false"},"delaySeconds":0,"gracePeriodSeconds":0,"intervalSeconds":1,"maxConsecutiveFailures":0}]}"#;
    let rows = [
        (r#"{"id":"fails","cmd":"exit 9","cpus":0.1,"mem":16}"#, "30", 1, "exited with status 9"),
        (r#"{"id":"late","cmd":"sleep 0.3; exit 8","cpus":0.1,"mem":16}"#, "30", 1, "status 8"),
        (r#"[{"id":"huge","cmd":"sleep 9","cpus":9000}]"#, "60", 1, "/huge: 1 waiting for room"),
        (r#"[{"id":"slow","cmd":"sleep 9","cpus":9000}]"#, "1", 4, "/slow: 1 waiting for room"),
        (sick, "12", 4, "sick: 1 of 1 running, 0 healthy"),
    ];
    for (app, seconds, code, reason) in rows {
        let wait = ["deploy", "-", "--wait", "--timeout", seconds];
        let output = node.bramble_with_input(&wait, app.as_bytes());
        assert_eq!(output.status.code(), Some(code), "{app}: {output:?}");
        let said = String::from_utf8_lossy(&output.stderr).to_string();
        assert!(said.contains(reason), "{app}: {said}");
    }
    // What cannot be deployed can be removed, though its deployment is under way.
    assert_eq!(good(node.bramble(&["rm", "huge", "--wait"])), "done\n");
}

#[test]
fn logs_follow() {
    if !can_run_containers("logs -f") {
        return;
    }
    let node = Node::start();
    let app = r#"{"id":"ticker","cmd":"i=0; while :; do echo tick $i; i=$((i+1)); sleep 0.2; done","cpus":0.1,"mem":16}"#;
    node.bramble_with_input(&["deploy", "-", "--wait"], app.as_bytes());
    let file = std::fs::File::create(node.root().join("follow")).expect("created");
    let mut child =
        node.verb(&["logs", "-f", "-n", "1", "ticker"]).stdout(file).spawn().expect("starts");
    eventually("ticks written after the start", || {
        let text = std::fs::read_to_string(node.root().join("follow")).ok()?;
        (text.lines().count() >= 4).then_some(())
    });
    // It ends by itself when the task does.
    node.api("DELETE", "/v2/apps/ticker", None).expect(200);
    eventually("the end of logs -f", || child.try_wait().ok().flatten());
}

#[test]
fn exit_codes_tell_scripts_what_happened() {
    if !can_run_containers("exit codes") {
        return;
    }
    let node = Node::start();
    let rows: [(&[&str], i32); 8] = [
        (&["apps"], 0),
        (&["load", "/tmp"], 1),
        (&["rm", "none"], 1),
        (&["scale", "none=2"], 1),
        (&["logs", "none"], 1),
        (&["no-such-verb"], 2),
        (&["scale", "web"], 2),
        (&["apps", "--url", "http://127.0.0.1:1"], 3),
    ];
    for (arguments, code) in rows {
        let output = node.bramble(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {output:?}");
        if code != 0 {
            assert!(!output.stderr.is_empty(), "{arguments:?}");
        }
    }
    for (name, text) in [("no.json", "{"), ("noid.json", "{}"), ("number.json", "7")] {
        let file = node.root().join(name);
        std::fs::write(&file, text).expect("written");
        let output = node.bramble(&["deploy", &file.display().to_string()]);
        assert_eq!(output.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&output.stderr).contains(name), "{output:?}");
    }
}
