//! The answer to `POST /v2/apps` as Marathon 0.7 gave it, byte for byte.
//!
//! 0.7.6 answered with the app *as it was sent*: only the id and the dependencies were made
//! absolute, and every key left out had its default. So this writes from the request, not from
//! the stored app: `ports: [0]` stays `[0]`, and a later `GET` shows the assigned one.
//!
//! What the two golden replies leave open follows from their rules:
//! * an unset key that holds one value prints `null` (as `cmd`, `user`, `container` do), so
//!   `network`, `portMappings` and a health check's `command` do too;
//! * an unset list prints `[]`, an unset map `{}`;
//! * decimals are Java's doubles: `1.0`, `0.1`, `1.0E-4`;
//! * keys without a default are printed in the order they were sent (`env`, `parameters`).
//! * `parameters` prints the form that was sent: the object of 0.7 or the list its documentation
//!   shows. Constraints and dependencies are sets: a repeated one is printed once.

mod keys;
mod write;

pub use keys::is_classic;

use bramble_core::model::App;
use serde_json::Value;

/// Write the 0.7 form of the answer to `request`, which created `app`.
pub fn classic(app: &App, request: &Value) -> String {
    write::app(app, request)
}

#[cfg(test)]
mod tests;
