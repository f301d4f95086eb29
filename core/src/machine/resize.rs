//! Running tasks are given the size that their app has now, and what their agents say of it.

use crate::command::Rejection;
use crate::event::Event;
use crate::model::{AppId, Instance, InstanceId, Resize, SizeReport, State};
use std::collections::BTreeSet;

/// Begin to give instances their app's size. Room for it is taken at once, so that nothing else
/// gets it; one that cannot take it any more is passed over and looked at again.
pub(super) fn begin(
    state: &mut State,
    app_id: &AppId,
    ids: &[InstanceId],
) -> Result<Vec<Event>, Rejection> {
    let app = state.apps.get(app_id).ok_or_else(|| Rejection::AppUnknown(app_id.clone()))?;
    let (version, resources) = (app.app.version, app.app.resources);
    let verdicts = state.resizable(app_id).into_iter();
    let possible: BTreeSet<InstanceId> =
        verdicts.filter(|(_, verdict)| verdict.is_ok()).map(|(id, _)| id).collect();
    let mut events = Vec::new();
    for id in ids.iter().filter(|id| possible.contains(id)) {
        let task = state.instances.get_mut(id).and_then(|i| i.task.as_mut());
        let Some(task) = task else { continue };
        let before = task.resizing().map_or(task.resources, |earlier| earlier.before);
        task.resources = task.resources.covering(&resources);
        task.resize = Some(Resize { version, resources, before, refused: None });
        let (task_id, app_id) = (task.id.clone(), app_id.clone());
        events.push(Event::TaskResizing { task_id, app_id, version });
    }
    Ok(events)
}

/// Take an agent's word on the size an instance was being given. Word of another version changes
/// nothing: it answers something older.
pub(super) fn settle(instance: &mut Instance, said: &SizeReport) {
    let Some(task) = instance.task.as_mut() else { return };
    let Some(resize) = task.resize.as_mut() else { return };
    if resize.version != said.version || resize.refused.is_some() {
        return;
    }
    match &said.refused {
        None => {
            instance.version = resize.version;
            task.resources = resize.resources;
            task.resize = None;
        }
        Some(why) => {
            resize.refused = Some(why.clone());
            task.resources = resize.before;
        }
    }
}
