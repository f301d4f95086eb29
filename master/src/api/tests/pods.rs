//! `/v2/pods`, row by row, and that pods and apps do not show up as each other.

use crate::api::testing::Node;
use crate::api::testing::client::Answer;
use crate::api::testing::state::{self, AGENT};
use crate::propose::Propose;
use bramble_core::command::{Command, Placed};
use bramble_core::deploy::{self, IdSource};
use bramble_core::model::*;
use serde_json::{Value, json};

fn pod(id: &str) -> Value {
    json!({
        "id": id,
        "environment": {"A": "1"},
        "containers": [
            {"name": "web", "image": {"kind": "DOCKER", "id": "nginx"},
             "resources": {"cpus": 0.2, "mem": 32},
             "endpoints": [{"name": "http", "containerPort": 80, "hostPort": 0}],
             "healthCheck": {"http": {"endpoint": "http", "path": "/"}}},
            {"name": "side", "exec": {"command": {"shell": "sleep 100"}},
             "resources": {"cpus": 0.1, "mem": 16}}
        ],
        "networks": [{"mode": "container/bridge"}],
        "scaling": {"kind": "fixed", "instances": 1}
    })
}

async fn post(node: &Node, body: &Value) -> Answer {
    node.ask("POST", "/v2/pods", &body.to_string()).await
}

/// Deployments would lock what the next request changes; no loop ends them here.
fn settle(node: &Node) {
    node.edit(|state| state.deployments.clear());
}

async fn apply(node: &Node, command: Command) {
    node.memory.propose(command).await.unwrap();
}

struct Counter(u32);

impl IdSource for Counter {
    fn uuid(&mut self) -> String {
        self.0 += 1;
        format!("u{}", self.0)
    }
}

/// Give every instance that a pod wants a place on the agent, port 31000.
async fn place(node: &Node) -> Vec<InstanceId> {
    settle(node);
    node.edit(state::add_agent);
    for command in node.store.read(|state| deploy::keep(state, &mut Counter(0))) {
        apply(node, command).await;
    }
    let ids: Vec<InstanceId> = node.store.read(|state| {
        state.instances.values().filter(|i| i.is_waiting()).map(|i| i.id.clone()).collect()
    });
    let placed = |id: &InstanceId| Placed {
        instance_id: id.clone(),
        agent_id: AgentId::new(AGENT),
        ports: vec![31_000],
        devices: vec![],
    };
    apply(node, Command::Assign { assignments: ids.iter().map(placed).collect() }).await;
    ids
}

/// Let an agent say where a pod's containers stand.
async fn report(node: &Node, id: &InstanceId, healthy: Option<bool>, states: [TaskState; 2]) {
    let task = node.store.read(|state| state.instances[id].task.clone().unwrap());
    let container = |(name, state, healthy): (&str, TaskState, Option<bool>)| ContainerStatus {
        name: name.into(),
        state,
        message: String::new(),
        healthy,
        exit_code: state.is_terminal().then_some(3),
    };
    let status = TaskStatus {
        task_id: task.id.clone(),
        sequence: task.last_sequence + 1,
        state: if states.contains(&TaskState::Failed) { TaskState::Failed } else { states[0] },
        message: if states.contains(&TaskState::Failed) { "side failed".into() } else { "".into() },
        healthy,
        ip: Some("172.30.0.2".into()),
        exit_code: None,
        probes: None,
        size: None,
        restarts: 0,
        containers: [("web", states[0], healthy), ("side", states[1], None)].map(container).into(),
    };
    apply(node, Command::RecordStatus { statuses: vec![status] }).await;
}

#[tokio::test]
async fn a_pod_lives() {
    let node = Node::start().await;
    assert_eq!(node.get("/v2/pods").await.json(), json!([]));
    assert_eq!(node.ask("HEAD", "/v2/pods", "").await.status, 200);
    let made = post(&node, &pod("g/pair")).await;
    assert_eq!(made.status, 201, "{}", made.text);
    assert_eq!(made.header("location"), "http://localhost:8080/v2/pods/g/pair");
    let deployment = made.header("marathon-deployment-id").to_string();
    let stored = made.json();
    assert_eq!(stored["id"], "/g/pair");
    assert_eq!(stored["executorResources"], json!({"cpus": 0.1, "mem": 32, "disk": 10}));
    assert_eq!(stored["scheduling"]["placement"]["acceptedResourceRoles"], json!([]));
    assert_eq!(stored["containers"][0]["endpoints"][0]["protocol"], json!(["tcp"]));
    for path in ["/v2/pods/g/pair", "/v2/pods//g/pair/"] {
        assert_eq!(node.get(path).await.json(), stored);
    }
    assert_eq!(node.get("/v2/pods").await.json(), json!([stored]));
    let running = node.get("/v2/deployments").await.json();
    assert_eq!(running[0]["id"], deployment.as_str());
    assert_eq!(
        (&running[0]["affectedApps"], &running[0]["affectedPods"]),
        (&json!([]), &json!(["/g/pair"]))
    );
    assert_eq!(
        running[0]["steps"][1]["actions"],
        json!([{"action": "ScalePod", "pod": "/g/pair"}])
    );
    let current = json!([{"action": "StartPod", "pod": "/g/pair", "readinessCheckResults": []}]);
    assert_eq!(running[0]["currentActions"], current);

    let locked = node.ask("PUT", "/v2/pods/g/pair", &stored.to_string()).await;
    assert_eq!(locked.status, 200, "what changes nothing is not locked: {}", locked.text);
    let mut bigger = stored.clone();
    bigger["scaling"]["instances"] = json!(2);
    let locked = node.ask("PUT", "/v2/pods/g/pair", &bigger.to_string()).await;
    assert_eq!(locked.status, 409, "{}", locked.text);
    let forced = node.ask("PUT", "/v2/pods/g/pair?force=true", &bigger.to_string()).await;
    assert_eq!(forced.status, 200, "{}", forced.text);
    assert!(!forced.header("marathon-deployment-id").is_empty());
    assert_eq!(forced.json()["scaling"]["instances"], 2);
    settle(&node);

    let versions = node.get("/v2/pods/g/pair::versions").await.json();
    assert_eq!(versions, json!([forced.json()["version"], stored["version"]]));
    let first = stored["version"].as_str().unwrap();
    let old = node.get(&format!("/v2/pods/g/pair::versions/{first}")).await;
    assert_eq!(old.json(), stored);

    let gone = node.ask("DELETE", "/v2/pods/g/pair", "").await;
    assert_eq!((gone.status, gone.text.as_str()), (202, ""));
    assert_eq!(gone.header("location"), gone.header("marathon-deployment-id"));
    assert_eq!(node.get("/v2/pods/g/pair").await.status, 404);
}

#[tokio::test]
async fn statuses_tell_where_containers_stand() {
    let node = Node::start().await;
    let made = post(&node, &pod("pair")).await.json();
    let waiting = node.get("/v2/pods/pair::status").await.json();
    assert_eq!((&waiting["status"], &waiting["instances"]), (&json!("DEGRADED"), &json!([])));
    assert_eq!(waiting["spec"], made);

    let ids = place(&node).await;
    assert_eq!(ids.len(), 1);
    let status = || async { node.get("/v2/pods/pair::status").await.json() };
    let staged = status().await;
    assert_eq!(staged["instances"][0]["status"], "STAGING");
    assert_eq!(staged["instances"][0]["containers"][1]["status"], "TASK_STAGING");

    report(&node, &ids[0], None, [TaskState::Running; 2]).await;
    assert_eq!(status().await["instances"][0]["status"], "STAGING", "its check says nothing yet");
    report(&node, &ids[0], Some(true), [TaskState::Running; 2]).await;
    let stable = status().await;
    assert_eq!(stable["status"], "STABLE");
    let instance = &stable["instances"][0];
    assert_eq!(instance["status"], "STABLE");
    assert_eq!(
        (&instance["agentHostname"], &instance["agentId"]),
        (&json!("node1"), &json!(AGENT))
    );
    assert_eq!(
        instance["networks"],
        json!([{"name": "mesos-bridge", "addresses": ["172.30.0.2"]}])
    );
    assert_eq!(instance["resources"]["mem"], 48);
    let version = made["version"].as_str().unwrap();
    assert_eq!(instance["specReference"], format!("/v2/pods/pair::versions/{version}"));
    let web = &instance["containers"][0];
    assert_eq!(
        web["endpoints"],
        json!([{"name": "http", "allocatedHostPort": 31_000, "healthy": true}])
    );
    assert_eq!(web["containerId"], format!("{}.web.1", ids[0]));
    assert_eq!(web["conditions"][0]["value"], "true");
    assert_eq!(instance["containers"][1]["conditions"], json!([]));
    assert_eq!(node.get("/v2/pods/::status").await.json(), json!([stable]));

    report(&node, &ids[0], Some(false), [TaskState::Running; 2]).await;
    let sick = status().await;
    assert_eq!(
        (&sick["status"], &sick["instances"][0]["status"]),
        (&json!("DEGRADED"), &json!("DEGRADED"))
    );
    report(&node, &ids[0], None, [TaskState::Killed, TaskState::Failed]).await;
    let failed = status().await;
    assert_eq!(failed["message"], "side failed");
    assert_eq!(failed["instances"][0]["status"], "PENDING", "it waits for its next place");

    settle(&node);
    let gone = node.ask("DELETE", "/v2/pods/pair", "").await;
    assert_eq!(gone.status, 202);
    assert_eq!(status().await["status"], "TERMINAL");
}

#[tokio::test]
async fn single_instances_end() {
    let node = Node::start().await;
    let mut two = pod("pair");
    two["scaling"]["instances"] = json!(2);
    two["containers"][0]["endpoints"] = json!([]);
    two["containers"][0]["healthCheck"] = Value::Null;
    post(&node, &two).await;
    node.edit(|state| {
        state::pod_running(state, "/pair", "a");
        state::pod_running(state, "/pair", "b");
    });
    let path = "/v2/pods/pair::instances";
    let one = node.ask("DELETE", &format!("{path}/pair.instance-a?wipe=true"), "").await;
    assert_eq!(one.status, 200, "{}", one.text);
    let shown = one.json();
    assert_eq!(shown["instanceId"], "pair.instance-a");
    assert_eq!(shown["state"]["condition"], "Running");
    assert_eq!(
        (&shown["state"]["goal"], &shown["agentInfo"]["host"]),
        (&json!("Running"), &json!("node1"))
    );
    let many = node.ask("DELETE", path, r#"["pair.instance-b","pair.instance-x"]"#).await;
    assert_eq!(many.json().as_array().unwrap().len(), 1);
    let goals: Vec<Goal> =
        node.store.read(|state| state.instances.values().map(|i| i.goal).collect());
    assert_eq!(goals, [Goal::Decommissioned; 2]);
    for (method, path, body, status) in [
        ("DELETE", "/v2/pods/pair::instances/pair.instance-x", "", 404),
        ("DELETE", "/v2/pods/other::instances/x", "", 404),
        ("DELETE", path, r#"{"a":1}"#, 422),
        ("DELETE", path, "{", 400),
        ("GET", path, "", 405),
    ] {
        assert_eq!(node.ask(method, path, body).await.status, status, "{method} {path} {body}");
    }
}

#[tokio::test]
async fn apps_and_pods_are_kept_apart() {
    let node = Node::start().await;
    node.edit(|state| {
        state::add_app(state, "/app", 1);
        state::add_pod(state, "/pod", 1, &["a"]);
        state::running(state, "/app", "1");
        state::pod_running(state, "/pod", "1");
        state::waiting(state, "/pod", "2");
        state::waiting(state, "/app", "2");
    });
    let ids = |list: &Value| -> Vec<String> {
        list.as_array().unwrap().iter().map(|x| x["id"].as_str().unwrap().to_string()).collect()
    };
    assert_eq!(ids(&node.get("/v2/apps").await.json()["apps"]), ["/app"]);
    assert_eq!(ids(&node.get("/v2/apps/*").await.json()["*"]), ["/app"]);
    assert_eq!(ids(&node.get("/v2/groups/apps").await.json()), ["/app"]);
    assert_eq!(ids(&node.get("/v2/tasks").await.json()["tasks"]), ["app.instance-1._app.1"]);
    assert_eq!(ids(&node.get("/v2/pods").await.json()), ["/pod"]);
    let root = node.get("/v2/groups").await.json();
    assert_eq!(
        (ids(&root["apps"]), ids(&root["pods"])),
        (vec!["/app".into()], vec!["/pod".into()])
    );
    let queue = node.get("/v2/queue").await.json();
    let (app, pod) = (&queue["queue"][0], &queue["queue"][1]);
    assert_eq!((&app["app"]["id"], app.get("pod")), (&json!("/app"), None));
    assert_eq!((&pod["pod"]["id"], pod.get("app")), (&json!("/pod"), None));
    assert_eq!(node.get("/v1/bramble/why/pod").await.json()["waiting"], 1);
    let shown = node.get("/v1/bramble/status").await.json();
    assert_eq!((&shown["apps"], &shown["pods"]), (&json!(1), &json!(1)));
    let text = node.tcp().await.ask("GET", "/v2/tasks", &[("Accept", "text/plain")], "").await.text;
    assert!(text.starts_with("app\t") && text.lines().count() == 1, "{text}");

    let an_app = |id: &str| json!({"id": id, "cmd": "sleep 1"}).to_string();
    let a_pod = |id: &str| super::pods::pod(id).to_string();
    let rows: Vec<(&str, &str, String, u16, &str)> = vec![
        ("GET", "/v2/apps/pod", String::new(), 404, "App '/pod' does not exist"),
        ("GET", "/v2/apps/pod/tasks", String::new(), 404, "App '/pod' does not exist"),
        ("GET", "/v2/apps/pod/versions", String::new(), 404, "App '/pod' does not exist"),
        ("DELETE", "/v2/apps/pod", String::new(), 404, "App '/pod' does not exist"),
        ("DELETE", "/v2/apps/pod/tasks", String::new(), 404, "App '/pod' does not exist"),
        ("POST", "/v2/apps/pod/restart", String::new(), 404, "App '/pod' does not exist"),
        ("GET", "/v2/pods/app", String::new(), 404, "Pod '/app' does not exist"),
        ("GET", "/v2/pods/app::status", String::new(), 404, "Pod '/app' does not exist"),
        ("GET", "/v2/pods/app::versions", String::new(), 404, "Pod '/app' does not exist"),
        ("DELETE", "/v2/pods/app", String::new(), 404, "Pod '/app' does not exist"),
        ("POST", "/v2/apps", an_app("pod"), 409, "A pod with id [/pod] already exists."),
        ("PUT", "/v2/apps/pod", an_app("pod"), 409, "A pod with id [/pod] already exists."),
        ("POST", "/v2/pods", a_pod("pod"), 409, "A pod with id [/pod] already exists."),
        ("POST", "/v2/pods", a_pod("app"), 409, "An app with id [/app] already exists."),
        ("PUT", "/v2/pods/app", a_pod("app"), 409, "An app with id [/app] already exists."),
        ("POST", "/v2/pods", a_pod("app/x"), 409, "An app with the path /app/x already exists."),
        ("PUT", "/v2/pods/pod", a_pod("x"), 400, "'/pod' does not match definition's id ('/x')"),
    ];
    for (method, path, body, status, message) in rows {
        let answer = node.ask(method, path, &body).await;
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text);
        assert_eq!(answer.json()["message"], message, "{method} {path}");
    }
}

#[tokio::test]
async fn a_dry_run_says_where_a_pod_would_land_and_changes_nothing() {
    let node = Node::start().await;
    node.edit(|state| state::add_pod(state, "/there", 1, &["a"]));
    let before = node.get("/v2/pods").await.json();
    for (method, path, id, status) in [
        ("POST", "/v2/pods?dryRun=true", "new", 200),
        ("POST", "/v2/pods?dryRun=true", "there", 409),
        ("PUT", "/v2/pods/there?dryRun=True", "there", 200),
        ("PUT", "/v2/pods/new?dryRun=true", "new", 200),
    ] {
        let answer = node.ask(method, path, &pod(id).to_string()).await;
        assert_eq!(answer.status, status, "{method} {path} {id}: {}", answer.text);
        if status == 200 {
            assert_eq!(answer.json()["wanted"], 1, "{}", answer.text);
        }
        assert_eq!(node.get("/v2/pods").await.json(), before, "{method} {path}");
    }
    assert_eq!(node.get("/v2/deployments").await.json(), json!([]));
}

#[tokio::test]
async fn everything_wrong_is_named_at_once() {
    let node = Node::start().await;
    let mut wrong = pod("Pair");
    wrong["containers"][0]["endpoints"][0]["containerPort"] = Value::Null;
    wrong["containers"][1]["name"] = json!("web");
    wrong["containers"][1]["volumeMounts"] = json!([{"name": "v", "mountPath": "x"}]);
    wrong["scheduling"] = json!({"upgrade": {"minimumHealthCapacity": 2}});
    let answer = post(&node, &wrong).await;
    assert_eq!(answer.status, 422);
    // Ids come first: nothing can be worked out of a wrong one.
    assert_eq!(answer.json()["details"][0]["path"], "/id");
    wrong["id"] = json!("pair");
    let answer = post(&node, &wrong).await.json();
    assert_eq!(answer["message"], "Object is not valid");
    let paths: Vec<&str> =
        answer["details"].as_array().unwrap().iter().filter_map(|d| d["path"].as_str()).collect();
    let expected = [
        "/scheduling/upgrade/minimumHealthCapacity",
        "/containers",
        "/containers(0)/endpoints(0)/containerPort",
        "/containers(1)/volumeMounts(0)/name",
    ];
    assert_eq!(paths, expected);
    let bare = post(&node, &json!({})).await.json();
    let missing = |at: usize| bare["details"][at]["path"].clone();
    assert_eq!([missing(0), missing(1)], ["/containers", "/id"]);
    // Mounts that would hide one another, the root, or what the container prints.
    wrong = pod("pair");
    wrong["volumes"] = json!([{"name": "v"}]);
    for (paths, at) in [
        (vec!["x", "./x/"], "/containers(1)/volumeMounts"),
        (vec!["/"], "/containers(1)/volumeMounts(0)/mountPath"),
        (vec!["stdout"], "/containers(1)/volumeMounts(0)/mountPath"),
    ] {
        let mounts: Vec<Value> =
            paths.iter().map(|path| json!({"name": "v", "mountPath": path})).collect();
        wrong["containers"][1]["volumeMounts"] = json!(mounts);
        let answer = post(&node, &wrong).await;
        assert_eq!(answer.status, 422, "{paths:?}");
        assert_eq!(answer.json()["details"][0]["path"], at, "{paths:?}");
    }
    assert_eq!(node.ask("POST", "/v2/pods", "{").await.status, 400);
    assert_eq!(
        node.ask("PATCH", "/v2/pods/x", "{}").await.header("allow"),
        "DELETE, GET, HEAD, OPTIONS, PUT"
    );
}

#[tokio::test]
async fn groups_hold_pods() {
    let node = Node::start().await;
    let group = json!({
        "id": "/g",
        "apps": [{"id": "a", "cmd": "sleep 1"}],
        "pods": [pod("p"), pod("q")],
        "groups": [{"id": "h", "pods": [pod("./r")]}]
    });
    let put = |body: Value| {
        let node = &node;
        async move {
            let answer = node.ask("PUT", "/v2/groups", &body.to_string()).await;
            settle(node);
            answer
        }
    };
    let tried = node.ask("PUT", "/v2/groups?dryRun=true", &group.to_string()).await.json();
    assert!(tried.to_string().contains(r#"{"action":"StartPod","pod":"/g/h/r"}"#), "{tried}");
    let made = put(group).await;
    assert_eq!(made.status, 200, "{}", made.text);
    let ids = |list: &Value| -> Vec<String> {
        list.as_array().unwrap().iter().map(|x| x["id"].as_str().unwrap().to_string()).collect()
    };
    let shown = node.get("/v2/groups/g").await.json();
    assert_eq!(ids(&shown["pods"]), ["/g/p", "/g/q"]);
    assert_eq!(ids(&shown["groups"][0]["pods"]), ["/g/h/r"]);
    assert_eq!(node.get("/v2/groups/g?embed=group.apps").await.json().get("pods"), None);
    // A list that is given replaces its own kind, and leaves the other alone.
    assert_eq!(put(json!({"id": "/g", "apps": []})).await.status, 200);
    assert_eq!(ids(&node.get("/v2/pods").await.json()), ["/g/h/r", "/g/p", "/g/q"]);
    assert_eq!(put(json!({"id": "/g", "pods": [pod("p")]})).await.status, 200);
    assert_eq!(ids(&node.get("/v2/pods").await.json()), ["/g/h/r", "/g/p"]);
    assert_eq!(put(json!({"id": "/g", "scaleBy": 3})).await.status, 200);
    assert_eq!(node.get("/v2/pods/g/p").await.json()["scaling"]["instances"], 3);
    let version = made.json()["version"].as_str().unwrap().to_string();
    assert_eq!(put(json!({"id": "/g", "version": version})).await.status, 200);
    assert_eq!(ids(&node.get("/v2/pods").await.json()), ["/g/h/r", "/g/p", "/g/q"]);
    assert_eq!(node.get("/v2/pods/g/p").await.json()["scaling"]["instances"], 1);

    // What is listed as the other kind is refused, and nothing of it is lost.
    for (lists, message) in [
        (
            json!({"id": "/g", "apps": [{"id": "p", "cmd": "sleep 1"}], "pods": []}),
            "A pod with id [/g/p] already exists.",
        ),
        (
            json!({"id": "/g", "apps": [], "pods": [pod("a")]}),
            "An app with id [/g/a] already exists.",
        ),
    ] {
        let refused = put(lists).await;
        assert_eq!((refused.status, &refused.json()["message"]), (409, &json!(message)));
    }
    assert_eq!(ids(&node.get("/v2/pods").await.json()), ["/g/h/r", "/g/p", "/g/q"]);
    assert_eq!(node.get("/v2/apps/g/a").await.status, 200);

    let mut wrong = pod("p");
    wrong["containers"] = json!([]);
    let refused = put(json!({"id": "/g", "pods": [wrong, pod("a"), pod("../x")],
        "apps": [{"id": "a", "cmd": "sleep 1"}]}))
    .await;
    assert_eq!(refused.status, 422, "{}", refused.text);
    let paths: Vec<String> = refused.json()["details"]
        .as_array()
        .unwrap()
        .iter()
        .map(|d| d["path"].as_str().unwrap().to_string())
        .collect();
    assert_eq!(paths, ["/pods(0)/containers", "/pods(1)/id", "/pods(2)/id"]);
    assert_eq!(node.ask("DELETE", "/v2/groups/g", "").await.status, 200);
    assert_eq!(node.get("/v2/pods").await.json(), json!([]));
}
