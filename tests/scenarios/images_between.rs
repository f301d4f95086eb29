//! An image on one node is enough: others fetch it from there, with no registry anywhere.

use bramble_tests::{BusyboxImage, JoinedAgent, Node, can_run_containers, eventually};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

/// Bytes of the file that makes a fetch take its time.
const LARGE_BYTES: usize = 48 * 1024 * 1024;

fn second(node: &Node, name: &str) -> JoinedAgent {
    node.joined_by(node, name, "127.0.0.1:7443", &[])
}

fn on(id: &str, image: &str, agent: &str) -> Value {
    json!({"id": id, "cpus": 0.1, "mem": 16, "constraints": [["hostname", "CLUSTER", agent]],
           "container": {"type": "DOCKER", "docker": {"image": image}}})
}

/// Load an image into one agent only.
fn load_into(node: &Node, image: &BusyboxImage, agent: &str) {
    let archive = image.save(node.root());
    let url = format!("http://localhost:8080/v1/bramble/images?agent={agent}");
    let mut curl = node.inside("curl");
    curl.args(["-sS", "-m", "120", "-H", "Content-Type: application/x-tar"]);
    let output = curl.args(["-X", "POST", "-T"]).arg(&archive).arg(&url).output();
    let output = output.expect("curl runs");
    let said = String::from_utf8_lossy(&output.stdout).to_string();
    assert!(output.status.success() && said.contains(&image.name), "{said} {output:?}");
}

/// Names of the agents that hold an image.
fn holders(node: &Node, image: &str) -> Vec<String> {
    let names: Vec<(String, String)> = node
        .get("/v1/bramble/agents")
        .as_array()
        .expect("a list")
        .iter()
        .map(|a| (a["id"].as_str().expect("id").into(), a["name"].as_str().expect("name").into()))
        .collect();
    let listed = node.get("/v1/bramble/images");
    let listed = listed.as_array().expect("a list").iter();
    let of_image = listed.filter(|i| i["reference"].as_str().is_some_and(|r| r.ends_with(image)));
    let mut found: Vec<String> = of_image
        .flat_map(|i| i["agents"].as_array().expect("agents").clone())
        .filter_map(|id| names.iter().find(|(known, _)| id == *known).map(|(_, n)| n.clone()))
        .collect();
    found.sort();
    found
}

#[test]
fn an_image_loaded_on_one_node_runs_on_another() {
    if !can_run_containers("images between nodes") {
        return;
    }
    let node = Node::start();
    let other = second(&node, "other");
    // A registry on this machine that nobody runs: only the other node has it.
    let name = "localhost:1/between/web:1";
    let command = ["sh", "-c", "echo it came over; exec sleep 1000"];
    load_into(&node, &BusyboxImage::new(name, &command), &node.name);
    assert_eq!(holders(&node, name), [node.name.clone()]);
    let app = on("there", name, &other.name);
    node.api("POST", "/v2/apps", Some(&app.to_string())).expect(201);
    assert_eq!(node.running("there", 1)[0]["host"], other.name.as_str());
    eventually("its output", || {
        let output = node.bramble(&["logs", "there"]);
        String::from_utf8_lossy(&output.stdout).contains("it came over").then_some(())
    });
    let mut both = vec![node.name.clone(), other.name.clone()];
    both.sort();
    assert_eq!(holders(&node, name), both);
    // And the other way round: the node's own agent fetches from the one that joined.
    let back = "localhost:1/between/back:1";
    load_into(&node, &BusyboxImage::new(back, &["sleep", "1000"]), &other.name);
    let app = on("back", back, &node.name);
    node.api("POST", "/v2/apps", Some(&app.to_string())).expect(201);
    assert_eq!(node.running("back", 1)[0]["host"], node.name.as_str());
    for app in ["there", "back"] {
        node.api("DELETE", &format!("/v2/apps/{app}"), None).expect(200);
    }
    eventually("no task", || {
        (node.tasks("there").is_empty() && node.tasks("back").is_empty()).then_some(())
    });
}

#[test]
fn the_holder_is_killed_in_the_middle_and_another_one_goes_on() {
    if !can_run_containers("a killed holder") {
        return;
    }
    let node = Node::start();
    let name = "localhost:1/between/large:1";
    let noise: Vec<u8> = (0..LARGE_BYTES as u64 / 8).flat_map(|n| n.to_le_bytes()).collect();
    let image = BusyboxImage::new(name, &["sleep", "1000"]).file("large", &noise);
    drop(noise);
    // The node's own agent first, so that the other's copy is the later one, which is asked first.
    load_into(&node, &image, &node.name);
    let killed = second(&node, "killed");
    load_into(&node, &image, &killed.name);
    let taking = second(&node, "taking");
    let app = on("large", name, &taking.name);
    node.api("POST", "/v2/apps", Some(&app.to_string())).expect(201);
    let partial = node.root().join("taking/data/images/partial");
    eventually("a part of the image", || {
        let files = std::fs::read_dir(&partial).ok()?;
        let bytes: u64 = files.flatten().filter_map(|f| f.metadata().ok()).map(|m| m.len()).sum();
        (bytes > 1_000_000).then_some(())
    });
    killed.signal(Signal::SIGKILL);
    assert_eq!(node.running("large", 1)[0]["host"], taking.name.as_str());
    let mut both = vec![node.name.clone(), taking.name.clone()];
    both.sort();
    eventually("who is left holds it", || (holders(&node, name) == both).then_some(()));
    node.api("DELETE", "/v2/apps/large", None).expect(200);
    eventually("no task", || node.tasks("large").is_empty().then_some(()));
}
