//! Secrets and the key they are sealed with. All of it is ciphertext here: the leader seals before
//! it proposes, so that neither the log nor a snapshot ever holds a value.

use crate::command::Rejection;
use crate::event::Event;
use crate::model::{DataKey, NodeId, Sealed, SecretRecord, State};

/// Secrets at once.
pub const SECRETS_MAX: u32 = 1000;
/// Bytes of all sealed values together: they live in the memory of every master, and those of one
/// agent's tasks must fit into one frame.
pub const SECRETS_BYTES_MAX: u64 = 4 * 1024 * 1024;

pub(super) fn keep_data_key(
    state: &mut State,
    id: &str,
    node_id: &NodeId,
    copy: &Sealed,
) -> Result<Vec<Event>, Rejection> {
    let none = || DataKey { id: id.to_string(), copies: Default::default() };
    // Two leaders may have made one each; what is sealed must be sealed with the same.
    if state.data_key.as_ref().is_some_and(|known| known.id != id) {
        return Err(Rejection::OtherDataKey);
    }
    let key = state.data_key.get_or_insert_with(none);
    key.copies.insert(node_id.clone(), copy.clone());
    Ok(Vec::new())
}

pub(super) fn put(
    state: &mut State,
    name: &str,
    key_id: &str,
    value: &Sealed,
) -> Result<Vec<Event>, Rejection> {
    if state.data_key.as_ref().is_none_or(|known| known.id != key_id) {
        return Err(Rejection::OtherDataKey);
    }
    let others = state.secrets.iter().filter(|(known, _)| *known != name);
    let (count, bytes) = others
        .fold((1, value.0.len() as u64), |(n, b), (_, s)| (n + 1, b + s.value.0.len() as u64));
    if count > SECRETS_MAX {
        return Err(Rejection::SecretsFull { max: SECRETS_MAX });
    }
    if bytes > SECRETS_BYTES_MAX {
        return Err(Rejection::SecretsTooLarge { max_bytes: SECRETS_BYTES_MAX });
    }
    let now = state.now;
    let record = state.secrets.entry(name.to_string()).or_insert_with(|| SecretRecord {
        value: value.clone(),
        version: 0,
        created_at: now,
        changed_at: now,
    });
    record.value = value.clone();
    record.version += 1;
    record.changed_at = now;
    Ok(Vec::new())
}

pub(super) fn remove(state: &mut State, name: &str) -> Result<Vec<Event>, Rejection> {
    match state.secrets.remove(name) {
        Some(_) => Ok(Vec::new()),
        None => Err(Rejection::SecretUnknown(name.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Time;

    fn sealed(bytes: usize) -> Sealed {
        Sealed(vec![1; bytes])
    }

    fn keyed() -> State {
        let mut state = State { now: Time(5), ..State::default() };
        keep_data_key(&mut state, "k", &NodeId::new("n"), &sealed(3)).expect("the first key");
        state
    }

    #[test]
    fn there_is_one_data_key_with_a_copy_per_master() {
        let mut state = keyed();
        let other = keep_data_key(&mut state, "l", &NodeId::new("m"), &sealed(3));
        assert_eq!(other, Err(Rejection::OtherDataKey));
        keep_data_key(&mut state, "k", &NodeId::new("m"), &sealed(4)).expect("another copy");
        let key = state.data_key.as_ref().expect("a key");
        assert_eq!((key.id.as_str(), key.copies.len()), ("k", 2));
        assert_eq!(put(&mut state, "a", "l", &sealed(1)), Err(Rejection::OtherDataKey));
        let early = put(&mut State::default(), "a", "k", &sealed(1));
        assert_eq!(early, Err(Rejection::OtherDataKey));
    }

    #[test]
    fn values_replace_each_other_and_count() {
        let mut state = keyed();
        put(&mut state, "a", "k", &sealed(1)).expect("new");
        state.now = Time(9);
        put(&mut state, "a", "k", &sealed(2)).expect("changed");
        let record =
            SecretRecord { value: sealed(2), version: 2, created_at: Time(5), changed_at: Time(9) };
        assert_eq!(state.secrets.get("a"), Some(&record));
        assert_eq!(remove(&mut state, "a"), Ok(vec![]));
        assert_eq!(remove(&mut state, "a"), Err(Rejection::SecretUnknown("a".into())));
    }

    #[test]
    fn number_and_size_are_bounded() {
        let mut state = keyed();
        for number in 0..SECRETS_MAX {
            put(&mut state, &number.to_string(), "k", &sealed(1)).expect("has room");
        }
        let full = Rejection::SecretsFull { max: SECRETS_MAX };
        assert_eq!(put(&mut state, "more", "k", &sealed(1)), Err(full));
        put(&mut state, "0", "k", &sealed(2)).expect("known already");
        let large = SECRETS_BYTES_MAX as usize;
        let too_large = Rejection::SecretsTooLarge { max_bytes: SECRETS_BYTES_MAX };
        assert_eq!(put(&mut state, "1", "k", &sealed(large)), Err(too_large));
        assert_eq!(state.secrets["1"].value, sealed(1), "as it was");
    }
}
