//! One event on its way, and the forms in which it is sent.

use super::translate::Told;
use bramble_core::model::{Deployment, Time};
use bramble_protocol::rest::event::{EventBody, EventJson};
use bytes::Bytes;
use std::sync::{Arc, OnceLock};

/// How much of a deployment's plan a listener wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PlanFormat {
    #[default]
    Light,
    /// With the groups before and after.
    Heavy,
}

/// An event and its moment.
pub struct Notice {
    body: EventBody,
    at: Time,
    deployment: Option<Arc<Deployment>>,
    /// Written once for all light streams. Heavy ones are few and large, and are not kept.
    frame: OnceLock<Bytes>,
}

impl Notice {
    pub(super) fn new(told: Told, at: Time) -> Self {
        Self { body: told.body, at, deployment: told.deployment, frame: OnceLock::new() }
    }

    /// Something that is in no log.
    pub(super) fn of(body: EventBody, at: Time) -> Self {
        Self::new(Told { body, deployment: None }, at)
    }

    /// Its type's name.
    pub fn event_type(&self) -> &'static str {
        self.body.event_type()
    }

    /// Write it as JSON in one line.
    pub fn json(&self, format: PlanFormat) -> Vec<u8> {
        let heavy = match (&self.deployment, format) {
            (Some(deployment), PlanFormat::Heavy) => Some(self.body.heavy(deployment)),
            _ => None,
        };
        let body = heavy.as_ref().unwrap_or(&self.body);
        serde_json::to_vec(&EventJson::new(body, self.at)).unwrap_or_else(|error| {
            tracing::error!(%error, "an event could not be written as JSON");
            b"{}".to_vec()
        })
    }

    /// Write it as a frame of an event stream.
    pub fn frame(&self, format: PlanFormat) -> Bytes {
        if format == PlanFormat::Heavy && self.deployment.is_some() {
            return self.write(format);
        }
        self.frame.get_or_init(|| self.write(PlanFormat::Light)).clone()
    }

    fn write(&self, format: PlanFormat) -> Bytes {
        let json = self.json(format);
        let kind = self.event_type().as_bytes();
        [b"event: ", kind, b"\r\ndata: ", &json, b"\r\n\r\n"].concat().into()
    }
}
