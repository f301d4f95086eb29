//! Images out of software that others wrote: a registry and skopeo, each test with its own.

mod access;
mod formats;

use bramble_tests::{
    BusyboxImage, Node, Protection, RunningRegistry, can_run_containers, eventually,
    has_registry_tools, skopeo_copy, succeed,
};
use serde_json::{Value, json};
use std::process::Output;

const PLAIN: [&str; 1] = ["--dest-tls-verify=false"];

fn can_run(test: &str) -> bool {
    can_run_containers(test) && has_registry_tools(test)
}

/// An image that says `word` and stays.
fn speaker(word: &str) -> BusyboxImage {
    BusyboxImage::new(
        &format!("speaker/{word}:1"),
        &["sh", "-c", &format!("echo {word}; exec sleep 1000")],
    )
}

/// Push what `docker save` would write.
fn push(node: &Node, image: &BusyboxImage, name: &str, options: &[&str]) {
    let archive = format!("docker-archive:{}", image.save(node.root()).display());
    skopeo_copy(node, &[&PLAIN, options].concat(), &archive, &format!("docker://{name}"));
}

fn app(id: &str, image: &str) -> Value {
    json!({"id": id, "cpus": 0.1, "mem": 16,
           "container": {"type": "DOCKER", "docker": {"image": image}}})
}

fn deploy(node: &Node, id: &str, image: &str) -> Output {
    let app = app(id, image).to_string();
    node.bramble_with_input(&["deploy", "-", "--wait", "--timeout", "60"], app.as_bytes())
}

/// Deploy an image and wait until its container has said `word`.
fn runs(node: &Node, id: &str, image: &str, word: &str) {
    let output = deploy(node, id, image);
    assert!(output.status.success(), "{image}: {}", String::from_utf8_lossy(&output.stderr));
    says(node, id, word);
}

fn says(node: &Node, id: &str, word: &str) {
    node.running(id, 1);
    let said = eventually("its output", || {
        let output = node.bramble(&["logs", id]);
        let text = String::from_utf8_lossy(&output.stdout).trim().to_string();
        (!text.is_empty()).then_some(text)
    });
    assert_eq!(said, word);
}

/// Deploy an image that cannot be had; gives the reason, as the client and the API tell it.
fn fails(node: &Node, id: &str, image: &str) -> String {
    let output = deploy(node, id, image);
    let said = String::from_utf8_lossy(&output.stderr).to_string();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(image), "the image is not named: {said}");
    assert!(!said.contains(&format!("{image}: image {image}")), "it is named twice: {said}");
    let failure = node.get(&format!("/v2/apps/{id}"))["app"]["lastTaskFailure"].clone();
    let message = failure["message"].as_str().unwrap_or_default();
    assert!(said.contains(message) && message.contains(image), "{failure} and {said}");
    node.api("DELETE", &format!("/v2/apps/{id}?force=true"), None).expect(200);
    said
}

fn listed(node: &Node) -> String {
    let output = node.bramble(&["images"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn what_was_pulled_once_needs_no_registry() {
    if !can_run("anonymous pull") {
        return;
    }
    let node = Node::start();
    let registry = RunningRegistry::start(&node, "localhost:5000", &Protection::default());
    let image = registry.image("speaker:1");
    push(&node, &speaker("pulled"), &image, &[]);
    runs(&node, "first", &image, "pulled");
    assert!(listed(&node).contains(&image), "{}", listed(&node));
    let zstd = registry.image("deep/er/speaker:zstd");
    push(&node, &speaker("zstd"), &zstd, &["--format", "oci", "--dest-compress-format", "zstd"]);
    runs(&node, "zstd", &zstd, "zstd");
    let mut inspect = node.inside("skopeo");
    inspect.args(["inspect", "--tls-verify=false", "--format", "{{.Digest}}"]);
    inspect.arg(format!("docker://{image}"));
    let by_digest = registry.image(&format!("speaker@{}", succeed(inspect).trim()));
    runs(&node, "digest", &by_digest, "pulled");
    drop(registry);
    runs(&node, "second", &image, "pulled");
}

#[test]
fn an_image_that_a_registry_lacks_is_named_with_the_reason() {
    if !can_run("missing image") {
        return;
    }
    let node = Node::start();
    let registry = RunningRegistry::start(&node, "localhost:5000", &Protection::default());
    push(&node, &speaker("here"), &registry.image("speaker:1"), &[]);
    for (id, name) in [("repository", "nobody/made:this"), ("tag", "speaker:2")] {
        let said = fails(&node, id, &registry.image(name));
        assert!(said.contains("does not exist") && said.contains("404"), "{said}");
    }
    // What Docker pushed before 2016 and nothing reads any more.
    let ancient = registry.image("speaker:ancient");
    push(&node, &speaker("ancient"), &ancient, &["--format", "v2s1"]);
    let said = fails(&node, "ancient", &ancient);
    assert!(said.contains("schema 1"), "{said}");
    assert!(!listed(&node).contains("localhost:5000"), "{}", listed(&node));
}
