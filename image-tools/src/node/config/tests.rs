//! Files that people write, and what a node says of them.

use super::*;

fn parse(text: &str) -> (NodeConfig, Vec<String>) {
    let (config, complaints) = NodeConfig::parse(text);
    (config, complaints.iter().map(Complaint::to_string).collect())
}

#[test]
fn everything_can_be_set() {
    let (config, complaints) = parse(
        r#"
hostname = "pi-kitchen"
cluster = "home"
token = "BRAMBLE-1-ab-cd"
role = "agent"
attributes = { rack = "1", row = 2, fan = true }
[wifi]
ssid = "my \"home\""
password = "secret words"
country = "de"
[network]
interface = "eth1"
address = "192.168.1.5/24"
gateway = "192.168.1.1"
dns = ["192.168.1.1", "2001:db8::1"]
[ssh]
keys = ["ssh-ed25519 AAAAC3Nz me@pc"]
[bramble]
open-api = true
agent-timeout = "75s"
"#,
    );
    assert_eq!(complaints, [""; 0]);
    assert_eq!(config.hostname.as_deref(), Some("pi-kitchen"));
    assert_eq!(config.token, Token::Given("BRAMBLE-1-ab-cd".into()));
    assert_eq!((config.role, config.role.verb()), (Role::Agent, "agent"));
    let attributes: Vec<_> = config.attributes.iter().map(|(k, v)| format!("{k}:{v}")).collect();
    assert_eq!(attributes, ["fan:true", "rack:1", "row:2"]);
    let wifi = config.wifi.unwrap();
    assert_eq!(wifi.ssid, "my \"home\"");
    assert_eq!(wifi.country.as_deref(), Some("DE"));
    assert_eq!(config.network.address, Some((Ipv4Addr::new(192, 168, 1, 5), 24)));
    assert_eq!(config.network.interface.as_deref(), Some("eth1"));
    assert_eq!(config.network.dns.len(), 2);
    assert_eq!(config.ssh_keys, ["ssh-ed25519 AAAAC3Nz me@pc"]);
    let settings: Vec<_> = config.bramble.iter().map(|(k, v)| format!("{k} = {v}")).collect();
    assert_eq!(settings, ["agent-timeout = \"75s\"", "open-api = true"]);
}

#[test]
fn the_template_is_empty_and_every_line_of_it_is_good() {
    assert_eq!(parse(TEMPLATE), (NodeConfig::default(), Vec::new()));
    let set = TEMPLATE.lines().map(|line| match line.strip_prefix('#') {
        Some(rest) if !rest.starts_with(' ') => rest,
        _ => line,
    });
    let set: String = set.map(|line| format!("{line}\r\n")).collect();
    let set = set.replace("AAAA...", "AAAA").replace("1-...", "1-ab");
    let (config, complaints) = parse(&set);
    assert_eq!(complaints, [""; 0]);
    assert!(config.wifi.is_some() && config.network.address.is_some());
    assert_eq!(config.bramble.len(), 1);
}

#[test]
fn every_slip_is_told_and_the_rest_counts() {
    let cases = [
        ("hostnam = \"a\"", "unknown key hostnam; did you mean hostname?"),
        (
            "colour = 1",
            "unknown key colour; known are hostname, cluster, token, role, attributes, wifi, \
             network, ssh, bramble",
        ),
        (
            "hostname = \"pi_1\"",
            "hostname is \"pi_1\"; write letters, digits and '-' in between, 63 at most",
        ),
        ("hostname = 5", "hostname is 5; write a text in quotes"),
        (
            "token = \"oops\"",
            "token is not a token; write the token as `bramble token` prints it, BRAMBLE-1-...",
        ),
        ("role = \"slave\"", "role is \"slave\"; write auto, master or agent"),
        ("attributes = 1", "attributes must be a section, [attributes]"),
        (
            "attributes = { a = \"b:c\" }",
            "attributes.a is \"b:c\"; write a text without ':', ';' and line breaks",
        ),
        (
            "wifi.password = \"secret words\"",
            "wifi has no ssid; write the network's name, for example ssid = \"home\"",
        ),
        (
            "[network]\naddress = \"192.168.1.5\"",
            "network.address is \"192.168.1.5\"; write an IPv4 address with its prefix, for \
             example \"192.168.1.5/24\"",
        ),
        (
            "[network]\ngateway = \"10.0.0.1\"",
            "network.gateway is 10.0.0.1, but there is no network.address; write both, or neither \
             for DHCP",
        ),
        (
            "[network]\ninterface = \"eth1\"",
            "network.interface is \"eth1\", but there is no network.address for it; write both, or \
             neither for DHCP",
        ),
        (
            "[network]\naddress = \"10.0.0.1/8\"\ninterface = \"the first one\"",
            "network.interface is \"the first one\"; write the name of a network card, for example \
             \"eth1\"",
        ),
        ("[network]\ndns = 8", "network.dns is 8; write a list of texts: [\"..\", \"..\"]"),
        (
            "[network]\nip = \"1\"",
            "unknown key network.ip; known are interface, address, gateway, dns",
        ),
        (
            "[ssh]\nkeys = [\"AAAA\"]",
            "ssh.keys is \"AAAA\"; write public keys as in id_ed25519.pub, for example \
             \"ssh-ed25519 AAAA... me\"",
        ),
        ("[bramble]\ndata-dir = \"/x\"", "bramble.data-dir is the node's own"),
        ("[bramble]\nhttp = [1]", "bramble.http is a array; write a text, a number, true or false"),
    ];
    for (text, complaint) in cases {
        let (_, found) = parse(text);
        let line = text.lines().count();
        assert_eq!(found, [format!("bramble.toml line {line}: {complaint}")], "{text}");
        let (config, found) = parse(&format!("cluster = \"home\"\n{text}"));
        assert_eq!(config.cluster.as_deref(), Some("home"), "{text}");
        assert_eq!(found, [format!("bramble.toml line {}: {complaint}", line + 1)], "{text}");
    }
}

#[test]
fn a_wrong_password_opens_nothing_and_is_not_shown() {
    let (config, found) = parse("[wifi]\nssid = \"home\"\npassword = \"short\"");
    assert_eq!(config.wifi, None);
    assert!(found[0].starts_with("bramble.toml line 3: wifi.password: write 8 to 63"), "{found:?}");
    assert!(!found[0].contains("short"));
    let (config, _) = parse("[wifi]\nssid = \"open\"\npassword = \"\"");
    assert_eq!(config.wifi.unwrap().password, None);
}

#[test]
fn a_token_that_is_none_is_not_a_cluster_of_ones_own() {
    assert_eq!(parse("token = \"\"").0.token, Token::None);
    for text in ["token = 1", "token = \"bramble-1\"", "token = \"BRAMBLE-1-\\\"x\""] {
        assert_eq!(parse(text).0.token, Token::Refused, "{text}");
    }
}

#[test]
fn a_line_that_is_no_toml_costs_that_line() {
    for broken in
        ["hostname = pi kitchen", "hostname = \"pi", "hostname", "= 3", "[wifi\nssid = \"a\""]
    {
        let text = format!("cluster = \"home\"\n{broken}\n[network]\naddress = \"10.0.0.2/8\"\n");
        let (config, found) = parse(&text);
        assert_eq!(found.len(), 1, "{broken}: {found:?}");
        assert!(found[0].starts_with("bramble.toml line 2: "), "{broken}: {found:?}");
        assert_eq!(config.cluster.as_deref(), Some("home"), "{broken}: {found:?}");
        assert!(config.network.address.is_some(), "{broken}: {found:?}");
    }
}

#[test]
fn other_files_are_told_shortly() {
    let noise: String = (0..200).map(|n| format!("<p>{n}</p>\n")).collect();
    let (config, complaints) = parse(&noise);
    assert!(config == NodeConfig::default() && complaints.len() <= 21, "{complaints:?}");
    assert_eq!(parse("ünd\n€\nhostname = \"a\"").0.hostname.as_deref(), Some("a"));
    assert_eq!(parse(&"x".repeat(100_000)).1.len(), 1);
    assert_eq!(parse("\u{feff}hostname = \"a\"").1, [""; 0]);
}
