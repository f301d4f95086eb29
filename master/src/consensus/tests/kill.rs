//! A real process, killed while it writes.

use super::*;
use std::io::{BufRead, BufReader};
use std::process::{Command as Process, Stdio};

const DIR_VARIABLE: &str = "BRAMBLE_TEST_KILLED_IN";
const ACKNOWLEDGED: &str = "acknowledged ";

/// Does nothing unless started by the test below.
#[tokio::test]
async fn the_one_that_is_killed() {
    let Some(dir) = std::env::var_os(DIR_VARIABLE) else { return };
    let mut config = config(Path::new(&dir), 1);
    config.snapshot_every = 40;
    let (voter, store) = single(config).await;
    let from = names(&store).len();
    for n in from.. {
        propose(&voter, put(&format!("{n:06}"), 200)).await.expect("commits");
        println!("{ACKNOWLEDGED}{n}");
    }
}

#[tokio::test]
async fn a_killed_process_loses_nothing_acknowledged() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut last = 0;
    for lines in [1, 37, 120] {
        let mut child = Process::new(std::env::current_exe().expect("this test"))
            .args(["consensus::tests::kill::the_one_that_is_killed", "--exact", "--nocapture"])
            .env(DIR_VARIABLE, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("starts");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let numbers = output
            .lines()
            .map_while(Result::ok)
            .filter_map(|line| line.split(ACKNOWLEDGED).nth(1)?.trim().parse::<usize>().ok());
        last = numbers.take(lines).last().expect("acknowledged something");
        child.kill().expect("kills");
        child.wait().expect("ends");
    }
    let (voter, store) = single(config(dir.path(), 1)).await;
    let found = names(&store);
    assert!(found.len() > last, "{} of {last}", found.len());
    let expected: Vec<_> = (0..found.len()).map(|n| format!("{n:06}")).collect();
    assert_eq!(found, expected);
    voter.shutdown().await;
}
