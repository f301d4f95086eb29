//! What a file says, and what is said of bad ones.

use super::*;

fn read(text: &str) -> Vec<Machine> {
    parse(text, "f.yaml").unwrap()
}

#[test]
fn a_missing_key_defaults_in_every_form_of_a_machine() {
    let text = "m1:\na1: {type: agent-private, ip: 10.1.2.200}\nb0: {type: boot}\nm4: {}\n\
                7: {aliases: [1.test]}\n";
    let machines = read(text);
    let names: Vec<_> = machines.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["m1", "a1", "m4", "7"]);
    let first = Machine {
        name: "m1".into(),
        ip: Ipv4Addr::new(10, 1, 2, 201),
        cpus: 1,
        memory_mib: 256,
        reserved_mib: 0,
        kind: Kind::Full,
        aliases: Vec::new(),
    };
    assert_eq!(machines[0], first);
    assert_eq!((machines[1].ip, machines[1].kind.role()), (Ipv4Addr::new(10, 1, 2, 200), "agent"));
    assert_eq!((machines[2].ip, machines[2].kind.role()), (Ipv4Addr::new(10, 1, 2, 202), "auto"));
    assert_eq!(machines[3].aliases, ["1.test"]);
    assert_eq!(read("m1: {}")[0].ip, Ipv4Addr::new(192, 168, 57, 200));
    assert_eq!(read("m1: {ip: , cpus: }")[0].cpus, 1);
}

#[test]
fn the_example_is_right() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/lab/VagrantConfig.yaml");
    let machines = super::read(Path::new(path)).unwrap();
    let votes = machines.iter().filter(|one| one.kind.votes()).count();
    assert_eq!((machines.len(), votes), (6, 3));
    let p1 = machines.last().unwrap();
    assert_eq!((p1.name.as_str(), p1.kind, p1.memory_mib), ("p1", Kind::AgentPublic, 384));
    assert_eq!(p1.aliases, ["oinker.acme.test", "spring.acme.test"]);
}

#[test]
fn every_mistake_is_named_with_its_place_and_what_to_write() {
    for (text, want) in [
        ("", "m1: {type: master}"),
        ("{}", "m1: {type: master}"),
        ("[1]", "m1: {type: master}"),
        ("m1: [1]", "m1: write {key"),
        ("m_1: {}", "m_1: a name"),
        ("m1: {colour: red}", "m1: unknown key colour; there are ip, cpus"),
        ("m1: {ip: 1.2.3}", "m1: ip is \"1.2.3\"; write an IPv4"),
        ("m1: {ip: 7}", "ip is 7"),
        ("m1: {ip: 1.2.3.0}", "ip is \"1.2.3.0\""),
        ("m1: {ip: 1.2.3.4/24}", "ip is"),
        ("m1: {cpus: 0}", "cpus is 0; write a number of at least 1"),
        ("m1: {cpus: many}", "cpus is \"many\""),
        ("m1: {cpus: 1.5}", "cpus is 1.5"),
        ("m1: {memory: 64}", "memory is 64; write a number of at least 128"),
        ("m1: {memory: [1]}", "memory is a list"),
        ("m1: {memory-reserved: 256}", "memory-reserved is 256; it must leave some of the 256"),
        ("m1: {type: slave}", "type is \"slave\"; write one of full, master"),
        ("m1: {aliases: x}", "aliases is \"x\"; write a list"),
        ("m1: {aliases: [a b]}", "aliases is a list"),
        ("a: {ip: 10.0.0.2}\nb: {ip: 10.0.0.2}", "10.0.0.2 is given to two"),
        ("a: {ip: 10.0.0.2}\nb: {ip: 10.0.1.2}", "10.0.0.0 and 10.0.1.0"),
        ("a: {}\na: {}", "duplicate"),
        ("a: {\n", "f.yaml"),
    ] {
        let said = parse(text, "f.yaml").unwrap_err().to_string();
        assert!(said.contains(want) && said.starts_with("f.yaml: "), "{text:?} says {said:?}");
    }
    let many: String = (0..56).map(|n| format!("m{n}: {{}}\n")).collect();
    assert!(parse(&many, "f").unwrap_err().to_string().contains("no address is left for m55"));
}
