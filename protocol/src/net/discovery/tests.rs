use super::*;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::geteuid;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::Command;

/// A QUIC socket of both families.
const BOTH: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 7443);
/// And one of IPv4 alone.
const IPV4: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 7443);

/// Longer than probing and announcing take; only turns a hang into a failure.
const HANG: Duration = Duration::from_secs(20);

fn skip(why: &str) {
    eprintln!("SKIPPED: {why}");
    assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "skipped in CI: {why}");
}

/// A host's network card, with an address of each family.
const LAN: &[&str] = &[
    "link set lo up",
    "link add lan0 type veth peer name lan1",
    "link set lan0 up",
    "link set lan1 up",
    "addr add 192.0.2.7/24 dev lan0",
    "addr add 2001:db8::7/64 dev lan0 nodad",
];

/// Run `work` on a host of its own, with these `ip` commands done first.
fn on_a_host<F: Future<Output = ()>>(
    commands: &'static [&'static str],
    work: impl FnOnce() -> F + Send + 'static,
) {
    if !geteuid().is_root() {
        return skip("network namespaces need root");
    }
    let host = std::thread::spawn(move || {
        if let Err(e) = unshare(CloneFlags::CLONE_NEWNET) {
            return skip(&format!("this machine makes no network namespace: {e}"));
        }
        for command in commands {
            match Command::new("ip").args(command.split(' ')).status() {
                Ok(status) => assert!(status.success(), "ip {command}"),
                Err(e) => return skip(&format!("the program ip (iproute2) is missing: {e}")),
            }
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(work());
    });
    if let Err(panic) = host.join() {
        std::panic::resume_unwind(panic);
    }
}

fn announcement(name: &str) -> Announcement {
    Announcement {
        cluster: "c1".to_string(),
        node_id: NodeId::new("ab".repeat(32)),
        role: NodeRole::Full,
        port: 7443,
        name: name.to_string(),
    }
}

#[test]
fn an_announced_node_is_found_without_loopback_and_skipped_interfaces() {
    let commands = &[
        "link set lo up",
        "link add lan0 type veth peer name skipped0",
        "link set lan0 up",
        "link set skipped0 up",
        "addr add 192.0.2.7/24 dev lan0",
        "addr add 198.51.100.7/24 dev skipped0",
    ];
    on_a_host(commands, || async {
        let skip = |name: &str| name.starts_with("skipped");
        let (one, two) = (Discovery::start(BOTH, skip).await, Discovery::start(BOTH, skip).await);
        let (one, two) = (one.expect("starts"), two.expect("starts"));
        let mut browse = two.browse().await.expect("browses");
        let announced = one.announce(announcement("pi-7")).await.expect("announces");
        let found = tokio::time::timeout(HANG, async {
            loop {
                // The first answer may hold only a link-local IPv6 address.
                let found = browse.next().await.expect("discovery goes on");
                if found.addresses.iter().any(SocketAddr::is_ipv4) {
                    return found;
                }
            }
        });
        let found = found.await.expect("found in time");
        assert_eq!((found.cluster.as_str(), found.role), ("c1", NodeRole::Full));
        assert_eq!(found.node_id, announcement("").node_id);
        assert_eq!(found.addresses[0], "192.0.2.7:7443".parse().expect("an address"));
        assert!(found.addresses[1..].iter().all(SocketAddr::is_ipv6), "{:?}", found.addresses);
        drop(announced);
        one.shutdown().await;
        two.shutdown().await;
        assert!(browse.next().await.is_none(), "the stream ends with its discovery");
    });
}

#[test]
fn who_listens_on_ipv4_alone_is_found_there_and_finds_nothing_else() {
    on_a_host(LAN, || async {
        for (told, asks) in [(IPV4, BOTH), (BOTH, IPV4)] {
            let one = Discovery::start(told, |_| false).await.expect("starts");
            let two = Discovery::start(asks, |_| false).await.expect("starts");
            let mut browse = two.browse().await.expect("browses");
            let announced = one.announce(announcement("pi-7")).await.expect("announces");
            let found = tokio::time::timeout(HANG, browse.next()).await.expect("found in time");
            let found = found.expect("discovery goes on");
            assert_eq!(found.addresses, ["192.0.2.7:7443".parse().expect("an address")]);
            drop(announced);
            one.shutdown().await;
            two.shutdown().await;
        }
    });
}

#[test]
fn candidates_are_heard_until_they_go_and_are_no_nodes() {
    on_a_host(LAN, || async {
        let (one, two) =
            (Discovery::start(BOTH, |_| false).await, Discovery::start(BOTH, |_| false).await);
        let (one, two) = (one.expect("starts"), two.expect("starts"));
        let stand = |id: &str| Contender {
            cluster: "c1".into(),
            node_id: NodeId::new(id.repeat(32)),
            founded: false,
        };
        let (own, later) = (stand("ab"), stand("cd"));
        let mut nodes = two.browse().await.expect("browses");
        let mut candidates = two.candidates().await.expect("listens");
        assert!(candidates.ahead_of(&later).is_none() && one.said().borrow().is_none());
        let standing = one.stand(&own, 7443).await.expect("stands");
        let heard = tokio::time::timeout(HANG, async {
            while candidates.ahead_of(&later).is_none() {
                candidates.changed().await;
            }
        });
        heard.await.expect("heard in time");
        assert_eq!(candidates.ahead_of(&later), Some(&own));
        let foreign = Contender { cluster: "c2".into(), ..later.clone() };
        for other in [&own, &stand("aa"), &foreign] {
            assert_eq!(candidates.ahead_of(other), None, "{other:?}");
        }
        let mut said = one.said();
        let known = tokio::time::timeout(HANG, said.wait_for(Option::is_some)).await;
        assert!(known.is_ok_and(|said| said.is_ok()), "it knows that it was said");
        drop(standing);
        let gone = tokio::time::timeout(HANG, async {
            while candidates.ahead_of(&later).is_some() {
                candidates.changed().await;
            }
        });
        gone.await.expect("gone in time");
        one.shutdown().await;
        two.shutdown().await;
        assert!(nodes.next().await.is_none(), "it was no node");
    });
}

#[test]
fn a_host_without_network_does_not_fail() {
    on_a_host(&[], || async {
        let discovery = Discovery::start(BOTH, |_| false).await.expect("starts");
        let _browse = discovery.browse().await.expect("browses");
        let _announced = discovery.announce(announcement("pi-7")).await.expect("announces");
        discovery.shutdown().await;
    });
}

#[test]
fn announced_names_fit_a_dns_label() {
    for (name, want) in [
        ("pi-7", "pi-7-abababababab".to_string()),
        ("", "-abababababab".to_string()),
        (&"ü".repeat(40), format!("{}-abababababab", "ü".repeat(24))),
    ] {
        let full = instance_name(&announcement(name));
        assert_eq!(full, want);
        assert!(full.len() <= 63);
    }
}
