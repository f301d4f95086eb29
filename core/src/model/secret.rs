//! Secrets as the cluster stores them: sealed, beside the sealed copies of the key that opens them.
//!
//! Nothing here can hold a value in the clear; sealing and opening is the master's business, and
//! again the agent's.

use super::{
    App, EnvValue, NodeId, Pod, PodContainer, State, TaskSpec, Time, Volume, VolumeSource,
};
use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;
use std::fmt;

/// Longest name of a secret in bytes.
pub const SECRET_NAME_BYTES_MAX: u32 = 255;

/// Bytes that only the holder of the right key can read.
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed(pub Vec<u8>);

impl fmt::Debug for Sealed {
    /// Shows the size only: a page of numbers helps nobody.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed({} bytes)", self.0.len())
    }
}

impl Serialize for Sealed {
    /// As one string of bytes: as a list of numbers it would take twice the room.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Sealed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        bytes(deserializer).map(Sealed)
    }
}

/// Read a string of bytes, for types that are one.
///
/// # Errors
/// What is read is something else.
pub fn bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    struct Bytes;
    impl<'de> Visitor<'de> for Bytes {
        type Value = Vec<u8>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a string of bytes")
        }

        fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
            Ok(bytes.to_vec())
        }

        fn visit_byte_buf<E: Error>(self, bytes: Vec<u8>) -> Result<Vec<u8>, E> {
            Ok(bytes)
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<u8>, A::Error> {
            let mut all = Vec::new();
            while let Some(byte) = items.next_element()? {
                all.push(byte);
            }
            Ok(all)
        }
    }
    deserializer.deserialize_byte_buf(Bytes)
}

/// The key all secrets are sealed with, as each master may read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataKey {
    /// Tells this key from one that replaced it.
    pub id: String,
    /// The key itself, sealed for one master each.
    pub copies: BTreeMap<NodeId, Sealed>,
}

/// A secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretRecord {
    /// Sealed with the data key.
    pub value: Sealed,
    /// Counts the values it had, from 1.
    pub version: u64,
    pub created_at: Time,
    pub changed_at: Time,
}

/// A secret as one task uses it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskSecret {
    /// Name of the secret.
    pub source: String,
    pub usage: SecretUse,
    /// The value as the agent keeps it, sealed with a key of its own. `None` on the way there, and
    /// where the cluster had no such secret when the agent was told.
    pub value: Option<Sealed>,
}

/// Where a task finds a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SecretUse {
    /// Name of a variable of its environment.
    Env(String),
    /// Path of a file in the container.
    File(String),
    /// Not in the task at all: the agent pulls the image with it.
    PullConfig,
}

/// Read the name of a secret; a leading `/` does not count. `None`: no secret can be called so.
pub fn secret_name(text: &str) -> Option<&str> {
    let name = text.strip_prefix('/').unwrap_or(text);
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let part = |part: &str| !matches!(part, "" | "." | "..") && part.chars().all(plain);
    (name.len() <= SECRET_NAME_BYTES_MAX as usize && name.split('/').all(part)).then_some(name)
}

impl App {
    /// The secrets a task of this app gets, none with a value yet; of a pod, those of all its
    /// containers.
    pub fn task_secrets(&self) -> Vec<TaskSecret> {
        if let Some(pod) = &self.pod {
            let containers = pod.containers.iter();
            return containers
                .flat_map(|container| self.container_secrets(pod, container))
                .collect();
        }
        let volumes = self.container.iter().flat_map(|c| &c.volumes);
        let files = volumes.filter_map(|volume| match volume {
            Volume::Secret { container_path, secret } => Some((container_path, secret)),
            _ => None,
        });
        let docker = self.container.as_ref().and_then(|c| c.docker.as_ref());
        let pull = docker.and_then(|docker| docker.pull_config_secret.as_ref());
        self.secrets_for(&self.env, files, pull)
    }

    /// The secrets one container of this pod gets, none with a value yet.
    pub fn container_secrets(&self, pod: &Pod, container: &PodContainer) -> Vec<TaskSecret> {
        // Its own variables hide the pod's.
        let mut env = self.env.clone();
        env.extend(container.environment.clone());
        let mounts = container.volume_mounts.iter();
        let files = mounts.filter_map(|mount| match &pod.volume(&mount.name)?.source {
            VolumeSource::Secret(secret) => Some((&mount.mount_path, secret)),
            _ => None,
        });
        let pull = container.image.as_ref().and_then(|image| image.pull_config_secret.as_ref());
        self.secrets_for(&env, files, pull)
    }

    /// A reference to a name that the app does not define (which validation refuses) stands for a
    /// secret of that name.
    fn secrets_for<'a>(
        &self,
        env: &BTreeMap<String, EnvValue>,
        files: impl Iterator<Item = (&'a String, &'a String)>,
        pull: Option<&String>,
    ) -> Vec<TaskSecret> {
        let secret = |name: &String, usage: SecretUse| {
            let source = self.secrets.get(name).unwrap_or(name);
            let source = secret_name(source).unwrap_or(source).to_string();
            TaskSecret { source, usage, value: None }
        };
        let variables = env.iter().filter_map(|(variable, value)| match value {
            EnvValue::Secret(name) => Some(secret(name, SecretUse::Env(variable.clone()))),
            EnvValue::Plain(_) => None,
        });
        let files = files.map(|(path, name)| secret(name, SecretUse::File(path.clone())));
        let pull = pull.map(|name| secret(name, SecretUse::PullConfig));
        variables.chain(files).chain(pull).collect()
    }
}

impl TaskSpec {
    /// Every secret in it, also of a pod's containers.
    pub fn secrets_mut(&mut self) -> impl Iterator<Item = &mut TaskSecret> {
        let of_pod = self.pod.iter_mut().flat_map(|container| &mut container.spec.secrets);
        self.secrets.iter_mut().chain(of_pod)
    }

    /// As [`TaskSpec::secrets_mut`].
    pub fn all_secrets(&self) -> impl Iterator<Item = &TaskSecret> {
        self.secrets.iter().chain(self.pod.iter().flat_map(|container| &container.spec.secrets))
    }
}

impl State {
    /// Names of the secrets that an app's tasks need and the cluster does not have.
    pub fn missing_secrets(&self, app: &App) -> Vec<String> {
        let mut missing: Vec<String> = app
            .task_secrets()
            .into_iter()
            .map(|secret| secret.source)
            .filter(|source| !self.secrets.contains_key(source))
            .collect();
        missing.sort_unstable();
        missing.dedup();
        missing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_paths_of_plain_parts() {
        for (text, name) in [
            ("db", Some("db")),
            ("/db", Some("db")),
            ("prod/web.db_pass-1", Some("prod/web.db_pass-1")),
            ("", None),
            ("/", None),
            ("//db", None),
            ("a//b", None),
            ("a/", None),
            ("a/../b", None),
            ("a b", None),
            ("a\0", None),
            ("ä", None),
        ] {
            assert_eq!(secret_name(text), name, "{text:?}");
        }
        assert!(secret_name(&"x".repeat(SECRET_NAME_BYTES_MAX as usize)).is_some());
        assert!(secret_name(&"x".repeat(SECRET_NAME_BYTES_MAX as usize + 1)).is_none());
    }

    #[test]
    fn sealed_bytes_are_not_shown() {
        assert_eq!(format!("{:?}", Sealed(vec![77, 78])), "Sealed(2 bytes)");
    }
}
