//! Pods written by others: taken verbatim, shown, taken back without a change, and run.

use bramble_tests::{BusyboxImage, Node, can_run_containers, eventually};
use serde_json::Value;
use std::path::Path;

const SAMPLES: [&str; 3] = ["sys-pod-bridge", "sys-pod-ephemeral", "sys-pod-simple"];

fn sample(name: &str) -> String {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"));
    let directory = directory.join("../master/src/normalize/fixtures/pods");
    std::fs::read_to_string(directory.join(format!("{name}.json"))).expect("a sample can be read")
}

/// A pod without what the cluster adds.
fn definition(node: &Node, id: &str) -> Value {
    let mut pod = node.get(&format!("/v2/pods{id}"));
    pod.as_object_mut().expect("a pod").remove("version");
    pod
}

/// Whether all that was asked for stands in the answer, with whatever defaults beside it.
fn holds(shown: &Value, asked: &Value) -> bool {
    match (shown, asked) {
        (Value::Object(shown), Value::Object(asked)) => {
            asked.iter().all(|(key, asked)| shown.get(key).is_some_and(|shown| holds(shown, asked)))
        }
        (Value::Array(shown), Value::Array(asked)) => {
            shown.len() == asked.len()
                && shown.iter().zip(asked).all(|(shown, asked)| holds(shown, asked))
        }
        (Value::Number(shown), Value::Number(asked)) => shown.as_f64() == asked.as_f64(),
        (shown, asked) => shown == asked,
    }
}

#[test]
fn every_pod_is_taken_shown_and_taken_back() {
    if !can_run_containers("samples, pods") {
        return;
    }
    // One of them mounts a directory of the host.
    let node = Node::builder().arg("--allow-host-volumes").start();
    for name in SAMPLES {
        let text = sample(name);
        let asked: Value = serde_json::from_str(&text).expect("a sample is JSON");
        let id = asked["id"].as_str().expect("an id");
        let answer = node.api("POST", "/v2/pods", Some(&text)).expect(201);
        assert!(answer.header("marathon-deployment-id").is_some(), "{name}");
        let pod = definition(&node, id);
        assert!(holds(&pod, &asked), "{name}: {pod} for {asked}");
        let back = pod.to_string();
        node.api("PUT", &format!("/v2/pods{id}?force=true"), Some(&back)).expect(200);
        assert_eq!(definition(&node, id), pod, "{name}");
        node.api("DELETE", &format!("/v2/pods{id}?force=true"), None).expect(202);
    }
}

#[test]
fn containers_of_a_pod_share_its_volume_as_in_mesos() {
    if !can_run_containers("samples, a pod running") {
        return;
    }
    let node = Node::start();
    node.load(&BusyboxImage::new("busybox", &["sh"]));
    node.api("POST", "/v2/pods", Some(&sample("sys-pod-ephemeral"))).expect(201);
    eventually(&format!("the pod stands\n{}", node.log()), || {
        (node.get("/v2/pods/ephemeral-volume-pod::status")["status"] == "STABLE").then_some(())
    });
    // What the one with an image writes, the one without reads: both by paths of their own.
    eventually("the time of the first container in the second", || {
        let logs = node.bramble(&["logs", "ephemeral-volume-pod/ct2"]);
        String::from_utf8_lossy(&logs.stdout).contains("the current time is").then_some(())
    });
}
