//! How the lab's machines are.

use super::api::Api;
use super::config::{Kind, Machine};
use super::error::LabError;
use super::machine;
use super::place::Place;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::Ipv4Addr;
use std::path::Path;
use std::thread;

/// What a machine does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    Running,
    /// It has a disk, and does not run.
    Stopped,
    /// Left by a run that was cut off; `up` completes it, `destroy` removes it.
    Half,
    NotCreated,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            State::Running => "running",
            State::Stopped => "stopped",
            State::Half => "half made",
            State::NotCreated => "not created",
        }
    }
}

/// A machine, and how it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    pub name: String,
    pub ip: Option<Ipv4Addr>,
    #[serde(rename = "type")]
    pub kind: Option<Kind>,
    pub state: State,
    /// Whether its API answers.
    pub answers: bool,
    /// The node that leads, as it sees it.
    pub leader: Option<String>,
    pub pid: Option<i32>,
    /// What it uses of this host's memory. Bytes.
    pub memory_bytes: u64,
}

/// Look at the file's machines, and at others that were made.
///
/// # Errors
/// The lab's directory cannot be read.
pub fn look(
    directory: &Path,
    described: &[Machine],
    names: &[String],
) -> Result<Vec<Row>, LabError> {
    let place = Place::open(directory)?;
    let made: BTreeMap<_, _> = match &place {
        Some(place) => place.made()?.into_iter().collect(),
        None => BTreeMap::new(),
    };
    let mut all: Vec<(String, Option<Machine>)> = Vec::new();
    for machine in described {
        // As it was made, where the file says something else since.
        let kept = made.get(&machine.name).cloned().flatten();
        all.push((machine.name.clone(), Some(kept.unwrap_or_else(|| machine.clone()))));
    }
    let others = made.iter().filter(|(name, _)| described.iter().all(|one| one.name != **name));
    all.extend(others.map(|(name, machine)| (name.clone(), machine.clone())));
    if let Some(name) = names.iter().find(|name| all.iter().all(|(known, _)| known != *name)) {
        return Err(LabError::refused(format!("there is no machine {name}")));
    }
    all.retain(|(name, _)| names.is_empty() || names.contains(name));
    let place = place.as_ref();
    // At once: one that does not answer takes its time.
    Ok(thread::scope(|scope| {
        let rows =
            all.into_iter().map(|(name, machine)| scope.spawn(move || row(place, name, machine)));
        let rows: Vec<_> = rows.collect();
        rows.into_iter().map(|row| row.join().expect("looking does not panic")).collect()
    }))
}

fn row(place: Option<&Place>, name: String, machine: Option<Machine>) -> Row {
    let files = place.map(|place| place.files(&name)).filter(|files| files.exist());
    let process = files.as_ref().and_then(machine::find);
    let state = match (&files, &process) {
        (_, Some(_)) => State::Running,
        (Some(files), None) if files.disk.exists() => State::Stopped,
        (Some(_), None) => State::Half,
        (None, None) => State::NotCreated,
    };
    let ip = machine.as_ref().map(|machine| machine.ip);
    let api = ip.filter(|_| process.is_some()).map(Api::of);
    let answers = api.is_some_and(Api::answers);
    let cluster = api.filter(|_| answers).and_then(Api::cluster);
    Row {
        ip,
        kind: machine.map(|machine| machine.kind),
        state,
        answers,
        leader: cluster.and_then(|cluster| cluster.leader),
        pid: process.as_ref().map(machine::Process::pid),
        memory_bytes: process.as_ref().map_or(0, machine::Process::memory),
        name,
    }
}

/// A table for people.
pub fn table(rows: &[Row]) -> String {
    const HEAD: [&str; 6] = ["NAME", "ADDRESS", "TYPE", "STATE", "API", "MEMORY"];
    let cells = |row: &Row| -> [String; 6] {
        let api = match (row.answers, &row.leader) {
            (true, Some(leader)) => format!("answers, led by {leader}"),
            (true, None) => "answers, no leader".into(),
            (false, _) => "-".into(),
        };
        let mebibytes = row.memory_bytes >> 20;
        [
            row.name.clone(),
            row.ip.map_or_else(|| "-".into(), |ip| ip.to_string()),
            row.kind.map_or("-", Kind::name).into(),
            row.state.name().into(),
            api,
            if mebibytes == 0 { "-".into() } else { format!("{mebibytes} MiB") },
        ]
    };
    let mut lines = vec![HEAD.map(String::from)];
    lines.extend(rows.iter().map(cells));
    let width = |column: usize| lines.iter().map(|line| line[column].len()).max().unwrap_or(0);
    let widths: Vec<_> = (0..HEAD.len()).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let mut row = String::new();
        for (cell, width) in line.iter().zip(&widths) {
            let _ = write!(row, "{cell:width$}  ");
        }
        let _ = writeln!(text, "{}", row.trim_end());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::config;
    use std::fs;

    #[test]
    fn machines_are_told_as_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().join("lab");
        let all =
            config::parse("m1: {type: master}\na1: {type: agent-private}\na2: {}", "f").unwrap();
        let rows = look(&top, &all, &[]).unwrap();
        assert!(rows.iter().all(|row| row.state == State::NotCreated) && rows.len() == 3);
        let (place, _) = Place::open_or_make(&top, &all).unwrap();
        fs::write(place.describe(&all[0]).unwrap().disk, "").unwrap();
        place.describe(&all[1]).unwrap();
        // One that the file no longer names is there all the same.
        let rows = look(&top, &all[1..], &[]).unwrap();
        let states: Vec<_> = rows.iter().map(|row| (row.name.as_str(), row.state)).collect();
        let want = [("a1", State::Half), ("a2", State::NotCreated), ("m1", State::Stopped)];
        assert_eq!(states, want);
        let text = table(&rows);
        let line = "m1    192.168.57.200  master         stopped      -    -";
        assert!(text.starts_with("NAME  ADDRESS") && text.contains(line), "{text}");
        assert_eq!(look(&top, &all, &["a1".into()]).unwrap().len(), 1);
        assert!(look(&top, &all, &["x".into()]).is_err());
        let json = serde_json::to_value(&rows[1]).unwrap();
        assert_eq!((&json["state"], &json["type"]), (&"not-created".into(), &"full".into()));
    }
}
