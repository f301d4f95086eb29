//! Real namespaces, real packets.

mod lab;

use super::address::Subnet;
use super::link::veth_name;
use super::{
    BridgeError, NamespaceError, Network, NetworkConfig, NetworkError, Publication, Transport,
};
use bramble_core::model::{PublishedPort, TaskId};
use futures_util::future::join_all;
use lab::{HOST_IP, Machine, OUTSIDE_IP, http, interfaces, on_a_host, on_host, skip, udp};
use std::net::{Ipv4Addr, TcpListener};
use std::process::Command;
use tempfile::TempDir;

const BRIDGE: &str = "brtest0";
const LOCALHOST: Ipv4Addr = Ipv4Addr::LOCALHOST;

fn task(name: &str) -> TaskId {
    TaskId::new(format!("{name}.instance-0._app.1"))
}

fn port(host_port: u16, container_port: u16, tcp: bool) -> PublishedPort {
    PublishedPort { host_port, container_port, tcp, udp: !tcp }
}

fn network(directory: &TempDir, publication: Publication) -> Network {
    let config = NetworkConfig {
        bridge: BRIDGE.to_string(),
        subnet: None,
        state_dir: directory.path().to_path_buf(),
    };
    Network::open_with(config, publication).expect("a good name")
}

fn directory() -> TempDir {
    tempfile::tempdir().expect("a directory")
}

fn has_nft() -> bool {
    let found = Command::new("nft").arg("--version").output().is_ok_and(|o| o.status.success());
    if !found {
        skip("nft is not installed");
    }
    found
}

fn tables() -> String {
    let listed = Command::new("nft").args(["list", "tables"]).output();
    listed.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default()
}

fn is_on_host(name: &str) -> bool {
    interfaces().iter().any(|interface| interface == name)
}

fn bare_veths() -> Vec<String> {
    let all = interfaces().into_iter();
    all.filter(|name| name.starts_with("bv") && name != "bvoutside").collect()
}

async fn host_http(ip: Ipv4Addr, port: u16) -> std::io::Result<String> {
    on_host(move || http(ip, port)).await
}

fn name_of(reply: std::io::Result<String>) -> String {
    let reply = reply.expect("an answer");
    reply.split(' ').next().expect("a name").to_string()
}

#[test]
fn nftables_publish_ports_every_way() {
    if has_nft() {
        on_a_host(|| async {
            life(Publication::Auto).await;
            assert!(!tables().contains("bramble"), "{}", tables());
        });
    }
}

/// The same packets take another way through the kernel where Docker or Kubernetes loaded
/// br_netfilter: both ways must work.
#[test]
fn nftables_publish_ports_with_and_without_bridge_filtering() {
    if !has_nft() {
        return;
    }
    for value in ["0", "1"] {
        on_a_host(move || async move {
            match std::fs::write("/proc/sys/net/bridge/bridge-nf-call-iptables", value) {
                Ok(()) => life(Publication::Auto).await,
                // The other test has then run the only way there is.
                Err(e) => eprintln!("br_netfilter is not loaded here: {e}"),
            }
        });
    }
}

#[test]
fn the_proxy_publishes_ports_every_way() {
    on_a_host(|| life(Publication::Proxy));
}

/// Two containers from attaching to the bridge's end.
async fn life(publication: Publication) {
    let directory = directory();
    let network = network(&directory, publication);
    network.prune(&[]).await.expect("nothing to prune");
    assert!(!is_on_host(BRIDGE), "looking made the bridge");

    let (mut one, mut two) = (Machine::start(), Machine::start());
    let ports = [port(18_080, 80, true), port(15_353, 5_353, false)];
    let first = network.attach(&task("one"), one.pid(), &ports).await.expect("attaches");
    let second = network.attach(&task("two"), two.pid(), &[port(18_081, 80, true)]).await;
    let second = second.expect("attaches");
    assert_ne!(first.ip, second.ip);
    one.serve("one", 80, 5_353).await;
    two.serve("two", 80, 5_353).await;

    reach(&one, &two, first.ip, publication).await;
    conflicts(&network).await;

    network.detach(&task("two")).await.expect("detaches");
    assert!(host_http(LOCALHOST, 18_081).await.is_err(), "a detached task is still published");
    assert!(!is_on_host(&veth_name(BRIDGE, &task("two"))));
    drop(network);
    restart(&directory, publication, &mut one, first.ip, &ports).await;
}

async fn reach(one: &Machine, two: &Machine, first: Ipv4Addr, publication: Publication) {
    let mut outside = Machine::outside().await;
    outside.serve("outside", 80, 53).await;
    for ip in [LOCALHOST, HOST_IP] {
        assert_eq!(name_of(host_http(ip, 18_080).await), "one", "{ip}");
        assert_eq!(name_of(host_http(ip, 18_081).await), "two", "{ip}");
        assert_eq!(name_of(on_host(move || udp(ip, 15_353)).await), "one", "{ip}");
    }
    let seen = outside.inside(|| http(HOST_IP, 18_080)).await.expect("from outside");
    assert_eq!(name_of(outside.inside(|| udp(HOST_IP, 15_353)).await), "one");
    if publication == Publication::Auto {
        // The client's own address is what the program in the container sees.
        assert_eq!(seen, format!("one {OUTSIDE_IP}"));
    }
    // Twice: what the first answer teaches the asker (redirects) must not break the second.
    for (from, container) in [("neighbour", two), ("itself", one), ("neighbour", two)] {
        let reply = container.inside(|| http(HOST_IP, 18_080)).await;
        assert!(reply.is_ok(), "hairpin from {from}: {reply:?}");
        assert_eq!(name_of(reply), "one", "hairpin from {from}");
    }
    assert_eq!(name_of(two.inside(|| udp(HOST_IP, 15_353)).await), "one", "hairpin");
    assert_eq!(name_of(two.inside(move || http(first, 80)).await), "one", "directly");
    if publication == Publication::Auto {
        let reply = one.inside(|| http(OUTSIDE_IP, 80)).await.expect("the way out");
        assert_eq!(reply, format!("outside {HOST_IP}"));
    }
}

/// Attaching what cannot be attached says why and leaves nothing.
async fn conflicts(network: &Network) {
    let before = bare_veths();
    let (third, taken) = (Machine::start(), TcpListener::bind("0.0.0.0:18090").expect("binds"));
    let refused = network.attach(&task("three"), third.pid(), &[port(18_090, 80, true)]).await;
    assert!(
        matches!(refused, Err(NetworkError::PortTaken { transport: Transport::Tcp, port: 18_090 })),
        "{refused:?}"
    );
    let refused = network.attach(&task("three"), third.pid(), &[port(18_080, 80, true)]).await;
    match refused {
        Err(NetworkError::PortPublished { port: 18_080, by, .. }) => assert_eq!(by, task("one")),
        other => panic!("{other:?}"),
    }
    let on_host = Machine::start_on_host();
    let refused = network.attach(&task("three"), on_host.pid(), &[]).await;
    assert!(
        matches!(refused, Err(NetworkError::Namespace(NamespaceError::HostsOwn { .. }))),
        "{refused:?}"
    );
    assert_eq!(bare_veths(), before);
    drop(taken);
}

/// A new agent process adopts what runs; what died meanwhile is pruned; the last one out removes
/// the bridge.
async fn restart(
    directory: &TempDir,
    publication: Publication,
    one: &mut Machine,
    ip: Ipv4Addr,
    ports: &[PublishedPort],
) {
    let network = network(directory, publication);
    let adopted = network.adopt(&task("one"), one.pid(), ports).await.expect("adopts");
    assert_eq!(adopted.ip, ip);
    network.prune(&[task("one")]).await.expect("prunes");
    assert_eq!(name_of(host_http(LOCALHOST, 18_080).await), "one");
    assert!(!network.close().await.expect("looks"), "a task hangs on the bridge");

    let third = Machine::start();
    let attached = network.attach(&task("three"), third.pid(), &[]).await.expect("attaches");
    assert_ne!(attached.ip, ip, "an address was given twice");
    one.kill();
    drop(third);
    network.prune(&[]).await.expect("prunes");
    assert_eq!(bare_veths(), Vec::<String>::new());
    assert!(host_http(LOCALHOST, 18_080).await.is_err(), "a pruned task is still published");
    assert!(network.close().await.expect("closes"));
    assert!(!is_on_host(BRIDGE));
    assert!(network.close().await.expect("closing twice is fine"));
}

#[test]
fn the_subnet_avoids_the_hosts_networks_and_is_remembered() {
    on_a_host(|| async {
        let directory = directory();
        std::fs::write(directory.path().join("subnet"), "192.0.2.0/24\n").expect("writes");
        let network = network(&directory, Publication::Proxy);
        let machine = Machine::start();
        let attached = network.attach(&task("one"), machine.pid(), &[]).await.expect("attaches");
        let subnet: Subnet = "172.31.240.0/20".parse().expect("a subnet");
        assert!(subnet.contains(attached.ip), "{}", attached.ip);
        let remembered = std::fs::read_to_string(directory.path().join("subnet"));
        assert_eq!(remembered.expect("reads").trim(), subnet.to_string());
        assert_eq!(network.gateway().await, Some(Ipv4Addr::new(172, 31, 240, 1)));
        let switch = |path: &str| std::fs::read_to_string(path).expect("reads").trim().to_string();
        assert_eq!(switch("/proc/sys/net/ipv4/ip_forward"), "1");

        let config = NetworkConfig {
            bridge: "brtest1".to_string(),
            subnet: Some(subnet),
            state_dir: directory.path().to_path_buf(),
        };
        let second = Network::open_with(config, Publication::Proxy).expect("a good name");
        let other = Machine::start();
        let refused = second.attach(&task("two"), other.pid(), &[]).await;
        assert!(
            matches!(refused, Err(NetworkError::Bridge(BridgeError::Collides { .. }))),
            "{refused:?}"
        );
    });
}

#[test]
fn many_tasks_come_and_go_at_once() {
    const TASKS: u16 = 24;
    on_a_host(|| async {
        let directory = directory();
        let network = network(&directory, Publication::Proxy);
        let machines: Vec<Machine> = (0..TASKS).map(|_| Machine::start()).collect();
        let ids: Vec<TaskId> = (0..TASKS).map(|n| task(&format!("t{n}"))).collect();
        let ports: Vec<[_; 1]> = (0..TASKS).map(|n| [port(31_000 + n, 80, true)]).collect();
        let attach = |n: usize| network.attach(&ids[n], machines[n].pid(), &ports[n]);
        let mut addresses = Vec::new();
        for attached in join_all((0..machines.len()).map(attach)).await {
            addresses.push(attached.expect("attaches").ip);
        }
        addresses.sort();
        addresses.dedup();
        assert_eq!(addresses.len(), usize::from(TASKS), "everyone has an own address");
        for detached in join_all(ids.iter().map(|id| network.detach(id))).await {
            detached.expect("detaches");
        }
        assert_eq!(bare_veths(), [""; 0]);
        assert!(network.close().await.expect("closes"));
    });
}

#[test]
fn a_refused_table_falls_back_to_the_proxy() {
    if !has_nft() {
        return;
    }
    on_a_host(|| async {
        let script = "table inet strict { chain forward { \
                      type filter hook forward priority 0; policy drop; }; }";
        let status = Command::new("nft").arg(script).status().expect("runs");
        assert!(status.success());
        let network = network(&directory(), Publication::Auto);
        let mut one = Machine::start();
        one.serve("one", 80, 53).await;
        let attached = network.attach(&task("one"), one.pid(), &[port(18_080, 80, true)]).await;
        attached.expect("attaches");
        let outside = Machine::outside().await;
        assert_eq!(name_of(outside.inside(|| http(HOST_IP, 18_080)).await), "one");
        assert!(!tables().contains("bramble"), "{}", tables());
    });
}

#[test]
fn names_that_are_no_interface_are_refused() {
    for name in ["", ".", "..", "a/b", "br test", "sixteen-letters-"] {
        let config = NetworkConfig {
            bridge: name.to_string(),
            subnet: None,
            state_dir: std::path::PathBuf::new(),
        };
        assert!(matches!(Network::open(config), Err(NetworkError::BridgeName(_))), "{name:?}");
    }
}

#[test]
fn veth_names_are_short_and_their_own() {
    let long = TaskId::new("x".repeat(500));
    let names = [
        veth_name("br0", &task("one")),
        veth_name("br0", &task("two")),
        veth_name("br1", &task("one")),
        veth_name("br0", &long),
    ];
    assert!(names.iter().all(|name| name.len() <= 15));
    assert_eq!(names.iter().collect::<std::collections::BTreeSet<_>>().len(), names.len());
    assert_eq!(names[0], veth_name("br0", &task("one")));
}

/// The agent drives the network from tasks of a runtime with several threads.
#[test]
fn futures_of_the_network_can_be_sent() {
    fn sendable<T: Send>(_: T) {}
    let directory = directory();
    let (network, task) = (network(&directory, Publication::Proxy), task("one"));
    sendable(network.attach(&task, 1, &[]));
    sendable(network.adopt(&task, 1, &[]));
    sendable(network.detach(&task));
    sendable(network.prune(&[]));
    sendable(network.close());
}
