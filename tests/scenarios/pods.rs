//! Pods: containers that share a network and directories, from the API to the kernel and back.

use bramble_tests::{BusyboxImage, Node, can_run_containers, eventually};
use serde_json::{Value, json};
use std::process::Command;

/// Two containers: one serves on localhost and shares a directory, the other reaches both. The
/// second one has an image, the first sees the host's programs.
fn pair(greeting: &str) -> Value {
    let serve = format!(
        "echo {greeting} > shared/index.html; exec busybox httpd -f -p $EP_CONTAINER_HTTP -h shared"
    );
    let reach = "until wget -q -O got http://127.0.0.1:$EP_CONTAINER_HTTP/; do sleep 0.1; done; \
                 cat got /see/index.html; echo as $MARATHON_CONTAINER_ID; sleep 1000";
    json!({
        "id": "/pair",
        "environment": {"COLOUR": "blue"},
        "containers": [
            {
                "name": "web",
                "exec": {"command": {"shell": serve}},
                "resources": {"cpus": 0.1, "mem": 16},
                "endpoints": [{"name": "http", "containerPort": 8080, "hostPort": 0}],
                "healthCheck": {"http": {"endpoint": "http", "path": "/"},
                                "gracePeriodSeconds": 60, "intervalSeconds": 1},
                "volumeMounts": [{"name": "files", "mountPath": "shared"}]
            },
            {
                "name": "side",
                "image": {"kind": "DOCKER", "id": "pods-side"},
                "exec": {"command": {"shell": reach}},
                "resources": {"cpus": 0.1, "mem": 16},
                "volumeMounts": [{"name": "files", "mountPath": "/see", "readOnly": true}]
            }
        ],
        "volumes": [{"name": "files"}],
        "networks": [{"mode": "container/bridge"}],
        "scaling": {"kind": "fixed", "instances": 1},
        "scheduling": {"upgrade": {"minimumHealthCapacity": 0, "maximumOverCapacity": 0}}
    })
}

fn status(node: &Node, id: &str) -> Value {
    node.get(&format!("/v2/pods/{id}::status"))
}

/// Wait until a pod is stable and its only instance is another one than `not`; gives it.
fn stable(node: &Node, id: &str, not: &str) -> Value {
    let mut last = Value::Null;
    eventually(&format!("pod {id} stands\n{}", node.log()), || {
        last = status(node, id);
        let instance = last["instances"].as_array()?.first()?.clone();
        let alone = last["instances"].as_array()?.len() == 1;
        (last["status"] == "STABLE" && alone && instance["id"] != not).then_some(instance)
    })
}

/// What a container has printed, once it holds `words`.
fn printed(node: &Node, container: &str, words: &str) -> String {
    eventually(&format!("{words:?} from {container}"), || {
        let output = node.bramble(&["logs", container]);
        let text = String::from_utf8_lossy(&output.stdout).to_string();
        text.contains(words).then_some(text)
    })
}

/// What a web server answers to the node it runs on.
fn fetched(node: &Node, address: &str) -> Option<String> {
    let mut curl: Command = node.inside("curl");
    let output = curl.args(["-s", "-m", "5", &format!("http://{address}/")]).output();
    let output = output.expect("curl runs");
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).to_string())
}

#[test]
fn containers_share_a_network_and_a_directory() {
    if !can_run_containers("pods") {
        return;
    }
    let node = Node::start();
    node.load(&BusyboxImage::new("pods-side", &["/bin/sleep", "1000"]));
    let made = node.api("POST", "/v2/pods", Some(&pair("one").to_string())).expect(201);
    assert!(made.header("marathon-deployment-id").is_some());
    let first = stable(&node, "pair", "");
    assert_eq!(first["containers"][0]["status"], "TASK_RUNNING", "{first}");
    assert_eq!(first["containers"][0]["conditions"][0]["value"], "true", "{first}");
    // By localhost, by the shared directory, and with a name of its own.
    let said = printed(&node, "pair/side", "as side");
    assert_eq!(said.matches("one").count(), 2, "{said}");
    let port = &first["containers"][0]["endpoints"][0]["allocatedHostPort"];
    assert!(port.as_u64().is_some_and(|port| port > 0), "{first}");
    let ip = first["networks"][0]["addresses"][0].as_str().expect("an address of its own");
    let page = eventually("the pod's address answers", || fetched(&node, &format!("{ip}:8080")));
    assert_eq!(page, "one\n");
    let inside =
        node.bramble(&["exec", "pair/side", "--", "sh", "-c", "echo $COLOUR; echo x > /see/x"]);
    assert_eq!(String::from_utf8_lossy(&inside.stdout), "blue\n");
    assert!(!inside.status.success(), "the directory is read-only there");
    eventually("the end of the deployment", || {
        node.get("/v2/deployments").as_array().is_some_and(Vec::is_empty).then_some(())
    });
    assert!(node.get("/v2/apps")["apps"].as_array().is_some_and(Vec::is_empty));

    // An instance that is ended comes back as another one, with an empty directory of its own.
    let id = first["id"].as_str().expect("an id");
    let ended = node.api("DELETE", &format!("/v2/pods/pair::instances/{id}"), None).expect(200);
    assert_eq!(ended.json()["instanceId"], id);
    let second = stable(&node, "pair", id);
    assert_ne!(second["id"], first["id"]);

    // Another definition is another version, and new containers.
    node.api("PUT", "/v2/pods/pair", Some(&pair("two").to_string())).expect(200);
    let third = stable(&node, "pair", second["id"].as_str().expect("an id"));
    printed(&node, third["containers"][1]["containerId"].as_str().expect("an id"), "two");
    let versions = node.get("/v2/pods/pair::versions");
    assert_eq!(versions.as_array().map(Vec::len), Some(2), "{versions}");

    node.api("DELETE", "/v2/pods/pair?force=true", None).expect(202);
    eventually("the pod is gone", || {
        let answer = node.try_api("GET", "/v2/pods/pair::status", None)?;
        (answer.status == 404).then_some(())
    });
    node.wait_clean();
}

#[test]
fn one_container_that_fails_takes_the_pod_along() {
    if !can_run_containers("pods-fail") {
        return;
    }
    let node = Node::start();
    let container = |name: &str, line: &str| {
        json!({"name": name, "exec": {"command": {"shell": line}},
            "resources": {"cpus": 0.1, "mem": 16}})
    };
    let pod = json!({
        "id": "broken",
        "containers": [container("fine", "sleep 1000"), container("bad", "sleep 0.5; exit 3")],
        "scheduling": {"backoff": {"backoff": 3600}}
    });
    let file = node.root().join("pod.json");
    std::fs::write(&file, pod.to_string()).expect("a file can be written");
    let output = node.bramble(&["deploy", "--wait", &file.display().to_string()]);
    let told = String::from_utf8_lossy(&output.stderr).to_string();
    assert!(!output.status.success(), "{output:?}");
    assert!(told.contains("bad"), "{told}");
    let broken = eventually("the failure is known", || {
        let status = status(&node, "broken");
        (!status["message"].is_null()).then_some(status)
    });
    assert_eq!(broken["status"], "DEGRADED", "{broken}");
    let queue = node.get("/v2/queue");
    assert_eq!(queue["queue"][0]["pod"]["id"], "/broken", "{queue}");
    let why = node.bramble(&["why", "broken"]);
    assert!(String::from_utf8_lossy(&why.stdout).contains("last failure"), "{why:?}");
    assert!(node.bramble(&["rm", "--wait", "broken"]).status.success());
    node.wait_clean();
}

#[test]
fn verbs_know_pods() {
    if !can_run_containers("pods-verbs") {
        return;
    }
    let node = Node::start();
    let pod = json!({
        "id": "quiet",
        "containers": [
            {"name": "a", "exec": {"command": {"argv": ["sleep", "1000"]}},
             "resources": {"cpus": 0.1, "mem": 16}},
            {"name": "b", "exec": {"command": {"shell": "sleep 1000"}},
             "resources": {"cpus": 0.1, "mem": 16}}
        ]
    });
    let file = node.root().join("pod.json");
    std::fs::write(&file, pod.to_string()).expect("a file can be written");
    let path = file.display().to_string();
    let run = |arguments: &[&str]| {
        let output = node.bramble(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).to_string()
    };
    assert_eq!(run(&["deploy", "--wait", &path]), "done\n");
    // The same again changes nothing, and is no creation.
    run(&["deploy", "--wait", &path]);
    let pods = run(&["pods"]);
    assert!(pods.contains("/quiet") && pods.contains("stable") && pods.contains("a,b"), "{pods}");
    assert!(run(&["apps"]).contains("/quiet"));
    let ps = run(&["ps"]);
    assert_eq!(ps.lines().filter(|line| line.contains("/quiet")).count(), 2, "{ps}");
    assert_eq!(run(&["scale", "--wait", "quiet=2"]), "done\n");
    assert_eq!(status(&node, "quiet")["instances"].as_array().map(Vec::len), Some(2));
    assert!(run(&["why", "quiet"]).contains("nothing is wrong"));
    let ambiguous = node.bramble(&["logs", "quiet"]);
    assert!(String::from_utf8_lossy(&ambiguous.stderr).contains("could be any of"));
    run(&["rm", "--wait", "quiet"]);
    assert_eq!(run(&["pods"]).lines().count(), 1, "only the head is left");
    node.wait_clean();
}
