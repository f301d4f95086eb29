//! What PID 1 is asked on its socket.

use super::Node;
use crate::init::alone;
use crate::init::console::{chain, say};
use crate::init::control::Asked;
use crate::init::slots::SlotError;
use crate::init::sys::Down;
use crate::init::update;
use crate::node::control::{Reply, Request};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl Node {
    pub(super) fn answer(&mut self, asked: Asked) {
        let refused = |error: &dyn std::error::Error| Reply::Refused(chain(error));
        let busy = self.staging.load(Ordering::SeqCst);
        let reply = match asked.request {
            Request::Slots => Reply::Slots(self.slots.tell()),
            Request::Stage { .. } | Request::Try { .. } if busy => refused(&SlotError::Busy),
            Request::Stage { ref path } => {
                let path = PathBuf::from(path);
                return self.stage(path, asked);
            }
            Request::Try { alone } => match self.slots.try_spare() {
                Ok(how) => {
                    if alone {
                        alone::note(self.slots.running().other());
                    }
                    self.down = Some(how);
                    Reply::Done
                }
                Err(error) => refused(&error),
            },
            Request::Confirm => match self.slots.confirm() {
                Ok(()) => Reply::Done,
                Err(error) => refused(&error),
            },
            Request::Reboot => {
                self.down = Some(Down::Reboot);
                Reply::Done
            }
            Request::Poweroff => {
                self.down = Some(Down::Poweroff);
                Reply::Done
            }
        };
        // Who asked may have left.
        let _ = asked.reply.send(reply);
    }

    /// Write the spare slot on a thread of its own: it takes as long as the card takes.
    fn stage(&mut self, path: PathBuf, asked: Asked) {
        if let Err(error) = self.slots.free_spare() {
            let _ = asked.reply.send(Reply::Refused(chain(&error)));
            return;
        }
        let (device, board) = (self.slots.spare_device(), self.slots.board().to_string());
        let staging = Arc::clone(&self.staging);
        staging.store(true, Ordering::SeqCst);
        let reply = asked.reply.clone();
        let write = move || {
            let answer = match update::write(&path, &device, &board) {
                Ok(version) => {
                    say(&format!("{version} is in the spare slot"));
                    Reply::Done
                }
                Err(error) => Reply::Refused(chain(&error)),
            };
            staging.store(false, Ordering::SeqCst);
            let _ = asked.reply.send(answer);
        };
        if let Err(error) = std::thread::Builder::new().stack_size(128 << 10).spawn(write) {
            self.staging.store(false, Ordering::SeqCst);
            let _ = reply.send(Reply::Refused(error.to_string()));
        }
    }
}
