//! Images without a registry: load, run, publish a port, and refuse what is broken.

use bramble_tests::{BusyboxImage, Node, can_run_containers, eventually};
use serde_json::json;

fn fetch(node: &Node, url: &str) -> Option<String> {
    let output = node.inside("curl").args(["-sS", "-m", "5", url]).output().expect("curl runs");
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).to_string())
}

fn web() -> BusyboxImage {
    BusyboxImage::new("bramble-test/web:1", &["httpd", "-f", "-p", "80", "-h", "/www"])
        .file("www/index.html", b"it answers\n")
}

#[test]
fn a_loaded_web_server_answers_on_its_host_port() {
    if !can_run_containers("bridge") {
        return;
    }
    let node = Node::start();
    node.load(&web());
    let listed = node.bramble(&["images"]);
    let listed = String::from_utf8_lossy(&listed.stdout).to_string();
    assert!(listed.contains("bramble-test/web:1"), "{listed}");
    let app = json!({"id": "web", "cpus": 0.1, "mem": 16, "instances": 2, "container": {
        "type": "DOCKER", "docker": {"image": "bramble-test/web:1", "network": "BRIDGE",
        "portMappings": [{"containerPort": 80, "hostPort": 0, "protocol": "tcp"}]}}});
    node.api("POST", "/v2/apps", Some(&app.to_string())).expect(201);
    let mut addresses = Vec::new();
    for task in node.running("web", 2) {
        let port = task["ports"][0].as_u64().expect("a host port");
        assert!((31_000..=32_000).contains(&port), "{port}");
        eventually("the page", || {
            let page = fetch(&node, &format!("http://localhost:{port}/"))?;
            (page == "it answers\n").then_some(())
        });
        addresses.push(task["ipAddresses"][0]["ipAddress"].as_str().expect("an ip").to_string());
    }
    assert_ne!(addresses[0], addresses[1]);
    // One container reaches the other through the host's published port.
    let tasks = node.running("web", 2);
    let (from, to) = (tasks[0]["id"].as_str().expect("id"), &tasks[1]["ports"][0]);
    let gateway = addresses[0].rsplit_once('.').expect("an IPv4 address").0.to_string() + ".1";
    let output = node.bramble(&[
        "exec",
        from,
        "--",
        "wget",
        "-q",
        "-O",
        "-",
        &format!("http://{gateway}:{to}/"),
    ]);
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "it answers\n",
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    node.api("DELETE", "/v2/apps/web", None).expect(200);
    node.wait_clean();
    let links = node.inside("ip").args(["-o", "link"]).output().expect("ip runs");
    let links = String::from_utf8_lossy(&links.stdout).to_string();
    assert!(!links.contains("veth") && !links.contains("@if"), "{links}");
}

#[test]
fn published_ports_outlive_a_killed_bramble() {
    if !can_run_containers("bridge adoption") {
        return;
    }
    let mut node = Node::start();
    node.load(&web());
    let app = json!({"id": "web", "cpus": 0.1, "mem": 16, "container": {
        "type": "DOCKER", "docker": {"image": "bramble-test/web:1"},
        "portMappings": [{"containerPort": 80, "hostPort": 0}]},
        "networks": [{"mode": "container/bridge"}]});
    node.api("POST", "/v2/apps", Some(&app.to_string())).expect(201);
    let before = node.running("web", 1).remove(0);
    let url = format!("http://localhost:{}/", before["ports"][0]);
    eventually("the page", || fetch(&node, &url));
    node.stop(nix::sys::signal::Signal::SIGKILL);
    assert_eq!(fetch(&node, &url).as_deref(), Some("it answers\n"), "while bramble is dead");
    node.up();
    let after = node.running("web", 1).remove(0);
    assert_eq!((&before["id"], &before["ipAddresses"]), (&after["id"], &after["ipAddresses"]));
    assert_eq!(fetch(&node, &url).as_deref(), Some("it answers\n"), "after adoption");
    node.api("DELETE", "/v2/apps/web", None).expect(200);
    node.wait_clean();
    assert_eq!(fetch(&node, &url), None, "the port is still published");
}

#[test]
fn image_settings_are_taken_as_docker_takes_them() {
    if !can_run_containers("image settings") {
        return;
    }
    let node = Node::start();
    let mut image = BusyboxImage::new("settings:1", &["default"]);
    image.entrypoint = vec![
        "sh".into(),
        "-c".into(),
        "echo $0 $1 $FROM_IMAGE $FROM_APP; id -u; id -g; pwd; exec sleep 1000".into(),
    ];
    image.environment.push("FROM_IMAGE=image".into());
    image.user = "web".into();
    image.working_directory = "/www".into();
    node.load(&image);
    let container = json!({"type": "DOCKER", "docker": {"image": "settings:1"}});
    let with_args = json!({"id": "args", "args": ["one", "two"], "env": {"FROM_APP": "app"}, "cpus": 0.1, "mem": 16, "container": container});
    let plain = json!({"id": "plain", "cpus": 0.1, "mem": 16, "container": container});
    for (id, app, first_line) in
        [("args", with_args, "one two image app"), ("plain", plain, "default image")]
    {
        node.api("POST", "/v2/apps", Some(&app.to_string())).expect(201);
        node.running(id, 1);
        let text = eventually("its output", || {
            let output = node.bramble(&["logs", id]);
            let text = String::from_utf8_lossy(&output.stdout).to_string();
            (text.lines().count() == 4).then_some(text)
        });
        let lines: Vec<String> =
            text.lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(lines, [first_line, "101", "102", "/www"], "{id}");
    }
}

#[test]
fn a_broken_archive_is_refused_and_leaves_nothing() {
    if !can_run_containers("broken archives") {
        return;
    }
    let node = Node::start();
    let archive = web().save(node.root());
    let bytes = std::fs::read(&archive).expect("the archive was written");
    let count = || walk(&node.data_dir().join("images"));
    // The API answers before the agent has opened its store.
    let before = eventually("the image store", || Some(count()).filter(|found| !found.is_empty()));
    let half = node.root().join("half.tar");
    std::fs::write(&half, &bytes[..bytes.len() / 2]).expect("written");
    let lying = node.root().join("lying.tar");
    let mut changed = bytes.clone();
    // One byte in the middle of the layer: the tar is whole, the digest is not.
    let middle = changed.len() / 2;
    changed[middle] ^= 0xff;
    std::fs::write(&lying, changed).expect("written");
    let text = node.root().join("text.tar");
    std::fs::write(&text, "this is no archive\n").expect("written");
    for file in [half, lying, text] {
        let output = node.bramble(&["load", &file.display().to_string()]);
        assert_eq!(output.status.code(), Some(1), "{}", file.display());
        let said = String::from_utf8_lossy(&output.stderr).to_string();
        assert!(said.starts_with("bramble: ") && said.len() > 20, "{said}");
        assert_eq!(count(), before, "{} left something: {said}", file.display());
    }
}

fn walk(directory: &std::path::Path) -> Vec<String> {
    let mut found = Vec::new();
    let Ok(entries) = std::fs::read_dir(directory) else { return found };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(walk(&path));
        } else {
            found.push(path.display().to_string());
        }
    }
    found.sort();
    found
}

#[test]
fn an_image_that_does_not_exist_is_named_as_the_reason() {
    if !can_run_containers("missing image") {
        return;
    }
    let node = Node::start();
    // A registry on this machine that nobody runs.
    let app = r#"{"id":"missing","cpus":0.1,"mem":16,"container":{"type":"DOCKER","docker":{"image":"localhost:1/no/such:thing"}}}"#;
    let output =
        node.bramble_with_input(&["deploy", "-", "--wait", "--timeout", "60"], app.as_bytes());
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).to_string();
    assert!(said.contains("localhost:1/no/such:thing"), "{said}");
}
