//! `bramble uninstall`: nothing goes without a yes, and nothing stays after it.

use bramble_tests::{BusyboxImage, Node, can_run_containers, cgroup_processes};
use std::path::Path;
use std::process::Output;

fn text(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    String::from_utf8_lossy(out).into_owned() + &String::from_utf8_lossy(err)
}

/// What there is of the node in its network: the bridge, and tables of nft.
fn network(node: &Node) -> String {
    let run = |program: &str, arguments: &[&str]| {
        let output = node.inside(program).args(arguments).output().expect("it runs");
        text(&output)
    };
    run("ip", &["-o", "link"]) + &run("nft", &["list", "tables"])
}

/// A node with an app on its bridge and one beside it.
fn busy_node(image: &str) -> Node {
    let node = Node::start();
    node.load(&BusyboxImage::new(image, &["sh"]));
    let bridged = format!(
        r#"{{"id":"bridged","cmd":"sleep 100000","cpus":0.1,"mem":16,"container":{{"type":"DOCKER",
        "docker":{{"image":"{image}","network":"BRIDGE","portMappings":[{{"containerPort":80}}]}}}}}}"#
    );
    node.api("POST", "/v2/apps", Some(&bridged)).expect(201);
    let plain = r#"{"id":"plain","cmd":"sleep 100000","cpus":0.1,"mem":16}"#;
    node.api("POST", "/v2/apps", Some(plain)).expect(201);
    node.running("bridged", 1);
    node.running("plain", 1);
    assert!(network(&node).contains("bramble"), "{}", network(&node));
    node
}

fn assert_gone(node: &Node) {
    node.wait_clean();
    assert!(node.cgroups().is_empty(), "{:?}", node.cgroups());
    assert!(!node.run_dir().exists());
    assert!(!network(node).contains("bramble"), "{}", network(node));
}

#[test]
fn uninstall_asks_and_then_leaves_nothing() {
    if !can_run_containers("uninstall") {
        return;
    }
    let mut node = busy_node("uninstalled:1");
    let asked = node.uninstall(&[]);
    assert!(!asked.status.success());
    assert!(text(&asked).contains("Say --yes if that is meant"), "{}", text(&asked));
    assert!(text(&asked).contains("the data of all volumes"), "{}", text(&asked));
    assert!(node.is_up() && node.data_dir().join("identity").exists());
    assert!(!cgroup_processes(&node.cgroup_parent).is_empty());

    let done = node.uninstall(&["--yes"]);
    assert!(done.status.success(), "{}", text(&done));
    assert_gone(&node);
    assert!(!node.data_dir().exists());
    let said = text(&done);
    for removed in [&node.data_dir(), &node.run_dir(), Path::new(&node.cgroup_parent)] {
        let removed = removed.display().to_string();
        let told = |line: &str| line.starts_with("removed") && line.ends_with(&removed);
        assert!(said.lines().any(told), "{removed} in {said}");
    }
    assert!(said.contains("left    "), "the program stays: {said}");
    // Nothing to do is no error.
    let again = node.uninstall(&["--yes"]);
    assert!(again.status.success(), "{}", text(&again));
}

#[test]
fn kept_data_makes_the_same_node_again() {
    if !can_run_containers("uninstall --keep-data") {
        return;
    }
    let mut node = busy_node("kept:1");
    let id = node.get("/v1/bramble/agents")[0]["id"].clone();
    let done = node.uninstall(&["--yes", "--keep-data"]);
    assert!(done.status.success(), "{}", text(&done));
    assert_gone(&node);
    node.up();
    assert_eq!(node.get("/v1/bramble/agents")[0]["id"], id);
    node.running("plain", 1);
}

#[test]
fn somebody_elses_files_are_left_alone() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (data, run) = (directory.path().join("data"), directory.path().join("run"));
    std::fs::create_dir_all(&data).expect("made");
    std::fs::write(data.join("thesis"), "work of years").expect("written");
    let output = std::process::Command::new(bramble_tests::bramble())
        .args(["uninstall", "--yes", "--data-dir"])
        .arg(&data)
        .arg("--run-dir")
        .arg(&run)
        .output()
        .expect("it runs");
    assert!(!output.status.success());
    assert!(text(&output).contains("is no directory of a node"), "{}", text(&output));
    assert!(data.join("thesis").exists());
}
