//! `/v2/apps` from create to delete, and the golden replies byte for byte.

use crate::api::testing::Node;
use crate::api::testing::state;
use crate::propose::ProposeError;
use bramble_core::command::Command;
use bramble_core::model::{AgentId, AppId, TaskFailure, TaskId, TaskState, Time, UndoReason};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const HELLO: &str = r#"{ "id": "hello", "cmd": "echo hello world; sleep 30", "mem": 2, "cpus": 0.1, "instances": 1, "disk": 0.0, "ports": [0] }"#;
const HELLO_REPLY: &str = r#"{"id":"/hello","cmd":"echo hello world; sleep 30","args":null,"user":null,"env":{},"instances":1,"cpus":0.1,"mem":2.0,"disk":0.0,"executor":"","constraints":[],"uris":[],"storeUrls":[],"ports":[0],"requirePorts":false,"backoffSeconds":1,"backoffFactor":1.15,"container":null,"healthChecks":[],"dependencies":[],"upgradeStrategy":{"minimumHealthCapacity":1.0},"version":"VERSION"}"#;
const NGINX: &str = r#"{"container":{"type":"DOCKER","docker":{"image":"feuyeux/nginx","network":"BRIDGE","portMappings":[{"containerPort":80,"hostPort":0,"servicePort":80,"protocol":"tcp"}]}},"id":"nginx","instances":1,"cpus":0.25,"mem":256,"uris":[]}"#;
const NGINX_REPLY: &str = r#"{"id":"/nginx","cmd":null,"args":null,"user":null,"env":{},"instances":1,"cpus":0.25,"mem":256.0,"disk":0.0,"executor":"","constraints":[],"uris":[],"storeUrls":[],"ports":[],"requirePorts":false,"backoffSeconds":1,"backoffFactor":1.15,"container":{"type":"DOCKER","volumes":[],"docker":{"image":"feuyeux/nginx","network":"BRIDGE","portMappings":[{"containerPort":80,"hostPort":0,"servicePort":80,"protocol":"tcp"}],"privileged":false,"parameters":{}}},"healthChecks":[],"dependencies":[],"upgradeStrategy":{"minimumHealthCapacity":1.0},"version":"VERSION"}"#;

/// What the wire carried, from the status line on.
async fn raw(node: &Node, body: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(node.http).await.unwrap();
    let request = format!(
        "POST /v2/apps HTTP/1.1\r\nHost: HOST:8080\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// The moment an answer names as the app's version.
fn version_in(answer: &str) -> &str {
    let (_, rest) = answer.rsplit_once(r#""version":""#).unwrap();
    &rest[..24]
}

#[tokio::test]
async fn the_golden_requests_get_the_golden_replies() {
    let node = Node::start().await;
    for (request, reply, path) in [(HELLO, HELLO_REPLY, "hello"), (NGINX, NGINX_REPLY, "nginx")] {
        let answer = raw(&node, request).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert_eq!(body, reply.replace("VERSION", version_in(body)));
        let lines: Vec<&str> = head.split("\r\n").collect();
        assert_eq!(lines[0], "HTTP/1.1 201 Created");
        for line in [
            format!("Location: http://HOST:8080/v2/apps/{path}"),
            "Content-Type: application/json".to_string(),
            format!("Content-Length: {}", body.len()),
        ] {
            assert!(lines.contains(&line.as_str()), "{line} is missing in {head}");
        }
        let named = lines.iter().find_map(|l| l.strip_prefix("Marathon-Deployment-Id: "));
        assert_eq!(named.map(str::len), Some(36), "{head}");
    }
    // What was stored is the same version, now in the canonical form with its service port.
    let app = node.get("/v2/apps/hello").await.json();
    assert_eq!(app["app"]["portDefinitions"][0]["port"], 10_000);
    assert_eq!(app["app"]["networks"], json!([{ "mode": "host" }]));
    assert_eq!(app["app"].get("ports"), None);
}

#[tokio::test]
async fn a_newer_key_gets_the_newer_form() {
    let node = Node::start().await;
    let body = r#"{"id":"a","cmd":"sleep 1","ports":[0],"labels":{"x":"y"}}"#;
    let answer = node.ask("POST", "/v2/apps", body).await;
    let app = answer.json();
    assert_eq!(answer.status, 201, "{app}");
    assert_eq!(app["labels"], json!({ "x": "y" }));
    assert_eq!(app["tasksRunning"], 0);
    assert_eq!(app["tasks"], json!([]));
    assert_eq!(app["deployments"][0]["id"], answer.header("marathon-deployment-id"));
    assert_eq!(app.get("versionInfo"), None);
    assert_eq!(answer.header("location"), "http://localhost:8080/v2/apps/a");
}

#[tokio::test]
async fn an_app_lives() {
    let node = Node::start().await;
    let made = node.ask("PUT", "/v2/apps//g/a", r#"{"cmd":"sleep 9","cpus":0.5}"#).await;
    assert_eq!(made.status, 201, "{}", made.text);
    assert_eq!(made.json()["deploymentId"], made.header("marathon-deployment-id"));
    let first = made.json()["version"].as_str().unwrap().to_string();

    let locked = node.ask("PUT", "/v2/apps/g/a", r#"{"instances":3}"#).await;
    assert_eq!(locked.status, 409);
    let holder = json!([{ "id": made.json()["deploymentId"] }]);
    assert_eq!(locked.json()["deployments"], holder);
    assert!(locked.json()["message"].as_str().unwrap().contains("/v2/deployments/<DEPLOYMENT_ID>"));

    let scaled = node.ask("PUT", "/v2/apps/g/a?force=True", r#"{"instances":3}"#).await;
    assert_eq!(scaled.status, 200, "{}", scaled.text);
    let app = node.get("/v2/apps/g/a/").await.json()["app"].clone();
    assert_eq!((&app["instances"], &app["cmd"]), (&json!(3), &json!("sleep 9")));
    assert_eq!(app["version"], scaled.json()["version"]);

    let patched = node.ask("PATCH", "/v2/apps/g/a?force=true", r#"{"cpus":2}"#).await;
    assert_eq!(patched.status, 200, "{}", patched.text);
    let versions = node.get("/v2/apps/g/a/versions").await.json()["versions"].clone();
    assert_eq!(versions.as_array().unwrap().len(), 3);
    assert_eq!(versions[0], patched.json()["version"], "the newest comes first");
    assert_eq!(versions[2], first.as_str());
    let old = node.get(&format!("/v2/apps/g/a/versions/{first}")).await.json();
    assert_eq!((&old["instances"], &old["id"]), (&json!(1), &json!("/g/a")));

    let back = format!(r#"{{"version":"{first}"}}"#);
    let back = node.ask("PUT", "/v2/apps/g/a?force=true", &back).await;
    assert_eq!(back.status, 200, "{}", back.text);
    let app = node.get("/v2/apps/g/a").await.json()["app"].clone();
    assert_eq!((&app["instances"], app["cpus"].as_f64()), (&json!(1), Some(0.5)));
    assert_eq!(app["version"], back.json()["version"], "a new version, with the old content");

    let restarted = node.ask("POST", "/v2/apps/g/a/restart?force=true", "").await;
    assert_eq!(restarted.status, 200, "{}", restarted.text);
    let whole = node
        .ask("PUT", "/v2/apps/g/a?force=true&partialUpdate=false", r#"{"cmd":"sleep 5"}"#)
        .await;
    assert_eq!(whole.status, 200, "{}", whole.text);
    assert_eq!(node.get("/v2/apps/g/a").await.json()["app"]["cpus"].as_f64(), Some(1.0));

    let gone = node.ask("DELETE", "/v2/apps/g/a", "").await;
    assert_eq!(gone.status, 200, "force is the default: {}", gone.text);
    assert_eq!(node.get("/v2/apps/g/a").await.status, 404);
    assert_eq!(node.get("/v2/apps").await.text, r#"{"apps":[]}"#);
}

#[tokio::test]
async fn many_apps_change_in_one_deployment_or_not_at_all() {
    let node = Node::start().await;
    let body = r#"[{"id":"/a","cmd":"sleep 1"},{"id":"g/b","cmd":"sleep 2"}]"#;
    let made = node.ask("PUT", "/v2/apps", body).await;
    assert_eq!(made.status, 200, "{}", made.text);
    let changes = node.memory.commands.lock().unwrap().len();
    assert_eq!(changes, 1);
    let ids: Vec<_> = node.get("/v2/apps").await.json()["apps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|app| app["id"].clone())
        .collect();
    assert_eq!(ids, ["/a", "/g/b"]);

    let body = r#"[{"id":"/a","instances":5},{"id":"/nope","instances":1}]"#;
    let refused = node.ask("PATCH", "/v2/apps?force=true", body).await;
    assert_eq!(
        (refused.status, refused.text.as_str()),
        (404, r#"{"message":"App '/nope' does not exist"}"#)
    );
    assert_eq!(node.get("/v2/apps/a").await.json()["app"]["instances"], 1);
    let body = r#"[{"id":"/a","instances":5}]"#;
    assert_eq!(node.ask("PATCH", "/v2/apps?force=true", body).await.status, 200);
    assert_eq!(node.get("/v2/apps/a").await.json()["app"]["instances"], 5);

    let nameless = node.ask("PUT", "/v2/apps", r#"[{"cmd":"sleep 1"}]"#).await;
    let message = r#"{"message":"App Update must have app id set"}"#;
    assert_eq!((nameless.status, nameless.text.as_str()), (422, message));
}

#[tokio::test]
async fn lists_are_filtered_and_embed() {
    let node = Node::start().await;
    node.edit(|state| {
        for id in ["/web", "/g/web-db", "/g/h/cache"] {
            state::add_app(state, id, 1);
        }
        state::running(state, "/web", "1");
        let web = state.apps.get_mut(&AppId::new("/web")).unwrap();
        web.app.labels.insert("tier".into(), "front".into());
        web.app.cmd = Some("Serve All".into());
        web.last_failure = Some(TaskFailure {
            task_id: TaskId::new("web.instance-0._app.1"),
            agent_id: AgentId::new("agent-1"),
            host: "node1".into(),
            state: TaskState::Failed,
            message: "exit 1".into(),
            at: Time(5),
            version: Time(1000),
        });
    });
    let rows = [
        ("/v2/apps", "apps", "/g/h/cache /g/web-db /web"),
        ("/v2/apps?id=WEB", "apps", "/g/web-db /web"),
        ("/v2/apps?cmd=serve", "apps", "/web"),
        ("/v2/apps?label=tier", "apps", "/web"),
        ("/v2/apps?label=tier%3D%3Dback", "apps", ""),
        ("/v2/apps/g/*", "*", "/g/h/cache /g/web-db"),
        ("/v2/apps/*", "*", "/g/h/cache /g/web-db /web"),
    ];
    for (path, key, want) in rows {
        let list = node.get(path).await.json();
        let ids: Vec<&str> =
            list[key].as_array().unwrap().iter().map(|a| a["id"].as_str().unwrap()).collect();
        assert_eq!(ids.join(" "), want, "{path}");
    }
    let plain = node.get("/v2/apps?label=tier").await.json()["apps"][0].clone();
    assert_eq!((&plain["tasksRunning"], plain.get("tasks")), (&json!(1), None));
    assert_eq!((&plain["deployments"], &plain["labels"]["tier"]), (&json!([]), &json!("front")));
    let query =
        "/v2/apps/?label=tier&embed=apps.failures&embed=apps.taskStats&embed=apps.readiness";
    let full = node.get(query).await.json()["apps"][0].clone();
    assert_eq!(full["tasks"][0]["id"], "web.instance-1._app.1");
    assert_eq!(full["tasks"][0]["servicePorts"], json!([]));
    assert_eq!(full["lastTaskFailure"]["message"], "exit 1");
    assert_eq!(full["readinessCheckResults"], json!([]));
    assert_eq!(full["taskStats"]["totalSummary"]["stats"]["counts"]["running"], 1);
    let one = node.get("/v2/apps/web").await.json()["app"].clone();
    assert_eq!((one["tasks"].as_array().unwrap().len(), &one["tasksRunning"]), (1, &json!(1)));
    assert_eq!(one["lastTaskFailure"]["state"], "TASK_FAILED");
}

#[tokio::test]
async fn refusals_change_nothing() {
    let node = Node::start().await;
    node.edit(|state| state::add_app(state, "/a", 1));
    let before = node.store.read(Clone::clone);
    let long = format!(r#"{{"id":"{}","cmd":"sleep 1"}}"#, "x".repeat(10_000));
    let missing = r#"{"message":"App '/x' does not exist"}"#;
    let rows: [(&str, &str, &str, u16, &str); 17] = [
        ("POST", "/v2/apps", "{", 400, r#"{"message":"Invalid JSON","details":"#),
        (
            "POST",
            "/v2/apps",
            "",
            400,
            r#"{"message":"Please specify data in JSON format","details":"#,
        ),
        (
            "POST",
            "/v2/apps",
            r#"{"id":7,"cmd":"sleep 1"}"#,
            422,
            r#"{"message":"Invalid JSON","details":[{"path":"/id","errors":["error.expected.jsstring""#,
        ),
        (
            "POST",
            "/v2/apps",
            r#"{"cmd":"sleep 1"}"#,
            422,
            r#"{"message":"Invalid JSON","details":[{"path":"/id","errors":["error.path.missing""#,
        ),
        (
            "POST",
            "/v2/apps",
            r#"{"id":"b","cmd":"sleep 1","cpus":-1}"#,
            422,
            r#"{"message":"Invalid JSON","details":[{"path":"/cpus","errors":["error.min"#,
        ),
        (
            "POST",
            "/v2/apps",
            &long,
            422,
            r#"{"message":"Object is not valid","details":[{"path":"/id","#,
        ),
        (
            "POST",
            "/v2/apps",
            r#"{"id":"B_c","cmd":"sleep 1"}"#,
            422,
            r#"{"message":"Object is not valid","details":[{"path":"/id","errors":["must fully match"#,
        ),
        (
            "POST",
            "/v2/apps",
            r#"{"id":"/a","cmd":"sleep 1"}"#,
            409,
            r#"{"message":"An app with id [/a] already exists."}"#,
        ),
        (
            "POST",
            "/v2/apps",
            r#"{"id":"/a/b","cmd":"sleep 1"}"#,
            409,
            r#"{"message":"An app with the path /a/b already exists."}"#,
        ),
        (
            "PUT",
            "/v2/apps/a",
            r#"{"version":"2015-02-05T11:45:31.026Z","cmd":"x y"}"#,
            422,
            r#"{"message":"Object is not valid","details":[{"path":"/version","#,
        ),
        (
            "PUT",
            "/v2/apps/a",
            r#"{"version":"2015-02-05T11:45:31.026Z"}"#,
            404,
            r#"{"message":"App '/a' does not exist in version 2015-02-05T11:45:31.026Z"}"#,
        ),
        (
            "PUT",
            "/v2/apps",
            r#"[{"id":"/a"},{"id":"X"}]"#,
            422,
            r#"{"message":"Object is not valid","details":[{"path":"/(1)/id","#,
        ),
        ("PATCH", "/v2/apps/x", r#"{"instances":1}"#, 404, missing),
        ("POST", "/v2/apps/x/restart", "", 404, missing),
        ("DELETE", "/v2/apps/x", "", 404, missing),
        ("GET", "/v2/apps/x/versions", "", 404, missing),
        (
            "GET",
            "/v2/apps/a/versions/yesterday",
            "",
            422,
            r#"{"message":"Invalid timestamp provided 'yesterday'. Expecting ISO-8601 datetime string."}"#,
        ),
    ];
    for (method, path, body, status, start) in rows {
        let answer = node.ask(method, path, body).await;
        let shown = &body[..body.len().min(60)];
        assert_eq!(answer.status, status, "{method} {path} {shown}: {}", answer.text);
        assert!(answer.text.starts_with(start), "{method} {path} {shown}: {}", answer.text);
    }
    assert_eq!(node.get("/v2/apps/nope/*").await.status, 404);
    let selector = node.get("/v2/apps?label=a%3Db").await;
    assert_eq!(selector.status, 422);
    node.store.read(|state| assert_eq!(state.apps, before.apps));
}

#[tokio::test]
async fn a_log_that_takes_nothing_is_a_503_with_the_reason() {
    let node = Node::start().await;
    let reason = "no space left on device";
    *node.memory.fail_next.lock().unwrap() = Some(ProposeError::Unavailable(reason.into()));
    let answer = node.ask("POST", "/v2/apps", HELLO).await;
    assert_eq!(answer.status, 503);
    assert!(answer.json()["message"].as_str().unwrap().contains(reason), "{}", answer.text);
    assert_eq!(node.get("/v2/apps").await.text, r#"{"apps":[]}"#);
}

#[tokio::test]
async fn deployments_are_listed_undone_and_stopped() {
    let node = Node::start().await;
    node.edit(|state| state::add_app(state, "/a", 1));
    let scaled = node.ask("PUT", "/v2/apps/a", r#"{"instances":4}"#).await.json();
    let list = node.get("/v2/deployments").await.json();
    assert_eq!(list[0]["id"], scaled["deploymentId"]);
    assert_eq!(list[0]["affectedApps"], json!(["/a"]));
    assert_eq!(list[0]["currentActions"][0]["action"], "ScaleApplication");

    let id = scaled["deploymentId"].as_str().unwrap();
    let undone = node.ask("DELETE", &format!("/v2/deployments/{id}"), "").await;
    assert_eq!(undone.status, 200, "{}", undone.text);
    assert_ne!(undone.json()["deploymentId"], id);
    assert_eq!(node.get("/v2/apps/a").await.json()["app"]["instances"], 1);

    let made = node.ask("POST", "/v2/apps", r#"{"id":"/b","cmd":"sleep 1"}"#).await;
    let id = made.header("marathon-deployment-id").to_string();
    let stopped = node.ask("DELETE", &format!("/v2/deployments/{id}?force=true"), "").await;
    assert_eq!((stopped.status, stopped.text.as_str()), (202, ""));
    assert_eq!(node.get("/v2/apps/b").await.status, 200, "what was started stays");
    let again = node.ask("DELETE", &format!("/v2/deployments/{id}"), "").await;
    let text = format!(r#"{{"message":"DeploymentPlan {id} does not exist"}}"#);
    assert_eq!((again.status, again.text), (404, text));

    let made = node.ask("POST", "/v2/apps", r#"{"id":"/c","cmd":"sleep 1"}"#).await;
    let id = made.header("marathon-deployment-id").to_string();
    assert_eq!(node.ask("DELETE", &format!("/v2/deployments/{id}"), "").await.status, 200);
    assert_eq!(node.get("/v2/apps/c").await.status, 404, "undoing a creation removes");
    let last = node.memory.commands.lock().unwrap().last().cloned();
    assert!(matches!(last, Some(Command::RollBack { reason: UndoReason::Requested, .. })));
}
