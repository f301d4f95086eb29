//! Identifiers. Each kind is its own type, so that one cannot stand where another belongs.

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! string_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub String);

        impl $name {
            /// Wrap text that is already known to be well formed.
            pub fn new(text: impl Into<String>) -> Self {
                Self(text.into())
            }

            /// The identifier's text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

string_id!(
    /// Absolute path of an app: `/prod/web` (Marathon's app id, always with its leading slash).
    AppId
);
string_id!(
    /// Absolute path of a group: `/prod`; `/` is the root, which always exists.
    GroupId
);
string_id!(
    /// One wanted copy of an app: `<safe app id>.instance-<uuid>` (Marathon 1.8).
    InstanceId
);
string_id!(
    /// One run of an instance on one agent: `<instance id>._app.<incarnation>` (Marathon 1.8), or
    /// one of a pod's containers: `<instance id>.<container>.<incarnation>`.
    TaskId
);
string_id!(
    /// A node's agent; equal to the text of its [`NodeId`].
    AgentId
);
string_id!(
    /// Lower-case hex SHA-256 of a node's Ed25519 public key (SPKI DER).
    NodeId
);
string_id!(
    /// UUID of a deployment, chosen by the leader.
    DeploymentId
);

string_id!(
    /// A persistent volume of one instance (Marathon's `persistenceId`).
    VolumeId
);

impl GroupId {
    /// The group that holds everything.
    pub fn root() -> Self {
        Self("/".into())
    }

    pub fn is_root(&self) -> bool {
        self.0 == "/"
    }

    /// What the paths of all that is in this group begin with: `/prod/`, or `/`.
    pub fn prefix(&self) -> String {
        if self.is_root() { "/".into() } else { format!("{}/", self.0) }
    }

    /// The groups around `path` (an app's or a group's), the root first.
    pub fn around(path: &str) -> impl Iterator<Item = &str> {
        let cuts = path.char_indices().filter(|(at, c)| *c == '/' && *at > 0);
        let root = (path != "/").then_some("/");
        root.into_iter().chain(cuts.map(|(at, _)| &path[..at]))
    }

    /// The group directly around `path`; the root has none.
    pub fn parent_of(path: &str) -> Option<Self> {
        Self::around(path).last().map(Self::new)
    }
}

impl AppId {
    /// Path segments from the root: `/prod/web` gives `prod`, `web`.
    pub fn segments(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('/').filter(|s| !s.is_empty())
    }

    /// Segments joined with `_`, used inside task ids: `/prod/web` gives `prod_web`.
    pub fn safe(&self) -> String {
        self.segments().collect::<Vec<_>>().join("_")
    }

    /// Service discovery name: segments reversed, joined with `.` (`web.prod`).
    pub fn task_name(&self) -> String {
        self.segments().rev().collect::<Vec<_>>().join(".")
    }
}

impl InstanceId {
    /// Compose the id of a new instance from its app and a UUID text.
    pub fn compose(app: &AppId, uuid: &str) -> Self {
        Self(format!("{}{uuid}", Self::prefix(app)))
    }

    /// What the ids of all instances of an app begin with. An app whose last label looks like an
    /// instance's may share it, so a match has to be confirmed by the instance's own app.
    pub fn prefix(app: &AppId) -> String {
        format!("{}.instance-", app.safe())
    }

    /// The id of this instance's run number `incarnation` (1-based).
    pub fn task(&self, incarnation: u32) -> TaskId {
        TaskId(format!("{}._app.{incarnation}", self.0))
    }

    /// The id of this pod instance's run number `incarnation`: all of its containers together. No
    /// container can have its name, which holds an underscore.
    pub fn pod_task(&self, incarnation: u32) -> TaskId {
        TaskId(format!("{}._pod.{incarnation}", self.0))
    }
}

impl TaskId {
    /// The id of one container, if this is the id of a whole pod's run or of one of its
    /// containers.
    pub fn of_container(&self, name: &str) -> Option<TaskId> {
        let (rest, incarnation) = self.0.rsplit_once('.')?;
        let (instance, _container) = rest.rsplit_once('.')?;
        Some(TaskId(format!("{instance}.{name}.{incarnation}")))
    }

    /// The instance this task is a run of, if the id has the form this cluster makes.
    pub fn instance(&self) -> Option<InstanceId> {
        let (rest, n) = self.0.rsplit_once('.')?;
        n.parse::<u32>().ok()?;
        let (instance, _container) = rest.rsplit_once('.')?;
        Some(InstanceId(instance.to_string()))
    }
}

impl NodeId {
    /// The agent id of this node.
    pub fn agent(&self) -> AgentId {
        AgentId(self.0.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn task_ids_name_their_instance() {
        let instance = InstanceId::compose(&AppId::new("/prod/web.x"), "u-1");
        let pod = instance.pod_task(3);
        let container = pod.of_container("side-car").expect("it is a task of ours");
        assert_eq!(container.0, "prod_web.x.instance-u-1.side-car.3");
        assert_eq!(
            container.of_container("b").map(|id| id.0).as_deref(),
            Some("prod_web.x.instance-u-1.b.3")
        );
        for id in [&pod, &container, &instance.task(3)] {
            assert_eq!(id.instance().as_ref(), Some(&instance), "{id}");
        }
        for foreign in ["", "a", "a.b", "a.b.x"] {
            assert_eq!(TaskId::new(foreign).instance(), None, "{foreign}");
        }
    }
}
