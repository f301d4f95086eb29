//! Settings from flags, variables and files.

use super::*;

fn resolve(args: &NodeArgs, env: &[(&str, &str)], file: &str) -> Result<Settings> {
    let table = file.parse().expect("test file is TOML");
    let variable =
        |key: &str| env.iter().find(|(name, _)| *name == key).map(|(_, v)| v.to_string());
    Settings::from_sources(args, None, variable, &table, "file")
}

#[test]
fn flag_beats_variable_beats_file_beats_default() {
    let args = NodeArgs { http: Some("1.1.1.1:1".into()), ..NodeArgs::default() };
    let env = [("BRAMBLE_HTTP", "2.2.2.2:2"), ("BRAMBLE_NAME", "pi-1")];
    let found = resolve(&args, &env, "name = \"pi-2\"\nopen-api = true").expect("resolves");
    assert_eq!(found.values["http"], ("1.1.1.1:1".into(), "flag".into()));
    assert_eq!(found.values["name"], ("pi-1".into(), "BRAMBLE_NAME".into()));
    assert_eq!(found.values["open-api"], ("true".into(), "file".into()));
    assert_eq!(found.values["run-dir"], (RUN_DIR.into(), "default".into()));
    let (args, table) = (NodeArgs::default(), toml::Table::new());
    let variable = |key: &str| (key == RUN_DIR_VARIABLE).then(|| "/there".to_string());
    for (flag, from) in [(None, RUN_DIR_VARIABLE), (Some(Path::new(RUN_DIR)), "flag")] {
        let found = Settings::from_sources(&args, flag, variable, &table, "file");
        assert_eq!(found.expect("resolves").values["run-dir"].1, from);
    }
    assert_eq!(found.values["quic"], ("0.0.0.0:7443".into(), "default".into()));
    assert!(found.node().expect("good").rebalance);
    let args = NodeArgs { no_rebalance: true, ..NodeArgs::default() };
    let off = resolve(&args, &[], "rebalance = true").expect("resolves");
    assert!(!off.node().expect("good").rebalance, "the flag beats the file");
}

#[test]
fn what_is_wrong_is_named() {
    let args = NodeArgs::default();
    let error = resolve(&args, &[], "colour = 1").err().expect("unknown key").to_string();
    assert!(error.contains("colour"), "{error}");
    for (key, value) in [
        ("BRAMBLE_HTTP", "8080"),
        ("BRAMBLE_OPEN_API", "maybe"),
        ("BRAMBLE_NAME", "a b"),
        ("BRAMBLE_CGROUP_PARENT", "x"),
        ("BRAMBLE_RESOURCES", "cpus:-1"),
        ("BRAMBLE_VOTER_GRACE", "20"),
        ("BRAMBLE_ATTRIBUTES", "rack"),
    ] {
        let settings = resolve(&args, &[(key, value)], "").expect("resolves");
        let error = settings.node().expect_err(key).to_string();
        assert!(error.contains(value), "{error}");
    }
}

#[test]
fn a_token_is_checked_and_never_shown() {
    let token = format!("BRAMBLE-1-{}-{}", "ab".repeat(32), "5c".repeat(20));
    let settings = resolve(&NodeArgs::default(), &[("BRAMBLE_TOKEN", &token)], "");
    let settings = settings.expect("resolves");
    let error = settings.node().expect_err("a wrong checksum").to_string();
    assert!(error.contains("BRAMBLE_TOKEN") && error.contains("mistyped"), "{error}");
    for text in [error, settings.render(), settings.json().to_string()] {
        assert!(!text.contains(&token), "{text}");
    }
}

#[test]
fn an_empty_token_is_no_leave_to_found() {
    let flag = |token: &str| NodeArgs { token: Some(token.into()), ..NodeArgs::default() };
    for (args, env, file, origin) in [
        (flag(""), vec![], "", "flag"),
        (flag(" \n"), vec![], "", "flag"),
        (NodeArgs::default(), vec![("BRAMBLE_TOKEN", "")], "", "BRAMBLE_TOKEN"),
        (NodeArgs::default(), vec![], "token = \"\"", "file"),
    ] {
        let settings = resolve(&args, &env, file).expect("resolves");
        let error = settings.node().expect_err("an empty token").to_string();
        for word in [origin, "--token", "`bramble token`"] {
            assert!(error.contains(word), "{word}: {error}");
        }
    }
    let none = resolve(&NodeArgs::default(), &[], "").expect("resolves");
    assert!(none.node().expect("good").token.is_none());
}

#[test]
fn waits_have_a_unit_and_a_range_that_is_named() {
    for (text, seconds) in [("1s", 1), ("90s", 90), ("5m", 300), ("10080m", 604_800)] {
        assert_eq!(parse_wait(text), Ok(Duration::from_secs(seconds)), "{text}");
    }
    for bad in ["0s", "0m", "1ms", "-1s", "1.5s", "90", "", "604801s", "10081m", "1h"] {
        let error = parse_wait(bad).expect_err(bad);
        assert!(error.contains("1s to 10080m"), "{bad}: {error}");
    }
}

#[test]
fn every_data_dir_has_its_own_cgroups() {
    assert_eq!(default_cgroup_parent(Path::new(DATA_DIR)), "/bramble");
    let (a, b) = (default_cgroup_parent(Path::new("/a")), default_cgroup_parent(Path::new("/b")));
    assert!(a.starts_with("/bramble-") && a != b);
}

#[test]
fn only_what_places_a_node_is_shown_to_verbs_that_do_not_run_it() {
    let shown: Vec<String> = NodeArgs::augment_args(clap::Command::new("down"))
        .mut_args(hide_running)
        .get_arguments()
        .filter(|arg| !arg.is_hide_set())
        .map(|arg| arg.get_id().to_string())
        .collect();
    assert_eq!(shown, ["data_dir", "cgroup_parent", "config", "print_config"]);
}
