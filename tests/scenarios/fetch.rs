//! Files brought into the sandbox before a task starts.

use bramble_tests::{Node, Server, can_run_containers, eventually};
use std::path::Path;
use std::process::Command;

/// A web server in a node's network.
fn serve(node: &Node, directory: &Path) -> Server {
    let mut command = Server::command(node, "busybox");
    command.args(["httpd", "-f", "-p", "127.0.0.1:9000", "-h"]).arg(directory);
    Server::start(node, command, &node.root().join("httpd.log"), "http://127.0.0.1:9000/")
}

fn run(program: &str, directory: &Path, arguments: &[&str]) {
    let status = Command::new(program).current_dir(directory).args(arguments).status();
    assert!(status.expect("it runs").success(), "{program} {arguments:?}");
}

/// The directory to serve: one script, packed in every way.
fn packed(node: &Node) -> std::path::PathBuf {
    let www = node.root().join("www");
    std::fs::create_dir_all(www.join("bin")).expect("a directory");
    std::fs::write(www.join("bin/hello"), "#!/bin/sh\necho \"hello from $0\"\n").expect("a file");
    run("chmod", &www, &["755", "bin/hello"]);
    for (flag, name) in [("-czf", "a.tar.gz"), ("-cjf", "a.tar.bz2"), ("-cJf", "a.tar.xz")] {
        run("tar", &www, &[flag, name, "bin"]);
    }
    run("zip", &www, &["-q", "-r", "a.zip", "bin"]);
    www
}

fn stdout(node: &Node, app: &str) -> String {
    let output = node.bramble(&["logs", app]);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn every_packing_reaches_the_sandbox() {
    if !can_run_containers("fetch") {
        return;
    }
    let node = Node::start();
    let _server = serve(&node, &packed(&node));
    for (id, file) in
        [("gz", "a.tar.gz"), ("bz2", "a.tar.bz2"), ("xz", "a.tar.xz"), ("zip", "a.zip")]
    {
        let app = format!(
            r#"{{"id":"{id}","cmd":"./bin/hello; sleep 10000","cpus":0.1,"mem":16,"user":"nobody","uris":["http://127.0.0.1:9000/{file}"]}}"#
        );
        node.api("POST", "/v2/apps", Some(&app)).expect(201);
        node.running(id, 1);
        eventually(&format!("what the script of {file} says"), || {
            stdout(&node, id).contains("hello from ./bin/hello").then_some(())
        });
    }
}

#[test]
fn a_file_has_its_name_and_mode_and_the_cache_outlives_the_server() {
    if !can_run_containers("fetch cache") {
        return;
    }
    let node = Node::start();
    let server = serve(&node, &packed(&node));
    let app = r#"{"id":"tool","cmd":"tools/hi; sleep 10000","cpus":0.1,"mem":16,"fetch":[{"uri":"http://127.0.0.1:9000/bin/hello","executable":true,"cache":true,"destPath":"tools/hi"}]}"#;
    node.api("POST", "/v2/apps", Some(app)).expect(201);
    let first = node.running("tool", 1);
    drop(server);
    node.api("POST", "/v2/apps/tool/restart", None).expect(200);
    eventually("a new task that says hello", || {
        let tasks = node.tasks("tool");
        let new = tasks.len() == 1 && tasks[0]["id"] != first[0]["id"];
        (new && stdout(&node, "tool").contains("hello from tools/hi")).then_some(())
    });
}

#[test]
fn what_cannot_be_fetched_is_named() {
    if !can_run_containers("failed fetch") {
        return;
    }
    let node = Node::start();
    let _server = serve(&node, &packed(&node));
    for (id, uri, why) in [
        ("absent", "http://127.0.0.1:9000/absent.tgz", "404"),
        ("secret", "file:///etc/hostname", "--allow-host-volumes"),
        ("bare", "/etc/hostname", "--allow-host-volumes"),
    ] {
        let app = format!(
            r#"{{"id":"{id}","cmd":"sleep 10000","cpus":0.1,"mem":16,"fetch":[{{"uri":"{uri}"}}]}}"#
        );
        node.api("POST", "/v2/apps", Some(&app)).expect(201);
        let failure = eventually("a failure", || {
            let app = node.get(&format!("/v2/apps/{id}?embed=app.lastTaskFailure"));
            let failure = app["app"]["lastTaskFailure"].clone();
            failure.is_object().then_some(failure)
        });
        assert_eq!(failure["state"], "TASK_FAILED");
        let message = failure["message"].as_str().unwrap_or_default();
        assert!(message.contains(uri) && message.contains(why), "{message}");
    }
}
