//! Forms that are persisted: a later version must read what this one wrote.

use super::snapshot::Contents;
use super::types::LogId;
use super::*;
use openraft::{CommittedLeaderId, Membership, StoredMembership};
use std::collections::BTreeSet;

fn contents() -> Contents {
    let log_id = |index| LogId::new(CommittedLeaderId::new(3, 0xff), index);
    let nodes = BTreeMap::from([(0xff, Peer { id: node_id(0xff) })]);
    let membership = Membership::new(vec![BTreeSet::from([0xff])], nodes);
    let mut state = State { applied_index: 9, now: Time(7), ..State::default() };
    let Command::AdmitNode { node } = put("a", 3) else { panic!("not that command") };
    state.nodes.insert(node.id.clone(), node);
    Contents {
        last_applied: Some(log_id(9)),
        membership: StoredMembership::new(Some(log_id(0)), membership),
        state,
    }
}

#[test]
fn the_snapshot_file_is_golden() {
    let golden = include_bytes!("../fixtures/snapshot-v1.cbor");
    assert_eq!(Contents::decode(golden).expect("decodes"), contents());
}

#[test]
fn damaged_snapshots_are_refused() {
    let bytes = contents().encode().expect("encodes");
    assert_eq!(Contents::decode(&bytes).expect("decodes"), contents());
    for cut in [0, 1, bytes.len() / 2, bytes.len() - 1] {
        assert!(Contents::decode(&bytes[..cut]).is_err(), "cut at {cut}");
    }
    for position in (0..bytes.len()).step_by(7) {
        let mut damaged = bytes.clone();
        damaged[position] ^= 0x10;
        assert!(Contents::decode(&damaged).is_err(), "damaged at {position}");
    }
}
