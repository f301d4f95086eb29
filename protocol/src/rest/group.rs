//! Groups as requests give them and as answers show them (Marathon's contract, section 2.3).

use super::pod::{PodJson, PodUpdate};
use super::update::{AppUpdate, Field};
use crate::timestamp;
use bramble_core::model::{GroupId, GroupRecord, Time};
use serde::Serialize;

/// One group as a request gives it; keys left out keep what is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupUpdate {
    /// As written: relative or absolute.
    pub id: Field<String>,
    /// Given, it names all apps directly in the group: others are removed.
    pub apps: Field<Vec<AppUpdate>>,
    /// Given, it names all pods directly in the group: others are removed.
    pub pods: Field<Vec<PodUpdate>>,
    /// Given, it names all groups directly in the group: others are removed.
    pub groups: Field<Vec<GroupUpdate>>,
    /// As written: relative or absolute.
    pub dependencies: Field<Vec<String>>,
    /// Parts per million by which every app's count is multiplied.
    pub scale_by_ppm: Field<u64>,
    /// The version to go back to.
    pub version: Field<Time>,
}

impl GroupUpdate {
    /// Whether nothing but `id` and the one key is given that goes alone (`version`, `scaleBy`).
    pub fn goes_alone(&self) -> bool {
        let others = GroupUpdate {
            id: Field::Absent,
            scale_by_ppm: Field::Absent,
            version: Field::Absent,
            ..self.clone()
        };
        others == GroupUpdate::default()
            && !(self.scale_by_ppm.is_given() && self.version.is_given())
    }
}

/// A group in an answer. `A` is the form of its apps; a list that was not asked for has no key.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GroupJson<A> {
    pub id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub apps: Option<Vec<A>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pods: Option<Vec<PodJson>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub groups: Option<Vec<GroupJson<A>>>,
    pub dependencies: Vec<String>,
    pub version: String,
    /// Only where it was set: strict clients refuse keys they do not know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enforce_role: Option<bool>,
}

impl<A> GroupJson<A> {
    /// A group without its members.
    pub fn bare(id: &GroupId, record: &GroupRecord) -> Self {
        Self {
            id: id.0.clone(),
            apps: None,
            pods: None,
            groups: None,
            dependencies: record.dependencies.iter().map(|id| id.0.clone()).collect(),
            version: timestamp::format(record.version),
            enforce_role: record.enforce_role,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_asked_for_leaves_no_key() {
        let mut group: GroupJson<u8> = GroupJson::bare(&GroupId::root(), &GroupRecord::default());
        let text = |group: &GroupJson<u8>| serde_json::to_string(group).unwrap();
        assert_eq!(
            text(&group),
            r#"{"id":"/","dependencies":[],"version":"1970-01-01T00:00:00.000Z"}"#
        );
        group.apps = Some(vec![1]);
        group.pods = Some(Vec::new());
        group.groups = Some(Vec::new());
        group.enforce_role = Some(true);
        assert_eq!(
            text(&group),
            r#"{"id":"/","apps":[1],"pods":[],"groups":[],"dependencies":[],"version":"1970-01-01T00:00:00.000Z","enforceRole":true}"#
        );
    }
}
