//! An app's instances, sorted by what the deployer asks about them.

use super::Moves;
use super::select::stands_well;
use crate::model::{App, AppId, Goal, Instance, InstanceId, State};

#[derive(Clone)]
pub(super) struct Crowd<'a> {
    /// The current definition; `None` while the app leaves.
    pub app: Option<&'a App>,
    /// Goal Running, of the current configuration.
    pub new: Vec<&'a Instance>,
    /// Goal Running, of another configuration.
    pub old: Vec<&'a Instance>,
    /// Told to stop, not gone or parked yet.
    pub stopping: u32,
    /// Those among them that may not be where they are: most were told to because of it.
    pub leaving: u32,
    /// Wanted, but away for so long that they do not count.
    inactive: Vec<&'a Instance>,
    /// At rest with their volumes.
    parked: Vec<&'a Instance>,
    /// Instances of `new` and `old` that do their work.
    ready: Vec<&'a InstanceId>,
}

impl<'a> Crowd<'a> {
    pub fn of(state: &'a State, app_id: &'a AppId) -> Self {
        let record = state.apps.get(app_id);
        let app = record.map(|r| &r.app);
        let mut crowd = Crowd {
            app,
            new: vec![],
            old: vec![],
            stopping: 0,
            leaving: 0,
            inactive: vec![],
            parked: vec![],
            ready: vec![],
        };
        for instance in state.instances_of(app_id) {
            if instance.is_parked() {
                crowd.parked.push(instance);
                continue;
            }
            if instance.goal != Goal::Running {
                crowd.stopping += 1;
                crowd.leaving += u32::from(!stands_well(instance));
                continue;
            }
            if state.is_inactive(&instance.id) {
                crowd.inactive.push(instance);
                continue;
            }
            let current = record.is_none_or(|r| r.is_current(instance.assigned_version()));
            let side = if current { &mut crowd.new } else { &mut crowd.old };
            side.push(instance);
            // An old task is measured by the checks it was started with.
            let own = state.app_of(instance).or(app);
            if let (Some(own), Some(task)) = (own, &instance.task)
                && own.is_ready(task)
                // Not yet what it shall be.
                && task.resizing().is_none()
                && !state.is_away(task)
            {
                crowd.ready.push(&instance.id);
            }
        }
        crowd.ready.sort_unstable();
        crowd
    }

    pub fn is_ready(&self, instance: &Instance) -> bool {
        self.works(&instance.id)
    }

    /// Whether the instance is one of `new`.
    pub fn is_new(&self, instance: &Instance) -> bool {
        // Both are in the order of ids, as the state is.
        self.new.binary_search_by(|new| new.id.cmp(&instance.id)).is_ok()
    }

    /// Whether the instance of this id does its work.
    pub fn works(&self, id: &InstanceId) -> bool {
        self.ready.binary_search(&id).is_ok()
    }

    /// Instances of `new` that do their work.
    pub fn new_ready_count(&self) -> u32 {
        let ready = self.new.iter().filter(|i| self.is_ready(i)).count();
        u32::try_from(ready).unwrap_or(u32::MAX)
    }

    /// Instances of goal Running that do their work.
    pub fn ready_count(&self) -> u32 {
        count(&self.ready)
    }

    /// Instances of goal Running.
    pub fn wanted_count(&self) -> u32 {
        count(&self.new) + count(&self.old)
    }

    /// Everything stops and nothing is kept; done when nothing is left.
    pub fn stop_all(&self) -> Moves {
        // While the app is there they are its own.
        let parked = if self.app.is_none() { self.parked.as_slice() } else { &[] };
        let all = self.new.iter().chain(&self.old).chain(&self.inactive).chain(parked);
        Moves {
            stop: all.map(|i| i.id.clone()).collect(),
            done: self.wanted_count() == 0
                && self.stopping == 0
                && self.inactive.is_empty()
                && parked.is_empty(),
            ..Moves::default()
        }
    }
}

pub(super) fn count<T>(list: &[T]) -> u32 {
    u32::try_from(list.len()).unwrap_or(u32::MAX)
}
