//! What a node says of itself: on the console, and in `status.txt` on the card, which people read
//! on a PC when nothing else of the node answers.

use super::console::say;
use super::fat;
use crate::node::config::Complaint;
use crate::node::layout::STATUS_FILE;
use serde::Deserialize;
use std::io::{self, Read, Write};
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// bramble's own socket, which is asked how it goes.
const API_SOCKET: &str = "/run/bramble/bramble.sock";
const ANSWER_MAX: Duration = Duration::from_secs(3);
/// An answer is no longer; a cluster's agents are counted, not read. Bytes.
const ANSWER_BYTES_MAX: u64 = 4 << 20;
/// A change that lasted so long is written to the card.
const SETTLE: Duration = Duration::from_secs(3);
/// Between two writes of the card, at least: a card bears ten thousand, not a million.
const WRITE_EVERY: Duration = Duration::from_secs(60);
/// A node that only starts is not written down before this: it is about to say something better.
const START_MAX: Duration = Duration::from_secs(60);

/// What bramble answers of its cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cluster {
    pub version: String,
    pub agents: usize,
    pub leader: Option<String>,
    /// Names of the agents that have a session with the leader.
    pub connected: Vec<String>,
}

impl Cluster {
    /// Whether a leader leads, and has word of the node of this name.
    pub fn sees(&self, hostname: &str) -> bool {
        self.leader.is_some() && self.connected.iter().any(|name| name == hostname)
    }
}

/// Ask bramble.
///
/// # Errors
/// It does not answer, or not yet.
pub fn ask() -> io::Result<Cluster> {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(default)]
        version: String,
        #[serde(default)]
        agents: Vec<Agent>,
        leader: Option<String>,
    }
    #[derive(Deserialize)]
    struct Agent {
        #[serde(default)]
        name: String,
        #[serde(default)]
        connected: bool,
    }
    let mut stream = UnixStream::connect(API_SOCKET)?;
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    stream.set_write_timeout(Some(ANSWER_MAX))?;
    let request = "GET /v1/bramble/status HTTP/1.0\r\nHost: node\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    let (head, body) = split(&answer).ok_or(io::ErrorKind::InvalidData)?;
    if head.split_ascii_whitespace().nth(1).is_none_or(|code| code != "200") {
        // It runs, and can tell nothing of a cluster.
        return Ok(Cluster::default());
    }
    let answer: Answer = serde_json::from_slice(body)?;
    let agents = answer.agents.len();
    let connected = answer.agents.into_iter().filter(|agent| agent.connected);
    let connected = connected.map(|agent| agent.name).collect();
    Ok(Cluster { version: answer.version, agents, leader: answer.leader, connected })
}

fn split(answer: &[u8]) -> Option<(&str, &[u8])> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    Some((std::str::from_utf8(&answer[..end]).ok()?, &answer[end + 4..]))
}

/// All there is to say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    pub hostname: String,
    pub cluster_name: Option<String>,
    pub image: String,
    pub board: String,
    pub slot: String,
    pub on_trial: bool,
    pub addresses: Vec<(String, Ipv4Addr)>,
    pub api_port: u16,
    /// What bramble does.
    pub state: String,
    pub cluster: Option<Cluster>,
    pub complaints: Vec<String>,
    pub left_out: Vec<Complaint>,
}

impl Status {
    /// As `status.txt`, for editors of any system.
    pub fn text(&self) -> String {
        let mut lines = vec![format!("{}: {}", self.hostname, self.state), String::new()];
        let trial = if self.on_trial { ", on trial" } else { "" };
        lines.push(format!("image      {}, {}, slot {}{trial}", self.image, self.board, self.slot));
        if let Some(name) = &self.cluster_name {
            lines.push(format!("cluster    {name}"));
        }
        if let Some(cluster) = &self.cluster {
            let leader = cluster.leader.as_deref().unwrap_or("nobody");
            let agents = match cluster.agents {
                1 => "1 agent".to_string(),
                count => format!("{count} agents"),
            };
            if !cluster.version.is_empty() {
                lines.push(format!("bramble    {}, {agents}, led by {leader}", cluster.version));
            }
        }
        if self.addresses.is_empty() {
            lines.push("address    none yet".into());
        }
        for (interface, address) in &self.addresses {
            lines.push(format!("address    {address} ({interface})"));
        }
        if let Some((_, address)) = self.addresses.first() {
            lines.push(format!("API        http://{address}:{}/", self.api_port));
        }
        if !self.complaints.is_empty() {
            lines.push(String::new());
            lines.extend(self.complaints.iter().cloned());
        }
        if !self.left_out.is_empty() {
            lines.extend([String::new(), "Left out of bramble.toml:".into()]);
            let line =
                |complaint: &Complaint| format!("  line {}: {}", complaint.line, complaint.text);
            lines.extend(self.left_out.iter().map(line));
        }
        lines.into_iter().map(|line| line + "\r\n").collect()
    }
}

/// Tells changes: at once on the console, when they last on the card.
pub struct Teller {
    told: String,
    written: String,
    changed: Instant,
    last_write: Option<Instant>,
    start: Instant,
}

impl Teller {
    pub fn new() -> Self {
        let written = std::fs::read_to_string(fat::path(STATUS_FILE)).unwrap_or_default();
        Self {
            told: String::new(),
            written,
            changed: Instant::now(),
            last_write: None,
            start: Instant::now(),
        }
    }

    /// Tell what is new.
    pub fn tell(&mut self, status: &Status) {
        let text = status.text();
        let now = Instant::now();
        if text != self.told {
            for line in text.lines().filter(|line| !line.is_empty()) {
                if !self.told.lines().any(|told| told == line) {
                    say(line);
                }
            }
            (self.told, self.changed) = (text, now);
        }
        let rested = self.last_write.is_none_or(|last| now - last >= WRITE_EVERY);
        let starts = status.cluster.is_none() && now - self.start < START_MAX;
        if self.told != self.written && now - self.changed >= SETTLE && rested && !starts {
            self.write(now);
        }
    }

    fn write(&mut self, now: Instant) {
        self.last_write = Some(now);
        match fat::write(STATUS_FILE, self.told.as_bytes()) {
            Ok(()) => self.written.clone_from(&self.told),
            Err(error) => say(&format!("{STATUS_FILE} cannot be written: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_read_what_matters_first() {
        let mut status = Status {
            hostname: "bramble-3fa2".into(),
            image: "0.1.0".into(),
            board: "pi".into(),
            slot: "a".into(),
            state: "starting".into(),
            api_port: 8080,
            ..Status::default()
        };
        assert_eq!(
            status.text(),
            "bramble-3fa2: starting\r\n\r\nimage      0.1.0, pi, slot a\r\naddress    none yet\r\n"
        );
        status.on_trial = true;
        status.addresses = vec![("eth0".into(), Ipv4Addr::new(10, 0, 2, 15))];
        status.cluster = Some(Cluster { version: "0.1.0".into(), agents: 1, ..<_>::default() });
        status.complaints.push("no ssh".into());
        status.left_out.push(Complaint { line: 3, text: "unknown key x".into() });
        let text = status.text();
        for part in [
            "slot a, on trial\r\n",
            "1 agent, led by nobody\r\n",
            "10.0.2.15 (eth0)\r\n",
            "http://10.0.2.15:8080/\r\n",
            "\r\nno ssh\r\n\r\nLeft out of bramble.toml:\r\n  line 3: unknown key x\r\n",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn an_answer_is_split() {
        let (head, body) = split(b"HTTP/1.0 200 OK\r\nA: b\r\n\r\n{}").unwrap();
        assert_eq!((head.lines().count(), body), (2, &b"{}"[..]));
        assert!(split(b"HTTP/1.0 200 OK\r\n").is_none());
    }
}
