//! Who has which device on this machine: the last word on that no two tasks have one.
//!
//! The cluster gives a device to one task at a time; but a task that it has forgotten may still be
//! ending here.

use bramble_core::model::{HeldDevice, TaskDevice, TaskId};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use thiserror::Error;

#[derive(Debug, PartialEq, Eq, Error)]
#[error("device {id} is still held by task {holder}")]
pub struct InUse {
    pub id: String,
    pub holder: TaskId,
}

#[derive(Default)]
pub struct Claims(Mutex<BTreeMap<TaskId, Vec<HeldDevice>>>);

impl Claims {
    fn tasks(&self) -> MutexGuard<'_, BTreeMap<TaskId, Vec<HeldDevice>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Claim all of these for a task, or none.
    ///
    /// # Errors
    /// Another task has one of them.
    pub fn claim(&self, task_id: &TaskId, devices: &[TaskDevice]) -> Result<(), InUse> {
        if devices.is_empty() {
            return Ok(());
        }
        let mut tasks = self.tasks();
        for device in devices {
            let others = tasks.iter().filter(|(id, _)| *id != task_id);
            let mut others =
                others.filter(|(_, held)| held.iter().any(|h| h.excludes(&device.held)));
            if let Some((holder, _)) = others.next() {
                return Err(InUse { id: device.id.clone(), holder: holder.clone() });
            }
        }
        let held = devices.iter().map(|device| device.held.clone()).collect();
        tasks.insert(task_id.clone(), held);
        Ok(())
    }

    /// Give back what a task had.
    pub fn release(&self, task_id: &TaskId) {
        self.tasks().remove(task_id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(key: &str, shared: bool) -> TaskDevice {
        let held = HeldDevice { key: key.into(), shared };
        TaskDevice { id: format!("usb:{key}"), held, path: None }
    }

    #[test]
    fn a_device_has_one_task_until_it_is_given_back() {
        let claims = Claims::default();
        let (one, two) = (TaskId::new("one"), TaskId::new("two"));
        let (stick, bus) = (device("stick", false), device("bus", true));
        claims.claim(&one, &[stick.clone(), bus.clone()]).expect("free");
        claims.claim(&one, std::slice::from_ref(&stick)).expect("its own");
        let refused = claims.claim(&two, &[bus.clone(), stick.clone()]).expect_err("held");
        assert_eq!(refused.to_string(), "device usb:stick is still held by task one");
        claims.claim(&two, &[bus]).expect("the bus is for all, and nothing was half claimed");
        claims.release(&one);
        claims.claim(&two, &[stick]).expect("free again");
    }
}
