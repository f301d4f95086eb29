//! Sections 2.1 and 2.2: tasks, as JSON and as text, and killing them.

use super::*;
use serde_json::json;

const TASK: &str = "appId host id ipAddresses ports slaveId stagedAt startedAt state version";
const WITH_PORTS: &str =
    "appId host id ipAddresses ports servicePorts slaveId stagedAt startedAt state version";
const WEB_LINE: &str = "web\t10001\tnode1:31000\tnode1:31000\t\n";

fn text(name: &'static str, path: &str, want: &str) -> Line {
    line(name, format!("GET {path}"), 200)
        .with("Accept", "text/plain")
        .header("content-type", "text/plain")
        .text(want)
}

#[tokio::test]
async fn get_v2_tasks() {
    let count = |name, query: &str, count: usize| {
        let pointers = ["/tasks/0", "/tasks/1", "/tasks/2", "/tasks/3"];
        let found = line(name, format!("GET /v2/tasks{query}"), 200).lacks(pointers[count]);
        if count > 0 { found.has(pointers[count - 1]) } else { found }
    };
    table([
        count("all", "", 3),
        count("running", "?status=running", 3),
        count("in any case", "?status=Running", 3),
        count("in brackets", "?status%5B%5D=STAGING", 0),
        count("both", "?status=staging&status=running", 3),
        count("others do not count", "?status=failed", 3),
        line("with service ports", "GET /v2/tasks", 200).keys("/tasks/0", WITH_PORTS),
        line("JSON for anything", "GET /v2/tasks", 200)
            .with("Accept", "*/*")
            .header("content-type", "application/json"),
        line("neither form", "GET /v2/tasks", 406)
            .with("Accept", "image/png")
            .message("Not Acceptable"),
        text(
            "text: with and without ports, none running",
            "/v2/tasks/",
            &format!("busy\t \t\ng_db\t \tnode1\t\ng_h_idle\t \t\n{WEB_LINE}"),
        ),
    ])
    .await;
}

#[tokio::test]
async fn get_v2_apps_id_tasks() {
    table([
        line("without service ports", "GET /v2/apps/web/tasks", 200)
            .keys("", "tasks")
            .keys("/tasks/0", TASK)
            .is("/tasks/0/ipAddresses", json!([{ "ipAddress": "10.0.0.2", "protocol": "IPv4" }]))
            .is("/tasks/0/startedAt", "1970-01-01T00:00:04.000Z"),
        line("none is an empty list", "GET /v2/apps/g/h/idle/tasks", 200).is("/tasks", json!([])),
        line("containerNetworks is tolerated", "GET /v2/apps/web/tasks?containerNetworks=x", 200),
        line("an unknown app", "GET /v2/apps/nope/tasks", 404)
            .message("App '/nope' does not exist"),
        line("an unknown app, as text", "GET /v2/apps/nope/tasks", 404)
            .with("Accept", "text/plain")
            .message("App '/nope' does not exist"),
        text("text", "/v2/apps//web/tasks", WEB_LINE),
        text("text of a group", "/v2/apps/g/*/tasks", "g_db\t \tnode1\t\ng_h_idle\t \t\n"),
    ])
    .await;
}

#[tokio::test]
async fn text_of_every_kind_of_port() {
    let node = Node::start().await;
    node.edit(seed);
    let mapping = |container_port, host_port, service_port| PortMapping {
        container_port,
        host_port,
        service_port,
        protocol: Protocol::Tcp,
        name: None,
        labels: <_>::default(),
        network_names: Vec::new(),
    };
    node.edit(|all| {
        let web = &mut all.apps.get_mut(&AppId::new("/web")).unwrap().app;
        web.networks = vec![Network::Bridge];
        let mappings = vec![
            mapping(80, Some(0), 10_001),
            mapping(81, None, 10_002),
            mapping(82, Some(0), 10_003),
        ];
        web.container = Some(Container {
            kind: ContainerKind::Mesos,
            docker: None,
            port_mappings: Some(mappings),
            volumes: Vec::new(),
            linux_info: None,
        });
    });
    let want = "web\t10001\tnode1:31000\tnode1:31000\t\n\
        web\t10002\t10.0.0.2:81\t10.0.0.2:81\t\n\
        web\t10003\tnode1:0\tnode1:0\t\n";
    let answer = send(&node, "GET /v2/apps/web/tasks", &[("Accept", "text/plain")], "").await;
    assert_eq!(answer.text, want);
}

const BOTH: &str = "You cannot use scale and wipe at the same time.";

#[tokio::test]
async fn delete_v2_apps_id_tasks() {
    let kill =
        |name, query: &str, status| line(name, format!("DELETE /v2/apps/web/tasks{query}"), status);
    let both = |line: Line| line.is("/tasks/0/id", WEB_ONE).is("/tasks/1/id", WEB_TWO);
    table([
        both(kill("all", "", 200)).keys("", "tasks").header("marathon-deployment-id", ""),
        both(kill("on a host", "?host=node1", 200)),
        both(kill("on any host", "?host=*", 200)),
        kill("on a host without any", "?host=other", 200).is("/tasks", json!([])),
        both(kill("wipe", "?wipe=true", 200)),
        kill("scale", "?scale=true", 200).deploys(),
        kill("scale in any case", "?scale=True", 200).deploys(),
        both(kill("scale=False", "?scale=False", 200)),
        kill("scale and wipe", "?scale=true&wipe=true", 400).message(BOTH),
        line("the app shrinks", "GET /v2/apps/web", 200)
            .after("DELETE /v2/apps/web/tasks?scale=true", "")
            .is("/app/instances", 0),
        line("the app stays", "GET /v2/apps/web", 200)
            .after("DELETE /v2/apps/web/tasks", "")
            .is("/app/instances", 2),
        line("scale, locked", "DELETE /v2/apps/web/tasks?scale=true", 409)
            .after("PUT /v2/apps/web", r#"{"cpus":2}"#)
            .has("/deployments/0/id"),
        line("scale, locked, forced", "DELETE /v2/apps/web/tasks?scale=true&force=true", 200)
            .after("PUT /v2/apps/web", r#"{"cpus":2}"#)
            .deploys(),
        line("none to kill", "DELETE /v2/apps/g/h/idle/tasks", 200).is("/tasks", json!([])),
        line("an unknown app", "DELETE /v2/apps/nope/tasks", 404)
            .message("App '/nope' does not exist"),
    ])
    .await;
}

#[tokio::test]
async fn delete_v2_apps_id_tasks_task() {
    let kill =
        |name, rest: &str, status| line(name, format!("DELETE /v2/apps/web/tasks/{rest}"), status);
    let one = |query: &str| format!("{WEB_ONE}{query}");
    table([
        kill("one", &one(""), 200).keys("", "task").is("/task/id", WEB_ONE),
        kill("wipe", &one("?wipe=true"), 200).is("/task/id", WEB_ONE),
        kill("scale", &one("?scale=true"), 200).deploys(),
        kill("scale and wipe", &one("?scale=true&wipe=true"), 400).message(BOTH),
        kill("an unknown task", "x.1", 404).message("Task 'x.1' does not exist"),
        line("of another app", format!("DELETE /v2/apps/busy/tasks/{WEB_ONE}"), 404)
            .part("does not exist"),
        line("an unknown app", format!("DELETE /v2/apps/nope/tasks/{WEB_ONE}"), 404)
            .message("App '/nope' does not exist"),
        line("one less", "GET /v2/apps/web", 200)
            .after(&format!("DELETE /v2/apps/web/tasks/{WEB_ONE}?scale=true"), "")
            .is("/app/instances", 1),
    ])
    .await;
}

#[tokio::test]
async fn post_v2_tasks_delete() {
    let kill =
        |name, query: &str, status| line(name, format!("POST /v2/tasks/delete{query}"), status);
    let ids = |ids: &[&str]| json!({ "ids": ids }).to_string();
    let unknown = "web.instance-9._app.1";
    table([
        kill("of several apps", "", 200)
            .body(ids(&[WEB_ONE, "g_db.instance-3._app.1"]))
            .has("/tasks/1/id")
            .lacks("/tasks/2"),
        kill("unknown ones are left out", "", 200).body(ids(&[unknown])).is("/tasks", json!([])),
        kill("none", "", 200).body(ids(&[])).is("/tasks", json!([])),
        kill("wipe", "?wipe=True", 200).body(ids(&[WEB_ONE])).has("/tasks/0"),
        kill("scale", "?scale=true", 200).body(ids(&[WEB_ONE])).deploys(),
        kill("scale and wipe", "?scale=true&wipe=true", 400).body(ids(&[WEB_ONE])).message(BOTH),
        kill("no id at all", "", 400).body(ids(&["x"])).part("Invalid task id 'x'. ["),
        kill("no ids", "", 422).body("{}").part("error.path.missing"),
        kill("not text", "", 422).body(r#"{"ids":[1]}"#).part(r#""path":"/ids(0)""#),
        kill("broken", "", 400).body("{").part(r#"{"message":"Invalid JSON","details":""#),
    ])
    .await;
}
