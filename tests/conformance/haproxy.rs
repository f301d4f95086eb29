//! HAProxy fed from the text task list, as the script of Marathon 0.8 did it: one `listen` per
//! service port, one `server` per address, the configuration written anew after every change.

use bramble_tests::{
    BusyboxImage, Node, Server, can_run_containers, eventually, has_tools, succeed,
};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

/// A port that only HAProxy itself answers.
const ALIVE_PORT: u16 = 9000;
/// Requests that must all be answered once a configuration is in place.
const REQUESTS: usize = 20;

/// What HAProxy is told for a task list. Lines of apps without a port have nothing to bind.
fn configuration(list: &str) -> String {
    let mut text = format!(
        "global\n  maxconn 256\n\
         defaults\n  mode http\n  balance roundrobin\n  retries 3\n  option redispatch\n  \
         timeout connect 5s\n  timeout client 30s\n  timeout server 30s\n\
         frontend alive\n  bind 127.0.0.1:{ALIVE_PORT}\n  monitor-uri /alive\n"
    );
    for line in list.lines() {
        let mut fields = line.split('\t');
        let (Some(name), Some(port)) = (fields.next(), fields.next()) else { continue };
        let Ok(port) = port.parse::<u16>() else { continue };
        let _ = writeln!(text, "listen {name}-{port}\n  bind 127.0.0.1:{port}");
        for (number, address) in fields.filter(|address| !address.is_empty()).enumerate() {
            let _ = writeln!(text, "  server {name}-{number} {address} check inter 500ms");
        }
    }
    text
}

/// The task list as text, of all apps or of one.
fn task_list(node: &Node, path: &str) -> String {
    let mut curl = node.inside("curl");
    curl.args(["-sS", "-f", "-m", "30", "-H", "Accept: text/plain"]);
    curl.arg(format!("http://localhost:8080{path}"));
    succeed(curl)
}

/// An HAProxy with the configuration of this moment; it takes over from the one before.
fn proxy(node: &Node, before: Option<&Server>) -> Server {
    let file = node.root().join("haproxy.cfg");
    std::fs::write(&file, configuration(&task_list(node, "/v2/tasks"))).expect("it is written");
    // The list names hosts, which a site's own name service knows. Here a file stands for it,
    // seen by HAProxy alone.
    let hosts = node.root().join("hosts");
    std::fs::write(&hosts, format!("127.0.0.1 localhost {}\n", node.name)).expect("it is written");
    let mut command = Server::command(node, "unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c"]);
    command.arg("mount --bind \"$0\" /etc/hosts && exec \"$@\"").arg(&hosts);
    command.args(["haproxy", "-db", "-f"]).arg(&file);
    if let Some(before) = before {
        command.arg("-sf").arg(before.pid().to_string());
    }
    let log = node.root().join("haproxy.log");
    Server::start(node, command, &log, &format!("http://localhost:{ALIVE_PORT}/alive"))
}

/// The page behind a port of HAProxy; `None` when it is no page.
fn page(node: &Node, port: u16) -> Option<String> {
    let url = format!("http://localhost:{port}/");
    let output = node.inside("curl").args(["-sS", "-f", "-m", "5", &url]).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_string();
    output.status.success().then_some(text)
}

/// Wait until HAProxy has asked exactly `expected`; then every request must be answered by them.
fn answered_by(node: &Node, port: u16, expected: &BTreeSet<String>) {
    eventually(&format!("answers of {expected:?} on {port}"), || {
        let pages: Option<BTreeSet<_>> =
            (0..expected.len() * 2).map(|_| page(node, port)).collect();
        (pages? == *expected).then_some(())
    });
    for number in 0..REQUESTS {
        let page = page(node, port).unwrap_or_else(|| panic!("request {number} was not answered"));
        assert!(expected.contains(&page), "{page} is none of {expected:?}");
    }
}

fn host_ports(tasks: &[Value]) -> BTreeSet<String> {
    tasks.iter().map(|task| task["ports"][0].to_string()).collect()
}

fn scale(node: &Node, app: &str, instances: usize) -> Vec<Value> {
    let body = json!({ "instances": instances }).to_string();
    node.api("PUT", &format!("/v2/apps/{app}"), Some(&body)).expect(200);
    node.running(app, instances)
}

#[test]
fn requests_reach_every_instance_and_follow_scaling() {
    if !can_run_containers("haproxy") || !has_tools("haproxy", &["haproxy", "unshare"]) {
        return;
    }
    let node = Node::start();
    let web = json!({"id": "shop/web", "instances": 2, "cpus": 0.1, "mem": 16, "ports": [9080],
        "cmd": "echo $PORT0 >index.html; exec busybox httpd -f -p $PORT0"});
    node.api("POST", "/v2/apps", Some(&web.to_string())).expect(201);
    let quiet = json!({"id": "quiet", "cpus": 0.1, "mem": 16, "ports": [], "cmd": "sleep 1000"});
    node.api("POST", "/v2/apps", Some(&quiet.to_string())).expect(201);
    node.running("quiet", 1);
    let two = host_ports(&node.running("shop/web", 2));

    let list = task_list(&node, "/v2/tasks");
    let name = &node.name;
    let addresses: String = two.iter().map(|port| format!("{name}:{port}\t")).collect();
    assert_eq!(list, format!("quiet\t \t{name}\t\nshop_web\t9080\t{addresses}\n"));
    assert_eq!(
        task_list(&node, "/v2/apps/shop/web/tasks"),
        format!("shop_web\t9080\t{addresses}\n")
    );

    let first = proxy(&node, None);
    answered_by(&node, 9080, &two);

    let three = host_ports(&scale(&node, "shop/web", 3));
    let second = proxy(&node, Some(&first));
    answered_by(&node, 9080, &three);

    let one = host_ports(&scale(&node, "shop/web", 1));
    let third = proxy(&node, Some(&second));
    answered_by(&node, 9080, &one);

    // No instance: the line stays, and HAProxy says that nobody is there.
    scale(&node, "shop/web", 0);
    assert!(task_list(&node, "/v2/tasks").contains("shop_web\t9080\t\n"));
    let _fourth = proxy(&node, Some(&third));
    eventually("nobody behind the port", || page(&node, 9080).is_none().then_some(()));
}

#[test]
fn requests_reach_containers_with_an_address_of_their_own() {
    if !can_run_containers("haproxy, bridge") || !has_tools("haproxy", &["haproxy", "unshare"]) {
        return;
    }
    let node = Node::start();
    let script = "echo $HOST $PORT_80 >/www/index.html; exec httpd -f -p 80 -h /www";
    load(&node, &BusyboxImage::new("bramble-test/bridged:1", &["sh", "-c", script]));
    let app = json!({"id": "bridged", "cpus": 0.1, "mem": 16, "instances": 2, "container": {
        "type": "DOCKER", "docker": {"image": "bramble-test/bridged:1", "network": "BRIDGE",
        "portMappings": [
            {"containerPort": 80, "hostPort": 0, "servicePort": 9081, "protocol": "tcp"}]}}});
    node.api("POST", "/v2/apps", Some(&app.to_string())).expect(201);
    let tasks = node.running("bridged", 2);
    let expected = host_ports(&tasks).iter().map(|port| format!("{} {port}", node.name)).collect();
    let _proxy = proxy(&node, None);
    answered_by(&node, 9081, &expected);
}

fn load(node: &Node, image: &BusyboxImage) {
    let archive: &Path = &image.save(node.root());
    let output = node.bramble(&["load", &archive.display().to_string()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
