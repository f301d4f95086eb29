//! Devices of one offer: which are free, which serve which request.

use super::Reason;
use crate::model::{DeviceRequest, HeldDevice, Offer, OfferedDevice};

/// Devices of an offer while decisions are made.
pub(super) struct FreeDevices<'a> {
    devices: Vec<(&'a OfferedDevice, bool)>,
}

impl<'a> FreeDevices<'a> {
    pub fn of(offer: &'a Offer) -> Self {
        let taken = |device: &OfferedDevice| device.taken && !device.shared;
        Self { devices: offer.devices.iter().map(|device| (device, taken(device))).collect() }
    }

    /// Whether a task with these requests can be served; else which of them cannot.
    pub fn check(&self, requests: &[DeviceRequest]) -> Result<(), Vec<Reason>> {
        if requests.is_empty() {
            return Ok(());
        }
        let served = self.serve(requests);
        let missing = requests.iter().zip(&served).filter(|(_, served)| served.is_none());
        let reason = |(request, _): (&DeviceRequest, _)| Reason::DeviceMissing {
            id: request.id.clone(),
            taken: self.devices.iter().any(|(device, _)| device.ids.contains(&request.id)),
        };
        let missing: Vec<Reason> = missing.map(reason).collect();
        if missing.is_empty() { Ok(()) } else { Err(missing) }
    }

    /// Take devices for requests that [`FreeDevices::check`] accepted, in their order.
    pub fn take(&mut self, requests: &[DeviceRequest]) -> Vec<HeldDevice> {
        let mut held = Vec::new();
        for at in self.serve(requests).into_iter().flatten() {
            let (device, taken) = &mut self.devices[at];
            *taken = !device.shared;
            held.push(HeldDevice { key: device.key.clone(), shared: device.shared });
        }
        held
    }

    /// The device for each request. One that could serve two goes to the one that has no other: a
    /// request must not fail because of the order in which they were written.
    fn serve(&self, requests: &[DeviceRequest]) -> Vec<Option<usize>> {
        let mut served = vec![None; requests.len()];
        for request in 0..requests.len() {
            let mut tried = vec![false; self.devices.len()];
            self.assign(requests, request, &mut served, &mut tried);
        }
        served
    }

    /// Find a device for one request, where need be by giving another request another device.
    fn assign(
        &self,
        requests: &[DeviceRequest],
        request: usize,
        served: &mut [Option<usize>],
        tried: &mut [bool],
    ) -> bool {
        for (at, (device, taken)) in self.devices.iter().enumerate() {
            if *taken || tried[at] || !device.ids.contains(&requests[request].id) {
                continue;
            }
            tried[at] = true;
            let holder = served.iter().position(|held| *held == Some(at));
            let free = match holder.filter(|_| !device.shared) {
                None => true,
                Some(holder) => self.assign(requests, holder, served, tried),
            };
            if free {
                served[request] = Some(at);
                return true;
            }
        }
        false
    }
}
