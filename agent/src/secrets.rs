//! Secrets on this machine: sealed as soon as they arrive, opened only for a container that is
//! about to be made.
//!
//! The key follows from the node's own key, so that the ledger alone tells nothing and a node can
//! start its tasks with no master in reach. A value in the clear must never reach a disk here.

use crate::images::Login;
use bramble_core::model::{Assignment, Sealed, SecretUse, TaskId, TaskSecret, TaskSpec};
use bramble_protocol::executor::ExecutorSecrets;
use bramble_protocol::message::AssignmentSet;
use bramble_protocol::net::{NodeKey, SealError, SealingKey};
use bramble_protocol::secret::Secret;
use std::collections::BTreeMap;
use std::sync::Arc;
use thiserror::Error;

/// Purpose of the key that seals values in the ledger.
const PURPOSE: &str = "secrets of an agent's tasks";

#[derive(Debug, Error)]
pub enum SecretsError {
    #[error("secret '{0}' does not exist: bramble secret put {0}")]
    Missing(String),
    #[error(
        "secret '{secret}' cannot be environment variable {variable}, because it holds {what}: \
         use it as a file, by a volume {{\"containerPath\": ..., \"secret\": ...}}"
    )]
    NotText { secret: String, variable: String, what: &'static str },
    #[error("secret '{name}' as this agent keeps it")]
    Open {
        name: String,
        #[source]
        source: SealError,
    },
}

/// Seals and opens the secrets of this agent's tasks.
#[derive(Debug)]
pub struct Safe {
    key: SealingKey,
}

impl Safe {
    pub fn new(node: &NodeKey) -> Self {
        Self { key: node.sealing_key(PURPOSE) }
    }

    /// Seal the values that came with a set into the tasks that use them. A task that is held
    /// already keeps the values it was first told.
    ///
    /// # Errors
    /// The system gives no randomness.
    pub fn take(
        &self,
        set: &mut AssignmentSet,
        held: &BTreeMap<TaskId, Arc<Assignment>>,
    ) -> Result<(), SealError> {
        let values = std::mem::take(&mut set.secrets);
        for assignment in &mut set.put {
            let before = held.get(&assignment.task_id);
            let mut before = before.iter().flat_map(|held| held.spec.all_secrets());
            for secret in assignment.spec.secrets_mut() {
                // A task's specification never changes, so they come in the same order.
                let same = before.next().filter(|old| old.source == secret.source);
                secret.value = match same.and_then(|old| old.value.clone()) {
                    Some(kept) => Some(kept),
                    None => self.sealed(values.get(&secret.source), &secret.source)?,
                };
            }
        }
        Ok(())
    }

    fn sealed(&self, value: Option<&Secret>, source: &str) -> Result<Option<Sealed>, SealError> {
        value.map(|value| self.key.seal(&[source], value.expose())).transpose()
    }

    /// Open what a container gets.
    ///
    /// # Errors
    /// A secret is missing, does not open, or cannot be what it is used as.
    pub fn open(&self, spec: &TaskSpec) -> Result<ExecutorSecrets, SecretsError> {
        let mut opened = ExecutorSecrets::default();
        for secret in &spec.secrets {
            match &secret.usage {
                SecretUse::Env(variable) => {
                    let value = self.value(secret)?;
                    text(secret, variable, &value)?;
                    opened.env.push((variable.clone(), value));
                }
                SecretUse::File(path) => opened.files.push((path.clone(), self.value(secret)?)),
                SecretUse::PullConfig => {}
            }
        }
        Ok(opened)
    }

    /// Open what the task's image is pulled with.
    ///
    /// # Errors
    /// The secret is missing or does not open.
    pub fn login(&self, spec: &TaskSpec) -> Result<Option<Login>, SecretsError> {
        let mut secrets = spec.secrets.iter();
        let Some(secret) = secrets.find(|secret| secret.usage == SecretUse::PullConfig) else {
            return Ok(None);
        };
        let docker_config = self.value(secret)?.expose().to_vec();
        Ok(Some(Login { name: format!("secret '{}'", secret.source), docker_config }))
    }

    fn value(&self, secret: &TaskSecret) -> Result<Secret, SecretsError> {
        let name = || secret.source.clone();
        let sealed = secret.value.as_ref().ok_or_else(|| SecretsError::Missing(name()))?;
        let opened = self.key.open(&[&secret.source], sealed);
        opened.map_err(|source| SecretsError::Open { name: name(), source })
    }
}

/// A variable of the environment ends at a NUL, and an OCI runtime takes text only.
fn text(secret: &TaskSecret, variable: &str, value: &Secret) -> Result<(), SecretsError> {
    let refused = |what| SecretsError::NotText {
        secret: secret.source.clone(),
        variable: variable.to_string(),
        what,
    };
    if value.expose().contains(&0) {
        return Err(refused("a NUL byte"));
    }
    std::str::from_utf8(value.expose()).map(|_| ()).map_err(|_| refused("bytes that are no UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::assignment;
    use bramble_protocol::codec;

    fn safe() -> Safe {
        Safe::new(&NodeKey::generate().expect("a key"))
    }

    fn with(usages: &[(&str, SecretUse)]) -> Assignment {
        let mut task = assignment("a", true);
        let secret = |(source, usage): &(&str, SecretUse)| TaskSecret {
            source: source.to_string(),
            usage: usage.clone(),
            value: None,
        };
        task.spec.secrets = usages.iter().map(secret).collect();
        task
    }

    fn set(put: Vec<Assignment>, values: &[(&str, &[u8])]) -> AssignmentSet {
        let value = |(name, value): &(&str, &[u8])| (name.to_string(), Secret::new(value.to_vec()));
        let secrets = values.iter().map(value).collect();
        AssignmentSet { put, secrets, ..AssignmentSet::default() }
    }

    fn env(name: &str) -> SecretUse {
        SecretUse::Env(name.into())
    }

    fn exposed(pairs: &[(String, Secret)]) -> Vec<(&str, &[u8])> {
        pairs.iter().map(|(name, value)| (name.as_str(), value.expose())).collect()
    }

    #[test]
    fn values_are_sealed_on_arrival_and_opened_for_their_container() {
        let safe = safe();
        let task = with(&[
            ("db", env("DB")),
            ("tls", SecretUse::File("/k".into())),
            ("pull", SecretUse::PullConfig),
        ]);
        let values: [(&str, &[u8]); 3] = [("db", b"hush"), ("tls", b"\0raw"), ("pull", b"{}")];
        let mut set = set(vec![task], &values);
        safe.take(&mut set, &BTreeMap::new()).expect("seals");
        assert!(set.secrets.is_empty());
        let stored = codec::to_bytes(&set.put).expect("encodes");
        assert!(!stored.windows(4).any(|part| part == b"hush"), "nothing in the clear");
        let opened = safe.open(&set.put[0].spec).expect("opens");
        assert_eq!(exposed(&opened.env), [("DB", &b"hush"[..])]);
        assert_eq!(exposed(&opened.files), [("/k", &b"\0raw"[..])]);
        assert!(!format!("{opened:?}").contains("hush"));
        let login = safe.login(&set.put[0].spec).expect("opens").expect("is there");
        assert_eq!((login.name.as_str(), &*login.docker_config), ("secret 'pull'", &b"{}"[..]));
        let other = Safe::new(&NodeKey::generate().expect("a key")).open(&set.put[0].spec);
        assert!(matches!(other, Err(SecretsError::Open { .. })), "another node's ledger");
    }

    #[test]
    fn a_task_keeps_the_values_it_was_first_told() {
        let safe = safe();
        let mut first = set(vec![with(&[("db", env("DB"))])], &[("db", b"old")]);
        safe.take(&mut first, &BTreeMap::new()).expect("seals");
        let id = first.put[0].task_id.clone();
        let held: BTreeMap<_, _> = [(id, Arc::new(first.put.remove(0)))].into();
        for values in [&[("db", &b"new"[..])][..], &[]] {
            let mut again = set(vec![with(&[("db", env("DB"))])], values);
            safe.take(&mut again, &held).expect("takes");
            assert_eq!(again.put[0], **held.values().next().expect("one"), "not even sealed anew");
        }
    }

    #[test]
    fn what_cannot_be_given_is_told_without_the_value() {
        let rows: [(Option<&[u8]>, &str); 3] = [
            (None, "secret 'db' does not exist: bramble secret put db"),
            (Some(b"hush\0"), "holds a NUL byte"),
            (Some(b"hush\xff"), "bytes that are no UTF-8"),
        ];
        for (value, words) in rows {
            let safe = safe();
            let values: Vec<(&str, &[u8])> = value.map(|value| ("db", value)).into_iter().collect();
            let mut set = set(vec![with(&[("db", env("DB"))])], &values);
            safe.take(&mut set, &BTreeMap::new()).expect("seals");
            let error = safe.open(&set.put[0].spec).expect_err("refused");
            let told = format!("{error} {error:?}");
            assert!(told.contains(words) && !told.contains("hush"), "{told}");
        }
    }
}
