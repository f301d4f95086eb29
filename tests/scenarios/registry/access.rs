//! Who may pull, and over what: users, certificates, plain http.

use super::{can_run, fails, push, runs, says, speaker};
use crate::secrets::{PASSWORD, nothing_is_written, put};
use bramble_tests::{Node, NodeBuilder, Protection, RunningRegistry, Server, eventually, succeed};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// An address that only this machine has and that is not its loopback.
const ADDRESS: &str = "10.77.0.1";

/// Start a node that also has [`ADDRESS`]; `prepare` runs before it, inside its network.
fn node_with_address<T>(builder: NodeBuilder, prepare: impl FnOnce(&Node) -> T) -> (Node, T) {
    let mut node = builder.prepare();
    let mut ip = node.inside("ip");
    ip.args(["addr", "add", &format!("{ADDRESS}/32"), "dev", "lo"]);
    succeed(ip);
    let prepared = prepare(&node);
    node.up();
    (node, prepared)
}

fn credentials(file: &Path, registry: &str, user: &str, password: &str) {
    // Coreutils' own base64: what the program under test decodes is not encoded by it.
    let mut base64 = std::process::Command::new("sh");
    base64.args(["-c", "printf %s \"$1\" | base64 -w0", "sh", &format!("{user}:{password}")]);
    let auth = succeed(base64);
    let text = json!({"auths": {registry: {"auth": auth}}}).to_string();
    std::fs::write(file, text).expect("credentials can be written");
}

fn is_denied(node: &Node, image: &str) {
    let said = fails(node, "denied", image);
    assert!(said.contains("401") && said.contains("credentials"), "{said}");
}

#[test]
fn a_registry_with_users_asks_for_the_right_password() {
    if !can_run("basic auth") {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory can be made");
    let logins = directory.path().join("config.json");
    let users = directory.path().join("htpasswd");
    let mut htpasswd = std::process::Command::new("htpasswd");
    htpasswd.args(["-Bbn", "berry", "thorn:y"]);
    std::fs::write(&users, succeed(htpasswd)).expect("users can be written");
    let protection = Protection { users: Some(users), ..Protection::default() };

    let anonymous = Node::start();
    let registry = RunningRegistry::start(&anonymous, "localhost:5000", &protection);
    let image = registry.image("speaker:1");
    let as_berry = ["--dest-creds", "berry:thorn:y"];
    push(&anonymous, &speaker("secret"), &image, &as_berry);
    is_denied(&anonymous, &image);
    drop((registry, anonymous));

    let config = logins.display().to_string();
    let node = Node::builder().arg("--docker-config").arg(&config).start();
    let registry = RunningRegistry::start(&node, "localhost:5000", &protection);
    push(&node, &speaker("secret"), &image, &as_berry);
    credentials(&logins, "localhost:5001", "berry", "thorn:y");
    is_denied(&node, &image);
    credentials(&logins, &registry.address, "berry", "smooth");
    is_denied(&node, &image);
    // Read at every pull: a changed password needs no restart.
    credentials(&logins, &registry.address, "berry", "thorn:y");
    runs(&node, "allowed", &image, "secret");
}

#[test]
fn a_secret_of_the_app_is_its_login() {
    if !can_run("pullConfig") {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory can be made");
    let users = directory.path().join("htpasswd");
    let mut htpasswd = std::process::Command::new("htpasswd");
    htpasswd.args(["-Bbn", "berry", PASSWORD]);
    std::fs::write(&users, succeed(htpasswd)).expect("users can be written");
    let protection = Protection { users: Some(users), ..Protection::default() };
    let node = Node::start();
    let registry = RunningRegistry::start(&node, "localhost:5000", &protection);
    let image = registry.image("speaker:1");
    push(&node, &speaker("secret"), &image, &["--dest-creds", &format!("berry:{PASSWORD}")]);
    let login = |value: Value| json!({"auths": {registry.address.clone(): value}}).to_string();
    let app = json!({"id": "keeper", "cpus": 0.1, "mem": 16, "backoffSeconds": 0,
        "secrets": {"login": {"source": "registry/login"}},
        "container": {"type": "MESOS", "docker": {"image": image,
            "pullConfig": {"secret": "login"}}}});
    // Not a docker config: the reason names the secret and repeats nothing of it.
    put(&node, "registry/login", login(json!(PASSWORD)).as_bytes());
    node.api("POST", "/v2/apps", Some(&app.to_string())).expect(201);
    let failure = eventually("a refusal", || {
        let failure = node.get("/v2/apps/keeper")["app"]["lastTaskFailure"].clone();
        failure["message"].as_str().map(str::to_string)
    });
    assert!(failure.contains("secret 'registry/login'"), "{failure}");
    let right = json!({"username": "berry", "password": PASSWORD});
    put(&node, "registry/login", login(right).as_bytes());
    says(&node, "keeper", "secret");
    assert!(!failure.contains(PASSWORD) && !node.log().contains(PASSWORD));
    nothing_is_written(&node);
}

#[test]
fn a_registry_with_tokens_is_asked_with_and_without_a_login() {
    if !can_run("bearer tokens") {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory can be made");
    let subject = "-days 2 -subj /CN=tokens";
    openssl(
        directory.path(),
        &format!("req -x509 -newkey rsa:2048 -nodes -keyout key -out certificate {subject}"),
    );
    let certificate = directory.path().join("certificate");
    let logins = directory.path().join("config.json");
    std::fs::write(&logins, "{}").expect("credentials can be written");
    let config = logins.display().to_string();
    let node = Node::builder().arg("--docker-config").arg(&config).start();

    let script = node.root().join("token_server.py");
    std::fs::write(&script, include_str!("token_server.py")).expect("a script can be written");
    let mut command = Server::command(&node, "python3");
    command.arg(&script).arg("5010").arg(directory.path().join("key")).arg(&certificate);
    command.args(["berry:thorn:y", "free"]);
    let realm = "http://localhost:5010/token";
    let _tokens = Server::start(&node, command, &node.root().join("tokens.log"), realm);
    let tokens = Some((realm.to_string(), certificate));
    let protection = Protection { tokens, ..Protection::default() };
    let registry = RunningRegistry::start(&node, "localhost:5000", &protection);
    let [free, closed] = ["free:1", "not/free:1"].map(|name| registry.image(name));
    push(&node, &speaker("free"), &free, &["--dest-creds", "berry:thorn:y"]);
    push(&node, &speaker("closed"), &closed, &["--dest-creds", "berry:thorn:y"]);

    runs(&node, "free", &free, "free");
    is_denied(&node, &closed);
    credentials(&logins, &registry.address, "berry", "smooth");
    is_denied(&node, &closed);
    credentials(&logins, &registry.address, "berry", "thorn:y");
    runs(&node, "closed", &closed, "closed");
}

fn openssl(directory: &Path, arguments: &str) {
    let mut openssl = std::process::Command::new("openssl");
    openssl.current_dir(directory).args(arguments.split(' '));
    succeed(openssl);
}

/// Make a CA called `name` and a certificate of it for `host`; gives the certificate and key.
fn authority(directory: &Path, name: &str, host: &str) -> (PathBuf, PathBuf) {
    let new_key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(
        directory,
        &format!("req -x509 {new_key} -keyout {name}-ca.key -out {name}-ca.pem -subj /CN={name}"),
    );
    openssl(
        directory,
        &format!("req {new_key} -keyout {name}.key -out {name}.csr -subj /CN=registry"),
    );
    let extension = format!("subjectAltName=IP:{host}\n");
    std::fs::write(directory.join("extension"), extension).expect("a file can be written");
    openssl(
        directory,
        &format!(
            "x509 -req -in {name}.csr -CA {name}-ca.pem -CAkey {name}-ca.key -CAcreateserial \
             -days 2 -extfile extension -out {name}.pem"
        ),
    );
    (directory.join(format!("{name}.pem")), directory.join(format!("{name}.key")))
}

#[test]
fn https_trusts_the_cas_of_ssl_cert_file_and_no_other() {
    if !can_run("https") {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory can be made");
    let certificate = |name: &str, host: &str| Protection {
        certificate: Some(authority(directory.path(), name, host)),
        ..Protection::default()
    };
    let known = certificate("known", ADDRESS);
    let other = certificate("other", ADDRESS);
    let elsewhere = certificate("elsewhere", "10.77.0.2");
    let trusted = directory.path().join("trusted.pem");
    let cas = ["known-ca.pem", "elsewhere-ca.pem"];
    let cas = cas.map(|ca| std::fs::read(directory.path().join(ca)).expect("openssl made it"));
    std::fs::write(&trusted, cas.concat()).expect("trusted CAs can be written");
    let builder = Node::builder().env("SSL_CERT_FILE", &trusted);
    let (node, registries) = node_with_address(builder, |node| {
        let start = |host: &str, port, protection| {
            let address = format!("{host}:{port}");
            let registry = RunningRegistry::start(node, &address, protection);
            push(node, &speaker("private"), &registry.image("speaker:1"), &[]);
            registry
        };
        [
            start(ADDRESS, 5000, &known),
            start(ADDRESS, 5001, &other),
            start(ADDRESS, 5002, &elsewhere),
            start("localhost", 5003, &known),
        ]
    });
    runs(&node, "known", &registries[0].image("speaker:1"), "private");
    let said = fails(&node, "other", &registries[1].image("speaker:1"));
    assert!(said.contains("certificate") && said.contains("SSL_CERT_FILE"), "{said}");
    let said = fails(&node, "elsewhere", &registries[2].image("speaker:1"));
    assert!(said.contains("refused") && said.contains("not valid for name"), "{said}");
    let said = fails(&node, "local", &registries[3].image("speaker:1"));
    assert!(said.contains("HTTPS server"), "{said}");
}

#[test]
fn a_configured_registry_is_spoken_to_by_http() {
    if !can_run("insecure registries") {
        return;
    }
    let address = format!("{ADDRESS}:5000");
    let builder = Node::builder().arg("--insecure-registries").arg(&address);
    let (node, registries) = node_with_address(builder, |node| {
        let start = |port| {
            let address = format!("{ADDRESS}:{port}");
            let registry = RunningRegistry::start(node, &address, &Protection::default());
            push(node, &speaker("plain"), &registry.image("speaker:1"), &[]);
            registry
        };
        [start(5000), start(5001)]
    });
    runs(&node, "configured", &registries[0].image("speaker:1"), "plain");
    let said = fails(&node, "other", &registries[1].image("speaker:1"));
    assert!(said.contains("--insecure-registries"), "{said}");
}
