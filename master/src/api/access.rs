//! Who may use the API (DESIGN 2.15): who reaches it can run code as root, so it is closed to
//! other machines unless the operator opened it, and closed to web pages always.
//!
//! Only decides; the reply to a refusal is built in `error`.

use super::error::ApiError;
use http::header::{HOST, ORIGIN};
use http::{HeaderMap, Method};
use std::net::{IpAddr, SocketAddr};

/// Where a request came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// The local socket: its file mode is the proof.
    Unix,
    Tcp(SocketAddr),
}

impl Peer {
    /// Whether the request was made on this machine.
    pub(crate) fn is_local(self) -> bool {
        match self {
            Peer::Unix => true,
            Peer::Tcp(address) => is_loopback(address.ip()),
        }
    }
}

fn is_loopback(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_loopback(),
        // A dual-stack listener shows 127.0.0.1 as ::ffff:127.0.0.1.
        IpAddr::V6(ip) => {
            ip.is_loopback() || ip.to_ipv4_mapped().is_some_and(|ip| ip.is_loopback())
        }
    }
}

/// Decide whether `peer` may make this request.
///
/// # Errors
/// 401 for other machines unless `open_api`; 403 for what a web page made a browser send.
pub(crate) fn check(
    peer: Peer,
    method: &Method,
    headers: &HeaderMap,
    open_api: bool,
) -> Result<(), ApiError> {
    let Peer::Tcp(address) = peer else { return Ok(()) };
    if !open_api && !peer.is_local() {
        return Err(ApiError::AccessDenied { peer: address.ip() });
    }
    let host = headers.get(HOST).and_then(|h| h.to_str().ok());
    let changes = !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
    if let Some(origin) = headers.get(ORIGIN).filter(|_| changes) {
        let origin = origin.to_str().unwrap_or_default();
        if host.is_none_or(|host| !same_host(origin, host)) {
            return Err(ApiError::ForeignOrigin { origin: origin.to_string() });
        }
    }
    if let Some(host) = host.filter(|host| !open_api && could_be_rebound(host)) {
        return Err(ApiError::ForeignHost { host: host.to_string() });
    }
    Ok(())
}

/// Whether the page of `origin` (`http://host:port`) was itself served as `host`.
fn same_host(origin: &str, host: &str) -> bool {
    origin
        .strip_prefix("http://")
        .or_else(|| origin.strip_prefix("https://"))
        .is_some_and(|authority| authority.eq_ignore_ascii_case(host))
}

/// Whether `host` is a name that a stranger could own in the public DNS and point at 127.0.0.1
/// (DNS rebinding). Addresses, single labels and the local and cluster domains cannot be.
fn could_be_rebound(host: &str) -> bool {
    if host.starts_with('[') {
        return false;
    }
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    if name.parse::<IpAddr>().is_ok() || !name.contains('.') {
        return false;
    }
    ![".localhost", ".local", ".mesos", ".internal", ".lan", ".home.arpa"]
        .iter()
        .any(|suffix| name.ends_with(suffix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    const NEAR: &str = "127.0.0.1:4000";
    const FAR: &str = "192.168.1.7:4000";

    fn verdict(peer: &str, method: &Method, origin: &str, host: &str, open: bool) -> &'static str {
        let peer = match peer {
            "unix" => Peer::Unix,
            address => Peer::Tcp(address.parse().unwrap()),
        };
        let mut headers = HeaderMap::new();
        for (name, value) in [(ORIGIN, origin), (HOST, host)] {
            if !value.is_empty() {
                headers.insert(name, HeaderValue::from_str(value).unwrap());
            }
        }
        match check(peer, method, &headers, open) {
            Ok(()) => "ok",
            Err(ApiError::AccessDenied { .. }) => "401",
            Err(ApiError::ForeignOrigin { .. } | ApiError::ForeignHost { .. }) => "403",
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn access_follows_the_peer() {
        let rows = [
            // peer, method, origin, host, open api, verdict
            ("unix", Method::POST, "http://evil.example", "x", false, "ok"),
            (NEAR, Method::GET, "", "localhost:8080", false, "ok"),
            ("[::1]:1", Method::POST, "", "localhost:8080", false, "ok"),
            ("[::ffff:127.0.0.1]:1", Method::POST, "", "", false, "ok"),
            (FAR, Method::GET, "", "192.168.1.5:8080", false, "401"),
            ("[fe80::1]:1", Method::GET, "", "", false, "401"),
            ("[::ffff:10.0.2.15]:1", Method::GET, "", "", false, "401"),
            (FAR, Method::POST, "", "192.168.1.5:8080", true, "ok"),
            // A page elsewhere posts to the node.
            (NEAR, Method::POST, "http://evil.example", "localhost:8080", false, "403"),
            (NEAR, Method::DELETE, "null", "localhost:8080", false, "403"),
            (NEAR, Method::POST, "http://localhost:8080", "localhost:8080", false, "ok"),
            (NEAR, Method::POST, "http://localhost:3000", "localhost:8080", false, "403"),
            (FAR, Method::POST, "http://evil.example", "192.168.1.5:8080", true, "403"),
            (NEAR, Method::POST, "http://localhost:8080", "", false, "403"),
            // Reading needs no Origin check: the browser keeps the answer from the page.
            (NEAR, Method::GET, "http://evil.example", "localhost:8080", false, "ok"),
            // A name rebound to this machine.
            (NEAR, Method::GET, "", "evil.example:8080", false, "403"),
            (NEAR, Method::POST, "http://evil.example", "evil.example", false, "403"),
            (NEAR, Method::GET, "", "evil.example:8080", true, "ok"),
        ];
        for (peer, method, origin, host, open, want) in rows {
            let got = verdict(peer, &method, origin, host, open);
            assert_eq!(got, want, "{peer} {method} origin={origin} host={host} open={open}");
        }
    }

    #[test]
    fn only_public_names_could_be_rebound() {
        for host in ["HOST:8080", "10.0.0.1", "[::1]:8080", "pi.local", "leader.mesos:80", "a.lan"]
        {
            assert!(!could_be_rebound(host), "{host}");
        }
        for host in ["evil.example", "evil.example.:80", "localhost.evil.example"] {
            assert!(could_be_rebound(host), "{host}");
        }
    }
}
