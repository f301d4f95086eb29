//! What nodes answer: few requests, without a client library.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// Where nodes answer.
pub const PORT: u16 = 8080;
/// An emulated node that is busy may take so long.
const ANSWER_MAX: Duration = Duration::from_secs(5);
const CONNECT_MAX: Duration = Duration::from_secs(1);
/// A lab's answers are small. Bytes.
const BYTES_MAX: u64 = 4 << 20;

/// What a node says of its cluster.
#[derive(Debug, Default, Deserialize)]
pub struct Cluster {
    pub leader: Option<String>,
    #[serde(default)]
    pub agents: Vec<Agent>,
}

/// An agent as its cluster sees it.
#[derive(Debug, Default, Deserialize)]
pub struct Agent {
    #[serde(default)]
    pub name: String,
    #[serde(default)]
    pub connected: bool,
    #[serde(default)]
    pub roles: Vec<String>,
}

/// A node's API.
#[derive(Clone, Copy)]
pub struct Api(SocketAddr);

impl Api {
    pub fn of(ip: Ipv4Addr) -> Api {
        Api(SocketAddr::from((ip, PORT)))
    }

    /// Whether it answers at all.
    pub fn answers(self) -> bool {
        matches!(self.ask("GET", "/ping", ""), Ok((200, _)))
    }

    /// The cluster as it sees it; none while it does not answer, or belongs to none.
    pub fn cluster(self) -> Option<Cluster> {
        self.get("/v1/bramble/status")
    }

    /// The agents its cluster knows, with their roles.
    pub fn agents(self) -> Option<Vec<Agent>> {
        self.get("/v1/bramble/agents")
    }

    /// Give an agent roles; says whether it was done.
    pub fn set_roles(self, agent: &str, roles: &[&str]) -> bool {
        let body = serde_json::json!({ "roles": roles }).to_string();
        matches!(
            self.ask("PATCH", &format!("/v1/bramble/agents/{agent}"), &body),
            Ok((200..300, _))
        )
    }

    fn get<T: DeserializeOwned>(self, path: &str) -> Option<T> {
        let (code, body) = self.ask("GET", path, "").ok()?;
        (code == 200).then(|| serde_json::from_slice(&body).ok())?
    }

    /// The answer's code and body.
    fn ask(self, method: &str, path: &str, body: &str) -> io::Result<(u16, Vec<u8>)> {
        let mut stream = TcpStream::connect_timeout(&self.0, CONNECT_MAX)?;
        stream.set_read_timeout(Some(ANSWER_MAX))?;
        stream.set_write_timeout(Some(ANSWER_MAX))?;
        let length = body.len();
        // Of 1.0, so that no answer comes in chunks.
        let request = format!(
            "{method} {path} HTTP/1.0\r\nHost: {host}\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}",
            host = self.0
        );
        stream.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        stream.take(BYTES_MAX).read_to_end(&mut answer)?;
        parse(&answer).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

fn parse(answer: &[u8]) -> Option<(u16, Vec<u8>)> {
    const END: &[u8] = b"\r\n\r\n";
    let end = answer.windows(END.len()).position(|window| window == END)?;
    let head = std::str::from_utf8(&answer[..end]).ok()?;
    let code = head.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some((code, answer[end + END.len()..].to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// Answers as many requests as it has answers; gives what it was asked.
    fn node(answers: &'static [&'static str]) -> (Api, std::thread::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let api = Api(listener.local_addr().unwrap());
        let asked = std::thread::spawn(move || {
            let one = |answer: &&str| {
                let (mut stream, _) = listener.accept().unwrap();
                let mut bytes = [0; 1024];
                let read = stream.read(&mut bytes).unwrap();
                stream.write_all(answer.as_bytes()).unwrap();
                String::from_utf8_lossy(&bytes[..read]).into_owned()
            };
            answers.iter().map(one).collect()
        });
        (api, asked)
    }

    #[test]
    fn answers_are_read_and_others_are_none() {
        let (api, asked) = node(&[
            "HTTP/1.1 200 OK\r\n\r\npong",
            "HTTP/1.1 200 OK\r\nA: b\r\n\r\n{\"leader\":\"m1\",\"agents\":[{\"name\":\"a1\",\"connected\":true}]}",
            "HTTP/1.1 503 no\r\n\r\n{}",
            "nonsense",
            "HTTP/1.1 200 OK\r\n\r\n{}",
            "HTTP/1.1 404 no\r\n\r\n{}",
        ]);
        assert!(api.answers());
        let cluster = api.cluster().unwrap();
        assert_eq!(cluster.leader.as_deref(), Some("m1"));
        assert!(cluster.agents[0].connected && cluster.agents[0].name == "a1");
        assert!(api.cluster().is_none());
        assert!(api.agents().is_none());
        assert!(api.set_roles("p1", &["slave_public"]));
        assert!(!api.set_roles("p1", &[]));
        let asked = asked.join().unwrap();
        assert!(asked[0].starts_with("GET /ping HTTP/1.0\r\nHost: 127.0.0.1:"));
        assert!(asked[4].starts_with("PATCH /v1/bramble/agents/p1 "));
        assert!(asked[4].ends_with("\r\n\r\n{\"roles\":[\"slave_public\"]}"));
        // Nobody listens any more.
        assert!(!api.answers());
    }
}
