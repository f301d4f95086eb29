use super::*;
use proptest::prelude::*;

fn operation(kind: Kind, invoked: u64, end: End) -> Operation {
    Operation { client: 0, node: 0, kind, invoked, end }
}

fn write(value: Value, from: u64, to: u64) -> Operation {
    operation(Kind::Write(value), from, End::Answered(to))
}

fn read(value: Value, from: u64, to: u64) -> Operation {
    operation(Kind::Read(value), from, End::Answered(to))
}

fn unknown(value: Value, from: u64) -> Operation {
    operation(Kind::Write(value), from, End::Unknown)
}

#[test]
fn histories_known_to_be_right_and_wrong() {
    let cases: [(&str, bool, Vec<Operation>); 10] = [
        ("nothing", true, vec![]),
        ("the first value", true, vec![read(0, 0, 1)]),
        ("one after the other", true, vec![write(1, 0, 1), read(1, 2, 3)]),
        ("a stale read", false, vec![write(1, 0, 1), read(0, 2, 3)]),
        ("either, while it is written", true, vec![write(1, 0, 9), read(0, 1, 2), read(1, 3, 4)]),
        ("back in time", false, vec![write(1, 0, 9), read(1, 1, 2), read(0, 3, 4)]),
        ("unknown, seen late", true, vec![unknown(1, 0), read(0, 5, 6), read(1, 7, 8)]),
        ("unknown, seen and gone again", false, vec![unknown(1, 0), read(1, 5, 6), read(0, 7, 8)]),
        (
            "two readers that disagree on the order of two writes",
            false,
            vec![write(1, 0, 9), write(2, 0, 9), read(1, 10, 11), read(2, 12, 13)],
        ),
        (
            "refused, and read",
            false,
            vec![operation(Kind::Write(1), 0, End::Refused), read(1, 2, 3)],
        ),
    ];
    for (name, right, history) in cases {
        assert_eq!(check(&history, 0).is_ok(), right, "{name}: {:?}", check(&history, 0));
    }
}

/// Try every order of the operations, with and without those of unknown outcome.
fn by_trying_all(history: &[Operation], value: Value, left: &mut Vec<usize>) -> bool {
    let must = |number: &usize| matches!(history[*number].end, End::Answered(_));
    if !left.iter().any(must) {
        return true;
    }
    for at in 0..left.len() {
        let number = left[at];
        let chosen = history[number];
        // Whoever was answered before this one was asked comes first.
        let too_early =
            left.iter().any(|n| history[*n].answered().is_some_and(|at| at < chosen.invoked));
        let after = match chosen.kind {
            Kind::Write(written) => written,
            Kind::Read(read) if read == value => value,
            Kind::Read(_) => continue,
        };
        if too_early || chosen.end == End::Refused {
            continue;
        }
        left.remove(at);
        let found = by_trying_all(history, after, left);
        left.insert(at, number);
        if found {
            return true;
        }
    }
    false
}

/// Any small history: mostly wrong ones.
fn any_history() -> impl Strategy<Value = Vec<Operation>> {
    let one = (any::<bool>(), 0u64..4, 0u64..12, 0u64..6, 0u8..8);
    prop::collection::vec(one, 0..7).prop_map(|all| {
        let each = all.into_iter().enumerate();
        each.map(|(number, (is_write, value, from, long, luck))| {
            let kind = match is_write {
                true => Kind::Write(number as u64 + 1),
                false => Kind::Read(value),
            };
            let end = match (is_write, luck) {
                (true, 0..3) => End::Unknown,
                (true, 3) => End::Refused,
                _ => End::Answered(from + long),
            };
            operation(kind, from, end)
        })
        .collect()
    })
}

/// A history that did happen: each operation takes effect at a moment within its time.
fn right_history() -> impl Strategy<Value = Vec<Operation>> {
    let one = (any::<bool>(), 1u64..12, 0u64..12, 0u8..6);
    prop::collection::vec(one, 0..120).prop_map(|all| {
        let mut held = 0;
        let mut history = Vec::new();
        for (number, (is_write, before, after, luck)) in all.into_iter().enumerate() {
            // Effects are 3 apart, so that half a dozen requests overlap.
            let moment = 100 + 3 * number as u64;
            let end = End::Answered(moment + after);
            let (kind, end) = match (is_write, luck) {
                (true, 0) => {
                    // It fails on the way: half of them take effect all the same.
                    if before % 2 == 0 {
                        held = number as u64 + 1;
                    }
                    (Kind::Write(number as u64 + 1), End::Unknown)
                }
                (true, _) => {
                    held = number as u64 + 1;
                    (Kind::Write(held), end)
                }
                (false, _) => (Kind::Read(held), end),
            };
            history.push(operation(kind, moment - before, end));
        }
        history
    })
}

proptest! {
    #[test]
    fn it_judges_as_trying_every_order_does(history in any_history()) {
        let mut left: Vec<usize> = (0..history.len()).collect();
        let expected = by_trying_all(&history, 0, &mut left);
        prop_assert_eq!(check(&history, 0).is_ok(), expected, "{:?}", check(&history, 0));
    }

    #[test]
    fn what_did_happen_passes(history in right_history()) {
        prop_assert_eq!(check(&history, 0), Ok(()));
    }

    #[test]
    fn a_stale_read_is_found_in_any_of_them(history in right_history()) {
        let last = history.iter().filter_map(Operation::answered).max().unwrap_or(1);
        let mut history = history;
        history.push(write(1_000_000, last + 1, last + 2));
        history.push(read(0, last + 3, last + 4));
        prop_assert!(check(&history, 0).is_err());
    }
}
