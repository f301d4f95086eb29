//! The rules of the house (ARCHITECTURE.md) as tests: who may import whom, what stays pure, how
//! large a file may grow. A rule that only people remember is broken within a month.

mod sources;

use sources::{Source, manifest, sources};
use std::collections::{BTreeMap, BTreeSet};

/// Lines after which a file has certainly lost its one purpose.
const FILE_LINES_MAX: usize = 600;

/// Who may depend on whom among our crates.
const IMPORTS: [(&str, &[&str]); 8] = [
    ("core", &[]),
    ("protocol", &["bramble-core"]),
    ("image-tools", &[]),
    ("agent", &["bramble-core", "bramble-protocol", "bramble-image-tools"]),
    ("master", &["bramble-core", "bramble-protocol"]),
    ("cli", &["bramble-core", "bramble-protocol", "bramble-agent", "bramble-master"]),
    ("tests", &[]),
    ("tests/simulation", &["bramble-core", "bramble-protocol", "bramble-agent", "bramble-master"]),
];

fn offending(rule: &str, found: Vec<String>) {
    assert!(found.is_empty(), "{rule}:\n  {}", found.join("\n  "));
}

#[test]
fn crates_import_downwards_only() {
    let mut found = Vec::new();
    for (crate_dir, allowed) in IMPORTS {
        for dependency in manifest(crate_dir).dependencies {
            let ours = dependency.starts_with("bramble-");
            let for_tests = crate_dir == "tests";
            if ours && !for_tests && !allowed.contains(&dependency.as_str()) {
                found.push(format!("{crate_dir} depends on {dependency}"));
            }
        }
    }
    offending("imports that DESIGN forbids", found);
}

#[test]
fn core_depends_on_nothing_that_does_io() {
    let allowed = ["regex", "serde", "thiserror"];
    let extra = manifest("core").dependencies;
    let extra = extra.into_iter().filter(|name| !allowed.contains(&name.as_str())).collect();
    offending("dependencies of core outside its list", extra);
}

/// Lines of a file before its unit tests, with their numbers.
fn code(source: &Source) -> impl Iterator<Item = (usize, &str)> {
    let lines = source.text.lines().enumerate();
    lines.take_while(|(_, line)| !line.starts_with("#[cfg(test)]")).map(|(n, l)| (n + 1, l))
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with("//")
}

/// Places in files that `concerned` selects where code has one of `words`.
fn uses(words: &[&str], concerned: impl Fn(&str) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources().iter().filter(|source| concerned(&source.path)) {
        for (number, line) in code(source).filter(|(_, line)| !is_comment(line)) {
            if let Some(word) = words.iter().find(|word| line.contains(**word)) {
                found.push(format!("{}:{number}: {word}", source.path));
            }
        }
    }
    found
}

#[test]
fn core_is_pure() {
    let impure = [
        "std::fs",
        "std::net",
        "std::thread",
        "std::env",
        "std::process",
        "std::time",
        "HashMap",
        "HashSet",
        "SystemTime",
        "Instant::",
        "async fn",
        "rand::",
    ];
    offending("core does none of this", uses(&impure, |path| path.starts_with("core/src/")));
}

#[test]
fn the_wall_clock_has_one_reader_in_the_master() {
    let elsewhere = |path: &str| path.starts_with("master/src/") && path != "master/src/clock.rs";
    offending("all but the clock ask the store for the time", uses(&["SystemTime"], elsewhere));
}

#[test]
fn what_is_stored_has_no_float_and_no_word_size() {
    let stored = |path: &str| {
        path.starts_with("core/src/model/")
            || path == "core/src/command.rs"
            || path == "core/src/event.rs"
    };
    let mut found = Vec::new();
    for source in sources().iter().filter(|source| stored(&source.path)) {
        for (number, line) in code(source).filter(|(_, line)| !is_comment(line)) {
            let field = line.trim_start();
            let declares =
                field.starts_with("pub ") && field.contains(": ") && !field.contains("fn ");
            if declares && ["f32", "f64", "usize", "isize"].iter().any(|kind| field.contains(kind))
            {
                found.push(format!("{}:{number}: {field}", source.path));
            }
        }
    }
    offending("fields whose meaning differs between machines", found);
}

#[test]
fn rooms_of_the_master_keep_apart() {
    let room =
        |name: &'static str| move |path: &str| path.starts_with(&format!("master/src/{name}"));
    let mut found = uses(&["crate::control", "crate::dispatcher", "crate::consensus"], room("api"));
    found.extend(uses(&["crate::api", "crate::dispatcher", "crate::consensus"], room("control")));
    found.extend(uses(&["crate::api", "crate::control"], room("dispatcher")));
    found.extend(uses(&["crate::api", "crate::control", "crate::dispatcher"], room("consensus")));
    offending("rooms that import each other", found);
}

#[test]
fn only_consensus_applies() {
    let elsewhere = |path: &str| {
        path.starts_with("master/src/") && !path.starts_with("master/src/consensus/")
            || path.starts_with("cli/")
            || path.starts_with("agent/")
    };
    offending("machine::apply outside consensus", uses(&["machine::apply"], elsewhere));
}

#[test]
fn replaceable_libraries_have_one_door() {
    let cbor =
        uses(&["serde_cbor::"], |path| path.contains("/src/") && path != "protocol/src/codec.rs");
    offending("serde_cbor outside protocol/src/codec.rs", cbor);
    let sled = uses(&["sled::"], |path| {
        path.contains("/src/")
            && !path.starts_with("agent/src/ledger")
            && path != "master/src/consensus/disk.rs"
    });
    offending("sled outside the store modules", sled);
    let containers = uses(&["libcontainer::"], |path| {
        path.contains("/src/")
            && !path.starts_with("agent/src/executor/")
            && !path.starts_with("agent/src/runtime/")
    });
    offending("libcontainer outside executor and runtime", containers);
}

#[test]
fn files_have_one_purpose() {
    let mut found = Vec::new();
    for source in sources() {
        let lines = source.text.lines().count();
        if lines > FILE_LINES_MAX {
            found.push(format!("{} has {lines} lines", source.path));
        }
        let name = source.path.rsplit('/').next().unwrap_or_default().trim_end_matches(".rs");
        if ["util", "utils", "helper", "helpers", "manager", "common", "misc"].contains(&name) {
            found.push(format!("{} is named for nothing", source.path));
        }
        let documented = source.text.starts_with("//!") || source.text.starts_with("#!");
        let unit_tests = source.path.ends_with("/tests.rs") || source.path.contains("/tests/");
        if source.path.contains("/src/") && !documented && !unit_tests {
            found.push(format!("{} does not say what it owns", source.path));
        }
    }
    offending("files to split, name or introduce", found);
}

#[test]
fn nothing_is_skipped_or_left_for_later() {
    // Put together here, so that this file does not find itself.
    let marks =
        [["#[ig", "nore"].concat(), ["todo", "!("].concat(), ["unimplemented", "!("].concat()];
    let mut found = Vec::new();
    for source in sources() {
        for (number, line) in source.text.lines().enumerate() {
            if marks.iter().any(|mark| line.contains(mark.as_str())) {
                found.push(format!("{}:{}", source.path, number + 1));
            }
        }
    }
    offending("skipped tests and unfinished code", found);
}

#[test]
fn one_version_of_each_dependency_is_named() {
    let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (crate_dir, _) in IMPORTS {
        for (name, text) in manifest(crate_dir).own_versions {
            versions.entry(name).or_default().insert(format!("{crate_dir}: {text}"));
        }
    }
    let found = versions.into_iter().map(|(name, at)| format!("{name} {at:?}")).collect();
    offending("versions outside the workspace Cargo.toml", found);
}
