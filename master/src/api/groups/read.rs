//! Reading groups: the tree now and earlier, its apps, its versions.

use crate::api::apps::{AppInfo, Embed, app_info};
use crate::api::dispatch::Call;
use crate::api::error::ApiError;
use crate::api::query::Query;
use crate::api::reply::{self, Reply};
use bramble_core::model::{App, Group, GroupId, State, Time};
use bramble_protocol::rest::app::canonical;
use bramble_protocol::rest::error::ErrorBody;
use bramble_protocol::rest::group::GroupJson;
use bramble_protocol::rest::pod::pod;
use bramble_protocol::timestamp;
use http::StatusCode;
use serde::Serialize;

/// Which members of a group an answer shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shown {
    apps: bool,
    groups: bool,
    pods: bool,
}

impl Shown {
    /// All, unless the client names some. Who asks for something of the apps wants the apps.
    fn of(query: &Query) -> Shown {
        let mut shown = Shown { apps: false, groups: false, pods: false };
        let mut named = false;
        for value in query.all("embed") {
            match value {
                "group.groups" => shown.groups = true,
                "group.apps" => shown.apps = true,
                "group.pods" => shown.pods = true,
                value if value.starts_with("group.apps.") => shown.apps = true,
                _ => continue,
            }
            named = true;
        }
        if named { shown } else { Shown { apps: true, groups: true, pods: true } }
    }
}

/// `GET /v2/groups/{id}?embed=`.
pub(crate) fn get(call: &Call, id: &GroupId) -> Result<Reply, ApiError> {
    let (embed, now) = (Embed::of_list(&call.query), call.api().store.now());
    let body = call.api().store.read(|state| {
        let root = existing(state, id)?;
        let info = |app: &App| state.apps.get(&app.id).map(|r| app_info(state, r, embed, now));
        Ok::<_, ApiError>(tree(&root, id, Shown::of(&call.query), &info))
    })?;
    Ok(reply::json(StatusCode::OK, &body))
}

/// `GET /v2/groups/{id}/apps`: every app below, in one list.
pub(crate) fn apps(call: &Call, id: &GroupId) -> Result<Reply, ApiError> {
    let (embed, now) = (Embed::of_list(&call.query), call.api().store.now());
    let apps: Vec<AppInfo> = call.api().store.read(|state| {
        state.group(id).ok_or_else(|| unknown(id))?;
        let below = state.apps_below(id);
        let apps = below.filter(|(_, record)| !record.app.is_pod());
        Ok::<_, ApiError>(apps.map(|(_, r)| app_info(state, r, embed, now)).collect())
    })?;
    Ok(reply::json(StatusCode::OK, &apps))
}

/// `GET /v2/groups/{id}/versions`: a bare list.
pub(crate) fn versions(call: &Call, id: &GroupId) -> Result<Reply, ApiError> {
    let versions = call.api().store.read(|state| state.group_versions(id));
    if versions.is_empty() {
        return Err(unknown(id));
    }
    let list: Vec<String> = versions.into_iter().map(timestamp::format).collect();
    Ok(reply::json(StatusCode::OK, &list))
}

/// `GET /v2/groups/{id}/versions/{ts}`: the group as it was.
pub(crate) fn version(call: &Call, id: &GroupId, at: &str) -> Result<Reply, ApiError> {
    let time = timestamp::parse(at)
        .ok_or_else(|| ApiError::Argument(ErrorBody::bad_timestamp(at).message))?;
    let root = earlier(&call.api().store.read(|state| state.root_at(time)), id, time)?;
    let shown = Shown::of(&call.query);
    let body = tree(&root, id, shown, &|app: &App| Some(canonical(app)));
    Ok(reply::json(StatusCode::OK, &body))
}

/// The whole as it was at `version`, if the group was there then.
pub(super) fn earlier(
    root: &Option<Group>,
    id: &GroupId,
    version: Time,
) -> Result<Group, ApiError> {
    let root = root.as_ref().filter(|root| root.groups.contains_key(id));
    root.cloned().ok_or_else(|| ApiError::GroupVersionUnknown(id.clone(), version))
}

pub(super) fn unknown(id: &GroupId) -> ApiError {
    ApiError::GroupUnknown(id.0.clone())
}

pub(super) fn existing(state: &State, id: &GroupId) -> Result<Group, ApiError> {
    state.group(id).ok_or_else(|| unknown(id))?;
    Ok(state.root())
}

/// A group and what of its members is shown. Groups nest no deeper than an id is long.
fn tree<A: Serialize>(
    root: &Group,
    id: &GroupId,
    shown: Shown,
    info: &dyn Fn(&App) -> Option<A>,
) -> GroupJson<A> {
    let record = root.groups.get(id).cloned().unwrap_or_default();
    let mut json = GroupJson::bare(id, &record);
    let members = || root.apps_below(id).filter(|(app, _)| is_direct(app.as_str(), id));
    if shown.apps {
        let apps = members().filter(|(_, app)| !app.is_pod());
        json.apps = Some(apps.filter_map(|(_, app)| info(app)).collect());
    }
    if shown.pods {
        json.pods = Some(members().filter_map(|(_, app)| pod(app)).collect());
    }
    if shown.groups {
        let direct = root.groups_below(id).filter(|(group, _)| is_direct(group.as_str(), id));
        json.groups = Some(direct.map(|(group, _)| tree(root, group, shown, info)).collect());
    }
    json
}

fn is_direct(path: &str, group: &GroupId) -> bool {
    GroupId::parent_of(path).as_ref() == Some(group)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn embeds_choose_members() {
        let all = Shown { apps: true, groups: true, pods: true };
        let none = Shown { apps: false, groups: false, pods: false };
        let rows = [
            ("", all),
            ("embed=x&embed=tasks", all),
            ("embed=group.groups", Shown { groups: true, ..none }),
            ("embed=group.apps&embed=group.pods", Shown { groups: false, ..all }),
            ("embed=group.apps.tasks", Shown { apps: true, ..none }),
        ];
        for (query, want) in rows {
            let query = Query::of(&format!("/v2/groups?{query}").parse().unwrap());
            assert_eq!(Shown::of(&query), want);
        }
    }
}
