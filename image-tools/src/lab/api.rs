//! What nodes answer.

use reqwest::{Client, Method, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::runtime;

/// Where nodes answer.
pub const PORT: u16 = 8080;
/// An emulated node that is busy may take so long.
const ANSWER_MAX: Duration = Duration::from_secs(5);
const CONNECT_MAX: Duration = Duration::from_secs(1);

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
        matches!(self.ask(Method::GET, "/ping", ""), Ok((StatusCode::OK, _)))
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
        let path = format!("/v1/bramble/agents/{agent}");
        self.ask(Method::PATCH, &path, &body).is_ok_and(|(status, _)| status.is_success())
    }

    fn get<T: DeserializeOwned>(self, path: &str) -> Option<T> {
        let (status, body) = self.ask(Method::GET, path, "").ok()?;
        (status == StatusCode::OK).then(|| serde_json::from_slice(&body).ok())?
    }

    /// The answer's status and body. For once: what asks here has no runtime of its own, and asks
    /// a few times in a second at most.
    fn ask(
        self,
        method: Method,
        path: &str,
        body: &str,
    ) -> Result<(StatusCode, Vec<u8>), Box<dyn Error>> {
        // The client wants one, also for plain HTTP. Where somebody was earlier, theirs will do.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .no_proxy()
            .connect_timeout(CONNECT_MAX)
            .timeout(ANSWER_MAX)
            .build()?;
        let request = client
            .request(method, format!("http://{}{path}", self.0))
            .header("Content-Type", "application/json")
            .body(body.to_string());
        runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
            let answer = request.send().await?;
            let status = answer.status();
            Ok((status, answer.bytes().await?.to_vec()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
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
        assert!(asked[0].starts_with("GET /ping HTTP/1.1\r\n"), "{asked:?}");
        assert!(asked[4].starts_with("PATCH /v1/bramble/agents/p1 "));
        assert!(asked[4].ends_with("\r\n\r\n{\"roles\":[\"slave_public\"]}"));
        // Nobody listens any more.
        assert!(!api.answers());
    }
}
