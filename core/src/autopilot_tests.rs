//! Every situation of the autopilot with its next change, and what no change may do.

use super::*;
use proptest::prelude::*;

/// `v` voter, `l` learner, `o` outside; upper case: ready; `?` after: unsure; `!`: gone; `-` in
/// front: no longer admitted. The first is the leader. "V l? -v!" and so on.
fn seen(text: &str) -> Vec<Seen> {
    let words = text.split_whitespace().enumerate();
    words
        .map(|(number, word)| {
            let admitted = !word.starts_with('-');
            let word = word.trim_start_matches('-');
            let standing = match word.chars().next().map(|c| c.to_ascii_lowercase()) {
                Some('v') => Standing::Voter,
                Some('l') => Standing::Learner,
                _ => Standing::Outside,
            };
            let liveness = match word.chars().last() {
                Some('?') => Liveness::Unsure,
                Some('!') => Liveness::Gone,
                _ => Liveness::Ready,
            };
            Seen { id: NodeId::new(number.to_string()), standing, liveness, admitted }
        })
        .collect()
}

fn change(text: &str) -> String {
    match next(&NodeId::new("0"), &seen(text)) {
        None => String::new(),
        Some(Change::AddLearner(id)) => format!("add {id}"),
        Some(Change::Remove(id)) => format!("remove {id}"),
        Some(Change::SetVoters(ids)) => {
            let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
            format!("voters {}", ids.join(" "))
        }
    }
}

#[test]
fn every_situation_has_its_next_change() {
    let rows = [
        ("v", ""),
        ("v o", "add 1"),
        ("v o!", "add 1"),
        // An even voter lowers availability.
        ("v l", ""),
        ("v l l", "voters 0 1 2"),
        ("v l? l", ""),
        ("v l! l", ""),
        ("v v v l", ""),
        ("v v v l l", "voters 0 1 2 3 4"),
        ("v v v l l l l", "voters 0 1 2 3 4"),
        ("v v v v v l", ""),
        // A voter that is gone gives its vote to who is there.
        ("v v! v", ""),
        ("v v? v l", ""),
        ("v v! v l", "voters 0 2 3"),
        ("v v! v l?", ""),
        ("v v v v! v l", "voters 0 1 2 4 5"),
        // Three of five left bear one more failure as three.
        ("v v v v! v!", "voters 0 1 2"),
        ("v v v v v!", ""),
        ("v v v! v!", ""),
        // Those who were removed.
        ("v -v v", "voters 0"),
        ("v -v v l", "voters 0 2 3"),
        ("v -l v v", "remove 1"),
        ("v v v -v v", "voters 0 1 2"),
        ("v v v -v v!", "voters 0 1 2"),
        ("-v v v", "voters 1"),
        ("-v", ""),
        ("v -o", ""),
    ];
    for (text, want) in rows {
        let want_removed_leader = text == "-v v v";
        let got = change(text);
        if want_removed_leader {
            // Either other may stay: both are the same to it.
            assert!(got == "voters 1" || got == "voters 2", "{text}: {got}");
            continue;
        }
        assert_eq!(got, want, "{text}");
    }
}

fn masters() -> impl Strategy<Value = Vec<Seen>> {
    let one = (
        prop_oneof![Just(Standing::Outside), Just(Standing::Learner), Just(Standing::Voter)],
        prop_oneof![Just(Liveness::Ready), Just(Liveness::Unsure), Just(Liveness::Gone)],
        prop::bool::weighted(0.85),
    );
    prop::collection::vec(one, 0..8).prop_map(|others| {
        let leader = (Standing::Voter, Liveness::Ready, true);
        let all = [leader].into_iter().chain(others).enumerate();
        let seen = |(number, (standing, liveness, admitted)): (usize, _)| Seen {
            id: NodeId::new(number.to_string()),
            standing,
            liveness,
            admitted,
        };
        all.map(seen).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    /// Changes come to an end, never leave nobody to vote, never make an odd number of voters
    /// even, and give no vote to who is not ready.
    #[test]
    fn changes_end_and_never_lower_availability(start in masters()) {
        let own = NodeId::new("0");
        let mut masters = start;
        for _ in 0..64 {
            let before = ids(&masters, |m| m.standing == Standing::Voter);
            match next(&own, &masters) {
                None => {
                    let ready = candidates(&masters).len();
                    let lost = masters.iter().any(|m| m.standing == Standing::Voter && m.liveness == Liveness::Gone);
                    prop_assert!(lost || grown(before.len() + ready) <= before.len());
                    prop_assert!(masters.iter().all(|m| m.admitted || m.standing == Standing::Outside));
                    return Ok(());
                }
                Some(Change::AddLearner(id)) => {
                    masters.iter_mut().find(|m| m.id == id).expect("known").standing = Standing::Learner;
                }
                Some(Change::Remove(id)) => {
                    let gone = masters.iter_mut().find(|m| m.id == id).expect("known");
                    prop_assert_eq!(gone.standing, Standing::Learner);
                    gone.standing = Standing::Outside;
                }
                Some(Change::SetVoters(voters)) => {
                    prop_assert!(!voters.is_empty());
                    prop_assert!(voters.contains(&own));
                    if before.len() % 2 == 1 {
                        prop_assert!(voters.len() % 2 == 1, "{before:?} -> {voters:?}");
                    }
                    for master in &mut masters {
                        let votes = voters.contains(&master.id);
                        if votes && master.standing != Standing::Voter {
                            prop_assert!(master.admitted && master.liveness == Liveness::Ready);
                        }
                        if votes {
                            master.standing = Standing::Voter;
                        } else if master.standing == Standing::Voter {
                            master.standing = Standing::Learner;
                        }
                    }
                }
            }
        }
        prop_assert!(false, "it never ends: {masters:?}");
    }
}
