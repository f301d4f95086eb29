//! Clients of one register, which write and read throughout whatever happens to the cluster.
//!
//! The register is a variable in the environment of an app without instances: it takes the whole
//! way through API and log, and starts nothing. What the clients are told is only recorded here;
//! `history` judges it.

use super::Lab;
use crate::history::{End, Kind, Operation, Value, writable_after};
use crate::{Answer, Lost, request};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const APP: &str = "/v2/apps/register";
/// Pause of a client between two requests: the cluster shares its two cores with them.
const PAUSE: Duration = Duration::from_millis(15);
/// Longest wait for an answer. Longer than a change of leaders, so that few outcomes are unknown.
const PATIENCE: Duration = Duration::from_secs(5);
/// What the register holds before any client writes.
pub const INITIAL: Value = 0;
/// In answers that a node gave from what it last knew.
const STALE: &str = "x-bramble-stale";

/// Clients at work, each asking one node after the other.
pub struct Clients {
    start: Instant,
    stop: Arc<AtomicBool>,
    history: Arc<Mutex<Vec<Operation>>>,
    threads: Vec<JoinHandle<()>>,
}

/// One client.
struct Client {
    number: usize,
    networks: Arc<Vec<AtomicU32>>,
    start: Instant,
    stop: Arc<AtomicBool>,
    values: Arc<AtomicU64>,
    history: Arc<Mutex<Vec<Operation>>>,
    /// State of a small generator: which node, read or write.
    draw: u64,
}

/// What the register holds, as a node tells it; `None` if the node has no current answer.
fn held(answer: &Answer) -> Option<Value> {
    if answer.status != 200 || answer.header(STALE).is_some() {
        return None;
    }
    answer.json()["app"]["env"]["VALUE"].as_str()?.parse().ok()
}

impl Lab {
    /// Make the register and let `count` clients use it, through all hosts.
    pub fn clients(&self, count: usize) -> Clients {
        let app = format!(
            r#"{{"id":"register","cmd":"sleep 1000","instances":0,"cpus":0.1,"mem":16,
                "env":{{"VALUE":"{INITIAL}"}}}}"#
        );
        crate::eventually("the register", || {
            let made = self.node(0).ask("POST", "/v2/apps", Some(&app), PATIENCE).ok()?;
            matches!(made.status, 201 | 409).then_some(())
        });
        let (start, stop) = (Instant::now(), Arc::new(AtomicBool::new(false)));
        let values = Arc::new(AtomicU64::new(INITIAL + 1));
        let history = Arc::new(Mutex::new(Vec::new()));
        let client = |number: usize| {
            let client = Client {
                number,
                networks: self.networks(),
                start,
                stop: stop.clone(),
                values: values.clone(),
                history: history.clone(),
                draw: 0x9e37_79b9_7f4a_7c15u64.wrapping_mul(number as u64 + 1),
            };
            std::thread::spawn(move || client.run())
        };
        let threads = (0..count).map(client).collect();
        Clients { start, stop, history, threads }
    }

    /// What the register holds now, as every host tells it.
    pub fn register(&self) -> Vec<Value> {
        let read = |host: usize| {
            crate::eventually(&format!("a current answer of host {host}"), || {
                held(&self.node(host).ask("GET", APP, None, PATIENCE).ok()?)
            })
        };
        self.everyone().map(read).collect()
    }
}

impl Clients {
    /// Now, on the clock of the history.
    pub fn now(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    /// What happened so far, without what is not answered yet.
    pub fn so_far(&self) -> Vec<Operation> {
        self.history.lock().expect("clients do not panic").clone()
    }

    /// Wait until a write that began after `since` is acknowledged; gives how long after.
    pub fn until_writable(&self, since: u64) -> Duration {
        let wait =
            crate::eventually("an acknowledged write", || writable_after(&self.so_far(), since));
        Duration::from_nanos(wait)
    }

    /// Wait until so many more requests are answered.
    pub fn go_on(&self, more: usize) {
        let enough = self.so_far().len() + more;
        crate::eventually("more requests", || (self.so_far().len() >= enough).then_some(()));
    }

    /// Stop them, waiting for the answers they wait for; gives what happened.
    pub fn stop(mut self) -> Vec<Operation> {
        self.stop.store(true, Ordering::SeqCst);
        for thread in std::mem::take(&mut self.threads) {
            thread.join().expect("a client ends");
        }
        self.so_far()
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

impl Client {
    fn run(mut self) {
        while !self.stop.load(Ordering::SeqCst) {
            if let Some(operation) = self.one() {
                self.history.lock().expect("clients do not panic").push(operation);
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn drawn(&mut self, below: u64) -> u64 {
        self.draw ^= self.draw << 13;
        self.draw ^= self.draw >> 7;
        self.draw ^= self.draw << 17;
        self.draw % below
    }

    fn now(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    fn one(&mut self) -> Option<Operation> {
        let node = self.drawn(self.networks.len() as u64) as usize;
        let writes = self.drawn(2) == 0;
        let network = self.networks[node].load(Ordering::SeqCst);
        let operation =
            |kind, invoked, end| Some(Operation { client: self.number, node, kind, invoked, end });
        if !writes {
            let invoked = self.now();
            let answer = request(network, ("GET", APP), None, PATIENCE).ok()?;
            let value = held(&answer)?;
            return operation(Kind::Read(value), invoked, End::Answered(self.now()));
        }
        let value = self.values.fetch_add(1, Ordering::SeqCst);
        let body = format!(r#"{{"env":{{"VALUE":"{value}"}}}}"#);
        let path = format!("{APP}?force=true");
        let invoked = self.now();
        let end = match request(network, ("PUT", &path), Some(&body), PATIENCE) {
            Ok(answer) if answer.status == 200 => End::Answered(self.now()),
            Ok(answer) if (400..500).contains(&answer.status) => End::Refused,
            Err(Lost::Refused) => End::Refused,
            // A 503 may come from a node that lost the answer to what it had asked another.
            Ok(_) | Err(Lost::Silent) => End::Unknown,
        };
        operation(Kind::Write(value), invoked, end)
    }
}
