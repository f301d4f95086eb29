//! Heads of requests and answers that cross from node to node: what is added, what is taken away,
//! and which headers nobody outside may send.

use crate::api::access::Peer;
use http::header::{
    CONNECTION, EXPECT, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

/// Who asked the node that the request came to first: `unix`, or an address with its port.
const PEER_HEADER: HeaderName = HeaderName::from_static("x-bramble-peer");
/// Who shall answer.
const AIM_HEADER: HeaderName = HeaderName::from_static("x-bramble-aim");
/// Set on an answer that says: not I, and nothing was done.
pub(crate) const NOT_LEADER_HEADER: HeaderName = HeaderName::from_static("x-bramble-not-leader");
/// Nodes that passed a request or an answer on (Marathon's contract, section 1.1).
pub(crate) const VIA_HEADER: HeaderName = HeaderName::from_static("x-marathon-via");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Who shall answer a request that another node passed on. What a master passes on is never
/// passed on again, so nothing goes in circles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Aim {
    /// The leader; whoever is not refuses.
    Leader,
    /// Any master: it may pass it on to the leader.
    Master,
}

/// Where a request came from: decided when it arrives, by the kind of connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) peer: Peer,
    /// `None`: it came to this node first.
    pub(crate) aim: Option<Aim>,
}

/// Take away what only nodes may say, from a request of anybody else.
pub(crate) fn forget(headers: &mut HeaderMap) {
    for name in [PEER_HEADER, AIM_HEADER, NOT_LEADER_HEADER] {
        headers.remove(name);
    }
}

/// Read and take away what the node that passed it on says; `None` when it says nothing sensible.
pub(crate) fn origin(headers: &mut HeaderMap) -> Option<Origin> {
    let peer = headers.remove(PEER_HEADER)?;
    let aim = headers.remove(AIM_HEADER)?;
    forget(headers);
    let peer = match peer.to_str().ok()? {
        "unix" => Peer::Unix,
        address => Peer::Tcp(address.parse().ok()?),
    };
    let aim = match aim.to_str().ok()? {
        "leader" => Aim::Leader,
        "master" => Aim::Master,
        _ => return None,
    };
    Some(Origin { peer, aim: Some(aim) })
}

/// The head of a request as it is passed on by the node at `own` (`host:port`).
pub(crate) fn request(
    of: &HeaderMap,
    peer: Peer,
    aim: Aim,
    own: &str,
    upgrades: bool,
) -> HeaderMap {
    let mut headers = end_to_end(of, upgrades);
    // This node has told the client to go on, or will once the body is asked for.
    headers.remove(EXPECT);
    let peer = match peer {
        Peer::Unix => "unix".to_string(),
        Peer::Tcp(address) => address.to_string(),
    };
    let aim = match aim {
        Aim::Leader => "leader",
        Aim::Master => "master",
    };
    insert(&mut headers, PEER_HEADER, &peer);
    insert(&mut headers, AIM_HEADER, aim);
    if !headers.contains_key(HOST) {
        insert(&mut headers, HOST, own);
    }
    add_via(&mut headers, own);
    headers
}

/// The head of an answer as it is passed on by the node at `own`.
pub(crate) fn answer(status: StatusCode, of: &HeaderMap, own: &str) -> HeaderMap {
    let mut headers = end_to_end(of, status == StatusCode::SWITCHING_PROTOCOLS);
    if status == StatusCode::UPGRADE_REQUIRED
        && let Some(protocol) = of.get(UPGRADE)
    {
        // Advice to the client, not about a connection.
        headers.insert(UPGRADE, protocol.clone());
    }
    add_via(&mut headers, own);
    headers
}

/// Whether this node passed the request on before.
pub(crate) fn is_loop(headers: &HeaderMap, own: &str) -> bool {
    let own = via(own);
    headers.get_all(VIA_HEADER).iter().any(|value| value.as_bytes() == own.as_bytes())
}

fn via(own: &str) -> String {
    format!("1.1 {own}")
}

fn add_via(headers: &mut HeaderMap, own: &str) {
    if let Ok(value) = HeaderValue::from_str(&via(own)) {
        headers.append(VIA_HEADER, value);
    }
}

fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// Without what holds for one connection only (RFC 9110, 7.6.1).
fn end_to_end(of: &HeaderMap, upgrades: bool) -> HeaderMap {
    let mut headers = of.clone();
    let named: Vec<HeaderName> = of
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    let of_connection = [
        CONNECTION,
        KEEP_ALIVE,
        PROXY_AUTHENTICATE,
        PROXY_AUTHORIZATION,
        PROXY_CONNECTION,
        TE,
        TRAILER,
        TRANSFER_ENCODING,
        UPGRADE,
    ];
    for name in named.into_iter().chain(of_connection) {
        headers.remove(name);
    }
    if upgrades && let Some(protocol) = of.get(UPGRADE) {
        headers.insert(UPGRADE, protocol.clone());
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(rows: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        rows.iter().map(pair).collect()
    }

    #[test]
    fn what_is_said_between_nodes_is_read_back() {
        let tcp = Peer::Tcp("[::1]:4000".parse().unwrap());
        for (peer, aim) in [(Peer::Unix, Aim::Leader), (tcp, Aim::Master)] {
            let client = headers(&[("x-bramble-peer", "10.0.0.1:1"), ("x-bramble-aim", "leader")]);
            let mut sent = request(&client, peer, aim, "n1:8080", false);
            assert_eq!(origin(&mut sent), Some(Origin { peer, aim: Some(aim) }));
            assert_eq!(sent, headers(&[("host", "n1:8080"), ("x-marathon-via", "1.1 n1:8080")]));
        }
        for wrong in [
            &[][..],
            &[("x-bramble-peer", "unix")],
            &[("x-bramble-aim", "leader")],
            &[("x-bramble-peer", "pi"), ("x-bramble-aim", "leader")],
            &[("x-bramble-peer", "unix"), ("x-bramble-aim", "anyone")],
        ] {
            assert_eq!(origin(&mut headers(wrong)), None, "{wrong:?}");
        }
    }

    #[test]
    fn what_holds_for_one_connection_stays_there() {
        let rows = [
            ("connection", "close, X-Own"),
            ("x-own", "1"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "bramble-exec/1"),
            ("te", "trailers"),
            ("expect", "100-continue"),
            ("content-length", "5"),
            ("host", "pi"),
        ];
        let sent = request(&headers(&rows), Peer::Unix, Aim::Leader, "n1:1", false);
        let mut sent = sent;
        origin(&mut sent).unwrap();
        let left = [("content-length", "5"), ("host", "pi"), ("x-marathon-via", "1.1 n1:1")];
        assert_eq!(sent, headers(&left));
        let asked = headers(&[("connection", "upgrade"), ("upgrade", "x/1")]);
        let passed = answer(StatusCode::SWITCHING_PROTOCOLS, &asked, "n1:1");
        assert_eq!(
            (&passed[CONNECTION], &passed[UPGRADE]),
            (&"Upgrade".parse().unwrap(), &asked[UPGRADE])
        );
    }

    #[test]
    fn a_request_that_comes_back_is_known() {
        let sent = request(&HeaderMap::new(), Peer::Unix, Aim::Leader, "n1:8080", false);
        let sent = request(&sent, Peer::Unix, Aim::Leader, "n2:8080", false);
        assert!(is_loop(&sent, "n1:8080") && is_loop(&sent, "n2:8080"));
        assert!(!is_loop(&sent, "n3:8080") && !is_loop(&HeaderMap::new(), "n1:8080"));
    }
}
