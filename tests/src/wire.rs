//! HTTP from inside a node's network without a process per request, for clients that write all
//! the time and must know what they do not know.

use crate::namespace::within_network;
use crate::{Answer, Node};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Longest answer that is read.
const ANSWER_BYTES_MAX: u64 = 16 * 1024 * 1024;
const HTTP_PORT: u16 = 8080;

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// Nobody listened: nothing was asked.
    Refused,
    /// It was asked, and no whole answer came: it may have happened, now or later.
    Silent,
}

/// Ask a node over TCP on its loopback, and wait for the whole answer at most `patience`.
///
/// # Errors
/// No whole answer came; whether anything happened is said.
pub fn request(
    network_pid: u32,
    (method, path): (&str, &str),
    body: Option<&str>,
    patience: Duration,
) -> Result<Answer, Lost> {
    let start = Instant::now();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, HTTP_PORT));
    let connected = within_network(network_pid, || TcpStream::connect_timeout(&address, patience));
    let Ok(Ok(mut stream)) = connected else { return Err(Lost::Refused) };
    let body = body.unwrap_or_default();
    let text = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost:{HTTP_PORT}\r\nConnection: close\r\n\
        Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let left = || patience.saturating_sub(start.elapsed()).max(Duration::from_millis(1));
    let sent =
        stream.set_write_timeout(Some(left())).and_then(|()| stream.write_all(text.as_bytes()));
    sent.map_err(|_| Lost::Silent)?;
    let mut answer = Vec::new();
    let mut part = [0; 16 * 1024];
    loop {
        if start.elapsed() > patience || answer.len() as u64 > ANSWER_BYTES_MAX {
            return Err(Lost::Silent);
        }
        stream.set_read_timeout(Some(left())).map_err(|_| Lost::Silent)?;
        match stream.read(&mut part) {
            Ok(0) => break,
            Ok(read) => answer.extend_from_slice(&part[..read]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return Err(Lost::Silent),
        }
    }
    whole(&answer).ok_or(Lost::Silent)
}

impl Node {
    /// Like [`request`], of this node.
    ///
    /// # Errors
    /// No whole answer came.
    pub fn ask(
        &self,
        method: &str,
        path: &str,
        body: Option<&str>,
        patience: Duration,
    ) -> Result<Answer, Lost> {
        request(self.network_pid(), (method, path), body, patience)
    }
}

/// Read an answer that ended with its connection; `None`: some of it is missing.
fn whole(bytes: &[u8]) -> Option<Answer> {
    let text = String::from_utf8_lossy(bytes);
    if !text.starts_with("HTTP/1.") || !text.contains("\r\n\r\n") {
        return None;
    }
    let mut answer = Answer::parse(&text);
    if answer.header("transfer-encoding") == Some("chunked") {
        answer.body = unchunk(&answer.body)?;
    } else if let Some(length) = answer.header("content-length") {
        let length: usize = length.parse().ok()?;
        (answer.body.len() == length).then_some(())?;
    }
    Some(answer)
}

fn unchunk(mut rest: &str) -> Option<String> {
    let mut body = String::new();
    loop {
        let (size, after) = rest.split_once("\r\n")?;
        let size = usize::from_str_radix(size.split(';').next()?.trim(), 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        body.push_str(after.get(..size)?);
        rest = after.get(size..)?.strip_prefix("\r\n")?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_an_answer_is_none() {
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
        assert_eq!(whole(format!("{head}12345").as_bytes()).expect("whole").body, "12345");
        assert!(whole(format!("{head}1234").as_bytes()).is_none());
        assert!(whole(b"HTTP/1.1 200 OK\r\nContent-Le").is_none());
        assert!(whole(b"").is_none());
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        let whole_text = format!("{chunked}3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n");
        assert_eq!(whole(whole_text.as_bytes()).expect("whole").body, "abcde");
        assert!(whole(format!("{chunked}3\r\nabc\r\n2\r\n").as_bytes()).is_none());
    }
}
