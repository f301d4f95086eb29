//! The requests of 2015 and their answers, byte for byte (DESIGN section 6).

use bramble_tests::{Node, can_run_containers, eventually};
use std::path::Path;

const HELLO: &str = r#"{ "id": "hello", "cmd": "echo hello world; sleep 30", "mem": 2, "cpus": 0.1, "instances": 1, "disk": 0.0, "ports": [0] }"#;
const HELLO_REPLY: &str = r#"{"id":"/hello","cmd":"echo hello world; sleep 30","args":null,"user":null,"env":{},"instances":1,"cpus":0.1,"mem":2.0,"disk":0.0,"executor":"","constraints":[],"uris":[],"storeUrls":[],"ports":[0],"requirePorts":false,"backoffSeconds":1,"backoffFactor":1.15,"container":null,"healthChecks":[],"dependencies":[],"upgradeStrategy":{"minimumHealthCapacity":1.0},"version":"VERSION"}"#;
const NGINX: &str = r#"{"container":{"type":"DOCKER","docker":{"image":"feuyeux/nginx","network":"BRIDGE","portMappings":[{"containerPort":80,"hostPort":0,"servicePort":80,"protocol":"tcp"}]}},"id":"nginx","instances":1,"cpus":0.25,"mem":256,"uris":[]}"#;
const NGINX_REPLY: &str = r#"{"id":"/nginx","cmd":null,"args":null,"user":null,"env":{},"instances":1,"cpus":0.25,"mem":256.0,"disk":0.0,"executor":"","constraints":[],"uris":[],"storeUrls":[],"ports":[],"requirePorts":false,"backoffSeconds":1,"backoffFactor":1.15,"container":{"type":"DOCKER","volumes":[],"docker":{"image":"feuyeux/nginx","network":"BRIDGE","portMappings":[{"containerPort":80,"hostPort":0,"servicePort":80,"protocol":"tcp"}],"privileged":false,"parameters":{}}},"healthChecks":[],"dependencies":[],"upgradeStrategy":{"minimumHealthCapacity":1.0},"version":"VERSION"}"#;

#[test]
fn the_2015_deploys_get_the_2015_answers() {
    if !can_run_containers("golden") {
        return;
    }
    let node = Node::start();
    for (id, request, expected) in [("hello", HELLO, HELLO_REPLY), ("nginx", NGINX, NGINX_REPLY)] {
        let answer = node.api("POST", "/v2/apps", Some(request)).expect(201);
        let location = format!("http://localhost:8080/v2/apps/{id}");
        assert_eq!(answer.header("location"), Some(location.as_str()));
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert!(answer.header("marathon-deployment-id").is_some_and(|id| id.len() == 36));
        let version = answer.json()["version"].as_str().expect("a version").to_string();
        assert_eq!(version.len(), 24, "{version}");
        assert_eq!(answer.body, expected.replace("VERSION", &version));
    }
    // A later GET gives the canonical form, with ports assigned.
    let app = &node.get("/v2/apps/nginx")["app"];
    assert_eq!(app["networks"][0]["mode"], "container/bridge");
    assert_eq!(app["container"]["portMappings"][0]["servicePort"], 80);
    assert!(app.get("ports").is_none(), "{app}");
    let app = &node.get("/v2/apps/hello")["app"];
    assert!(app["portDefinitions"][0]["port"].as_u64().is_some_and(|port| port >= 10_000));
}

/// The fixtures of the normaliser: requests in the 0.7 form with the replies its rules give.
#[test]
fn every_classic_request_gets_its_classic_answer() {
    if !can_run_containers("classic requests") {
        return;
    }
    let node = Node::start();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR"));
    let fixtures = fixtures.join("../master/src/normalize/fixtures/classic");
    let mut asked = 0;
    for entry in std::fs::read_dir(fixtures).expect("the fixtures lie in the tree") {
        let path = entry.expect("the fixtures can be read").path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let read = |path: &Path| std::fs::read_to_string(path).expect("a fixture can be read");
        let answer = node.api("POST", "/v2/apps", Some(&read(&path))).expect(201);
        let reply = answer.json();
        let version = reply["version"].as_str().expect("a version");
        let id = reply["id"].as_str().expect("an id");
        let (head, _) = answer.body.rsplit_once(version).expect("the version stands in the body");
        let expected = read(&path.with_extension("reply"));
        assert!(expected.trim_end().starts_with(head), "{}: {head}", path.display());
        // Several fixtures are about the same app.
        node.api("DELETE", &format!("/v2/apps{id}?force=true"), None).expect(200);
        eventually("the end of its tasks", || {
            node.get("/v2/deployments").as_array().is_some_and(Vec::is_empty).then_some(())
        });
        asked += 1;
    }
    assert!(asked >= 22, "only {asked} requests were asked");
}

#[test]
fn a_newer_key_gets_the_newer_form() {
    if !can_run_containers("golden, newer form") {
        return;
    }
    let node = Node::start();
    let request = r#"{"id":"labelled","cmd":"sleep 100","mem":16,"cpus":0.1,"ports":[0],"labels":{"a":"b"},"maxLaunchDelaySeconds":7}"#;
    let answer = node.api("POST", "/v2/apps", Some(request)).expect(201).json();
    assert_eq!(answer["labels"]["a"], "b");
    assert_eq!(answer["maxLaunchDelaySeconds"], 7);
    assert!(answer.get("ports").is_none() && answer.get("portDefinitions").is_some(), "{answer}");
}
