//! How a log entry lies in the store: its keys, its parts, its bytes. Pure.
//!
//! An entry is one CBOR value cut into parts of at most [`VALUE_BYTES_MAX`] bytes. The first part
//! begins with the format's version and the number of parts, so that a missing part is noticed.

use super::disk::VALUE_BYTES_MAX;
use super::types::{Entry, LogId, TypeConfig};
use bramble_protocol::codec::{self, CodecError};
use openraft::{CommittedLeaderId, EntryPayload};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Version of the stored form; a reader knows this one and all before.
const RECORD_VERSION: u8 = 1;
/// Version byte and 16-bit number of parts.
const HEAD_BYTES: usize = 3;
/// Key: prefix, 64-bit index, 16-bit part, big-endian so that keys sort as entries do.
const ENTRY_PREFIX: u8 = b'l';
const KEY_BYTES: usize = 11;

/// Where the vote lies.
pub(super) const VOTE_KEY: &[u8] = b"mvote";
/// Where the id of the last purged entry lies.
pub(super) const PURGED_KEY: &[u8] = b"mpurged";
/// Where the id of the last entry known as committed lies.
pub(super) const COMMITTED_KEY: &[u8] = b"mcommitted";
/// Before every entry's key.
pub(super) const ENTRIES_BEGIN: &[u8] = &[ENTRY_PREFIX];
/// After every entry's key.
pub(super) const ENTRIES_END: &[u8] = &[ENTRY_PREFIX + 1];

#[derive(Debug, Error)]
pub enum RecordError {
    #[error("encoding log entry {index}")]
    Encode {
        index: u64,
        #[source]
        source: CodecError,
    },
    #[error("decoding log entry {index}")]
    Decode {
        index: u64,
        #[source]
        source: CodecError,
    },
    #[error("log entry {index} needs {parts} parts of {VALUE_BYTES_MAX} bytes: too many")]
    TooLarge { index: u64, parts: usize },
    #[error("log entry {index} has version {version}, this program knows {RECORD_VERSION}")]
    Version { index: u64, version: u8 },
    #[error("log entry {index} has {found} of {expected} parts")]
    Parts { index: u64, found: usize, expected: usize },
    #[error("a key of {0} bytes is none of a log entry")]
    Key(usize),
}

/// Serialises as [`Record`].
#[derive(Serialize)]
struct RecordRef<'a> {
    #[serde(rename = "t")]
    term: u64,
    #[serde(rename = "n")]
    node: u64,
    #[serde(rename = "p")]
    payload: &'a EntryPayload<TypeConfig>,
}

#[derive(Deserialize)]
struct Record {
    #[serde(rename = "t")]
    term: u64,
    #[serde(rename = "n")]
    node: u64,
    #[serde(rename = "p")]
    payload: EntryPayload<TypeConfig>,
}

/// Key of a part of entry `index`.
pub(super) fn key(index: u64, part: u16) -> [u8; KEY_BYTES] {
    let mut key = [0; KEY_BYTES];
    key[0] = ENTRY_PREFIX;
    key[1..9].copy_from_slice(&index.to_be_bytes());
    key[9..].copy_from_slice(&part.to_be_bytes());
    key
}

/// Index of the entry that `key` is a part of.
pub(super) fn index_of(key: &[u8]) -> Result<u64, RecordError> {
    let key: &[u8; KEY_BYTES] = key.try_into().map_err(|_| RecordError::Key(key.len()))?;
    let mut index = [0; 8];
    index.copy_from_slice(&key[1..9]);
    Ok(u64::from_be_bytes(index))
}

/// Cut `entry` into parts, in order.
pub(super) fn encode(entry: &Entry) -> Result<Vec<Vec<u8>>, RecordError> {
    let index = entry.log_id.index;
    let leader = &entry.log_id.leader_id;
    let record = RecordRef { term: leader.term, node: leader.node_id, payload: &entry.payload };
    let body = codec::to_bytes(&record).map_err(|source| RecordError::Encode { index, source })?;
    let count = (HEAD_BYTES + body.len()).div_ceil(VALUE_BYTES_MAX);
    let head_count =
        u16::try_from(count).map_err(|_| RecordError::TooLarge { index, parts: count })?;
    let mut bytes = Vec::with_capacity(HEAD_BYTES + body.len());
    bytes.push(RECORD_VERSION);
    bytes.extend_from_slice(&head_count.to_be_bytes());
    bytes.extend_from_slice(&body);
    Ok(bytes.chunks(VALUE_BYTES_MAX).map(<[u8]>::to_vec).collect())
}

/// Join the parts of entry `index`.
pub(super) fn decode(index: u64, parts: &[Vec<u8>]) -> Result<Entry, RecordError> {
    let bytes = parts.concat();
    let [version, high, low, body @ ..] = bytes.as_slice() else {
        return Err(RecordError::Parts { index, found: parts.len(), expected: 1 });
    };
    if *version != RECORD_VERSION {
        return Err(RecordError::Version { index, version: *version });
    }
    let expected = usize::from(u16::from_be_bytes([*high, *low]));
    if parts.len() != expected {
        return Err(RecordError::Parts { index, found: parts.len(), expected });
    }
    let record: Record =
        codec::from_bytes(body).map_err(|source| RecordError::Decode { index, source })?;
    let leader = CommittedLeaderId::new(record.term, record.node);
    Ok(Entry { log_id: LogId::new(leader, index), payload: record.payload })
}

#[cfg(test)]
mod tests {
    use super::super::types::{Batch, Proposal};
    use super::*;
    use bramble_core::command::Command;
    use bramble_core::model::Time;

    fn entry(index: u64, secret: &str) -> Entry {
        let command = Command::RotateToken { join_secret_sha256: secret.to_string(), sealed: None };
        Entry {
            log_id: LogId::new(CommittedLeaderId::new(3, 0xff), index),
            payload: EntryPayload::Normal(Batch(vec![Proposal { now: Time(7), command }])),
        }
    }

    #[test]
    fn entries_of_any_size_round_trip() {
        for length in [0, 10, 4_000, 4_096, 4_097, 100_000, 3_000_000] {
            let entry = entry(9, &"x".repeat(length));
            let parts = encode(&entry).expect("encodes");
            assert!(parts.iter().all(|p| p.len() <= VALUE_BYTES_MAX));
            let back = decode(9, &parts).expect("decodes");
            assert_eq!(back.log_id, entry.log_id);
            assert_eq!(back.payload, entry.payload, "{length}");
        }
    }

    #[test]
    fn missing_parts_and_other_versions_are_refused() {
        let mut parts = encode(&entry(9, &"x".repeat(10_000))).expect("encodes");
        let last = parts.pop();
        assert!(matches!(
            decode(9, &parts),
            Err(RecordError::Parts { index: 9, found: 2, expected: 3 })
        ));
        parts.extend(last);
        parts[0][0] = 2;
        assert!(matches!(decode(9, &parts), Err(RecordError::Version { index: 9, version: 2 })));
        assert!(matches!(decode(9, &[]), Err(RecordError::Parts { .. })));
    }

    #[test]
    fn keys_sort_as_entries_do() {
        let keys = [key(0, 0), key(0, 1), key(1, 0), key(255, 0), key(256, 0), key(u64::MAX, 9)];
        assert!(keys.is_sorted());
        assert!(keys.iter().all(|k| k.as_slice() > ENTRIES_BEGIN && k.as_slice() < ENTRIES_END));
        assert_eq!(index_of(&key(256, 3)).expect("an entry's key"), 256);
        assert!(matches!(index_of(VOTE_KEY), Err(RecordError::Key(5))));
    }

    /// A log written by this version must stay readable by every later one.
    #[test]
    fn the_stored_form_is_golden() {
        let golden = include_bytes!("fixtures/entry-v1.cbor");
        let parts = encode(&entry(9, "abc")).expect("encodes");
        assert_eq!(hex(&parts.concat()), hex(golden));
        let back = decode(9, &[golden.to_vec()]).expect("decodes");
        assert_eq!(back.payload, entry(9, "abc").payload);
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }
}
