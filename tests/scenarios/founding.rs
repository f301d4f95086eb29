//! Founding files that are of no use: named with the fix, and nothing is left behind.

use bramble_tests::{Node, bramble, can_run_containers};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What `bramble cluster new` makes in a directory.
fn made(directory: &Path, name: &str) -> (PathBuf, String) {
    let mut new = Command::new(bramble());
    let output = new.args(["cluster", "new", name, "--json", "--out"]).arg(directory).output();
    let output = output.expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let made: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let file = made["foundingFile"].as_str().expect("a path").into();
    (file, made["token"].as_str().expect("a token").into())
}

#[test]
fn a_founding_file_of_no_use_is_named_with_the_fix_and_stops_the_node() {
    if !can_run_containers("founding files of no use") {
        return;
    }
    let home = Node::builder().prepare();
    let (file, _) = made(home.root(), "home");
    let (_, foreign) = made(home.root(), "work");
    let good = std::fs::read_to_string(&file).expect("text");
    let write = |name: &str, text: &str| {
        let path = home.root().join(name);
        std::fs::write(&path, text).expect("written");
        path
    };
    let (missing, directory) = (home.root().join("missing"), home.root().to_path_buf());
    let damaged = write("damaged", &good[..good.len() - 100]);
    let newer = write("newer", &good.replace("version 1", "version 7"));
    let other = write("other", "token = 1\n");
    let token = ["--token", foreign.as_str()];
    let cases: [(&str, &Path, &[&str], &[&str]); 7] = [
        ("up", &missing, &[], &["once it was used, it is removed", "--token", "cluster new"]),
        ("up", &directory, &[], &["cannot be read"]),
        ("up", &damaged, &[], &["damaged", "copy it again"]),
        ("master", &newer, &[], &["version 7", "upgrade"]),
        ("up", &other, &[], &["no founding file", "copy it again"]),
        ("agent", &file, &[], &["an agent founds no cluster", "`bramble up`"]),
        ("up", &file, &token, &["the token is not that of the founding file", "the token alone"]),
    ];
    for (role, path, arguments, wanted) in cases {
        let node = Node::builder().role(role).prepare();
        let output = node.up_command().arg("--founding").arg(path).args(arguments).output();
        let output = output.expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        let file = path.display().to_string();
        for word in wanted.iter().chain([&file.as_str()]) {
            assert!(said.contains(word), "{word:?} is missing: {said}");
        }
        let begun = ["identity/node.crt", "master"];
        let begun = begun.map(|name| node.data_dir().join(name).exists());
        assert_eq!(begun, [false; 2], "{path:?} began something");
    }
    assert_eq!(std::fs::read_to_string(&file).expect("text"), good, "and the good one is whole");
}

#[test]
fn a_node_of_a_cluster_ignores_founding_files() {
    if !can_run_containers("founding files given to a node of a cluster") {
        return;
    }
    let mut node = Node::start();
    let (file, foreign) = made(node.root(), "other");
    let of = |node: &Node| node.get("/v1/bramble/status")["cluster"].clone();
    let own = of(&node);
    node.stop(nix::sys::signal::Signal::SIGTERM);
    for path in [file.clone(), node.root().join("nowhere")] {
        node.spawn_with(&["--founding", &path.display().to_string()]);
        bramble_tests::eventually("the node", || {
            (node.try_api("GET", "/v2/leader", None)?.status == 200).then_some(())
        });
        assert_eq!(of(&node), own);
        node.stop(nix::sys::signal::Signal::SIGTERM);
    }
    assert!(file.exists() && node.log().contains("that of another cluster"), "{}", node.log());

    // A token alone tells no more than that it names another CA: its own may have been replaced.
    node.spawn_with(&["--token", &foreign]);
    bramble_tests::eventually("the node", || {
        (node.try_api("GET", "/v2/leader", None)?.status == 200).then_some(())
    });
    assert_eq!(of(&node), own);
    let log = node.log();
    let warned = log.lines().find(|line| line.contains("has NOT joined")).unwrap_or_default();
    let own = own.as_str().expect("an id");
    for word in ["WARN", own, &foreign[10..22], "bramble reset-identity", "leave --token out"] {
        assert!(warned.contains(word), "{word:?} is missing: {log}");
    }
}
