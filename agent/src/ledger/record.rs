//! What the ledger keeps, and how a record becomes keys and values.
//!
//! A key is one kind byte, the task id, a zero byte, the sequence of a status (big-endian), and
//! the number of the part (big-endian): a record longer than a value may be is split over parts.

use super::LedgerError;
use bramble_core::model::{
    Assignment, ContainerStatus, ProbeReport, SizeReport, TaskId, TaskState, TaskStatus,
};
use bramble_protocol::codec;
use bramble_protocol::message::StatusKey;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Largest value in bytes. sled puts a leaf of more than about 128 KiB into a file it never
/// syncs, and a leaf holds up to 17 values.
pub(super) const VALUE_BYTES_MAX: usize = 4 * 1024;

const KIND_ASSIGNMENT: u8 = b'a';
const KIND_FACTS: u8 = b'f';
const KIND_STATUS: u8 = b's';
const KEY_GENERATION: &[u8] = b"g";
const PART_BYTES: usize = 2;
const SEQUENCE_BYTES: usize = 4;

/// What the agent must know of a task after it was restarted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskFacts {
    /// Sequence of its last report; numbers are never used twice.
    pub sequence: u32,
    pub state: TaskState,
    pub healthy: Option<bool>,
    pub ip: Option<String>,
    /// CLOCK_BOOTTIME in milliseconds when it began to run, valid within `boot_id`.
    pub running_since_ms: Option<u64>,
    /// The boot of the machine it was started in.
    pub boot_id: String,
    /// Why it was told to stop, where that is worth telling.
    pub stop_reason: Option<String>,
    /// Where its probes stood when that was last told.
    #[serde(default)]
    pub probes: Option<ProbeReport>,
    /// Of a pod: where its containers stood when that was last told.
    #[serde(default)]
    pub containers: Vec<ContainerStatus>,
    /// The size it was given last, or could not be given.
    #[serde(default)]
    pub size: Option<SizeReport>,
    /// It has come to run at least once: what it needs from elsewhere is here.
    #[serde(default)]
    pub ran: bool,
    /// How often this agent has started it again by itself.
    #[serde(default)]
    pub restarts: u32,
    /// What was told of its end, also of one that was taken back.
    #[serde(default)]
    pub last_end: String,
}

/// One change of the ledger.
#[derive(Clone, Debug)]
pub enum Change {
    Generation(u64),
    PutAssignment(Arc<Assignment>),
    RemoveAssignment(TaskId),
    PutFacts(TaskId, TaskFacts),
    RemoveFacts(TaskId),
    PutStatus(TaskStatus),
    RemoveStatus(StatusKey),
}

/// Everything a ledger holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Of the assignment set held; 0 = none yet.
    pub generation: u64,
    pub assignments: BTreeMap<TaskId, Arc<Assignment>>,
    pub facts: BTreeMap<TaskId, TaskFacts>,
    /// Not yet acknowledged.
    pub statuses: BTreeMap<StatusKey, TaskStatus>,
}

/// Keys and values of one change: a whole record, or the record to remove.
pub(super) enum Written {
    Put { prefix: Vec<u8>, parts: Vec<Vec<u8>> },
    Remove { prefix: Vec<u8> },
    Plain { key: &'static [u8], value: Vec<u8> },
}

pub(super) fn encode(change: &Change) -> Result<Written, LedgerError> {
    Ok(match change {
        Change::Generation(generation) => {
            Written::Plain { key: KEY_GENERATION, value: generation.to_be_bytes().to_vec() }
        }
        Change::PutAssignment(assignment) => {
            put(prefix(KIND_ASSIGNMENT, &assignment.task_id, None), assignment.as_ref())?
        }
        Change::RemoveAssignment(id) => {
            Written::Remove { prefix: prefix(KIND_ASSIGNMENT, id, None) }
        }
        Change::PutFacts(id, facts) => put(prefix(KIND_FACTS, id, None), facts)?,
        Change::RemoveFacts(id) => Written::Remove { prefix: prefix(KIND_FACTS, id, None) },
        Change::PutStatus(status) => {
            put(prefix(KIND_STATUS, &status.task_id, Some(status.sequence)), status)?
        }
        Change::RemoveStatus(key) => {
            Written::Remove { prefix: prefix(KIND_STATUS, &key.task_id, Some(key.sequence)) }
        }
    })
}

/// The key of one part of a record.
pub(super) fn part_key(prefix: &[u8], part: u16) -> Vec<u8> {
    let mut key = Vec::with_capacity(prefix.len() + PART_BYTES);
    key.extend_from_slice(prefix);
    key.extend_from_slice(&part.to_be_bytes());
    key
}

fn put<T: Serialize>(prefix: Vec<u8>, record: &T) -> Result<Written, LedgerError> {
    let bytes = codec::to_bytes(record).map_err(LedgerError::Encode)?;
    Ok(Written::Put { prefix, parts: bytes.chunks(VALUE_BYTES_MAX).map(<[u8]>::to_vec).collect() })
}

fn prefix(kind: u8, id: &TaskId, sequence: Option<u32>) -> Vec<u8> {
    let mut key = Vec::with_capacity(id.as_str().len() + 2 + SEQUENCE_BYTES + PART_BYTES);
    key.push(kind);
    key.extend_from_slice(id.as_str().as_bytes());
    key.push(0);
    if let Some(sequence) = sequence {
        key.extend_from_slice(&sequence.to_be_bytes());
    }
    key
}

/// Builds [`Contents`] from keys in order; parts of a record follow each other.
#[derive(Default)]
pub(super) struct Reader {
    contents: Contents,
    open: Option<(Vec<u8>, Vec<u8>)>,
}

impl Reader {
    pub(super) fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), LedgerError> {
        if key == KEY_GENERATION {
            let bytes = value.try_into().map_err(|_| LedgerError::ForeignKey(key.len()))?;
            self.contents.generation = u64::from_be_bytes(bytes);
            return Ok(());
        }
        let split = key.len().checked_sub(PART_BYTES).ok_or(LedgerError::ForeignKey(key.len()))?;
        let prefix = &key[..split];
        match &mut self.open {
            Some((open, bytes)) if open == prefix => bytes.extend_from_slice(value),
            _ => {
                self.close()?;
                self.open = Some((prefix.to_vec(), value.to_vec()));
            }
        }
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<Contents, LedgerError> {
        self.close()?;
        Ok(self.contents)
    }

    fn close(&mut self) -> Result<(), LedgerError> {
        let Some((prefix, bytes)) = self.open.take() else {
            return Ok(());
        };
        match prefix.first() {
            Some(&KIND_ASSIGNMENT) => {
                let assignment: Assignment = decode(&bytes)?;
                let id = assignment.task_id.clone();
                self.contents.assignments.insert(id, Arc::new(assignment));
            }
            Some(&KIND_STATUS) => {
                let status: TaskStatus = decode(&bytes)?;
                let key = StatusKey { task_id: status.task_id.clone(), sequence: status.sequence };
                self.contents.statuses.insert(key, status);
            }
            Some(&KIND_FACTS) if prefix.len() >= 2 => {
                let id = std::str::from_utf8(&prefix[1..prefix.len() - 1])
                    .map_err(|_| LedgerError::ForeignKey(prefix.len()))?;
                self.contents.facts.insert(TaskId::new(id), decode(&bytes)?);
            }
            _ => return Err(LedgerError::ForeignKey(prefix.len())),
        }
        Ok(())
    }
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, LedgerError> {
    codec::from_bytes(bytes).map_err(LedgerError::Decode)
}
