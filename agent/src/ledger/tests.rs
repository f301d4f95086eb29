use super::*;
use crate::samples::assignment;
use bramble_core::model::{TaskId, TaskState, TaskStatus};
use bramble_protocol::message::StatusKey;
use std::sync::mpsc::channel;

fn status(task: &str, sequence: u32, state: TaskState) -> TaskStatus {
    TaskStatus {
        task_id: TaskId::new(task),
        sequence,
        state,
        message: String::new(),
        healthy: None,
        ip: None,
        exit_code: None,
        probes: None,
        containers: Vec::new(),
        size: None,
        restarts: 0,
    }
}

fn facts(sequence: u32) -> TaskFacts {
    TaskFacts {
        sequence,
        state: TaskState::Running,
        healthy: Some(true),
        ip: Some("172.30.0.2".into()),
        running_since_ms: Some(5),
        boot_id: "boot".into(),
        stop_reason: None,
        probes: None,
        containers: Vec::new(),
        size: None,
        ran: false,
        restarts: 0,
        last_end: String::new(),
    }
}

#[tokio::test]
async fn everything_written_is_read_back_after_reopening() {
    let directory = tempfile::tempdir().unwrap();
    let (ledger, contents) = Ledger::open(directory.path()).unwrap();
    assert_eq!(contents, Contents::default());
    let task = Arc::new(assignment("a", true));
    ledger
        .write(vec![
            Change::Generation(7),
            Change::PutAssignment(Arc::clone(&task)),
            Change::PutFacts(TaskId::new("a"), facts(3)),
        ])
        .await
        .unwrap();
    let (told, heard) = channel();
    let kept = vec![Change::PutStatus(status("a", 3, TaskState::Running))];
    ledger.keep(kept, move || told.send(()).unwrap()).unwrap();
    heard.recv().unwrap();
    drop(ledger);

    let (ledger, contents) = Ledger::open(directory.path()).unwrap();
    assert_eq!(contents.generation, 7);
    assert_eq!(contents.assignments[&TaskId::new("a")], task);
    assert_eq!(contents.facts[&TaskId::new("a")], facts(3));
    let key = StatusKey { task_id: TaskId::new("a"), sequence: 3 };
    assert_eq!(contents.statuses[&key], status("a", 3, TaskState::Running));

    ledger
        .write(vec![
            Change::RemoveStatus(key),
            Change::RemoveAssignment(TaskId::new("a")),
            Change::RemoveFacts(TaskId::new("a")),
        ])
        .await
        .unwrap();
    drop(ledger);
    let (_ledger, contents) = Ledger::open(directory.path()).unwrap();
    assert_eq!(contents, Contents { generation: 7, ..Contents::default() });
}

#[tokio::test]
async fn long_records_are_split_and_leave_no_blob() {
    let directory = tempfile::tempdir().unwrap();
    let (ledger, _) = Ledger::open(directory.path()).unwrap();
    let mut long = assignment("long", true);
    long.spec.env = vec![("BIG".into(), "x".repeat(64 * record::VALUE_BYTES_MAX))];
    ledger.write(vec![Change::PutAssignment(Arc::new(long.clone()))]).await.unwrap();
    drop(ledger);
    let (ledger, contents) = Ledger::open(directory.path()).unwrap();
    assert_eq!(*contents.assignments[&TaskId::new("long")], long);

    // A shorter record in its place must not keep the longer one's tail, nor within one batch.
    let short = Arc::new(assignment("long", false));
    ledger
        .write(vec![
            Change::PutAssignment(Arc::new(long.clone())),
            Change::PutAssignment(Arc::clone(&short)),
        ])
        .await
        .unwrap();
    drop(ledger);
    let (_ledger, contents) = Ledger::open(directory.path()).unwrap();
    assert_eq!(contents.assignments[&TaskId::new("long")], short);
    let blobs = std::fs::read_dir(directory.path().join("blobs")).unwrap().count();
    assert_eq!(blobs, 0);
}

#[tokio::test]
async fn ids_that_start_alike_stay_apart() {
    let directory = tempfile::tempdir().unwrap();
    let (ledger, _) = Ledger::open(directory.path()).unwrap();
    let put = |id: &str| Change::PutAssignment(Arc::new(assignment(id, true)));
    ledger.write(vec![put("a"), put("a.1"), put("ab")]).await.unwrap();
    ledger.write(vec![Change::RemoveAssignment(TaskId::new("a"))]).await.unwrap();
    drop(ledger);
    let (_ledger, contents) = Ledger::open(directory.path()).unwrap();
    let left: Vec<_> = contents.assignments.keys().map(TaskId::as_str).collect();
    assert_eq!(left, ["a.1", "ab"]);
}

#[test]
fn a_second_owner_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let _held = Ledger::open(directory.path()).unwrap();
    assert!(matches!(Ledger::open(directory.path()), Err(LedgerError::Open { .. })));
}
